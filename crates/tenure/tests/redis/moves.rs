//! A hold that goes on under another claim, through the contract, on both forms of the store.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use tenure::backend::{
    Anchor, Backend, Claim, ClaimId, Cohort, Grant, Kind, Leave, News, Opening, Owner, Query, Released, Sink,
    Standing, find,
};
use tenure::engine::Runtime;
use tenure::engine::thread::ThreadRuntime;
use tenure::{ErrorKind, Key, StoreUrl};

use crate::server::Server;
use crate::{multi, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("moves::s4_s9_a_hold_goes_on_once", || on_both(goes_on_once)),
        trial("moves::what_cannot_go_on_is_refused", || on_both(refused)),
    ]
}

#[derive(Debug)]
struct Deaf;

impl Sink for Deaf {
    fn news(&self, _: News) {}
}

struct Store {
    backend: Arc<dyn Backend>,
    runtime: Arc<ThreadRuntime>,
    owner: Arc<Owner>,
}

fn on_both(test: fn(Store)) {
    let server = Server::start();
    for url in [server.url(), server.url().replace("redis:", "redis+setnx:")] {
        let runtime = Arc::new(ThreadRuntime::new());
        let owner = Arc::new(Owner { user: "u".into(), host: "h".into(), pid: 1, program: "p".into() });
        let url = StoreUrl::parse(&url).expect("a good URL");
        let open = find(&url.scheme).expect("compiled in").open;
        let opening = Opening { url, sink: Arc::new(Deaf), runtime: runtime.clone(), owner: owner.clone() };
        let multi = multi();
        let backend = multi.block_on(open(opening)).expect("opens");
        test(Store { backend, runtime, owner });
    }
}

impl Store {
    fn claim(&self, reason: &str) -> Claim {
        let mut id = [0; 16];
        self.runtime.fill(&mut id);
        Claim {
            id: ClaimId(u128::from_ne_bytes(id)),
            key: Key::new("default", "moved").expect("a good name"),
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

    fn take(&self, claim: &Claim) -> Grant {
        held(pollster::block_on(self.backend.attempt(claim)).expect("answers").standing).expect("free")
    }

    fn transfer(&self, from: &Claim, to: &Claim) -> Standing {
        pollster::block_on(self.backend.transfer(from, to)).expect("answers").standing
    }

    fn release(&self, claim: &Claim, leave: Leave) -> Released {
        pollster::block_on(self.backend.release(claim, leave)).expect("answers")
    }

    /// Reason and since-time of the only holder.
    fn holder(&self) -> (String, u64) {
        let query = Query { namespace: "default".into(), name: Some("moved".into()), ..Query::default() };
        let page = pollster::block_on(self.backend.inspect(&query)).expect("answers");
        let seen = &page.lines[0].holders[0];
        (seen.reason.clone(), seen.since_us)
    }
}

fn held(standing: Standing) -> Option<Grant> {
    match standing {
        Standing::Held(grant) => Some(grant),
        _ => None,
    }
}

fn gone(why: Option<&str>) -> Standing {
    Standing::Gone { why: why.map(str::to_owned) }
}

fn goes_on_once(store: Store) {
    let [a, b, c] = ["first", "second", "third"].map(|reason| store.claim(reason));
    let token = store.take(&a).token;
    let since = store.holder().1;
    assert_eq!(held(store.transfer(&a, &b)).expect("goes on").token, token);
    assert_eq!(store.holder(), ("second".into(), since));
    assert_eq!(held(store.transfer(&a, &b)).expect("asked again").token, token);
    assert_eq!(store.transfer(&a, &c), gone(None), "continued once only");
    assert_eq!(store.release(&a, Leave::Nothing), Released::Gone, "the old id can do nothing");
    let renewed = pollster::block_on(store.backend.renew(&[a, b.clone()]));
    let renewed: Vec<_> = renewed.into_iter().map(|r| r.expect("answers").standing).collect();
    assert_eq!(renewed[0], gone(None));
    assert!(matches!(renewed[1], Standing::Held(_)));
    // A claim that was withdrawn before the transfer arrives gets nothing, and takes nothing away.
    assert_eq!(store.release(&c, Leave::Mark), Released::Gone);
    assert_eq!(store.transfer(&b, &c), gone(None));
    assert_eq!(store.release(&b, Leave::Nothing), Released::WasHeld);
    let last = store.claim("");
    assert!(store.take(&last).token > token);
    store.release(&last, Leave::Nothing);
}

fn refused(store: Store) {
    let [a, b] = ["first", "second"].map(|reason| store.claim(reason));
    assert_eq!(store.transfer(&a, &b), gone(None), "nothing is created");
    store.take(&a);
    let larger = Claim { weight: 2, capacity: 2, kind: Kind::Mutex, ..store.claim("") };
    let error = pollster::block_on(store.backend.transfer(&a, &larger)).expect_err("larger");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let other = Claim { kind: Kind::Semaphore, capacity: 3, ..store.claim("") };
    let error = pollster::block_on(store.backend.transfer(&a, &other)).expect_err("another kind");
    assert!(matches!(error.kind(), ErrorKind::Config | ErrorKind::Unsupported), "{error}");
    pollster::block_on(store.backend.evict(&a.key, None, "enough")).expect("answers");
    assert_eq!(store.transfer(&a, &b), gone(Some("enough")));
    let kept = store.claim("");
    store.take(&kept);
    assert_eq!(store.release(&kept, Leave::For(Duration::from_secs(9))), Released::WasHeld);
    assert_eq!(store.transfer(&kept, &b), gone(None), "what was released does not go on");
}
