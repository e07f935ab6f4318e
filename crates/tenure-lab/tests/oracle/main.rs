//! Random histories, step by step: the naive list against `core::line`, `memory:` and `host:`; and in [`queue`] and [`cas`]
//! against `core::queue` and `core::cas`.

mod cas;
mod queue;
mod subjects;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tenure::core::line;
use tenure::runtime::Runtime;
use tenure::runtime::thread::ThreadRuntime;
use tenure_lab::oracle::{Ask, Leave, Oracle, Stands};

use subjects::{Clocks, Fault, MS, Said, Store, Subject, plain};

const LOCKS: usize = 4;
const CLAIMS: usize = 10;

#[derive(Clone, Debug)]
enum Op {
    Attempt(usize),
    /// Under an id that is known for another lock.
    Stray(usize, usize),
    Renew(usize),
    Release(usize, Leave),
    /// From one claim to another, as they come.
    Transfer(usize, usize),
    /// To a claim of its own, with so much less weight; it is that claim from then on.
    GoOn(usize, u32, u64),
    Evict(usize, Option<usize>),
    Pass(u64),
    Wall(u64),
}

/// One history: the same steps on both sides.
struct Twin<'a> {
    oracle: Oracle,
    subject: &'a mut dyn Subject,
    clocks: Arc<Clocks>,
    asks: Vec<Ask>,
    /// The token that stands for each grant.
    tokens: BTreeMap<u64, i64>,
    newest: BTreeMap<usize, i64>,
    /// How many claims were made on the way.
    fresh: u128,
    stray: bool,
}

type Step<T = ()> = Result<T, TestCaseError>;

