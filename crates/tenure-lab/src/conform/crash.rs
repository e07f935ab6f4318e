//! L1: processes that die or stop at any instant; S1 and S2 hold all the same.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::time::sleep;

use super::check::judge;
use super::faces::Face;
use super::wire::{Fault, Wire};
use super::worker::{Crowd, Order, Task, alone};
use super::{Ctx, Failed, Report, Trial, Verdict, ensure};
use crate::num::Dice;

pub(crate) const TRIALS: &[Trial] = &[
    Trial { name: "l1_killed_at_random", rules: &["L1", "S1", "S2", "L4"], why_not: alone, run: killed },
    Trial { name: "l1_a_dead_holder_frees_at_once", rules: &["L1"], why_not: not_at_once, run: at_once },
    Trial {
        name: "l1_a_dead_waiter_leaves_the_line",
        rules: &["L1", "L3"],
        why_not: alone,
        run: dead_waiter,
    },
    Trial { name: "l1_exit_with_a_guard_in_hand", rules: &["L1"], why_not: not_at_once, run: exits },
    Trial {
        name: "l1_a_silent_holder_is_followed",
        rules: &["L1", "S1", "S2"],
        why_not: |_| None,
        run: silent,
    },
    Trial {
        name: "s1_a_stopped_holder_has_lost",
        rules: &["S1", "S2", "S5", "S8"],
        why_not: alone,
        run: stopped,
    },
];

fn not_at_once(ctx: &Ctx) -> Option<&'static str> {
    if !ctx.sees_processes_end() {
        return Some("hold_end is lease");
    }
    alone(ctx)
}

/// Children that take and give back one lock are killed at random instants, and replaced.
fn killed(ctx: &Ctx) -> Verdict {
    const CHILDREN: usize = 3;
    let at_once = ctx.sees_processes_end();
    // Where only the lease ends a hold, each dead holder costs one, and so does each dead waiter that is granted.
    let few = if ctx.face == Face::Mutex { 40 } else { 16 };
    let (floor, ttl_ms) = if at_once { (200, 30_000) } else { (few, 200) };
    let floor = ctx.rounds(floor);
    let name = ctx.name("killed");
    let mut dice = Dice::new(u64::from(std::process::id()), 1);
    let mut crowd = Crowd::new();
    let task = |seed| Task::Crowd {
        place: ctx.into(),
        name: name.clone(),
        tasks: 2,
        rounds: None,
        ttl_ms,
        seed,
        witness: None,
    };
    let mut alive: Vec<usize> =
        (0..CHILDREN).map(|n| crowd.start(&task(n as u64))).collect::<Verdict<_>>()?;
    let (mut kills, mut of_holders, mut of_waiters) = (0, 0, 0);
    let end = Instant::now() + Duration::from_secs(90);
    // A quarter more than the floor: some are killed before they have asked for anything.
    while (of_holders.min(of_waiters) == 0 || of_holders + of_waiters < floor) && Instant::now() < end {
        let mut which = dice.below(CHILDREN as u64) as usize;
        let mut victim = alive[which];
        if dice.below(4) != 0 {
            crowd.hear("a child begins", |crowd| crowd.asks(victim) > 0)?;
        }
        std::thread::sleep(Duration::from_micros(dice.below(8000)));
        if !at_once && dice.below(4) != 0 {
            // Most of them stand behind the dead: waiting for this one to hold keeps kills of holders from being rare.
            crowd.hear("a child holds", |crowd| alive.iter().any(|c| crowd.holding(*c)))?;
            which = alive.iter().position(|c| crowd.holding(*c)).unwrap_or(which);
            victim = alive[which];
        }
        crowd.listen()?;
        let asked = crowd.asks(victim) > 0;
        let held = crowd.kill(victim)?;
        kills += 1;
        of_holders += u64::from(held > 0);
        of_waiters += u64::from(held == 0 && asked);
        alive[which] = crowd.start(&task(kills + CHILDREN as u64))?;
    }
    for child in alive {
        crowd.kill(child)?;
    }
    let mut holds = crowd.holds();
    judge(&mut holds, ctx.face)?;
    ctx.block_on(async {
        let locks = ctx.locks().await?;
        let guard = ctx.within("the lock after the last death", ctx.lock(&locks, &name)?.lock()).await??;
        guard.release().await?;
        ctx.nothing_left(&locks, &name).await
    })?;
    let report = Report::new()
        .count("kills", kills)
        .count("of holders", of_holders)
        .count("of waiters", of_waiters)
        .count("grants", holds.len());
    if of_holders + of_waiters < floor || of_holders == 0 || of_waiters == 0 {
        return Err(Failed::Floor(format!("{report}; {floor} kills of holders and waiters were wanted")));
    }
    Ok(report)
}

/// A lease of an hour does not matter where the store sees the process end.
const HOUR_MS: u64 = 3_600_000;

fn at_once(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(10);
    for _ in 0..rounds {
        let name = ctx.name("at_once");
        let mut crowd = Crowd::new();
        let child = crowd.start(&Task::Hold { place: ctx.into(), name: name.clone(), ttl_ms: HOUR_MS })?;
        crowd.until_holding(child)?;
        ctx.block_on(async {
            let locks = ctx.locks().await?;
            let lock = ctx.lock(&locks, &name)?;
            ensure!(lock.try_lock().await?.is_none(), "S1: the child holds it, and it is free");
            let waiting = tokio::spawn(async move { lock.lock().await });
            ctx.until("the waiter is in line", async || Ok(waiters(&locks, &name).await? == 1)).await?;
            crowd.kill(child)?;
            let guard = ctx.within("the waiter behind a dead holder", waiting).await???;
            ensure!(
                guard.token().is_none_or(|t| t.get() > crowd.holds_of(child)[0].token),
                "S2: the token did not grow"
            );
            guard.release().await?;
            ctx.nothing_left(&locks, &name).await
        })?;
    }
    Ok(Report::new().count("deaths", rounds))
}

