//! The verbs. Each begins by settling what it is about, and does its own work in steps that are whole by themselves.

use super::cells::{self, CLAIM, LOCK, NONE, TEXT_MAX, claim, hi, lo, lock, pair, root, state};
use super::settle::{Behind, MARK_NS};
use super::tree::{self, ByLock, ByName, BySeq, Way};
use super::{
    Arena, Ask, Event, Found, Kind, Now, Place, Previous, RW_CAPACITY, Refusal, Trace, WAITERS_MAX, ends,
};

/// Many lines in one arena.
#[derive(Clone, Debug)]
pub struct Lines<A> {
    pub(super) arena: A,
    pub(super) events: Vec<Event>,
    /// Cells that the step under way gives back.
    pub(super) dead: Vec<u32>,
    /// The last ways through the index, the locks and any other tree. Good within a verb.
    pub(super) by_id: Way,
    pub(super) by_name: Way,
    pub(super) way: Way,
}

/// How many of each thing an arena holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Locks that somebody holds or waits for.
    pub locks: u32,
    /// Claims that hold or wait.
    pub claims: u32,
    /// Marks of claims that were withdrawn or evicted.
    pub marks: u32,
}

/// Refuses a weight and a capacity that no claim of its kind can have.
pub(super) fn weighs(ask: &Ask<'_>) -> Result<(), Refusal> {
    let capacity = match ask.kind {
        Kind::Mutex => 1,
        Kind::ReadWrite => RW_CAPACITY,
        Kind::Semaphore => ask.capacity,
    };
    if ask.weight == 0 || ask.weight > ask.capacity || ask.capacity != capacity {
        return Err(Refusal::Weight);
    }
    Ok(())
}

/// How many overdue lines a verb settles besides its own.
pub(super) const SWEEP: u32 = 2;

impl<A: Arena> Lines<A> {
    /// The lines in `arena`; an arena without any gets a root.
    ///
    /// # Errors
    /// `Full` where there is no room for a root, `Corrupt` where the arena holds something else.
    pub fn new(arena: A) -> Result<Lines<A>, Refusal> {
        Lines::with_seed(arena, 0x6C6F_636B_6C69_6E65)
    }

    /// The same. `seed` decides the shape of the trees of a fresh arena: draw it at random where strangers choose the
    /// names of locks, so that none of them can choose names that unbalance the trees.
    ///
    /// # Errors
    /// As [`new`](Lines::new).
    pub fn with_seed(arena: A, seed: u64) -> Result<Lines<A>, Refusal> {
        let mut lines = Lines::unopened(arena);
        lines.open(seed)?;
        Ok(lines)
    }

    /// The lines in `arena`, before [`open`](Lines::open): nothing else may be done with them.
    #[inline]
    pub(crate) fn unopened(arena: A) -> Lines<A> {
        Lines {
            arena,
            events: Vec::new(),
            dead: Vec::new(),
            by_id: Way::default(),
            by_name: Way::default(),
            way: Way::default(),
        }
    }

    /// The second half of [`with_seed`](Lines::with_seed).
    #[inline]
    pub(crate) fn open(&mut self, seed: u64) -> Result<(), Refusal> {
        if self.arena.cells() == 0 && !(self.arena.grow() && self.arena.cells() > 0) {
            return Err(Refusal::Full);
        }
        if self.root(root::MAGIC) == 0 {
            self.lay_out(seed)?;
        }
        let used = self.root(root::NEXT);
        if self.root(root::MAGIC) != root::MAGIC_WORD || used == 0 || used > u64::from(self.arena.cells()) {
            return Err(Refusal::Corrupt);
        }
        Ok(())
    }

    #[cold]
    fn lay_out(&mut self, seed: u64) -> Result<(), Refusal> {
        for field in root::FREE..=root::SLOTS {
            self.set_root(field, 0);
        }
        self.new_ends()?;
        self.set_root(root::SEED, seed);
        self.set_root(root::MAGIC, root::MAGIC_WORD);
        self.commit()
    }

