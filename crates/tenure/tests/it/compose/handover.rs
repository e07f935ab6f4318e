//! Holds that go on elsewhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tenure::{ErrorKind, Handle, LockOptions, Locks, Owner};

use super::kit::{Losses, forgetful};
use super::{Dir, LONG, nothing_left, stores};

fn refused<T: std::fmt::Debug>(result: tenure::Result<T>, kind: ErrorKind, words: &str) {
    let error = result.expect_err("refused");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[tokio::test]
async fn a_hold_goes_on_with_its_token_and_once_only() {
    for store in stores() {
        let locks = store.connect().await;
        let mutex = locks.mutex("a").expect("name").with(LockOptions::new().reason("move")).expect("options");
        let guard = mutex.lock().await.expect("free");
        let token = guard.token();
        let handle = guard.detach().await.expect("ours");
        assert_eq!((handle.token(), handle.key().name(), locks.live()), (Some(token), "a", 0));
        assert!(mutex.try_lock().await.expect("asks").is_none(), "still held");
        // By its text, as it travels.
        let copy: Handle = handle.to_string().parse().expect("good");
        assert_eq!(copy, handle);
        let guard = locks.adopt(copy).await.expect("there");
        assert_eq!(guard.token(), token);
        let line = locks.inspect("a").await.expect("looks").expect("held");
        assert_eq!(
            (line.holders.len(), line.holders[0].reason.as_str(), line.token),
            (1, "move", Some(token))
        );
        assert!(guard.check().expect("held") > Duration::from_secs(20));
        // Every other way to use it again.
        refused(locks.adopt(handle.clone()).await, ErrorKind::Lost, "adopted or released before");
        refused(locks.renew(&handle).await, ErrorKind::Lost, "adopted or released before");
        refused(locks.release(handle).await, ErrorKind::Lost, "adopted or released before");
        guard.check().expect("unharmed");
        assert!(mutex.try_lock().await.expect("asks").is_none());
        guard.release().await.expect("ours");
        nothing_left(&locks).await;
        assert!(mutex.try_lock().await.expect("asks").expect("free").token() > token);
    }
}

#[tokio::test]
async fn a_shell_renews_and_releases_without_adopting() {
    for store in stores() {
        let locks = store.connect().await;
        let mutex = locks.mutex("a").expect("name");
        let shown = Owner { user: "u".into(), host: "h".into(), pid: 7, program: "script".into() };
        let guard = mutex.lock().await.expect("free");
        guard.describe(shown.clone()).expect("short");
        let lease = Duration::from_secs(6);
        let handle = guard.detach_for(lease).await.expect("ours");
        assert_eq!((handle.ttl(), handle.owner()), (lease, &shown));
        // Past its lease.
        for _ in 0..4 {
            let left = locks.renew(&handle).await.expect("held");
            assert!(left > lease / 3 && left < lease, "{left:?}");
            tokio::time::sleep(lease / 3).await;
        }
        let line = locks.inspect("a").await.expect("looks").expect("held");
        assert_eq!((&line.holders[0].owner, line.token), (&shown, handle.token()));
        locks.release(handle.clone()).await.expect("held");
        nothing_left(&locks).await;
        refused(locks.release(handle).await, ErrorKind::Lost, "adopted or released before");
    }
}

#[tokio::test]
async fn what_nobody_takes_up_ends_with_its_lease() {
    for store in stores() {
        let locks = store.connect().await;
        // Short, so that an evicted holder that nobody tells learns of it soon.
        let options = LockOptions::new().ttl(Duration::from_secs(2));
        let mutex = locks.mutex("a").expect("name").with(options).expect("options");
        let guard = mutex.lock().await.expect("free");
        let handle = guard.detach_for(Duration::from_millis(200)).await.expect("ours");
        let next = tokio::time::timeout(LONG, mutex.lock()).await.expect("free").expect("granted");
        assert!(Some(next.token()) > handle.token());
        refused(locks.adopt(handle.clone()).await, ErrorKind::Lost, "its lease is over");
        refused(locks.renew(&handle).await, ErrorKind::Lost, "its lease is over");
        next.check().expect("unharmed");
        // Taken away: whoever adopts is told by whom.
        let handle = next.detach().await.expect("ours");
        locks.evict("a", None, "stuck since noon").await.expect("evicts");
        refused(locks.adopt(handle).await, ErrorKind::Lost, "stuck since noon");
        let guard = mutex.lock().await.expect("free");
        locks.evict("a", None, "").await.expect("evicts");
        guard.lost().await;
        assert_eq!(guard.detach().await.expect_err("no longer ours").kind(), ErrorKind::Lost);
        let guard = mutex.lock().await.expect("free");
        let error = guard.detach_for(Duration::from_millis(1)).await.expect_err("too short");
        assert!(error.to_string().contains("100 ms"), "{error}");
        nothing_left(&locks).await;
    }
}

#[tokio::test]
async fn a_handle_of_another_store_or_namespace_is_refused() {
    for store in stores() {
        let locks = store.connect().await;
        let guard = locks.mutex("a").expect("name").lock().await.expect("free");
        let handle = guard.detach().await.expect("ours");
        let elsewhere = Locks::memory();
        refused(elsewhere.adopt(handle.clone()).await, ErrorKind::Config, "of the store");
        refused(elsewhere.renew(&handle).await, ErrorKind::Config, "of the store");
        refused(elsewhere.release(handle.clone()).await, ErrorKind::Config, "of the store");
        let builder = Locks::builder(locks.url()).namespace("other");
        let other = builder.connect().await.expect("opens");
        refused(other.adopt(handle.clone()).await, ErrorKind::Config, "of the namespace default");
        let mut changed = handle.to_string();
        let last = changed.pop();
        changed.push(if last == Some('0') { '1' } else { '0' });
        refused(changed.parse::<Handle>(), ErrorKind::Config, "checksum");
        locks.adopt(handle).await.expect("there").release().await.expect("ours");
    }
}

/// Detached and adopted while answers are lost, or cut short: never two holds, never a hold that nobody can end.
#[tokio::test]
async fn lost_answers_and_cut_calls_leave_one_hold_or_none() {
    for silently in [false, true] {
        let dir = Dir::new();
        let losses = Arc::new(Losses::default());
        let locks = forgetful(&dir.url(), &losses).await;
        losses.silently.store(silently, Ordering::SeqCst);
        let mutex = locks.mutex("a").expect("name");
        // A silent store is waited for as long as one request may take, so the lease must be longer.
        let options = LockOptions::new().ttl(Duration::from_secs(20));
        let guard = mutex.clone().with(options).expect("options").lock().await.expect("free");
        let token = guard.token();
        losses.transfers.store(1, Ordering::SeqCst);
        let handle = guard.detach().await.expect("ours");
        losses.transfers.store(1, Ordering::SeqCst);
        let guard = locks.adopt(handle.clone()).await.expect("there");
        assert_eq!(guard.token(), token);
        refused(locks.adopt(handle).await, ErrorKind::Lost, "adopted or released before");
        losses.releases.store(2, Ordering::SeqCst);
        let handle = guard.detach().await.expect("ours");
        // It is given back, but nobody can know by which try: the lease might have ended before any of them arrived.
        refused(locks.release(handle).await, ErrorKind::Uncertain, "was repeated");
        nothing_left(&locks).await;
        // Cut short while the answer is under way.
        let guard = mutex.lock().await.expect("free");
        losses.silently.store(true, Ordering::SeqCst);
        losses.transfers.store(u32::MAX, Ordering::SeqCst);
        let cut = tokio::time::timeout(Duration::from_millis(50), guard.detach()).await;
        assert!(cut.is_err());
        losses.transfers.store(0, Ordering::SeqCst);
        nothing_left(&locks).await;
        let handle = mutex.lock().await.expect("free").detach().await.expect("ours");
        losses.transfers.store(u32::MAX, Ordering::SeqCst);
        let cut = tokio::time::timeout(Duration::from_millis(50), locks.adopt(handle)).await;
        assert!(cut.is_err());
        nothing_left(&locks).await;
    }
}
