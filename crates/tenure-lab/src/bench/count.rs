//! A backend that counts the claims it renews.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tenure::backend::{Answer, Backend, BoxFuture, Claim, Leave, Page, Query};
use tenure::{Capabilities, Domain, Key, Released, Result, Token};

/// How many claims were renewed.
#[derive(Debug, Default)]
pub(super) struct Renewals(AtomicU64);

impl Renewals {
    /// The count so far.
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Puts the counter around a backend.
    pub(super) fn around(self: Arc<Self>, inner: Arc<dyn Backend>) -> Arc<dyn Backend> {
        Arc::new(Counting { inner, renewals: self })
    }
}

#[derive(Debug)]
struct Counting {
    inner: Arc<dyn Backend>,
    renewals: Arc<Renewals>,
}

impl Backend for Counting {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn domain(&self) -> BoxFuture<'_, Result<Domain>> {
        self.inner.domain()
    }

    fn attempt<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Answer>> {
        self.inner.attempt(claim)
    }

    fn renew<'a>(&'a self, claims: &'a [Claim]) -> BoxFuture<'a, Vec<Result<Answer>>> {
        self.renewals.0.fetch_add(claims.len() as u64, Ordering::Relaxed);
        self.inner.renew(claims)
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave) -> BoxFuture<'a, Result<Released>> {
        self.inner.release(claim, leave)
    }

    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim) -> BoxFuture<'a, Result<Answer>> {
        self.inner.transfer(from, to)
    }

    fn evict<'a>(
        &'a self,
        key: &'a Key,
        token: Option<Token>,
        why: &'a str,
    ) -> BoxFuture<'a, Result<Released>> {
        self.inner.evict(key, token, why)
    }

    fn inspect<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page>> {
        self.inner.inspect(query)
    }

    fn watch(&self, on: bool) {
        self.inner.watch(on);
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}
