//! S1: one holder at a time, among tasks and among processes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenure::Token;
use tokio::task::JoinSet;

use super::check::{Held, judge};
use super::faces::Lock;
use super::worker::{Crowd, Task, alone};
use super::{Ctx, Report, Trial, Verdict, ensure};
use crate::num::{Dice, boot_ns};

pub(crate) const TRIALS: &[Trial] = &[
    Trial {
        name: "s1_exclusion_of_tasks",
        rules: &["S1", "S2"],
        why_not: |_| None,
        run: |ctx| tasks(ctx, false),
    },
    Trial { name: "s1_exclusion_across_processes", rules: &["S1", "S2"], why_not: alone, run: processes },
];

/// What the tasks of one trial share.
#[derive(Default)]
struct Witness {
    inside: AtomicU64,
    overlaps: AtomicU64,
    holds: Mutex<Vec<Held>>,
    busy: AtomicU64,
    dropped: AtomicU64,
}

/// Tasks that lock, try, wait for a moment, and leave; those of one client share their claims, or do not.
pub(super) fn tasks(ctx: &Ctx, shared: bool) -> Verdict {
    const CLIENTS: u64 = 3;
    const TASKS: u64 = 6;
    let rounds = ctx.rounds(60);
    ctx.block_on(async {
        let name = ctx.name("tasks");
        let witness = Arc::new(Witness::default());
        let mut tasks = JoinSet::new();
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let locks = ctx.client().sharing(shared).connect().await?;
            for task in 0..TASKS {
                let lock = ctx.lock(&locks, &name)?;
                tasks.spawn(crowd(lock, witness.clone(), Dice::new(7, client * TASKS + task), rounds));
            }
            clients.push(locks);
        }
        let all = async {
            while let Some(done) = tasks.join_next().await {
                done??;
            }
            Verdict::Ok(())
        };
        ctx.within("the tasks go through", all).await??;
        ctx.nothing_left(&clients[0], &name).await?;
        let overlaps = witness.overlaps.load(Ordering::SeqCst);
        ensure!(overlaps == 0, "S1: {overlaps} times, somebody was inside already");
        let mut holds = witness.holds.lock().unwrap_or_else(PoisonError::into_inner).clone();
        judge(&mut holds, ctx.face)?;
        Ok(Report::new()
            .count("grants", holds.len())
            .count("gave up waiting", witness.busy.load(Ordering::SeqCst))
            .count("dropped while asking", witness.dropped.load(Ordering::SeqCst)))
    })
}

async fn crowd(lock: Lock, witness: Arc<Witness>, mut dice: Dice, rounds: u64) -> Verdict<()> {
    for _ in 0..rounds {
        let asked = boot_ns();
        let guard = match dice.below(6) {
            0 => lock.try_lock().await?,
            1 => lock.try_lock_for(Duration::from_micros(dice.below(2000))).await?,
            2 => match tokio::time::timeout(Duration::from_micros(dice.below(2000)), lock.lock()).await {
                Ok(guard) => Some(guard?),
                Err(_) => {
                    witness.dropped.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            },
            _ => Some(lock.lock().await?),
        };
        let Some(guard) = guard else {
            witness.busy.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let from = boot_ns();
        if witness.inside.fetch_add(1, Ordering::SeqCst) != 0 {
            witness.overlaps.fetch_add(1, Ordering::SeqCst);
        }
        for _ in 0..dice.below(3) {
            tokio::task::yield_now().await;
        }
        guard.check()?;
        let token = guard.token().map_or(0, Token::get);
        witness.inside.fetch_sub(1, Ordering::SeqCst);
        let held = Held { asked, from, to: boot_ns(), token, process: 0 };
        witness.holds.lock().unwrap_or_else(PoisonError::into_inner).push(held);
        match dice.below(3) {
            0 => drop(guard),
            _ => guard.release().await?,
        }
    }
    Ok(())
}

fn processes(ctx: &Ctx) -> Verdict {
    let name = ctx.name("processes");
    let files = tempfile::tempdir()?;
    let mut crowd = Crowd::new();
    for number in 0..4 {
        let task = Task::Crowd {
            place: ctx.into(),
            name: name.clone(),
            tasks: 3,
            rounds: Some(ctx.rounds(120)),
            ttl_ms: 30_000,
            seed: number,
            witness: Some(files.path().join("inside")),
        };
        crowd.start(&task)?;
    }
    let mut holds = crowd.finish()?;
    judge(&mut holds, ctx.face)?;
    ctx.block_on(async {
        let locks = ctx.locks().await?;
        ctx.nothing_left(&locks, &name).await
    })?;
    let processes = holds.iter().map(|h| h.process).collect::<std::collections::BTreeSet<_>>().len();
    Ok(Report::new().count("grants", holds.len()).count("processes", processes))
}
