//! Nightly job: every machine starts it at the same time, and one of them does it.
//!
//! `recipes nightly_job URL DIR [LABEL]` makes today's report, or the one of that label. `DIR/report` is the report,
//! `DIR/published` has a line for each time that one was published.

use std::path::Path;
use std::time::Duration;

use tenure::fence::{FenceFile, Stamp};
use tenure::{Locks, Outcome, Slot};

use super::shop::{Result, append, reach, replace, tell};

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) async fn run(locks: &Locks, dir: &Path, words: &[String]) -> Result<()> {
    let slot = match words {
        [label] => Slot::named(label),
        _ => Slot::every(24 * HOUR, 3 * HOUR), // from 03:00 UTC on
    };
    // Whoever comes second waits, ready to take over if the first one dies.
    let nightly = locks.once("report", slot)?.wait(HOUR);
    let domain = locks.domain().await?;
    let outcome = nightly.run(async |token| publish(dir, &Stamp::new(domain, token)).await).await?;
    match outcome {
        Outcome::Ran(ran) => {
            ran.result?;
            ran.recorded?; // an error: it was not ours any more, and may run again
            tell("published");
        }
        Outcome::AlreadyDone(by) => tell(format_args!("done before, by pid {}", by.owner.pid)),
        Outcome::Running(by) => tell(format_args!("still done, by pid {}", by.owner.pid)),
        _ => {}
    }
    Ok(())
}

async fn publish(dir: &Path, stamp: &Stamp) -> Result<()> {
    let fence = FenceFile::new(dir.join("report.fence"));
    fence.check(stamp)?; // before anything is read
    let report = compute().await;
    reach("computed")?;
    let inside = fence.enter(stamp)?;
    replace(&dir.join("report"), &report)?;
    append(&dir.join("published"), format_args!("by pid {}", std::process::id()))?;
    drop(inside);
    Ok(())
}

/// What takes long.
async fn compute() -> String {
    tokio::time::sleep(Duration::from_millis(20)).await;
    format!("a report by pid {}\n", std::process::id())
}
