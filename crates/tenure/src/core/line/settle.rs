//! The steps that verbs are made of: a claim is granted, leaves its line, is anchored; a line is settled.

use super::cells::{self, CLAIM, LOCK, NONE, claim, hi, lo, lock, pair, root, state};
use super::tree::{self, ById, ByLock, ByName, BySeq};
use super::{Arena, Event, Kind, Lines, Now, Previous, RW_CAPACITY, Refusal, ends};
use crate::core::lease::MARK_LIFE;

/// How many marks a verb drops at most.
const MARKS_A_VERB: u32 = 4;
/// How long a mark lives, in ns.
#[allow(clippy::cast_possible_truncation)] // a minute
pub(super) const MARK_NS: u64 = MARK_LIFE.as_nanos() as u64;

/// What a claim that leaves its line leaves behind.
#[derive(Clone, Copy)]
pub(super) enum Behind<'a> {
    Nothing,
    Mark,
    Eviction(&'a [u8]),
}

impl<A: Arena> Lines<A> {
    /// The key's hash.
    pub(super) fn name<'k>(&self, key: &'k [u8]) -> ByName<'k> {
        ByName { hash: cells::hash(self.root(root::SEED), key), key }
    }

    /// The lock's cell, or [`NONE`].
    pub(super) fn lock(&self, name: &ByName<'_>) -> u32 {
        let found = tree::find(&self.arena, lo(self.root(root::LOCKS)), name);
        self.checked(found, LOCK)
    }

    /// The cell of a claim or a mark, or [`NONE`].
    pub(super) fn claim(&self, id: u128) -> u32 {
        let found = tree::find(&self.arena, lo(self.root(root::INDEX)), &ById(id));
        self.checked(found, CLAIM)
    }

    pub(super) fn checked(&self, cell: u32, tag: u32) -> u32 {
        if cell == NONE || self.tag(cell) == tag {
            return cell;
        }
        self.arena.fault();
        NONE
    }

    pub(super) fn state(&self, c: u32) -> u32 {
        lo(self.at(c, claim::STATE)) & 0xFF
    }

    pub(super) fn weight(&self, c: u32) -> u32 {
        hi(self.at(c, claim::STATE))
    }

    /// The trees of held and of waiting claims.
    pub(super) fn line(&self, l: u32) -> (u32, u32) {
        let line = self.at(l, lock::LINE);
        (lo(line), hi(line))
    }

    /// Whether a claim fits beside the holders. The least capacity counts that one of them, or the claim, names.
    pub(super) fn fits(&self, l: u32, weight: u32, capacity: u32) -> bool {
        let least = tree::least(&self.arena, self.line(l).0).min(capacity);
        self.at(l, lock::USED).saturating_add(u64::from(weight)) <= u64::from(least)
    }

    /// Puts a claim or a mark into the index.
    pub(super) fn index(&mut self, c: u32, id: u128) {
        let top = lo(self.root(root::INDEX));
        let top = tree::insert(&mut self.arena, top, c, &ById(id), &mut self.by_id);
        self.set_root(root::INDEX, u64::from(top));
    }

    /// Takes a claim or a mark out of the index.
    pub(super) fn unindex(&mut self, c: u32) {
        let (top, key) = (lo(self.root(root::INDEX)), ById(self.id(c)));
        let top = tree::remove(&mut self.arena, top, c, &key, &mut self.by_id);
        self.set_root(root::INDEX, u64::from(top));
    }

    /// Adds to the counts of locks and of claims.
    pub(super) fn count(&mut self, locks: i32, claims: i32) {
        let counts = self.root(root::COUNTS);
        let counts = pair(lo(counts).wrapping_add_signed(locks), hi(counts).wrapping_add_signed(claims));
        self.set_root(root::COUNTS, counts);
    }

    /// Brings the sums above a lock up to date.
    pub(super) fn touch(&mut self, l: u32) {
        if tree::lock_soon_of(&self.arena, l) != self.at(l, lock::SOON) {
            let locks = lo(self.root(root::LOCKS));
            tree::refresh(&mut self.arena, locks, l, &ByLock(l), &mut self.by_name);
        }
    }

    /// The token that the next exclusive grant would get.
    pub(super) fn next_token(&self, now: Now) -> Result<i64, Refusal> {
        let Ok(last) = i64::try_from(self.root(root::LAST)) else { return Err(self.corrupt()) };
        let token = last.saturating_add(1).max(i64::try_from(now.wall_us).unwrap_or(i64::MAX));
        if token >= now.ceiling { Err(Refusal::Ceiling(token)) } else { Ok(token) }
    }

    /// Refuses, before anything changes, what would later stop at the ceiling: one settled line gives one new token
    /// at most, since readers share theirs.
    pub(super) fn room_for_grants(&self, l: u32, now: Now) -> Result<(), Refusal> {
        if self.line(l).1 != NONE && self.kind(l)? != Kind::Semaphore {
            self.next_token(now)?;
        }
        Ok(())
    }

    /// The token for a grant in this line; 0 where the kind has none.
    pub(super) fn token(&mut self, l: u32, weight: u32, now: Now) -> Result<i64, Refusal> {
        let kind = self.kind(l)?;
        let reads = kind == Kind::ReadWrite && weight < RW_CAPACITY;
        let shared = self.at(l, lock::SHARED).cast_signed();
        if kind == Kind::Semaphore || (reads && shared != 0) {
            return Ok(if reads { shared } else { 0 });
        }
        let token = self.next_token(now)?;
        self.set_root(root::LAST, token.cast_unsigned());
        self.set(l, lock::NEWEST, token.cast_unsigned());
        self.set(l, lock::SHARED, if reads { token.cast_unsigned() } else { 0 });
        Ok(token)
    }

    /// A lock's cell, not yet in the tree.
    pub(super) fn new_lock(&mut self, name: &ByName<'_>, kind: Kind) -> Result<u32, Refusal> {
        let l = self.alloc(LOCK)?;
        self.put(l, lock::HASH, name.hash[0]);
        self.put(l, lock::HASH + 1, name.hash[1]);
        for field in lock::LINKS..=lock::BROKEN.head {
            self.put(l, field, 0);
        }
        self.put(l, lock::KIND, ends::kind_word(kind as u32, self.last_end(name.hash)));
        if self.write_text(l, &lock::KEY, name.key, true)? < name.key.len() {
            return Err(Refusal::Full);
        }
        Ok(l)
    }

    /// Makes a new claim stand in the held or the waiting tree, with its fields written.
    pub(super) fn place(&mut self, l: u32, c: u32, held: bool) {
        let seq = BySeq(self.at(c, claim::SEQ));
        let (mut holders, mut waiters) = self.line(l);
        if held {
            holders = tree::insert(&mut self.arena, holders, c, &seq, &mut self.way);
            let used = self.at(l, lock::USED).saturating_add(u64::from(self.weight(c)));
            self.set(l, lock::USED, used);
        } else {
            waiters = tree::insert(&mut self.arena, waiters, c, &seq, &mut self.way);
        }
        self.set(l, lock::LINE, pair(holders, waiters));
    }

    /// The opposite. The lock may be left without claims.
    pub(super) fn unplace(&mut self, l: u32, c: u32) {
        let seq = BySeq(self.at(c, claim::SEQ));
        let (mut holders, mut waiters) = self.line(l);
        if self.state(c) == state::WAITING {
            waiters = tree::remove(&mut self.arena, waiters, c, &seq, &mut self.way);
        } else {
            holders = tree::remove(&mut self.arena, holders, c, &seq, &mut self.way);
            let Some(used) = self.at(l, lock::USED).checked_sub(u64::from(self.weight(c))) else {
                return self.arena.fault();
            };
            self.set(l, lock::USED, used);
        }
        self.set(l, lock::LINE, pair(holders, waiters));
    }

    /// Takes a claim out of its line, in one step with the lock if that is empty then. `how`: how its hold ends, if it is one.
    /// Says whether the lock lives.
    pub(super) fn leave(
        &mut self,
        c: u32,
        how: Previous,
        behind: Behind<'_>,
        now: Now,
    ) -> Result<bool, Refusal> {
        let l = self.checked(lo(self.at(c, claim::LOCK_SLOT)), LOCK);
        if l == NONE {
            return Err(self.corrupt());
        }
        self.ends(l, c, how)?;
        self.unplace(l, c);
        self.unanchor(c);
        self.free_text(c, &claim::NOTE);
        match behind {
            Behind::Nothing => {
                self.unindex(c);
                self.free(c);
            }
            Behind::Mark => {
                self.set(c, claim::STATE, u64::from(state::MARK));
                self.write_text(c, &claim::NOTE, b"", false)?;
                self.append_mark(c, now);
            }
            Behind::Eviction(why) => {
                self.set(c, claim::STATE, u64::from(state::EVICTED));
                self.write_text(c, &claim::NOTE, why, false)?;
                self.append_mark(c, now);
            }
        }
        let alive = self.at(l, lock::LINE) != 0;
        self.count(if alive { 0 } else { -1 }, -1);
        if alive {
            self.touch(l);
        } else {
            self.keep_end(l, now);
            self.delete(l);
        }
        self.commit()?;
        Ok(alive)
    }

    fn delete(&mut self, l: u32) {
        let top = lo(self.root(root::LOCKS));
        let top = tree::remove(&mut self.arena, top, l, &ByLock(l), &mut self.by_name);
        self.set_root(root::LOCKS, u64::from(top));
        self.free_text(l, &lock::KEY);
        self.free_text(l, &lock::BROKEN);
        self.free(l);
    }

    /// Puts a cell that is in the index at the end of the list of marks.
    pub(super) fn append_mark(&mut self, c: u32, now: Now) {
        self.set(c, claim::LOCK_SLOT, 0);
        self.set(c, claim::LINE_LINKS, 0);
        self.set(c, claim::END, now.ns.saturating_add(MARK_NS));
        let marks = self.root(root::MARKS);
        if marks == 0 {
            self.set_root(root::MARKS, pair(c, c));
        } else {
            self.set(hi(marks), claim::LINE_LINKS, u64::from(c));
            self.set_root(root::MARKS, pair(lo(marks), c));
        }
        let count = self.root(root::MARK_COUNT).wrapping_add(1);
        self.set_root(root::MARK_COUNT, count);
    }

    /// What is known under an id, mark or claim, or [`NONE`]; a mark whose time is over no longer counts.
    pub(super) fn known(&mut self, id: u128, now: Now) -> Result<u32, Refusal> {
        let top = lo(self.root(root::INDEX));
        let c = tree::seek(&self.arena, top, &ById(id), &mut self.by_id);
        let c = self.checked(c, CLAIM);
        let mark = c != NONE && matches!(self.state(c), state::MARK | state::EVICTED);
        if !mark || self.at(c, claim::END) >= now.ns {
            return Ok(c);
        }
        self.drop_marks(self.arena.cells(), now)?;
        Ok(self.claim(id))
    }

    /// Drops the oldest marks whose time is over. One lives a moment longer than the oldest attempt that is listened to.
    fn drop_marks(&mut self, most: u32, now: Now) -> Result<(), Refusal> {
        for _ in 0..most {
            let marks = self.root(root::MARKS);
            let c = self.checked(lo(marks), CLAIM);
            if c == NONE || self.at(c, claim::END) >= now.ns {
                break;
            }
            let next = lo(self.at(c, claim::LINE_LINKS));
            self.set_root(root::MARKS, if next == NONE { 0 } else { pair(next, hi(marks)) });
            let count = self.root(root::MARK_COUNT).wrapping_sub(1);
            self.set_root(root::MARK_COUNT, count);
            self.unindex(c);
            self.free_text(c, &claim::NOTE);
            self.free(c);
            self.commit()?;
        }
        Ok(())
    }

    /// What every verb begins with: the oldest marks go, and a few lines that nobody visits.
    pub(super) fn tidy(&mut self, budget: u32, now: Now) -> Result<(), Refusal> {
        self.drop_marks(MARKS_A_VERB, now)?;
        for _ in 0..budget {
            let locks = lo(self.root(root::LOCKS));
            if locks == NONE || tree::lock_soon(&self.arena, locks) > now.ns {
                break;
            }
            let l = self.checked(tree::overdue(&self.arena, locks, now.ns), LOCK);
            if l == NONE {
                return Err(self.corrupt());
            }
            self.settle(l, now)?;
        }
        Ok(())
    }

    /// Removes the claims whose lease ended and grants what became free, claim by claim. Says whether the lock lives.
    pub(super) fn settle(&mut self, l: u32, now: Now) -> Result<bool, Refusal> {
        let mut expired = false;
        // A claim is granted once and removed once at most.
        for _ in 0..=u64::from(self.arena.cells()) * 2 {
            if tree::line_soon(&self.arena, l) <= now.ns {
                let (holders, waiters) = self.line(l);
                let late = if tree::soon(&self.arena, holders) <= now.ns { holders } else { waiters };
                let c = self.checked(tree::expired(&self.arena, late, now.ns), CLAIM);
                if c == NONE {
                    break;
                }
                let marked = self.state(c) == state::KEPT_THEN_MARK;
                // What was released and only kept is released now, but for what expires beside it.
                expired |= self.state(c) == state::HELD;
                let how = if expired { Previous::Expired } else { Previous::Released };
                if !self.leave(c, how, if marked { Behind::Mark } else { Behind::Nothing }, now)? {
                    return Ok(false);
                }
                continue;
            }
            let (_, waiters) = self.line(l);
            if waiters == NONE {
                return Ok(true);
            }
            let c = self.checked(tree::first(&self.arena, waiters), CLAIM);
            if !self.fits(l, self.weight(c), lo(self.at(c, claim::CAPACITY))) {
                return Ok(true);
            }
            self.grant(l, c, now)?;
        }
        Err(self.corrupt())
    }

    fn grant(&mut self, l: u32, c: u32, now: Now) -> Result<(), Refusal> {
        let weight = self.weight(c);
        let token = self.token(l, weight, now)?;
        self.unplace(l, c);
        let before = self.ended(l);
        self.set(c, claim::STATE, pair(ends::granted(state::HELD, before), weight));
        self.set(c, claim::TOKEN, token.cast_unsigned());
        self.set(c, claim::SINCE, now.wall_us);
        self.set(c, claim::END, now.ns.saturating_add(self.at(c, claim::TTL)));
        self.place(l, c, true);
        self.touch(l);
        self.commit()?;
        let event = Event::Granted { id: self.id(c), slot: hi(self.at(c, claim::LOCK_SLOT)) };
        self.events.push(event);
        Ok(())
    }

    pub(super) fn id(&self, c: u32) -> u128 {
        cells::id_of(&self.arena, c)
    }
}
