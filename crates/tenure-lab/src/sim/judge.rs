//! What must hold in every run, judged in virtual time while it happens.
//!
//! The judge sees both ends: what the server did with each claim, and what each client believes. It knows which
//! assumption a fault breaks and excuses the claims that rest on it, no others.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tenure::backend::{Answer, Claim, ClaimId, Grant, Lease, Leave, Released, Standing};
use tenure::core::lease::deadline;
use tenure::core::moment::{Moment, nanos};
use tenure::{Guard, Key};

use super::machine::Machine;

/// How many locks there are.
pub(super) const LOCKS: usize = 2;
/// Their names.
pub(super) const NAMES: [&str; LOCKS] = ["a", "b"];

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) rule: &'static str,
    /// True time.
    pub(super) at: u64,
    pub(super) what: String,
}

/// A request as it is served: the true time, the server's, and whose it is.
#[derive(Clone, Copy)]
pub(super) struct Serving {
    pub(super) t: u64,
    pub(super) now: u64,
    pub(super) machine: usize,
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
    at: At,
    token: i64,
    /// When its lease ends on the server's clock.
    end: u64,
    /// It was released or withdrawn: never to be granted again.
    withdrawn: bool,
    /// What the server promised of it was broken by a fault, which no lock service survives.
    excused: bool,
    evicted: bool,
    /// A release found it holding.
    given_back: bool,
    /// Until when its client may believe, on the client's clock.
    bound: Moment,
    ttl: Duration,
}

/// A client that believes, or did.
struct Belief {
    lock: usize,
    id: ClaimId,
    machine: Arc<Machine>,
    guard: Weak<Guard>,
    /// It was found lost: for good.
    lost: bool,
}

/// What a lock protects: it refuses lower tokens than the highest it has seen.
#[derive(Clone, Copy, Debug, Default)]
struct Resource {
    highest: i64,
    value: u64,
    written: u64,
}

