//! The life of each claim, read off a history in one pass.

use std::collections::{BTreeMap, HashMap};

use crate::history::{Claim, Event, History, Kind, Name, Op, Phase};

/// An event of interest: when, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) t: u64,
    pub(crate) event: usize,
}

/// How an acquire without a grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It failed, its outcome is unknown, or its future was dropped.
    Failed(At),
    /// The history does not say.
    Open,
}

/// One claim.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) claim: Claim,
    pub(crate) p: u32,
    pub(crate) lock: Option<Name>,
    pub(crate) kind: Kind,
    pub(crate) weight: u64,
    pub(crate) capacity: u64,
    pub(crate) invoke: Option<At>,
    pub(crate) queued: Option<At>,
    pub(crate) ok: Option<At>,
    pub(crate) failed: Option<At>,
    pub(crate) token: Option<i64>,
    /// The latest deadline, and the event that told it. None: the belief has no end.
    pub(crate) deadline: Option<(u64, At)>,
    /// The first sign of its loss.
    pub(crate) lost: Option<At>,
    pub(crate) release: Option<At>,
}

impl Hold {
    fn new(claim: Claim, p: u32) -> Hold {
        Hold {
            claim,
            p,
            lock: None,
            kind: Kind::Mutex,
            weight: 1,
            capacity: 1,
            invoke: None,
            queued: None,
            ok: None,
            failed: None,
            token: None,
            deadline: None,
            lost: None,
            release: None,
        }
    }

    /// The belief, as a half-open interval. None if there was no grant, or the deadline had passed when it returned.
    pub(crate) fn belief(&self) -> Option<(u64, u64)> {
        let from = self.ok?.t;
        let ends = [self.release.map(|at| at.t), self.lost.map(|at| at.t), self.deadline.map(|(end, _)| end)];
        let to = ends.into_iter().flatten().min().unwrap_or(u64::MAX);
        (from < to).then_some((from, to))
    }

    /// When the acquire was invoked; 0 if the history does not say.
    pub(crate) fn invoked(&self) -> u64 {
        self.invoke.map_or(0, |at| at.t)
    }

    /// How the acquire ended, if not with a grant.
    pub(crate) fn end(&self) -> End {
        self.failed.map_or(End::Open, End::Failed)
    }

    /// Whether two claims may hold at the same time, if their weights allow it.
    pub(crate) fn shares_with(&self, other: &Hold) -> bool {
        self.kind == other.kind && matches!(self.kind, Kind::Read | Kind::Semaphore)
    }

    /// The events that show the belief: the invocation, the grant, and those that tell its end.
    pub(crate) fn proof(&self) -> Vec<usize> {
        let deadline = self.deadline.map(|(_, at)| at);
        let mut events: Vec<usize> = [self.invoke, self.ok, deadline, self.lost, self.release]
            .into_iter()
            .flatten()
            .map(|at| at.event)
            .collect();
        events.sort_unstable();
        events.dedup();
        events
    }

    /// The invocation and the grant.
    pub(crate) fn grant(&self) -> Vec<usize> {
        [self.invoke, self.ok].into_iter().flatten().map(|at| at.event).collect()
    }
}

/// A history with the life of each claim.
pub(crate) struct Facts<'a> {
    pub(crate) history: &'a History,
    pub(crate) holds: Vec<Hold>,
    by_claim: HashMap<Claim, usize>,
    /// The claims of each lock, by first mention.
    pub(crate) locks: BTreeMap<Name, Vec<usize>>,
    pub(crate) acquisitions: u64,
    /// The last claim that each client asked for, used or released.
    last_of: HashMap<Client, Claim>,
}

/// One client: a process, and a task of it.
type Client = (u32, Option<Name>);

