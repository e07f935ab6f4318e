//! What each client believes and does, and whether it may.

use std::sync::Arc;
use std::time::Duration;

use tenure::backend::{Answer, ClaimId, Grant, Lease, Leave, Standing};
use tenure::core::lease::deadline;
use tenure::core::moment::{Moment, nanos};

use super::super::grip::token_of;
use super::super::locks::{READERS, room};
use super::super::machine::Machine;
use super::{AnyGuard, At, Belief, Floor, Judge};

impl Judge {
    /// A client hears of a grant or a renewal that was asked for at `sent`.
    pub(in super::super) fn told(&mut self, id: ClaimId, sent: Moment, grant: &Grant) {
        let Lease::For(told) = grant.lease else { return };
        if let Some(record) = self.records.get_mut(&id.0) {
            // Whatever the server says: its clock may have stepped since it stored the end of the lease.
            record.bound = record.bound.max(deadline(sent, told.min(record.ttl)));
        }
    }

    /// A client hears where a claim stands, having asked at `sent`.
    pub(in super::super) fn hears(&mut self, id: ClaimId, sent: Moment, answer: &Answer) {
        match &answer.standing {
            Standing::Held(grant) => self.told(id, sent, grant),
            Standing::Gone { .. } => {
                if let Some(record) = self.records.get_mut(&id.0) {
                    record.let_go = true;
                }
            }
            _ => {}
        }
    }

    /// A client hears that its release is done: nothing of this claim may come after that.
    pub(in super::super) fn withdrawn(&mut self, id: ClaimId, leave: Leave) {
        if let Some(record) = self.records.get_mut(&id.0) {
            record.at = At::Out;
            record.withdrawn |= !matches!(leave, Leave::For(_));
        }
    }

    /// A release of one claim ended the hold of another, which nobody may believe in any more.
    pub(in super::super) fn stranger(&mut self, t: u64, lock: usize, by: ClaimId) {
        self.nobody_else("S4", t, (lock, room(lock)), by, None);
    }

    /// Before a call: the highest tokens so far.
    pub(in super::super) fn floor(&self, lock: usize) -> Floor {
        self.highest[lock]
    }

    /// A call returned a guard.
    pub(in super::super) fn acquired(
        &mut self,
        t: u64,
        lock: usize,
        machine: &Arc<Machine>,
        guard: &Arc<AnyGuard>,
        floor: Floor,
    ) {
        let (token, whole) = (token_of(guard), matches!(**guard, AnyGuard::Guard(_)));
        if !matches!(**guard, AnyGuard::Permit(_)) {
            let admits = floor.admits(token, whole)
                || self.forgot && (self.set_back || self.excused(lock, token))
                || !whole && self.joins_forgotten(lock, token);
            self.rule("S2", t, admits, || format!("{token} after {floor:?}"));
        }
        let highest = &mut self.highest[lock];
        highest.any = highest.any.max(token);
        highest.whole = if whole { highest.whole.max(token) } else { highest.whole };
        self.believes(t, lock, machine, guard);
    }

    /// A client has a guard from now on.
    fn believes(&mut self, t: u64, lock: usize, machine: &Arc<Machine>, guard: &Arc<AnyGuard>) {
        let token = token_of(guard);
        let id = match lock < READERS {
            true => self.by_token(lock, token),
            false => self.by_hash(lock, machine.number, (&guard.claim(), token)),
        };
        let weight = id.and_then(|id| self.records.get(&id.0)).map(|r| r.weight);
        let (Some(id), Some(weight)) = (id, weight) else {
            return self.fail("S2", t, format!("the store never gave {} with {token}", guard.claim()));
        };
        self.passed += u64::from(lock < READERS && !self.by_token.contains_key(&(lock, token)));
        let twice = self.beliefs.iter().any(|b| b.lock == lock && b.id == id && b.token == token);
        self.rule("S7", t, !twice, || format!("{} was handed out twice", id.short()));
        self.nobody_else("S1", t, (lock, weight), id, Some(token));
        let guard = Arc::downgrade(guard);
        self.beliefs.push(Belief { lock, id, token, weight, machine: machine.clone(), guard, lost: false });
    }

