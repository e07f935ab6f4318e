//! The lock word of a shard: 0, or the [`Who`] of the process inside and a flag that somebody sleeps.
//!
//! It names the process, so that whoever finds it taken can ask the kernel whether the owner lives, and take it over
//! if not. Threads of one process exclude each other by it like strangers: the word is taken by compare-and-swap from
//! 0, whoever had it before.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};
use std::time::{Duration, Instant};

use rustix::thread::futex;

use super::faults;
use super::slots::Who;

const SLEEPERS: u32 = 1 << 31;
const SPINS: u32 = 100;
/// How long to sleep before asking whether the owner lives.
const NAP: futex::Timespec = futex::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// How a lock was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// It was free, or its owner let it go.
    Free,
    /// Its owner had died inside: what it began must be undone.
    FromTheDead(Who),
}

/// The owner lives but has been inside for as long as one was willing to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stuck(pub(super) Option<Who>);

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
    pub(super) fn take(self, me: Who, patience: Duration, alive: impl Fn(Who) -> bool) -> Result<Got, Stuck> {
        if self.word.compare_exchange(0, me.raw(), Acquire, Relaxed).is_ok() {
            faults::point();
            return Ok(Got::Free);
        }
        self.wait(me, patience, alive)
    }

    #[cold]
    fn wait(self, me: Who, patience: Duration, alive: impl Fn(Who) -> bool) -> Result<Got, Stuck> {
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
            let marked = word | SLEEPERS;
            if word != marked && self.word.compare_exchange(word, marked, Relaxed, Relaxed).is_err() {
                continue;
            }
            if futex::wait(self.word, futex::Flags::empty(), marked, Some(&NAP))
                != Err(rustix::io::Errno::TIMEDOUT)
            {
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
                return Err(Stuck(owner));
            }
        }
    }

    /// Lets go.
    #[inline]
    pub(super) fn let_go(self) {
        self.turns.store(self.turns.load(Relaxed).wrapping_add(1), Relaxed);
        faults::point();
        let word = self.word.swap(0, Release);
        faults::point();
        if word & SLEEPERS != 0 {
            let _ = futex::wake(self.word, futex::Flags::empty(), 1);
        }
    }
}
