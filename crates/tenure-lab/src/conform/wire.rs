//! A wire between an engine and its store, with faults for single requests. It wraps the backend, so it serves stores
//! without a network too; its faults have the names that they have in the TCP proxy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tenure::backend::{
    Answer, Backend, BoxFuture, Call, Claim, Lease, Leave, Page, Query, Released, Standing,
};
use tenure::{Error, Key, Result, Token};
use tokio::sync::{oneshot, watch};

/// Which verb is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Attempt,
    Renew,
    Release,
    Transfer,
    Evict,
    Inspect,
}

/// A request on the wire.
pub(crate) struct Asked<'a> {
    pub(crate) verb: Verb,
    /// The claims that it is about.
    pub(crate) claims: &'a [Claim],
}

impl Asked<'_> {
    pub(crate) fn is(&self, verb: Verb) -> bool {
        self.verb == verb
    }

    /// Whether it is about a lock of that name.
    pub(crate) fn about(&self, name: &str) -> bool {
        self.claims.iter().any(|c| c.key.name() == name)
    }
}

/// What happens to a request.
pub(crate) enum Fault {
    /// Nothing: it passes.
    Pass,
    /// It never arrives, and nobody answers.
    LoseRequest,
    /// It is applied, and the answer never comes.
    LoseAnswer,
    /// It fails at once and does not arrive.
    Refuse,
    /// It is applied, and the answer is an error.
    Garble,
    /// It stops before the store, and its answer after it; both go on if nobody waits for them any more.
    Hold(Gate, Gate),
    /// It takes a while on the way there, and on the way back.
    Delay(Duration, Duration),
    /// Its answer tells of leases that are a hundred times as long, as a store does whose clock went back.
    Longer,
}

/// The same lease, a hundred times as long.
pub(super) fn longer(lease: Lease) -> Lease {
    match lease {
        Lease::For(d) => Lease::For(d * 100),
        Lease::Unbounded => Lease::Unbounded,
    }
}

/// The answer with its leases made [`longer`].
fn lengthened(answer: Result<Answer>) -> Result<Answer> {
    let mut answer = answer?;
    match &mut answer.standing {
        Standing::Held(grant) => grant.lease = longer(grant.lease),
        Standing::Waiting { place, .. } => *place = place.map(longer),
        Standing::Busy | Standing::Gone { .. } | Standing::Removed => {}
    }
    Ok(answer)
}

impl Fault {
    /// What it makes of an answer.
    fn change(&self) -> fn(Result<Answer>) -> Result<Answer> {
        if matches!(self, Fault::Longer) { lengthened } else { |answer| answer }
    }
}

/// A place where requests stop until it is opened.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Bar>);

#[derive(Debug)]
struct Bar {
    open: Mutex<bool>,
    changed: Condvar,
    arrived: watch::Sender<usize>,
}

impl Gate {
    pub(crate) fn shut() -> Gate {
        Gate(Arc::new(Bar {
            open: Mutex::new(false),
            changed: Condvar::new(),
            arrived: watch::Sender::new(0),
        }))
    }

    pub(crate) fn open() -> Gate {
        let gate = Gate::shut();
        gate.lift();
        gate
    }

    /// Lets everything through from now on.
    pub(crate) fn lift(&self) {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }

    fn pass(&self) {
        self.0.arrived.send_modify(|n| *n += 1);
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            open = self.0.changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Until so many have arrived at it.
    pub(crate) async fn reached(&self, n: usize) {
        let _ = self.0.arrived.subscribe().wait_for(|arrived| *arrived >= n).await;
    }
}

type Rule = Box<dyn Fn(&Asked<'_>) -> Fault + Send + Sync>;

/// The rule of a wire, and what went over it.
pub(crate) struct Wire {
    rule: Rule,
    attempts: AtomicU64,
    renewals: AtomicU64,
    releases: AtomicU64,
    /// Requests that are on their way or at work.
    travelling: Arc<AtomicU64>,
}

impl Wire {
    pub(crate) fn new(rule: impl Fn(&Asked<'_>) -> Fault + Send + Sync + 'static) -> Arc<Wire> {
        Arc::new(Wire {
            rule: Box::new(rule),
            attempts: AtomicU64::new(0),
            renewals: AtomicU64::new(0),
            releases: AtomicU64::new(0),
            travelling: Arc::default(),
        })
    }

    /// A wire that only counts.
    pub(crate) fn counting() -> Arc<Wire> {
        Wire::new(|_| Fault::Pass)
    }

    pub(crate) fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::SeqCst)
    }

    /// Claims renewed, or tried to.
    pub(crate) fn renewals(&self) -> u64 {
        self.renewals.load(Ordering::SeqCst)
    }

    pub(crate) fn releases(&self) -> u64 {
        self.releases.load(Ordering::SeqCst)
    }

    /// Requests behind gates, or delayed.
    pub(crate) fn travelling(&self) -> u64 {
        self.travelling.load(Ordering::SeqCst)
    }
}

/// A store behind a wire.
pub(crate) struct Wired {
    pub(crate) wire: Arc<Wire>,
    pub(crate) inner: Arc<dyn Backend>,
}

impl std::fmt::Debug for Wired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

/// Counts a request as travelling while it is.
struct Travelling(Arc<AtomicU64>);

impl Travelling {
    fn begin(wire: &Wire) -> Travelling {
        wire.travelling.fetch_add(1, Ordering::SeqCst);
        Travelling(wire.travelling.clone())
    }
}

impl Drop for Travelling {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Wired {
    /// Sends a request; `fails` makes its error.
    fn send<'a, T: Send + 'static>(
        &'a self,
        fault: Fault,
        work: BoxFuture<'static, T>,
        fails: impl Fn(Error) -> T + Send + 'a,
    ) -> BoxFuture<'a, T> {
        Box::pin(async move {
            match fault {
                Fault::Pass | Fault::Longer => work.await,
                Fault::LoseRequest => std::future::pending().await,
                Fault::Refuse => fails(Error::unavailable("the lab refuses the request", "it is meant to")),
                Fault::LoseAnswer => {
                    let _ = work.await;
                    std::future::pending().await
                }
                Fault::Garble => {
                    let _ = work.await;
                    fails(Error::uncertain("the lab garbles the answer", "it is meant to"))
                }
                Fault::Hold(before, after) => {
                    self.detached(work, move || before.pass(), move || after.pass()).await
                }
                Fault::Delay(there, back) => {
                    self.detached(work, move || thread::sleep(there), move || thread::sleep(back)).await
                }
            }
        })
    }

