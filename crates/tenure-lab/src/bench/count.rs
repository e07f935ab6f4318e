//! A backend that counts the claims it renews.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tenure::Result;
use tenure::backend::{Answer, Backend, BoxFuture, Call, Claim};

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
    tenure::pass_on!(inner: capabilities, domain, part, attempt, release, transfer, evict, inspect, watch, close);

    fn renew<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        self.renewals.0.fetch_add(claims.len() as u64, Ordering::Relaxed);
        self.inner.renew(claims, call)
    }
}
