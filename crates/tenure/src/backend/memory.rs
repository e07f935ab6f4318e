//! `memory:`: the line in this process, for the tasks that share one `Locks`. The reference: short enough to read.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{
    Answer, Backend, BoxFuture, Call, Claim, ClaimId, Entry, Key, Leave, News, Opening, Page, Part, Query,
    Released, Sink, Watched, local, note, refusal,
};
use crate::capability::{
    After, Capabilities, Evict, HoldEnd, Knows, Modes, Order, Scope, Survives, TokenStrength, Transfer,
    Turns, Visibility, Wakeup,
};
use crate::core::line::{Found, Lines, NO_SLOT, Now, Place, Refusal, VecArena};
use crate::domain::Domain;
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::token::Token;
use crate::ttl::Ttl;

/// This backend's row of the table.
pub(super) const ENTRY: Entry = Entry {
    schemes: &["memory"],
    feature: "memory",
    capabilities: CAPABILITIES,
    open: |opening| Box::pin(open(opening)),
};

const CAPABILITIES: Capabilities = Capabilities {
    backend: "memory",
    scope: Scope::Process,
    hold_end: HoldEnd::Lease,
    token: TokenStrength::Hybrid,
    order: Order::Fifo,
    modes: Modes::ALL,
    wakeup: Wakeup::Push,
    visibility: Visibility::Full,
    turns: Turns::Each,
    survives: Survives::NOTHING,
    ttl: Ttl::ANY,
    after: After::Kept,
    transfer: Transfer::Anyone,
    evict: Evict::Yes,
    previous: Knows::Yes,
    warnings: &[],
};

struct Memory {
    store: Mutex<Store>,
    sink: Arc<dyn Sink>,
    runtime: Arc<dyn Runtime>,
    watched: AtomicBool,
    /// Tells this store from every other: nobody else can reach it.
    id: u128,
}

struct Store {
    lines: Lines<VecArena>,
    /// The note of the claim at hand; kept for its memory.
    note: Vec<u8>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

async fn open(opening: Opening) -> Result<Arc<dyn Backend>> {
    let url = &opening.url;
    url.finish(&[])?;
    if !url.hosts.is_empty() || !url.path.is_empty() || url.user.is_some() || url.password.is_some() {
        return Err(Error::config(
            "memory: has no host, no path and no user",
            "write memory: and nothing after it",
        ));
    }
    let mut seed = [0; 8];
    opening.runtime.fill(&mut seed);
    let lines = Lines::with_seed(VecArena::default(), u64::from_le_bytes(seed))
        .map_err(|_| Error::unavailable("there is no memory for the locks", "free some"))?;
    let store = Mutex::new(Store { lines, note: Vec::new() });
    let Opening { sink, runtime, .. } = opening;
    let mut id = [0; 16];
    runtime.fill(&mut id);
    let id = u128::from_le_bytes(id);
    Ok(Arc::new(Memory { store, sink, runtime, watched: AtomicBool::new(false), id }))
}

impl Memory {
    /// Runs a verb under the mutex, and tells others of what it changed afterwards. `verb` says its answer and whether
    /// anything changed that shows in no count.
    fn run<T>(
        &self,
        own: Option<ClaimId>,
        verb: impl FnOnce(&mut Store, Now) -> (Result<T, Refusal>, bool),
    ) -> Result<(T, Now), Refusal> {
        let mut guard = self.lock();
        let store = &mut *guard;
        // Read under the mutex: the line's time never goes back.
        let now = self.now();
        let before = store.lines.counts();
        let (result, changed) = verb(store, now);
        let news = local::news(&mut store.lines, own, now);
        let changed = changed || !news.is_empty() || before != store.lines.counts();
        drop(guard);
        for piece in news {
            self.sink.news(piece);
        }
        if changed && self.watched.load(Ordering::Relaxed) {
            self.sink.news(News::Changed);
        }
        result.map(|answer| (answer, now))
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(|poisoned| {
            // A verb panicked: a bug, which must not take the other locks along.
            let mut store = poisoned.into_inner();
            store.lines.recover();
            self.store.clear_poison();
            store
        })
    }

    fn now(&self) -> Now {
        Now { ns: self.runtime.now().nanos(), wall_us: self.runtime.wall_us(), ceiling: i64::MAX }
    }

