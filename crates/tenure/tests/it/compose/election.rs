//! Elections.

use std::time::Duration;

use tenure::{ErrorKind, LockOptions, Locks};

use super::{LONG, nothing_left, soon, stores};

#[tokio::test]
async fn one_leads_and_everybody_sees_who() {
    for store in stores() {
        let locks = store.connect().await;
        let election = locks.election("billing").expect("name");
        assert_eq!(election.leader().await.expect("looks"), None);
        let leader = election.campaign("a:1").await.expect("nobody leads");
        assert!(election.try_campaign("b:1").await.expect("asks").is_none());
        assert!(election.try_campaign_for("b:1", Duration::from_millis(10)).await.expect("asks").is_none());
        let seen = election.leader().await.expect("looks").expect("leads");
        assert_eq!((seen.value(), seen.token()), ("a:1", Some(leader.token())));
        assert_eq!(seen.owner().pid, std::process::id());
        assert!(seen.since().elapsed().expect("in the past") < LONG);
        // The next in line leads once this one steps down.
        let next = {
            let election = election.clone();
            tokio::spawn(async move { election.campaign("b:1").await })
        };
        soon("in line", async || {
            locks.inspect("billing").await.expect("looks").is_some_and(|l| l.waiters == 1)
        })
        .await;
        let before = leader.token();
        leader.resign().await.expect("led");
        let next = next.await.expect("no panic").expect("elected");
        assert!(next.token() > before);
        assert_eq!(election.leader().await.expect("looks").expect("leads").value(), "b:1");
        next.proclaim("b:2").await.expect("leads");
        let seen = election.leader().await.expect("looks").expect("leads");
        assert_eq!((seen.value(), seen.token()), ("b:2", Some(next.token())));
        drop(next);
        nothing_left(&locks).await;
    }
}

#[tokio::test]
async fn observers_are_told_of_every_change() {
    for store in stores() {
        let locks = store.connect().await;
        let election = locks.election("e").expect("name");
        // A lock below it is another matter.
        let _below = locks.mutex("e/x").expect("name").lock().await.expect("free");
        let mut observer = election.observe().expect("can be seen");
        let mut next = async || {
            let told = tokio::time::timeout(LONG, observer.next()).await.expect("told").expect("looks");
            told.map(|info| info.value().to_owned())
        };
        assert_eq!(next().await, None);
        let leader = election.campaign("one").await.expect("nobody leads");
        assert_eq!(next().await.as_deref(), Some("one"));
        // It waits already when the value changes.
        let (told, proclaimed) = tokio::join!(next(), leader.proclaim("two"));
        proclaimed.expect("leads");
        assert_eq!(told.as_deref(), Some("two"));
        // A candidate who waits changes nothing for those who look.
        let waits = election.try_campaign_for("three", Duration::from_millis(30)).await;
        assert!(waits.expect("asks").is_none());
        locks.evict("e", None, "stuck").await.expect("evicts");
        assert_eq!(next().await, None);
        tokio::time::timeout(LONG, leader.lost()).await.expect("told");
        assert_eq!(leader.proclaim("four").await.expect_err("no longer").kind(), ErrorKind::Lost);
        assert_eq!(leader.resign().await.expect_err("no longer").kind(), ErrorKind::Lost);
    }
}

#[test]
fn a_value_has_a_limit_and_the_error_names_it() {
    let election = Locks::memory().election("e").expect("name");
    for refused in [
        election.blocking_campaign(&"x".repeat(257)).map(drop),
        election.blocking_try_campaign(&"x".repeat(257)).map(drop),
    ] {
        let error = refused.expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("256"), "{error}");
    }
    let leader = election.blocking_campaign(&"x".repeat(256)).expect("nobody leads");
    assert_eq!(leader.blocking_proclaim(&"x".repeat(257)).expect_err("too long").kind(), ErrorKind::Config);
    assert_eq!(election.blocking_leader().expect("looks").expect("leads").value().len(), 256);
    assert!(leader.blocking_lost_for(Duration::from_millis(5)).is_none());
    leader.blocking_resign().expect("led");
    let options = LockOptions::new().ttl(Duration::from_secs(5));
    let short = election.clone().with(options).expect("options");
    assert!(short.blocking_campaign("v").expect("nobody leads").remaining() < Duration::from_secs(5));
    let reason = LockOptions::new().reason("why");
    assert_eq!(election.with(reason).expect_err("the value is the reason").kind(), ErrorKind::Config);
}

#[tokio::test]
async fn what_is_shown_of_a_hold_can_change() {
    for store in stores() {
        let locks = store.connect().await;
        let guard = locks.mutex("a").expect("name").lock().await.expect("free");
        for step in ["step 1 of 2", "step 2 of 2", ""] {
            guard.set_reason(step).await.expect("ours");
            let line = locks.inspect("a").await.expect("looks").expect("held");
            assert_eq!((line.holders[0].reason.as_str(), line.token), (step, Some(guard.token())));
        }
        assert_eq!(guard.set_reason(&"x".repeat(257)).await.expect_err("too long").kind(), ErrorKind::Config);
        guard.release_after(Duration::from_secs(60)).await.expect("ours");
        assert_eq!(locks.live(), 0);
    }
}
