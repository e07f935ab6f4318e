//! Whether a lock that excludes can explain a history of one lock: tries every order of grants and ends that the stamps
//! allow. It shares no code with the judge.
//!
//! A claim makes two steps. It is granted at some time between the invocation of its acquire and its return. Its hold ends
//! at some time after the first of these: the invocation of its release, the report of its loss, its latest deadline. If
//! its release returned, the hold ends before that; otherwise at any time or never. A claim whose acquire has an unknown
//! outcome may be granted, and then end, at any time or never. A claim that was never believed is granted in time, and may
//! end at any time after that.
//!
//! If tokens are looked at, each grant must have a greater token than all before it. A reader may share the token of the
//! readers before it, and must if one of them still holds.

use std::collections::{BTreeMap, HashSet};

use tenure_lab::history::{Event, Kind, Op, Phase};

/// One step: it takes effect at some time from `from` to `to`.
#[derive(Clone, Copy, Debug)]
struct Step {
    claim: usize,
    grants: bool,
    from: u64,
    to: u64,
}

#[derive(Clone, Debug)]
struct Claim {
    kind: Kind,
    weight: u32,
    capacity: u32,
    invoked: u64,
    returned: Option<u64>,
    ends: Vec<u64>,
    deadline: Option<u64>,
    released: Option<u64>,
    token: Option<i64>,
}

/// All orders of the steps that the stamps and the lock allow.
struct Search {
    claims: Vec<Claim>,
    steps: Vec<Step>,
    /// Sets of steps done from which nothing was found. What is held follows from them.
    dead: HashSet<u32>,
    ordered: bool,
}

/// Whether there is an explanation. The events are of one lock. `ordered`: its grants must be in the order of their tokens.
pub(crate) fn explainable(events: &[Event], ordered: bool) -> bool {
    // A permit has no token, so one that was never believed shows nothing.
    let shows = |claim: &Claim| (ordered && claim.kind != Kind::Semaphore) || believed_or_unknown(claim);
    let claims: Vec<Claim> = read(events).into_values().filter(shows).collect();
    let mut steps = Vec::new();
    for (claim, one) in claims.iter().enumerate() {
        let from = one.ends.iter().copied().chain(one.deadline).min().unwrap_or(u64::MAX);
        steps.push(Step { claim, grants: true, from: one.invoked, to: one.returned.unwrap_or(u64::MAX) });
        let from = if one.returned.is_some() && believed_or_unknown(one) { from } else { one.invoked };
        steps.push(Step { claim, grants: false, from, to: one.released.unwrap_or(u64::MAX) });
    }
    assert!(steps.len() < 32, "a small history");
    Search { claims, steps, dead: HashSet::new(), ordered }.from(0)
}

fn read(events: &[Event]) -> BTreeMap<u64, Claim> {
    let mut claims: BTreeMap<u64, Claim> = BTreeMap::new();
    for event in events {
        let Some(id) = event.claim else { continue };
        let claim = claims.entry(id.0).or_insert(Claim {
            kind: Kind::Mutex,
            weight: 1,
            capacity: 1,
            invoked: 0,
            returned: None,
            ends: Vec::new(),
            deadline: None,
            released: None,
            token: None,
        });
        claim.token = claim.token.or(event.token);
        match (event.op, event.phase) {
            (Op::Acquire, Phase::Invoke) => {
                claim.kind = event.kind.expect("kind");
                claim.weight = event.weight.expect("weight");
                claim.capacity = event.capacity.expect("capacity");
                claim.invoked = event.t;
            }
            (Op::Acquire, Phase::Ok) => claim.returned = Some(event.t),
            (Op::Release, Phase::Invoke) | (Op::Lost, _) | (Op::Check, Phase::Lost) => {
                claim.ends.push(event.t)
            }
            (Op::Release, Phase::Ok) => claim.released = Some(event.t),
            _ => {}
        }
        if event.phase == Phase::Ok {
            claim.deadline = claim.deadline.max(event.deadline);
        }
    }
    claims
}

/// A claim whose deadline had passed when its acquire returned was never believed, and does not exclude others.
fn believed_or_unknown(claim: &Claim) -> bool {
    let Some(returned) = claim.returned else { return true };
    claim.ends.iter().chain(&claim.deadline).all(|end| *end > returned)
}

impl Search {
    fn from(&mut self, done: u32) -> bool {
        let open = |index: usize| done & (1 << index) == 0;
        // A step that must have been taken by `to` comes before every step that may be taken only after that.
        let limit =
            (0..self.steps.len()).filter(|s| open(*s)).map(|s| self.steps[s].to).min().unwrap_or(u64::MAX);
        if limit == u64::MAX {
            return true;
        }
        if self.dead.contains(&done) {
            return false;
        }
        for index in 0..self.steps.len() {
            let step = self.steps[index];
            if open(index) && step.from <= limit && self.allowed(done, step) && self.from(done | (1 << index))
            {
                return true;
            }
        }
        self.dead.insert(done);
        false
    }

    fn allowed(&self, done: u32, step: Step) -> bool {
        // Steps come in twos: the grant at an even place, its end after it.
        let did = |index: usize| done & (1 << index) != 0;
        if !step.grants {
            return did(step.claim * 2);
        }
        let held = (0..self.claims.len()).filter(|c| did(c * 2) && !did(c * 2 + 1)).map(|c| &self.claims[c]);
        let one = &self.claims[step.claim];
        if self.ordered && !self.in_order(done, one) {
            return false;
        }
        let (mut weight, mut capacity) = (one.weight, one.capacity);
        for other in held {
            match (one.kind, other.kind) {
                (Kind::Read, Kind::Read) => {}
                (Kind::Semaphore, Kind::Semaphore) => {
                    weight += other.weight;
                    capacity = capacity.min(other.capacity);
                }
                _ => return false,
            }
        }
        one.kind != Kind::Semaphore || weight <= capacity
    }

    /// Whether the token of this claim may follow those of the claims granted so far.
    fn in_order(&self, done: u32, one: &Claim) -> bool {
        let Some(token) = one.token.filter(|_| one.kind != Kind::Semaphore) else { return true };
        (0..self.claims.len()).filter(|c| done & (1 << (c * 2)) != 0).all(|c| {
            let (other, holds) = (&self.claims[c], done & (1 << (c * 2 + 1)) == 0);
            match (other.token, one.kind, other.kind) {
                (None, ..) => true,
                (Some(before), Kind::Read, Kind::Read) if holds => before == token,
                (Some(before), Kind::Read, Kind::Read) => before <= token,
                (Some(before), ..) => before < token,
            }
        })
    }
}
