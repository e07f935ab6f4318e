//! What must hold in every run, judged in virtual time while it happens.
//!
//! The judge sees both ends: what the server did with each claim, and what each client believes. It knows which
//! assumption a fault breaks and excuses the claims that rest on it, no others.

mod client;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tenure::backend::{Claim, ClaimId};
use tenure::core::moment::{Moment, nanos};

use super::locks::{LOCKS, NAMES, READERS, TOKENS, lock_of, room};
use super::machine::Machine;
use super::message::Serving;
use super::stores::Store;
use crate::any_guard::AnyGuard;

/// The highest tokens that were used of a lock: of any hold, and of one that excludes all others. Readers share theirs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    pub(super) any: i64,
    pub(super) whole: i64,
}

impl Floor {
    /// Whether a hold that comes afterwards may have this token.
    fn admits(self, token: i64, whole: bool) -> bool {
        token > self.whole && (token > self.any || !whole && token == self.any)
    }
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) rule: &'static str,
    /// True time.
    pub(super) at: u64,
    pub(super) what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The server knows nothing of it (any more).
    Out,
    Waits,
    Holds,
}

/// One claim.
#[derive(Debug)]
struct Record {
    lock: usize,
    machine: usize,
    weight: u64,
    at: At,
    token: i64,
    /// When its lease ends on the server's clock.
    end: u64,
    /// When it came to wait in line: a number that only grows.
    stood: Option<u64>,
    /// How often its release was sent.
    releases: u32,
    /// Nobody keeps it: its handle is on its way, or forgotten.
    detached: bool,
    /// It was released or withdrawn: never to be granted again.
    withdrawn: bool,
    /// What the server promised of it was broken by a fault, which no lock service survives.
    excused: bool,
    evicted: bool,
    /// Its client heard that the store has nothing of it.
    let_go: bool,
    /// A release found it holding.
    given_back: bool,
    /// Until when its client may believe, on the client's clock.
    bound: Moment,
    ttl: Duration,
    /// Tasks pass it on.
    shared: bool,
}

/// A client that believes, or did.
struct Belief {
    lock: usize,
    id: ClaimId,
    token: i64,
    weight: u64,
    machine: Arc<Machine>,
    guard: Weak<AnyGuard>,
    /// It was found lost: for good.
    lost: bool,
}

/// What a lock protects: it refuses lower tokens than the highest it has seen.
#[derive(Clone, Copy, Debug, Default)]
struct Resource {
    highest: i64,
    value: u64,
    written: u64,
    /// The same without a look at tokens.
    twin: u64,
    twin_written: u64,
}