    /// The claim behind a hold that somebody believes in, or did.
    pub(in super::super) fn of(&self, guard: &Arc<AnyGuard>) -> Option<ClaimId> {
        self.beliefs.iter().find(|b| b.guard.as_ptr() == Arc::as_ptr(guard)).map(|b| b.id)
    }

    /// Looks at a guard, as its owner does. `now` is the server's time.
    pub(in super::super) fn check(&mut self, t: u64, now: u64, guard: &Arc<AnyGuard>) -> bool {
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

    /// The first access of a holder: reads, and shows its token, unless tokens are only looked at when it writes. Reads
    /// the twin as well.
    pub(in super::super) fn enter(&mut self, lock: usize, token: i64, shown: bool) -> (Option<u64>, u64) {
        let resource = &mut self.resources[lock];
        let read = (token >= resource.highest).then_some(resource.value);
        if shown {
            resource.highest = resource.highest.max(token);
        }
        (read, resource.twin)
    }

    /// Writes one more than was read, into the resource if it lets the token in, and into its unfenced twin.
    pub(in super::super) fn write(&mut self, t: u64, lock: usize, token: i64, read: (Option<u64>, u64)) {
        let resource = &mut self.resources[lock];
        (resource.twin, resource.twin_written) = (read.1 + 1, resource.twin_written + 1);
        let Some(read) = read.0.filter(|_| token >= resource.highest) else { return };
        (resource.highest, resource.value, resource.written) = (token, read + 1, resource.written + 1);
        let (value, written, off) =
            (resource.value, resource.written, self.forgot && (self.set_back || self.doubled));
        self.rule("S3", t, off || value == written, || format!("{written} writes came to {value}"));
    }

    /// A release is about to be sent.
    pub(in super::super) fn releases(&mut self, id: ClaimId) {
        if let Some(record) = self.records.get_mut(&id.0) {
            record.releases += 1;
        }
    }

    /// A hold has become a handle: nobody keeps it.
    pub(in super::super) fn detached(&mut self, lock: usize, token: i64) {
        let id = self.by_token(lock, token);
        if let Some(record) = id.and_then(|id| self.records.get_mut(&id.0)) {
            record.detached = true;
        }
    }

    /// A handle has become a guard, with the token that the handle has.
    pub(in super::super) fn adopted(
        &mut self,
        t: u64,
        lock: usize,
        machine: &Arc<Machine>,
        guard: &Arc<AnyGuard>,
        token: i64,
    ) {
        let now = token_of(guard);
        // An old copy of the data may have had its claim in line: it was granted once more, and went on as this one.
        let off = self.forgot && self.excused(lock, now);
        self.rule("S2", t, off || now == token, || format!("{token} was handed over, and {now} arrived"));
        self.believes(t, lock, machine, guard);
    }

    /// The same of a handle.
    pub(in super::super) fn handle_was_ours(&mut self, t: u64, lock: usize, token: i64) {
        if let Some(id) = self.by_token(lock, token) {
            self.was_ours(t, id);
        }
    }

    /// A release said that the lock was ours until now.
    pub(in super::super) fn was_ours(&mut self, t: u64, id: ClaimId) {
        let Some(record) = self.records.get(&id.0) else { return };
        // Asked twice, a store that has evicted it says what it says after a first release whose answer was lost.
        // Passed on, the server was not asked: what counts is that its claim held.
        let passed = record.shared && record.releases == 0 && (record.at == At::Holds || record.evicted);
        let known = record.given_back || record.excused || passed || record.evicted && record.releases > 1;
        self.rule("S8", t, known, || format!("{} was released, and the server never did", id.short()));
    }
}
