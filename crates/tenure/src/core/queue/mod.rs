//! A line whose order comes from the store: create revisions in etcd, sequence nodes in ZooKeeper.
//!
//! Such a store keeps entries in an order of its own and grants nothing. Each client mirrors the line and decides who
//! holds. All clients decide alike, because the decision depends on the entries alone:
//!
//! - **The granted prefix.** Entries are granted in order, as long as their weights fit the capacity: the least that a
//!   granted entry, or the entry itself, names. The first entry that does not fit waits, and so does everything behind it.
//! - **A grant stays.** An entry that was granted, or that the store records as granted, stays granted until it is gone,
//!   even if an entry with a lower order arrives late.
//! - **A foreign entry excludes everybody.** An entry of another program tells neither kind nor weight. It takes the whole
//!   capacity, and it joins a line of any kind. An entry whose weight makes no sense is treated like that too.
//! - **Kinds do not mix.** The first entry of ours says which kind the line has. An entry of another kind is never granted
//!   while that one stands, and [`Place::Refused`] tells its client to withdraw it.
//!
//! # What the store must give
//!
//! Orders only grow: an entry is never put with a lower order than one that was put before. Changes arrive in the order in
//! which they happened, each with the revision `at` which it happened. A repeated change is ignored by its revision.
//!
//! A mirror that misses an entry ahead of its own would grant twice. So a client that loses its watch calls
//! [`lost_watch`](Queue::lost_watch). From then on no entry is granted that is newer than all that was seen before, and
//! [`Place::Unsure`] says so, until [`reset`](Queue::reset) brings a full listing. A new queue starts in that state.
//! Entries that were known before the loss can still be granted, because everything ahead of them is known.
//!
//! The line may be a listing per change (ZooKeeper) or a listing and a watch (etcd). ZooKeeper's clients watch single
//! nodes: [`watch_whom`](Queue::watch_whom) says which, so that an entry that ends wakes only those whom it blocked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::line::Kind;

#[cfg(test)]
mod tests;

/// The name of an entry in the store: a key in etcd, a node in ZooKeeper.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(Arc<[u8]>);

impl EntryId {
    /// An id from the bytes of its name.
    #[must_use]
    pub fn new(name: &[u8]) -> EntryId {
        EntryId(name.into())
    }

    /// The bytes of its name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What an entry says of its line. All entries must agree on the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The kind of line.
    pub kind: Kind,
    /// The capacity that it names.
    pub capacity: u32,
}

/// One entry of the line, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its place in the store's order, fixed when it is created.
    pub order: u64,
    /// Its name.
    pub id: EntryId,
    /// The kind and capacity that it names.
    pub shape: Shape,
    /// How much of the capacity it takes.
    pub weight: u32,
    /// Whether the store records it as granted.
    pub granted: bool,
    /// Whether another program made it, in a format that tells neither shape nor weight.
    pub foreign: bool,
}

/// The load of an entry that excludes everybody.
const WHOLE: u64 = u32::MAX as u64;

impl Entry {
    /// An entry of another program.
    #[must_use]
    pub fn foreign(order: u64, id: EntryId) -> Entry {
        let shape = Shape { kind: Kind::Mutex, capacity: 1 };
        Entry { order, id, shape, weight: 1, granted: false, foreign: true }
    }

    /// Whether its shape and weight mean something.
    fn is_ours(&self) -> bool {
        !self.foreign && (1..=self.shape.capacity).contains(&self.weight)
    }

    fn load(&self) -> u64 {
        if self.is_ours() { u64::from(self.weight) } else { WHOLE }
    }

    /// How much others may take beside it.
    fn room(&self) -> u64 {
        if self.is_ours() { u64::from(self.shape.capacity - self.weight) } else { 0 }
    }

    fn position(&self) -> Position {
        (self.order, self.id.clone())
    }
}

/// A change that the store tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// The revision at which it happened. Several changes may share one.
    pub at: u64,
    /// What happened.
    pub what: What,
}

/// What happened to an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// It was created, or its content changed.
    Put(Entry),
    /// It was deleted, or its lease or session ended.
    Gone(EntryId),
}

/// What a change led to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// This entry belongs to the granted prefix from now on.
    Granted(EntryId),
    /// This entry left the line.
    Ended {
        /// Which one.
        id: EntryId,
        /// Whether it was granted.
        held: bool,
    },
}

/// Where an entry stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// It belongs to the granted prefix.
    Held,
    /// It waits.
    Waiting {
        /// How many entries wait before it.
        ahead: u32,
        /// The entry directly before it; `None` if only entries behind it are in its way.
        behind_whom: Option<EntryId>,
    },
    /// The watch was lost before this entry was seen: list the line, then ask again.
    Unsure,
    /// The line is of another kind, that of this shape: withdraw the entry.
    Refused(Shape),
    /// The line does not have it.
    Absent,
}

