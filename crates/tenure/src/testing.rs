//! Helpers for tests of programs that use locks.
//!
//! For the store itself, use [`Locks::memory`](crate::Locks::memory): each value is a store of its own, and needs nothing.

use crate::backend::Released;
use crate::error::{Error, Result};
use crate::locks::Locks;

/// Makes the holder of a lock lose it, as if an operator had taken it away: for a test of what your program does then.
///
/// The lock has been taken away from its holder when this returns. The holder is told by push or at its next renewal; wait for it
/// with [`Guard::lost`](crate::Guard::lost), which gives [`LostReason::Evicted`](crate::LostReason::Evicted). It works on every
/// store and for every kind of lock, also for a holder in another process.
///
/// ```
/// # pollster::block_on(async {
/// use tenure::{Locks, testing};
///
/// let locks = Locks::memory();
/// let guard = locks.mutex("report")?.lock().await?;
/// testing::lose(&locks, "report").await?;
/// guard.lost().await;
/// let stopped = guard.while_held(async { "the work" }).await;
/// assert!(stopped.is_err(), "the program must stop here");
/// # Ok::<(), tenure::Error>(()) }).unwrap();
/// ```
///
/// # Errors
/// `Config` if nobody holds it; otherwise those of [`Locks::evict`](crate::Locks::evict).
///
/// # Cancel safety
/// Dropping the future may or may not take the lock away.
///
/// # On drop
/// The same.
///
/// # When the answer is lost
/// `Uncertain`; call it again.
pub async fn lose(locks: &Locks, name: &str) -> Result<()> {
    match locks.evict(name, None, "a test takes it away").await? {
        Released::Gone => Err(Error::config(format!("nobody holds {name}"), "take the lock first")),
        _ => Ok(()),
    }
}
