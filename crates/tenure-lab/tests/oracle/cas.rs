//! Random histories: `core::cas` on a store that does what it is told, against the naive list with room for one and nobody
//! in line. The observer sees every version at once, so both sides end a hold at the same instant.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tenure::Previous;
use tenure::core::cas::{
    self, Answer, Call, Now, Object, Outcome, Seen, Sightings, Step as Next, Unanswered, Verb, Version,
};
use tenure::core::moment::Moment;
use tenure_lab::oracle::{Ask, Leave, Oracle, Stands};

const CLAIMS: usize = 5;
const MS: u64 = 1_000_000;

#[derive(Clone, Debug)]
enum Op {
    Attempt(usize),
    Renew(usize),
    Release(usize, Option<u64>),
    Transfer(usize, usize),
    Evict(bool),
    Pass(u64),
    Wall(u64),
}

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    RenewalThatCreates,
    ReleaseOfAnybody,
    SeenTooEarly,
}

/// One object, and what its only observer has seen of it.
struct Store {
    current: Option<(Version, Object)>,
    writes: u64,
    sightings: Sightings,
}

impl Store {
    fn seen(&mut self, now: u64, fault: Fault) -> Seen {
        let early = if fault == Fault::SeenTooEarly { 30 * MS } else { 0 };
        let first = self.current.as_ref().map(|(v, _)| self.sightings.saw("lock", v, Moment(now - early)));
        Seen {
            current: self.current.clone(),
            first_seen: first.unwrap_or_default(),
            store_age: None,
            fresh: true,
        }
    }

    fn run(&mut self, verb: Verb, now: u64, wall_us: u64, fault: Fault) -> Answer {
        let at = Now { boot: Moment(now), wall_us };
        let mut call = Call::new(verb, Unanswered::Nothing, self.writes);
        let seen = self.seen(now, fault);
        match call.decide(&seen, at) {
            Next::Answer(answer) => answer,
            Next::Read => panic!("it has just read"),
            Next::Write { expected, object } => {
                assert_eq!(self.current.as_ref().map(|(version, _)| version), expected.as_ref());
                self.writes += 1;
                self.current = Some((Version::new(&self.writes.to_string()), object));
                self.seen(now, fault);
                let Next::Answer(answer) = call.after_write(Outcome::Done) else {
                    panic!("a write that is done ends the call");
                };
                answer
            }
        }
    }
}

struct Twin {
    oracle: Oracle,
    store: Store,
    now: u64,
    wall_us: u64,
    asks: Vec<Ask>,
    /// Who was evicted: such an id is never asked for again.
    over: Vec<bool>,
    tokens: BTreeMap<u64, i64>,
    newest: i64,
    /// How the newest hold has ended, or will have when another is granted.
    ended: Previous,
    /// How the hold before the present one ended.
    before: Previous,
    fault: Fault,
}

type Step<T = ()> = Result<T, TestCaseError>;

impl Twin {
    fn run(&mut self, verb: Verb) -> Answer {
        self.store.run(verb, self.now, self.wall_us, self.fault)
    }

    fn ask(&self, n: usize) -> cas::Ask {
        let ask = &self.asks[n];
        cas::Ask { claim: ask.id, ttl: Duration::from_nanos(ask.leases[0]), tokens: 1, note: "".into() }
    }

    /// The token that belongs to a grant: the same each time, and new ones grow. With a new one comes what is known of the
    /// hold before.
    fn agree(&mut self, want: Stands, said: &Answer) -> Step {
        match (want, said) {
            (Stands::Held { grant, .. }, Answer::Held { token, previous }) => {
                let token = token.map_or(0, tenure::Token::get);
                if let Some(known) = self.tokens.get(&grant) {
                    prop_assert_eq!(token, *known, "one grant, one token");
                } else {
                    prop_assert!(token > self.newest, "token {} after {}", token, self.newest);
                    self.newest = token;
                    self.tokens.insert(grant, token);
                    self.before = std::mem::replace(&mut self.ended, Previous::Expired);
                }
                prop_assert_eq!(*previous, self.before, "how the hold before ended");
            }
            (Stands::Busy, Answer::Taken { look_again }) => {
                let end = self.oracle.entries.first().map_or(0, |e| e.end);
                prop_assert_eq!(u128::from(end - self.now), look_again.as_nanos());
            }
            (Stands::Gone(_), Answer::Gone { .. }) => {}
            (want, said) => return Err(TestCaseError::fail(format!("{want:?}, and not {said:?}"))),
        }
        Ok(())
    }