    fn attempt_now(&self, claim: &Claim) -> Result<Answer> {
        refusal::check_tokens(claim, 1)?;
        let done = self.run(Some(claim.id), |store, now| {
            note::encode(&claim.owner, &claim.reason, &mut store.note);
            (store.lines.attempt(&local::ask(claim, NO_SLOT, &store.note), now), false)
        });
        let (place, now) = done.map_err(|r| local::refused(r, &claim.key, Some(claim.kind)))?;
        Ok(local::answer(place, now))
    }

    fn renew_now(&self, claim: &Claim) -> Result<Answer> {
        let done = self.run(Some(claim.id), |store, now| {
            note::encode(&claim.owner, &claim.reason, &mut store.note);
            let restated = store.lines.restates(claim.id.0, &store.note);
            (store.lines.renew(claim.id.0, claim.key.full().as_bytes(), Some(&store.note), now), restated)
        });
        let (place, now) = done.map_err(|r| local::refused(r, &claim.key, Some(claim.kind)))?;
        Ok(local::answer(place, now))
    }

    fn release_now(&self, claim: &Claim, leave: Leave) -> Result<Released> {
        let done = self.run(Some(claim.id), |store, now| {
            let (key, birth) = (claim.key.full().as_bytes(), claim.birth.nanos());
            let found = store.lines.release(claim.id.0, key, birth, local::trace(leave), now);
            (found, found.is_ok_and(|f| f != Found::Nothing))
        });
        let (found, _) = done.map_err(|r| local::refused(r, &claim.key, Some(claim.kind)))?;
        Ok(local::released(found))
    }

    fn transfer_now(&self, from: &Claim, to: &Claim) -> Result<Answer> {
        refusal::check_tokens(to, 1)?;
        let done = self.run(Some(to.id), |store, now| {
            note::encode(&to.owner, &to.reason, &mut store.note);
            let place = store.lines.transfer(from.id.0, &local::ask(to, NO_SLOT, &store.note), now);
            let changed = matches!(place, Ok(Place::Held { .. }));
            (place, changed)
        });
        let (place, now) = done.map_err(|r| local::refused(r, &to.key, Some(to.kind)))?;
        Ok(local::answer(place, now))
    }

    fn evict_now(&self, key: &Key, token: Option<Token>, why: &str) -> Result<Released> {
        let done = self.run(None, |store, now| {
            (store.lines.evict(key.full().as_bytes(), token.map(Token::get), why.as_bytes(), now), false)
        });
        let (holds, _) = done.map_err(|r| local::refused(r, key, None))?;
        Ok(local::evicted(holds))
    }

    fn inspect_now(&self, query: &Query) -> Result<Page> {
        let store = self.lock();
        let now = self.now();
        let (rows, next) = local::page(&store.lines, query, now)?;
        drop(store);
        let lines = rows.into_iter().map(|row| local::line(row, now)).collect::<Result<_>>()?;
        Ok(Page { lines, next })
    }
}

impl Backend for Memory {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn domain(&self) -> BoxFuture<'_, Result<Domain>> {
        Box::pin(std::future::ready(Domain::of("memory", &format!("{:032x}", self.id))))
    }

    fn part(&self, _: &Key) -> Part {
        Part::WHOLE
    }

