//! Random histories of a store that orders entries: `core::queue`, as a client mirrors it, against a naive list.
//!
//! The store is the list itself. The mirror sees it through a watch that repeats changes and loses some, and through
//! listings, some of them old.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tenure::core::line::{Kind, RW_CAPACITY};
use tenure::core::queue::{Change, Entry, EntryId, Event, Place, Queue, Shape, What};

const MUTEX: Shape = Shape { kind: Kind::Mutex, capacity: 1 };
const RW: Shape = Shape { kind: Kind::ReadWrite, capacity: RW_CAPACITY };
const PERMITS: Shape = Shape { kind: Kind::Semaphore, capacity: 4 };

/// The naive list: every entry in the store's order, and who was granted.
#[derive(Clone, Debug, Default)]
struct List {
    entries: Vec<Entry>,
    revision: u64,
}

impl List {
    fn shape(&self) -> Option<Shape> {
        self.entries.iter().find(|e| !e.foreign).map(|e| e.shape)
    }

    fn fits(&self, entry: &Entry) -> bool {
        let held = || self.entries.iter().filter(|e| e.granted);
        if entry.foreign {
            return held().count() == 0;
        }
        let sum: u64 = held().map(|e| u64::from(e.weight)).sum();
        let all = sum + u64::from(entry.weight);
        self.shape().is_some_and(|live| live.kind == entry.shape.kind)
            && held().all(|e| !e.foreign)
            && held().chain([entry]).all(|e| all <= u64::from(e.shape.capacity))
    }

    /// Grants the first that waits for as long as it fits.
    fn settle(&mut self) {
        self.entries.sort_by_key(|e| e.order);
        while let Some(n) = self.entries.iter().position(|e| !e.granted) {
            if !self.fits(&self.entries[n]) {
                return;
            }
            self.entries[n].granted = true;
        }
    }

    fn names(&self, granted: bool) -> Vec<EntryId> {
        self.entries.iter().filter(|e| e.granted == granted).map(|e| e.id.clone()).collect()
    }

    /// The entries as the store keeps them: it records those grants that were written down.
    fn listing(&self, recorded: &[EntryId]) -> Vec<Entry> {
        let as_stored = |e: &Entry| Entry { granted: recorded.contains(&e.id), ..e.clone() };
        self.entries.iter().map(as_stored).collect()
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// A new entry: its shape among those of the history, its weight, whether another program makes it.
    Put(usize, u32, bool),
    /// One with a lower order than the newest, as no store should.
    PutLate(u64),
    /// So many end at one revision, beginning with this one.
    End(usize, usize),
    /// A granted entry is written again, with its grant recorded.
    Record(usize),
    /// A writer that holds becomes a reader.
    Downgrade,
    /// The mirror hears some changes once more: from so many revisions ago, so many of them.
    Repeat(u64, usize),
    /// The watch is lost; later changes arrive until it is listed anew.
    Lose,
    List,
    /// A listing of an earlier revision.
    ListOld(u64),
}

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The mirror is not told that it lost its watch.
    UnnoticedLoss,
    /// Repeated changes look new.
    NoRevisions,
    /// The next one is granted too early.
    ForgetsHolders,
}

struct Run {
    list: List,
    recorded: Vec<EntryId>,
    /// Everything that happened: changes, and the listing at each revision.
    log: Vec<Change>,
    past: Vec<(u64, Vec<Entry>)>,
    queue: Queue,
    /// Whether changes are being lost, and how many more.
    losing: bool,
    shapes: Vec<Shape>,
    fault: Fault,
}

type Step = Result<(), TestCaseError>;

impl Run {
    fn change(&mut self, what: What) {
        let at = self.list.revision;
        let change = Change { at, what };
        self.log.push(change.clone());
        self.list.settle();
        // A loss that swallows every other revision: what arrives after it must do no harm.
        if !(self.losing && at.is_multiple_of(2)) {
            self.hear(change);
        }
    }

    fn hear(&mut self, mut change: Change) {
        if self.fault == Fault::NoRevisions {
            change.at = self.list.revision;
        }
        if self.fault == Fault::ForgetsHolders && self.list.entries.len() > 3 {
            let held = self.queue.holders().next().map(|e| e.id.clone());
            held.map(|id| self.queue.apply(Change { at: change.at, what: What::Gone(id) }));
        }
        let before = self.queue.clone();
        let events = self.queue.apply(change);
        Self::told(&before, &self.queue, &events);
    }

