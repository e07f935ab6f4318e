//! L3 and L5: the order of the line, and how a waiter learns of its turn.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenure::backend::{Claim, Leave, Standing};
use tenure::core::lease::LOOK_AGAIN_MAX;
use tenure::{Locks, Order, Wakeup};
use tokio::time::{Instant, sleep};

use super::sinks::SinkProbe;
use super::wire::Wire;
use super::{Ctx, Report, Trial, Verdict, ensure};

pub(crate) const TRIALS: &[Trial] = &[
    Trial { name: "l3_first_come_first_served", rules: &["L3"], why_not: unordered, run: first_come },
    Trial { name: "l3_nobody_overtakes", rules: &["L3"], why_not: unordered, run: overtakes },
    Trial {
        name: "l3_try_lock_never_stands_in_line",
        rules: &["L3", "L4"],
        why_not: |_| None,
        run: never_stands,
    },
    Trial { name: "l5_waiters_are_told", rules: &["L5"], why_not: polls, run: told },
    Trial { name: "l5_a_lost_push", rules: &["L5"], why_not: polls, run: lost_push },
];

fn unordered(ctx: &Ctx) -> Option<&'static str> {
    (ctx.caps.order != Order::Fifo).then_some("order is none")
}

pub(crate) fn polls(ctx: &Ctx) -> Option<&'static str> {
    (ctx.caps.wakeup != Wakeup::Push).then_some("wakeup is poll")
}

async fn waiters(locks: &Locks, name: &str) -> Verdict<u64> {
    Ok(locks.inspect(name).await?.map_or(0, |line| line.waiters))
}

/// Waiters of several clients, each in line before the next one asks.
fn first_come(ctx: &Ctx) -> Verdict {
    let many = ctx.rounds(48);
    ctx.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(ctx.locks().await?);
        }
        let name = ctx.name("first");
        let first = ctx.lock(&clients[0], &name)?.lock().await?;
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut all = Vec::new();
        for n in 0..many {
            let lock = ctx.lock(&clients[(n % 3) as usize], &name)?;
            let served = served.clone();
            all.push(tokio::spawn(async move {
                let guard = lock.lock().await?;
                served.lock().unwrap_or_else(PoisonError::into_inner).push(n);
                guard.release().await
            }));
            ctx.until("the next one is in line", async || Ok(waiters(&clients[0], &name).await? == n + 1))
                .await?;
        }
        first.release().await?;
        for one in all {
            ctx.within("a waiter's turn", one).await???;
        }
        let served = served.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let in_order = served.iter().copied().eq(0..many);
        ensure!(in_order, "they were served in the order {served:?}");
        ctx.nothing_left(&clients[0], &name).await?;
        Ok(Report::new().count("waiters", many))
    })
}

/// The lock passes on; whoever has just come does not get in between.
fn overtakes(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(200);
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("overtakes");
        let mut holder = store.claim(&name)?;
        store.take(&holder).await?;
        for round in 0..rounds {
            let next = store.claim(&name)?;
            store.wait(&next).await?;
            // Half of the newcomers would wait, half would not.
            let newcomer = Claim { stand: round % 2 == 0, ..store.claim(&name)? };
            store.release(&holder, Leave::Nothing).await?;
            let said = store.attempt(&newcomer).await?;
            ensure!(!matches!(said, Standing::Held(_)), "a newcomer overtakes: {said:?}");
            store.take(&next).await?;
            store.release(&newcomer, Leave::Nothing).await?;
            holder = next;
        }
        store.release(&holder, Leave::Nothing).await?;
        ensure!(store.look(&name).await?.is_none(), "somebody is left");
        Ok(Report::new().count("handovers", rounds))
    })
}

