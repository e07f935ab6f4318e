//! S10: a renewal never creates, and never revives.

use std::time::Duration;

use tenure::backend::{Call, Claim, Leave, Standing};
use tenure::{ErrorKind, LostReason};

use super::faces::evicts_all;
use super::raw::Store;
use super::{Ctx, Report, Trial, Verdict, ensure};

pub(crate) const TRIALS: &[Trial] = &[
    Trial { name: "s10_renewal_never_creates", rules: &["S10"], why_not: evicts_all, run: never_creates },
    Trial { name: "s10_renewal_never_revives", rules: &["S10"], why_not: |_| None, run: never_revives },
    Trial {
        name: "s10_a_guard_learns_it_at_its_renewal",
        rules: &["S10", "S8"],
        why_not: evicts_all,
        run: learns,
    },
];

/// The renewal finds nothing, and leaves nothing.
async fn finds_nothing(store: &Store, claim: &Claim, when: &str) -> Verdict<()> {
    let renewed = store.renew(claim).await?;
    ensure!(matches!(renewed, Standing::Gone { .. }), "a renewal {when} says {renewed:?}");
    let line = store.look(claim.key.name()).await?;
    let listed =
        line.iter().flat_map(|l| l.holders.iter().chain(&l.waiting)).any(|c| c.claim == claim.id.short());
    ensure!(!listed, "a renewal {when} put the claim into the line");
    Ok(())
}

fn never_creates(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("creates");
        finds_nothing(&store, &store.claim(&name)?, "of a claim that never was").await?;
        for leave in [Leave::Nothing, Leave::Final] {
            let (held, waiting) = (store.claim(&name)?, store.claim(&name)?);
            store.take(&held).await?;
            store.wait(&waiting).await?;
            store.release(&waiting, leave).await?;
            finds_nothing(&store, &waiting, "of a wait that was withdrawn").await?;
            store.release(&held, leave).await?;
            finds_nothing(&store, &held, "of a hold that was released").await?;
            ensure!(store.look(&name).await?.is_none(), "somebody is left");
        }
        let busy = Claim { stand: false, ..store.claim(&name)? };
        let held = store.claim(&name)?;
        store.take(&held).await?;
        let said = store.attempt(&busy).await?;
        ensure!(said == Standing::Busy, "an attempt that does not stand in line says {said:?}");
        finds_nothing(&store, &busy, "of a claim that was told that it is busy").await?;
        store.backend.evict(&held.key, None, "a trial", Call::PATIENT).await?;
        finds_nothing(&store, &held, "of a hold that was taken away").await?;
        // Many at once: the answers come in the order of the claims.
        let kept = store.claim(&name)?;
        store.take(&kept).await?;
        let answers =
            store.backend.renew(&[held.clone(), kept.clone(), store.claim(&name)?], Call::PATIENT).await;
        let held: Vec<bool> =
            answers.into_iter().map(|a| a.is_ok_and(|a| matches!(a.standing, Standing::Held(_)))).collect();
        ensure!(held == [false, true, false], "a batch of renewals answers {held:?}");
        store.release(&kept, Leave::Nothing).await?;
        Ok(Report::new().count("renewals", 9u64))
    })
}

fn never_revives(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(4);
    ctx.block_on(async {
        let store = ctx.store().await?;
        for round in 0..rounds {
            let name = ctx.name("revives");
            let short = Claim { ttl: Duration::from_millis(100), ..store.claim(&name)? };
            store.take(&short).await?;
            ctx.until("the lease ends", async || Ok(store.look(&name).await?.is_none())).await?;
            let next = store.claim(&name)?;
            if round % 2 == 0 {
                store.take(&next).await?;
            }
            finds_nothing(&store, &short, "of a hold whose lease ended").await?;
            store.release(&next, Leave::Nothing).await?;
            finds_nothing(&store, &short, "and later").await?;
        }
        Ok(Report::new().count("ended leases", rounds))
    })
}

/// The hold is taken away behind the engine's back: the next renewal finds out, and the guard is lost.
fn learns(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("learns");
        // Nothing is pushed, so only the renewal can tell.
        let probe = super::sinks::SinkProbe::new();
        let locks = ctx.client().ttl_ms(3000).probe(&probe).connect().await?;
        let guard = ctx.lock(&locks, &name)?.lock().await?;
        probe.mute();
        store.backend.evict(&ctx.key(&name)?, None, "a trial", Call::PATIENT).await?;
        let lost = ctx.within("the renewal that finds nothing", guard.lost()).await?;
        let told = matches!(lost.why(), LostReason::Evicted(_) | LostReason::Gone);
        ensure!(told, "the guard was lost because {lost}");
        let kind = guard.release().await.err().map(|e| e.kind());
        ensure!(kind == Some(ErrorKind::Lost), "its release says {kind:?}");
        ctx.nothing_left(&locks, &name).await?;
        Ok(Report::new().count("losses", 1u64))
    })
}
