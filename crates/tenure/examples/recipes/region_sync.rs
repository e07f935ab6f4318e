//! Data sync between regions: one program at a time copies, and whoever follows it goes on where it was.
//!
//! `recipes region_sync URL DIR` copies `DIR/here`, a journal of numbered lines that ends with `end`, to `DIR/there`.

use std::path::Path;
use std::time::Duration;

use tenure::Locks;
use tenure::fence::{FenceFile, Stamp};

use super::shop::{Result, append, lines, reach, tell};

/// How many lines are copied between two looks at the lock.
const BATCH: usize = 10;

pub(crate) async fn run(locks: &Locks, dir: &Path, words: &[String]) -> Result<()> {
    if !words.is_empty() {
        return Err("it takes no words".into());
    }
    let domain = locks.domain().await?;
    // The lock belongs to what is written, so it lies in a store that the other region's writers reach.
    let guard = locks.mutex("sync/there")?.lock().await?;
    let (stamp, fence) = (Stamp::new(domain, guard.token()), FenceFile::new(dir.join("there.fence")));
    fence.check(&stamp)?; // from here on nobody else writes there, so what is there stays as it is
    let (here, there) = (lines(&dir.join("here"))?, dir.join("there"));
    // Where to go on is told by the copy itself: a cursor elsewhere could say more or less than was written.
    let done = lines(&there)?.len();
    tell(format_args!("goes on at {done}"));
    let rest = here.get(done..).ok_or("there is more there than here: it is another journal")?;
    for batch in rest.chunks(BATCH) {
        guard.check()?; // no I/O: there is no sense in going on without the lock
        tokio::time::sleep(Duration::from_millis(1)).await; // the other region is far away
        reach("batch")?;
        let inside = fence.enter(&stamp)?;
        for line in batch {
            append(&there, line)?;
        }
        drop(inside);
    }
    guard.release().await?;
    tell("copied");
    Ok(())
}
