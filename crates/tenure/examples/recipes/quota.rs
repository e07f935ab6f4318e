//! Quota: the whole fleet makes at most so many calls in any second, wherever they are made.
//!
//! `recipes quota URL DIR N` makes N calls. `DIR/calls` has a line for each: when it was made, in µs.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tenure::Locks;

use super::shop::{Result, append, reach, tell};

/// So many calls are allowed ...
pub(crate) const CALLS: u32 = 4;
/// ... in any time of this length.
pub(crate) const SPAN: Duration = Duration::from_millis(400);

pub(crate) async fn run(locks: &Locks, dir: &Path, words: &[String]) -> Result<()> {
    let [times] = words else { return Err("how many calls?".into()) };
    let quota = locks.semaphore("bank/calls", CALLS)?;
    for _ in 0..times.parse::<u32>()? {
        let permit = quota.acquire().await?; // in line, first come first served
        call(dir)?;
        permit.release_after(SPAN).await?; // counts from the call, whatever happens to us from here on
    }
    tell("called");
    Ok(())
}

fn call(dir: &Path) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    append(&dir.join("calls"), now.as_micros())?;
    Ok(reach("called")?)
}