    /// The memory.
    pub fn arena(&self) -> &A {
        &self.arena
    }

    /// The memory. Whoever writes to it directly answers for the lines in it.
    pub fn arena_mut(&mut self) -> &mut A {
        &mut self.arena
    }

    /// Undoes what a verb left unfinished, where one was cut short by a panic.
    pub fn recover(&mut self) {
        self.by_id.forget();
        self.by_name.forget();
        self.dead.clear();
        self.arena.abort();
    }

    /// Stands in line, or looks again: a claim that is there already keeps its place, and its lease is renewed. A new
    /// one is granted at once if it fits and nobody waits.
    ///
    /// # Errors
    /// Any [`Refusal`]; see there.
    pub fn attempt(&mut self, ask: &Ask<'_>, now: Now) -> Result<Place, Refusal> {
        let result = self.attempt_steps(ask, now);
        self.finish(result)
    }

    fn attempt_steps(&mut self, ask: &Ask<'_>, now: Now) -> Result<Place, Refusal> {
        weighs(ask)?;
        self.tidy(SWEEP, now)?;
        let name = self.name(ask.key);
        let l = self.settled(&name, now)?;
        let c = self.known(ask.id, now)?;
        if c != NONE {
            if !self.stands(c, l) {
                return Ok(self.gone(c));
            }
            self.extend(l, c, now);
            self.commit()?;
            return Ok(self.standing(l, c));
        }
        if now.ns.saturating_sub(ask.birth) > MARK_NS {
            return Ok(Place::Gone { why: None });
        }
        self.enter(ask, &name, l, now)
    }

    /// A claim that is not known yet; `l` is its lock if that lives.
    fn enter(&mut self, ask: &Ask<'_>, name: &ByName<'_>, l: u32, now: Now) -> Result<Place, Refusal> {
        let alive = l != NONE;
        let mut granted = true;
        if alive {
            let kind = self.kind(l)?;
            if kind != ask.kind {
                return Err(Refusal::Kind(kind));
            }
            let (_, waiters) = self.line(l);
            granted = waiters == NONE && self.fits(l, ask.weight, ask.capacity);
            if !granted && !ask.stand {
                return Ok(Place::Busy);
            }
            if !granted && tree::size(&self.arena, waiters) >= WAITERS_MAX {
                return Err(Refusal::TooMany);
            }
        }
        if ask.key.len() > TEXT_MAX || ask.note.len() > TEXT_MAX {
            return Err(Refusal::Full);
        }
        let l = if alive { l } else { self.new_lock(name, ask.kind)? };
        let c = self.new_claim(ask, l, granted, now)?;
        self.place(l, c, granted);
        self.count(i32::from(!alive), 1);
        if alive {
            self.touch(l);
        } else {
            let top = lo(self.root(root::LOCKS));
            let top = tree::insert(&mut self.arena, top, l, &ByLock(l), &mut self.by_name);
            self.set_root(root::LOCKS, u64::from(top));
        }
        self.commit()?;
        Ok(self.standing(l, c))
    }

