//! A shard's cells as an [`Arena`] with an undo log in the file itself.
//!
//! A store is: note the word's index and old value in the log, raise the log's count, store. A commit sets the count to
//! zero. Whoever finds a count above zero under a dead owner's lock puts the old values back, newest first, and only
//! then sets the count to zero; so it may itself be killed at any instant and the next one does it all again.
//!
//! Why plain stores are enough: a killed process has executed a prefix of its instructions, and the compiler keeps the
//! order across `compiler_fence`. The order in which another core *sees* them does not matter: it looks only after the
//! kernel has told it that the owner is dead, and all the owner's stores come before that.

use std::cell::Cell;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU64, compiler_fence};

use super::faults;
use super::layout::{self, CELLS_MAX, LOG_MAX};
use crate::core::line::Arena;
use crate::core::line::arena::CELL;

/// What makes room in the file.
pub(super) trait Room {
    /// Allocates `len` bytes from `at` on. False: there is no room.
    fn allocate(&self, at: u64, len: u64) -> bool;
}

/// The cells of one shard, while its lock is held.
pub(super) struct Journal<'a> {
    shard: usize,
    cells: &'a [AtomicU64],
    log: &'a [AtomicU64],
    logged: &'a AtomicU64,
    steps: &'a AtomicU64,
    allocated: &'a AtomicU64,
    room: &'a dyn Room,
    /// Words that may be used: those of the allocated cells.
    limit: usize,
    entries: usize,
    bad: Cell<bool>,
}

impl<'a> Journal<'a> {
    /// The arena of a shard. Whoever makes it holds the shard's lock, and its log is empty.
    #[inline]
    pub(super) fn new(words: &'a [AtomicU64], shard: usize, room: &'a dyn Room) -> Journal<'a> {
        let allocated = &words[layout::shard::cells_w(shard)];
        let cells = &words[layout::shard::cells(shard)];
        Journal {
            shard,
            cells,
            log: &words[layout::shard::log_w(shard)],
            logged: &words[layout::shard::logged_w(shard)],
            steps: &words[layout::shard::steps_w(shard)],
            allocated,
            room,
            limit: limit(allocated).min(cells.len()),
            entries: 0,
            bad: Cell::new(false),
        }
    }

    fn word(&self, at: usize) -> Option<&'a AtomicU64> {
        if at < self.limit { self.cells.get(at) } else { None }
    }
}

impl Arena for Journal<'_> {
    #[inline]
    fn get(&self, at: usize) -> u64 {
        match self.word(at) {
            Some(word) => word.load(Relaxed),
            None => {
                self.fault();
                0
            }
        }
    }

    #[inline]
    fn set(&mut self, at: usize, new: u64) {
        let Some(word) = self.word(at) else { return self.fault() };
        let old = word.load(Relaxed);
        if old == new {
            return;
        }
        let Some([index, value]) = self.log.get(2 * self.entries..2 * self.entries + 2) else {
            return self.fault(); // a step of more than LOG_MAX stores: it could not be undone, so it is not done
        };
        faults::point();
        index.store(at as u64, Relaxed);
        value.store(old, Relaxed);
        self.entries += 1;
        self.logged.store(self.entries as u64, Release);
        compiler_fence(SeqCst);
        faults::point();
        word.store(new, Relaxed);
    }

    #[inline]
    fn put(&mut self, at: usize, new: u64) {
        let Some(word) = self.word(at) else { return self.fault() };
        faults::point();
        word.store(new, Relaxed);
    }

    fn cells(&self) -> u32 {
        u32::try_from(self.limit / CELL).unwrap_or(u32::MAX)
    }

    fn grow(&mut self) -> bool {
        let had = self.limit / CELL;
        let Some(more) = layout::grown(had) else { return false };
        let (at, len) = layout::cell_bytes(self.shard, had, more);
        faults::point();
        if !self.room.allocate(at, len) {
            return false;
        }
        faults::point();
        self.allocated.store(more as u64, Release);
        self.limit = more * CELL;
        true
    }

    fn commit(&mut self) {
        if self.entries == 0 {
            return;
        }
        faults::point();
        end_step(self.steps, self.logged);
        self.entries = 0;
        faults::point();
    }

    fn abort(&mut self) {
        roll_back(&self.cells[..self.limit], self.log, self.logged);
        end_step(self.steps, self.logged);
        self.entries = 0;
    }

    fn fault(&self) {
        self.bad.set(true);
    }

    fn faulty(&self) -> bool {
        self.bad.get()
    }
}

/// Undoes an unfinished step of a shard. Whoever calls this holds the shard's lock.
pub(super) fn undo(words: &[AtomicU64], shard: usize) {
    let logged = &words[layout::shard::logged_w(shard)];
    if logged.load(Acquire) != 0 {
        let cells = &words[layout::shard::cells(shard)];
        let limit = limit(&words[layout::shard::cells_w(shard)]).min(cells.len());
        roll_back(&cells[..limit], &words[layout::shard::log_w(shard)], logged);
        end_step(&words[layout::shard::steps_w(shard)], logged);
    }
}

/// How many words may be used, by the shard's count of cells.
pub(super) fn limit(allocated: &AtomicU64) -> usize {
    usize::try_from(allocated.load(Acquire)).map_or(CELLS_MAX, |n| n.min(CELLS_MAX)) * CELL
}

/// Puts the old words back. The log stays in force.
fn roll_back(cells: &[AtomicU64], log: &[AtomicU64], logged: &AtomicU64) {
    let count = usize::try_from(logged.load(Acquire)).map_or(LOG_MAX, |n| n.min(LOG_MAX));
    let (pairs, _) = log.as_chunks::<2>();
    for [index, value] in pairs[..count].iter().rev() {
        let at = usize::try_from(index.load(Relaxed)).unwrap_or(usize::MAX);
        if let Some(word) = cells.get(at) {
            faults::point();
            word.store(value.load(Relaxed), Relaxed);
        }
    }
    faults::point();
}

/// Ends a step: what its log holds is no longer in force. Whoever copies the cells meanwhile (`rescue.rs`) sees by the
/// count of steps that they are another's.
fn end_step(steps: &AtomicU64, logged: &AtomicU64) {
    compiler_fence(SeqCst);
    steps.store(steps.load(Relaxed).wrapping_add(1), Release);
    compiler_fence(SeqCst);
    logged.store(0, Release);
}
