//! The public API on `memory:`, as a user calls it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tenure::{ErrorKind, LockOptions, Locks, LostReason, Needs, Owner, TokenStrength};

const LONG: Duration = Duration::from_secs(20);

#[test]
fn blocking_calls_need_no_runtime() {
    let locks = Locks::memory();
    let mutex = locks.mutex("a").expect("name");
    let first = mutex.blocking_lock().expect("locks");
    assert!(mutex.blocking_try_lock().expect("asks").is_none(), "busy");
    assert!(mutex.blocking_try_lock_for(Duration::from_millis(30)).expect("asks").is_none(), "still busy");
    let token = first.token();
    first.blocking_release().expect("was ours");
    let second = mutex.blocking_try_lock().expect("asks").expect("free");
    assert!(second.token() > token);
    assert!(second.check().expect("held") > Duration::from_secs(20));
}

#[tokio::test]
async fn waiters_are_granted_in_order() {
    let locks = Locks::memory();
    let mutex = locks.mutex("a").expect("name");
    let held = mutex.lock().await.expect("locks");
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for n in 0..20u32 {
        let (mutex, order) = (mutex.clone(), order.clone());
        tasks.push(tokio::spawn(async move {
            let guard = mutex.lock().await.expect("locks");
            order.lock().expect("no panic").push(n);
            guard.release().await.expect("was ours");
        }));
        // The next one asks only after this one stands in line.
        while locks.inspect("a").await.expect("looks").map_or(0, |l| l.waiters) <= u64::from(n) {
            tokio::task::yield_now().await;
        }
    }
    held.release().await.expect("was ours");
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(*order.lock().expect("no panic"), (0..20).collect::<Vec<_>>());
    assert_eq!(locks.inspect("a").await.expect("looks"), None, "nothing is left");
    assert_eq!(locks.live(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exclusion_among_tasks() {
    let locks = Locks::memory();
    let mutex = locks.mutex("hot").expect("name");
    let inside = Arc::new(AtomicU32::new(0));
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let (mutex, inside) = (mutex.clone(), inside.clone());
        tasks.push(tokio::spawn(async move {
            for _ in 0..100 {
                let guard = mutex.lock().await.expect("locks");
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(guard);
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    assert!(mutex.try_lock().await.expect("asks").is_some());
}

#[tokio::test]
async fn a_dropped_waiter_leaves_nothing() {
    let locks = Locks::memory();
    let mutex = locks.mutex("a").expect("name");
    let held = mutex.lock().await.expect("locks");
    for wait in [1, 5, 20] {
        let cut = tokio::time::timeout(Duration::from_millis(wait), mutex.lock()).await;
        assert!(cut.is_err());
    }
    let line = locks.inspect("a").await.expect("looks").expect("held");
    assert_eq!((line.holders.len(), line.waiters), (1, 0));
    drop(held);
    assert_eq!(locks.inspect("a").await.expect("looks"), None);
}

#[tokio::test]
async fn eviction_is_told_with_its_reason() {
    let locks = Locks::memory();
    let mutex = locks.mutex("a").expect("name");
    let guard = mutex.lock().await.expect("locks");
    let next = {
        let mutex = mutex.clone();
        tokio::spawn(async move { mutex.lock().await })
    };
    locks.evict("a", Some(guard.token()), "stuck since noon").await.expect("evicts");
    let lost = tokio::time::timeout(LONG, guard.lost()).await.expect("told");
    assert!(matches!(lost.why(), LostReason::Evicted(why) if why.contains("stuck since noon")), "{lost}");
    assert!(guard.check().is_err());
    let next = next.await.expect("no panic").expect("locks");
    assert!(next.token() > guard.token());
    let error = guard.release().await.expect_err("no longer ours");
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(next.check().is_ok(), "a stale release harms nobody");
}

#[tokio::test]
async fn work_stops_when_the_lock_is_lost() {
    let locks = Locks::memory();
    let guard = locks.mutex("a").expect("name").lock().await.expect("locks");
    let done = guard.while_held(async { 7 }).await.expect("held");
    assert_eq!(done, 7);
    let work = guard.while_held(std::future::pending::<()>());
    let evict = locks.evict("a", None, "");
    let (worked, evicted) = tokio::join!(work, evict);
    evicted.expect("evicts");
    worked.expect_err("lost");
}

#[tokio::test]
async fn a_lease_is_renewed_for_as_long_as_the_guard_lives() {
    let locks = Locks::builder("memory:").ttl(Duration::from_millis(200)).connect().await.expect("opens");
    let mutex = locks.mutex("a").expect("name");
    let guard = mutex.lock().await.expect("locks");
    assert!(mutex.try_lock_for(Duration::from_secs(1)).await.expect("asks").is_none(), "five leases long");
    assert!(guard.check().is_ok());
}

#[test]
fn renewals_and_the_signal_need_no_runtime() {
    let locks = Locks::builder("memory:").ttl(Duration::from_millis(200)).blocking_connect().expect("opens");
    let guard = locks.mutex("a").expect("name").blocking_lock().expect("locks");
    assert!(guard.blocking_lost_for(Duration::from_secs(1)).is_none(), "renewed");
    locks.blocking_evict("a", None, "").expect("evicts");
    assert!(guard.blocking_lost_for(LONG).is_some());
}

#[tokio::test]
async fn release_after_keeps_the_lock_for_a_while() {
    let locks = Locks::memory();
    let mutex = locks.mutex("a").expect("name");
    mutex.lock().await.expect("locks").release_after(Duration::from_millis(300)).await.expect("was ours");
    assert!(mutex.try_lock().await.expect("asks").is_none(), "kept");
    let guard = mutex.try_lock_for(LONG).await.expect("asks").expect("free again");
    drop(guard);
}

#[tokio::test]
async fn who_and_why_are_shown() {
    let locks = Locks::memory();
    let owner = Owner { user: "app".into(), host: "web-1".into(), pid: 4711, program: "charge".into() };
    let options = LockOptions::new().reason("order 42").owner(owner.clone());
    let mutex = locks.mutex("orders/42").expect("name").with(options).expect("options");
    let guard = mutex.lock().await.expect("locks");
    let line = locks.inspect("orders/42").await.expect("looks").expect("held");
    let holder = &line.holders[0];
    assert_eq!(
        (&holder.owner, holder.reason.as_str(), holder.token),
        (&owner, "order 42", Some(guard.token()))
    );
    assert_eq!(locks.list("orders").await.expect("looks").len(), 1);
    assert_eq!(locks.list("orders/").await.expect("looks").len(), 1);
    assert_eq!(locks.list("ord").await.expect("looks").len(), 0, "whole levels only");
    let other = Owner { pid: 1, ..owner };
    guard.describe(other.clone()).expect("short");
    while locks.inspect("orders/42").await.expect("looks").expect("held").holders[0].owner != other {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn watching_tells_changes() {
    let locks = Locks::memory();
    let mut watch = locks.watch("").expect("prefix");
    assert!(watch.next().await.expect("looks").is_empty());
    let guard = locks.mutex("a").expect("name").lock().await.expect("locks");
    let lines = tokio::time::timeout(LONG, watch.next()).await.expect("told").expect("looks");
    assert_eq!(lines.len(), 1);
    guard.release().await.expect("was ours");
    assert!(tokio::time::timeout(LONG, watch.next()).await.expect("told").expect("looks").is_empty());
}

#[tokio::test]
async fn close_ends_everything() {
    let locks = Locks::memory();
    let other = locks.clone();
    let mutex = locks.mutex("a").expect("name");
    let guard = mutex.lock().await.expect("locks");
    locks.close().await.expect("closes");
    assert_eq!(guard.check().expect_err("lost").why(), &LostReason::Closed);
    assert_eq!(mutex.lock().await.expect_err("closed").kind(), ErrorKind::Config);
    assert!(other.inspect("a").await.is_err());
}

#[test]
fn bad_input_is_told_clearly() {
    let refused = |url: &str| Locks::blocking_connect(url).expect_err(url);
    let error = refused("hots:");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("did you mean host"), "{error}");
    assert!(refused("memory://x").to_string().contains("memory"));
    assert!(refused("memory:?a=b").to_string().contains('a'));
    let locks = Locks::memory();
    for name in ["", "/", "a//b", "a/", "/a", "a/../b", " a", "a ", "a\0b", "a\nb", "\u{202e}a", "e\u{301}"] {
        assert_eq!(locks.mutex(name).expect_err(name).kind(), ErrorKind::Config, "{name:?}");
    }
    let ttl = LockOptions::new().ttl(Duration::from_millis(1));
    assert!(locks.mutex("a").expect("name").with(ttl).expect_err("too short").to_string().contains("100 ms"));
    let reason = LockOptions::new().reason(&"x".repeat(257));
    assert!(locks.mutex("a").expect("name").with(reason).is_err());
    let weak = locks.require(Needs::new().token(TokenStrength::Consensus)).expect_err("memory is weaker");
    assert_eq!(weak.kind(), ErrorKind::Unsupported);
}

#[test]
fn each_memory_is_a_domain_of_its_own() {
    let (one, other) = (Locks::memory(), Locks::memory());
    let name = one.blocking_domain().expect("named");
    assert_eq!(one.clone().blocking_domain().expect("named"), name);
    assert_ne!(other.blocking_domain().expect("named"), name);
    assert!(name.as_str().starts_with("memory:"), "{name}");
}
