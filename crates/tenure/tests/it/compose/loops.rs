//! The loops of a candidate and of a scheduler; jobs that end badly; tests that lose a lock.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use tenure::{ErrorKind, Leader, LostReason, Once, Outcome, RunState, Slot, testing};

use super::once::{HOUR, nothing, ran};
use super::{LONG, nothing_left, soon, stores};

/// The loop of a candidate: an error of the work, and the loss of the lead, each lead to another candidacy.
#[tokio::test]
async fn a_candidate_goes_on_after_errors_and_losses() {
    for store in stores() {
        let locks = store.connect().await;
        let election = locks.election("billing").expect("name");
        let mut terms = Vec::new();
        let last = election.run("a:1", async |leader| {
            terms.push(leader.token());
            match terms.len() {
                1 => Err("the work fails".into()),
                2 => {
                    testing::lose(&locks, "billing").await?;
                    // Dropped here, when the leader learns that it is none any more.
                    std::future::pending().await
                }
                _ => Ok("done"),
            }
        });
        assert_eq!(tokio::time::timeout(LONG, last).await.expect("goes on").expect("leads"), "done");
        assert_eq!(terms.len(), 3);
        assert!(terms.is_sorted_by(|a, b| a < b), "each term has a greater token: {terms:?}");
        nothing_left(&locks).await;
    }
}

#[tokio::test]
async fn a_candidate_ends_when_no_retry_can_help() {
    for store in stores() {
        let locks = store.connect().await;
        let election = locks.election("billing").expect("name");
        let work = async |_: &Leader| Ok(());
        let long = election.run(&"x".repeat(257), work).await.expect_err("too long a value");
        assert_eq!(long.kind(), ErrorKind::Config);
        locks.close().await.expect("closes");
        assert_eq!(election.run("a:1", work).await.expect_err("closed").kind(), ErrorKind::Config);
    }
}

#[tokio::test]
async fn a_test_can_make_a_holder_lose_its_lock() {
    for store in stores() {
        let locks = store.connect().await;
        assert_eq!(testing::lose(&locks, "x").await.expect_err("nobody holds it").kind(), ErrorKind::Config);
        let guard = locks.mutex("x").expect("name").lock().await.expect("free");
        testing::lose(&locks, "x").await.expect("taken away");
        let lost = tokio::time::timeout(LONG, guard.lost()).await.expect("told");
        assert!(matches!(lost.why(), LostReason::Evicted(why) if why.contains("a test")), "{lost}");
    }
}

/// However the job ends: that is when its least time matters most.
#[tokio::test]
async fn the_least_time_is_kept_when_the_job_panics_or_is_dropped() {
    for store in stores() {
        let locks = store.connect().await;
        let job = |label: &str| {
            let once = locks.once("job", Slot::named(label)).expect("a job");
            once.at_least(HOUR).expect("short enough")
        };
        let kept = async |once: &Once, how: &str| {
            // The release of what was dropped is under way.
            let mut seen = None;
            soon("the slot is left to its least time", async || {
                seen = locks.runs("job").await.expect("looks").pop().and_then(|run| run.kept_for);
                seen.is_some_and(|left| left > HOUR / 2)
            })
            .await;
            assert!(matches!(nothing(once).await, Outcome::Running(_)), "{how}: kept from others, {seen:?}");
        };
        let dropped = job("dropped");
        let endless = dropped.run(async |_| pending::<Result<(), Infallible>>().await);
        assert!(tokio::time::timeout(Duration::from_millis(50), endless).await.is_err(), "it has no end");
        kept(&dropped, "dropped").await;

        let panics = job("panics");
        let task = {
            let once = panics.clone();
            tokio::spawn(async move {
                once.run(async |_| -> Result<(), Infallible> { panic!("on purpose") }).await.map(drop)
            })
        };
        assert!(task.await.expect_err("it panics").is_panic());
        kept(&panics, "panics").await;

        let given_back = job("given back");
        drop(given_back.begin().await.expect("asks").expect("free"));
        kept(&given_back, "a started run that is dropped").await;
        // Whoever says that it did not run leaves nothing.
        let not_run = job("not run");
        not_run.begin().await.expect("asks").expect("free").give_back().await.expect("released");
        ran(nothing(&not_run).await);
    }
}

/// The loop of a scheduler, over slots of a second, by two who share the work.
#[tokio::test]
async fn every_slot_is_run_once() {
    for store in stores() {
        let locks = store.connect().await;
        let count = Arc::new(AtomicU32::new(0));
        let began = SystemTime::now();
        let machines: Vec<_> = (0..2)
            .map(|_| {
                let (count, once) =
                    (count.clone(), locks.once("tick", Slot::every(Duration::from_secs(1), Duration::ZERO)));
                let once = once.expect("a job");
                tokio::spawn(async move {
                    once.every(move |_| {
                        let count = count.clone();
                        async move {
                            let n = count.fetch_add(1, Ordering::SeqCst);
                            // An error is recorded, and the loop goes on.
                            if n == 0 { Err("the first one fails".into()) } else { Ok(()) }
                        }
                    })
                    .await
                })
            })
            .collect();
        soon("several slots", async || count.load(Ordering::SeqCst) >= 3).await;
        machines.iter().for_each(tokio::task::JoinHandle::abort);
        let runs = locks.runs("tick").await.expect("looks");
        let mut slots: Vec<_> = runs.iter().map(|run| run.slot.as_str()).collect();
        slots.dedup();
        assert!(slots.len() == runs.len() && runs.len() >= 3, "one run for each slot: {runs:?}");
        let seconds = began.elapsed().expect("in the past").as_secs() + 2;
        assert!(u64::from(count.load(Ordering::SeqCst)) <= seconds, "one run a second at most");
        assert!(runs.iter().any(|run| matches!(run.state, RunState::Failed { .. })), "{runs:?}");
    }
}

#[tokio::test]
async fn a_slot_without_a_next_one_has_no_loop() {
    for store in stores() {
        let locks = store.connect().await;
        let once = locks.once("job", Slot::named("a")).expect("a job");
        assert_eq!(once.every(async |_| Ok(())).await.kind(), ErrorKind::Config);
        // No types are needed for a job that ends in `Ok(())`.
        let outcome = once.run_any(async |_| Ok(())).await.expect("asks");
        ran(outcome).recorded.expect("confirmed");
    }
}
