//! What a trial is given: a store, clients of it, raw access to it, and patience.

use std::io::Write;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tenure::backend::{Backend, News, Opening, Sink};
use tenure::runtime::Runtime;
use tenure::runtime::thread::ThreadRuntime;
use tenure::{Capabilities, HoldEnd, Key, Locks, Owner, Scope, StoreUrl, Visibility, Wakeup};

use super::faces::Face;
use super::fillers::Fillers;
use super::raw::{Store, owner};
use super::sinks::{Broadcast, SinkProbe};
use super::wire::{Lent, Wire, Wired};
use super::{Failed, Verdict, ensure};
use crate::servers::{self, IN_PROCESS, Own, Place};

/// Replaces a store, what it pushes, and what the engine runs on: how deliberately broken variants are made.
pub trait Hooks: Send + Sync {
    /// The store as all clients see it.
    fn store(&self, store: Arc<dyn Backend>) -> Arc<dyn Backend> {
        store
    }
    /// The store as the engine sees it: outside of whatever a trial puts between the two.
    fn outer(&self, store: Arc<dyn Backend>) -> Arc<dyn Backend> {
        store
    }
    /// Where the store's pushes go.
    fn sink(&self, sink: Arc<dyn Sink>) -> Arc<dyn Sink> {
        sink
    }
    /// What the engine runs on; `None`: it stays as it is.
    fn runtime(&self, _runtime: Arc<dyn Runtime>) -> Option<Arc<dyn Runtime>> {
        None
    }
}

struct Honest;

impl Hooks for Honest {}

/// What a trial is given.
pub struct Ctx {
    pub(crate) url: String,
    pub(crate) namespace: String,
    pub(crate) caps: Capabilities,
    /// The share of its usual rounds that a trial shall do, in percent.
    pub(super) percent: u64,
    patience: Duration,
    own: Option<Arc<dyn Own>>,
    hooks: Arc<dyn Hooks>,
    shared: Mutex<Option<Arc<Shared>>>,
    numbers: AtomicU64,
    /// What is taken as the lock.
    pub(crate) face: Face,
    pub(crate) fillers: Fillers,
}

impl std::fmt::Debug for Ctx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ctx")
            .field("url", &self.url)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// A store that is private to whoever opened it, shared by the clients of one trial.
struct Shared {
    store: Arc<dyn Backend>,
    broadcast: Arc<Broadcast>,
}

/// How long a withdrawal may be under way that began before. An attempt of the same claim may reach the store before it, and
/// hold for that moment. What nobody withdraws stays for a lease, which is longer.
const WITHDRAWN: Duration = Duration::from_secs(1);

impl Ctx {
    /// A context for one trial: a namespace of its own in the place's store.
    ///
    /// # Errors
    /// Where the store cannot be opened.
    pub fn new(place: &Place, namespace: &str) -> Result<Ctx, Failed> {
        let mut ctx = Ctx {
            url: servers::of(&place.url)?.apart(&place.url, namespace),
            namespace: namespace.to_owned(),
            caps: Capabilities::strongest(""),
            percent: 100,
            patience: Duration::from_secs(30),
            own: place.own(),
            hooks: Arc::new(Honest),
            shared: Mutex::default(),
            numbers: AtomicU64::new(0),
            face: Face::default(),
            fillers: Fillers::default(),
        };
        let locks = servers::builder(&ctx.url).namespace(&ctx.namespace).blocking_connect()?;
        ctx.caps = locks.capabilities();
        locks.blocking_close()?;
        Ok(ctx)
    }

    /// The same store, broken on purpose.
    #[must_use]
    pub fn with_hooks(self, hooks: Arc<dyn Hooks>) -> Ctx {
        Ctx { hooks, ..self }
    }

    /// With less patience, and fewer rounds.
    #[must_use]
    pub fn hurried(self) -> Ctx {
        Ctx { percent: 25, patience: Duration::from_secs(8), ..self }
    }