    fn attempt<'a>(&'a self, claims: &'a [Claim], _: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(async move { claims.iter().map(|claim| self.attempt_now(claim)).collect() })
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], _: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(async move { claims.iter().map(|claim| self.renew_now(claim)).collect() })
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, _: Call) -> BoxFuture<'a, Result<Released>> {
        Box::pin(async move { self.release_now(claim, leave) })
    }

    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim, _: Call) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(async move { self.transfer_now(from, to) })
    }

    fn evict<'a>(
        &'a self,
        key: &'a Key,
        token: Option<Token>,
        why: &'a str,
        _: Call,
    ) -> BoxFuture<'a, Result<Released>> {
        Box::pin(async move { self.evict_now(key, token, why) })
    }

    fn inspect<'a>(&'a self, query: &'a Query, _: Call) -> BoxFuture<'a, Result<Page>> {
        Box::pin(async move { self.inspect_now(query) })
    }

    fn watch(&self, what: &Watched) {
        self.watched.store(*what != Watched::Nothing, Ordering::Relaxed);
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::*;
    use crate::backend::{Anchor, Cohort, Kind, Lease, Owner, Standing};
    use crate::core::moment::Moment;
    use crate::error::ErrorKind;
    use crate::url::StoreUrl;

    /// A clock that stands still unless it is told.
    #[derive(Debug, Default)]
    struct Still(AtomicU64);

    impl Runtime for Still {
        fn now(&self) -> Moment {
            Moment(self.0.load(Ordering::Relaxed))
        }

        fn wall_us(&self) -> u64 {
            1_700_000_000_000_000 + self.0.load(Ordering::Relaxed) / 1_000
        }

        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }

        fn sleep_until(&self, _: Moment) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }

        fn spawn(&self, _: BoxFuture<'static, ()>) {}
    }

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Sink for Heard {
        fn news(&self, news: News) {
            self.0.lock().expect("no test panics in here").push(format!("{news:?}"));
        }
    }

    impl Heard {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().expect("no test panics in here"))
        }
    }

    /// Verbs of this backend are ready at once.
    fn ready<T>(mut future: BoxFuture<'_, T>) -> T {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("memory: never waits"),
        }
    }

    /// Nobody listens for long, and nothing here takes long.
    const NOW: Call = Call::awaited(Moment(0));

    type Opened = (Arc<dyn Backend>, Arc<Heard>, Arc<Still>);

    fn open_url(url: &str) -> Result<Opened> {
        let (heard, clock) = (Arc::new(Heard::default()), Arc::new(Still::default()));
        let owner = Owner { user: "u".into(), host: "h".into(), pid: 1, program: "p".into() };
        let url = StoreUrl::parse(url)?;
        let opening = Opening { url, sink: heard.clone(), runtime: clock.clone(), owner: owner.into() };
        Ok((ready((ENTRY.open)(opening))?, heard, clock))
    }

    fn store() -> Opened {
        open_url("memory:").expect("opens")
    }

    fn claim(id: u128, name: &str, kind: Kind) -> Claim {
        Claim {
            id: ClaimId(id),
            key: Key::new("default", name).expect("a good name"),
            kind,
            weight: 1,
            capacity: if kind == Kind::Mutex { 1 } else { super::super::RW_CAPACITY },
            stand: true,
            ttl: Duration::from_secs(30),
            waiting: Duration::from_secs(10),
            cohort: Cohort::ALONE,
            birth: Moment(0),
            anchor: Anchor::Process,
            owner: Owner { user: "ann".into(), host: "box".into(), pid: 42, program: "job".into() }.into(),
            reason: "month end".into(),
        }
    }

    fn stand(b: &Arc<dyn Backend>, c: &Claim) -> Standing {
        ready(Box::pin(b.attempt_one(c, NOW))).expect("answered").standing
    }

    #[test]
    fn l5_the_next_in_line_is_told_with_its_token_and_the_time() {
        let (b, heard, clock) = store();
        let (first, second) = (claim(1, "a", Kind::Mutex), claim(2, "a", Kind::Mutex));
        assert!(matches!(stand(&b, &first), Standing::Held(g) if g.lease == Lease::For(first.ttl)));
        let look_again = Duration::from_secs(2);
        let waits = Standing::Waiting { place: Some(Lease::For(second.waiting)), ahead: Some(0), look_again };
        assert_eq!(stand(&b, &second), waits);
        assert_eq!(heard.take(), [""; 0], "nobody is told what the verb's own answer says");
        clock.0.store(500, Ordering::Relaxed);
        assert_eq!(ready(b.release(&first, Leave::Nothing, NOW)).expect("answered"), Released::WasHeld);
        let Standing::Held(grant) = stand(&b, &second) else { panic!("granted") };
        assert_eq!(heard.take(), [format!("{:?}", News::Granted(second.id, grant, 500))]);
        let done = ready(b.evict(&second.key, grant.token, "no", NOW));
        assert_eq!(done.expect("answered"), Released::WasHeld);
        assert_eq!(heard.take(), [format!("{:?}", News::Gone(second.id, Some("no".into())))]);
        let renewed = ready(b.renew(&[second.clone(), first], NOW));
        let whys: Vec<_> = renewed.into_iter().map(|a| a.expect("answered").standing).collect();
        assert_eq!(whys, [Standing::Gone { why: Some("no".into()) }, Standing::Gone { why: None }]);
    }

    #[test]
    fn another_kind_is_refused_and_both_are_named() {
        let (b, ..) = store();
        stand(&b, &claim(1, "a", Kind::Mutex));
        let error =
            ready(Box::pin(b.attempt_one(&claim(2, "a", Kind::ReadWrite), NOW))).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        assert!(text.contains("a read-write lock") && text.contains("a mutex"), "{text}");
    }

    #[test]
    fn several_tokens_are_refused() {
        let (b, ..) = store();
        let one = claim(1, "a", Kind::Mutex);
        let more = Claim { cohort: Cohort { tokens: 2, ..Cohort::ALONE }, ..claim(2, "a", Kind::Mutex) };
        assert_eq!(
            ready(Box::pin(b.attempt_one(&more, NOW))).expect_err("refused").kind(),
            ErrorKind::Config
        );
        stand(&b, &one);
        assert_eq!(ready(b.transfer(&one, &more, NOW)).expect_err("refused").kind(), ErrorKind::Config);
        assert_eq!(ready(b.release(&one, Leave::Nothing, NOW)).expect("answered"), Released::WasHeld);
    }

    #[test]
    fn changes_are_told_only_while_somebody_watches() {
        let (b, heard, _) = store();
        let c = claim(1, "a", Kind::Mutex);
        stand(&b, &c);
        b.watch(&Watched::Everything);
        stand(&b, &c);
        ready(b.renew(std::slice::from_ref(&c), NOW));
        assert_eq!(heard.take(), [""; 0], "nothing changed");
        ready(b.release(&c, Leave::For(Duration::from_secs(1)), NOW)).expect("answered");
        stand(&b, &claim(2, "a", Kind::Mutex));
        assert_eq!(heard.take(), ["Changed", "Changed"]);
        b.watch(&Watched::Nothing);
        stand(&b, &claim(3, "b", Kind::Mutex));
        assert_eq!(heard.take(), [""; 0]);
    }

    #[test]
    fn o1_everything_is_visible_page_by_page() {
        let (b, _, clock) = store();
        for n in 0..600 {
            stand(&b, &claim(n + 1, &format!("many/{n}"), Kind::Mutex));
        }
        stand(&b, &claim(1000, "many", Kind::Mutex));
        stand(&b, &claim(1001, "many", Kind::Mutex));
        let mut query =
            Query { namespace: "default".into(), prefix: "many".into(), waiting_max: 9, ..Query::default() };
        let mut names = std::collections::BTreeSet::new();
        loop {
            let page = ready(b.inspect(&query, NOW)).expect("a page");
            names.extend(page.lines.iter().map(|l| l.key.name().to_owned()));
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        assert_eq!(names.len(), 601);
        clock.0.store(1_000_000_000, Ordering::Relaxed);
        query.name = Some("many".into());
        let line = ready(b.inspect(&query, NOW)).expect("a page").lines.remove(0);
        assert_eq!((line.waiters, line.capacity), (1, 1));
        let seen = &line.holders[0];
        assert_eq!(
            (seen.owner.user.as_str(), seen.owner.pid, seen.reason.as_str()),
            ("ann", 42, "month end")
        );
        assert_eq!((seen.token, seen.since_us), (line.token, 1_700_000_000_000_000));
        assert_eq!(seen.expires_in, Some(Duration::from_secs(29)));
        assert_eq!(line.waiting[0].claim, ClaimId(1001).short());
        let lost = Query { name: None, after: Some("nowhere".into()), ..query };
        assert_eq!(ready(b.inspect(&lost, NOW)).expect_err("refused").kind(), ErrorKind::Config);
    }

    #[test]
    fn it_takes_nothing_after_its_scheme() {
        for url in ["memory://host", "memory:///path", "memory:?a=b", "memory://u:p@"] {
            assert_eq!(open_url(url).map(|_| ()).expect_err(url).kind(), ErrorKind::Config);
        }
    }
}
