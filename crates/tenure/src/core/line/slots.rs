//! Which claims are anchored to which process: a list a process slot. A slot's record stays until the slot is reaped, so
//! that the only claim of a process does not make and free it each time.

use super::cells::{CLAIM, LOCK, NONE, SLOT, claim, hi, lo, pair, root, slot};
use super::settle::Behind;
use super::tree::{self, BySlot};
use super::verbs::SWEEP;
use super::{Arena, Lines, NO_SLOT, Now, Previous, Refusal};

impl<A: Arena> Lines<A> {
    /// Removes all claims that are anchored to a process slot, since that process is gone, and grants what became
    /// free; says how many.
    ///
    /// # Errors
    /// `Ceiling` and `Corrupt`.
    pub fn reap(&mut self, slot: u32, now: Now) -> Result<u32, Refusal> {
        let result = self.reap_steps(slot, now);
        self.finish(result)
    }

    fn reap_steps(&mut self, number: u32, now: Now) -> Result<u32, Refusal> {
        self.tidy(SWEEP, now)?;
        let s = if number == NO_SLOT { NONE } else { self.slot(number) };
        if s == NONE {
            return Ok(0);
        }
        let mut locks = Vec::new();
        let mut c = lo(self.at(s, slot::FIRST));
        while c != NONE && locks.len() <= self.arena.cells() as usize {
            let l = lo(self.at(self.checked(c, CLAIM), claim::LOCK_SLOT));
            locks.push(l);
            c = lo(self.at(c, claim::SLOT_LINKS));
        }
        let reaped = u32::try_from(locks.len()).map_err(|_| self.corrupt())?;
        // Every line gives one token at most: enough for all of them, or nothing changes.
        let last = self.next_token(now)?.saturating_add(i64::from(reaped));
        if last >= now.ceiling {
            return Err(Refusal::Ceiling(last));
        }
        // First all of them go and then the lines are settled, so that nothing is granted to the dead.
        for _ in 0..reaped {
            let c = self.checked(lo(self.at(s, slot::FIRST)), CLAIM);
            if c == NONE {
                return Err(self.corrupt());
            }
            self.leave(c, Previous::Expired, Behind::Nothing, now)?;
        }
        let top = lo(self.root(root::SLOTS));
        let top = tree::remove(&mut self.arena, top, s, &BySlot(number), &mut self.way);
        self.set_root(root::SLOTS, u64::from(top));
        self.free(s);
        self.commit()?;
        locks.sort_unstable();
        locks.dedup();
        for l in locks {
            // No cell is allocated on the way, so a lock that died is a free cell.
            if self.tag(l) == LOCK {
                self.settle(l, now)?;
            }
        }
        Ok(reaped)
    }

    /// The ids of all claims that are anchored to a process slot.
    pub fn anchored(&self, number: u32) -> Vec<u128> {
        let s = if number == NO_SLOT { NONE } else { self.slot(number) };
        let mut c = if s == NONE { NONE } else { lo(self.at(s, slot::FIRST)) };
        let mut ids = Vec::new();
        while c != NONE && ids.len() <= self.arena.cells() as usize {
            c = self.checked(c, CLAIM);
            ids.push(self.id(c));
            c = lo(self.at(c, claim::SLOT_LINKS));
        }
        ids
    }

    /// The process slots of the first holders (at most 8) and the first two waiters of a lock: whether those processes
    /// live is worth a look.
    pub fn holder_slots(&self, key: &[u8], out: &mut Vec<u32>) {
        out.clear();
        let l = self.lock(&self.name(key));
        if l == NONE {
            return;
        }
        let (holders, waiters) = self.line(l);
        for (line, most) in [(holders, 8), (waiters, 2)] {
            for c in self.claims(line, most, 0) {
                let slot = hi(self.at(c, claim::LOCK_SLOT));
                if slot != NO_SLOT && !out.contains(&slot) {
                    out.push(slot);
                }
            }
        }
    }

    /// The record of a process slot, or [`NONE`].
    pub(super) fn slot(&self, number: u32) -> u32 {
        let found = tree::find(&self.arena, lo(self.root(root::SLOTS)), &BySlot(number));
        self.checked(found, SLOT)
    }

    /// Puts a claim on its slot's list.
    pub(super) fn anchor(&mut self, c: u32, number: u32) -> Result<(), Refusal> {
        if number == NO_SLOT {
            return Ok(());
        }
        let mut s = self.slot(number);
        if s == NONE {
            s = self.alloc(SLOT)?;
            self.put(s, slot::NUMBER, u64::from(number));
            self.put(s, slot::LINKS, 0);
            self.put(s, slot::FIRST, 0);
            let top = lo(self.root(root::SLOTS));
            let top = tree::insert(&mut self.arena, top, s, &BySlot(number), &mut self.way);
            self.set_root(root::SLOTS, u64::from(top));
        }
        let next = lo(self.at(s, slot::FIRST));
        self.set(c, claim::SLOT_LINKS, pair(next, NONE));
        if next != NONE {
            let links = self.at(next, claim::SLOT_LINKS);
            self.set(next, claim::SLOT_LINKS, pair(lo(links), c));
        }
        self.set(s, slot::FIRST, u64::from(c));
        Ok(())
    }

    /// Takes a claim off its slot's list.
    pub(super) fn unanchor(&mut self, c: u32) {
        let word = self.at(c, claim::LOCK_SLOT);
        if hi(word) == NO_SLOT {
            return;
        }
        let links = self.at(c, claim::SLOT_LINKS);
        let (next, previous) = (lo(links), hi(links));
        if next != NONE {
            let links = self.at(next, claim::SLOT_LINKS);
            self.set(next, claim::SLOT_LINKS, pair(lo(links), previous));
        }
        if previous == NONE {
            let s = self.slot(hi(word));
            if s == NONE {
                return self.arena.fault();
            }
            self.set(s, slot::FIRST, u64::from(next));
        } else {
            let links = self.at(previous, claim::SLOT_LINKS);
            self.set(previous, claim::SLOT_LINKS, pair(next, hi(links)));
        }
        self.set(c, claim::LOCK_SLOT, pair(lo(word), NO_SLOT));
    }
}
