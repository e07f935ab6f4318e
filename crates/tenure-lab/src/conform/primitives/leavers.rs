//! Tasks that share claims and leave: dropped, killed, or because their client is closed.

use tenure::{ErrorKind, Line, Locks, LostReason};

use super::super::cancel::polled;
use super::super::ctx::mutex;
use super::super::wire::{Fault, Gate, Wire};
use super::super::worker::{Crowd, Task};
use super::super::{Ctx, Report, Trial, Verdict, ensure};
use super::hands::Hands;
use super::turns::{Queue, begun, each, line};

pub(super) const TRIALS: &[Trial] = &[
    Trial { name: "s6_a_task_of_a_cohort_dropped", rules: &["S6", "L4"], why_not: each, run: dropped },
    Trial { name: "s6_half_of_a_crowd_leaves", rules: &["S6", "S2", "L4"], why_not: each, run: half },
    Trial { name: "l1_a_dead_client_of_many_tasks", rules: &["L1", "S2"], why_not: each, run: killed },
    Trial { name: "l4_a_closed_client_of_many_tasks", rules: &["L4", "S8"], why_not: each, run: closed },
];

/// A task is dropped after every number of polls, as the one that asks the store, or behind it: the others go on.
fn dropped(ctx: &Ctx) -> Verdict {
    let repeats = ctx.rounds(4);
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        let wire = Wire::new(|_| Fault::Hold(Gate::open(), Gate::open()));
        let locks = ctx.client().sharing(true).wire(&wire).connect().await?;
        let (mut drops, mut whole) = (0u64, 0u64);
        for round in 0..repeats * 3 {
            let before_it = (round % 3) as usize;
            let mut n = 0;
            while !dropped_after(ctx, &plain, &locks, before_it, n).await? {
                drops += 1;
                n += 1;
                ensure!(n < 2000, "a life does not end after {n} polls");
            }
            whole += 1;
        }
        Ok(Report::new().count("dropped", drops).count("whole lives", whole))
    })
}

/// One claim of its own, then a cohort of three, of whom the one with so many before it is dropped after `n` polls; says
/// whether it had ended by then.
async fn dropped_after(ctx: &Ctx, plain: &Locks, locks: &Locks, before_it: usize, n: u64) -> Verdict<bool> {
    let name = ctx.name("dropped");
    let lock = mutex(locks, &name)?;
    let life = |lock: tenure::Mutex| async move {
        let guard = lock.lock().await?;
        guard.while_held(tokio::task::yield_now()).await?;
        guard.release().await
    };
    let mut holder = Some(mutex(plain, &name)?.lock().await?);
    let mut others = vec![begun(life(lock.clone()))];
    others.extend((0..before_it).map(|_| begun(life(lock.clone()))));
    let finished = polled(life(lock.clone()), n, |poll| {
        if poll == 1 {
            others.extend((before_it..2).map(|_| begun(life(lock.clone()))));
        }
        drop(holder.take_if(|_| poll == 3));
    })
    .await?;
    drop(holder);
    for other in others {
        ctx.within("the turn of the others", other).await???;
    }
    ctx.nothing_left(locks, &name).await?;
    // Nor is there a place left where the next one would wait in vain.
    ctx.within("the turn of one that comes later", life(lock)).await??;
    ctx.nothing_left(locks, &name).await?;
    Ok(finished)
}

/// Far more tasks than one claim serves wait, and every other one leaves, while they wait or while the lock goes round:
/// the others are all served.
fn half(ctx: &Ctx) -> Verdict {
    let many = ctx.rounds(3000);
    let rounds = ctx.rounds(10);
    let (mut claims, mut served) = (0, 0);
    ctx.block_on(async {
        let (plain, locks) = (ctx.locks().await?, ctx.client().sharing(true).connect().await?);
        for round in 0..rounds {
            let name = ctx.name("half");
            let mut before = Some(mutex(&plain, &name)?.lock().await?);
            let mut tokens: Vec<i64> = before.iter().map(|guard| guard.token().get()).collect();
            let lock = mutex(&locks, &name)?;
            let tasks: Vec<_> = (0..many).map(|_| begun(token_of(lock.clone()))).collect();
            claims += locks.live();
            let stand = async || Ok(line(&plain, &name).await?.waiting.len() == locks.live());
            ctx.until("all claims are in line", stand).await?;
            if round % 2 == 0 {
                before.take();
            }
            tasks.iter().step_by(2).for_each(|task| task.abort());
            drop(before);
            for (n, task) in tasks.into_iter().enumerate() {
                match ctx.within("the turn of one that stays", task).await? {
                    Ok(token) => tokens.push(token?),
                    Err(gone) => ensure!(gone.is_cancelled() && n % 2 == 0, "a task ended: {gone}"),
                }
            }
            let all = tokens.len();
            tokens.sort_unstable();
            tokens.dedup();
            ensure!(tokens.len() == all, "S2: two of {all} have the same token");
            served += all - 1;
            ctx.nothing_left(&locks, &name).await?;
        }
        Ok(())
    })?;
    Ok(Report::new().count("tasks", many * rounds).count("claims", claims).count("served", served))
}

