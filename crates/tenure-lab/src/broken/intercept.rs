//! Interceptors: wrappers of a store or a runtime that override one method and pass on the others.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tenure::backend::{Answer, Backend, BoxFuture, Call, Claim, Leave, Page, Query, Released, Sink};
use tenure::core::moment::Moment;
use tenure::runtime::Runtime;
use tenure::{Key, Result, Token};

use crate::conform::Hooks;

/// The result of most verbs.
pub(crate) type Answered<'a, T = Answer> = BoxFuture<'a, Result<T>>;
/// The result of a batch of renewals.
pub(crate) type AllAnswered<'a> = BoxFuture<'a, Vec<Result<Answer>>>;

/// The honest store behind an interceptor, called as the engine called.
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

/// Makes a store wrong: overrides the verbs that misbehave.
pub(crate) trait Interceptor: Send + Sync + 'static {
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

struct Intercepted<B> {
    interceptor: Arc<B>,
    store: Arc<dyn Backend>,
}

impl<B> fmt::Debug for Intercepted<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken {:?}", self.store)
    }
}

impl<B> Intercepted<B> {
    fn near(&self, call: Call) -> Near<'_> {
        Near { store: &*self.store, call }
    }
}

impl<B: Interceptor> Backend for Intercepted<B> {
    tenure::pass_on!(store: capabilities, domain, part, watch, close);

    fn attempt<'a>(&'a self, claims: &'a [Claim], call: Call) -> AllAnswered<'a> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(claims.len());
            for claim in claims {
                answers.push(self.interceptor.attempt(self.near(call), claim).await);
            }
            answers
        })
    }
    fn renew<'a>(&'a self, claims: &'a [Claim], call: Call) -> AllAnswered<'a> {
        self.interceptor.renew(self.near(call), claims)
    }
    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, call: Call) -> Answered<'a, Released> {
        self.interceptor.release(self.near(call), claim, leave)
    }
    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim, call: Call) -> Answered<'a> {
        self.interceptor.transfer(self.near(call), from, to)
    }
    fn evict<'a>(
        &'a self,
        key: &'a Key,
        token: Option<Token>,
        why: &'a str,
        call: Call,
    ) -> Answered<'a, Released> {
        self.interceptor.evict(self.near(call), key, token, why)
    }
    fn inspect<'a>(&'a self, query: &'a Query, call: Call) -> Answered<'a, Page> {
        self.interceptor.inspect(self.near(call), query)
    }
}

/// What a mutex guards, also after a panic.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A store behind an interceptor.
pub(crate) fn around<B: Interceptor>(interceptor: &Arc<B>, store: Arc<dyn Backend>) -> Arc<dyn Backend> {
    Arc::new(Intercepted { interceptor: interceptor.clone(), store })
}

/// A store that is broken for all its clients: each store gets a fresh interceptor.
struct Store<B> {
    make: fn() -> B,
    sink: Mutex<Option<Arc<dyn Sink>>>,
}

impl<B: Interceptor> Hooks for Store<B> {
    fn store(&self, store: Arc<dyn Backend>) -> Arc<dyn Backend> {
        let interceptor = Arc::new((self.make)());
        if let Some(sink) = &*locked(&self.sink) {
            interceptor.tells(sink);
        }
        around(&interceptor, store)
    }
    fn sink(&self, sink: Arc<dyn Sink>) -> Arc<dyn Sink> {
        locked(&self.sink).replace(sink.clone());
        sink
    }
}

/// Breaks a store.
pub(crate) fn store<B: Interceptor + Default>() -> Arc<dyn Hooks> {
    Arc::new(Store::<B> { make: B::default, sink: Mutex::default() })
}

/// The engine's side of the link is broken: outside of whatever a trial puts between the two.
struct Outer<B>(fn() -> B);

impl<B: Interceptor> Hooks for Outer<B> {
    fn outer(&self, store: Arc<dyn Backend>) -> Arc<dyn Backend> {
        around(&Arc::new((self.0)()), store)
    }
}

/// Breaks the engine's side of the link.
pub(crate) fn outer<B: Interceptor + Default>() -> Arc<dyn Hooks> {
    Arc::new(Outer::<B>(B::default))
}

/// Makes a runtime wrong: overrides the methods that misbehave.
pub(crate) trait RuntimeOverride: fmt::Debug + Send + Sync + 'static {
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

/// The runtime with its overrides.
#[derive(Debug)]
pub(crate) struct Overridden<W>(pub(crate) W);

impl<W: RuntimeOverride> Runtime for Overridden<W> {
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

impl<R: Runtime, F: Fn(Arc<dyn Runtime>) -> R + Send + Sync> Hooks for Runtimes<F> {
    fn runtime(&self, inner: Arc<dyn Runtime>) -> Option<Arc<dyn Runtime>> {
        Some(Arc::new((self.0)(inner)))
    }
}

struct AsItIs;

impl Hooks for AsItIs {}

/// Changes nothing.
pub(crate) fn as_it_is() -> Arc<dyn Hooks> {
    Arc::new(AsItIs)
}

/// Gives the engine another runtime.
pub(crate) fn runs<R: Runtime>(
    make: impl Fn(Arc<dyn Runtime>) -> R + Send + Sync + 'static,
) -> Arc<dyn Hooks> {
    Arc::new(Runtimes(make))
}
