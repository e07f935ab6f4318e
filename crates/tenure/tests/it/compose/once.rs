//! Jobs that run at most once per slot.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tenure::{ErrorKind, LockOptions, Locks, Once, Outcome, Ran, Run, RunState, Slot};

use super::kit::{LEASE, Losses, forgetful, skewed};
use super::{Dir, LONG, soon, stores};

pub(super) const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn nothing(once: &Once) -> Outcome<u8, Infallible> {
    once.run(async |_| Ok(1)).await.expect("asks")
}

#[track_caller]
pub(super) fn ran<T, E>(outcome: Outcome<T, E>) -> Ran<T, E> {
    match outcome {
        Outcome::Ran(ran) => ran,
        Outcome::AlreadyDone(run) | Outcome::Running(run) => panic!("it should run here: {run:?}"),
        _ => unreachable!("no other outcome"),
    }
}

#[track_caller]
fn done<T, E>(outcome: Outcome<T, E>) -> Run {
    match outcome {
        Outcome::AlreadyDone(run) => run,
        Outcome::Ran(_) => panic!("it ran twice"),
        Outcome::Running(run) => panic!("it still runs: {run:?}"),
        _ => unreachable!("no other outcome"),
    }
}

#[tokio::test]
async fn a_slot_is_run_once_and_remembered() {
    for store in stores() {
        let locks = store.connect().await;
        let once = locks.once("jobs/report", Slot::every(DAY, 3 * HOUR)).expect("a job");
        let first = ran(once
            .run(async |token| {
                let running = &locks.runs("jobs/report").await.expect("looks")[0];
                assert_eq!((&running.state, running.token), (&RunState::Running, Some(token)));
                // Whoever asks meanwhile is told who runs it.
                assert!(matches!(nothing(&once).await, Outcome::Running(run) if run.token == Some(token)));
                Ok::<_, Infallible>(42)
            })
            .await
            .expect("runs"));
        first.recorded.expect("confirmed");
        assert_eq!(first.result, Ok(42));
        let run = done(nothing(&once).await);
        assert_eq!((run.token, run.owner.pid), (Some(first.token), std::process::id()));
        let RunState::Done { took } = run.state else { panic!("done: {run:?}") };
        assert_eq!(took.as_millis(), first.took.as_millis());
        assert!(run.slot.ends_with("T03:00:00Z") && run.began.elapsed().expect("in the past") < LONG);
        // Beyond the end of the slot and the clocks that are apart, three days more.
        assert!(run.kept_for.expect("a time") > 3 * DAY + Duration::from_secs(1199));
        // Another job, and another slot, are another matter.
        ran(nothing(&locks.once("jobs/other", Slot::every(DAY, 3 * HOUR)).expect("a job")).await);
        ran(nothing(&locks.once("jobs/report", Slot::named("by hand")).expect("a job")).await);
        let runs = locks.runs("jobs/report").await.expect("looks");
        let slots: Vec<_> = runs.iter().map(|run| run.slot.as_str()).collect();
        assert_eq!(slots, [run.slot.as_str(), "by hand"]);
        assert!(locks.runs("jobs").await.expect("looks").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_ask_one_runs_it() {
    for store in stores() {
        let locks = store.connect().await;
        let counts: Arc<[AtomicU32; 5]> = Arc::default();
        let tasks: Vec<_> = (0..40)
            .map(|n| {
                let (slot, counts) = (n % 5, counts.clone());
                let once = locks.once("job", Slot::named(&slot.to_string())).expect("a job");
                let once = if n >= 20 { once.wait(LONG) } else { once };
                tokio::spawn(async move {
                    let outcome = once.run(async |_| {
                        counts[slot].fetch_add(1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        Ok::<_, Infallible>(())
                    });
                    outcome.await.expect("asks");
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        assert!(counts.iter().all(|count| count.load(Ordering::SeqCst) == 1), "{counts:?}");
    }
}

#[tokio::test]
async fn an_error_counts_as_done_or_is_tried_again_by_choice() {
    for store in stores() {
        let locks = store.connect().await;
        let fails =
            async |once: &Once| ran(once.run(async |_| Err::<(), _>("disk full")).await.expect("runs"));
        let once = locks.once("job", Slot::named("a")).expect("a job");
        let failed = fails(&once).await;
        failed.recorded.expect("confirmed");
        assert_eq!(failed.result, Err("disk full"));
        assert!(
            matches!(done(nothing(&once).await).state, RunState::Failed { error, .. } if error == "disk full")
        );
        let again = locks.once("job", Slot::named("b")).expect("a job").retry_errors();
        fails(&again).await.recorded.expect("confirmed");
        ran(nothing(&again).await);
        done(nothing(&again).await);
        // Not at once: the slot is kept for its least time.
        let slow = locks.once("job", Slot::named("c")).expect("a job").retry_errors();
        let slow = slow.at_least(HOUR).expect("short enough");
        fails(&slow).await.recorded.expect("confirmed");
        let Outcome::Running(run) = nothing(&slow).await else { panic!("kept") };
        assert!(matches!(&run.state, RunState::ToRunAgain { error, .. } if error == "disk full"));
        assert!(run.kept_for.expect("a time") > HOUR / 2);
        let both = again.never_again();
        let error = both.run(async |_| Ok::<_, Infallible>(())).await.expect_err("both");
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}

/// Cut short, as by the death of whoever ran it.
#[tokio::test]
async fn what_was_cut_short_is_run_again_or_never_by_choice() {
    for store in stores() {
        let locks = store.connect().await;
        let cut = async |once: &Once| {
            let begun = AtomicU32::new(0);
            let job = once.run(async |_| {
                begun.store(1, Ordering::SeqCst);
                pending::<Result<(), Infallible>>().await
            });
            tokio::select! {
                _ = job => panic!("it never ends"),
                () = soon("begun", async || begun.load(Ordering::SeqCst) == 1) => {}
            }
        };
        let once = locks.once("job", Slot::named("a")).expect("a job");
        cut(&once).await;
        soon("free", async || !matches!(nothing(&once).await, Outcome::Running(_))).await;
        done(nothing(&once).await);
        let never = locks.once("job", Slot::named("b")).expect("a job").never_again();
        cut(&never).await;
        soon("free", async || locks.inspect("job/@b").await.expect("looks").is_none()).await;
        let run = done(nothing(&never).await);
        assert_eq!((run.state, run.slot.as_str()), (RunState::Abandoned, "b"));
        assert!(run.kept_for.expect("a time") > 29 * DAY);
        // It is remembered too, and the slot itself is free.
        assert_eq!(locks.runs("job").await.expect("looks").last().expect("two").state, RunState::Abandoned);
        let never = locks.once("job", Slot::named("c")).expect("a job").never_again();
        ran(nothing(&never).await).recorded.expect("confirmed");
        assert!(matches!(done(nothing(&never).await).state, RunState::Done { .. }));
    }
}

#[tokio::test]
async fn whoever_waits_takes_over_or_learns_that_it_is_done() {
    for store in stores() {
        let locks = store.connect().await;
        let once = locks.once("job", Slot::named("a")).expect("a job");
        let waits = |once: &Once| {
            let once = once.clone().wait(LONG);
            tokio::spawn(async move { nothing(&once).await })
        };
        let in_line = async |name: &str, n| {
            soon("in line", async || {
                locks.inspect(name).await.expect("looks").is_some_and(|l| l.waiters == n)
            })
            .await;
        };
        let standby = waits(&once);
        ran(tokio::time::timeout(LONG, standby).await.expect("free").expect("no panic"));
        // The one that runs is cut short: a standby runs it, the other one learns of it.
        let once = locks.once("job", Slot::named("b")).expect("a job");
        let running = {
            let once = once.clone();
            tokio::spawn(async move { once.run(async |_| pending::<Result<(), Infallible>>().await).await })
        };
        soon("running", async || locks.inspect("job/@b").await.expect("looks").is_some()).await;
        let standbys = [waits(&once), waits(&once)];
        in_line("job/@b", 2).await;
        running.abort();
        let mut runs = 0;
        for standby in standbys {
            let outcome = tokio::time::timeout(LONG, standby).await.expect("told").expect("no panic");
            match outcome {
                Outcome::Ran(_) => runs += 1,
                other => assert!(matches!(done(other).state, RunState::Done { .. })),
            }
        }
        assert_eq!(runs, 1);
        let patient = once.clone().wait(Duration::from_millis(20));
        done(nothing(&patient).await);
    }
}

#[tokio::test]
async fn a_job_stops_when_its_lock_is_lost() {
    for store in stores() {
        let locks = store.connect().await;
        let once = locks.once("job", Slot::named("a")).expect("a job");
        let job = once.run(async |_| {
            locks.evict("job/@a", None, "stuck").await.expect("evicts");
            pending::<Result<(), Infallible>>().await
        });
        let error = tokio::time::timeout(LONG, job).await.expect("stopped").expect_err("lost");
        assert_eq!(error.kind(), ErrorKind::Lost);
        // Without async nothing can stop it: the loss is told afterwards.
        let late = locks.once("job", Slot::named("b")).expect("a job");
        let job = |guard: &tenure::Guard| {
            locks.blocking_evict("job/@b", None, "stuck").expect("evicts");
            assert!(guard.blocking_lost_for(LONG).is_some());
            Ok::<_, Infallible>(7)
        };
        let late = ran(late.blocking_run(job).expect("ran"));
        assert_eq!((late.result, late.recorded.expect_err("lost").kind()), (Ok(7), ErrorKind::Lost));
    }
}

/// The job has finished, and every answer to what follows is lost: for a while, or for good.
#[tokio::test]
async fn a_lost_answer_leads_to_no_second_run() {
    const ALL: u32 = u32::MAX;
    let mut cases = tokio::task::JoinSet::new();
    for silently in [false, true] {
        for (renewals, releases) in [(0, 1), (0, 3), (2, 2), (ALL, 0), (0, ALL), (ALL, ALL)] {
            cases.spawn(lost_answers(renewals, releases, silently));
        }
    }
    while let Some(case) = cases.join_next().await {
        case.expect("no panic");
    }
}

async fn lost_answers(renewals: u32, releases: u32, silently: bool) {
    let case = format!("{renewals} renewals, {releases} releases, silently: {silently}");
    let dir = Dir::new();
    let losses = Arc::new(Losses::default());
    let mine = forgetful(&dir.url(), &losses).await;
    losses.silently.store(silently, Ordering::SeqCst);
    losses.attempts.store(1, Ordering::SeqCst);
    let once = mine.once("job", Slot::named("a")).expect("a job");
    let job = once.run(async |_| {
        losses.renewals.store(renewals, Ordering::SeqCst);
        losses.releases.store(releases, Ordering::SeqCst);
        Ok::<_, Infallible>(())
    });
    match ran(job.await.expect("runs")).recorded {
        Ok(()) => assert_ne!(releases, u32::MAX, "{case}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Uncertain, "{case}: {error}"),
    }
    // Longer than the lease: what is kept is kept.
    tokio::time::sleep(LEASE + Duration::from_millis(200)).await;
    let theirs = Locks::connect(&dir.url()).await.expect("opens");
    let outcome = nothing(&theirs.once("job", Slot::named("a")).expect("a job")).await;
    assert!(!matches!(outcome, Outcome::Ran(_)), "{case}: it ran twice");
}

/// Whoever asked is gone before the store has confirmed: what has run has run.
#[tokio::test]
async fn a_finished_job_stays_done_if_nobody_waits_for_its_end() {
    let dir = Dir::new();
    let losses = Arc::new(Losses::default());
    let (mine, theirs) = (forgetful(&dir.url(), &losses).await, Locks::connect(&dir.url()).await);
    losses.silently.store(true, Ordering::SeqCst);
    let once = mine.once("job", Slot::named("a")).expect("a job");
    let job = once.run(async |_| {
        losses.renewals.store(u32::MAX, Ordering::SeqCst);
        Ok::<_, Infallible>(())
    });
    tokio::select! {
        _ = job => panic!("nobody answers"),
        () = soon("recording", async || (1..u32::MAX).contains(&losses.renewals.load(Ordering::SeqCst))) => {}
    }
    tokio::time::sleep(LEASE + Duration::from_millis(200)).await;
    done(nothing(&theirs.expect("opens").once("job", Slot::named("a")).expect("a job")).await);
}

/// Five minutes fast, five minutes slow, and right: around the begin of a slot.
#[tokio::test]
async fn clocks_that_are_apart_by_minutes_run_each_slot_once() {
    let dir = Dir::new();
    let url = dir.url();
    let (fast, slow, right) = (skewed(&url, 300).await, skewed(&url, -300).await, skewed(&url, 0).await);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    // The next slot begins in two minutes, for whoever's clock is right.
    let begins = now + 120;
    let hourly = || Slot::every(HOUR, Duration::from_secs(begins % 3600));
    let ask = async |locks: &Locks| nothing(&locks.once("job", hourly()).expect("a job")).await;
    ran(ask(&fast).await);
    ran(ask(&right).await);
    let earlier = done(ask(&slow).await);
    let starts = UNIX_EPOCH + Duration::from_secs(begins);
    let coming = |locks: &Locks| locks.once("job", Slot::between(starts, starts + HOUR)).expect("a job");
    let later = done(nothing(&coming(&right)).await);
    done(nothing(&coming(&slow)).await);
    assert!(earlier.slot < later.slot);
    // Kept until even the slow one cannot ask any more.
    let runs = right.runs("job").await.expect("looks");
    assert!(runs[1].kept_for.expect("a time") > Duration::from_secs(120 + 600));
}

#[test]
fn bad_slots_and_times_are_refused() {
    let locks = Locks::memory();
    let refused = |slot| {
        let error = locks.once("job", slot).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Config);
    };
    refused(Slot::every(Duration::ZERO, Duration::ZERO));
    refused(Slot::named("a/b"));
    refused(Slot::named(""));
    let now = SystemTime::now();
    for (slot, why) in [
        (Slot::between(now - 3 * HOUR, now - HOUR), "is over"),
        (Slot::between(now + HOUR, now + 2 * HOUR), "has not begun"),
    ] {
        let once = locks.once("job", slot).expect("a possible slot");
        let error = once.blocking_run(|_| Ok::<_, Infallible>(())).expect_err("not now");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(why), "{error}");
    }
    let once = locks.once("job", Slot::named("a")).expect("a job");
    let longer = 400 * DAY + Duration::from_secs(1);
    assert!(once.clone().keep_for(longer).expect_err("too long").to_string().contains("400 days"));
    assert!(once.clone().at_least(longer).expect_err("too long").to_string().contains("400 days"));
    assert!(once.clone().clocks_apart(2 * DAY).expect_err("too long").to_string().contains("24 h"));
    let reason = LockOptions::new().reason("why");
    assert_eq!(once.clone().with(reason).expect_err("the record lies there").kind(), ErrorKind::Config);
    let guard = locks.mutex("x").expect("name").blocking_lock().expect("free");
    assert!(guard.blocking_release_after(longer).expect_err("too long").to_string().contains("400 days"));
    // As long as it may be.
    ran(once
        .keep_for(400 * DAY)
        .expect("as long as it may be")
        .blocking_run(|_| Ok::<_, Infallible>(()))
        .expect("runs"));
    assert!(locks.blocking_runs("job").expect("looks")[0].kept_for.expect("a time") > 399 * DAY);
}
