//! Many locks at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tenure::{ErrorKind, Locks, NAMES_MAX};

use super::{Dir, LONG, nothing_left, stores};

#[test]
fn bad_names_are_refused_and_the_limit_is_named() {
    let locks = Locks::memory();
    let refused = |names: &[&str]| {
        let error = locks.multi(names).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    assert!(refused(&[]).contains("at least one"));
    assert!(refused(&["b", "a", "b"]).contains("lock b: the name is given twice"));
    refused(&["a", "a//b"]);
    let many: Vec<String> = (0..10_000).map(|n| format!("n/{n}")).collect();
    let error = locks.multi(&many).expect_err("too many");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("1000"), "{error}");
    let most = locks.multi(&many[..NAMES_MAX]).expect("as many as there may be");
    let guard = most.blocking_lock().expect("free");
    assert_eq!(guard.tokens().count(), NAMES_MAX);
    guard.blocking_release().expect("ours");
    assert!(locks.blocking_list("").expect("looks").is_empty());
}

#[tokio::test]
async fn all_are_held_with_a_token_each_and_given_back_together() {
    for store in stores() {
        let locks = store.connect().await;
        let multi = locks.multi(["b", "c", "a"]).expect("names");
        let names: Vec<_> = multi.keys().map(|k| k.name().to_owned()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let guard = multi.lock().await.expect("free");
        for (name, (key, token)) in names.iter().zip(guard.tokens()) {
            assert_eq!((key.name(), guard.token(name)), (name.as_str(), Some(token)));
            let line = locks.inspect(name).await.expect("looks").expect("held");
            assert_eq!(line.token, Some(token));
            assert!(locks.mutex(name).expect("name").try_lock().await.expect("asks").is_none());
        }
        assert_eq!(guard.token("d"), None);
        assert!(guard.check().expect("held") > Duration::from_secs(20));
        let before = guard.token("a");
        guard.release().await.expect("ours");
        nothing_left(&locks).await;
        let again = multi.try_lock().await.expect("asks").expect("free");
        assert!(again.token("a") > before);
        drop(again);
        nothing_left(&locks).await;
    }
}

#[tokio::test]
async fn try_is_all_or_nothing() {
    for store in stores() {
        let locks = store.connect().await;
        let other = locks.mutex("b").expect("name").lock().await.expect("free");
        let multi = locks.multi(["a", "b", "c"]).expect("names");
        assert!(multi.try_lock().await.expect("asks").is_none());
        // Given back before the answer: nobody finds a remainder.
        for name in ["a", "c"] {
            assert_eq!(locks.inspect(name).await.expect("looks"), None, "{name}");
        }
        assert!(multi.try_lock_for(Duration::from_millis(50)).await.expect("asks").is_none());
        for name in ["a", "c"] {
            assert_eq!(locks.inspect(name).await.expect("looks"), None, "{name}");
        }
        assert_eq!(locks.inspect("b").await.expect("looks").expect("held").waiters, 0);
        other.release().await.expect("ours");
        assert!(multi.blocking_try_lock().expect("asks").is_some());
    }
}

/// While it waits it holds only what comes before, and stands in one line.
#[tokio::test]
async fn it_waits_in_order_and_keeps_only_what_comes_before() {
    for store in stores() {
        let locks = store.connect().await;
        let (b, c) = (locks.mutex("b").expect("name"), locks.mutex("c").expect("name"));
        let (b, c) = (b.lock().await.expect("free"), c.lock().await.expect("free"));
        let multi = locks.multi(["d", "c", "b", "a"]).expect("names");
        let waiting = tokio::spawn(async move { multi.lock().await });
        let waits = async |name| locks.inspect(name).await.expect("looks").map_or(0, |l| l.waiters);
        while waits("b").await == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(locks.inspect("a").await.expect("looks").expect("kept").holders.len(), 1);
        assert_eq!((waits("c").await, locks.inspect("d").await.expect("looks")), (0, None));
        b.release().await.expect("ours");
        while waits("c").await == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        c.release().await.expect("ours");
        let guard = tokio::time::timeout(LONG, waiting).await.expect("granted").expect("no panic");
        assert_eq!(guard.expect("granted").tokens().count(), 4);
        nothing_left(&locks).await;
    }
}

#[tokio::test]
async fn cancelled_it_is_withdrawn_whole() {
    for store in stores() {
        let locks = store.connect().await;
        let held = locks.mutex("c").expect("name").lock().await.expect("free");
        let multi = locks.multi(["a", "b", "c", "d"]).expect("names");
        for wait in [0, 1, 5, 20] {
            let cut = tokio::time::timeout(Duration::from_millis(wait), multi.lock()).await;
            assert!(cut.is_err());
        }
        held.release().await.expect("ours");
        nothing_left(&locks).await;
    }
}

/// Sixteen tasks take overlapping sets, named in different orders: nobody waits in a circle, and each lock has one holder.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn overlapping_sets_exclude_each_other_and_never_deadlock() {
    for store in stores() {
        let locks = store.connect().await;
        let inside: Arc<[AtomicU32; 5]> = Arc::default();
        let mut tasks = Vec::new();
        for t in 0..16_usize {
            let (locks, inside) = (locks.clone(), inside.clone());
            tasks.push(tokio::spawn(async move {
                for round in 0..20 {
                    let mut set =
                        [(t + round) % 5, (t * 3 + round * 2 + 1) % 5, (t + 4 * round) % 5].to_vec();
                    set.sort_unstable_by_key(|n| (n * 7 + t) % 5);
                    set.dedup();
                    let names: std::collections::BTreeSet<_> = set.iter().copied().collect();
                    let multi = locks.multi(names.iter().rev().map(|n| format!("s/{n}"))).expect("names");
                    let guard = multi.lock().await.expect("granted");
                    for n in &names {
                        assert_eq!(inside[*n].fetch_add(1, Ordering::SeqCst), 0);
                    }
                    tokio::task::yield_now().await;
                    for n in &names {
                        inside[*n].fetch_sub(1, Ordering::SeqCst);
                    }
                    guard.release().await.expect("ours");
                }
            }));
        }
        for task in tasks {
            task.await.expect("no panic");
        }
        nothing_left(&locks).await;
    }
}

