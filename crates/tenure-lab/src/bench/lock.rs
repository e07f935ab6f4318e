//! What a task of a workload takes: a mutex, or another lock.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tenure::{Guard, Locks, MultiGuard, MultiMutex, Mutex, Permit, ReadGuard, Result, RwLock, Semaphore};

/// What is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A mutex.
    Mutex,
    /// A write lock.
    Write,
    /// A read lock.
    Read,
    /// A permit of a semaphore.
    Permit,
    /// Ten mutexes at once.
    Multi,
}

/// The names of a multi-lock.
pub(super) const NAMES: u32 = 10;

impl Kind {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Mutex => "mutex",
            Kind::Write => "write",
            Kind::Read => "read",
            Kind::Permit => "permit",
            Kind::Multi => "multi",
        }
    }

    /// The lock of that name, or those whose names begin with it. A semaphore has so many permits.
    pub(super) fn lock(self, locks: &Locks, name: &str, permits: u32) -> Result<Lock> {
        Ok(match self {
            Kind::Mutex => Lock::Mutex(locks.mutex(name)?),
            Kind::Write => Lock::Write(locks.rwlock(name)?),
            Kind::Read => Lock::Read(locks.rwlock(name)?),
            Kind::Permit => Lock::Permit(locks.semaphore(name, permits)?),
            Kind::Multi => Lock::Multi(locks.multi((0..NAMES).map(|n| format!("{name}/{n}")))?),
        })
    }
}

/// A lock, and how it is taken.
#[derive(Debug)]
pub(super) enum Lock {
    Mutex(Mutex),
    Write(RwLock),
    Read(RwLock),
    Permit(Semaphore),
    Multi(MultiMutex),
}

/// It is held.
#[derive(Debug)]
pub(super) enum Hold {
    Guard(Guard),
    Read(ReadGuard),
    Permit(Permit),
    Multi(MultiGuard),
}