async fn token_of(lock: tenure::Mutex) -> tenure::Result<i64> {
    let guard = lock.lock().await?;
    let token = guard.token().get();
    guard.release().await.map(|()| token)
}

/// A process of many tasks is killed: what is left of it in line is a few claims, not one for each task.
fn killed(ctx: &Ctx) -> Verdict {
    const TASKS: u64 = 20;
    const CLAIMS: usize = 3;
    let rounds = ctx.rounds(6);
    let mut left = 0;
    for _ in 0..rounds {
        let name = ctx.name("killed");
        let mut crowd = Crowd::new();
        let (what, ttl_ms) = (Hands::Turns { tasks: TASKS }, ctx.ttl_of_dead());
        let child = crowd.start(&Task::Primitive { place: ctx.into(), name: name.clone(), ttl_ms, what })?;
        crowd.began(child, 2 * TASKS as usize)?;
        crowd.kill(child)?;
        crowd.listen()?;
        let of_child = |line: &Line| {
            let all = line.holders.iter().chain(&line.waiting);
            all.filter(|seen| seen.owner.pid == crowd.pid(child)).count()
        };
        ctx.block_on(async {
            let locks = ctx.locks().await?;
            let seen = locks.inspect(&name).await?;
            let claims = seen.as_ref().map_or(0, of_child);
            ensure!(claims <= CLAIMS, "{claims} claims of a process with {TASKS} tasks: {seen:?}");
            left += claims;
            let lock = mutex(&locks, &name)?;
            let guard = ctx.within("the lock of a dead client", lock.lock()).await??;
            for token in crowd.all_begun() {
                let token: i64 = token.parse().map_err(|_| format!("{token} is no token"))?;
                ensure!(guard.token().get() > token, "S2: {} after {token}", guard.token());
            }
            guard.release().await?;
            ctx.nothing_left(&locks, &name).await
        })?;
    }
    Ok(Report::new().count("deaths", rounds).count("claims left", left))
}

/// A client is closed while cohorts of it hold and wait: everybody is told so, and nothing is left.
fn closed(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(8);
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        for _ in 0..rounds {
            let locks = ctx.client().sharing(true).connect().await?;
            let (mut holds, mut waits) = (Queue::new(ctx, "holds"), Queue::new(ctx, "waits"));
            let before = holds.crowd(&plain, &locks, &["a", "b", "c"]).await?;
            let other = waits.crowd(&plain, &locks, &["a", "b", "c"]).await?;
            let mut last = before.token().get();
            before.release().await?;
            holds.turns_of(&["single", "a"], &mut last).await?;
            let guard = holds.turn_of("b").await?;
            holds.joins(&locks, "late")?;
            locks.close().await?;
            let why = guard.check().err().map(|lost| lost.why().clone());
            ensure!(why == Some(LostReason::Closed), "after close, its guard says {why:?}");
            for (queue, many) in [(&mut holds, 2), (&mut waits, 4)] {
                for _ in 0..many {
                    let (who, ended) =
                        ctx.within("a wait ends", queue.told.recv()).await?.ok_or("nobody waits any more")?;
                    let kind = ended.err().map(|e| e.kind());
                    ensure!(kind == Some(ErrorKind::Config), "after close, {who} is told {kind:?}");
                }
            }
            drop(guard);
            other.release().await?;
            for name in [&holds.name, &waits.name] {
                ctx.nothing_left(&plain, name).await?;
            }
        }
        Ok(Report::new().count("closed", rounds))
    })
}
