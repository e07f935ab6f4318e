//! What watching costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tenure::backend::{Backend, BoxFuture, Call, Page, Query};
use tenure::{Locks, Result};

const LISTING: Duration = Duration::from_millis(50);

/// A store with so many locks that a listing takes its time.
#[derive(Debug)]
struct Large {
    inner: Arc<dyn Backend>,
    listings: Arc<AtomicU32>,
}

impl Backend for Large {
    tenure::pass_on!(inner: capabilities, domain, part, attempt, renew, release, transfer, evict, watch, close);

    fn inspect<'a>(&'a self, query: &'a Query, call: Call) -> BoxFuture<'a, Result<Page>> {
        Box::pin(async move {
            self.listings.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(LISTING).await;
            self.inner.inspect(query, call).await
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_lists_for_a_fifth_of_the_time() {
    let listings = Arc::new(AtomicU32::new(0));
    let counted = listings.clone();
    let wrap = |inner| Arc::new(Large { inner, listings: counted }) as Arc<dyn Backend>;
    let locks = Locks::builder("memory:").wrap(wrap).connect().await.expect("opens");
    let mutex = locks.mutex("a").expect("a name");
    let busy = tokio::spawn(async move {
        loop {
            mutex.lock().await.expect("free").release().await.expect("ours");
            tokio::task::yield_now().await;
        }
    });
    let mut watch = locks.watch("").expect("a prefix");
    watch.next().await.expect("looks");
    let (began, before) = (Instant::now(), listings.load(Ordering::SeqCst));
    let looks = tokio::spawn(async move {
        loop {
            watch.next().await.expect("looks");
        }
    });
    while listings.load(Ordering::SeqCst) < before + 8 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The first rest may have been nearly over, and the last listing has only begun.
    assert!(began.elapsed() >= 7 * 4 * LISTING, "{:?}", began.elapsed());
    busy.abort();
    looks.abort();
}
