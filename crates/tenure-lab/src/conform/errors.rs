//! S8: what is not known is never reported as done, and every error says what to do.

use std::time::Duration;

use tenure::{Error, ErrorKind, LostReason, Released};

use super::faces::evicts_all;
use super::promised::no_evict;
use super::wire::{Fault, Verb, Wire};
use super::{Ctx, Report, SkewedRuntime, Trial, Verdict, ensure};

pub(crate) const TRIALS: &[Trial] = &[
    Trial { name: "s8_a_release_tells_the_truth", rules: &["S8"], why_not: evicts_all, run: releases },
    Trial { name: "s8_a_silent_store_is_never_ok", rules: &["S8", "S6"], why_not: |_| None, run: silent },
    Trial { name: "s8_a_failing_store_is_never_ok", rules: &["S8", "S6"], why_not: |_| None, run: failing },
    Trial { name: "s8_a_release_that_nobody_answers", rules: &["S8"], why_not: |_| None, run: unanswered },
];

/// It must be an error of that kind, and say something.
fn fails<T: std::fmt::Debug>(what: &str, kinds: &[ErrorKind], result: tenure::Result<T>) -> Verdict<Error> {
    match result {
        Err(error) if kinds.contains(&error.kind()) => {
            ensure!(
                !error.what().is_empty() && !error.advice().is_empty(),
                "{what}: the error says nothing: {error:?}"
            );
            Ok(error)
        }
        other => Err(format!("{what}: it says {other:?}, and must be one of {kinds:?}").into()),
    }
}

const LOST: &[ErrorKind] = &[ErrorKind::Lost];
const SILENT: &[ErrorKind] = &[ErrorKind::Unavailable, ErrorKind::Uncertain];

fn releases(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let (locks, plain) = (ctx.locks().await?, ctx.locks().await?);
        let name = ctx.name("truth");
        let lock = ctx.lock(&locks, &name)?;
        lock.lock().await?.release().await?;
        // Taken away while we hold it, and nobody has told us yet.
        let probe = super::sinks::SinkProbe::new();
        let unheard = ctx.client().probe(&probe).connect().await?;
        let guard = ctx.lock(&unheard, &name)?.lock().await?;
        probe.mute();
        ensure!(plain.evict(&name, None, "a trial").await? == Released::WasHeld, "it was held");
        let error = fails("a release after an eviction", LOST, guard.release().await)?;
        ensure!(
            error.lost().is_some() && error.key().is_some(),
            "the loss says neither why nor of what: {error:?}"
        );
        // Taken away, and the next one holds.
        let guard = lock.lock().await?;
        plain.evict(&name, guard.token(), "a trial").await?;
        let next = ctx.within("the next grant", ctx.lock(&plain, &name)?.lock()).await??;
        let error = fails("a release after the next grant", LOST, guard.release().await)?;
        let why = error.lost().map(|lost| lost.why().clone());
        let told = matches!(why, Some(LostReason::Evicted(_) | LostReason::Gone));
        ensure!(told, "the loss says {why:?}");
        next.check()?;
        next.release().await?;
        // The lease has ended.
        let wire = Wire::new(|call| if call.is(Verb::Renew) { Fault::LoseRequest } else { Fault::Pass });
        let slow = ctx.client().ttl_ms(200).wire(&wire).connect().await?;
        let guard = ctx.lock(&slow, &name)?.lock().await?;
        ctx.until("the lease ends", async || Ok(plain.inspect(&name).await?.is_none())).await?;
        fails("a release after the lease", LOST, guard.release().await)?;
        ctx.nothing_left(&plain, &name).await?;
        Ok(Report::new().count("releases", 4u64))
    })
}

/// Nobody answers anything. The clock of the engine runs fast, since no store is involved.
fn silent(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let wire = Wire::new(|_| Fault::LoseRequest);
        let locks = ctx.client().wire(&wire).runtime(SkewedRuntime::fast(20)).connect().await?;
        let lock = ctx.lock(&locks, &ctx.name("silent"))?;
        let (waits, tries, patient) = (lock.clone(), lock.clone(), lock.clone());
        let waits = tokio::spawn(async move { waits.lock().await });
        let tries = tokio::spawn(async move { tries.try_lock().await });
        let patient = tokio::spawn(async move { patient.try_lock_for(Duration::from_secs(4)).await });
        fails("lock", SILENT, ctx.within("lock gives up", waits).await??)?;
        fails("try_lock", SILENT, ctx.within("try_lock gives up", tries).await??)?;
        fails("try_lock_for", SILENT, ctx.within("try_lock_for gives up", patient).await??)?;
        ctx.until("nothing is in hand", async || Ok(locks.live() == 0)).await?;
        Ok(Report::new().count("calls", 3u64))
    })
}

/// Everything fails at once.
fn failing(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let wire = Wire::new(|_| Fault::Refuse);
        let locks = ctx.client().wire(&wire).runtime(SkewedRuntime::fast(20)).connect().await?;
        let name = ctx.name("failing");
        let lock = ctx.lock(&locks, &name)?;
        fails("lock", SILENT, ctx.within("lock gives up", lock.lock()).await?)?;
        fails("try_lock", SILENT, ctx.within("try_lock gives up", lock.try_lock()).await?)?;
        fails("inspect", SILENT, locks.inspect(&name).await)?;
        fails("list", SILENT, locks.list("").await)?;
        if no_evict(ctx).is_none() {
            fails("evict", SILENT, locks.evict(&name, None, "a trial").await)?;
        }
        ctx.until("nothing is in hand", async || Ok(locks.live() == 0)).await?;
        Ok(Report::new().count("calls", 5u64))
    })
}

/// The release leaves, and nobody says what became of it.
fn unanswered(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(4);
    ctx.block_on(async {
        for round in 0..rounds {
            let name = ctx.name("unanswered");
            let plain = ctx.locks().await?;
            let wire = Wire::new(move |call| match call.verb {
                Verb::Release if round % 2 == 0 => Fault::LoseRequest,
                Verb::Release => Fault::LoseAnswer,
                _ => Fault::Pass,
            });
            let locks = ctx.client().ttl_ms(300).wire(&wire).connect().await?;
            let guard = ctx.lock(&locks, &name)?.lock().await?;
            let released = ctx.within("the release gives up", guard.release()).await?;
            let what = format!("a release that was {}", if round % 2 == 0 { "lost" } else { "applied" });
            fails(&what, &[ErrorKind::Uncertain], released)?;
            // The lease ends it at the latest.
            ctx.until("it is free", async || Ok(plain.inspect(&name).await?.is_none())).await?;
        }
        Ok(Report::new().count("releases", rounds))
    })
}
