//! The verbs.

use super::{Arena, Ask, Event, Found, LineRow, Now, Place, Refusal, Trace};

/// Many lines in one arena.
#[derive(Debug)]
pub struct Lines<A> {
    arena: A,
    events: Vec<Event>,
}

/// How many of each thing an arena holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Locks with a holder or a waiter.
    pub locks: u32,
    /// Claims that hold or wait.
    pub claims: u32,
    /// Marks of withdrawn and evicted claims.
    pub marks: u32,
}

#[allow(unused_variables)]
impl<A: Arena> Lines<A> {
    /// Lines in `arena`: a new root if it has none, otherwise what is in it.
    pub fn new(arena: A) -> Result<Lines<A>, Refusal> { unimplemented!() }
    /// Like `new`; `seed` (random) decides the shape of the trees of a fresh arena, so that nobody who chooses names
    /// can unbalance them.
    pub fn with_seed(arena: A, seed: u64) -> Result<Lines<A>, Refusal> { unimplemented!() }
    pub fn arena(&self) -> &A { unimplemented!() }
    pub fn arena_mut(&mut self) -> &mut A { unimplemented!() }
    pub fn attempt(&mut self, ask: &Ask<'_>, now: Now) -> Result<Place, Refusal> { unimplemented!() }
    pub fn renew(&mut self, id: u128, key: &[u8], note: Option<&[u8]>, now: Now) -> Result<Place, Refusal> { unimplemented!() }
    pub fn release(&mut self, id: u128, key: &[u8], birth: u64, trace: Trace, now: Now) -> Result<Found, Refusal> { unimplemented!() }
    pub fn evict(&mut self, key: &[u8], token: Option<i64>, why: &[u8], now: Now) -> Result<u32, Refusal> { unimplemented!() }
    pub fn reap(&mut self, slot: u32, now: Now) -> Result<u32, Refusal> { unimplemented!() }
    pub fn sweep(&mut self, budget: u32, now: Now) -> Result<(), Refusal> { unimplemented!() }
    pub fn holder_slots(&self, key: &[u8], out: &mut Vec<u32>) { unimplemented!() }
    pub fn view(&self, key: &[u8], waiting_max: usize, now: Now) -> Option<LineRow> { unimplemented!() }
    pub fn page(&self, namespace: &[u8], prefix: &[u8], after: Option<u128>, limit: usize, waiting_max: usize, now: Now) -> (Vec<LineRow>, Option<u128>) { unimplemented!() }
    pub fn last_token(&self) -> i64 { unimplemented!() }
    pub fn raise_token(&mut self, at_least: i64) { unimplemented!() }
    pub fn drain_events(&mut self) -> std::vec::Drain<'_, Event> { self.events.drain(..) }
    pub fn counts(&self) -> Counts { unimplemented!() }
    #[cfg(any(test, feature = "unstable"))]
    pub fn check(&self) -> Result<(), String> { unimplemented!() }
}