    /// What the store promises.
    #[must_use]
    pub fn caps(&self) -> Capabilities {
        self.caps
    }

    /// Whether only one process can use the store.
    pub(crate) fn private(&self) -> bool {
        self.caps.scope == Scope::Process
    }

    /// The store, if it is the suite's own.
    pub(crate) fn own(&self) -> Option<&dyn Own> {
        self.own.as_deref()
    }

    /// Whether the store reads the clock of the process that has it open.
    pub(crate) fn reads_our_clock(&self) -> bool {
        self.caps.scope <= Scope::Host
    }

    /// The same with a store of its own, beside the suite's: clients of earlier trials that still withdraw something do
    /// not have it open.
    pub(crate) fn beside(&self, what: &str) -> Ctx {
        let beside = self.own.as_ref().and_then(|own| own.beside(what));
        Ctx {
            url: beside.as_ref().map_or_else(|| self.url.clone(), |own| own.url()),
            namespace: self.namespace.clone(),
            caps: self.caps,
            percent: self.percent,
            patience: self.patience,
            own: beside.or_else(|| self.own.clone()),
            hooks: self.hooks.clone(),
            shared: Mutex::default(),
            numbers: AtomicU64::new(0),
            face: self.face,
            fillers: Fillers::default(),
        }
    }

    /// A lease in ms for processes that die with a lock in hand: short where nothing but its end tells.
    pub(crate) fn ttl_of_dead(&self) -> u64 {
        if self.sees_processes_end() { 30_000 } else { 500 }
    }

    /// Whether a hold ends with its process.
    pub(crate) fn sees_processes_end(&self) -> bool {
        matches!(self.caps.hold_end, HoldEnd::Process | HoldEnd::LeaseOrProcess | HoldEnd::Connection)
    }

    /// Whether waiters are in the store, where everybody sees them.
    pub(crate) fn sees_waiters(&self) -> bool {
        matches!(self.caps.visibility, Visibility::Full | Visibility::Counts)
    }

    /// Whether the store tells a waiter of its grant.
    pub(crate) fn pushes(&self) -> bool {
        self.caps.wakeup == Wakeup::Push
    }

    /// Until somebody waits for a lock: as all see it, or, where nobody sees it, until so many attempts went over the
    /// waiter's wire.
    pub(crate) async fn in_line(&self, locks: &Locks, name: &str, wire: &Wire, attempts: u64) -> Verdict<()> {
        self.until("somebody waits", async || {
            if !self.sees_waiters() {
                return Ok(wire.attempts() >= attempts);
            }
            Ok(locks.inspect(name).await?.is_some_and(|line| line.waiters > 0))
        })
        .await
    }

    /// Forgets the shared store of a private backend: the next client opens a new, empty one.
    pub(crate) fn forget(&self) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// How many rounds to do of `full`.
    pub(crate) fn rounds(&self, full: u64) -> u64 {
        (full * self.percent / 100).max(2)
    }

    /// The name of a lock that no other trial uses.
    pub(crate) fn name(&self, what: &str) -> String {
        let name = format!("{what}/{}", self.numbers.fetch_add(1, Ordering::Relaxed));
        if let Err(why) = self.fill(&name) {
            // Two permits too many are left now, so the trial will fail: this says why.
            let _ = writeln!(std::io::stderr(), "{name}: {why}");
        }
        name
    }

    pub(crate) fn key(&self, name: &str) -> Verdict<Key> {
        Ok(Key::new(&self.namespace, name)?)
    }

