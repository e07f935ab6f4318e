//! The life of each claim: invoked once, granted at most once with a token and a deadline, used by its own process only
//! after the grant, and released with an answer.

use std::collections::HashMap;

use super::super::facts::Facts;
use super::{Evidence, GRANTS};
use crate::history::{Claim, Event, Kind, Name, Op, Phase};

/// What the events of a claim have said so far, as indices of events.
#[derive(Clone, Copy, Default)]
struct Life {
    lock: Option<Name>,
    kind: Option<Kind>,
    asked: Option<usize>,
    granted: Option<usize>,
    /// The end of the acquire, granted or not.
    ended: Option<usize>,
    /// A release that has no answer yet.
    releasing: Option<usize>,
}

/// What the store gives with a grant.
#[derive(Clone, Copy)]
struct Gives {
    tokens: bool,
    /// Readers may have no token even if writers do.
    read_tokens: bool,
    deadlines: bool,
}

impl Gives {
    fn of(facts: &Facts<'_>) -> Gives {
        let capabilities = &facts.history.header.capabilities;
        let tokens = capabilities["token"] != "none";
        let read_tokens = facts.holds.iter().any(|hold| hold.kind == Kind::Read && hold.token.is_some());
        // A lock that only ends with its process has no deadline.
        Gives { tokens, read_tokens: tokens && read_tokens, deadlines: capabilities["hold_end"] != "process" }
    }

    fn token(self, kind: Option<Kind>) -> bool {
        match kind {
            Some(Kind::Semaphore) => false,
            Some(Kind::Read) => self.read_tokens,
            _ => self.tokens,
        }
    }
}

struct Walk<'a, 'b> {
    facts: &'a Facts<'a>,
    evidence: &'b mut Evidence,
    gives: Gives,
    lives: HashMap<Claim, Life>,
    /// What each client does at present: a client does one thing at a time.
    busy: HashMap<(u32, Option<Name>), Claim>,
}

pub(super) fn check(facts: &Facts<'_>, evidence: &mut Evidence) {
    let gives = Gives::of(facts);
    let mut walk = Walk { facts, evidence, gives, lives: HashMap::new(), busy: HashMap::new() };
    for (index, event) in facts.history.events.iter().enumerate() {
        if let Some(claim) = event.claim {
            walk.step(index, event, claim);
        }
    }
}

impl Walk<'_, '_> {
    fn lack(&mut self, rules: &[&'static str], what: String, events: impl IntoIterator<Item = usize>) {
        self.evidence.lack(self.facts, rules, what, events.into_iter().collect());
    }

    fn step(&mut self, index: usize, event: &Event, claim: Claim) {
        let mut life = self.lives.get(&claim).copied().unwrap_or_default();
        if let (Some(one), Some(other)) = (life.lock, event.lock)
            && one != other
        {
            let what = format!("{claim} is a claim on {one} and on {other}");
            self.lack(GRANTS, what, life.asked.into_iter().chain([index]));
        }
        life.lock = life.lock.or(event.lock);
        match (event.op, event.phase) {
            (Op::Acquire, Phase::Invoke) => self.asks(index, event, claim, &mut life),
            (Op::Acquire, Phase::Ok) => self.granted(index, event, claim, &mut life),
            (Op::Acquire | Op::Cancel, _) => {
                if life.asked.is_none() || life.ended.is_some() {
                    let how = if life.asked.is_none() { "without an invocation" } else { "twice" };
                    let what = format!("the acquire of {claim} ended {how}");
                    self.lack(GRANTS, what, life.ended.into_iter().chain([index]));
                }
                life.ended.get_or_insert(index);
            }
            (Op::Queued, _) => {
                if life.ended.is_some() || life.asked.is_none() {
                    let what = format!("{claim} was put in line while it was not asking");
                    self.lack(&["L3"], what, life.ended.into_iter().chain([index]));
                }
            }
            _ => self.used(index, event, claim, &mut life),
        }
        self.lives.insert(claim, life);
    }

    fn asks(&mut self, index: usize, event: &Event, claim: Claim, life: &mut Life) {
        if let Some(before) = life.asked.or(life.ended) {
            self.lack(GRANTS, format!("{claim} was asked for twice"), [before, index]);
        }
        (life.asked, life.kind) = (Some(index), event.kind);
        let Some(before) = self.busy.insert((event.p, event.c), claim).filter(|before| *before != claim)
        else {
            return;
        };
        let other = self.lives.get(&before).copied().unwrap_or_default();
        if other.ended.is_none() {
            let what = format!("the acquire of {before} has no end, and its client went on");
            self.lack(GRANTS, what, other.asked.into_iter().chain([index]));
        } else if let Some(release) = other.releasing {
            let what = format!("the release of {before} has no answer, and its client went on");
            self.lack(&["S4"], what, [release, index]);
        }
    }

    fn granted(&mut self, index: usize, event: &Event, claim: Claim, life: &mut Life) {
        let asked = life.asked.map(|asked| &self.facts.history.events[asked]);
        match (asked, life.ended) {
            (None, _) => {
                self.lack(GRANTS, format!("{claim} was granted without an invocation"), [index]);
            }
            (_, Some(before)) => {
                let how = if life.granted.is_some() { "twice" } else { "after its acquire had ended" };
                self.lack(GRANTS, format!("{claim} was granted {how}"), [before, index]);
            }
            (Some(asked), None) if (asked.p, asked.c) != (event.p, event.c) => {
                let what = format!("{claim} was asked for by one client and granted to another");
                self.lack(GRANTS, what, life.asked.into_iter().chain([index]));
            }
            _ => {}
        }
        if event.token.is_none() && self.gives.token(life.kind) {
            let what = format!("{claim} was granted without a token");
            self.lack(&["S2", "S3"], what, life.asked.into_iter().chain([index]));
        }
        if event.deadline.is_none() && self.gives.deadlines {
            let what = format!("{claim} was granted without a deadline");
            self.lack(&["S5", "S10"], what, life.asked.into_iter().chain([index]));
        }
        if event.token.is_some() && life.kind == Some(Kind::Semaphore) {
            let what = format!("{claim} is a permit, and permits have no token");
            self.lack(&["S1", "S2"], what, life.asked.into_iter().chain([index]));
        }
        life.granted.get_or_insert(index);
        life.ended.get_or_insert(index);
    }

    /// A check, a renewal, a loss, a release or an access.
    fn used(&mut self, index: usize, event: &Event, claim: Claim, life: &mut Life) {
        let what = event.op.word();
        let Some(granted) = life.granted else {
            let what = format!("{what} of {claim}, which had not been granted");
            return self.lack(
                &["S1", "S2", "S3", "S4", "S5", "S10"],
                what,
                life.asked.into_iter().chain([index]),
            );
        };
        let holder = self.facts.history.events[granted].p;
        if event.op != Op::Release && event.p != holder {
            let what = format!("{what} of {claim} by process {}, which process {holder} holds", event.p);
            self.lack(&["S1", "S3", "S5"], what, [granted, index]);
        }
        match (event.op, event.phase) {
            (Op::Renew, Phase::Ok) if event.deadline.is_none() && self.gives.deadlines => {
                let what = format!("{claim} was renewed without a deadline");
                self.lack(&["S5", "S10"], what, [granted, index]);
            }
            (Op::Release, Phase::Invoke) => {
                life.releasing = Some(index);
            }
            (Op::Release, _) if life.releasing.take().is_none() => {
                let what = format!("the release of {claim} was answered without an invocation");
                self.lack(&["S4"], what, [granted, index]);
            }
            _ => {}
        }
    }
}
