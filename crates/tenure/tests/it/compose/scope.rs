//! Waiting for oneself is an error, not a hang.

use std::time::Duration;

use tenure::{ErrorKind, Locks, blocking_scope, scope};

use super::{LONG, stores};

fn refused<T: std::fmt::Debug>(result: tenure::Result<T>) {
    let error = result.expect_err("would wait for itself");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("would wait for itself"), "{error}");
}

#[tokio::test]
async fn a_task_does_not_wait_for_itself() {
    for store in stores() {
        let locks = store.connect().await;
        let (mutex, other) = (locks.mutex("a").expect("name"), locks.mutex("b").expect("name"));
        scope(async {
            let guard = mutex.lock().await.expect("free");
            refused(mutex.lock().await);
            refused(mutex.try_lock_for(LONG).await);
            refused(locks.clone().mutex("a").expect("name").lock().await);
            refused(locks.multi(["a", "b"]).expect("names").lock().await);
            assert!(other.try_lock().await.expect("asks").is_some(), "nothing is kept");
            assert!(mutex.try_lock().await.expect("asks").is_none(), "busy is no error");
            // A scope within another one: the outer one waits for it.
            scope(async { refused(mutex.lock().await) }).await;
            blocking_scope(|| refused(mutex.blocking_lock()));
            refused(mutex.lock().await);
            guard.release().await.expect("ours");
            drop(mutex.lock().await.expect("free again"));
        })
        .await;
        drop(mutex.lock().await.expect("free"));
    }
}

#[tokio::test]
async fn who_will_be_given_the_lock_may_wait_for_it() {
    let locks = Locks::memory();
    let mutex = locks.mutex("a").expect("name");
    // Another task, outside of the scope.
    scope(async {
        let guard = mutex.lock().await.expect("free");
        let waits = tokio::spawn({
            let mutex = mutex.clone();
            async move { mutex.lock().await }
        });
        guard.release().await.expect("ours");
        drop(waits.await.expect("no panic").expect("granted"));
    })
    .await;
    // Branches with a scope each.
    let branch = || {
        scope(async {
            let guard = mutex.lock().await.expect("granted");
            tokio::task::yield_now().await;
            guard.release().await.expect("ours");
        })
    };
    tokio::join!(branch(), branch(), branch());
    // Another client, and a hold that is lost.
    scope(async {
        let guard = mutex.lock().await.expect("free");
        drop(Locks::memory().mutex("a").expect("name").lock().await.expect("free"));
        locks.evict("a", None, "").await.expect("evicts");
        guard.lost().await;
        drop(mutex.lock().await.expect("no longer ours"));
    })
    .await;
    // An owner re-enters, what another way of taking it may not.
    scope(async {
        let me = locks.owner();
        let outer = mutex.lock_as(&me).await.expect("free");
        drop(mutex.lock_as(&me).await.expect("ours"));
        refused(mutex.lock_as(&locks.owner()).await);
        drop(outer);
    })
    .await;
}

#[test]
fn a_thread_does_not_wait_for_itself() {
    let locks = Locks::memory();
    let mutex = locks.mutex("a").expect("name");
    let guard = blocking_scope(|| {
        let guard = mutex.blocking_lock().expect("free");
        refused(mutex.blocking_lock());
        refused(mutex.blocking_try_lock_for(LONG));
        guard
    });
    // After the scope nothing is refused, and the wait is a wait.
    assert!(mutex.blocking_try_lock_for(Duration::from_millis(10)).expect("asks").is_none());
    blocking_scope(|| {
        assert!(mutex.blocking_try_lock_for(Duration::from_millis(10)).expect("asks").is_none());
    });
    drop(guard);
    let unwound = std::panic::catch_unwind(|| blocking_scope(|| panic!("on purpose")));
    assert!(unwound.is_err());
    let _guard = mutex.blocking_lock().expect("free");
    assert!(mutex.blocking_try_lock_for(Duration::from_millis(10)).expect("no scope any more").is_none());
}

/// A scope that takes very many locks one after the other remembers those that it holds.
#[test]
fn a_scope_forgets_what_it_gave_back() {
    let locks = Locks::memory();
    blocking_scope(|| {
        let kept = locks.mutex("kept").expect("name").blocking_lock().expect("free");
        for n in 0..1000 {
            drop(locks.mutex(format!("n/{n}")).expect("name").blocking_lock().expect("free"));
        }
        refused(locks.mutex("kept").expect("name").blocking_lock());
        drop(locks.mutex("n/5").expect("name").blocking_lock().expect("free"));
        drop(kept);
    });
}