    /// A request that goes on when nobody waits for it any more, as one on a network does.
    async fn detached<T: Send + 'static>(
        &self,
        work: BoxFuture<'static, T>,
        before: impl FnOnce() + Send + 'static,
        after: impl FnOnce() + Send + 'static,
    ) -> T {
        let (tell, told) = oneshot::channel();
        let travelling = Travelling::begin(&self.wire);
        thread::spawn(move || {
            before();
            let out = pollster::block_on(work);
            after();
            let _ = tell.send(out);
            drop(travelling);
        });
        match told.await {
            Ok(out) => out,
            Err(_) => std::future::pending().await,
        }
    }

    fn fault(&self, verb: Verb, claims: &[Claim]) -> Fault {
        let (counter, n) = match verb {
            Verb::Attempt => (&self.wire.attempts, claims.len() as u64),
            Verb::Renew => (&self.wire.renewals, claims.len() as u64),
            Verb::Release => (&self.wire.releases, 1),
            Verb::Transfer | Verb::Evict | Verb::Inspect => return (self.wire.rule)(&Asked { verb, claims }),
        };
        counter.fetch_add(n, Ordering::SeqCst);
        (self.wire.rule)(&Asked { verb, claims })
    }
}

impl Backend for Wired {
    tenure::pass_on!(inner: capabilities, domain, part, watch, close);

    fn attempt<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        let fault = self.fault(Verb::Attempt, claims);
        let (inner, own, change) = (self.inner.clone(), claims.to_vec(), fault.change());
        let work = async move { inner.attempt(&own, call).await.into_iter().map(change).collect() };
        self.send(fault, Box::pin(work), for_each(claims.len()))
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        let fault = self.fault(Verb::Renew, claims);
        let (inner, own, change) = (self.inner.clone(), claims.to_vec(), fault.change());
        let work = async move { inner.renew(&own, call).await.into_iter().map(change).collect() };
        self.send(fault, Box::pin(work), for_each(claims.len()))
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, call: Call) -> BoxFuture<'a, Result<Released>> {
        let fault = self.fault(Verb::Release, std::slice::from_ref(claim));
        let (inner, claim) = (self.inner.clone(), claim.clone());
        self.send(fault, Box::pin(async move { inner.release(&claim, leave, call).await }), Err)
    }

    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim, call: Call) -> BoxFuture<'a, Result<Answer>> {
        let fault = self.fault(Verb::Transfer, &[from.clone(), to.clone()]);
        let (inner, from, to) = (self.inner.clone(), from.clone(), to.clone());
        let change = fault.change();
        self.send(fault, Box::pin(async move { change(inner.transfer(&from, &to, call).await) }), Err)
    }

    fn evict<'a>(
        &'a self,
        key: &'a Key,
        token: Option<Token>,
        why: &'a str,
        call: Call,
    ) -> BoxFuture<'a, Result<Released>> {
        let fault = self.fault(Verb::Evict, &[]);
        let (inner, key, why) = (self.inner.clone(), key.clone(), why.to_owned());
        self.send(fault, Box::pin(async move { inner.evict(&key, token, &why, call).await }), Err)
    }

    fn inspect<'a>(&'a self, query: &'a Query, call: Call) -> BoxFuture<'a, Result<Page>> {
        let fault = self.fault(Verb::Inspect, &[]);
        let (inner, query) = (self.inner.clone(), query.clone());
        self.send(fault, Box::pin(async move { inner.inspect(&query, call).await }), Err)
    }
}

/// The same error as the answer to each of `n` claims.
fn for_each(n: usize) -> impl Fn(Error) -> Vec<Result<Answer>> {
    move |error| (0..n).map(|_| Err(Error::unavailable(error.what(), error.advice()))).collect()
}

/// A store that is lent to several clients: none of them may end it for the others.
#[derive(Debug)]
pub(crate) struct Lent(pub(crate) Arc<dyn Backend>);

impl Backend for Lent {
    tenure::pass_on!(0: capabilities, domain, part, attempt, renew, release, transfer, evict, inspect);

    fn watch(&self, what: &tenure::backend::Watched) {
        // Once somebody watches, all are told of everything: nobody is harmed by news of a change.
        if *what != tenure::backend::Watched::Nothing {
            self.0.watch(&tenure::backend::Watched::Everything);
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
