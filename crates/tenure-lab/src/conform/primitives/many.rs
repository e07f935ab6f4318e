//! Many locks at once: all or nothing, and no circle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tenure::Locks;
use tokio::task::JoinSet;

use super::super::cancel::polled;
use super::super::ctx::mutex;
use super::super::wire::{Fault, Gate, Wire};
use super::super::worker::{Crowd, Task, alone};
use super::super::{Ctx, Report, Trial, Verdict, ensure};
use super::{Hands, all, in_line};
use crate::num::Dice;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        name: "s6_many_locks_dropped_after_n_polls",
        rules: &["S6", "L4"],
        why_not: |_| None,
        run: dropped,
    },
    Trial { name: "s1_many_locks_in_any_order", rules: &["S1", "S2"], why_not: |_| None, run: any_order },
    Trial { name: "l1_many_locks_of_the_dead", rules: &["L1", "L4"], why_not: alone, run: dead },
];

fn names(ctx: &Ctx, what: &str, many: usize) -> Vec<String> {
    let base = ctx.name(what);
    (0..many).map(|n| format!("{base}/{n}")).collect()
}

/// Each is free again, and the client has nothing in hand.
async fn nothing_left(ctx: &Ctx, locks: &Locks, names: &[String]) -> Verdict<()> {
    for name in names {
        ctx.nothing_left(locks, name).await?;
    }
    Ok(())
}

/// Every verb takes a moment, so every await of a whole life is one to be dropped at.
fn dropped(ctx: &Ctx) -> Verdict {
    let repeats = ctx.rounds(4);
    let (mut dropped, mut done) = (0u64, 0u64);
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        let wire = Wire::new(|_| Fault::Hold(Gate::open(), Gate::open()));
        let locks = ctx.client().wire(&wire).connect().await?;
        for round in 0..repeats {
            let mut n = 0;
            loop {
                let names = names(ctx, "polls", 3);
                // Every other time one of them is busy, and its holder goes after the fourth poll.
                let mut holder =
                    if round % 2 == 1 { Some(mutex(&plain, &names[1])?.lock().await?) } else { None };
                let many = locks.multi(&names)?;
                let life = async move {
                    let guard = many.lock().await?;
                    guard.while_held(tokio::task::yield_now()).await?;
                    guard.release().await
                };
                let finished = polled(life, n, |poll| drop(holder.take_if(|_| poll == 4))).await?;
                drop(holder);
                nothing_left(ctx, &locks, &names).await?;
                if finished {
                    done += 1;
                    break;
                }
                dropped += 1;
                // Every point at first, then some of the later ones: on a slow store there are many.
                n += 1 + n / 8;
                ensure!(n < 20_000, "a life does not end after {n} polls");
            }
        }
        Ok(())
    })?;
    Ok(Report::new().count("dropped", dropped).count("whole lives", done))
}

/// Several clients take overlapping sets, each in an order of its own, and nobody waits for ever.
fn any_order(ctx: &Ctx) -> Verdict {
    const CLIENTS: u64 = 3;
    const TASKS: u64 = 2;
    const NAMES: usize = 4;
    let rounds = ctx.rounds(20);
    ctx.block_on(async {
        let names = names(ctx, "order", NAMES);
        let inside: Arc<Vec<AtomicU64>> = Arc::new((0..NAMES).map(|_| AtomicU64::new(0)).collect());
        let mut tasks = JoinSet::new();
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let locks = ctx.locks().await?;
            for task in 0..TASKS {
                let dice = Dice::new(17, client * TASKS + task);
                tasks.spawn(taker(locks.clone(), names.clone(), inside.clone(), dice, rounds));
            }
            clients.push(locks);
        }
        all(ctx, tasks).await?;
        for locks in &clients {
            nothing_left(ctx, locks, &names).await?;
        }
        Ok(Report::new().count("times", CLIENTS * TASKS * rounds))
    })
}

async fn taker(
    locks: Locks,
    names: Vec<String>,
    inside: Arc<Vec<AtomicU64>>,
    mut dice: Dice,
    rounds: u64,
) -> Verdict<()> {
    let mut before = vec![None; names.len()];
    for _ in 0..rounds {
        // Two or more of them, upwards or downwards.
        let (from, to) = match dice.below(3) {
            0 => (0, names.len()),
            1 => (0, names.len() - 1),
            _ => (1, names.len()),
        };
        let mut which: Vec<usize> = (from..to).collect();
        if dice.below(2) == 0 {
            which.reverse();
        }
        let many = locks.multi(which.iter().map(|&n| &names[n]))?;
        let guard = match dice.below(4) {
            0 => many.try_lock_for(Duration::from_micros(dice.below(3000))).await?,
            _ => Some(many.lock().await?),
        };
        let Some(guard) = guard else { continue };
        for &n in &which {
            ensure!(inside[n].fetch_add(1, Ordering::SeqCst) == 0, "S1: somebody else is in {}", names[n]);
            let token = guard.token(&names[n]);
            ensure!(token > before[n], "S2: {token:?} follows {:?}", before[n]);
            before[n] = token;
        }
        tokio::task::yield_now().await;
        guard.check()?;
        for &n in &which {
            inside[n].fetch_sub(1, Ordering::SeqCst);
        }
        match dice.below(2) {
            0 => drop(guard),
            _ => guard.release().await?,
        }
    }
    Ok(())
}

/// A process dies while it holds them all, and another one while it waits for one and holds those before it.
fn dead(ctx: &Ctx) -> Verdict {
    let at_once = ctx.sees_processes_end();
    let mut deaths = 0u64;
    for waits in [false, true] {
        // Where only leases end, the second one is as the first, and takes a waiting lease longer.
        if waits && !at_once {
            continue;
        }
        let names = names(ctx, "dead", 3);
        let mut crowd = Crowd::new();
        ctx.block_on(async {
            let locks = ctx.locks().await?;
            let busy = if waits { Some(mutex(&locks, &names[1])?.lock().await?) } else { None };
            let what = Hands::Many { names: names.clone() };
            let (place, name) = (ctx.into(), names[0].clone());
            let child = crowd.start(&Task::Primitive { place, name, ttl_ms: ctx.ttl_of_dead(), what })?;
            if waits {
                in_line(ctx, &locks, &names[1], 1).await?;
                ensure!(mutex(&locks, &names[0])?.try_lock().await?.is_none(), "it does not hold the first");
            } else {
                crowd.began(child, 1)?;
            }
            crowd.kill(child)?;
            drop(busy);
            let guard = ctx.within("the locks of the dead", locks.multi(&names)?.lock()).await??;
            guard.check()?;
            guard.release().await?;
            nothing_left(ctx, &locks, &names).await
        })?;
        deaths += 1;
    }
    Ok(Report::new().count("deaths", deaths))
}
