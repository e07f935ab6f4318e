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

use super::chunks::{self, CELLS_MAX, CHUNKS};
use super::faults;
use super::format::{self, LOG_MAX};
use super::map::Map;
use crate::core::line::Arena;
use crate::core::line::arena::CELL;

/// Where the second chunk begins.
const SECOND: usize = chunks::start(1) * CELL;

/// Makes room in the file.
pub(super) trait Room {
    /// Makes a chunk of an area and maps it, unless that was done before. False: there is no room.
    fn make_chunk(&self, area: usize, chunk: usize) -> bool;
}

/// The cells of one shard, while its lock is held.
pub(super) struct Journal<'a> {
    area: usize,
    map: &'a Map,
    /// The words of the first chunk, where most shards end.
    first: &'a [AtomicU64],
    /// Those of the second chunk, which a crowd at one lock needs.
    second: &'a [AtomicU64],
    /// The words of the chunk that was used last, and where they begin: a walk goes back and forth in few chunks.
    last: Cell<(usize, &'a [AtomicU64])>,
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
    /// The arena of an area. The caller holds its lock, has mapped its cells, and its log is empty.
    #[inline]
    pub(super) fn new(map: &'a Map, area: usize, room: &'a dyn Room) -> Journal<'a> {
        let words = map.words();
        let allocated = &words[format::shard::cells_w(area)];
        let (first, second, limit) = (map.chunk(area, 0), map.chunk(area, 1), limit(allocated) * CELL);
        Journal {
            area,
            map,
            first: &first[..first.len().min(limit)],
            second: &second[..second.len().min(limit.saturating_sub(SECOND))],
            last: Cell::new((0, &[])),
            log: &words[format::shard::log_w(area)],
            logged: &words[format::shard::logged_w(area)],
            steps: &words[format::shard::steps_w(area)],
            allocated,
            room,
            limit,
            entries: 0,
            bad: Cell::new(false),
        }
    }

    #[inline]
    fn word(&self, at: usize) -> Option<&'a AtomicU64> {
        if let Some(word) = self.first.get(at) {
            return Some(word);
        }
        match self.second.get(at.wrapping_sub(SECOND)) {
            None => self.later(at),
            word => word,
        }
    }

    /// A word beyond the second chunk.
    #[inline(never)]
    fn later(&self, at: usize) -> Option<&'a AtomicU64> {
        if at >= self.limit {
            return None;
        }
        let (start, words) = self.last.get();
        if let Some(word) = at.checked_sub(start).and_then(|at| words.get(at)) {
            return Some(word);
        }
        let chunk = chunks::of(at / CELL);
        let (start, words) = (chunks::start(chunk) * CELL, self.map.chunk(self.area, chunk));
        self.last.set((start, words));
        words.get(at - start)
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
        let chunk = chunks::of(self.limit / CELL);
        faults::point();
        if chunk >= CHUNKS || !self.room.make_chunk(self.area, chunk) {
            return false;
        }
        let more = chunks::start(chunk + 1);
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
        if roll_back(self.map, self.area, self.limit) {
            end_step(self.steps, self.logged);
        }
        self.entries = 0;
    }

    fn fault(&self) {
        self.bad.set(true);
    }

    fn faulty(&self) -> bool {
        self.bad.get()
    }
}

/// Undoes an unfinished step of an area, whose lock the caller holds. If not all of its cells are mapped here, the step
/// stays to be undone: the next one to take the lock does it.
pub(super) fn undo(map: &Map, area: usize) {
    let words = map.words();
    let logged = &words[format::shard::logged_w(area)];
    if logged.load(Acquire) != 0 {
        let limit = limit(&words[format::shard::cells_w(area)]) * CELL;
        if roll_back(map, area, limit) {
            end_step(&words[format::shard::steps_w(area)], logged);
        }
    }
}

/// How many cells may be used, by the area's count.
#[inline]
pub(super) fn limit(allocated: &AtomicU64) -> usize {
    usize::try_from(allocated.load(Acquire)).map_or(CELLS_MAX, |n| n.min(CELLS_MAX))
}

/// Puts the old words back. The log stays in force. False: a word is not mapped here.
fn roll_back(map: &Map, area: usize, limit: usize) -> bool {
    let words = map.words();
    let logged = words[format::shard::logged_w(area)].load(Acquire);
    let count = usize::try_from(logged).map_or(LOG_MAX, |n| n.min(LOG_MAX));
    let (pairs, _) = words[format::shard::log_w(area)].as_chunks::<2>();
    for [index, value] in pairs[..count].iter().rev() {
        let at = usize::try_from(index.load(Relaxed)).unwrap_or(usize::MAX);
        if at >= limit {
            continue; // a damaged log
        }
        let Some(word) = map.word(area, at) else { return false };
        faults::point();
        word.store(value.load(Relaxed), Relaxed);
    }
    faults::point();
    true
}

/// Ends a step: what its log holds is no longer in force. Whoever copies the cells meanwhile (`rescue.rs`) sees by the
/// count of steps that they are another's.
fn end_step(steps: &AtomicU64, logged: &AtomicU64) {
    compiler_fence(SeqCst);
    steps.store(steps.load(Relaxed).wrapping_add(1), Release);
    compiler_fence(SeqCst);
    logged.store(0, Release);
}
