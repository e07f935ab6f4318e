//! The lock word of an area: 0, or the [`Who`] of the process inside, with flags: that somebody sleeps, that somebody
//! copies what it is inside of, that the lines were taken elsewhere meanwhile (`rescue.rs`).
//!
//! It names the process, so that whoever finds it taken can ask the kernel whether the owner lives, and take it over
//! if not. Threads of one process exclude each other by it like strangers: the word is taken by compare-and-swap from
//! 0, whoever had it before.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::futex;

use super::faults;
use super::slots::{WHO_BITS, Who};

/// Somebody sleeps on the word.
const SLEEPERS: u32 = 1 << 31;
/// Somebody copies the area. Gone as soon as the owner lets go, so it speaks of one and the same turn.
const COPYING: u32 = 1 << 30;
/// The lines were taken to the shard's other area while the owner was inside: nothing that it did since stands.
const MOVED: u32 = 1 << WHO_BITS;
const SPINS: u32 = 100;
/// How long to sleep before asking whether the owner lives.
const NAP: futex::Timespec = futex::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// Whether this process may sleep on words. If not it would spin, and never learn that an owner is dead.
pub(super) fn check_futex() -> Result<(), Errno> {
    let word = AtomicU32::new(0);
    futex::wake(&word, futex::Flags::empty(), 1)?;
    // Not the value that it has, so it does not sleep.
    match futex::wait(&word, futex::Flags::empty(), 1, Some(&NAP)) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(e) => Err(e),
    }
}

/// How a lock was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// It was free, or its owner let it go.
    Free,
    /// Its owner had died inside: what it began must be undone.
    FromTheDead(Who),
}

/// Why a lock was not got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotGot {
    /// The owner lives but has been inside for as long as one was willing to wait.
    Stuck(Option<Who>),
    /// The lines are in the shard's other area by now.
    Moved,
}

/// One lock word and the count of its turns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lock<'a> {
    pub(super) word: &'a AtomicU32,
    pub(super) turns: &'a AtomicU64,
}

impl Lock<'_> {
    /// Takes the lock. `patience` is for one and the same turn of an owner that lives: as long as others come and go,
    /// it begins anew (ten times at most).
    #[inline]
    pub(super) fn take(
        self,
        me: Who,
        patience: Duration,
        alive: impl Fn(Who) -> bool,
    ) -> Result<Got, NotGot> {
        if self.word.compare_exchange(0, me.raw(), Acquire, Relaxed).is_ok() {
            faults::point();
            return Ok(Got::Free);
        }
        self.wait(me, patience, alive)
    }

    #[cold]
    fn wait(self, me: Who, patience: Duration, alive: impl Fn(Who) -> bool) -> Result<Got, NotGot> {
        for _ in 0..SPINS {
            std::hint::spin_loop();
            if self.word.load(Relaxed) == 0
                && self.word.compare_exchange(0, me.raw(), Acquire, Relaxed).is_ok()
            {
                return Ok(Got::Free);
            }
        }
        let began = Instant::now();
        let (mut turn, mut since) = (self.turns.load(Relaxed), began);
        loop {
            let word = self.word.load(Relaxed);
            if word == 0 {
                // Others may sleep: keep the flag up for them, or nobody would wake them.
                if self.word.compare_exchange(0, me.raw() | SLEEPERS, Acquire, Relaxed).is_ok() {
                    return Ok(Got::Free);
                }
                continue;
            }
            if word & MOVED != 0 {
                return Err(NotGot::Moved);
            }
            let marked = word | SLEEPERS;
            if word != marked && self.word.compare_exchange(word, marked, Relaxed, Relaxed).is_err() {
                continue;
            }
            if futex::wait(self.word, futex::Flags::empty(), marked, Some(&NAP)) != Err(Errno::TIMEDOUT) {
                continue;
            }
            let owner = Who::from_raw(word);
            if let Some(dead) = owner.filter(|who| !alive(*who)) {
                fence(SeqCst);
                if self.word.compare_exchange(marked, me.raw() | SLEEPERS, Acquire, Relaxed).is_ok() {
                    return Ok(Got::FromTheDead(dead));
                }
                continue;
            }
            let (now, turns) = (Instant::now(), self.turns.load(Relaxed));
            if turns != turn {
                (turn, since) = (turns, now);
            }
            if now - since >= patience || now - began >= patience * 10 {
                return Err(NotGot::Stuck(owner));
            }
        }
    }

    /// Lets go. False: the lines were taken elsewhere meanwhile. What was done here does not stand, and the word still
    /// names us, until [`leave`](Lock::leave).
    #[inline]
    #[must_use]
    pub(super) fn let_go(self) -> bool {
        self.turns.store(self.turns.load(Relaxed).wrapping_add(1), Relaxed);
        faults::point();
        let mut word = self.word.load(Relaxed);
        while word & MOVED == 0 {
            match self.word.compare_exchange_weak(word, 0, Release, Relaxed) {
                Ok(_) => {
                    faults::point();
                    if word & SLEEPERS != 0 {
                        let _ = futex::wake(self.word, futex::Flags::empty(), 1);
                    }
                    return true;
                }
                Err(now) => word = now,
            }
        }
        false
    }

    /// Goes, after the lines did: the area may be used again.
    pub(super) fn leave(self) {
        self.word.store(0, Release);
        faults::point();
    }

    /// Says that the area is being copied while its owner is inside. False: there is no owner, or the lines have gone.
    pub(super) fn begin_copy(self) -> bool {
        let mut word = self.word.load(Relaxed);
        while word != 0 && word & MOVED == 0 {
            match self.word.compare_exchange_weak(word, word | COPYING, SeqCst, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Says that the lines are elsewhere from now on. False: the owner let go since [`begin_copy`](Lock::begin_copy), and
    /// the copy is worth nothing.
    pub(super) fn end_copy(self) -> bool {
        let mut word = self.word.load(Relaxed);
        while word & COPYING != 0 {
            let moved = (word & ((1 << WHO_BITS) - 1)) | MOVED;
            match self.word.compare_exchange_weak(word, moved, SeqCst, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Wakes all who sleep on the word.
    pub(super) fn wake_all(self) {
        let _ = futex::wake(self.word, futex::Flags::empty(), i32::MAX.unsigned_abs());
    }

    /// Takes the lock of an area that is not in use: free, or left by somebody who died in it.
    pub(super) fn take_spare(self, me: Who, alive: impl Fn(Who) -> bool) -> bool {
        let word = self.word.load(Relaxed);
        let dead = Who::from_raw(word).is_some_and(|who| !alive(who));
        (word == 0 || dead) && self.word.compare_exchange(word, me.raw(), Acquire, Relaxed).is_ok()
    }
}
