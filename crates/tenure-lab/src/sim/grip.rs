//! How a worker takes a lock, of whatever kind.

use std::time::Duration;

use tenure::{LockOptions, Locks, Result};

use super::locks::{NAMES, PERMITS};
use crate::any_guard::AnyGuard;

/// A guard's token; 0 if it has none.
pub(super) fn token_of(guard: &AnyGuard) -> i64 {
    guard.token().map_or(0, tenure::Token::get)
}

/// How long somebody waits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    Not,
    For(Duration),
    Forever,
}

macro_rules! call {
    ($wait:expr, $of:ident, $try_now:ident, $try_for:ident, $lock:ident, $held:path $(, $n:expr)?) => {
        Ok(match $wait {
            Wait::Not => $of.$try_now($($n)?).await?.map($held),
            Wait::For(wait) => $of.$try_for($($n,)? wait).await?.map($held),
            Wait::Forever => Some($held($of.$lock($($n)?).await?)),
        })
    };
}

/// Which part of a lock somebody wants: all of it, or as a reader or with so many permits beside others.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Whole,
    Beside(u32),
}

/// Takes a lock.
pub(super) async fn take(
    locks: &Locks,
    lock: usize,
    part: Part,
    ttl: Option<Duration>,
    wait: Wait,
) -> Result<Option<AnyGuard>> {
    let options = ttl.map_or_else(LockOptions::new, |ttl| LockOptions::new().ttl(ttl));
    match (NAMES[lock], part) {
        (name @ "r", Part::Whole) => {
            let rw = locks.rwlock(name)?.with(options)?;
            call!(wait, rw, try_write, try_write_for, write, AnyGuard::Guard)
        }
        (name @ "r", Part::Beside(_)) => {
            let rw = locks.rwlock(name)?.with(options)?;
            call!(wait, rw, try_read, try_read_for, read, AnyGuard::Read)
        }
        (name @ "s", part) => {
            let semaphore = locks.semaphore(name, PERMITS)?.with(options)?;
            let n = if let Part::Beside(n) = part { n } else { PERMITS };
            call!(wait, semaphore, try_acquire_many, try_acquire_many_for, acquire_many, AnyGuard::Permit, n)
        }
        (name, _) => {
            let mutex = locks.mutex(name)?.with(options)?;
            call!(wait, mutex, try_lock, try_lock_for, lock, AnyGuard::Guard)
        }
    }
}