type Position = (u64, EntryId);

/// The line, as one client mirrors it.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    granted: BTreeMap<Position, Entry>,
    waiting: BTreeMap<Position, Entry>,
    orders: BTreeMap<EntryId, u64>,
    /// The sum of the loads of `granted`.
    used: u64,
    /// How many of our granted entries name each capacity.
    capacities: BTreeMap<u32, usize>,
    /// The newest revision that was applied.
    at: u64,
    /// The highest order that was seen while the watch was whole.
    newest: u64,
    /// Whether every change since the last listing has arrived.
    whole: bool,
}

impl Queue {
    /// A mirror that knows nothing yet: the first [`reset`](Queue::reset) fills it.
    #[must_use]
    pub fn new() -> Queue {
        Queue::default()
    }

    /// Applies one change of the watch. A change older than what is known already is ignored.
    pub fn apply(&mut self, change: Change) -> Vec<Event> {
        let mut events = Vec::new();
        if change.at < self.at {
            return events;
        }
        self.at = change.at;
        match change.what {
            What::Put(entry) => self.put(entry, &mut events),
            What::Gone(id) => self.remove(&id, &mut events),
        }
        self.settle(&mut events);
        events
    }

    /// Replaces the line by a full listing of revision `at`. A listing older than what is known already changes nothing,
    /// and does not end an interruption of the watch: list again then.
    pub fn reset(&mut self, all: Vec<Entry>, at: u64) -> Vec<Event> {
        let mut events = Vec::new();
        if at < self.at {
            return events;
        }
        (self.at, self.whole) = (at, true);
        let listed: BTreeSet<&EntryId> = all.iter().map(|entry| &entry.id).collect();
        let gone: Vec<EntryId> = self.orders.keys().filter(|id| !listed.contains(id)).cloned().collect();
        for id in gone {
            self.remove(&id, &mut events);
        }
        for entry in all {
            self.put(entry, &mut events);
        }
        self.settle(&mut events);
        events
    }

    /// Notes that changes may have been missed. No entry newer than all that was seen is granted until the next
    /// [`reset`](Queue::reset).
    pub fn lost_watch(&mut self) {
        self.whole = false;
    }

    /// Whether the mirror is complete: it was listed, and its watch was not lost since.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Where an entry stands. `Held` is as fresh as the last change: before a client believes in it, the store must
    /// confirm that the entry still exists.
    #[must_use]
    pub fn standing(&self, id: &EntryId) -> Place {
        let Some(&order) = self.orders.get(id) else { return Place::Absent };
        let position = (order, id.clone());
        let Some(entry) = self.waiting.get(&position) else { return Place::Held };
        if let Some(shape) = self.conflict_of(entry) {
            return Place::Refused(shape);
        }
        if self.is_unsure(order) {
            return Place::Unsure;
        }
        let ahead = u32::try_from(self.waiting.range(..&position).count()).unwrap_or(u32::MAX);
        let behind_whom = self.ahead(&position).next().map(|entry| entry.id.clone());
        Place::Waiting { ahead, behind_whom }
    }

    /// The entries to watch for a waiting entry: while all of them stand, it is not granted, and when one of them ends, it
    /// asks again. In a mutex that is its predecessor; for a reader the last writer before it. A semaphore may need
    /// several. Empty if the entry does not wait.
    #[must_use]
    pub fn watch_whom(&self, id: &EntryId) -> Vec<EntryId> {
        let position = self.orders.get(id).map(|order| (*order, id.clone()));
        let Some((position, entry)) = position.and_then(|p| Some((p.clone(), self.waiting.get(&p)?))) else {
            return Vec::new();
        };
        let blockers: Vec<&Entry> =
            self.ahead(&position).chain(self.granted.range(&position..).map(|(_, entry)| entry)).collect();
        let name = |entry: &&Entry| entry.id.clone();
        let mixed = self.ahead(&position).chain([entry]).any(|e| self.conflict_of(e).is_some());
        let unequal = blockers.iter().any(|b| b.is_ours() && b.shape.capacity != entry.shape.capacity);
        if mixed || unequal {
            return blockers.iter().map(name).collect();
        }
        let room = entry.room();
        if let Some(one) = blockers.iter().find(|b| b.load() > room) {
            return vec![name(one)];
        }
        let mut sum = 0;
        let enough = |b: &&&Entry| {
            let before = sum;
            sum += b.load();
            before <= room
        };
        blockers.iter().take_while(enough).map(name).collect()
    }