    /// The cell of a new claim, in the index and on its slot's list, not yet in the line.
    fn new_claim(&mut self, ask: &Ask<'_>, l: u32, granted: bool, now: Now) -> Result<u32, Refusal> {
        let seq = self.at(l, lock::NEXT_SEQ);
        let token = if granted { self.token(l, ask.weight, now)? } else { 0 };
        let (state, lease) = if granted {
            (ends::granted(state::HELD, self.ended(l)), ask.ttl)
        } else {
            (state::WAITING, ask.waiting)
        };
        let c = self.alloc(CLAIM)?;
        #[allow(clippy::cast_possible_truncation)] // both halves
        let id = [(ask.id >> 64) as u64, ask.id as u64];
        self.put(c, claim::ID, id[0]);
        self.put(c, claim::ID + 1, id[1]);
        for field in claim::INDEX_LINKS..=claim::SOON {
            self.put(c, field, 0);
        }
        self.put(c, claim::LOCK_SLOT, pair(l, ask.slot));
        self.put(c, claim::STATE, pair(state, ask.weight));
        self.put(c, claim::CAPACITY, pair(ask.capacity, ask.capacity));
        self.put(c, claim::SEQ, seq);
        self.put(c, claim::END, now.ns.saturating_add(lease));
        self.put(c, claim::SINCE, now.wall_us);
        self.put(c, claim::TOKEN, token.cast_unsigned());
        self.put(c, claim::TTL, ask.ttl);
        self.put(c, claim::WAITING_TTL, ask.waiting);
        self.put(c, claim::SLOT_LINKS, 0);
        if self.write_text(c, &claim::NOTE, ask.note, true)? < ask.note.len() {
            return Err(Refusal::Full);
        }
        self.set(l, lock::NEXT_SEQ, seq.wrapping_add(1));
        self.index(c, ask.id);
        self.anchor(c, ask.slot)?;
        Ok(c)
    }

    /// Renews the lease of a claim that holds or waits, and replaces its note. Never creates one.
    ///
    /// # Errors
    /// `Full`, where the new note has no room; `Ceiling` and `Corrupt`.
    pub fn renew(&mut self, id: u128, key: &[u8], note: Option<&[u8]>, now: Now) -> Result<Place, Refusal> {
        let result = self.renew_steps(id, key, note, now);
        self.finish(result)
    }

    fn renew_steps(&mut self, id: u128, key: &[u8], note: Option<&[u8]>, now: Now) -> Result<Place, Refusal> {
        self.tidy(SWEEP, now)?;
        let l = self.settled(&self.name(key), now)?;
        let c = self.known(id, now)?;
        if !self.stands(c, l) {
            return Ok(self.gone(c));
        }
        if let Some(note) = note.filter(|n| cells::compare(&self.arena, n, c, &claim::NOTE).is_ne()) {
            self.free_text(c, &claim::NOTE);
            if self.write_text(c, &claim::NOTE, note, false)? < note.len() {
                return Err(Refusal::Full);
            }
        }
        self.extend(l, c, now);
        self.commit()?;
        Ok(self.standing(l, c))
    }

    /// Ends a hold or withdraws a waiting claim, and leaves what `trace` says. A second release finds nothing.
    ///
    /// # Errors
    /// `Full`, where a mark of an unknown claim has no room; `Ceiling` and `Corrupt`.
    pub fn release(
        &mut self,
        id: u128,
        key: &[u8],
        birth: u64,
        trace: Trace,
        now: Now,
    ) -> Result<Found, Refusal> {
        let result = self.release_steps(id, key, birth, trace, now);
        self.finish(result)
    }

    fn release_steps(
        &mut self,
        id: u128,
        key: &[u8],
        birth: u64,
        trace: Trace,
        now: Now,
    ) -> Result<Found, Refusal> {
        self.tidy(SWEEP, now)?;
        let l = self.settled(&self.name(key), now)?;
        let c = self.known(id, now)?;
        if !self.stands(c, l) {
            if trace == Trace::Mark {
                self.mark_unknown(c, id, birth, now)?;
            }
            return Ok(Found::Nothing);
        }
        self.room_for_grants(l, now)?;
        let held = self.state(c) == state::HELD;
        let alive = match trace {
            Trace::For(d) if held => self.keep(l, c, now.ns.saturating_add(d)).map(|()| true),
            Trace::Mark => self.leave(c, Previous::Released, Behind::Mark, now),
            Trace::For(_) | Trace::Nothing => self.leave(c, Previous::Released, Behind::Nothing, now),
        }?;
        if alive {
            self.settle(l, now)?;
        }
        Ok(if held { Found::Held } else { Found::Waiting })
    }

