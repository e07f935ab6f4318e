//! S7: a request that is sent again neither grants twice nor waits for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tenure::Released;
use tenure::backend::{Call, Leave, Standing};

use super::wire::{Fault, Verb, Wire};
use super::{Ctx, Report, Trial, Verdict, ensure};

pub(crate) const TRIALS: &[Trial] = &[
    Trial {
        name: "s7_a_grant_is_asked_for_again",
        rules: &["S7", "S2"],
        why_not: |_| None,
        run: grant_again,
    },
    Trial {
        name: "s7_a_place_is_asked_for_again",
        rules: &["S7", "L3"],
        why_not: |_| None,
        run: place_again,
    },
    Trial {
        name: "s7_lost_answers_to_a_lock_call",
        rules: &["S7", "S6"],
        why_not: |_| None,
        run: lost_answers,
    },
    Trial {
        name: "s7_lost_answers_to_a_release",
        rules: &["S7", "S8"],
        why_not: |_| None,
        run: lost_releases,
    },
];

fn grant_again(ctx: &Ctx) -> Verdict {
    let times = ctx.rounds(50);
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("again");
        let claim = store.claim(&name)?;
        let first = store.take(&claim).await?;
        for _ in 0..times {
            let again = store.take(&claim).await?;
            ensure!(again.token == first.token, "S2: asked again, and the token is {:?}", again.token);
        }
        let all: Vec<_> = (0..8)
            .map(|_| {
                let (store, claim) = (store.backend.clone(), claim.clone());
                tokio::spawn(async move { store.attempt_one(&claim, Call::PATIENT).await })
            })
            .collect();
        for one in all {
            let said = one.await??.standing;
            let same = matches!(&said, Standing::Held(grant) if grant.token == first.token);
            ensure!(same, "asked at the same time, and told {said:?}");
        }
        let line = store.look(&name).await?.ok_or("the hold is not listed")?;
        ensure!(
            line.holders.len() == 1 && line.waiters == 0,
            "{} hold, {} wait",
            line.holders.len(),
            line.waiters
        );
        ensure!(
            store.release(&claim, Leave::Nothing).await? == Released::WasHeld,
            "one release must find it"
        );
        ensure!(store.look(&name).await?.is_none(), "one release did not end it");
        Ok(Report::new().count("repeated", times + 8))
    })
}

fn place_again(ctx: &Ctx) -> Verdict {
    let times = ctx.rounds(20);
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("place");
        let mut line = Vec::new();
        for n in 0..4 {
            let claim = store.claim(&name)?;
            match n {
                0 => drop(store.take(&claim).await?),
                _ => store.wait(&claim).await?,
            }
            line.push(claim);
        }
        let order: Vec<_> = line.iter().map(|c| c.id.short()).collect();
        for n in 0..times {
            let again = &line[1 + (n % 3) as usize];
            store.wait(again).await?;
            let seen = store.look(&name).await?.ok_or("nothing is listed")?;
            let now: Vec<_> = seen.holders.iter().chain(&seen.waiting).map(|c| c.claim.clone()).collect();
            let order = if ctx.sees_waiters() { &order[..] } else { &order[..1] };
            ensure!(now == order, "asked again, and the line changed from {order:?} to {now:?}");
        }
        for claim in &line {
            store.take(claim).await?;
            store.release(claim, Leave::Nothing).await?;
        }
        ensure!(store.look(&name).await?.is_none(), "somebody is left");
        Ok(Report::new().count("repeated", times))
    })
}

/// The first answers are lost or garbled; the engine asks again under the same id.
fn lost_answers(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(12);
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        let mut repeated = 0;
        for round in 0..rounds {
            let name = ctx.name("answers");
            let left = Arc::new(AtomicU64::new(1 + round % 3));
            let wire = Wire::new(move |call| {
                let take = |n: u64| n.checked_sub(1);
                if !call.is(Verb::Attempt)
                    || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_err()
                {
                    return Fault::Pass;
                }
                if round % 6 == 5 { Fault::LoseAnswer } else { Fault::Garble }
            });
            let locks = ctx.client().wire(&wire).connect().await?;
            let guard =
                ctx.within("a grant whose answers were lost", ctx.lock(&locks, &name)?.lock()).await??;
            let line = plain.inspect(&name).await?.ok_or("the hold is not listed")?;
            ensure!(
                line.holders.len() == 1 && line.waiters == 0,
                "{} hold, {} wait",
                line.holders.len(),
                line.waiters
            );
            ensure!(line.holders[0].token == guard.token(), "the store knows another token than the guard");
            repeated += wire.attempts() - 1;
            guard.release().await?;
            ctx.nothing_left(&plain, &name).await?;
        }
        Ok(Report::new().count("acquires", rounds).count("attempts repeated", repeated))
    })
}

/// A release that was applied and whose answer was lost is not reported as a loss.
fn lost_releases(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(6);
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        for _ in 0..rounds {
            let name = ctx.name("releases");
            let first = AtomicU64::new(0);
            let wire = Wire::new(move |call| {
                let once = call.is(Verb::Release) && first.fetch_add(1, Ordering::SeqCst) == 0;
                if once { Fault::Garble } else { Fault::Pass }
            });
            let locks = ctx.client().wire(&wire).connect().await?;
            let guard = ctx.lock(&locks, &name)?.lock().await?;
            guard.release().await?;
            ensure!(wire.releases() >= 2, "the release was not repeated");
            ctx.nothing_left(&plain, &name).await?;
        }
        Ok(Report::new().count("releases", rounds))
    })
}