    /// The events say exactly what changed.
    fn told(before: &Queue, after: &Queue, events: &[Event]) {
        let held = |queue: &Queue| queue.holders().map(|e| e.id.clone()).collect::<Vec<_>>();
        for id in held(after).iter().filter(|id| !held(before).contains(id)) {
            assert!(events.contains(&Event::Granted(id.clone())), "{id:?} was granted and not told");
        }
        for id in held(before).iter().filter(|id| !held(after).contains(id)) {
            let ended = Event::Ended { id: id.clone(), held: true };
            assert!(events.contains(&ended), "{id:?} stopped holding, and did not end");
        }
    }

    fn list_now(&mut self) {
        let listing = self.list.listing(&self.recorded);
        let before = self.queue.clone();
        let events = self.queue.reset(listing, self.list.revision);
        Self::told(&before, &self.queue, &events);
        self.losing = false;
    }

    fn stored(&self, id: &EntryId) -> Option<Entry> {
        self.list.listing(&self.recorded).into_iter().find(|e| e.id == *id)
    }

    fn step(&mut self, op: &Op) {
        let holders = self.list.names(true);
        self.list.revision += 1;
        let at = self.list.revision;
        match *op {
            Op::Put(shape, weight, foreign) => self.put(at * 10, shape, weight, foreign),
            Op::PutLate(by) => self.put((at * 10).saturating_sub(by), 0, 1, false),
            Op::End(first, many) => {
                let ids: Vec<EntryId> =
                    self.list.entries.iter().skip(first).take(many).map(|e| e.id.clone()).collect();
                for id in ids {
                    self.list.entries.retain(|e| e.id != id);
                    self.recorded.retain(|r| *r != id);
                    self.change(What::Gone(id));
                }
            }
            Op::Record(n) if !holders.is_empty() => {
                let id = holders[n % holders.len()].clone();
                self.recorded.push(id.clone());
                self.change(What::Put(self.stored(&id).expect("it stands")));
            }
            Op::Downgrade => {
                let writer = self.list.entries.iter_mut().find(|e| e.granted && e.weight == RW_CAPACITY);
                let id = writer.map(|writer| {
                    writer.weight = 1;
                    writer.id.clone()
                });
                if let Some(entry) = id.and_then(|id| self.stored(&id)) {
                    self.change(What::Put(entry));
                }
            }
            Op::Repeat(by, many) if !self.losing => {
                let old = self.log.iter().filter(|c| c.at + by >= at && c.at + 1 < at);
                let again: Vec<Change> = old.take(many).cloned().collect();
                again.into_iter().for_each(|change| self.hear(change));
            }
            Op::Lose => {
                self.losing = true;
                if self.fault != Fault::UnnoticedLoss {
                    self.queue.lost_watch();
                }
            }
            Op::List => self.list_now(),
            Op::ListOld(by) if self.queue.is_whole() => {
                let old = self.past.iter().rev().find(|(then, _)| then + by < at).cloned();
                if let Some((then, listing)) = old {
                    self.queue.reset(listing, then);
                }
            }
            Op::Record(_) | Op::Repeat(..) | Op::ListOld(_) => {}
        }
        self.past.push((self.list.revision, self.list.listing(&self.recorded)));
    }

    fn put(&mut self, order: u64, shape: usize, weight: u32, foreign: bool) {
        if self.list.entries.iter().any(|e| e.order == order) {
            return;
        }
        let shape = self.shapes[shape % self.shapes.len()];
        let weight = match shape.kind {
            Kind::ReadWrite => [1, 1, RW_CAPACITY][weight as usize % 3],
            _ => weight.clamp(1, shape.capacity),
        };
        let id = EntryId::new(format!("e{order}").as_bytes());
        let entry = if foreign {
            Entry::foreign(order, id)
        } else {
            Entry { order, id, shape, weight, granted: false, foreign }
        };
        self.list.entries.push(entry.clone());
        self.change(What::Put(entry));
    }

    /// The mirror agrees with the list; while changes are lost, it grants nothing that the list does not grant.
    fn agree(&self) -> Step {
        let held: Vec<EntryId> = self.queue.holders().map(|e| e.id.clone()).collect();
        let truth = self.list.names(true);
        for entry in &self.list.entries {
            let (place, granted) = (self.queue.standing(&entry.id), truth.contains(&entry.id));
            prop_assert!(granted || place != Place::Held, "{:?} holds in the mirror alone", entry.id);
            prop_assert!(!self.queue.is_whole() || place != Place::Unsure);
        }
        if self.losing {
            return Ok(());
        }
        prop_assert_eq!(held, truth, "who holds");
        let waits: Vec<EntryId> = self.queue.waiters().map(|e| e.id.clone()).collect();
        prop_assert_eq!(&waits, &self.list.names(false), "who waits");
        for (ahead, id) in waits.iter().enumerate() {
            let entry = self.list.entries.iter().find(|e| e.id == *id).expect("it waits");
            let kind = self.list.shape().map(|live| live.kind);
            let refused = !entry.foreign && kind != Some(entry.shape.kind);
            match self.queue.standing(id) {
                Place::Refused(shape) => prop_assert!(refused && self.list.shape() == Some(shape)),
                Place::Waiting { ahead: said, .. } => prop_assert!(!refused && said as usize == ahead),
                other => return Err(TestCaseError::fail(format!("{id:?} waits, and stands as {other:?}"))),
            }
            self.watched(id)?;
        }
        for shape in [MUTEX, RW, PERMITS] {
            self.admission(shape)?;
        }
        Ok(())
    }

