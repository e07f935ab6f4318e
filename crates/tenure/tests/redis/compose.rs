//! What is composed of locks, on a real server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;
use tenure::{ErrorKind, Handle, Locks, RunState, Slot};

use crate::server::Server;
use crate::{multi, soon, trial};
use tenure_servers::proxy::Proxy;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("compose::ten_names_cost_one_round_trip", ten_names_cost_one_round_trip),
        trial("compose::many_names_are_all_or_nothing", many_names_are_all_or_nothing),
        trial("compose::owners_re_enter_and_exclude_each_other", owners_re_enter_and_exclude_each_other),
        trial("compose::leaders_are_followed", leaders_are_followed),
        trial("compose::a_hold_goes_on_in_another_client", a_hold_goes_on_in_another_client),
        trial("compose::a_job_runs_once_and_is_remembered", a_job_runs_once_and_is_remembered),
    ]
}

/// Uncontended, all requests leave before the first answer is there. One that waited for an answer would wait for ever,
/// and the connection would be given up.
fn ten_names_cost_one_round_trip() {
    let server = Server::start();
    let proxy = Proxy::to(server.port).expect("a free port");
    multi().block_on(async {
        let locks = Locks::connect(&proxy.url("redis")).await.expect("up");
        let names: Vec<String> = (0..10).map(|n| format!("n/{n}")).collect();
        let heads = || names.iter().map(|name| format!("/{name}}}:l")).collect();
        let multi = locks.multi(&names).expect("names");
        // The first time, the server does not know the script yet.
        multi.lock().await.expect("free").release().await.expect("ours");
        for _ in 0..3 {
            proxy.hold_answers(heads());
            let guard = multi.lock().await.expect("no request waits for an answer");
            proxy.hold_answers(heads());
            guard.release().await.expect("no release waits for an answer");
        }
    });
}

fn many_names_are_all_or_nothing() {
    let server = Server::start();
    multi().block_on(async {
        let a = Locks::connect(&server.url()).await.expect("up");
        let b = Locks::connect(&server.url()).await.expect("up");
        let held = b.mutex("n/7").expect("name").lock().await.expect("free");
        let names: Vec<String> = (0..300).map(|n| format!("n/{n}")).collect();
        let all = a.multi(&names).expect("names");
        assert!(all.try_lock().await.expect("asks").is_none());
        assert_eq!(b.list("").await.expect("looks").len(), 1, "nothing is kept");
        // Cancelled while it waits, and while it asks.
        for wait in [0, 1, 3, 10, 50] {
            assert!(tokio::time::timeout(Duration::from_millis(wait), all.lock()).await.is_err());
        }
        soon("withdrawn", async || {
            b.list("").await.is_ok_and(|l| l.len() == 1)
                && b.inspect("n/7").await.is_ok_and(|l| l.is_some_and(|l| l.waiters == 0))
        })
        .await;
        let waiting = tokio::spawn(async move { all.lock().await });
        soon("in line", async || b.inspect("n/7").await.is_ok_and(|l| l.is_some_and(|l| l.waiters == 1)))
            .await;
        held.release().await.expect("ours");
        let guard = waiting.await.expect("no panic").expect("granted");
        assert_eq!(guard.tokens().count(), 300);
        assert_eq!(b.list("").await.expect("looks").len(), 300);
        drop(guard);
        soon("free", async || b.list("").await.is_ok_and(|l| l.is_empty())).await;
    });
}

fn owners_re_enter_and_exclude_each_other() {
    let server = Server::start();
    multi().block_on(async {
        let a = Locks::connect(&server.url()).await.expect("up");
        let b = Locks::connect(&server.url()).await.expect("up");
        let (me, you) = (a.owner(), b.owner());
        let outer = a.mutex("x").expect("name").lock_as(&me).await.expect("free");
        let inner = a.mutex("x").expect("name").lock_as(&me).await.expect("ours");
        assert_eq!((inner.token(), inner.levels()), (outer.token(), 2));
        let theirs = tokio::spawn(async move { b.mutex("x").expect("name").lock_as(&you).await });
        soon("in line", async || a.inspect("x").await.is_ok_and(|l| l.is_some_and(|l| l.waiters == 1))).await;
        outer.release().await.expect("ours");
        inner.check().expect("still ours");
        assert!(!theirs.is_finished());
        let token = inner.token();
        inner.release().await.expect("ours");
        let theirs = theirs.await.expect("no panic").expect("granted");
        assert!(theirs.token() > token);
        theirs.release().await.expect("ours");
    });
}