    /// The hold goes on until `end`, renewed by nobody and anchored to nothing.
    fn keep(&mut self, l: u32, c: u32, end: u64) -> Result<(), Refusal> {
        self.unanchor(c);
        let weight = self.weight(c);
        self.set(c, claim::STATE, pair(state::KEPT, weight));
        self.set_end(l, c, end);
        self.commit()
    }

    /// A mark for a claim that stands in no line; `c` is what else is known under its id.
    fn mark_unknown(&mut self, c: u32, id: u128, birth: u64, now: Now) -> Result<(), Refusal> {
        if c != NONE {
            if self.state(c) == state::KEPT {
                let weight = self.weight(c);
                self.set(c, claim::STATE, pair(state::KEPT_THEN_MARK, weight));
                self.commit()?;
            }
            return Ok(());
        }
        if now.ns.saturating_sub(birth) > MARK_NS {
            return Ok(()); // too old to be let in, marked or not
        }
        let c = self.alloc(CLAIM)?;
        for field in claim::ID..=claim::NOTE.head {
            self.put(c, field, 0);
        }
        #[allow(clippy::cast_possible_truncation)] // both halves
        let halves = [(id >> 64) as u64, id as u64];
        self.put(c, claim::ID, halves[0]);
        self.put(c, claim::ID + 1, halves[1]);
        self.put(c, claim::STATE, u64::from(state::MARK));
        self.index(c, id);
        self.append_mark(c, now);
        self.commit()
    }

    /// Takes a lock away from whoever holds it with `token`, or from all holders; says from how many.
    ///
    /// # Errors
    /// `Ceiling` and `Corrupt`. It needs no room: a reason that has none is cut short.
    pub fn evict(&mut self, key: &[u8], token: Option<i64>, why: &[u8], now: Now) -> Result<u32, Refusal> {
        let result = self.evict_steps(key, token, why, now);
        self.finish(result)
    }

    fn evict_steps(&mut self, key: &[u8], token: Option<i64>, why: &[u8], now: Now) -> Result<u32, Refusal> {
        self.tidy(SWEEP, now)?;
        let l = self.settled(&self.name(key), now)?;
        if l == NONE {
            return Ok(0);
        }
        self.room_for_grants(l, now)?;
        let mut whom = Vec::new();
        let mut fuel = self.arena.cells();
        tree::walk::<BySeq, A>(&self.arena, self.line(l).0, &mut fuel, &mut |c| {
            if token.is_none_or(|t| t.cast_unsigned() == cells::get(&self.arena, c, claim::TOKEN)) {
                whom.push(c);
            }
            true
        });
        let (holders, waiters) = self.line(l);
        let all = tree::size(&self.arena, holders).saturating_add(tree::size(&self.arena, waiters));
        let (survives, mut alive) = (all > whom.len() as u64, true);
        for (n, &c) in whom.iter().enumerate() {
            if n == 0 && survives {
                self.free_text(l, &lock::BROKEN);
                self.write_text(l, &lock::BROKEN, why, false)?;
                self.set(l, lock::BROKEN_AT, now.wall_us.max(1));
                self.set(l, lock::BROKEN_TOKEN, self.at(c, claim::TOKEN));
            }
            let event = Event::Evicted { id: self.id(c), slot: hi(self.at(c, claim::LOCK_SLOT)) };
            alive = self.leave(c, Previous::Evicted, Behind::Eviction(why), now)?;
            self.events.push(event);
        }
        if alive && !whom.is_empty() {
            self.settle(l, now)?;
        }
        Ok(u32::try_from(whom.len()).unwrap_or(u32::MAX))
    }

    /// Settles up to `budget` lines in which a lease ended, so that those that nobody visits go away.
    ///
    /// # Errors
    /// `Ceiling` and `Corrupt`.
    pub fn sweep(&mut self, budget: u32, now: Now) -> Result<(), Refusal> {
        let result = self.tidy(budget, now);
        self.finish(result)
    }

