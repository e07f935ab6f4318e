//! A client that is closed while its tasks hold, wait and give up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tenure::backend::{Backend, BoxFuture, Call, Claim, Leave, Released};
use tenure::{Locks, Result};

/// A store that counts what is released after its end: over a network such a release would find no connection.
#[derive(Debug)]
struct Ended {
    inner: Arc<dyn Backend>,
    closed: AtomicBool,
    late: Arc<AtomicU32>,
}

impl Backend for Ended {
    tenure::pass_on!(inner: capabilities, domain, part, attempt, renew, transfer, evict, inspect, watch);

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, call: Call) -> BoxFuture<'a, Result<Released>> {
        if self.closed.load(Ordering::SeqCst) {
            self.late.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.release(claim, leave, call)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.closed.store(true, Ordering::SeqCst);
        self.inner.close()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s6_a_close_beside_tasks_that_give_up_leaves_nothing_and_says_so() {
    const ROUNDS: u32 = 1000;
    const TASKS: u32 = 16;
    for round in 0..ROUNDS {
        let late = Arc::new(AtomicU32::new(0));
        let counted = late.clone();
        let wrap = move |inner| {
            Arc::new(Ended { inner, closed: AtomicBool::new(false), late: counted }) as Arc<dyn Backend>
        };
        let locks = Locks::builder("memory:").wrap(wrap).connect().await.expect("opens");
        let mut tasks = Vec::new();
        for number in 0..TASKS {
            let mutex = locks.mutex(format!("{}", number % 4)).expect("a name");
            tasks.push(tokio::spawn(async move {
                let mut wait = Box::pin(mutex.lock());
                // Each gives up after a different number of turns. Some never do.
                let mut turns = (round + number) % 24;
                let kept = std::future::poll_fn(|cx| match wait.as_mut().poll(cx) {
                    std::task::Poll::Ready(guard) => std::task::Poll::Ready(guard.ok()),
                    std::task::Poll::Pending if turns == 0 => std::task::Poll::Ready(None),
                    std::task::Poll::Pending => {
                        turns -= 1;
                        cx.waker().wake_by_ref();
                        std::task::Poll::Pending
                    }
                });
                drop(kept.await);
            }));
        }
        for _ in 0..round % 8 {
            tokio::task::yield_now().await;
        }
        locks.close().await.expect("everything is released");
        for task in tasks {
            task.await.expect("no panic");
        }
        assert_eq!(late.load(Ordering::SeqCst), 0, "round {round}: withdrawn after the end");
    }
}
