//! What child processes do for these trials.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure::{ErrorKind, Guard, Locks, Mutex, Outcome, Result};
use tokio::task::JoinSet;

use super::super::worker::{Event, Order};
use super::jobs::job;
use crate::failure::{Failure, Outcome as Done};
use crate::process::Link;

/// What a child does. It tells of what it has begun, and, but for [`Jobs`](Hands::Jobs), goes on until it is killed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Hands {
    /// Takes so many permits.
    Permits { permits: u32, of: u32 },
    /// Takes all locks of these names.
    Many { names: Vec<String> },
    /// Continues a hold.
    Adopt { handle: String },
    /// Runs a job for each of so many slots, and ends.
    Jobs { slots: u64 },
    /// Begins the job of slot 0, and does not finish it.
    Stuck { never_again: bool },
    /// So many tasks take and give back one mutex, and tell of each token.
    Turns { tasks: u64 },
}

pub(crate) fn play(link: &Link, locks: &Locks, name: &str, what: Hands) -> Done<()> {
    match what {
        Hands::Permits { permits, of } => {
            let _held = locks.semaphore(name, of)?.blocking_acquire_many(permits)?;
            stay(link, "permits")
        }
        Hands::Many { names } => {
            let _held = locks.multi(&names)?.blocking_lock()?;
            stay(link, "locks")
        }
        Hands::Adopt { handle } => {
            let _held = locks.blocking_adopt(handle.parse()?)?;
            stay(link, "adoption")
        }
        Hands::Jobs { slots } => {
            // Each process begins with another slot, and comes by all of them twice.
            let first = u64::from(std::process::id());
            for slot in (first..first + 2 * slots).map(|n| n % slots) {
                let begun = |_: &Guard| {
                    link.tell(&Event::Began(slot.to_string()));
                    Ok::<_, String>(())
                };
                if let Outcome::Ran(ran) = job(locks, name, slot)?.blocking_run(begun)? {
                    ran.recorded?;
                }
            }
            Ok(())
        }
        Hands::Stuck { never_again } => {
            let once = job(locks, name, 0)?;
            let once = if never_again { once.never_again() } else { once };
            once.blocking_run(|_| stay(link, "job").map_err(|failure| failure.text(1)))?;
            Ok(())
        }
        Hands::Turns { tasks } => turns(&locks.mutex(name)?, tasks),
    }
}

fn turns(lock: &Mutex, tasks: u64) -> Done<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::run("no runtime", "see the cause").because(e))?;
    runtime.block_on(async {
        let mut all = JoinSet::new();
        for _ in 0..tasks {
            all.spawn(one_of_turns(lock.clone()));
        }
        while let Some(Ok(done)) = all.join_next().await {
            done?;
        }
        Ok(())
    })
}

async fn one_of_turns(lock: Mutex) -> Result<()> {
    loop {
        let guard = lock.lock().await?;
        Link.tell(&Event::Began(guard.token().to_string()));
        // Long enough for the others to wait for it.
        tokio::time::sleep(Duration::from_millis(1)).await;
        match guard.release().await {
            // A short lease may end on a busy machine, or before an answer comes.
            Err(error) if matches!(error.kind(), ErrorKind::Lost | ErrorKind::Uncertain) => {}
            other => other?,
        }
    }
}

/// Tells what it has, and keeps it until it is killed.
fn stay(link: &Link, what: &str) -> Done<()> {
    link.tell(&Event::Began(what.into()));
    while link.next::<Order>()?.is_some() {}
    Ok(())
}
