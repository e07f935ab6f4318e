//! What a worker has in its hands: the guard of a mutex or a writer, a reader's, or permits.

use std::time::Duration;

use tenure::{Guard, LockOptions, Locks, Lost, Permit, ReadGuard, Result};

use super::judge::{NAMES, PERMITS};

/// A hold, of whatever kind the lock is.
#[derive(Debug)]
pub(super) enum Grip {
    Guard(Guard),
    Read(ReadGuard),
    Permit(Permit),
}

macro_rules! of_each {
    ($grip:expr, $guard:ident => $what:expr) => {
        match $grip {
            Grip::Guard($guard) => $what,
            Grip::Read($guard) => $what,
            Grip::Permit($guard) => $what,
        }
    };
}

impl Grip {
    pub(super) fn check(&self) -> Result<Duration, Lost> {
        of_each!(self, guard => guard.check())
    }

    pub(super) fn remaining(&self) -> Duration {
        of_each!(self, guard => guard.remaining())
    }

    pub(super) async fn lost(&self) -> Lost {
        of_each!(self, guard => guard.lost().await)
    }

    /// The hash of its claim, as listings show it.
    pub(super) fn claim(&self) -> String {
        of_each!(self, guard => guard.claim())
    }

    /// Its token; 0 if it has none.
    pub(super) fn token(&self) -> i64 {
        match self {
            Grip::Guard(guard) => guard.token().get(),
            Grip::Read(guard) => guard.token().map_or(0, tenure::Token::get),
            Grip::Permit(_) => 0,
        }
    }

    pub(super) async fn release(self) -> Result<()> {
        of_each!(self, guard => guard.release().await)
    }

    pub(super) async fn release_after(self, pause: Duration) -> Result<()> {
        of_each!(self, guard => guard.release_after(pause).await)
    }
}

/// How long somebody waits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    Not,
    For(Duration),
    Forever,
}

macro_rules! call {
    ($wait:expr, $of:ident, $try_now:ident, $try_for:ident, $lock:ident, $grip:path $(, $n:expr)?) => {
        Ok(match $wait {
            Wait::Not => $of.$try_now($($n)?).await?.map($grip),
            Wait::For(wait) => $of.$try_for($($n,)? wait).await?.map($grip),
            Wait::Forever => Some($grip($of.$lock($($n)?).await?)),
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
) -> Result<Option<Grip>> {
    let options = ttl.map_or_else(LockOptions::new, |ttl| LockOptions::new().ttl(ttl));
    match (NAMES[lock], part) {
        (name @ "r", Part::Whole) => {
            let rw = locks.rwlock(name)?.with(options)?;
            call!(wait, rw, try_write, try_write_for, write, Grip::Guard)
        }
        (name @ "r", Part::Beside(_)) => {
            let rw = locks.rwlock(name)?.with(options)?;
            call!(wait, rw, try_read, try_read_for, read, Grip::Read)
        }
        (name @ "s", part) => {
            let semaphore = locks.semaphore(name, PERMITS)?.with(options)?;
            let n = if let Part::Beside(n) = part { n } else { PERMITS };
            call!(wait, semaphore, try_acquire_many, try_acquire_many_for, acquire_many, Grip::Permit, n)
        }
        (name, _) => {
            let mutex = locks.mutex(name)?.with(options)?;
            call!(wait, mutex, try_lock, try_lock_for, lock, Grip::Guard)
        }
    }
}