/// Two candidates, and an observer that takes no part: in three clients. Also in the plain dialect, which shows holders.
fn leaders_are_followed() {
    let server = Server::start();
    let dialect = server.url().replace("redis:", "redis+setnx:");
    for url in [server.url(), dialect] {
        multi().block_on(async {
            let connect = async || Locks::connect(&url).await.expect("up").election("lead").expect("name");
            let (a, b, looks) = (connect().await, connect().await, connect().await);
            let mut observer = looks.observe().expect("can be seen");
            assert_eq!(observer.next().await.expect("looks"), None);
            let mut value = async || {
                let told = tokio::time::timeout(Duration::from_secs(20), observer.next()).await;
                told.expect("told").expect("looks").map(|info| (info.value().to_owned(), info.token()))
            };
            let leader = a.campaign("a").await.expect("nobody leads");
            assert_eq!(value().await, Some(("a".into(), Some(leader.token()))));
            let next = tokio::spawn(async move { b.campaign("b").await });
            let (told, proclaimed) = tokio::join!(value(), leader.proclaim("a, busy"));
            proclaimed.expect("leads");
            assert_eq!(told, Some(("a, busy".into(), Some(leader.token()))));
            leader.resign().await.expect("led");
            let leader = next.await.expect("no panic").expect("elected");
            let mut told = value().await;
            while told.is_none() {
                told = value().await;
            }
            assert_eq!(told, Some(("b".into(), Some(leader.token()))));
        });
    }
}

/// Four clients ask for ten slots, then once more; records are kept for more than a year. Also in the plain dialect.
fn a_job_runs_once_and_is_remembered() {
    let server = Server::start();
    let dialect = server.url().replace("redis:", "redis+setnx:");
    for (url, name) in [(server.url(), "job"), (dialect, "plain")] {
        multi().block_on(async {
            let runs = Arc::new(AtomicU32::new(0));
            let mut tasks = Vec::new();
            for _ in 0..4 {
                let locks = Locks::connect(&url).await.expect("up");
                let runs = runs.clone();
                tasks.push(tokio::spawn(async move {
                    for slot in (0..10).chain(0..10) {
                        let once = locks.once(name, Slot::named(&slot.to_string())).expect("a job");
                        let once = once.keep_for(Duration::from_secs(399 * 86_400)).expect("short enough");
                        let job = async |_| {
                            runs.fetch_add(1, Ordering::SeqCst);
                            Err::<(), _>("on purpose")
                        };
                        once.run(job).await.expect("asks");
                    }
                }));
            }
            for task in tasks {
                task.await.expect("no panic");
            }
            assert_eq!(runs.load(Ordering::SeqCst), 10);
            let locks = Locks::connect(&url).await.expect("up");
            let remembered = locks.runs(name).await.expect("looks");
            assert_eq!(remembered.len(), 10);
            for run in remembered {
                assert!(
                    matches!(&run.state, RunState::Failed { error, .. } if error == "on purpose"),
                    "{run:?}"
                );
                assert!(run.kept_for.expect("a time") > Duration::from_secs(398 * 86_400));
            }
        });
    }
}

/// The first client is closed before the second one adopts; a third one waits all the while. Also in the plain dialect.
fn a_hold_goes_on_in_another_client() {
    let server = Server::start();
    let dialect = server.url().replace("redis:", "redis+setnx:");
    for url in [server.url(), dialect] {
        multi().block_on(async {
            let connect = async || Locks::connect(&url).await.expect("up");
            let (a, b, c) = (connect().await, connect().await, connect().await);
            let guard = a.mutex("x").expect("name").lock().await.expect("free");
            let token = guard.token();
            let waits = tokio::spawn(async move { c.mutex("x").expect("name").lock().await });
            let text = guard.detach().await.expect("ours").to_string();
            a.close().await.expect("closes");
            let handle: Handle = text.parse().expect("good");
            assert!(b.renew(&handle).await.expect("held") > Duration::from_secs(20));
            let guard = b.adopt(handle.clone()).await.expect("there");
            assert_eq!(guard.token(), token);
            for again in [b.adopt(handle.clone()).await.map(drop), b.release(handle).await] {
                assert_eq!(again.expect_err("used up").kind(), ErrorKind::Lost);
            }
            assert!(!waits.is_finished());
            guard.check().expect("held");
            let handle = guard.detach().await.expect("ours");
            b.release(handle).await.expect("held");
            let next = waits.await.expect("no panic").expect("granted");
            assert!(next.token() > token);
            next.release().await.expect("ours");
        });
    }
}