impl Twin<'_> {
    fn now(&self) -> u64 {
        self.clocks.now().nanos()
    }

    fn ask(&mut self, n: usize) -> Ask {
        let now = self.now();
        let ask = &mut self.asks[n];
        if ask.birth == 0 {
            ask.birth = now;
        }
        ask.clone()
    }

    /// The token that belongs to a grant: the same each time, and new ones grow.
    fn token(&mut self, lock: usize, grant: u64, said: i64) -> Step {
        if grant == 0 {
            prop_assert_eq!(said, 0, "permits have no token");
        } else if let Some(&before) = self.tokens.get(&grant) {
            prop_assert_eq!(said, before, "one grant, one token");
        } else {
            let newest = self.newest.insert(lock, said).unwrap_or(0);
            prop_assert!(said > newest, "token {} after {}", said, newest);
            self.tokens.insert(grant, said);
        }
        Ok(())
    }

    fn agree(&mut self, lock: usize, want: Stands, said: Said) -> Step {
        let now = self.now();
        let want = match want {
            Stands::Held { grant, end } => {
                let Said::Held { token, lease } = said else {
                    return Err(TestCaseError::fail(format!("must hold, and was told {said:?}")));
                };
                self.token(lock, grant, token)?;
                prop_assert_eq!(lease, end - now, "lease");
                return Ok(());
            }
            Stands::Waits { ahead, end, look } => {
                Said::Waits { ahead, lease: end - now, look: self.subject.pause(look, now) }
            }
            Stands::Busy => Said::Busy,
            Stands::Gone(why) => Said::Gone(why),
            Stands::Refused => Said::Refused,
        };
        prop_assert_eq!(want, said);
        Ok(())
    }

    /// Both sides list the same claims in the same order.
    fn same(&mut self) -> Step {
        self.subject.whole().map_err(TestCaseError::fail)?;
        for lock in 0..LOCKS {
            let (holders, waiting) = self.subject.view(lock);
            let entries: Vec<_> =
                self.oracle.entries.iter().filter(|e| e.ask.lock == lock).cloned().collect();
            let (held, waits): (Vec<_>, Vec<_>) = entries.into_iter().partition(|e| e.grant.is_some());
            for (entries, rows) in [(held, holders), (waits, waiting)] {
                prop_assert_eq!(
                    entries.len(),
                    rows.len(),
                    "lock {}: {:?}, and not {:?}",
                    lock,
                    rows,
                    entries
                );
                for (e, row) in entries.iter().zip(rows) {
                    let want = (self.subject.shown(e.ask.id), e.end - self.now(), e.ask.weight, row.3);
                    prop_assert_eq!(want, row.clone(), "lock {}", lock);
                    self.token(lock, e.grant.unwrap_or(0), row.3)?;
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, op: &Op) -> Step {
        let now = self.now();
        let before = self.oracle.clone();
        let mut own = 0;
        match *op {
            Op::Attempt(n) | Op::Stray(n, _) => {
                let mut ask = self.ask(n);
                if let Op::Stray(_, lock) = *op {
                    ask.lock = lock;
                }
                own = ask.id;
                let said = self.subject.attempt(&ask);
                let want = self.oracle.attempt(&ask, now);
                self.agree(ask.lock, want, said)?;
            }
            Op::Renew(n) => {
                let ask = self.ask(n);
                own = ask.id;
                let said = self.subject.renew(ask.lock, ask.id);
                let want = self.oracle.renew(ask.lock, ask.id, now);
                self.agree(ask.lock, want, said)?;
            }
            Op::Release(n, leave) => {
                let ask = self.ask(n);
                own = ask.id;
                let said = self.subject.release(&ask, leave);
                prop_assert_eq!(self.oracle.release(&ask, leave, now), said);
            }
            Op::Transfer(n, m) => {
                let (from, to) = (self.ask(n), self.ask(m));
                if from.lock != to.lock && !self.stray {
                    return Ok(());
                }
                own = to.id;
                self.transfer(from.id, &to)?;
            }
            Op::GoOn(n, less, lease) => {
                let (from, mut to) = (self.ask(n), self.ask(n));
                self.fresh += 1;
                (to.id, to.birth, to.leases[0]) = (from.id + (self.fresh << 70), now, lease);
                to.weight = to.weight.saturating_sub(less).max(1);
                if to.kind == 'r' && less > 0 {
                    to.weight = 1;
                }
                own = to.id;
                self.transfer(from.id, &to)?;
                self.asks[n] = to;
            }
            Op::Evict(lock, which) => {
                let held = self.oracle.entries.iter().filter(|e| e.ask.lock == lock).filter_map(|e| e.grant);
                let held: Vec<u64> = held.collect();
                let grant = which.and_then(|n| held.get(n % held.len().max(1)).copied()).filter(|g| *g != 0);
                let said = self.subject.evict(lock, grant.map(|g| self.tokens[&g]), "why");
                prop_assert_eq!(self.oracle.evict(lock, grant, "why", now) > 0, said);
            }
            Op::Pass(ns) => {
                self.clocks.now.fetch_add(ns, Ordering::SeqCst);
                // Lines settle when they are visited: visit them all, so that both sides settle at the same instant.
                for lock in 0..LOCKS {
                    let said = self.subject.renew(lock, 1);
                    let want = self.oracle.renew(lock, 1, now + ns);
                    self.agree(lock, want, said)?;
                }
            }
            Op::Wall(us) => self.clocks.wall.store(us, Ordering::SeqCst),
        }
        self.heard(&before, own)?;
        self.same()
    }

    fn transfer(&mut self, from: u128, to: &Ask) -> Step {
        let said = self.subject.transfer(from, to);
        let want = self.oracle.transfer(from, to, self.now());
        self.agree(to.lock, want, said)
    }

    /// Whoever was granted or evicted by another's step was told so, and nobody else.
    fn heard(&mut self, before: &Oracle, own: u128) -> Step {
        let Some(mut told) = self.subject.told() else { return Ok(()) };
        told.remove(&own);
        let now = |id: u128| self.oracle.entries.iter().find(|e| e.ask.id == id);
        for e in before.entries.iter().filter(|e| e.ask.id != own) {
            let granted = e.grant.is_none() && now(e.ask.id).is_some_and(|n| n.grant.is_some());
            prop_assert!(!granted || told.contains(&e.ask.id), "{} was granted and not told", e.ask.id);
        }
        for id in told {
            let held = before.entries.iter().any(|e| e.ask.id == id && e.grant.is_some());
            let holds = now(id).is_some_and(|n| n.grant.is_some());
            prop_assert!(held != holds, "{} was told something that did not happen", id);
        }
        Ok(())
    }
}

fn claims() -> impl Strategy<Value = Vec<Ask>> {
    let lease = prop::sample::select(vec![50 * MS, 400 * MS, 3000 * MS, 40_000 * MS]);
    let one = (
        0..LOCKS,
        0..3usize,
        1..4u32,
        2..5u32,
        any::<bool>(),
        lease.clone(),
        lease,
        prop::bool::weighted(0.8),
    );
    vec(one, CLAIMS).prop_map(|claims| claims.into_iter().enumerate().map(ask).collect())
}

/// Lock, another kind than its usual one, weight, capacity, whether it writes, its two leases, whether it stands.
type Dice = (usize, usize, u32, u32, bool, u64, u64, bool);

fn ask((n, dice): (usize, Dice)) -> Ask {
    let (lock, wild, weight, capacity, writes, holding, waiting, stand) = dice;
    // The first three locks have a kind of their own; at the last one they meet.
    let kind = ['m', 'r', 's'][if lock < 3 { lock } else { wild }];
    let (weight, capacity) = match kind {
        'm' => (1, 1),
        'r' => (if writes { line::RW_CAPACITY } else { 1 }, line::RW_CAPACITY),
        _ => (weight.min(capacity), capacity),
    };
    let id = 0x1_0000_0000_0000_0001 * (n as u128 + 2);
    Ask { id, lock, kind, weight, capacity, stand, leases: [holding, waiting], birth: 0 }
}

/// `stray`: whether an id may turn up at another lock than its own. No engine does that, and a store that keeps its
/// locks in several parts need not notice.
fn ops(stray: bool) -> impl Strategy<Value = Vec<Op>> {
    let leave = prop_oneof![
        4 => Just(Leave::Nothing),
        2 => Just(Leave::Mark),
        1 => prop::sample::select(vec![0, 70 * MS, 5000 * MS]).prop_map(Leave::For),
    ];
    let lease = prop::sample::select(vec![50 * MS, 3000 * MS]);
    let pass = prop::sample::select(vec![1, 10 * MS, 50 * MS, 400 * MS, 2999 * MS, 20_000 * MS, 60_000 * MS]);
    let wall = prop::sample::select(vec![0, 1, 1_700_000_000_000_000, 1_800_000_000_000_000]);
    let op = prop_oneof![
        12 => (0..CLAIMS).prop_map(Op::Attempt),
        u32::from(stray) => (0..CLAIMS, 0..LOCKS).prop_map(|(n, lock)| Op::Stray(n, lock)),
        4 => (0..CLAIMS).prop_map(Op::Renew),
        6 => (0..CLAIMS, leave).prop_map(|(n, leave)| Op::Release(n, leave)),
        2 => (0..CLAIMS, 0..CLAIMS).prop_map(|(n, m)| Op::Transfer(n, m)),
        4 => (0..CLAIMS, 0..3u32, lease).prop_map(|(n, less, lease)| Op::GoOn(n, less, lease)),
        1 => (0..LOCKS, prop::option::of(0..4usize)).prop_map(|(lock, which)| Op::Evict(lock, which)),
        4 => pass.prop_map(Op::Pass),
        1 => wall.prop_map(Op::Wall),
    ];
    vec(op, 1..60)
}

/// Runs random histories, each on a fresh subject, until one differs.
fn compare(
    histories: u32,
    stray: bool,
    subject: impl FnMut(Arc<Clocks>) -> Box<dyn Subject>,
) -> Result<(), String> {
    let config =
        Config { cases: histories, failure_persistence: None, max_shrink_iters: 5000, ..Config::default() };
    let subject = Mutex::new(subject);
    let ran = TestRunner::new(config).run(&(claims(), ops(stray)), |(asks, ops)| {
        let clocks = Arc::new(Clocks {
            now: AtomicU64::new(1_000_000_000_000),
            wall: AtomicU64::new(1_750_000_000_000_000),
            real: ThreadRuntime::new(),
        });
        let mut subject = (subject.lock().expect("whole"))(clocks.clone());
        let (tokens, newest, fresh) = Default::default();
        let mut twin = Twin {
            oracle: Oracle::default(),
            subject: &mut *subject,
            clocks,
            asks,
            tokens,
            newest,
            fresh,
            stray,
        };
        ops.iter().enumerate().try_for_each(|(n, op)| {
            twin.step(op).map_err(|e| TestCaseError::fail(format!("step {n}, {op:?}: {e}")))
        })
    });
    ran.map_err(|e| e.to_string())
}

#[test]
fn core_line_does_what_the_list_does() {
    compare(3000, true, plain(Fault::None)).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn memory_does_what_the_list_does() {
    compare(2000, true, |clocks| Box::new(Store::open("memory:", clocks, true)))
        .unwrap_or_else(|e| panic!("{e}"));
}

/// A store in shared memory, fresh for each history. Its pushes come from a thread of its own, so they are another
/// test's matter.
#[test]
fn host_does_what_the_list_does() {
    let ran = compare(400, false, |clocks| {
        let dir = tempfile::tempdir_in("/dev/shm").expect("shared memory");
        let url = format!("host://{}", dir.path().join("store").display());
        Box::new(Store::open(&url, clocks, false).and_remove(dir))
    });
    ran.unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_line_that_is_wrong_is_noticed() {
    for fault in [Fault::NoMark, Fault::LongerLease, Fault::RenewalThatCreates, Fault::TransferThatCreates] {
        assert!(compare(2000, true, plain(fault)).is_err(), "a fault that nobody notices");
    }
}
