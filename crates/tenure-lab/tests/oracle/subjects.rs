//! What is compared with the list: `core::line` itself, and backends through their contract.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure::backend::{
    self, Anchor, Answer, Backend, BoxFuture, Call, Claim, ClaimId, Cohort, Lease, News, Opening, Query,
    Released, Sink, Standing,
};
use tenure::core::line::{self, Event, Found, Lines, Now, Place, Refusal, Trace, VecArena};
use tenure::core::moment::Moment;
use tenure::runtime::Runtime;
use tenure::runtime::thread::ThreadRuntime;
use tenure::{Key, Owner, StoreUrl, Token};
use tenure_lab::oracle::{Ask, Leave};

pub(crate) const MS: u64 = 1_000_000;

/// What a store says, in one form for all.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Held { token: i64, lease: u64 },
    Waits { ahead: usize, lease: u64, look: u64 },
    Busy,
    Gone(Option<String>),
    Refused,
}

/// A claim as a listing shows it: its id (or the hash of it), its lease, weight and token.
pub(crate) type Row = (String, u64, u32, i64);

/// What is compared.
pub(crate) trait Subject {
    fn attempt(&mut self, ask: &Ask) -> Said;
    fn renew(&mut self, lock: usize, id: u128) -> Said;
    fn release(&mut self, ask: &Ask, leave: Leave) -> Option<bool>;
    fn transfer(&mut self, from: u128, to: &Ask) -> Said;
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
pub(crate) struct Clocks {
    pub(crate) now: AtomicU64,
    pub(crate) wall: AtomicU64,
    pub(crate) real: ThreadRuntime,
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

pub(crate) fn key(lock: usize) -> Key {
    Key::new("oracle", &format!("lock/{lock}")).expect("a good name")
}

pub(crate) fn kind(letter: char) -> line::Kind {
    match letter {
        'm' => line::Kind::Mutex,
        'r' => line::Kind::ReadWrite,
        _ => line::Kind::Semaphore,
    }
}

pub(crate) struct Plain {
    lines: Lines<VecArena>,
    clocks: Arc<Clocks>,
    fault: Fault,
}

/// What is wrong with a line on purpose: the comparison must notice.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    None,
    NoMark,
    LongerLease,
    RenewalThatCreates,
    TransferThatCreates,
}

pub(crate) fn plain(fault: Fault) -> impl FnMut(Arc<Clocks>) -> Box<dyn Subject> {
    move |clocks| Box::new(Plain { lines: Lines::new(VecArena::default()).expect("room"), clocks, fault })
}

impl Plain {
    fn now(&self) -> Now {
        Now { ns: self.clocks.now().nanos(), wall_us: self.clocks.wall_us(), ceiling: i64::MAX }
    }

    fn said(&self, place: Result<Place, Refusal>) -> Said {
        let now = self.clocks.now().nanos();
        match place.map_err(|r| assert!(matches!(r, Refusal::Kind(_) | Refusal::Larger), "{r:?}")) {
            Ok(Place::Held { token, end, .. }) => Said::Held { token, lease: end - now },
            Ok(Place::Waiting { ahead, end, look }) => {
                Said::Waits { ahead: ahead as usize, lease: end - now, look: self.pause(look, now) }
            }
            Ok(Place::Busy) => Said::Busy,
            Ok(Place::Gone { why }) => Said::Gone(why),
            Err(()) => Said::Refused,
        }
    }
}

impl Plain {
    fn theirs<'a>(&self, ask: &Ask, key: &'a Key) -> line::Ask<'a> {
        line::Ask {
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
        }
    }
}

impl Subject for Plain {
    fn attempt(&mut self, ask: &Ask) -> Said {
        let key = key(ask.lock);
        let place = self.lines.attempt(&self.theirs(ask, &key), self.now());
        self.said(place)
    }

