//! Jobs that run once per slot: over tasks and processes, through deaths and lost answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tenure::{ErrorKind, Locks, Once, Outcome, RunState, Slot};
use tokio::task::JoinSet;

use super::super::wire::{Fault, Verb, Wire};
use super::super::worker::{Crowd, Task, alone};
use super::super::{Ctx, Report, Trial, Verdict, ensure};
use super::{Hands, all, no_jobs};
use crate::num::Dice;

pub(super) const TRIALS: &[Trial] = &[
    Trial { name: "s1_once_per_slot", rules: &["S1"], why_not: no_jobs, run: per_slot },
    Trial { name: "l1_a_job_whose_process_dies", rules: &["L1", "S1"], why_not: no_jobs_or_alone, run: dies },
    Trial {
        name: "s7_a_job_whose_answers_are_lost",
        rules: &["S7", "S1"],
        why_not: no_jobs,
        run: lost_answers,
    },
];

fn no_jobs_or_alone(ctx: &Ctx) -> Option<&'static str> {
    no_jobs(ctx).or_else(|| alone(ctx))
}

/// For how long a slot's record is kept: longer than a trial takes.
const KEPT: Duration = Duration::from_secs(600);

pub(super) fn job(locks: &Locks, name: &str, slot: u64) -> tenure::Result<Once> {
    locks.once(name, Slot::named(&slot.to_string()))?.keep_for(KEPT)
}

/// Runs it, and returns the outcome.
async fn run(once: &Once, ran: &AtomicU64) -> Verdict<Outcome<(), Infallible>> {
    let work = |_| async {
        ran.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        Ok(())
    };
    loop {
        match once.run(work).await {
            // Nobody answered before the job began, on a busy machine: whoever wants it run asks again.
            Err(error) if error.kind() == ErrorKind::Uncertain => continue,
            other => return Ok(other?),
        }
    }
}

fn per_slot(ctx: &Ctx) -> Verdict {
    const CLIENTS: u64 = 3;
    const TASKS: u64 = 3;
    let slots = ctx.rounds(12);
    ctx.block_on(async {
        let name = ctx.name("tasks");
        let ran: Arc<Vec<AtomicU64>> = Arc::new((0..slots).map(|_| AtomicU64::new(0)).collect());
        let mut tasks = JoinSet::new();
        for client in 0..CLIENTS {
            let locks = ctx.locks().await?;
            for task in 0..TASKS {
                let (locks, name, ran) = (locks.clone(), name.clone(), ran.clone());
                let mut dice = Dice::new(19, client * TASKS + task);
                tasks.spawn(async move {
                    for _ in 0..2 * slots {
                        let slot = dice.below(slots);
                        run(&job(&locks, &name, slot)?, &ran[slot as usize]).await?;
                    }
                    Ok(())
                });
            }
        }
        all(ctx, tasks).await?;
        let locks = ctx.locks().await?;
        for (slot, ran) in ran.iter().enumerate() {
            run(&job(&locks, &name, slot as u64)?, ran).await?;
            let times = ran.load(Ordering::SeqCst);
            ensure!(times == 1, "the job of slot {slot} ran {times} times");
        }
        Verdict::Ok(())
    })?;
    if ctx.private() {
        return Ok(Report::new().count("slots", slots));
    }
    let (name, mut crowd) = (ctx.name("processes"), Crowd::new());
    let what = Hands::Jobs { slots };
    let task = Task::Primitive { place: ctx.into(), name, ttl_ms: 30_000, what };
    let children = [crowd.start(&task)?, crowd.start(&task)?, crowd.start(&task)?];
    for child in children {
        crowd.ended(child)?;
    }
    crowd.listen()?;
    let mut all = crowd.all_begun();
    all.sort_unstable();
    let slots_in_order: Vec<String> = {
        let mut slots: Vec<String> = (0..slots).map(|slot| slot.to_string()).collect();
        slots.sort_unstable();
        slots
    };
    ensure!(all == slots_in_order, "three processes ran the jobs of these slots: {all:?}");
    Ok(Report::new().count("slots", 2 * slots))
}

/// A process is killed in the middle of its job: the next one runs it again, or never, as it was told.
fn dies(ctx: &Ctx) -> Verdict {
    for never_again in [false, true] {
        let (name, mut crowd) = (ctx.name("dies"), Crowd::new());
        let what = Hands::Stuck { never_again };
        let task = Task::Primitive { place: ctx.into(), name: name.clone(), ttl_ms: ctx.ttl_of_dead(), what };
        let child = crowd.start(&task)?;
        crowd.began(child, 1)?;
        ctx.block_on(async {
            let locks = ctx.locks().await?;
            let (ran, once) = (AtomicU64::new(0), job(&locks, &name, 0)?);
            let said = run(&once, &ran).await?;
            ensure!(matches!(said, Outcome::Running(_)), "somebody runs it, and it is told {said:?}");
            crowd.kill(child)?;
            let once = once.wait(Duration::from_secs(20));
            let once = if never_again { once.never_again() } else { once };
            let said = ctx.within("the job of the dead", run(&once, &ran)).await??;
            let times = ran.load(Ordering::SeqCst);
            if never_again {
                let abandoned =
                    matches!(&said, Outcome::AlreadyDone(run) if run.state == RunState::Abandoned);
                ensure!(abandoned && times == 0, "not to be run again, it ran {times} times: {said:?}");
            } else {
                ensure!(matches!(said, Outcome::Ran(_)), "to be run again, it is told {said:?}");
                let said = run(&once, &ran).await?;
                ensure!(matches!(said, Outcome::AlreadyDone(_)), "after its run, it is told {said:?}");
                let times = ran.load(Ordering::SeqCst);
                ensure!(times == 1, "after a death it ran {times} times");
            }
            Ok(())
        })?;
    }
    Ok(Report::new().count("deaths", 2u64))
}

/// The answer to the first request of each kind is lost, or the request is: the job does not run twice.
fn lost_answers(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(8);
    ctx.block_on(async {
        let (name, plain) = (ctx.name("answers"), ctx.locks().await?);
        for round in 0..rounds {
            let verb = if round % 2 == 0 { Verb::Release } else { Verb::Attempt };
            let lost = AtomicU64::new(0);
            let wire = Wire::new(move |call| {
                if !call.is(verb) || lost.fetch_add(1, Ordering::SeqCst) > round % 3 {
                    return Fault::Pass;
                }
                if round % 4 < 2 { Fault::Garble } else { Fault::Refuse }
            });
            let locks = ctx.client().wire(&wire).connect().await?;
            let ran = AtomicU64::new(0);
            let said = run(&job(&locks, &name, round)?, &ran).await?;
            let Outcome::Ran(mine) = said else {
                return Err(format!("nobody else asks, and it is told {said:?}").into());
            };
            mine.recorded?;
            for locks in [&locks, &plain] {
                let said = run(&job(locks, &name, round)?, &ran).await?;
                ensure!(matches!(said, Outcome::AlreadyDone(_)), "after its run, it is told {said:?}");
            }
            let times = ran.load(Ordering::SeqCst);
            ensure!(times == 1, "its answers were lost, and the job ran {times} times");
        }
        Ok(Report::new().count("jobs", rounds))
    })
}