    /// While everything stands that a waiting entry watches, it is not granted, whatever else ends.
    fn watched(&self, id: &EntryId) -> Step {
        let watched = self.queue.watch_whom(id);
        prop_assert!(!watched.is_empty(), "{:?} would wait for ever", id);
        let mut rest = self.list.clone();
        rest.entries.retain(|e| e.id == *id || watched.contains(&e.id));
        rest.settle();
        prop_assert!(
            !rest.names(true).contains(id),
            "{:?} watches {:?}, and would miss its turn",
            id,
            watched
        );
        Ok(())
    }

    fn admission(&self, shape: Shape) -> Step {
        let mut then = self.list.clone();
        let id = EntryId::new(b"new");
        let entry =
            Entry { order: u64::MAX, id: id.clone(), shape, weight: 1, granted: false, foreign: false };
        then.entries.push(entry);
        then.settle();
        prop_assert_eq!(self.queue.admits(shape, 1), then.names(true).contains(&id), "{:?}", shape);
        let live = self.list.shape().filter(|live| live.kind != shape.kind);
        prop_assert_eq!(self.queue.conflict(shape), live);
        Ok(())
    }
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let other = Shape { capacity: 2, ..PERMITS };
    prop_oneof![
        2 => Just(vec![MUTEX]),
        3 => Just(vec![RW]),
        3 => Just(vec![PERMITS]),
        3 => Just(vec![PERMITS, PERMITS, other]),
        1 => Just(vec![PERMITS, PERMITS, other, MUTEX]),
    ]
}

/// `late`: entries with a lower order arrive late, and then nothing is missed: what a mirror does not see happen it cannot
/// know to have been granted.
fn ops(late: bool) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        10 => (0..4usize, 1..5u32, prop::bool::weighted(0.1)).prop_map(|(s, w, f)| Op::Put(s, w, f)),
        if late { 3 } else { 0 } => (1..60u64).prop_map(Op::PutLate),
        7 => (0..4usize, 1..3usize).prop_map(|(n, many)| Op::End(n, many)),
        3 => (0..4usize).prop_map(Op::Record),
        2 => Just(Op::Downgrade),
        2 => (0..9u64, 1..4usize).prop_map(|(by, many)| Op::Repeat(by, many)),
        if late { 0 } else { 2 } => Just(Op::Lose),
        2 => Just(Op::List),
        1 => (0..6u64).prop_map(Op::ListOld),
    ];
    vec(op, 1..50)
}

/// Runs random histories until the mirror differs from the list.
fn compare(histories: u32, late: bool, fault: Fault) -> Result<(), String> {
    let config = Config { cases: histories, failure_persistence: None, ..Config::default() };
    let ran = TestRunner::new(config).run(&(shapes(), ops(late)), |(shapes, ops)| {
        let (list, queue) = (List::default(), Queue::new());
        let (recorded, log, past) = Default::default();
        let mut run = Run { list, recorded, log, past, queue, losing: false, shapes, fault };
        run.list_now();
        ops.iter().enumerate().try_for_each(|(n, op)| {
            let held: Vec<EntryId> = run.queue.holders().map(|e| e.id.clone()).collect();
            run.step(op);
            let stands = |id: &EntryId| run.queue.standing(id) != Place::Absent;
            let stays = |id: &EntryId| !stands(id) || run.queue.standing(id) == Place::Held;
            prop_assert!(held.iter().all(stays), "step {}, {:?}: a grant was taken back", n, op);
            run.agree().map_err(|e| TestCaseError::fail(format!("step {n}, {op:?}: {e}")))
        })
    });
    ran.map_err(|e| e.to_string())
}

#[test]
fn core_queue_does_what_the_list_does() {
    compare(1500, false, Fault::None).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn core_queue_takes_no_grant_back_when_a_lower_order_arrives_late() {
    compare(1000, true, Fault::None).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_mirror_that_is_wrong_is_noticed() {
    for fault in [Fault::UnnoticedLoss, Fault::NoRevisions, Fault::ForgetsHolders] {
        let caught = std::panic::catch_unwind(|| compare(3000, false, fault));
        assert!(!matches!(caught, Ok(Ok(()))), "{fault:?}: a fault that nobody notices");
    }
}