    /// Where a claim stood after the last verb. Settles nothing and changes nothing: for telling others of an
    /// [`Event`].
    pub fn peek(&self, id: u128) -> Place {
        let c = self.claim(id);
        let l = if c == NONE { NONE } else { lo(self.at(c, claim::LOCK_SLOT)) };
        if self.stands(c, l) { self.standing(l, c) } else { self.gone(c) }
    }

    /// The last token given.
    pub fn last_token(&self) -> i64 {
        i64::try_from(self.root(root::LAST)).unwrap_or(i64::MAX)
    }

    /// Makes all further tokens greater than `at_least`.
    pub fn raise_token(&mut self, at_least: i64) {
        if at_least > self.last_token() {
            self.set_root(root::LAST, at_least.cast_unsigned());
            self.arena.commit();
        }
    }

    /// What happened to claims other than those the verbs were about, since the last call.
    pub fn drain_events(&mut self) -> std::vec::Drain<'_, Event> {
        self.events.drain(..)
    }

    /// How many locks, claims and marks there are.
    pub fn counts(&self) -> Counts {
        let counts = self.root(root::COUNTS);
        Counts { locks: lo(counts), claims: hi(counts), marks: lo(self.root(root::MARK_COUNT)) }
    }

    /// The lock of that name, settled; [`NONE`] if it does not live.
    pub(super) fn settled(&mut self, name: &ByName<'_>, now: Now) -> Result<u32, Refusal> {
        let top = lo(self.root(root::LOCKS));
        let l = tree::seek(&self.arena, top, name, &mut self.by_name);
        let l = self.checked(l, LOCK);
        if l == NONE || self.settle(l, now)? { Ok(l) } else { Ok(NONE) }
    }

    /// Whether `c` holds or waits in the line of `l`.
    pub(super) fn stands(&self, c: u32, l: u32) -> bool {
        c != NONE
            && l != NONE
            && lo(self.at(c, claim::LOCK_SLOT)) == l
            && matches!(self.state(c), state::HELD | state::WAITING)
    }

    pub(super) fn gone(&self, c: u32) -> Place {
        if c == NONE || self.state(c) != state::EVICTED {
            return Place::Gone { why: None };
        }
        let why = cells::text(&self.arena, c, &claim::NOTE);
        Place::Gone { why: Some(String::from_utf8_lossy(&why).into_owned()) }
    }

    /// Renews a lease. It never becomes shorter.
    pub(super) fn extend(&mut self, l: u32, c: u32, now: Now) {
        let lease = if self.state(c) == state::HELD { claim::TTL } else { claim::WAITING_TTL };
        let end = now.ns.saturating_add(self.at(c, lease));
        if end > self.at(c, claim::END) {
            self.set_end(l, c, end);
        }
    }

    fn set_end(&mut self, l: u32, c: u32, end: u64) {
        self.set(c, claim::END, end);
        let (holders, waiters) = self.line(l);
        let line = if self.state(c) == state::WAITING { waiters } else { holders };
        let seq = BySeq(self.at(c, claim::SEQ));
        tree::refresh(&mut self.arena, line, c, &seq, &mut self.way);
        self.touch(l);
    }

    pub(super) fn standing(&self, l: u32, c: u32) -> Place {
        let end = self.at(c, claim::END);
        if self.state(c) == state::HELD {
            let (token, previous) = (self.at(c, claim::TOKEN).cast_signed(), self.before(c));
            return Place::Held { token, end, previous };
        }
        let (holders, waiters) = self.line(l);
        let (count, soonest) = tree::ahead(&self.arena, waiters, self.at(c, claim::SEQ));
        let look = soonest.min(tree::soon(&self.arena, holders));
        Place::Waiting { ahead: u32::try_from(count).unwrap_or(u32::MAX), end, look }
    }
}
