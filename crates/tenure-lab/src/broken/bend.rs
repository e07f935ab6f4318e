//! Wrappers that change one verb and pass on the others.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tenure::backend::{Answer, Backend, BoxFuture, Call, Claim, Leave, Page, Query, Released, Sink};
use tenure::core::moment::Moment;
use tenure::runtime::Runtime;
use tenure::{Key, Result, Token};

use crate::conform::Twist;

/// The result of most verbs.
pub(crate) type Answered<'a, T = Answer> = BoxFuture<'a, Result<T>>;
/// The result of a batch of renewals.
pub(crate) type AllAnswered<'a> = BoxFuture<'a, Vec<Result<Answer>>>;

/// The honest store behind a bend, asked in the way that the engine asked.
#[derive(Clone, Copy)]
pub(crate) struct Near<'a> {
    store: &'a dyn Backend,
    call: Call,
}

impl<'a> Near<'a> {
    pub(crate) fn attempt<'b>(self, claim: &'b Claim) -> Answered<'b>
    where
        'a: 'b,
    {
        Box::pin(self.store.attempt_one(claim, self.call))
    }
    pub(crate) fn renew<'b>(self, claims: &'b [Claim]) -> AllAnswered<'b>
    where
        'a: 'b,
    {
        self.store.renew(claims, self.call)
    }
    pub(crate) fn release<'b>(self, claim: &'b Claim, leave: Leave) -> Answered<'b, Released>
    where
        'a: 'b,
    {
        self.store.release(claim, leave, self.call)
    }
    pub(crate) fn transfer<'b>(self, from: &'b Claim, to: &'b Claim) -> Answered<'b>
    where
        'a: 'b,
    {
        self.store.transfer(from, to, self.call)
    }
    pub(crate) fn evict<'b>(self, key: &'b Key, token: Option<Token>, why: &'b str) -> Answered<'b, Released>
    where
        'a: 'b,
    {
        self.store.evict(key, token, why, self.call)
    }
    pub(crate) fn inspect<'b>(self, query: &'b Query) -> Answered<'b, Page>
    where
        'a: 'b,
    {
        self.store.inspect(query, self.call)
    }
}

/// A store with something wrong: overrides the verbs that are.
pub(crate) trait Bend: Send + Sync + 'static {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        store.attempt(claim)
    }
    fn renew<'a>(&'a self, store: Near<'a>, claims: &'a [Claim]) -> AllAnswered<'a> {
        store.renew(claims)
    }
    fn release<'a>(&'a self, store: Near<'a>, claim: &'a Claim, leave: Leave) -> Answered<'a, Released> {
        store.release(claim, leave)
    }
    fn transfer<'a>(&'a self, store: Near<'a>, from: &'a Claim, to: &'a Claim) -> Answered<'a> {
        store.transfer(from, to)
    }
    fn evict<'a>(
        &'a self,
        store: Near<'a>,
        key: &'a Key,
        token: Option<Token>,
        why: &'a str,
    ) -> Answered<'a, Released> {
        store.evict(key, token, why)
    }
    fn inspect<'a>(&'a self, store: Near<'a>, query: &'a Query) -> Answered<'a, Page> {
        store.inspect(query)
    }
    /// Where the store's news go, for a store that tells more than it should.
    fn tells(&self, _sink: &Arc<dyn Sink>) {}
}

struct Bent<B> {
    bend: Arc<B>,
    store: Arc<dyn Backend>,
}

impl<B> fmt::Debug for Bent<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken {:?}", self.store)
    }
}

impl<B> Bent<B> {
    fn near(&self, call: Call) -> Near<'_> {
        Near { store: &*self.store, call }
    }
}

impl<B: Bend> Backend for Bent<B> {
    tenure::pass_on!(store: capabilities, domain, part, watch, close);

