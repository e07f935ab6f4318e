//! Owners that may re-enter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tenure::{ErrorKind, Locks, LostReason, Owner};

use super::{LONG, nothing_left, soon, stores};

#[tokio::test]
async fn an_owner_re_enters_with_the_same_token_and_the_last_level_gives_back() {
    for store in stores() {
        let locks = store.connect().await;
        let (me, mutex) = (locks.owner(), locks.mutex("a").expect("name"));
        // Any order of their ends.
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let first = mutex.lock_as(&me).await.expect("free");
            let token = first.token();
            let second = mutex.try_lock_as(&me.clone()).await.expect("asks").expect("ours");
            let third = mutex.try_lock_for_as(&me, LONG).await.expect("asks").expect("ours");
            assert_eq!((second.token(), third.token(), third.levels()), (token, token, 3));
            assert!(third.check().expect("held") > Duration::ZERO);
            let mut levels = [Some(first), Some(second), Some(third)];
            for (n, i) in order.into_iter().enumerate() {
                assert!(mutex.try_lock().await.expect("asks").is_none(), "still held");
                let level = levels[i].take().expect("once");
                if n == 1 { drop(level) } else { level.release().await.expect("ours") }
            }
            assert!(mutex.try_lock_as(&me).await.expect("asks").expect("free again").token() > token);
            nothing_left(&locks).await;
        }
    }
}

#[tokio::test]
async fn owners_exclude_each_other_and_everybody_else() {
    for store in stores() {
        let locks = store.connect().await;
        let mutex = locks.mutex("a").expect("name");
        let (me, you) = (locks.owner(), locks.owner());
        assert!(me.is(&me.clone()) && !me.is(&you));
        let mine = mutex.lock_as(&me).await.expect("free");
        assert!(mutex.try_lock_as(&you).await.expect("asks").is_none());
        assert!(mutex.try_lock_for_as(&you, Duration::from_millis(20)).await.expect("asks").is_none());
        assert!(mutex.try_lock().await.expect("asks").is_none());
        let theirs = {
            let (mutex, you) = (mutex.clone(), you.clone());
            tokio::spawn(async move { mutex.lock_as(&you).await })
        };
        soon("in line", async || locks.inspect("a").await.expect("looks").is_some_and(|l| l.waiters == 1))
            .await;
        // Somebody waits: the owner re-enters all the same, it does not stand in line.
        let again = mutex.lock_as(&me).await.expect("ours");
        drop((again, mine));
        let theirs = tokio::time::timeout(LONG, theirs).await.expect("granted").expect("no panic");
        theirs.expect("granted").release().await.expect("ours");
        nothing_left(&locks).await;
    }
}

#[tokio::test]
async fn a_loss_is_a_loss_at_every_level() {
    for store in stores() {
        let locks = store.connect().await;
        let (me, mutex) = (locks.owner(), locks.mutex("a").expect("name"));
        let outer = mutex.lock_as(&me).await.expect("free");
        let inner = mutex.lock_as(&me).await.expect("ours");
        locks.evict("a", None, "stuck").await.expect("evicts");
        let lost = tokio::time::timeout(LONG, inner.while_held(std::future::pending::<()>())).await;
        assert!(matches!(lost.expect("told").expect_err("lost").why(), LostReason::Evicted(_)));
        assert!(outer.check().is_err() && inner.check().is_err());
        // A lost hold does not come back to life under a level that still believes in it.
        assert_eq!(mutex.lock_as(&me).await.expect_err("lost").kind(), ErrorKind::Lost);
        assert_eq!(inner.release().await.expect_err("lost").kind(), ErrorKind::Lost);
        assert_eq!(mutex.try_lock_as(&me).await.expect_err("lost").kind(), ErrorKind::Lost);
        let token = outer.token();
        assert_eq!(outer.release().await.expect_err("lost").kind(), ErrorKind::Lost);
        let fresh = mutex.lock_as(&me).await.expect("free");
        assert!(fresh.token() > token);
    }
}

/// Tasks of one owner that come together share one hold; a cancelled one leaves it to the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_of_one_owner_share_the_hold() {
    for store in stores() {
        let locks = store.connect().await;
        let (me, mutex) = (locks.owner(), locks.mutex("a").expect("name"));
        let other = mutex.lock().await.expect("free");
        let cut = tokio::time::timeout(Duration::from_millis(5), mutex.lock_as(&me)).await;
        assert!(cut.is_err());
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (me, mutex) = (me.clone(), mutex.clone());
                tokio::spawn(async move { mutex.lock_as(&me).await.expect("granted") })
            })
            .collect();
        soon("in line", async || locks.inspect("a").await.expect("looks").is_some_and(|l| l.waiters == 1))
            .await;
        assert!(mutex.try_lock_as(&me).await.expect("asks").is_none());
        other.release().await.expect("ours");
        let mut levels = Vec::new();
        for task in tasks {
            levels.push(task.await.expect("no panic"));
        }
        assert_eq!(levels[0].levels(), 8);
        assert!(levels.iter().all(|l| l.token() == levels[0].token()));
        drop(levels);
        nothing_left(&locks).await;
    }
}

/// Two owners, each re-entering from several threads: never both inside.
#[test]
fn blocking_owners_exclude_each_other() {
    let locks = Locks::memory();
    let inside = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..2_u32)
        .flat_map(|who| {
            let me = locks.owner();
            (0..3).map(move |_| (who, me.clone())).collect::<Vec<_>>()
        })
        .map(|(who, me)| {
            let (mutex, inside) = (locks.mutex("a").expect("name"), inside.clone());
            std::thread::spawn(move || {
                for _ in 0..200 {
                    let outer = mutex.blocking_lock_as(&me).expect("granted");
                    let inner = mutex.blocking_lock_as(&me).expect("ours");
                    // Each owner counts in its own half.
                    let before = inside.fetch_add(1 << (16 * who), Ordering::SeqCst);
                    assert_eq!(before >> (16 * (1 - who)) & 0xFFFF, 0, "the other one is inside");
                    inside.fetch_sub(1 << (16 * who), Ordering::SeqCst);
                    drop(outer);
                    inner.blocking_release().expect("ours");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert!(locks.mutex("a").expect("name").blocking_try_lock().expect("asks").is_some());
}

#[test]
fn an_owner_is_shown_and_belongs_to_its_client() {
    let (locks, others) = (Locks::memory(), Locks::memory());
    let shown = Owner { user: "u".into(), host: "h".into(), pid: 7, program: "worker 7".into() };
    let me = locks.owner().shown_as(shown.clone()).expect("short");
    let mutex = locks.mutex("a").expect("name");
    let guard = mutex.blocking_lock_as(&me).expect("free");
    let line = locks.blocking_inspect("a").expect("looks").expect("held");
    assert_eq!(line.holders[0].owner, shown);
    let long = Owner { program: "x".repeat(129), ..shown };
    assert_eq!(locks.owner().shown_as(long).expect_err("too long").kind(), ErrorKind::Config);
    let error = others.mutex("a").expect("name").blocking_lock_as(&me).expect_err("another client");
    assert_eq!(error.kind(), ErrorKind::Config);
    drop(guard);
}
