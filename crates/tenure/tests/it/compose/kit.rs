//! Stores that lose answers, and clocks that are wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tenure::backend::{Answer, Backend, BoxFuture, Call, Claim, Leave};
use tenure::core::moment::Moment;
use tenure::runtime::Runtime;
use tenure::runtime::thread::ThreadRuntime;
use tenure::{Error, Locks, Released, Result};

/// How many answers of each verb are lost, after the store has done what was asked.
#[derive(Debug, Default)]
pub(super) struct Losses {
    pub(super) attempts: AtomicU32,
    pub(super) renewals: AtomicU32,
    pub(super) releases: AtomicU32,
    pub(super) transfers: AtomicU32,
    /// Whoever asks waits for ever, instead of being told that nobody answers.
    pub(super) silently: AtomicBool,
}

impl Losses {
    async fn lose(&self, count: &AtomicU32) -> Result<()> {
        let lost = count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if lost && self.silently.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if lost { Err(Error::uncertain("the answer is lost", "")) } else { Ok(()) }
    }
}

/// A store between which and its client answers get lost.
#[derive(Debug)]
struct Forgetful {
    inner: Arc<dyn Backend>,
    losses: Arc<Losses>,
}

impl Backend for Forgetful {
    tenure::pass_on!(inner: capabilities, domain, part, evict, inspect, watch, close);

    fn attempt<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(async move {
            let answers = self.inner.attempt(claims, call).await;
            match self.losses.lose(&self.losses.attempts).await {
                Ok(()) => answers,
                Err(_) => answers.iter().map(|_| Err(Error::uncertain("the answer is lost", ""))).collect(),
            }
        })
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(async move {
            let answers = self.inner.renew(claims, call).await;
            match self.losses.lose(&self.losses.renewals).await {
                Ok(()) => answers,
                Err(_) => answers.iter().map(|_| Err(Error::uncertain("the answer is lost", ""))).collect(),
            }
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, call: Call) -> BoxFuture<'a, Result<Released>> {
        Box::pin(async move {
            let answer = self.inner.release(claim, leave, call).await;
            self.losses.lose(&self.losses.releases).await?;
            answer
        })
    }

    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim, call: Call) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(async move {
            let answer = self.inner.transfer(from, to, call).await;
            self.losses.lose(&self.losses.transfers).await?;
            answer
        })
    }
}

/// The lease of a client that loses answers.
pub(super) const LEASE: Duration = Duration::from_secs(3);

/// A client that loses answers.
pub(super) async fn forgetful(url: &str, losses: &Arc<Losses>) -> Locks {
    let losses = losses.clone();
    let wrap = |inner| -> Arc<dyn Backend> { Arc::new(Forgetful { inner, losses }) };
    Locks::builder(url).ttl(LEASE).wrap(wrap).connect().await.expect("opens")
}

/// A machine whose wall clock is wrong by so many seconds.
#[derive(Debug)]
struct Skewed {
    real: ThreadRuntime,
    seconds: i64,
}

impl Runtime for Skewed {
    fn now(&self) -> Moment {
        self.real.now()
    }

    fn wall_us(&self) -> u64 {
        self.real.wall_us().saturating_add_signed(self.seconds * 1_000_000)
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.real.fill(bytes);
    }

    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        self.real.sleep_until(at)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.real.spawn(task);
    }
}

/// A client on a machine whose wall clock is wrong.
pub(super) async fn skewed(url: &str, seconds: i64) -> Locks {
    let runtime = Arc::new(Skewed { real: ThreadRuntime::new(), seconds });
    Locks::builder(url).runtime(runtime).connect().await.expect("opens")
}
