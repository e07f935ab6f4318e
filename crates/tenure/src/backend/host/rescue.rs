//! Rescue: the lines of a shard go on although a process that lives stays inside, stopped or starved in mid-verb.
//!
//! A shard has two areas. Whoever finds the owner of the one in use inside for too long copies its cells and its undo
//! log to the other, undoes the unfinished step there, and makes that area the one in use. The sleeper may wake at any
//! instant and goes on in the old area, where nobody looks any more; when it lets go it sees that its lines have moved,
//! and runs its verb again in the new area. Verbs are idempotent on the claim's id, so what it had done before it slept
//! is found there, and what it did afterwards is done again.
//!
//! Why the copy is whole although its owner may wake while it is made: it counts only if the same step was under way,
//! with as many entries in its log, before and after. Every store in between is then one that the log undoes, or one to
//! a cell that nothing leads to yet. A step that ended meanwhile has raised the count of steps first. And if the owner
//! lets go before the lines are declared moved, the flag in its lock word is gone and so is the copy.
//!
//! This reads what another processor writes *while it runs*, and takes the order of its stores to be the order in which
//! they are seen. x86-64 promises that. Elsewhere nobody is rescued: others wait, and are told for whom.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use super::chunks::{self, CHUNKS};
use super::format::{self, LOG_MAX, header, shard};
use super::journal::{self, Room};
use super::lock::Lock;
use super::store::{BLOCKED, Inner};
use super::{create, faults};
use crate::core::line::NEXT_WORD;
use crate::core::line::arena::CELL;

impl Inner {
    /// How often the lines of a shard have moved.
    pub(super) fn generation(&self, shard: usize) -> u64 {
        self.map.words()[header::generation_w(shard)].load(Acquire)
    }

    /// Notes that the lines of a shard have moved. Whoever sees it may do it.
    pub(super) fn advance(&self, shard: usize, generation: u64) {
        let word = &self.map.words()[header::generation_w(shard)];
        let _ = word.compare_exchange(generation, generation.wrapping_add(1), SeqCst, Relaxed);
    }

    /// Takes the lines of a shard to its other area, whose lock is held then. False: that could not be done, or somebody
    /// else did it; look again where they are.
    pub(super) fn rescue(&self, shard: usize, generation: u64) -> bool {
        if !cfg!(target_arch = "x86_64") {
            return false;
        }
        let (halves, words) = (self.map.halves(), self.map.words());
        let rescuers = Lock { word: &halves[header::RESCUING_H], turns: &words[header::RESCUED_W] };
        if rescuers.take(self.me, BLOCKED, |who| self.slots().alive(who, self.me)).is_err() {
            return false;
        }
        let rescued = self.generation(shard) == generation && self.move_lines(shard, generation);
        let _ = rescuers.let_go();
        rescued
    }

    fn move_lines(&self, shard: usize, generation: u64) -> bool {
        let (from, to) = (format::area(shard, generation), format::area(shard, generation.wrapping_add(1)));
        let (old, new) = (self.lock_of(from), self.lock_of(to));
        // The other area may still have an earlier sleeper inside: then there is nowhere to go.
        if !new.take_spare(self.me, |who| self.slots().alive(who, self.me)) {
            return false;
        }
        faults::point();
        let moved = old.begin_copy() && self.copy(from, to) && old.end_copy();
        faults::point();
        if !moved {
            let _ = new.let_go();
            return false;
        }
        self.advance(shard, generation);
        faults::point();
        old.wake_all();
        let pid = super::slots::Who::from_raw(old.word.load(Relaxed)).map_or(0, |who| self.slots().pid(who));
        tracing::warn!(pid, "a process stays inside the store, perhaps stopped: others go on without it");
        true
    }

    /// Copies an area. False: its owner went on meanwhile, or there is no room.
    fn copy(&self, from: usize, to: usize) -> bool {
        let words = self.map.words();
        let step = || (words[shard::steps_w(from)].load(SeqCst), words[shard::logged_w(from)].load(SeqCst));
        let before = step();
        fence(SeqCst);
        let limit = journal::limit(&words[shard::cells_w(from)]);
        if self.reach(from, limit).is_err() {
            return false;
        }
        let Some(next) = self.map.chunk(from, 0).get(NEXT_WORD) else { return false };
        let used = usize::try_from(next.load(Relaxed)).map_or(limit, |used| used.min(limit));
        if !self.make_room(to, used) {
            return false;
        }
        let copy = |to: &[AtomicU64], from: &[AtomicU64]| {
            for (to, from) in to.iter().zip(from) {
                to.store(from.load(Relaxed), Relaxed);
            }
        };
        faults::point();
        words[shard::logged_w(to)].store(0, Relaxed);
        for chunk in 0..=chunks::of(used.max(1) - 1) {
            let words = (used - chunks::start(chunk)) * CELL;
            let (source, target) = (self.map.chunk(from, chunk), self.map.chunk(to, chunk));
            copy(&target[..words.min(target.len())], source);
        }
        let logged = usize::try_from(before.1).map_or(LOG_MAX, |n| n.min(LOG_MAX));
        copy(&words[shard::log_w(to)][..2 * logged], &words[shard::log_w(from)]);
        let floored = words[shard::floored_w(from)].load(Relaxed);
        fence(SeqCst);
        if step() != before {
            return false;
        }
        faults::point();
        words[shard::floored_w(to)].store(floored, Relaxed);
        words[shard::logged_w(to)].store(logged as u64, Release);
        journal::undo(&self.map, to);
        true
    }

    /// Makes sure that an area that is not in use has at least so many cells, mapped here.
    fn make_room(&self, area: usize, cells: usize) -> bool {
        let allocated = &self.map.words()[shard::cells_w(area)];
        let mut have = journal::limit(allocated);
        if have == 0 {
            let (at, len) = format::rest_bytes(area);
            if create::allocate(self.file(), at, len).is_err() {
                return false;
            }
        }
        while have == 0 || have < cells {
            let chunk = chunks::of(have);
            if chunk >= CHUNKS || !self.make_chunk(area, chunk) {
                return false;
            }
            have = chunks::start(chunk + 1);
        }
        allocated.store(have as u64, Release);
        self.reach(area, have).is_ok()
    }
}
