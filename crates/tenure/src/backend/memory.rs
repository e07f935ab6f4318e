//! `memory:`: the line in this process, for the tasks that share one `Locks`. The reference: short enough to read.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{
    Answer, Backend, BoxFuture, Claim, ClaimId, Entry, Key, Leave, News, Opening, Page, Query, Released,
    Sink, local, note,
};
use crate::capability::{
    Capabilities, HoldEnd, Modes, Order, Scope, Survives, TokenStrength, Visibility, Wakeup,
};
use crate::core::line::{Found, Lines, NO_SLOT, Now, Refusal, VecArena};
use crate::engine::Runtime;
use crate::error::{Error, Result};
use crate::token::Token;

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
    survives: Survives::Nothing,
};

struct Memory {
    store: Mutex<Store>,
    sink: Arc<dyn Sink>,
    runtime: Arc<dyn Runtime>,
    watched: AtomicBool,
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
    Ok(Arc::new(Memory { store, sink, runtime, watched: AtomicBool::new(false) }))
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
            (store.lines.renew(claim.id.0, claim.key.full().as_bytes(), Some(&store.note), now), false)
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

    fn attempt<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(async move { self.attempt_now(claim) })
    }

    fn renew<'a>(&'a self, claims: &'a [Claim]) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(async move { claims.iter().map(|claim| self.renew_now(claim)).collect() })
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave) -> BoxFuture<'a, Result<Released>> {
        Box::pin(async move { self.release_now(claim, leave) })
    }

    fn evict<'a>(
        &'a self,
        key: &'a Key,
        token: Option<Token>,
        why: &'a str,
    ) -> BoxFuture<'a, Result<Released>> {
        Box::pin(async move { self.evict_now(key, token, why) })
    }

    fn inspect<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page>> {
        Box::pin(async move { self.inspect_now(query) })
    }

    fn watch(&self, on: bool) {
        self.watched.store(on, Ordering::Relaxed);
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