impl<'a> Facts<'a> {
    pub(crate) fn of(history: &'a History) -> Facts<'a> {
        let mut facts = Facts {
            history,
            holds: Vec::new(),
            by_claim: HashMap::new(),
            locks: BTreeMap::new(),
            acquisitions: 0,
            last_of: HashMap::new(),
        };
        for (index, event) in history.events.iter().enumerate() {
            facts.note(index, event);
        }
        for (index, hold) in facts.holds.iter().enumerate() {
            if let Some(lock) = hold.lock {
                facts.locks.entry(lock).or_default().push(index);
            }
        }
        facts
    }

    fn note(&mut self, index: usize, event: &Event) {
        let Some(claim) = event.claim else { return };
        self.last_of.insert((event.p, event.c), claim);
        let next = self.holds.len();
        let hold = *self.by_claim.entry(claim).or_insert(next);
        if hold == next {
            self.holds.push(Hold::new(claim, event.p));
        }
        let hold = &mut self.holds[hold];
        hold.lock = hold.lock.or(event.lock);
        let at = At { t: event.t, event: index };
        match (event.op, event.phase) {
            (Op::Acquire, Phase::Invoke) => {
                hold.invoke.get_or_insert(at);
                hold.kind = event.kind.unwrap_or(hold.kind);
                hold.weight = event.weight.map_or(hold.weight, u64::from);
                hold.capacity = event.capacity.map_or(hold.capacity, u64::from);
            }
            (Op::Queued, _) => {
                hold.queued.get_or_insert(at);
            }
            (Op::Acquire, Phase::Ok) => {
                self.acquisitions += u64::from(hold.ok.is_none());
                hold.p = event.p;
                hold.ok.get_or_insert(at);
                hold.token = hold.token.or(event.token);
                told(hold, event, at);
            }
            (Op::Renew | Op::Check, Phase::Ok) => told(hold, event, at),
            (Op::Acquire | Op::Cancel, _) => {
                hold.failed.get_or_insert(at);
            }
            (Op::Lost, _) | (Op::Check | Op::Renew, Phase::Lost) => {
                hold.lost.get_or_insert(at);
            }
            (Op::Release, Phase::Invoke) => {
                hold.release.get_or_insert(at);
            }
            _ => {}
        }
    }

    /// Whether the client of this event may have been cut off during this claim: the claim was not released, and the
    /// client did nothing afterwards.
    pub(crate) fn cut_off(&self, event: &Event) -> bool {
        let Some(hold) = self.of_event(event) else { return false };
        hold.release.is_none() && self.last_of.get(&(event.p, event.c)) == event.claim.as_ref()
    }

    /// The claim with this hash.
    pub(crate) fn hold(&self, claim: Claim) -> Option<&Hold> {
        self.by_claim.get(&claim).map(|index| &self.holds[*index])
    }

    /// The claim that an event speaks of.
    pub(crate) fn of_event(&self, event: &Event) -> Option<&Hold> {
        self.hold(event.claim?)
    }

    /// The granted claims of a lock.
    pub(crate) fn granted<'b>(&'b self, of: &'b [usize]) -> impl Iterator<Item = &'b Hold> + Clone {
        of.iter().map(|index| &self.holds[*index]).filter(|hold| hold.ok.is_some())
    }

    /// These events, by time.
    pub(crate) fn events(&self, mut indices: Vec<usize>) -> Vec<Event> {
        indices.sort_unstable();
        indices.dedup();
        indices.into_iter().map(|index| self.history.events[index].clone()).collect()
    }

    /// The time of the last event.
    pub(crate) fn last(&self) -> u64 {
        self.history.events.last().map_or(0, |event| event.t)
    }

    /// The time of the first event.
    pub(crate) fn first(&self) -> u64 {
        self.history.events.first().map_or(0, |event| event.t)
    }
}

fn told(hold: &mut Hold, event: &Event, at: At) {
    if let Some(deadline) = event.deadline
        && hold.deadline.is_none_or(|(known, _)| known < deadline)
    {
        hold.deadline = Some((deadline, at));
    }
}