/// The rules, in the order of [`Judge::judged`].
pub(super) const RULES: [&str; 14] =
    ["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "L1/L2", "L3", "L4", "L5"];

/// The judge of one run.
#[derive(Default)]
pub(super) struct Judge {
    records: HashMap<u128, Record>,
    /// By the first token of each grant.
    by_token: BTreeMap<(usize, i64), ClaimId>,
    beliefs: Vec<Belief>,
    highest: [Floor; LOCKS],
    resources: [Resource; LOCKS],
    /// The holds that stay after their release: until when, on the server's clock, and how much they take.
    kept: [Vec<(u64, u64)>; LOCKS],
    /// Whether the store remembers claims that it took away.
    marks: bool,
    /// Whether it grants in order.
    fifo: bool,
    /// Whether it judges by births.
    births: bool,
    stood: u64,
    /// The server's data was lost; its clock was set back. Both, and tokens may come again.
    pub(super) forgot: bool,
    /// When that was, in true time, or when one of several clocks stepped forward.
    lost_at: u64,
    pub(super) set_back: bool,
    /// One handle went to two clients: a server that forgets an adoption grants a second one, with the same token.
    pub(super) doubled: bool,
    /// Claims of these machines are excused from their birth on: their clocks run wrongly.
    bad_clocks: Vec<usize>,
    /// Clocks that were stepped: when such a client's claims were born is told wrongly.
    pub(super) stepped: Vec<usize>,
    pub(super) broken: Option<Broken>,
    /// How often each rule was judged: a judge that is never asked finds nothing.
    pub(super) judged: [u64; RULES.len()],
    pub(super) grants: u64,
    /// How many of the holds were passed on by another task.
    pub(super) passed: u64,
}

impl Judge {
    /// For a kind of store.
    pub(super) fn new(store: Store) -> Judge {
        let (marks, fifo, births) = (store.lines(), store.judges("L3"), store.asks_births());
        Judge { marks, fifo, births, ..Judge::default() }
    }

    pub(super) fn fail(&mut self, rule: &'static str, at: u64, what: String) {
        self.broken.get_or_insert(Broken { rule, at, what });
    }

    /// Judges a rule once.
    pub(super) fn rule(&mut self, rule: &'static str, at: u64, holds: bool, what: impl FnOnce() -> String) {
        if let Some(n) = RULES.iter().position(|r| *r == rule) {
            self.judged[n] += 1;
        }
        if !holds {
            self.fail(rule, at, what());
        }
    }

    /// The server lost its data, or has an old copy of it.
    pub(super) fn forgets(&mut self, t: u64) {
        self.excuse_all();
        (self.forgot, self.lost_at) = (true, t);
    }

    /// The clock of one of several servers was stepped. Forward, its votes end too early, also those of a claim that has not
    /// counted them yet. And a server that is ahead makes tokens that another one, which forgot, is behind.
    pub(super) fn steps_one(&mut self, t: u64, forward: bool) {
        self.set_back = true;
        if forward {
            self.lost_at = t;
        }
    }

    /// From now on the server's promises of what it knows are worth nothing: its data or its clock changed.
    pub(super) fn excuse_all(&mut self) {
        self.kept = Default::default();
        self.records.values_mut().for_each(|r| r.excused = true);
    }

    /// The same for one machine, from now on.
    pub(super) fn excuse_machine(&mut self, machine: usize) {
        self.bad_clocks.push(machine);
        self.records.values_mut().filter(|r| r.machine == machine).for_each(|r| r.excused = true);
    }

    /// Whether the server is told wrongly when the claims of a machine were born: one of the two clocks was stepped after
    /// they were compared. A request that is late by more than a mark lives may be let in then.
    fn born_wrongly(&self, machine: usize) -> bool {
        self.births && (self.set_back || self.stepped.contains(&machine))
    }

    /// Whose grant a token is one of.
    fn by_token(&self, lock: usize, token: i64) -> Option<ClaimId> {
        let grants = self.by_token.range((lock, token.saturating_sub(TOKENS) + 1)..=(lock, token));
        grants.last().map(|(_, id)| *id)
    }

    /// Whether a fault broke the promise behind the grant that a token is one of.
    fn excused(&self, lock: usize, token: i64) -> bool {
        self.by_token(lock, token).and_then(|id| self.records.get(&id.0)).is_some_and(|r| r.excused)
    }

    /// Whether readers whom an old copy of the server's data brought back have this token. A reader that joins them shares
    /// it, and the fence refuses it once a newer one was used.
    fn joins_forgotten(&self, lock: usize, token: i64) -> bool {
        let readers = |r: &Record| r.lock == lock && r.token == token && r.excused && r.weight < room(lock);
        self.forgot && lock == READERS && self.records.values().any(readers)
    }

    /// What is known of a claim that the server has just heard of.
    fn record(&mut self, s: Serving, claim: &Claim) -> &mut Record {
        // Without marks, a late request may find a store that lost its data as it was when that request was sent. And votes
        // that were asked for before a clock stepped may have ended.
        let late = !self.marks && s.left < self.lost_at;
        let excused = late || self.bad_clocks.contains(&s.machine);
        self.records.entry(claim.id.0).or_insert_with(|| Record {
            lock: lock_of(&claim.key),
            machine: s.machine,
            weight: u64::from(claim.weight),
            at: At::Out,
            token: 0,
            end: 0,
            stood: None,
            releases: 0,
            detached: false,
            withdrawn: false,
            excused,
            evicted: false,
            let_go: false,
            given_back: false,
            bound: Moment(0),
            ttl: claim.ttl,
            shared: claim.cohort.tokens > 1,
        })
    }

    /// Those who believe that they hold the lock leave room for the `weight` of `id`; of those who pass one hold on, nobody
    /// but who has the token believes.
    fn nobody_else(
        &mut self,
        rule: &'static str,
        t: u64,
        (lock, weight): (usize, u64),
        id: ClaimId,
        token: Option<i64>,
    ) {
        let (mut other, mut taken) = (None, 0);
        for belief in self.beliefs.iter_mut().filter(|b| b.lock == lock && !b.lost) {
            if belief.id == id && token.is_none_or(|token| belief.token == token) {
                continue;
            }
            let excused = self.records.get(&belief.id.0).is_none_or(|r| r.excused || r.evicted);
            // Dropped or released: its belief ended then.
            let Some(guard) = belief.guard.upgrade() else {
                belief.lost = true;
                continue;
            };
            belief.lost = guard.check().is_err();
            if !belief.lost && !excused {
                other = Some((belief.id, belief.machine.number));
                // Two tasks that pass one hold on exclude each other.
                taken += if belief.id == id { room(lock) } else { belief.weight };
            }
        }
        let excused = self.records.get(&id.0).is_none_or(|r| r.excused || r.evicted);
        let what = || {
            let (other, machine) = other.unwrap_or((id, 0));
            format!(
                "{} has {weight} of {}, and client {machine} believes in {}: {taken} are taken",
                id.short(),
                NAMES[lock],
                other.short()
            )
        };
        self.rule(rule, t, excused || taken == 0 || taken + weight <= room(lock), what);
    }

    /// The claim behind a hold of a machine, by what it shows. The hash is short, so that others may have the same: then it is
    /// the one that was granted this token, or that the server has.
    fn by_hash(&self, lock: usize, machine: usize, (hash, token): (&str, i64)) -> Option<ClaimId> {
        let of = self.records.iter().filter(|(_, r)| r.lock == lock && r.machine == machine);
        let of = of.filter(|(id, _)| ClaimId(**id).short() == hash);
        of.min_by_key(|(id, r)| (r.token != token, r.at != At::Holds, **id)).map(|(id, _)| ClaimId(*id))
    }

    /// Claims that the server still has while no guard and no call is left, by `alive` machines.
    pub(super) fn ghosts(&mut self, t: u64, now: u64, alive: &[usize]) {
        let mut ghosts: Vec<String> = self
            .records
            .iter()
            .filter(|(_, r)| r.at != At::Out && r.end > now && !r.excused && !r.detached && !r.let_go)
            .filter(|(_, r)| alive.contains(&r.machine))
            .map(|(id, r)| format!("{} of client {} ({:?})", ClaimId(*id).short(), r.machine, r.at))
            .collect();
        ghosts.sort();
        self.rule("S6", t, ghosts.is_empty(), || format!("left behind: {}", ghosts.join(", ")));
    }

    /// The claims that hold, and their locks.
    pub(super) fn held(&self) -> Vec<(ClaimId, usize)> {
        let held = self.records.iter().filter(|(_, r)| r.at == At::Holds);
        held.map(|(id, r)| (ClaimId(*id), r.lock)).collect()
    }

    /// Until when the store keeps a claim's hold.
    pub(super) fn lasts(&mut self, id: ClaimId, end: u64) {
        if let Some(record) = self.records.get_mut(&id.0) {
            record.end = end;
        }
    }

    /// The longest lease of any claim, in ns.
    pub(super) fn longest(&self) -> u64 {
        self.records.values().map(|r| nanos(r.ttl)).max().unwrap_or(0)
    }

    /// How many writes the unfenced twins lost, of how many.
    pub(super) fn twins(&self) -> [u64; 2] {
        let sum = |f: fn(&Resource) -> u64| self.resources.iter().map(f).sum();
        [sum(|r| r.twin_written - r.twin), sum(|r| r.twin_written)]
    }
}
