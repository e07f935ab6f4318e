//! Random histories, step by step: the naive list against `core::line`, `memory:` and `host:`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tenure::backend::{
    self, Anchor, Answer, Backend, BoxFuture, Claim, ClaimId, Lease, News, Opening, Query, Released, Sink, Standing,
};
use tenure::core::line::{self, Event, Found, Lines, Now, Place, Refusal, Trace, VecArena};
use tenure::core::moment::Moment;
use tenure::engine::Runtime;
use tenure::engine::thread::ThreadRuntime;
use tenure::{Key, Owner, StoreUrl, Token};
use tenure_lab::oracle::{Ask, Leave, Oracle, Stands};

const MS: u64 = 1_000_000;
const LOCKS: usize = 4;
const CLAIMS: usize = 10;

#[derive(Clone, Debug)]
enum Op {
    Attempt(usize),
    /// Under an id that is known for another lock.
    Stray(usize, usize),
    Renew(usize),
    Release(usize, Leave),
    Evict(usize, Option<usize>),
    Pass(u64),
    Wall(u64),
}

/// What a store says, in one form for all.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Held { token: i64, lease: u64 },
    Waits { ahead: usize, lease: u64, look: u64 },
    Busy,
    Gone(Option<String>),
    Refused,
}

/// A claim as a listing shows it: its id (or the hash of it), its lease, weight and token.
type Row = (String, u64, u32, i64);

/// What is compared.
trait Subject {
    fn attempt(&mut self, ask: &Ask) -> Said;
    fn renew(&mut self, lock: usize, id: u128) -> Said;
    fn release(&mut self, ask: &Ask, leave: Leave) -> Option<bool>;
    fn evict(&mut self, lock: usize, token: Option<i64>, why: &str) -> bool;
    fn view(&self, lock: usize) -> (Vec<Row>, Vec<Row>);
    fn shown(&self, id: u128) -> String;
    /// A pause until the next look, as this store tells it.
    fn pause(&self, look: u64, now: u64) -> u64;
    /// Who was told since the last call that it was granted or evicted.
    fn told(&mut self) -> Option<BTreeSet<u128>>;
    fn whole(&self) -> Result<(), String>;
}

/// The clocks that a history drives.
#[derive(Debug)]
struct Clocks {
    now: AtomicU64,
    wall: AtomicU64,
    real: ThreadRuntime,
}

impl Runtime for Clocks {
    fn now(&self) -> Moment {
        Moment(self.now.load(Ordering::SeqCst))
    }
    fn wall_us(&self) -> u64 {
        self.wall.load(Ordering::SeqCst)
    }
    fn fill(&self, bytes: &mut [u8]) {
        self.real.fill(bytes);
    }
    fn sleep_until(&self, _: Moment) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.real.spawn(task);
    }
}

fn key(lock: usize) -> Key {
    Key::new("oracle", &format!("lock/{lock}")).expect("a good name")
}

fn kind(letter: char) -> line::Kind {
    match letter {
        'm' => line::Kind::Mutex,
        'r' => line::Kind::ReadWrite,
        _ => line::Kind::Semaphore,
    }
}

struct Plain {
    lines: Lines<VecArena>,
    clocks: Arc<Clocks>,
    fault: Fault,
}

/// What is wrong with a line on purpose: the comparison must notice.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    NoMark,
    LongerLease,
    RenewalThatCreates,
}

fn plain(fault: Fault) -> impl FnMut(Arc<Clocks>) -> Box<dyn Subject> {
    move |clocks| Box::new(Plain { lines: Lines::new(VecArena::default()).expect("room"), clocks, fault })
}

impl Plain {
    fn now(&self) -> Now {
        Now { ns: self.clocks.now().nanos(), wall_us: self.clocks.wall_us(), ceiling: i64::MAX }
    }

    fn said(&self, place: Result<Place, Refusal>) -> Said {
        let now = self.clocks.now().nanos();
        match place.map_err(|r| assert!(matches!(r, Refusal::Kind(_)), "{r:?}")) {
            Ok(Place::Held { token, end }) => Said::Held { token, lease: end - now },
            Ok(Place::Waiting { ahead, end, look }) => {
                Said::Waits { ahead: ahead as usize, lease: end - now, look: self.pause(look, now) }
            }
            Ok(Place::Busy) => Said::Busy,
            Ok(Place::Gone { why }) => Said::Gone(why),
            Err(()) => Said::Refused,
        }
    }
}

