//! The locks of a run.

use tenure::Key;
use tenure::core::line::RW_CAPACITY;

/// How many locks there are.
pub(super) const LOCKS: usize = 4;
/// Their names: two mutexes, a read-write lock, a semaphore.
pub(super) const NAMES: [&str; LOCKS] = ["a", "b", "r", "s"];
pub(super) const READERS: usize = 2;
pub(super) const SEATS: usize = 3;
/// How many permits the semaphore has.
pub(super) const PERMITS: u32 = 3;

/// How much may be held of a lock at a time.
pub(super) fn room(lock: usize) -> u64 {
    match lock {
        READERS => u64::from(RW_CAPACITY),
        SEATS => u64::from(PERMITS),
        _ => 1,
    }
}

/// Which lock has this name.
pub(super) fn lock_of(key: &Key) -> usize {
    NAMES.iter().position(|n| *n == key.name()).unwrap_or(0)
}

/// How many tokens each grant has: more than a claim asks for.
pub(super) const TOKENS: i64 = 512;