    /// Runs a trial's asynchronous part on a runtime of its own.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = Verdict<T>>) -> Verdict<T> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        // As a trait object: the runtime is not compiled once for each trial.
        let work: Pin<&mut dyn Future<Output = Verdict<T>>> = pin!(work);
        let out = runtime.block_on(work);
        runtime.shutdown_background();
        out
    }

    /// Waits for something that must happen.
    pub(crate) async fn within<T>(&self, what: &str, work: impl Future<Output = T>) -> Verdict<T> {
        let gave_up = |_| Failed::Broken(format!("{what}: nothing for {:?}", self.patience));
        let work: Pin<&mut dyn Future<Output = T>> = pin!(work);
        tokio::time::timeout(self.patience, work).await.map_err(gave_up)
    }

    /// Looks again and again until it is so.
    pub(crate) async fn until(&self, what: &str, mut so: impl AsyncFnMut() -> Verdict<bool>) -> Verdict<()> {
        let look = async {
            while !so().await? {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(())
        };
        self.within(what, look).await?
    }

    /// A client with a lease of 30 s.
    pub(crate) fn client(&self) -> Client<'_> {
        Client {
            ctx: self,
            ttl: Duration::from_secs(30),
            wire: None,
            probe: None,
            runtime: None,
            owner: None,
            shared: false,
        }
    }

    /// A client with nothing special about it.
    pub(crate) async fn locks(&self) -> Verdict<Locks> {
        self.client().connect().await
    }

    /// The store itself, without an engine.
    pub(crate) async fn store(&self) -> Verdict<Store> {
        self.store_on(Arc::new(ThreadRuntime::new())).await
    }

    /// The same, on other clocks, where the store has none of its own.
    pub(crate) async fn store_on(&self, runtime: Arc<dyn Runtime>) -> Verdict<Store> {
        let probe = SinkProbe::alone();
        let backend = if self.private() {
            let shared = self.shared(runtime.clone()).await?;
            shared.broadcast.add(probe.clone());
            shared.store.clone()
        } else {
            self.seen(self.open(self.hooks.sink(probe.clone()), runtime.clone()).await?)
        };
        Ok(Store { backend, probe, runtime, namespace: self.namespace.clone(), face: self.face })
    }

    /// A store as all clients see it.
    fn seen(&self, store: Arc<dyn Backend>) -> Arc<dyn Backend> {
        self.face.hiding(self.hooks.store(store))
    }

    async fn shared(&self, runtime: Arc<dyn Runtime>) -> Verdict<Arc<Shared>> {
        if let Some(shared) = &*self.shared.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(shared.clone());
        }
        let broadcast = Arc::new(Broadcast::default());
        let store = self.open(self.hooks.sink(broadcast.clone()), runtime).await?;
        let store = self.seen(Arc::new(Lent(store)));
        let shared = Arc::new(Shared { store, broadcast });
        let mut slot = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(slot.get_or_insert(shared).clone())
    }

    async fn open(&self, sink: Arc<dyn Sink>, runtime: Arc<dyn Runtime>) -> Verdict<Arc<dyn Backend>> {
        let url = StoreUrl::parse(&self.url)?;
        let entry = servers::entry(&url.scheme)?;
        Ok((entry.open)(Opening { url, sink, runtime, owner: Arc::new(owner("raw")) }).await?)
    }
}

/// How a trial connects.
pub(crate) struct Client<'a> {
    ctx: &'a Ctx,
    ttl: Duration,
    wire: Option<Arc<Wire>>,
    probe: Option<Arc<SinkProbe>>,
    runtime: Option<Arc<dyn Runtime>>,
    owner: Option<Owner>,
    shared: bool,
}