impl Subject for Plain {
    fn attempt(&mut self, ask: &Ask) -> Said {
        let key = key(ask.lock);
        let theirs = line::Ask {
            id: ask.id,
            key: key.full().as_bytes(),
            kind: kind(ask.kind),
            weight: ask.weight,
            capacity: ask.capacity,
            stand: ask.stand,
            ttl: ask.leases[0] + u64::from(self.fault == Fault::LongerLease),
            waiting: ask.leases[1],
            birth: ask.birth,
            slot: line::NO_SLOT,
            note: b"",
        };
        let place = self.lines.attempt(&theirs, self.now());
        self.said(place)
    }

    fn renew(&mut self, lock: usize, id: u128) -> Said {
        if self.fault == Fault::RenewalThatCreates && id > 1 {
            let birth = self.clocks.now().nanos();
            let leases = [1, 1];
            return self.attempt(&Ask { id, lock, kind: 'm', weight: 1, capacity: 1, stand: true, leases, birth });
        }
        let place = self.lines.renew(id, key(lock).full().as_bytes(), None, self.now());
        self.said(place)
    }

    fn release(&mut self, ask: &Ask, leave: Leave) -> Option<bool> {
        let trace = match leave {
            Leave::Nothing => Trace::Nothing,
            Leave::Mark if self.fault == Fault::NoMark => Trace::Nothing,
            Leave::Mark => Trace::Mark,
            Leave::For(d) => Trace::For(d),
        };
        match self.lines.release(ask.id, key(ask.lock).full().as_bytes(), ask.birth, trace, self.now()).expect("room") {
            Found::Held => Some(true),
            Found::Waiting => Some(false),
            Found::Nothing => None,
        }
    }

    fn evict(&mut self, lock: usize, token: Option<i64>, why: &str) -> bool {
        self.lines.evict(key(lock).full().as_bytes(), token, why.as_bytes(), self.now()).expect("room") > 0
    }

    fn view(&self, lock: usize) -> (Vec<Row>, Vec<Row>) {
        let now = self.now();
        let Some(row) = self.lines.view(key(lock).full().as_bytes(), usize::MAX, now) else { return Default::default() };
        let rows = |rows: &[line::ClaimRow]| {
            rows.iter().map(|c| (self.shown(c.id), c.end - now.ns, c.weight, c.token)).collect()
        };
        (rows(&row.holders), rows(&row.waiting))
    }

    fn shown(&self, id: u128) -> String {
        id.to_string()
    }

    fn pause(&self, look: u64, now: u64) -> u64 {
        look.saturating_sub(now)
    }

    fn told(&mut self) -> Option<BTreeSet<u128>> {
        let ids = |e: Event| match e {
            Event::Granted { id, .. } | Event::Evicted { id, .. } => id,
        };
        Some(self.lines.drain_events().map(ids).collect())
    }

    fn whole(&self) -> Result<(), String> {
        self.lines.check()
    }
}

#[derive(Default)]
struct Ear(Mutex<BTreeSet<u128>>);

impl Sink for Ear {
    fn news(&self, news: News) {
        if let News::Granted(id, ..) | News::Gone(id, _) = news {
            self.0.lock().expect("whole").insert(id.0);
        }
    }
}

/// A backend, through its contract.
struct Store {
    backend: Arc<dyn Backend>,
    ear: Option<Arc<Ear>>,
    owner: Arc<Owner>,
}

impl Store {
    fn open(url: &str, clocks: Arc<Clocks>, hears_at_once: bool) -> Store {
        let owner = Owner { user: "u".into(), host: "h".into(), pid: 1, program: "oracle".into() };
        let (owner, ear) = (Arc::new(owner), Arc::new(Ear::default()));
        let url = StoreUrl::parse(url).expect("a good URL");
        let entry = backend::find(&url.scheme).expect("compiled in");
        let opening = Opening { url, sink: ear.clone(), runtime: clocks, owner: owner.clone() };
        let backend = pollster::block_on((entry.open)(opening)).expect("opens");
        Store { backend, ear: hears_at_once.then_some(ear), owner }
    }