    /// Whether an entry of this shape and weight would be granted at once if it came now.
    #[must_use]
    pub fn admits(&self, shape: Shape, weight: u32) -> bool {
        self.whole
            && self.waiting.is_empty()
            && self.conflict(shape).is_none()
            && (1..=shape.capacity).contains(&weight)
            && self.used + u64::from(weight) <= self.least().min(u64::from(shape.capacity))
    }

    /// The shape of the live line, if it is of another kind: a claim of this shape must be refused.
    #[must_use]
    pub fn conflict(&self, shape: Shape) -> Option<Shape> {
        self.head().map(|head| head.shape).filter(|live| live.kind != shape.kind)
    }

    /// The granted entries, in order.
    pub fn holders(&self) -> impl Iterator<Item = &Entry> {
        self.granted.values()
    }

    /// The waiting entries, in order.
    pub fn waiters(&self) -> impl Iterator<Item = &Entry> {
        self.waiting.values()
    }

    fn put(&mut self, mut entry: Entry, events: &mut Vec<Event>) {
        let mut held = false;
        match self.orders.get(&entry.id) {
            Some(order) if *order > entry.order => return,
            Some(order) if *order == entry.order => held = self.take(&entry.id).is_some_and(|e| e.granted),
            Some(_) => self.remove(&entry.id.clone(), events), // the name was used again
            None => {}
        }
        if self.whole {
            self.newest = self.newest.max(entry.order);
        }
        if entry.granted && !held {
            events.push(Event::Granted(entry.id.clone()));
        }
        entry.granted |= held;
        self.insert(entry);
    }

    fn remove(&mut self, id: &EntryId, events: &mut Vec<Event>) {
        if let Some(entry) = self.take(id) {
            events.push(Event::Ended { id: entry.id, held: entry.granted });
        }
    }

    /// Grants the longest prefix of the waiting entries that fits.
    fn settle(&mut self, events: &mut Vec<Event>) {
        while let Some((_, entry)) = self.waiting.first_key_value() {
            let fits = self.used <= entry.room() && self.used + entry.load() <= self.least();
            if !fits || self.is_unsure(entry.order) || self.conflict_of(entry).is_some() {
                return;
            }
            let Some((_, mut entry)) = self.waiting.pop_first() else { return };
            entry.granted = true;
            events.push(Event::Granted(entry.id.clone()));
            self.insert(entry);
        }
    }

    fn insert(&mut self, entry: Entry) {
        self.orders.insert(entry.id.clone(), entry.order);
        if entry.granted {
            self.used += entry.load();
            if entry.is_ours() {
                *self.capacities.entry(entry.shape.capacity).or_default() += 1;
            }
            self.granted.insert(entry.position(), entry);
        } else {
            self.waiting.insert(entry.position(), entry);
        }
    }

    /// The least capacity that a granted entry names. A foreign one takes the whole capacity, whatever it is.
    fn least(&self) -> u64 {
        self.capacities.keys().next().copied().map_or(WHOLE, u64::from)
    }

    fn take(&mut self, id: &EntryId) -> Option<Entry> {
        let position = (self.orders.remove(id)?, id.clone());
        if let Some(entry) = self.granted.remove(&position) {
            self.used -= entry.load();
            if let Some(many) = self.capacities.get_mut(&entry.shape.capacity).filter(|_| entry.is_ours()) {
                *many -= 1;
                if *many == 0 {
                    self.capacities.remove(&entry.shape.capacity);
                }
            }
            return Some(entry);
        }
        self.waiting.remove(&position)
    }

    /// Everything before a position, nearest first.
    fn ahead(&self, position: &Position) -> impl Iterator<Item = &Entry> {
        let mut granted = self.granted.range(..position).rev().peekable();
        let mut waiting = self.waiting.range(..position).rev().peekable();
        std::iter::from_fn(move || {
            let waits = match (granted.peek(), waiting.peek()) {
                (Some((g, _)), Some((w, _))) => w > g,
                (g, _) => g.is_none(),
            };
            let next = if waits { waiting.next() } else { granted.next() };
            next.map(|(_, entry)| entry)
        })
    }

    /// The first entry of ours: it says which shape the line has.
    fn head(&self) -> Option<&Entry> {
        let first = |entries: &'_ BTreeMap<Position, Entry>| {
            entries.iter().find(|(_, entry)| entry.is_ours()).map(|(position, _)| position.clone())
        };
        let position = [first(&self.granted), first(&self.waiting)].into_iter().flatten().min()?;
        self.granted.get(&position).or_else(|| self.waiting.get(&position))
    }

    fn conflict_of(&self, entry: &Entry) -> Option<Shape> {
        if entry.is_ours() { self.conflict(entry.shape) } else { None }
    }

    /// Whether an entry of this order may have others ahead of it that were never seen.
    fn is_unsure(&self, order: u64) -> bool {
        !self.whole && order > self.newest
    }
}