async fn waiters(locks: &tenure::Locks, name: &str) -> Verdict<u64> {
    Ok(locks.inspect(name).await?.map_or(0, |line| line.waiters))
}

fn dead_waiter(ctx: &Ctx) -> Verdict {
    let name = ctx.name("dead_waiter");
    let mut crowd = Crowd::new();
    ctx.block_on(async {
        let locks = ctx.locks().await?;
        let lock = ctx.lock(&locks, &name)?;
        let guard = lock.lock().await?;
        // Where only leases end: one that dies while it waits and is granted before its waiting lease is over holds
        // for one lease.
        let ttl_ms = if ctx.sees_processes_end() { HOUR_MS } else { ctx.ttl_of_dead() };
        let child = crowd.start(&Task::Hold { place: ctx.into(), name: name.clone(), ttl_ms })?;
        let seen = ctx.sees_waiters();
        let waits = async |n| Ok(!seen || waiters(&locks, &name).await? == n);
        crowd.hear("the child asks", |crowd| crowd.asks(child) > 0)?;
        ctx.until("the child is in line", async || waits(1).await).await?;
        let behind = tokio::spawn(async move { lock.lock().await });
        ctx.until("another is behind it", async || waits(2).await).await?;
        crowd.kill(child)?;
        guard.release().await?;
        let guard = ctx.within("the waiter behind a dead waiter", behind).await???;
        guard.release().await?;
        ctx.nothing_left(&locks, &name).await
    })?;
    Ok(Report::new().count("deaths", 1u64))
}

fn exits(ctx: &Ctx) -> Verdict {
    let name = ctx.name("exits");
    let mut crowd = Crowd::new();
    let child = crowd.start(&Task::Exit {
        place: ctx.into(),
        name: name.clone(),
        times: 1,
        ttl_ms: ctx.ttl_of_dead(),
    })?;
    crowd.ended(child)?;
    ctx.block_on(async {
        let locks = ctx.locks().await?;
        let guard =
            ctx.within("the lock of a program that exited", ctx.lock(&locks, &name)?.lock()).await??;
        guard.release().await?;
        ctx.nothing_left(&locks, &name).await
    })?;
    Ok(Report::new().count("exits", 1u64))
}

/// A holder that is heard of no more, but whose process lives: the lease ends its hold.
fn silent(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let name = ctx.name("silent");
        // The attempt goes through, and nothing after it.
        let wire =
            Wire::new(
                |call| if call.is(super::wire::Verb::Attempt) { Fault::Pass } else { Fault::LoseRequest },
            );
        let dead = ctx.client().ttl_ms(400).wire(&wire).connect().await?;
        let locks = ctx.locks().await?;
        let before = ctx.lock(&dead, &name)?.lock().await?;
        let after = ctx.within("the lock of a silent holder", ctx.lock(&locks, &name)?.lock()).await??;
        ensure!(before.check().is_err(), "S1: the next one holds, and the silent one still believes");
        let (old, new) = (before.token(), after.token());
        ensure!(new > old || new.is_none(), "S2: {new:?} follows {old:?}");
        after.release().await?;
        drop(before);
        ctx.until("nobody is left", async || Ok(locks.inspect(&name).await?.is_none())).await?;
        Ok(Report::new().count("leases ended", 1u64))
    })
}

/// A holder that is stopped for longer than its lease learns it as soon as it goes on.
fn stopped(ctx: &Ctx) -> Verdict {
    const TTL: u64 = 500;
    let name = ctx.name("stopped");
    let mut crowd = Crowd::new();
    let child = crowd.start(&Task::Hold { place: ctx.into(), name: name.clone(), ttl_ms: TTL })?;
    crowd.until_holding(child)?;
    let first = crowd.holds_of(child)[0].token;
    crowd.worker(child).signal(Signal::STOP);
    ctx.block_on(async {
        let locks = ctx.locks().await?;
        let guard = ctx.within("the lock of a stopped holder", ctx.lock(&locks, &name)?.lock()).await??;
        ensure!(crowd.worker(child).is_stopped(), "the child is not stopped");
        ensure!(guard.token().is_none_or(|t| t.get() > first), "S2: {:?} follows {first}", guard.token());
        crowd.worker(child).signal(Signal::CONT);
        let found = crowd.order(child, &Order::Check)?;
        ensure!(found == "Lost", "S5: after it was stopped, its check says {found}");
        let found = crowd.order(child, &Order::Release)?;
        ensure!(found == "Lost", "S8: after it was stopped, its release says {found}");
        guard.check()?;
        let line = locks.inspect(&name).await?.ok_or("the new holder is gone")?;
        ensure!(line.holders.len() == 1, "S4: {} hold", line.holders.len());
        guard.release().await?;
        // Whatever the child had on its way when it was stopped has arrived by now, or is refused.
        sleep(Duration::from_millis(TTL)).await;
        ctx.nothing_left(&locks, &name).await
    })?;
    Ok(Report::new().count("stops", 1u64))
}
