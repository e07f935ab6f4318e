//! Ends that a program does not plan: `main` returns, the runtime goes away or is blocked, a panic, a fork, a close.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tenure::backend::Claim;
use tenure::{ErrorKind, LostReason};

use super::wire::{Fault, Verb, Wire};
use super::worker::{Crowd, Task, alone};
use super::{Ctx, Report, Trial, Verdict, ensure};

pub(crate) const TRIALS: &[Trial] = &[
    Trial { name: "s6_main_returns_after_a_drop", rules: &["S6", "L4"], why_not: alone, run: main_returns },
    Trial { name: "s6_a_dropped_runtime", rules: &["S6", "L4"], why_not: |_| None, run: dropped_runtime },
    Trial { name: "l6_a_blocked_runtime", rules: &["L6", "S5"], why_not: |_| None, run: blocked_runtime },
    Trial { name: "s6_a_panic", rules: &["S6"], why_not: |_| None, run: panics },
    Trial { name: "s4_a_fork", rules: &["S4", "S5", "S8"], why_not: alone, run: fork },
    Trial { name: "l4_a_closed_client", rules: &["L4", "S8"], why_not: |_| None, run: closed },
];

fn main_returns(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(10);
    for _ in 0..rounds {
        let name = ctx.name("main");
        let mut crowd = Crowd::new();
        // A lease of an hour: if the drop does not give it back, nothing does.
        let task = Task::DropAndReturn { place: ctx.into(), name: name.clone(), ttl_ms: 3_600_000 };
        let child = crowd.start(&task)?;
        crowd.ended(child)?;
        ensure!(crowd.holds_of(child).len() == 1, "the child never held the lock");
        ctx.block_on(async {
            let locks = ctx.locks().await?;
            let guard = ctx.lock(&locks, &name)?.try_lock().await?;
            ensure!(guard.is_some(), "the guard was dropped, main has returned, and the lock is not free");
            Ok(())
        })?;
    }
    Ok(Report::new().count("programs", rounds))
}

fn dropped_runtime(ctx: &Ctx) -> Verdict {
    const TASKS: usize = 6;
    let name = ctx.name("runtime");
    let user = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // The first try of each release fails, and the next takes a while: a drop cannot do it all by itself.
    let tried = Mutex::new(HashSet::new());
    let wire = Wire::new(move |call| {
        let first = |claim: &Claim| tried.lock().unwrap_or_else(PoisonError::into_inner).insert(claim.id);
        match call.verb {
            Verb::Release if call.claims.iter().any(first) => Fault::Refuse,
            Verb::Release => Fault::Delay(Duration::from_millis(30), Duration::from_millis(30)),
            _ => Fault::Pass,
        }
    });
    let locks = user.block_on(async {
        let locks = ctx.client().wire(&wire).connect().await?;
        for task in 0..TASKS {
            // A holder, and somebody who waits behind it.
            for _ in 0..2 {
                let lock = ctx.lock(&locks, &format!("{name}/{task}"))?;
                tokio::spawn(async move {
                    let guard = lock.lock().await;
                    std::future::pending::<()>().await;
                    drop(guard);
                });
            }
        }
        ctx.until("all are in line", async || {
            let lines = locks.list(&name).await?;
            let waits =
                |waiters| if ctx.sees_waiters() { waiters == 1 } else { wire.attempts() >= 2 * TASKS as u64 };
            Ok(lines.len() == TASKS && lines.iter().all(|l| l.holders.len() == 1 && waits(l.waiters)))
        })
        .await?;
        Ok::<_, super::Failed>(locks)
    })?;
    user.shutdown_background();
    ctx.block_on(async {
        for task in 0..TASKS {
            ctx.nothing_left(&locks, &format!("{name}/{task}")).await?;
        }
        Ok(())
    })?;
    Ok(Report::new().count("guards", TASKS).count("waits", TASKS))
}

