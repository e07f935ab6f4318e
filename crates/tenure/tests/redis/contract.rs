//! A store as the engine sees it: through the contract, on a real server.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tenure::backend::{
    Anchor, Backend, Call, Claim, ClaimId, Cohort, Grant, Kind, Leave, Line, News, Opening, Owner, Query,
    Released, Sink, Standing, find,
};
use tenure::runtime::Runtime;
use tenure::runtime::thread::ThreadRuntime;
use tenure::{Key, StoreUrl};

use crate::multi;
use crate::server::Server;

/// The name of the lock that everything is about.
pub(crate) const NAME: &str = "moved";

/// Remembers what it is told.
#[derive(Debug, Default)]
struct Ear(Mutex<Vec<News>>);

impl Sink for Ear {
    fn news(&self, news: News) {
        self.0.lock().expect("whole").push(news);
    }
}

pub(crate) struct Store {
    pub(crate) backend: Arc<dyn Backend>,
    runtime: Arc<ThreadRuntime>,
    owner: Arc<Owner>,
    ear: Arc<Ear>,
    _multi: tokio::runtime::Runtime,
}

/// Runs a test on each form of the store.
pub(crate) fn on_both(test: fn(Store)) {
    let server = Server::start();
    for url in [server.url(), server.url().replace("redis:", "redis+setnx:")] {
        test(Store::open(&url));
    }
}

impl Store {
    pub(crate) fn open(url: &str) -> Store {
        let (runtime, ear) = (Arc::new(ThreadRuntime::new()), Arc::new(Ear::default()));
        let owner = Arc::new(Owner { user: "u".into(), host: "h".into(), pid: 1, program: "p".into() });
        let url = StoreUrl::parse(url).expect("a good URL");
        let open = find(&url.scheme).expect("compiled in").open;
        let opening = Opening { url, sink: ear.clone(), runtime: runtime.clone(), owner: owner.clone() };
        let multi = multi();
        let backend = multi.block_on(open(opening)).expect("opens");
        Store { backend, runtime, owner, ear, _multi: multi }
    }

    pub(crate) fn claim(&self, reason: &str) -> Claim {
        let mut id = [0; 16];
        self.runtime.fill(&mut id);
        Claim {
            id: ClaimId(u128::from_ne_bytes(id)),
            key: Key::new("default", NAME).expect("a good name"),
            kind: Kind::Mutex,
            weight: 1,
            capacity: 1,
            stand: false,
            ttl: Duration::from_secs(30),
            waiting: Duration::from_secs(10),
            cohort: Cohort::ALONE,
            birth: self.runtime.now(),
            anchor: Anchor::Process,
            owner: self.owner.clone(),
            reason: reason.into(),
        }
    }

    pub(crate) fn attempt(&self, claim: &Claim) -> Standing {
        pollster::block_on(self.backend.attempt_one(claim, Call::PATIENT)).expect("answers").standing
    }

    pub(crate) fn take(&self, claim: &Claim) -> Grant {
        held(self.attempt(claim)).expect("free")
    }

    pub(crate) fn renew(&self, claim: &Claim) -> Standing {
        let mut answers = pollster::block_on(self.backend.renew(std::slice::from_ref(claim), Call::PATIENT));
        answers.remove(0).expect("answers").standing
    }

    pub(crate) fn transfer(&self, from: &Claim, to: &Claim) -> Standing {
        pollster::block_on(self.backend.transfer(from, to, Call::PATIENT)).expect("answers").standing
    }

    pub(crate) fn release(&self, claim: &Claim, leave: Leave) -> Released {
        pollster::block_on(self.backend.release(claim, leave, Call::PATIENT)).expect("answers")
    }

    /// The lock as a listing shows it.
    pub(crate) fn line(&self) -> Option<Line> {
        let query = Query {
            namespace: "default".into(),
            name: Some(NAME.into()),
            waiting_max: 100,
            ..Query::default()
        };
        pollster::block_on(self.backend.inspect(&query, Call::PATIENT)).expect("answers").lines.pop()
    }

    /// Waits for the news that a claim was granted; for a minute at most.
    pub(crate) fn told(&self, claim: &Claim) -> Grant {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let found = self.ear.0.lock().expect("whole").iter().find_map(|news| match news {
                News::Granted(id, grant, _) if *id == claim.id => Some(*grant),
                _ => None,
            });
            if let Some(grant) = found {
                return grant;
            }
            assert!(Instant::now() < end, "never told");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

pub(crate) fn held(standing: Standing) -> Option<Grant> {
    match standing {
        Standing::Held(grant) => Some(grant),
        _ => None,
    }
}

pub(crate) fn gone(why: Option<&str>) -> Standing {
    Standing::Gone { why: why.map(str::to_owned) }
}