    fn attempt<'a>(&'a self, claims: &'a [Claim], call: Call) -> AllAnswered<'a> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(claims.len());
            for claim in claims {
                answers.push(self.bend.attempt(self.near(call), claim).await);
            }
            answers
        })
    }
    fn renew<'a>(&'a self, claims: &'a [Claim], call: Call) -> AllAnswered<'a> {
        self.bend.renew(self.near(call), claims)
    }
    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, call: Call) -> Answered<'a, Released> {
        self.bend.release(self.near(call), claim, leave)
    }
    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim, call: Call) -> Answered<'a> {
        self.bend.transfer(self.near(call), from, to)
    }
    fn evict<'a>(
        &'a self,
        key: &'a Key,
        token: Option<Token>,
        why: &'a str,
        call: Call,
    ) -> Answered<'a, Released> {
        self.bend.evict(self.near(call), key, token, why)
    }
    fn inspect<'a>(&'a self, query: &'a Query, call: Call) -> Answered<'a, Page> {
        self.bend.inspect(self.near(call), query)
    }
}

/// What a mutex guards, also after a panic.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One store in one bend.
pub(crate) fn around<B: Bend>(bend: &Arc<B>, store: Arc<dyn Backend>) -> Arc<dyn Backend> {
    Arc::new(Bent { bend: bend.clone(), store })
}

/// A store that is broken for all its clients: each store gets a fresh bend.
struct Store<B> {
    make: fn() -> B,
    sink: Mutex<Option<Arc<dyn Sink>>>,
}

impl<B: Bend> Twist for Store<B> {
    fn store(&self, store: Arc<dyn Backend>) -> Arc<dyn Backend> {
        let bend = Arc::new((self.make)());
        if let Some(sink) = &*locked(&self.sink) {
            bend.tells(sink);
        }
        around(&bend, store)
    }
    fn sink(&self, sink: Arc<dyn Sink>) -> Arc<dyn Sink> {
        locked(&self.sink).replace(sink.clone());
        sink
    }
}

/// Breaks a store.
pub(crate) fn store<B: Bend + Default>() -> Arc<dyn Twist> {
    Arc::new(Store::<B> { make: B::default, sink: Mutex::default() })
}

/// The engine's side of the link is broken: outside of whatever a trial puts between the two.
struct Outer<B>(fn() -> B);

impl<B: Bend> Twist for Outer<B> {
    fn outer(&self, store: Arc<dyn Backend>) -> Arc<dyn Backend> {
        around(&Arc::new((self.0)()), store)
    }
}

/// Breaks the engine's side of the link.
pub(crate) fn outer<B: Bend + Default>() -> Arc<dyn Twist> {
    Arc::new(Outer::<B>(B::default))
}

/// A runtime with something wrong: overrides what is.
pub(crate) trait Warped: fmt::Debug + Send + Sync + 'static {
    fn inner(&self) -> &dyn Runtime;
    fn now(&self) -> Moment {
        self.inner().now()
    }
    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        self.inner().sleep_until(at)
    }
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.inner().spawn(task);
    }
}

/// Makes a runtime of it.
#[derive(Debug)]
pub(crate) struct Runs<W>(pub(crate) W);

impl<W: Warped> Runtime for Runs<W> {
    fn now(&self) -> Moment {
        self.0.now()
    }
    fn wall_us(&self) -> u64 {
        self.0.inner().wall_us()
    }
    fn fill(&self, bytes: &mut [u8]) {
        self.0.inner().fill(bytes);
    }
    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        self.0.sleep_until(at)
    }
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }
}

struct Runtimes<F>(F);

impl<R: Runtime, F: Fn(Arc<dyn Runtime>) -> R + Send + Sync> Twist for Runtimes<F> {
    fn runtime(&self, inner: Arc<dyn Runtime>) -> Option<Arc<dyn Runtime>> {
        Some(Arc::new((self.0)(inner)))
    }
}

struct AsItIs;

impl Twist for AsItIs {}

/// Bends nothing.
pub(crate) fn as_it_is() -> Arc<dyn Twist> {
    Arc::new(AsItIs)
}

/// Gives the engine another runtime.
pub(crate) fn runs<R: Runtime>(
    make: impl Fn(Arc<dyn Runtime>) -> R + Send + Sync + 'static,
) -> Arc<dyn Twist> {
    Arc::new(Runtimes(make))
}
