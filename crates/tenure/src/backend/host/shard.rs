//! A shard of the store whose lock is held.

use std::sync::atomic::Ordering::Relaxed;

use super::format;
use super::journal::{self, Journal};
use super::lock::Lock;
use super::store::Inner;
use crate::core::line::{Lines, Refusal};

/// A locked shard. Dropping it undoes an unfinished step (a verb that panicked) and lets the lock go.
pub(super) struct Shard<'a> {
    store: &'a Inner,
    number: usize,
    generation: u64,
    /// Its last owner died or is stopped: some process may wait for a push that was never sent.
    pub(super) inherited: bool,
    /// Nothing is left to do when it is dropped.
    pub(super) left: bool,
}

impl<'a> Shard<'a> {
    /// A shard whose lock is held, or about to be taken.
    #[inline]
    pub(super) fn new(store: &'a Inner, number: usize, generation: u64) -> Shard<'a> {
        Shard { store, number, generation, inherited: false, left: false }
    }

    pub(super) fn area(&self) -> usize {
        format::area(self.number, self.generation)
    }

    pub(super) fn lock(&self) -> Lock<'a> {
        self.store.lock_of(self.area())
    }

    /// Its lines.
    pub(super) fn lines(&self) -> Result<Lines<Journal<'_>>, Refusal> {
        let mut lines = self.unopened();
        self.open(&mut lines)?;
        Ok(lines)
    }

    /// Its lines, before [`open`](Shard::open). They are large, so a verb opens them in place instead of moving them.
    #[inline]
    pub(super) fn unopened(&self) -> Lines<Journal<'_>> {
        Lines::unopened(Journal::new(&self.store.map, self.area(), self.store))
    }

    /// Makes the lines usable.
    #[inline]
    pub(super) fn open(&self, lines: &mut Lines<Journal<'_>>) -> Result<(), Refusal> {
        let words = self.store.map.words();
        lines.open(format::mix(self.store.header.seed ^ self.number as u64))?;
        let floored = &words[format::shard::floored_w(self.area())];
        if floored.load(Relaxed) == 0 {
            lines.raise_token(self.store.header.floor);
            floored.store(1, Relaxed);
        }
        Ok(())
    }

    /// Lets the lock go. False: the lines were taken elsewhere meanwhile, and what was done or seen here does not stand.
    #[inline]
    pub(super) fn let_go(mut self) -> bool {
        self.end()
    }

    #[inline]
    fn end(&mut self) -> bool {
        self.left = true;
        journal::undo(&self.store.map, self.area());
        let stands = self.lock().let_go();
        if !stands {
            // First the one, then the other: whoever finds the area free must also find it out of use.
            self.store.advance(self.number, self.generation);
            self.lock().leave();
        }
        if self.inherited {
            self.store.ring_all();
        }
        stands
    }
}

impl Drop for Shard<'_> {
    fn drop(&mut self) {
        if !self.left {
            self.end();
        }
    }
}
