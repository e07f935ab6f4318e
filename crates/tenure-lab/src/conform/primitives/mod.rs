//! Trials of the primitives: what each of them promises beside what the mutex does.
//!
//! - `readers`: read-write locks.
//! - `permits`: semaphores.
//! - `transfers`: hand-over, and every other change of a hold's claim.
//! - `many`: many locks at once.
//! - `leaders`: elections.
//! - `jobs`: jobs that run once.
//! - `owners`: re-entry, and waiting for oneself.
//! - `turns`, `leavers`: tasks that share a claim.
//! - `bad`: what is refused.
//! - `hands`: what child processes do.

mod bad;
mod hands;
mod jobs;
mod leaders;
mod leavers;
mod many;
mod owners;
mod permits;
mod readers;
mod transfers;
mod turns;

use tenure::{Locks, Visibility};
use tokio::task::JoinSet;

use super::promised::no_keep;
use super::{Ctx, Trial, Verdict};

pub(super) use hands::{Hands, play};

/// The tables of trials.
pub(super) const TRIALS: &[&[Trial]] = &[
    readers::TRIALS,
    permits::TRIALS,
    transfers::TRIALS,
    many::TRIALS,
    leaders::TRIALS,
    jobs::TRIALS,
    owners::TRIALS,
    bad::TRIALS,
    turns::TRIALS,
    leavers::TRIALS,
];

fn no_rw(ctx: &Ctx) -> Option<&'static str> {
    (!ctx.caps.modes.rw).then_some("modes has no read-write lock")
}

fn no_semaphore(ctx: &Ctx) -> Option<&'static str> {
    (!ctx.caps.modes.semaphore).then_some("modes has no semaphore")
}

fn unseen(ctx: &Ctx) -> Option<&'static str> {
    let shown = matches!(ctx.caps.visibility, Visibility::Full | Visibility::Holders);
    (!shown).then_some("visibility does not show holders")
}

/// Excludes trials of jobs that run once per slot.
fn no_jobs(ctx: &Ctx) -> Option<&'static str> {
    unseen(ctx).or_else(|| no_keep(ctx))
}

async fn waiters(locks: &Locks, name: &str) -> Verdict<u64> {
    Ok(locks.inspect(name).await?.map_or(0, |line| line.waiters))
}

/// Until so many wait for a lock.
async fn in_line(ctx: &Ctx, locks: &Locks, name: &str, many: u64) -> Verdict<()> {
    ctx.until("the next one is in line", async || Ok(waiters(locks, name).await? == many)).await
}

/// Until all tasks have gone through.
async fn all(ctx: &Ctx, mut tasks: JoinSet<Verdict<()>>) -> Verdict<()> {
    let all = async {
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    };
    ctx.within("the tasks go through", all).await?
}