/// Every thread of the user's runtime is blocked for several leases.
fn blocked_runtime(ctx: &Ctx) -> Verdict {
    const TTL: u64 = 1500;
    let name = ctx.name("blocked");
    let user = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let wire = Wire::counting();
    let (locks, guard) = user.block_on(async {
        let locks = ctx.client().ttl_ms(TTL).wire(&wire).connect().await?;
        let guard = ctx.lock(&locks, &name)?.lock().await?;
        Ok::<_, super::Failed>((locks, guard))
    })?;
    let blocked = Duration::from_millis(3 * TTL);
    let sleeps = user.spawn(async move { std::thread::sleep(blocked) });
    // This thread is the other one, and it watches from another runtime.
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        let other = ctx.lock(&plain, &name)?;
        while !sleeps.is_finished() {
            ensure!(other.try_lock().await?.is_none(), "the runtime is blocked, and the lock is free");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    })?;
    guard.check()?;
    user.block_on(guard.release())?;
    user.shutdown_background();
    ctx.block_on(ctx.nothing_left(&locks, &name))?;
    Ok(Report::new().count("renewals", wire.renewals()))
}

fn panics(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(20);
    ctx.block_on(async {
        let locks = ctx.locks().await?;
        for round in 0..rounds {
            let name = ctx.name("panic");
            let guard = ctx.lock(&locks, &name)?.lock().await?;
            let work = move || {
                let _guard = guard;
                resume_unwind(Box::new("a trial")); // a panic that prints nothing
            };
            if round % 2 == 0 {
                ensure!(catch_unwind(AssertUnwindSafe(work)).is_err(), "it must panic");
            } else {
                let task = tokio::spawn(async move { work() });
                ensure!(task.await.is_err(), "it must panic");
            }
            ctx.nothing_left(&locks, &name).await?;
        }
        Ok(Report::new().count("panics", rounds))
    })
}

fn fork(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(5);
    for _ in 0..rounds {
        let name = ctx.name("fork");
        let mut crowd = Crowd::new();
        let child = crowd.start(&Task::Fork { place: ctx.into(), name: name.clone() })?;
        let wrong = crowd.found(child)?;
        ensure!(wrong.is_empty(), "{wrong}");
        crowd.ended(child)?;
        ctx.block_on(async { ctx.nothing_left(&ctx.locks().await?, &name).await })?;
    }
    Ok(Report::new().count("forks", rounds))
}

fn closed(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let wire = Wire::counting();
        let (locks, plain) = (ctx.client().wire(&wire).connect().await?, ctx.locks().await?);
        let (mine, theirs) = (ctx.name("closed"), ctx.name("waited"));
        let guard = ctx.lock(&locks, &mine)?.lock().await?;
        let other = ctx.lock(&plain, &theirs)?.lock().await?;
        let lock = ctx.lock(&locks, &theirs)?;
        let again = lock.clone();
        let waits = tokio::spawn(async move { lock.lock().await });
        ctx.in_line(&plain, &theirs, &wire, 2).await?;
        let copy = locks.clone();
        locks.close().await?;
        let why = guard.check().err().map(|lost| lost.why().clone());
        ensure!(why == Some(LostReason::Closed), "after close, its guard says {why:?}");
        let ended = ctx.within("the wait ends", waits).await??;
        ensure!(ended.is_err(), "after close, a wait ended with a guard");
        for kind in [again.try_lock().await.err(), again.lock().await.err(), copy.inspect(&mine).await.err()]
        {
            let kind = kind.map(|e| e.kind());
            ensure!(kind == Some(ErrorKind::Config), "after close, a call says {kind:?}");
        }
        drop(guard);
        other.check()?;
        ensure!(plain.inspect(&mine).await?.is_none(), "after close, its lock is not free");
        let line = plain.inspect(&theirs).await?.ok_or("the other's hold is gone")?;
        ensure!(line.waiters == 0, "after close, its wait is still listed");
        other.release().await?;
        ctx.nothing_left(&plain, &theirs).await?;
        Ok(Report::new().count("closed", 1u64))
    })
}