    fn claim(&self, ask: &Ask) -> Claim {
        Claim {
            id: ClaimId(ask.id),
            key: key(ask.lock),
            kind: kind(ask.kind),
            weight: ask.weight,
            capacity: ask.capacity,
            stand: ask.stand,
            ttl: Duration::from_nanos(ask.leases[0]),
            waiting: Duration::from_nanos(ask.leases[1]),
            birth: Moment(ask.birth),
            anchor: Anchor::Process,
            owner: self.owner.clone(),
            reason: "".into(),
        }
    }

    fn said(&self, answer: tenure::Result<Answer>) -> Said {
        let lease = |lease: Lease| match lease {
            Lease::For(d) => u64::try_from(d.as_nanos()).expect("short"),
            Lease::Unbounded => panic!("this backend has leases"),
        };
        match answer.map(|a| a.standing) {
            Ok(Standing::Held(grant)) => {
                Said::Held { token: grant.token.map_or(0, Token::get), lease: lease(grant.lease) }
            }
            Ok(Standing::Waiting { lease: l, ahead, look_again }) => Said::Waits {
                ahead: ahead.expect("fifo tells the place") as usize,
                lease: lease(l),
                look: u64::try_from(look_again.as_nanos()).expect("short"),
            },
            Ok(Standing::Busy) => Said::Busy,
            Ok(Standing::Gone { why }) => Said::Gone(why),
            Err(error) => {
                assert_eq!(error.kind(), tenure::ErrorKind::Config, "{error}");
                Said::Refused
            }
        }
    }
}

impl Subject for Store {
    fn attempt(&mut self, ask: &Ask) -> Said {
        self.said(pollster::block_on(self.backend.attempt(&self.claim(ask))))
    }

    fn renew(&mut self, lock: usize, id: u128) -> Said {
        let ask = Ask { id, lock, kind: 'm', weight: 1, capacity: 1, stand: true, leases: [1, 1], birth: 0 };
        let mut answers = pollster::block_on(self.backend.renew(&[self.claim(&ask)]));
        assert_eq!(answers.len(), 1);
        self.said(answers.remove(0))
    }

    fn release(&mut self, ask: &Ask, leave: Leave) -> Option<bool> {
        let leave = match leave {
            Leave::Nothing => backend::Leave::Nothing,
            Leave::Mark => backend::Leave::Mark,
            Leave::For(d) => backend::Leave::For(Duration::from_nanos(d)),
        };
        match pollster::block_on(self.backend.release(&self.claim(ask), leave)).expect("answers") {
            Released::WasHeld => Some(true),
            Released::WasWaiting => Some(false),
            Released::Gone => None,
        }
    }

    fn evict(&mut self, lock: usize, token: Option<i64>, why: &str) -> bool {
        let token = token.and_then(Token::new);
        pollster::block_on(self.backend.evict(&key(lock), token, why)).expect("answers") == Released::WasHeld
    }

    fn view(&self, lock: usize) -> (Vec<Row>, Vec<Row>) {
        let query = Query {
            namespace: "oracle".into(),
            name: Some(key(lock).name().into()),
            waiting_max: usize::MAX,
            ..Query::default()
        };
        let page = pollster::block_on(self.backend.inspect(&query)).expect("answers");
        let Some(line) = page.lines.into_iter().next() else { return Default::default() };
        let rows = |rows: &[tenure::Seen]| {
            let lease = |c: &tenure::Seen| c.expires_in.map_or(0, |d| u64::try_from(d.as_nanos()).expect("short"));
            rows.iter().map(|c| (c.claim.clone(), lease(c), c.weight, c.token.map_or(0, Token::get))).collect()
        };
        (rows(&line.holders), rows(&line.waiting))
    }

    fn shown(&self, id: u128) -> String {
        ClaimId(id).short()
    }

    fn pause(&self, look: u64, now: u64) -> u64 {
        look.saturating_sub(now).clamp(10 * MS, 2000 * MS)
    }

    fn told(&mut self) -> Option<BTreeSet<u128>> {
        self.ear.as_ref().map(|ear| std::mem::take(&mut *ear.0.lock().expect("whole")))
    }

