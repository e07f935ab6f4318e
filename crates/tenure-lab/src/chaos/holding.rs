//! The locks of a run: one hot mutex and four warm locks of all kinds.

use std::time::Duration;

use tenure::backend::RW_CAPACITY;
use tenure::{Locks, Mutex, Result, RwLock, Semaphore};

use crate::any_guard::AnyGuard;
use crate::failure::Outcome;
use crate::history::{Kind, Name};
use crate::num::Dice;

/// Their names; the first is hot.
pub(super) const NAMES: [&str; 5] = ["hot", "warm/a", "warm/b", "shared", "permits"];
/// Permits of the semaphore.
const PERMITS: u32 = 3;

/// One lock, as a task has it.
pub(super) struct Line {
    pub(super) name: Name,
    face: Face,
}

enum Face {
    Mutex(Mutex),
    Shared(RwLock),
    Permits(Semaphore),
}

/// What a task asks of a lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) kind: Kind,
    pub(super) weight: u32,
    pub(super) capacity: u32,
    /// Whether the resource may be written under it.
    pub(super) writes: bool,
}

/// The locks that this store can carry.
pub(super) fn open(locks: &Locks) -> Outcome<Vec<Line>> {
    let modes = locks.capabilities().modes;
    let mut lines = Vec::new();
    for name in NAMES {
        let face = match name {
            "shared" if modes.rw => Face::Shared(locks.rwlock(name)?),
            "permits" if modes.semaphore => Face::Permits(locks.semaphore(name, PERMITS)?),
            _ => Face::Mutex(locks.mutex(name)?),
        };
        lines.push(Line { name: Name::from(name), face });
    }
    Ok(lines)
}

impl Line {
    /// What to ask for this time.
    pub(super) fn want(&self, dice: &mut Dice) -> Want {
        match self.face {
            Face::Mutex(_) => Want { kind: Kind::Mutex, weight: 1, capacity: 1, writes: true },
            Face::Shared(_) if dice.below(3) == 0 => {
                Want { kind: Kind::Write, weight: RW_CAPACITY, capacity: RW_CAPACITY, writes: true }
            }
            Face::Shared(_) => Want { kind: Kind::Read, weight: 1, capacity: RW_CAPACITY, writes: false },
            Face::Permits(_) => {
                let weight = if dice.below(4) == 0 { 2 } else { 1 };
                Want { kind: Kind::Semaphore, weight, capacity: PERMITS, writes: false }
            }
        }
    }

    /// Asks for it, for so long. Zero: without standing in line.
    pub(super) async fn acquire(&self, want: Want, wait: Duration) -> Result<Option<AnyGuard>> {
        Ok(match &self.face {
            Face::Mutex(mutex) => mutex.try_lock_for(wait).await?.map(AnyGuard::Guard),
            Face::Shared(lock) if want.kind == Kind::Write => {
                lock.try_write_for(wait).await?.map(AnyGuard::Guard)
            }
            Face::Shared(lock) => lock.try_read_for(wait).await?.map(AnyGuard::Read),
            Face::Permits(permits) => {
                permits.try_acquire_many_for(want.weight, wait).await?.map(AnyGuard::Permit)
            }
        })
    }
}
