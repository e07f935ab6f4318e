//! The caller's runtime is blocked, or ends.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tenure::Locks;

use crate::server::Server;
use crate::{multi, single, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("runtimes::connecting_blocks_the_runtime", connecting_blocks_the_runtime),
        trial("runtimes::a_lock_in_a_drop_while_the_runtime_ends", a_lock_in_a_drop_while_the_runtime_ends),
        trial(
            "runtimes::a_lock_in_a_drop_between_those_of_the_client_s_tasks",
            a_lock_in_a_drop_between_those_of_the_client_s_tasks,
        ),
        trial("runtimes::the_runtime_is_blocked", the_runtime_is_blocked),
    ]
}

/// The only thread of a runtime connects without async, locks, and is what waiters of other clients are told by.
fn connecting_blocks_the_runtime() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let locks = runtime.block_on(async {
        let locks = Locks::blocking_connect(&server.url()).expect("connects");
        locks.mutex("x").expect("a name").lock().await.expect("free").release().await.expect("held");
        locks
    });
    drop(runtime);
    // It needs that runtime for nothing.
    locks.mutex("x").expect("a name").blocking_lock().expect("free").blocking_release().expect("held");
}

/// What a task owns locks when it is dropped, and its runtime is shutting down: before and after the client's own tasks.
fn a_lock_in_a_drop_while_the_runtime_ends() {
    struct Last(Locks, std::sync::mpsc::Sender<tenure::Result<()>>);
    impl Drop for Last {
        fn drop(&mut self) {
            let mutex = self.0.mutex("x").expect("a name");
            let outcome = mutex.blocking_lock().and_then(tenure::Guard::blocking_release);
            self.1.send(outcome).expect("somebody listens");
        }
    }
    let server = Server::start();
    for runtime in [single(), multi()] {
        let (tell, told) = std::sync::mpsc::channel();
        runtime.block_on(async {
            // One task is older than those of the client, and one is younger. Both have what they own before the end.
            let (early, locks) = tokio::sync::oneshot::channel();
            let (has, mut owns) = tokio::sync::mpsc::unbounded_channel();
            let (first, first_has) = (tell.clone(), has.clone());
            tokio::spawn(async move {
                let _last = Last(locks.await.expect("connected"), first);
                first_has.send(()).expect("somebody listens");
                std::future::pending::<()>().await;
            });
            let locks = Locks::connect(&server.url()).await.expect("up");
            assert!(early.send(locks.clone()).is_ok());
            let second = tell.clone();
            tokio::spawn(async move {
                let _last = Last(locks, second);
                has.send(()).expect("somebody listens");
                std::future::pending::<()>().await;
            });
            for _ in 0..2 {
                owns.recv().await.expect("it runs");
            }
        });
        drop(runtime);
        drop(tell);
        let outcomes: Vec<_> = told.iter().collect();
        assert_eq!(outcomes.len(), 2);
        for outcome in outcomes {
            outcome.expect("locked");
        }
    }
}

/// A runtime of one thread drops its tasks in the order in which they were made. Whenever the client makes one, a task that
/// locks when it is dropped is made next: so there is one between the driver of the connection and what keeps it up.
fn a_lock_in_a_drop_between_those_of_the_client_s_tasks() {
    struct Last(Arc<OnceLock<Locks>>, std::sync::mpsc::Sender<(Duration, tenure::Result<()>)>);
    impl Drop for Last {
        fn drop(&mut self) {
            let (locks, began) = (self.0.get().expect("connected"), Instant::now());
            let outcome = locks.mutex("x").and_then(|mutex| mutex.blocking_lock()?.blocking_release());
            self.1.send((began.elapsed(), outcome)).expect("somebody listens");
        }
    }
    let server = Server::start();
    let (tell, told) = std::sync::mpsc::channel();
    let runtime = single();
    runtime.block_on(async {
        let connected = Arc::new(OnceLock::new());
        let shared = connected.clone();
        tokio::spawn(async move {
            let metrics = tokio::runtime::Handle::current().metrics();
            let mut seen = metrics.num_alive_tasks();
            loop {
                if metrics.num_alive_tasks() > seen {
                    let last = Last(shared.clone(), tell.clone());
                    tokio::spawn(async move {
                        std::future::pending::<()>().await;
                        drop(last);
                    });
                }
                seen = metrics.num_alive_tasks();
                tokio::task::yield_now().await;
            }
        });
        let locks = Locks::connect(&server.url()).await.expect("up");
        assert!(connected.set(locks).is_ok());
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    });
    drop(runtime);
    let outcomes: Vec<_> = told.iter().collect();
    assert!(!outcomes.is_empty(), "the client makes a driver");
    for (took, outcome) in outcomes {
        outcome.expect("locked");
        // Not by the last resort of a client that hears nothing.
        assert!(took < Duration::from_secs(8), "{took:?}");
    }
}

fn the_runtime_is_blocked() {
    let server = Server::start();
    let url = server.url();
    single().block_on(async {
        let locks = Locks::builder(&url).ttl(Duration::from_secs(3)).connect().await.expect("up");
        let guard = locks.mutex("x").expect("a name").lock().await.expect("free");
        // This thread is the whole runtime, and it is blocked.
        let second = locks.mutex("y").expect("a name").blocking_lock().expect("granted");
        second.blocking_release().expect("ours");
        std::thread::sleep(Duration::from_secs(5));
        guard.check().expect("renewed all the while");
        guard.release().await.expect("ours");
        locks.mutex("x").expect("a name").lock().await.expect("free").release().await.expect("held");
    });
}
