//! Sinks: a probe that records grants and can be muted, and one that passes news on to many.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tenure::backend::{ClaimId, Grant, News, Sink};

use super::wire::longer;

/// Stands before an engine's sink, or alone.
#[derive(Default)]
pub(crate) struct SinkProbe {
    to: OnceLock<Arc<dyn Sink>>,
    stopped: AtomicBool,
    longer: AtomicBool,
    grants: AtomicU64,
    heard: Mutex<Vec<(ClaimId, Grant)>>,
}

impl SinkProbe {
    /// Returns one that passes news on, until it is muted.
    pub(crate) fn new() -> Arc<SinkProbe> {
        Arc::default()
    }

    /// Returns one that only records: for a store without an engine.
    pub(crate) fn alone() -> Arc<SinkProbe> {
        Arc::default()
    }

    /// Puts it before a sink.
    pub(crate) fn to(self: Arc<SinkProbe>, sink: Arc<dyn Sink>) -> Arc<dyn Sink> {
        self.to.get_or_init(|| sink);
        self
    }

    /// From now on nothing is passed on.
    pub(crate) fn mute(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// From now on grants are passed on with leases that are much longer than the store's.
    pub(crate) fn lengthen(&self) {
        self.longer.store(true, Ordering::SeqCst);
    }

    /// How many grants were pushed.
    pub(crate) fn grants(&self) -> u64 {
        self.grants.load(Ordering::SeqCst)
    }

    /// The grants that were pushed to a claim.
    pub(crate) fn granted(&self, id: ClaimId) -> Vec<Grant> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().filter(|(to, _)| *to == id).map(|(_, grant)| *grant).collect()
    }
}

impl Sink for SinkProbe {
    fn news(&self, mut news: News) {
        if let News::Granted(id, grant, _) = &mut news {
            if self.longer.load(Ordering::SeqCst) {
                grant.lease = longer(grant.lease);
            }
            self.grants.fetch_add(1, Ordering::SeqCst);
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).push((*id, *grant));
        }
        if let (Some(to), false) = (self.to.get(), self.stopped.load(Ordering::SeqCst)) {
            to.news(news);
        }
    }
}

/// Tells everybody. An engine does not mind news of claims that it does not know.
#[derive(Default)]
pub(crate) struct Broadcast(Mutex<Vec<Arc<dyn Sink>>>);

impl Broadcast {
    pub(crate) fn add(&self, sink: Arc<dyn Sink>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sink);
    }
}

impl Sink for Broadcast {
    fn news(&self, news: News) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for sink in all {
            sink.news(news.clone());
        }
    }
}