    fn renew(&mut self, lock: usize, id: u128) -> Said {
        if self.fault == Fault::RenewalThatCreates && id > 1 {
            let birth = self.clocks.now().nanos();
            let leases = [1, 1];
            return self.attempt(&Ask {
                id,
                lock,
                kind: 'm',
                weight: 1,
                capacity: 1,
                stand: true,
                leases,
                birth,
            });
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
        match self
            .lines
            .release(ask.id, key(ask.lock).full().as_bytes(), ask.birth, trace, self.now())
            .expect("room")
        {
            Found::Held => Some(true),
            Found::Waiting => Some(false),
            Found::Nothing => None,
        }
    }

    fn transfer(&mut self, from: u128, to: &Ask) -> Said {
        let key = key(to.lock);
        let place = self.lines.transfer(from, &self.theirs(to, &key), self.now());
        match self.said(place) {
            Said::Gone(_) if self.fault == Fault::TransferThatCreates => self.attempt(to),
            said => said,
        }
    }

    fn evict(&mut self, lock: usize, token: Option<i64>, why: &str) -> bool {
        self.lines.evict(key(lock).full().as_bytes(), token, why.as_bytes(), self.now()).expect("room") > 0
    }

    fn view(&self, lock: usize) -> (Vec<Row>, Vec<Row>) {
        let now = self.now();
        let Some(row) = self.lines.view(key(lock).full().as_bytes(), usize::MAX, now) else {
            return Default::default();
        };
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
pub(crate) struct Notified(Mutex<BTreeSet<u128>>);

impl Sink for Notified {
    fn news(&self, news: News) {
        if let News::Granted(id, ..) | News::Gone(id, _) = news {
            self.0.lock().expect("whole").insert(id.0);
        }
    }
}

/// A backend, through its contract.
pub(crate) struct Store {
    backend: Arc<dyn Backend>,
    notified: Option<Arc<Notified>>,
    owner: Arc<Owner>,
    /// Its directory, removed after it.
    _dir: Option<tempfile::TempDir>,
}

impl Store {
    pub(crate) fn open(url: &str, clocks: Arc<Clocks>, hears_at_once: bool) -> Store {
        let owner = Owner { user: "u".into(), host: "h".into(), pid: 1, program: "oracle".into() };
        let (owner, notified) = (Arc::new(owner), Arc::new(Notified::default()));
        let url = StoreUrl::parse(url).expect("a good URL");
        let entry = backend::find(&url.scheme).expect("compiled in");
        let opening = Opening { url, sink: notified.clone(), runtime: clocks, owner: owner.clone() };
        let backend = pollster::block_on((entry.open)(opening)).expect("opens");
        Store { backend, notified: hears_at_once.then_some(notified), owner, _dir: None }
    }

    pub(crate) fn and_remove(self, dir: tempfile::TempDir) -> Store {
        Store { _dir: Some(dir), ..self }
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
            cohort: Cohort::ALONE,
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
            Ok(Standing::Waiting { place: Some(l), ahead, look_again }) => Said::Waits {
                ahead: ahead.expect("fifo tells the place") as usize,
                lease: lease(l),
                look: u64::try_from(look_again.as_nanos()).expect("short"),
            },
            Ok(Standing::Waiting { place: None, .. }) => panic!("this backend keeps places"),
            Ok(Standing::Busy) => Said::Busy,
            Ok(Standing::Gone { why }) => Said::Gone(why),
            Ok(Standing::Removed) => panic!("nobody removes this store"),
            Err(error) => {
                assert_eq!(error.kind(), tenure::ErrorKind::Config, "{error}");
                Said::Refused
            }
        }
    }
}

impl Subject for Store {
    fn attempt(&mut self, ask: &Ask) -> Said {
        self.said(pollster::block_on(self.backend.attempt_one(&self.claim(ask), Call::PATIENT)))
    }

    fn renew(&mut self, lock: usize, id: u128) -> Said {
        let ask = Ask { id, lock, kind: 'm', weight: 1, capacity: 1, stand: true, leases: [1, 1], birth: 0 };
        let mut answers = pollster::block_on(self.backend.renew(&[self.claim(&ask)], Call::PATIENT));
        assert_eq!(answers.len(), 1);
        self.said(answers.remove(0))
    }

    fn release(&mut self, ask: &Ask, leave: Leave) -> Option<bool> {
        let leave = match leave {
            Leave::Nothing => backend::Leave::Nothing,
            Leave::Mark => backend::Leave::Final,
            Leave::For(d) => backend::Leave::For(Duration::from_nanos(d)),
        };
        match pollster::block_on(self.backend.release(&self.claim(ask), leave, Call::PATIENT))
            .expect("answers")
        {
            Released::WasHeld => Some(true),
            Released::WasWaiting => Some(false),
            Released::Gone => None,
        }
    }

    fn transfer(&mut self, from: u128, to: &Ask) -> Said {
        // Of the first claim a store looks at the id and the lock only.
        let from = Ask { id: from, weight: 7, capacity: 9, leases: [1, 1], birth: 0, ..to.clone() };
        self.said(pollster::block_on(self.backend.transfer(
            &self.claim(&from),
            &self.claim(to),
            Call::PATIENT,
        )))
    }

    fn evict(&mut self, lock: usize, token: Option<i64>, why: &str) -> bool {
        let token = token.and_then(Token::new);
        pollster::block_on(self.backend.evict(&key(lock), token, why, Call::PATIENT)).expect("answers")
            == Released::WasHeld
    }

    fn view(&self, lock: usize) -> (Vec<Row>, Vec<Row>) {
        let query = Query {
            namespace: "oracle".into(),
            name: Some(key(lock).name().into()),
            waiting_max: usize::MAX,
            ..Query::default()
        };
        let page = pollster::block_on(self.backend.inspect(&query, Call::PATIENT)).expect("answers");
        let Some(line) = page.lines.into_iter().next() else { return Default::default() };
        let rows = |rows: &[tenure::Seen]| {
            let lease =
                |c: &tenure::Seen| c.expires_in.map_or(0, |d| u64::try_from(d.as_nanos()).expect("short"));
            rows.iter()
                .map(|c| (c.claim.clone(), lease(c), c.weight, c.token.map_or(0, Token::get)))
                .collect()
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
        self.notified.as_ref().map(|notified| std::mem::take(&mut *notified.0.lock().expect("whole")))
    }

    fn whole(&self) -> Result<(), String> {
        Ok(())
    }
}