    fn whole(&self) -> Result<(), String> {
        Ok(())
    }
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
            let entries: Vec<_> = self.oracle.entries.iter().filter(|e| e.ask.lock == lock).cloned().collect();
            let (held, waits): (Vec<_>, Vec<_>) = entries.into_iter().partition(|e| e.grant.is_some());
            for (entries, rows) in [(held, holders), (waits, waiting)] {
                prop_assert_eq!(entries.len(), rows.len(), "lock {}: {:?}, and not {:?}", lock, rows, entries);
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
    let one = (0..LOCKS, 0..3usize, 1..4u32, 2..5u32, any::<bool>(), lease.clone(), lease, prop::bool::weighted(0.8));
    vec(one, CLAIMS).prop_map(|claims| {
        let ask = |(n, c): (usize, (usize, usize, u32, u32, bool, u64, u64, bool))| {
            let (lock, wild, weight, capacity, writes, holding, waiting, stand) = c;
            let kind = ['m', 'r', 's'][if lock < 3 { lock } else { wild }];
            let (weight, capacity) = match kind {
                'm' => (1, 1),
                'r' => (if writes { line::RW_CAPACITY } else { 1 }, line::RW_CAPACITY),
                _ => (weight.min(capacity), capacity),
            };
            let id = 0x1_0000_0000_0000_0001 * (n as u128 + 2);
            Ask { id, lock, kind, weight, capacity, stand, leases: [holding, waiting], birth: 0 }
        };
        claims.into_iter().enumerate().map(ask).collect()
    })
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let leave = prop_oneof![
        4 => Just(Leave::Nothing),
        2 => Just(Leave::Mark),
        1 => prop::sample::select(vec![0, 70 * MS, 5000 * MS]).prop_map(Leave::For),
    ];
    let pass = prop::sample::select(vec![1, 10 * MS, 50 * MS, 400 * MS, 2999 * MS, 20_000 * MS, 60_000 * MS]);
    let wall = prop::sample::select(vec![0, 1, 1_700_000_000_000_000, 1_800_000_000_000_000]);
    let op = prop_oneof![
        12 => (0..CLAIMS).prop_map(Op::Attempt),
        1 => (0..CLAIMS, 0..LOCKS).prop_map(|(n, lock)| Op::Stray(n, lock)),
        4 => (0..CLAIMS).prop_map(Op::Renew),
        6 => (0..CLAIMS, leave).prop_map(|(n, leave)| Op::Release(n, leave)),
        1 => (0..LOCKS, prop::option::of(0..4usize)).prop_map(|(lock, which)| Op::Evict(lock, which)),
        4 => pass.prop_map(Op::Pass),
        1 => wall.prop_map(Op::Wall),
    ];
    vec(op, 1..60)
}

/// Runs random histories, each on a fresh subject, until one differs.
fn compare(histories: u32, subject: impl FnMut(Arc<Clocks>) -> Box<dyn Subject>) -> Result<(), String> {
    let config = Config { cases: histories, failure_persistence: None, max_shrink_iters: 5000, ..Config::default() };
    let subject = Mutex::new(subject);
    let ran = TestRunner::new(config).run(&(claims(), ops()), |(asks, ops)| {
        let clocks = Arc::new(Clocks {
            now: AtomicU64::new(1_000_000_000_000),
            wall: AtomicU64::new(1_750_000_000_000_000),
            real: ThreadRuntime::new(),
        });
        let mut subject = (subject.lock().expect("whole"))(clocks.clone());
        let (tokens, newest) = Default::default();
        let mut twin = Twin { oracle: Oracle::default(), subject: &mut *subject, clocks, asks, tokens, newest };
        ops.iter().enumerate().try_for_each(|(n, op)| {
            twin.step(op).map_err(|e| TestCaseError::fail(format!("step {n}, {op:?}: {e}")))
        })
    });
    ran.map_err(|e| e.to_string())
}

#[test]
fn core_line_does_what_the_list_does() {
    compare(3000, plain(Fault::None)).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn memory_does_what_the_list_does() {
    compare(2000, |clocks| Box::new(Store::open("memory:", clocks, true))).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_line_that_is_wrong_is_noticed() {
    for fault in [Fault::NoMark, Fault::LongerLease, Fault::RenewalThatCreates] {
        assert!(compare(2000, plain(fault)).is_err(), "a fault that nobody notices");
    }
}