/// The rules, in the order of [`Judge::judged`].
pub(super) const RULES: [&str; 13] =
    ["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "L1/L2", "L4", "L5"];

/// The judge of one run.
#[derive(Default)]
pub(super) struct Judge {
    records: HashMap<u128, Record>,
    by_token: HashMap<(usize, i64), ClaimId>,
    beliefs: Vec<Belief>,
    highest: [i64; LOCKS],
    resources: [Resource; LOCKS],
    /// The server's data was lost; its clock was set back. Both, and tokens may come again.
    pub(super) forgot: bool,
    pub(super) set_back: bool,
    /// Claims of these machines are excused from their birth on: their clocks run wrongly.
    bad_clocks: Vec<usize>,
    /// Clocks that were stepped: when such a client's claims were born is told wrongly.
    pub(super) stepped: Vec<usize>,
    pub(super) broken: Option<Broken>,
    /// How often each rule was judged: a judge that is never asked finds nothing.
    pub(super) judged: [u64; RULES.len()],
    pub(super) grants: u64,
}

pub(super) fn lock_of(key: &Key) -> usize {
    NAMES.iter().position(|n| *n == key.name()).unwrap_or(0)
}

impl Judge {
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

    /// From now on the server's promises of what it knows are worth nothing: its data or its clock changed.
    pub(super) fn excuse_all(&mut self) {
        self.records.values_mut().for_each(|r| r.excused = true);
    }

    /// The same for one machine, from now on.
    pub(super) fn excuse_machine(&mut self, machine: usize) {
        self.bad_clocks.push(machine);
        self.records.values_mut().filter(|r| r.machine == machine).for_each(|r| r.excused = true);
    }

    /// What is known of a claim that the server has just heard of.
    fn record(&mut self, s: Serving, claim: &Claim) -> &mut Record {
        let excused = self.bad_clocks.contains(&s.machine);
        self.records.entry(claim.id.0).or_insert_with(|| Record {
            lock: lock_of(&claim.key),
            machine: s.machine,
            at: At::Out,
            token: 0,
            end: 0,
            withdrawn: false,
            excused,
            evicted: false,
            given_back: false,
            bound: Moment(0),
            ttl: claim.ttl,
        })
    }

    pub(super) fn attempted(&mut self, s: Serving, claim: &Claim, answer: &Result<Answer, tenure::Error>) {
        let Ok(answer) = answer else { return };
        let stepped = self.stepped.contains(&s.machine);
        let record = self.record(s, claim);
        let taken = matches!(answer.standing, Standing::Held(_) | Standing::Waiting { .. });
        let ghost = taken && record.withdrawn && !record.excused && !stepped;
        let what = || format!("{} was taken after it was withdrawn", claim.id.short());
        self.rule("S9", s.t, !ghost, what);
        self.answered(s, claim.id, answer);
    }

    pub(super) fn renewed(&mut self, s: Serving, claim: &Claim, answer: &Result<Answer, tenure::Error>) {
        let Ok(answer) = answer else { return };
        let known = self.records.get(&claim.id.0).map(|r| (r.at, r.excused, r.end > s.now));
        let taken = matches!(answer.standing, Standing::Held(_) | Standing::Waiting { .. });
        let created = taken && !known.is_some_and(|(at, excused, lives)| excused || (at != At::Out && lives));
        let what = || format!("a renewal made {}", claim.id.short());
        self.rule("S10", s.t, !created, what);
        self.answered(s, claim.id, answer);
    }

    /// What the server said of a claim: it stays what it was, unless there is a reason.
    fn answered(&mut self, s: Serving, id: ClaimId, answer: &Answer) {
        let Some(record) = self.records.get_mut(&id.0) else { return };
        let before = (record.at, record.token);
        let lives = record.at != At::Out && record.end > s.now && !record.excused;
        match &answer.standing {
            Standing::Held(grant) => {
                let token = grant.token.map_or(0, tenure::Token::get);
                let other = before.0 == At::Holds && lives && before.1 != token;
                record.at = At::Holds;
                record.token = token;
                record.end = end(s.now, grant.lease);
                let what = || format!("{} has the token {} and then {token}", id.short(), before.1);
                self.rule("S7", s.t, !other, what);
                if before.0 != At::Holds || before.1 != token {
                    self.grant(s, id, token);
                }
            }
            Standing::Waiting { lease, .. } => {
                let back = before.0 == At::Holds && lives;
                record.at = At::Waits;
                record.end = end(s.now, *lease);
                self.rule("S4", s.t, !back, || format!("{} held and waits again", id.short()));
            }
            Standing::Busy | Standing::Gone { .. } => {
                record.at = At::Out;
                let what = || format!("{} vanished, though nobody ended it", id.short());
                self.rule("S4", s.t, !lives, what);
            }
        }
    }

    /// A waiting claim was granted by what another one did.
    pub(super) fn granted(&mut self, s: Serving, id: ClaimId, grant: Grant) {
        let Some(record) = self.records.get_mut(&id.0) else { return };
        let ghost = record.withdrawn && !record.excused && !self.stepped.contains(&record.machine);
        let token = grant.token.map_or(0, tenure::Token::get);
        (record.at, record.token, record.end) = (At::Holds, token, end(s.now, grant.lease));
        self.rule("S9", s.t, !ghost, || format!("{} was granted after it was withdrawn", id.short()));
        self.grant(s, id, token);
    }

    /// The store granted: nobody else may believe from this instant on.
    fn grant(&mut self, s: Serving, id: ClaimId, token: i64) {
        self.grants += 1;
        let Some(record) = self.records.get(&id.0) else { return };
        let (lock, excused) = (record.lock, record.excused);
        self.by_token.insert((lock, token), id);
        if !excused {
            self.nobody_else("S5", s.t, lock, id);
        }
    }

    pub(super) fn evicted(&mut self, id: ClaimId) {
        if let Some(record) = self.records.get_mut(&id.0) {
            (record.at, record.evicted, record.withdrawn) = (At::Out, true, true);
        }
    }

    pub(super) fn released(
        &mut self,
        s: Serving,
        claim: &Claim,
        leave: Leave,
        released: &Result<Released, tenure::Error>,
    ) {
        let Ok(released) = released else { return };
        let record = self.record(s, claim);
        let lives = record.at != At::Out && record.end > s.now && !record.excused;
        record.at = At::Out;
        record.given_back |= *released == Released::WasHeld;
        // A hold that stays is followed by its mark.
        record.withdrawn |= !matches!(leave, Leave::For(_));
        let unknown = lives && *released == Released::Gone;
        self.rule("S4", s.t, !unknown, || format!("{} vanished before its release", claim.id.short()));
    }

    /// A client hears of a grant or a renewal that was asked for at `sent`.
    pub(super) fn told(&mut self, id: ClaimId, sent: Moment, grant: &Grant) {
        let Lease::For(ttl) = grant.lease else { return };
        if let Some(record) = self.records.get_mut(&id.0) {
            record.bound = record.bound.max(deadline(sent, ttl));
        }
    }

    /// Before a call: the highest token so far.
    pub(super) fn floor(&self, lock: usize) -> i64 {
        self.highest[lock]
    }

    /// A call returned a guard.
    pub(super) fn acquired(
        &mut self,
        t: u64,
        lock: usize,
        machine: &Arc<Machine>,
        guard: &Arc<Guard>,
        floor: i64,
    ) {
        let token = guard.token().get();
        let off = self.forgot && self.set_back;
        self.rule("S2", t, off || token > floor, || format!("{token} after {floor}"));
        self.highest[lock] = self.highest[lock].max(token);
        let Some(&id) = self.by_token.get(&(lock, token)) else {
            return self.fail("S2", t, format!("nobody gave the token {token}"));
        };
        let twice = self.beliefs.iter().any(|b| b.lock == lock && b.id == id);
        self.rule("S7", t, !twice, || format!("{} was handed out twice", id.short()));
        self.nobody_else("S1", t, lock, id);
        let guard = Arc::downgrade(guard);
        self.beliefs.push(Belief { lock, id, machine: machine.clone(), guard, lost: false });
    }

    /// Nobody but `id` believes that it holds the lock.
    fn nobody_else(&mut self, rule: &'static str, t: u64, lock: usize, id: ClaimId) {
        let mut other = None;
        for belief in self.beliefs.iter_mut().filter(|b| b.lock == lock && b.id != id && !b.lost) {
            let excused = self.records.get(&belief.id.0).is_none_or(|r| r.excused || r.evicted);
            // Dropped or released: its belief ended then.
            let Some(guard) = belief.guard.upgrade() else {
                belief.lost = true;
                continue;
            };
            belief.lost = guard.check().is_err();
            if !belief.lost && !excused {
                other = Some((belief.id, belief.machine.number));
            }
        }
        let excused = self.records.get(&id.0).is_none_or(|r| r.excused || r.evicted);
        let what = || {
            let (other, machine) = other.unwrap_or((id, 0));
            format!("{} has it, and client {machine} believes in {}", id.short(), other.short())
        };
        self.rule(rule, t, excused || other.is_none(), what);
    }

    /// Looks at a guard, as its owner does. `now` is the server's time.
    pub(super) fn check(&mut self, t: u64, now: u64, guard: &Arc<Guard>) -> bool {
        let left = guard.check();
        let mut beliefs = self.beliefs.iter_mut();
        let Some(belief) = beliefs.find(|b| b.guard.as_ptr() == Arc::as_ptr(guard)) else {
            return left.is_ok();
        };
        let revived = belief.lost && left.is_ok();
        belief.lost |= left.is_err();
        let (id, here) = (belief.id, belief.machine.clock_now());
        self.rule("S5", t, !revived, || format!("{} was lost and is not", id.short()));
        let (Some(record), Ok(left)) = (self.records.get(&id.0), left) else { return false };
        let (bound, ends, excused) = (record.bound, record.end, record.excused || record.evicted);
        let honest = here + left <= bound;
        self.rule("S5", t, honest, || {
            let over = Duration::from_nanos(nanos((here + left).since(bound)));
            format!("{} believes for {over:?} too long", id.short())
        });
        let what = || format!("{} believes after its lease ended", id.short());
        self.rule("S5", t, excused || now < ends, what);
        true
    }

    /// The first access of a holder: reads, and shows its token.
    pub(super) fn enter(&mut self, lock: usize, token: i64) -> Option<u64> {
        let resource = &mut self.resources[lock];
        (token >= resource.highest).then(|| {
            resource.highest = token;
            resource.value
        })
    }

    /// Writes one more than was read.
    pub(super) fn write(&mut self, t: u64, lock: usize, token: i64, read: u64) {
        let resource = &mut self.resources[lock];
        if token < resource.highest {
            return;
        }
        (resource.highest, resource.value, resource.written) = (token, read + 1, resource.written + 1);
        let (value, written, off) = (resource.value, resource.written, self.forgot && self.set_back);
        self.rule("S3", t, off || value == written, || format!("{written} writes came to {value}"));
    }

    /// A release said that the lock was ours until now.
    pub(super) fn was_ours(&mut self, t: u64, lock: usize, token: i64) {
        let Some(id) = self.by_token.get(&(lock, token)).copied() else { return };
        let Some(record) = self.records.get(&id.0) else { return };
        // Asked twice, a store that has evicted it says what it says after a first release whose answer was lost.
        let known = record.given_back || record.excused || record.evicted;
        self.rule("S8", t, known, || format!("{} was released, and the server never did", id.short()));
    }

    /// Claims that the server still has while no guard and no call is left, by `alive` machines.
    pub(super) fn ghosts(&mut self, t: u64, now: u64, alive: &[usize]) {
        let mut ghosts: Vec<String> = self
            .records
            .iter()
            .filter(|(_, r)| r.at != At::Out && r.end > now && !r.excused && alive.contains(&r.machine))
            .map(|(id, r)| format!("{} of client {} ({:?})", ClaimId(*id).short(), r.machine, r.at))
            .collect();
        ghosts.sort();
        self.rule("S6", t, ghosts.is_empty(), || format!("left behind: {}", ghosts.join(", ")));
    }

    /// The longest lease of any claim, in ns.
    pub(super) fn longest(&self) -> u64 {
        self.records.values().map(|r| nanos(r.ttl)).max().unwrap_or(0)
    }
}

fn end(now: u64, lease: Lease) -> u64 {
    match lease {
        Lease::For(d) => now + nanos(d),
        Lease::Unbounded => u64::MAX,
    }
}