    fn step(&mut self, op: &Op) -> Step {
        let now = self.now;
        match *op {
            Op::Attempt(n) if !self.over[n] => {
                self.asks[n].birth = now;
                let said = self.run(Verb::Attempt(self.ask(n)));
                let want = self.oracle.attempt(&self.asks[n], now);
                self.agree(want, &said)?;
            }
            Op::Renew(n) => {
                let create = self.fault == Fault::RenewalThatCreates;
                let ask = self.ask(n);
                let said = self.run(if create { Verb::Attempt(ask) } else { Verb::Renew(ask) });
                let want = self.oracle.renew(0, self.asks[n].id, now);
                self.agree(want, &said)?;
            }
            Op::Release(n, keep) => {
                let mut claim = self.asks[n].id;
                if self.fault == Fault::ReleaseOfAnybody {
                    claim = self.store.current.as_ref().and_then(|(_, o)| o.claim).unwrap_or(claim);
                }
                let said = self.run(Verb::Release { claim, used: 1, keep: keep.map(Duration::from_nanos) });
                let leave = keep.map_or(Leave::Nothing, Leave::For);
                let held = self.oracle.release(&self.asks[n], leave, now).is_some();
                prop_assert_eq!(said, if held { Answer::Ended } else { Answer::NotHeld });
                self.ended = if held { Previous::Released } else { self.ended };
            }
            Op::Transfer(from, to) if !self.over[to] && from != to => {
                self.asks[to].birth = now;
                let verb = Verb::Transfer { from: self.asks[from].id, used: 1, to: self.ask(to) };
                let said = self.run(verb);
                let want = self.oracle.transfer(self.asks[from].id, &self.asks[to], now);
                self.agree(want, &said)?;
            }
            Op::Evict(by_token) => {
                let holder = self.oracle.entries.first().filter(|_| by_token).and_then(|e| e.grant);
                let token = holder.and_then(|grant| tenure::Token::new(self.tokens[&grant]));
                let said = self.run(Verb::Evict { token, why: "why".into() });
                let before = self.oracle.entries.clone();
                let evicted = self.oracle.evict(0, holder, "why", now) > 0;
                prop_assert_eq!(said, if evicted { Answer::Ended } else { Answer::NotHeld });
                if evicted {
                    self.ended = Previous::Evicted;
                    for (over, ask) in self.over.iter_mut().zip(&self.asks) {
                        *over |= before.iter().any(|e| e.ask.id == ask.id);
                    }
                }
            }
            Op::Pass(ns) => {
                self.now += ns;
                self.oracle.settle(self.now);
            }
            Op::Wall(us) => self.wall_us = us,
            Op::Attempt(_) | Op::Transfer(..) => {}
        }
        Ok(())
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let keep = prop::option::weighted(0.3, prop::sample::select(vec![70 * MS, 5000 * MS]));
    let pass = prop::sample::select(vec![1, 10 * MS, 50 * MS, 400 * MS, 2999 * MS]);
    let wall = prop::sample::select(vec![0, 1, 1_700_000_000_000_000, 1_800_000_000_000_000]);
    let op = prop_oneof![
        10 => (0..CLAIMS).prop_map(Op::Attempt),
        5 => (0..CLAIMS).prop_map(Op::Renew),
        4 => (0..CLAIMS, keep).prop_map(|(n, keep)| Op::Release(n, keep)),
        3 => (0..CLAIMS, 0..CLAIMS).prop_map(|(n, m)| Op::Transfer(n, m)),
        1 => any::<bool>().prop_map(Op::Evict),
        5 => pass.prop_map(Op::Pass),
        1 => wall.prop_map(Op::Wall),
    ];
    vec(op, 1..80)
}

fn claims() -> impl Strategy<Value = Vec<Ask>> {
    let lease = prop::sample::select(vec![50 * MS, 400 * MS, 3000 * MS]);
    vec(lease, CLAIMS).prop_map(|leases| {
        let ask = |(n, lease): (usize, u64)| Ask {
            id: n as u128 + 1,
            lock: 0,
            kind: 'm',
            weight: 1,
            capacity: 1,
            stand: false,
            leases: [lease, lease],
            birth: 0,
        };
        leases.into_iter().enumerate().map(ask).collect()
    })
}

/// Runs random histories until the two differ.
fn compare(histories: u32, fault: Fault) -> Result<(), String> {
    let config = Config { cases: histories, failure_persistence: None, ..Config::default() };
    let ran = TestRunner::new(config).run(&(claims(), ops()), |(asks, ops)| {
        let store = Store { current: None, writes: 0, sightings: Sightings::new(1) };
        let mut twin = Twin {
            oracle: Oracle::default(),
            store,
            now: 1_000_000 * MS,
            wall_us: 1_750_000_000_000_000,
            asks,
            over: vec![false; CLAIMS],
            tokens: BTreeMap::new(),
            newest: 0,
            ended: Previous::Unknown,
            before: Previous::Unknown,
            fault,
        };
        ops.iter().enumerate().try_for_each(|(n, op)| {
            twin.step(op).map_err(|e| TestCaseError::fail(format!("step {n}, {op:?}: {e}")))
        })
    });
    ran.map_err(|e| e.to_string())
}

#[test]
fn core_cas_does_what_the_list_does_for_one_at_a_time() {
    compare(3000, Fault::None).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn an_object_that_is_wrong_is_noticed() {
    for fault in [Fault::RenewalThatCreates, Fault::ReleaseOfAnybody, Fault::SeenTooEarly] {
        assert!(compare(2000, fault).is_err(), "{fault:?}: a fault that nobody notices");
    }
}