impl Client<'_> {
    /// Whether its tasks share claims. They do not otherwise: most trials are about the store's line.
    pub(crate) fn sharing(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    pub(crate) fn ttl_ms(mut self, ms: u64) -> Self {
        self.ttl = Duration::from_millis(ms);
        self
    }

    /// Puts a wire between the engine and the store.
    pub(crate) fn wire(mut self, wire: &Arc<Wire>) -> Self {
        self.wire = Some(wire.clone());
        self
    }

    /// Puts a probe between the store's pushes and the engine.
    pub(crate) fn probe(mut self, probe: &Arc<SinkProbe>) -> Self {
        self.probe = Some(probe.clone());
        self
    }

    /// Runs the engine, and not the store, on this.
    pub(crate) fn runtime(mut self, runtime: Arc<dyn Runtime>) -> Self {
        self.runtime = Some(runtime);
        self
    }

    pub(crate) fn owner(mut self, owner: Owner) -> Self {
        self.owner = Some(owner);
        self
    }

    pub(crate) async fn connect(self) -> Verdict<Locks> {
        let ctx = self.ctx;
        let given = self.runtime.clone().unwrap_or_else(|| Arc::new(ThreadRuntime::new()));
        let runtime = ctx.hooks.runtime(given).or(self.runtime);
        // A private store is shared by wrapping; so is a client whose clock lies, since the store's must not.
        let inject = ctx.private() || runtime.is_some();
        let late = Arc::new(Late::default());
        let mut mine = None;
        if ctx.private() {
            let shared = ctx.shared(Arc::new(ThreadRuntime::new())).await?;
            shared.broadcast.add(late.clone());
            mine = Some(shared.store.clone());
        } else if inject {
            let store = ctx.open(ctx.hooks.sink(late.clone()), Arc::new(ThreadRuntime::new())).await?;
            mine = Some(ctx.seen(store));
        }
        let url = if inject { IN_PROCESS } else { &ctx.url };
        let mut builder = servers::builder(url).namespace(&ctx.namespace).ttl(self.ttl);
        if !self.shared {
            builder = builder.fair();
        }
        if let Some(owner) = self.owner {
            builder = builder.owner(owner);
        }
        if let Some(runtime) = runtime {
            builder = builder.runtime(runtime);
        }
        let (hooks, probe, wire, face) = (ctx.hooks.clone(), self.probe, self.wire, ctx.face);
        let sinks = hooks.clone();
        let builder = builder.wrap_sink(move |hub| {
            let sink = match probe {
                Some(probe) => probe.to(hub),
                None => hub,
            };
            if !inject {
                return sinks.sink(sink);
            }
            late.0.get_or_init(|| sink.clone());
            sink
        });
        let builder = builder.wrap(move |opened| {
            let store = mine.unwrap_or_else(|| face.hiding(hooks.store(opened)));
            let store = match wire {
                Some(wire) => Arc::new(Wired { wire, inner: store }),
                None => store,
            };
            hooks.outer(store)
        });
        Ok(builder.connect().await?)
    }
}

/// A sink that is there before what it passes news on to.
#[derive(Default)]
struct Late(OnceLock<Arc<dyn Sink>>);

impl Sink for Late {
    fn news(&self, news: News) {
        if let Some(sink) = self.0.get() {
            sink.news(news);
        }
    }
}

/// The mutex of that name.
pub(crate) fn mutex(locks: &Locks, name: &str) -> Verdict<tenure::Mutex> {
    Ok(locks.mutex(name)?)
}

impl Ctx {
    /// Nobody holds the lock, nobody waits, the client has nothing in hand, and whoever comes next gets it.
    pub(crate) async fn nothing_left(&self, locks: &Locks, name: &str) -> Verdict<()> {
        self.until("the client has nothing in hand", async || Ok(locks.live() == 0)).await?;
        self.until("nobody holds and nobody waits", async || Ok(locks.inspect(name).await?.is_none()))
            .await?;
        let lock = self.lock(locks, name)?;
        let end = Instant::now() + WITHDRAWN;
        let mut guard = lock.try_lock().await?;
        while guard.is_none() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(2)).await;
            guard = lock.try_lock().await?;
        }
        let seen = locks.inspect(name).await?;
        ensure!(guard.is_some(), "nobody was listed, and yet {name} was not free; now it is {seen:?}");
        drop(guard);
        self.until("and it is free again", async || Ok(locks.inspect(name).await?.is_none())).await
    }
}
