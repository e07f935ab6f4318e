//! Process slots: who takes part, who lives, and the removal of what the dead leave behind.
//!
//! A process lives as long as it holds its slot's byte of the store's file ([`sys`]). It has the same byte of `live`,
//! which outlives a removed `store`, so that nobody builds another one while the process lives. Should `live` be removed,
//! those who come find the bytes of the store taken, and keep to the other slots. A slot is taken again by others
//! after its owner's death, so a slot alone names nobody: a [`Who`] is a slot *and* its generation, and it is what lock
//! words and claims carry. A `Who` that is dead once is dead for ever, which makes stealing and reaping free of races.

use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::format::{self, SLOTS, slot};
use super::map::Map;
use super::{faults, sys};
use crate::error::{Error, Result};

const SLOT_BITS: u32 = SLOTS.trailing_zeros();
/// Bits of a [`Who`]: a lock word has flags above them.
pub(super) const WHO_BITS: u32 = 29;
const GENERATIONS: u32 = 1 << (WHO_BITS - SLOT_BITS);

/// A process that takes part: its slot, and which of the slot's owners it is. Fits beside three flags in a lock word,
/// and is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Who(u32);

impl Who {
    fn new(slot: u32, generation: u32) -> Who {
        Who(slot | (generation % GENERATIONS) << SLOT_BITS)
    }

    /// From its number; `None` where that names no slot.
    pub(super) fn from_raw(raw: u32) -> Option<Who> {
        let raw = raw & ((1 << WHO_BITS) - 1);
        (!raw.is_multiple_of(1 << SLOT_BITS)).then_some(Who(raw))
    }

    /// Its number: 1 to 2^29 - 1.
    pub(super) fn raw(self) -> u32 {
        self.0
    }

    /// Its slot: 1 to 1,023.
    pub(super) fn slot(self) -> u32 {
        self.0 % (1 << SLOT_BITS)
    }

    fn generation(self) -> u32 {
        self.0 >> SLOT_BITS
    }
}

/// The table of slots in the mapping, seen by one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots<'a> {
    pub(super) map: &'a Map,
    pub(super) live: BorrowedFd<'a>,
    pub(super) store: BorrowedFd<'a>,
}

impl<'a> Slots<'a> {
    fn half(self, index: usize) -> &'a AtomicU32 {
        &self.map.halves()[index]
    }

    /// Takes a free slot. The second value: whoever had it before and was not cleaned up after.
    pub(super) fn take(self) -> Result<(Who, Option<Who>)> {
        for slot in 1..u32::try_from(SLOTS).unwrap_or(1) {
            if self.lock(slot)? {
                return Ok(self.settle_in(slot));
            }
        }
        Err(Error::unavailable(
            format!("{} processes use this store already, which is the most it takes", SLOTS - 1),
            "close some, share one process's connection, or give groups of processes directories of their own",
        ))
    }

    /// Locks the bytes of a slot, if they are free.
    fn lock(self, slot: u32) -> Result<bool> {
        let lock = |file, what| {
            sys::lock_byte(file, slot).map_err(|e| {
                Error::unavailable(
                    format!("the store's {what} file cannot be locked"),
                    "use a file system that has POSIX record locks",
                )
                .because(e)
            })
        };
        if !lock(self.live, "live")? {
            return Ok(false);
        }
        let got = lock(self.store, "mapped");
        if !matches!(got, Ok(true)) {
            let _ = sys::unlock_byte(self.live, slot);
        }
        got
    }

    fn settle_in(self, slot: u32) -> (Who, Option<Who>) {
        let generation = self.half(slot::generation_h(slot));
        let before = generation.load(Acquire);
        let left = (before != self.half(slot::reaped_h(slot)).load(Acquire)).then(|| Who::new(slot, before));
        self.half(slot::pid_h(slot)).store(std::process::id(), Relaxed);
        self.map.words()[slot::namespace_w(slot)].store(pid_namespace(), Relaxed);
        self.half(slot::all_h(slot)).store(0, Relaxed); // what earlier owners missed is nothing to us
        faults::point();
        let now = (before + 1) % GENERATIONS;
        generation.store(now, Release);
        self.half(format::header::HIGHEST_H).fetch_max(slot, AcqRel);
        faults::point();
        (Who::new(slot, now), left)
    }

    /// Whether a process takes part still. `me` is this process.
    pub(super) fn alive(self, who: Who, me: Who) -> bool {
        if who == me {
            return true;
        }
        if who.slot() == me.slot() || self.owner(who.slot()) != Some(who) {
            return false; // an earlier owner of a slot that has another now
        }
        // Where the kernel does not answer, believe that it lives: a lease ends by itself, a wrong death does not heal.
        let holds = |file| sys::locker(file, who.slot(), 1).map_or(true, |locker| locker.is_some());
        holds(self.store) || holds(self.live)
    }

    /// The newest owner of a slot.
    fn owner(self, slot: u32) -> Option<Who> {
        Who::from_raw(Who::new(slot, self.half(slot::generation_h(slot)).load(Acquire)).raw())
    }

    /// Its pid, in its own pid namespace.
    pub(super) fn pid(self, who: Who) -> u32 {
        self.half(slot::pid_h(who.slot())).load(Relaxed)
    }

    /// Its pid, if that means the same process here as there.
    pub(super) fn pid_here(self, who: Who) -> Option<i32> {
        let namespace = self.map.words()[slot::namespace_w(who.slot())].load(Relaxed);
        let pid = i32::try_from(self.pid(who)).ok().filter(|&pid| pid > 0);
        pid.filter(|_| namespace != 0 && namespace == pid_namespace())
    }

    /// Whether everything that it left behind has been removed.
    pub(super) fn reaped(self, who: Who) -> bool {
        self.owner(who.slot()) == Some(who)
            && self.half(slot::reaped_h(who.slot())).load(Acquire) == who.generation()
    }

    /// Notes that it has been.
    pub(super) fn set_reaped(self, who: Who) {
        if self.owner(who.slot()) == Some(who) {
            self.half(slot::reaped_h(who.slot())).store(who.generation(), Release);
        }
    }

    /// Everybody who took part once and was not cleaned up after, alive or dead.
    pub(super) fn all(self) -> impl Iterator<Item = Who> + 'a {
        let highest = self.half(format::header::HIGHEST_H).load(Acquire).min(SLOTS as u32 - 1);
        (1..=highest).filter_map(move |slot| self.owner(slot)).filter(move |who| !self.reaped(*who))
    }
}

/// The inode of this process's pid namespace; 0 if it cannot be told.
fn pid_namespace() -> u64 {
    rustix::fs::stat("/proc/self/ns/pid").map_or(0, |s| s.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_who_keeps_its_slot_and_its_generation() {
        for (slot, generation) in [(1, 0), (1023, 7), (5, GENERATIONS - 1)] {
            let who = Who::new(slot, generation);
            assert_eq!((who.slot(), who.generation()), (slot, generation));
            assert!(who.raw() != 0 && who.raw() < 1 << 31);
            assert_eq!(
                Who::from_raw(who.raw() | 1 << 31),
                Some(who),
                "the flag of a lock word is not part of it"
            );
        }
        assert_eq!(Who::from_raw(0), None);
        assert_eq!(Who::from_raw(3 << SLOT_BITS), None, "slot 0 is nobody's");
        assert_ne!(Who::new(9, 1), Who::new(9, 2));
    }
}