#[tokio::test]
async fn losing_one_is_losing_all() {
    for store in stores() {
        let locks = store.connect().await;
        let guard = locks.multi(["a", "b", "c"]).expect("names").lock().await.expect("free");
        assert_eq!(guard.while_held(async { 7 }).await.expect("held"), 7);
        locks.evict("b", None, "stuck").await.expect("evicts");
        let lost = tokio::time::timeout(LONG, guard.lost()).await.expect("told");
        assert_eq!(lost.key().name(), "b");
        assert_eq!(guard.check().expect_err("lost").key().name(), "b");
        assert!(guard.remaining().is_zero());
        guard.while_held(std::future::pending::<()>()).await.expect_err("lost");
        locks.evict("c", None, "too").await.expect("evicts");
        let error = guard.release().await.expect_err("not all were ours");
        assert_eq!((error.kind(), error.key().map(tenure::Key::name)), (ErrorKind::Lost, Some("b")));
        nothing_left(&locks).await;
    }
}

#[test]
fn blocking_calls_need_no_runtime() {
    let dir = Dir::new();
    let locks = Locks::blocking_connect(&dir.url()).expect("opens");
    let multi = locks.multi(["a", "b"]).expect("names");
    let guard = multi.blocking_lock().expect("free");
    assert!(multi.blocking_try_lock_for(Duration::from_millis(10)).expect("asks").is_none());
    assert!(guard.blocking_lost_for(Duration::from_millis(10)).is_none());
    guard.blocking_release_after(Duration::from_secs(60)).expect("ours");
    assert!(multi.blocking_try_lock().expect("asks").is_none(), "kept");
    assert_eq!(locks.blocking_list("").expect("looks").len(), 2);
}