fn never_stands(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(100);
    ctx.block_on(async {
        let (one, two, three) = (ctx.locks().await?, ctx.locks().await?, ctx.locks().await?);
        let name = ctx.name("stands");
        let guard = ctx.lock(&one, &name)?.lock().await?;
        let tries = ctx.lock(&three, &name)?;
        for _ in 0..rounds {
            ensure!(tries.try_lock().await?.is_none(), "S1: two hold");
            ensure!(waiters(&one, &name).await? == 0, "a try_lock stands in line");
        }
        if ctx.caps.order == Order::Fifo {
            let waits = ctx.lock(&two, &name)?;
            let waiting = tokio::spawn(async move { waits.lock().await });
            ctx.until("somebody waits", async || Ok(waiters(&one, &name).await? == 1)).await?;
            guard.release().await?;
            // It has been granted to the one that waits, whether that has noticed or not.
            for _ in 0..rounds {
                ensure!(tries.try_lock().await?.is_none(), "a try_lock overtakes the one that waits");
            }
            drop(ctx.within("the waiter's turn", waiting).await???);
        } else {
            guard.release().await?;
        }
        ctx.nothing_left(&three, &name).await?;
        Ok(Report::new().count("tries", rounds * 2))
    })
}

/// While it waits, a waiter asks no more than its lease and `look_again` need; its turn costs no request at all.
fn told(ctx: &Ctx) -> Verdict {
    const WAITERS: u64 = 6;
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        let (wire, probe) = (Wire::counting(), SinkProbe::new());
        let locks = ctx.client().wire(&wire).probe(&probe).connect().await?;
        let name = ctx.name("told");
        let guard = ctx.lock(&plain, &name)?.lock().await?;
        let mut waiting = Vec::new();
        for n in 0..WAITERS {
            let lock = ctx.lock(&locks, &name)?;
            waiting.push(tokio::spawn(async move { lock.lock().await }));
            ctx.until("the next one waits", async || Ok(waiters(&plain, &name).await? == n + 1)).await?;
        }
        let began = Instant::now();
        sleep(LOOK_AGAIN_MAX * 2).await;
        // Those near the head look again every two seconds or so, and everybody renews a waiting lease of ten.
        let looks = u64::from(began.elapsed().as_secs() as u32) + 2;
        let most = WAITERS * looks;
        ensure!(
            wire.attempts() == WAITERS,
            "{} attempts of {WAITERS} waiters: that is polling",
            wire.attempts()
        );
        ensure!(
            wire.renewals() <= most,
            "{} renewals while {WAITERS} wait: that is polling",
            wire.renewals()
        );
        let idle = wire.renewals();
        guard.release().await?;
        for (n, waiter) in waiting.into_iter().enumerate() {
            let guard = ctx.within("a waiter's turn", waiter).await???;
            ensure!(probe.grants() > n as u64, "granted without having been told");
            guard.release().await?;
        }
        ensure!(wire.attempts() == WAITERS, "somebody asked again: {} attempts", wire.attempts());
        ctx.nothing_left(&locks, &name).await?;
        Ok(Report::new()
            .count("waiters", WAITERS)
            .count("renewals while waiting", idle)
            .count("grants pushed", probe.grants()))
    })
}

/// No push arrives any more. The first in line finds out by itself.
fn lost_push(ctx: &Ctx) -> Verdict {
    let many = ctx.rounds(3);
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        let probe = SinkProbe::new();
        let locks = ctx.client().probe(&probe).connect().await?;
        let name = ctx.name("lost");
        let guard = ctx.lock(&plain, &name)?.lock().await?;
        let mut waiting = Vec::new();
        for n in 0..many {
            let lock = ctx.lock(&locks, &name)?;
            waiting.push(tokio::spawn(async move { lock.lock().await }));
            ctx.until("the next one waits", async || Ok(waiters(&plain, &name).await? == n + 1)).await?;
        }
        probe.mute();
        guard.release().await?;
        let began = Instant::now();
        for waiter in waiting {
            let guard = ctx.within("a waiter that is told nothing", waiter).await???;
            guard.release().await?;
        }
        let took = began.elapsed();
        ctx.nothing_left(&locks, &name).await?;
        let each = took / many as u32;
        Ok(Report::new().count("waiters", many).count("ms each", Duration::as_millis(&each) as u64))
    })
}
