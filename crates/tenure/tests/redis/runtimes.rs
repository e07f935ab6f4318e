//! The caller's runtime is blocked, or ends.

use std::time::Duration;

use libtest_mimic::Trial;
use tenure::Locks;

use crate::server::Server;
use crate::{multi, single, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("runtimes::connecting_blocks_the_runtime", connecting_blocks_the_runtime),
        trial("runtimes::a_lock_in_a_drop_while_the_runtime_ends", a_lock_in_a_drop_while_the_runtime_ends),
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
            // One task is older than those of the client, and one is younger.
            let (early, locks) = tokio::sync::oneshot::channel();
            let first = tell.clone();
            tokio::spawn(async move {
                let _last = Last(locks.await.expect("connected"), first);
                std::future::pending::<()>().await;
            });
            let locks = Locks::connect(&server.url()).await.expect("up");
            assert!(early.send(locks.clone()).is_ok());
            let second = tell.clone();
            tokio::spawn(async move {
                let _last = Last(locks, second);
                std::future::pending::<()>().await;
            });
            tokio::time::sleep(Duration::from_millis(100)).await;
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

fn the_runtime_is_blocked() {
    let server = Server::start();
    let url = server.url();
    single().block_on(async {
        let locks = Locks::builder(&url).ttl(Duration::from_secs(1)).connect().await.expect("up");
        let guard = locks.mutex("x").expect("a name").lock().await.expect("free");
        // This thread is the whole runtime, and it is blocked.
        let second = locks.mutex("y").expect("a name").blocking_lock().expect("granted");
        second.blocking_release().expect("ours");
        std::thread::sleep(Duration::from_secs(3));
        guard.check().expect("renewed all the while");
        guard.release().await.expect("ours");
        locks.mutex("x").expect("a name").lock().await.expect("free").release().await.expect("held");
    });
}
