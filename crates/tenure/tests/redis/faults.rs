//! Servers that stop, start, forget, freeze; runtimes that block and end.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tenure::{ErrorKind, Fact, Locks, LostReason, Needs, Survives};

use crate::server::Server;
use crate::{multi, single, soon, trial};
use tenure_servers::proxy::Proxy;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("faults::the_script_cache_is_lost", the_script_cache_is_lost),
        trial("faults::restart_without_data", restart_without_data),
        trial("faults::restart_with_data", restart_with_data),
        trial("faults::restart_with_an_older_copy", restart_with_an_older_copy),
        trial("faults::failover_to_an_empty_server", failover_to_an_empty_server),
        trial("faults::slow_for_one_key", slow_for_one_key),
        trial("faults::frozen_for_longer_than_the_lease", frozen_for_longer_than_the_lease),
        trial("faults::a_dead_server_delays_nobody_else", a_dead_server_delays_nobody_else),
        trial("faults::dropped_by_the_last_statement", dropped_by_the_last_statement),
        trial("faults::the_runtime_is_gone", the_runtime_is_gone),
        trial("faults::the_runtime_ends_before_its_first_turn", the_runtime_ends_at_once),
        trial("faults::reconnecting_backs_off", reconnecting_backs_off),
        trial("faults::a_late_failure_to_connect_leaves_nothing", a_late_failure_to_connect_leaves_nothing),
        trial("faults::a_lost_push_is_repaired", a_lost_push_is_repaired),
    ]
}

async fn token(locks: &Locks, name: &str) -> tenure::Token {
    let guard = locks.mutex(name).expect("a name").lock().await.expect("granted");
    let token = guard.token();
    guard.release().await.expect("ours");
    token
}

fn the_script_cache_is_lost() {
    let server = Server::start();
    multi().block_on(async {
        let (a, b) = (
            Locks::connect(&server.url()).await.expect("up"),
            Locks::connect(&server.url()).await.expect("up"),
        );
        let guard = a.mutex("x").expect("a name").lock().await.expect("free");
        let waiter = b.mutex("x").expect("a name");
        let waiter = tokio::spawn(async move { waiter.lock().await });
        soon("in line", async || a.inspect("x").await.is_ok_and(|l| l.is_some_and(|l| l.waiters == 1))).await;
        server.cli(&["SCRIPT", "FLUSH"]);
        guard.release().await.expect("ours");
        let guard = waiter.await.expect("no panic").expect("granted");
        server.cli(&["SCRIPT", "FLUSH"]);
        assert_eq!(a.list("").await.expect("listed").len(), 1);
        server.cli(&["SCRIPT", "FLUSH"]);
        drop(guard);
        // Many at once, none of them prepared.
        server.cli(&["SCRIPT", "FLUSH"]);
        let many: Vec<_> = (0..50)
            .map(|n| {
                let a = a.clone();
                tokio::spawn(async move { token(&a, &format!("many/{n}")).await })
            })
            .collect();
        for one in many {
            one.await.expect("no panic");
        }
    });
}

fn restart_without_data() {
    let server = Server::start();
    let url = server.url();
    multi().block_on(async {
        let locks = Locks::builder(&url).ttl(Duration::from_secs(3)).connect().await.expect("up");
        assert_eq!(locks.capabilities().survives, Survives::NOTHING);
        let before = token(&locks, "y").await;
        let guard = locks.mutex("x").expect("a name").lock().await.expect("free");
        server.kill();
        server.launch().expect("it starts again");
        // An empty server: the hold is gone, the token still grows.
        let lost = guard.lost().await;
        assert_eq!(*lost.why(), LostReason::Gone);
        let first = guard.token();
        drop(guard);
        assert!(token(&locks, "x").await > first);
        assert!(token(&locks, "y").await > before);
        server.kill();
        let refused = locks.mutex("z").expect("a name").try_lock().await.expect_err("nobody there");
        assert!(refused.kind().may_pass(), "{refused}");
        assert_eq!(Locks::connect(&url).await.expect_err("nobody there").kind(), ErrorKind::Unavailable);
    });
}

fn restart_with_data() {
    let server = Server::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let url = server.url();
    multi().block_on(async {
        let locks = Locks::builder(&url).ttl(Duration::from_secs(5)).connect().await.expect("up");
        let survives = locks.capabilities().survives;
        assert_eq!((survives.restart, survives.power_loss), (Fact::Yes, Fact::Yes));
        // Whatever is on its disk: a replica that takes over may grant twice.
        locks.require(Needs::new().survives_power_loss()).expect("it is on the disk");
        let error = locks.require(Needs::new().survives_failover()).expect_err("replicas lag");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let guard = locks.mutex("x").expect("a name").lock().await.expect("free");
        let other = Locks::connect(&url).await.expect("up");
        let waiter = other.mutex("x").expect("a name");
        let waiting = tokio::spawn(async move { waiter.lock().await });
        soon("in line", async || locks.inspect("x").await.is_ok_and(|l| l.is_some_and(|l| l.waiters == 1)))
            .await;
        server.kill();
        server.launch().expect("it starts again");
        // Renewed on the new connection, past what was left of the lease.
        let first = guard.remaining();
        soon("renewed", async || guard.remaining() > first).await;
        guard.check().expect("still ours");
        let before = guard.token();
        guard.release().await.expect("ours");
        let next = waiting.await.expect("no panic").expect("granted");
        assert!(next.token() > before);
        next.release().await.expect("ours");
    });
}

fn restart_with_an_older_copy() {
    let server = Server::start();
    let url = server.url();
    multi().block_on(async {
        let locks = Locks::builder(&url).ttl(Duration::from_secs(2)).connect().await.expect("up");
        let first = token(&locks, "x").await;
        server.cli(&["SAVE"]);
        let second = token(&locks, "x").await;
        server.kill();
        server.launch().expect("it starts again");
        let third = token(&locks, "x").await;
        assert!(first < second && second < third, "{first} {second} {third}");
    });
}

/// Another server answers at the address, and it is empty, while the one before still has all.
fn failover_to_an_empty_server() {
    let (old, new) = (Server::start(), Server::start());
    let proxy = Proxy::to(old.port).expect("a free port");
    multi().block_on(async {
        let builder = || Locks::builder(&proxy.url("redis")).ttl(Duration::from_secs(3));
        let (one, two) = (builder().connect().await.expect("up"), builder().connect().await.expect("up"));
        let guard = one.mutex("x").expect("a name").lock().await.expect("free");
        let waiter = two.mutex("x").expect("a name");
        let waiting = tokio::spawn(async move { waiter.lock().await });
        soon("in line", async || one.inspect("x").await.is_ok_and(|l| l.is_some_and(|l| l.waiters == 1)))
            .await;
        proxy.lead_to(new.port);
        // The new one has never heard of the hold, nor of the place in line, nor of the scripts.
        let lost = guard.lost().await;
        assert_eq!(*lost.why(), LostReason::Gone);
        assert!(guard.check().is_err());
        let next = match waiting.await.expect("no panic") {
            Ok(next) => next,
            Err(error) => {
                assert!(error.kind().may_pass(), "{error}");
                two.mutex("x").expect("a name").lock().await.expect("granted")
            }
        };
        assert!(next.token() > guard.token(), "{} after {}", next.token(), guard.token());
        let late = guard.release().await.expect_err("not ours any more");
        assert_eq!(late.kind(), ErrorKind::Lost);
        next.check().expect("spared by a stranger's release");
        next.release().await.expect("ours");
    });
}

/// L6: whatever is about one lock takes longer than the others' renewals are apart.
fn slow_for_one_key() {
    let server = Server::start();
    let proxy = Proxy::to(server.port).expect("a free port");
    multi().block_on(async {
        let ttl = Duration::from_secs(4);
        let locks = Locks::builder(&proxy.url("redis")).ttl(ttl).connect().await.expect("up");
        let sick = locks.mutex("sick").expect("a name").lock().await.expect("free");
        let mut kept = Vec::new();
        for n in 0..20 {
            kept.push(locks.mutex(format!("well/{n}")).expect("a name").lock().await.expect("free"));
        }
        proxy.set(|now| now.slow = Some(("/sick}".to_owned(), Duration::from_millis(700))));
        for _ in 0..3 {
            tokio::time::sleep(ttl).await;
            for guard in &kept {
                guard.check().expect("renewed all the while");
            }
            token(&locks, "another").await;
        }
        assert!(proxy.struck(), "nothing was slow");
        drop(sick);
        for guard in kept {
            guard.release().await.expect("ours");
        }
        soon("free", async || locks.list("").await.is_ok_and(|l| l.is_empty())).await;
    });
}

fn frozen_for_longer_than_the_lease() {
    let server = Server::start();
    multi().block_on(async {
        let locks = Locks::builder(&server.url()).ttl(Duration::from_secs(1)).connect().await.expect("up");
        let guard = locks.mutex("x").expect("a name").lock().await.expect("free");
        server.freeze();
        let lost = guard.lost().await;
        assert_eq!(*lost.why(), LostReason::Expired);
        let before = guard.token();
        drop(guard);
        let waiting = tokio::spawn({
            let locks = locks.clone();
            async move { locks.mutex("x").expect("a name").lock().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.thaw();
        let outcome = waiting.await.expect("no panic");
        let guard = match outcome {
            Ok(guard) => guard,
            Err(error) => {
                assert!(error.kind().may_pass(), "{error}");
                locks.mutex("x").expect("a name").lock().await.expect("granted")
            }
        };
        assert!(guard.token() > before);
        guard.release().await.expect("ours");
        soon("free", async || locks.inspect("x").await.is_ok_and(|l| l.is_none())).await;
    });
}

/// L6: two servers, one of them silent.
fn a_dead_server_delays_nobody_else() {
    let (good, bad) = (Server::start(), Server::start());
    multi().block_on(async {
        let ttl = Duration::from_secs(3);
        let a = Locks::builder(&good.url()).ttl(ttl).connect().await.expect("up");
        let b = Locks::builder(&bad.url()).ttl(ttl).connect().await.expect("up");
        let kept = a.mutex("x").expect("a name").lock().await.expect("free");
        let lost = b.mutex("x").expect("a name").lock().await.expect("free");
        bad.freeze();
        lost.lost().await;
        tokio::time::sleep(2 * ttl).await;
        kept.check().expect("renewed all the while");
        token(&a, "y").await;
        bad.thaw();
    });
}

/// A guard is dropped and the program ends: nothing is left.
fn dropped_by_the_last_statement() {
    let server = Server::start();
    let url = server.url();
    for runtime in [single(), multi()] {
        runtime.block_on(async {
            let locks = Locks::connect(&url).await.expect("up");
            let guard = locks.mutex("x").expect("a name").lock().await.expect("free");
            drop((guard, locks));
        });
        drop(runtime);
        let watcher = Locks::blocking_connect(&url).expect("up");
        assert!(watcher.blocking_inspect("x").expect("answers").is_none());
    }
}

/// The runtime that connected is dropped before it polled any task: pushes come all the same.
fn the_runtime_ends_at_once() {
    let server = Server::start();
    let url = server.url();
    let runtime = single();
    let locks = runtime.block_on(Locks::connect(&url)).expect("connects");
    drop(runtime);
    let other = Locks::blocking_connect(&url).expect("connects");
    let handed_over = |_| {
        let held = other.mutex("m").expect("a name").blocking_lock().expect("free");
        let lock = locks.mutex("m").expect("a name");
        let waiter = std::thread::spawn(move || {
            lock.blocking_lock().expect("granted").blocking_release().expect("held");
            Instant::now()
        });
        while other.blocking_inspect("m").expect("looks").is_none_or(|line| line.waiters != 1) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let released = Instant::now();
        held.blocking_release().expect("held");
        waiter.join().expect("no panic").saturating_duration_since(released)
    };
    // Without pushes each of them takes two seconds.
    let soonest = (0..5).map(handed_over).min().expect("five");
    assert!(soonest < Duration::from_secs(1), "each hand-over took {soonest:?} or longer");
}

/// A server that drops connections right after the handshake is not flooded with new ones.
fn reconnecting_backs_off() {
    let server = Server::start();
    let proxy = Proxy::to(server.port).expect("a free port");
    let locks = Locks::blocking_connect(&proxy.url("redis")).expect("connects");
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        proxy.refuse();
        proxy.accept();
        std::thread::sleep(Duration::from_millis(10));
    }
    let made = proxy.made();
    assert!(made < 60, "{made} connections in two seconds");
    // And once they last, all is well.
    let lock = locks.mutex("a").expect("a name");
    lock.blocking_lock().expect("granted").blocking_release().expect("held");
}

/// The last thing that a client asks when it connects is what its user may run.
fn a_late_failure_to_connect_leaves_nothing() {
    let server = Server::start();
    let proxy = Proxy::to(server.port).expect("a free port");
    // Longer than a client waits for an answer.
    proxy.set(|now| now.slow = Some(("permitted: which of the commands".to_owned(), Duration::from_secs(4))));
    let error = Locks::blocking_connect(&proxy.url("redis")).expect_err("it gets no answer");
    assert!(error.kind().may_pass(), "{error}");
    assert!(proxy.struck(), "it failed before");
    let clients = || server.cli(&["CLIENT", "LIST"]).lines().filter(|l| l.contains("name=tenure")).count();
    single().block_on(soon("closed", async || clients() == 0));
    // Nor does anything connect again. The client may have done so once before it gave up.
    let made = proxy.made();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((clients(), proxy.made()), (0, made));
}

fn the_runtime_is_gone() {
    let server = Server::start();
    let first = multi();
    let locks =
        first.block_on(Locks::builder(&server.url()).ttl(Duration::from_secs(3)).connect()).expect("up");
    let held = first.block_on(locks.mutex("x").expect("a name").lock()).expect("free");
    let other = Locks::blocking_connect(&server.url()).expect("up");
    let blocker = other.mutex("y").expect("a name").blocking_lock().expect("free");
    drop(first);
    // Renewals and verbs go on, and so do pushes.
    std::thread::sleep(Duration::from_secs(5));
    held.check().expect("renewed");
    let waiting = std::thread::spawn({
        let mutex = locks.mutex("y").expect("a name");
        move || mutex.blocking_lock()
    });
    let watcher = Locks::blocking_connect(&server.url()).expect("up");
    while watcher.blocking_inspect("y").expect("answers").is_none_or(|l| l.waiters == 0) {
        std::thread::yield_now();
    }
    blocker.blocking_release().expect("ours");
    waiting.join().expect("no panic").expect("granted").blocking_release().expect("ours");
    held.blocking_release().expect("ours");
}

/// L5: a lost push costs at most one look again.
fn a_lost_push_is_repaired() {
    struct Deaf(std::sync::Arc<dyn tenure::backend::Sink>);
    impl tenure::backend::Sink for Deaf {
        fn news(&self, news: tenure::backend::News) {
            if !matches!(news, tenure::backend::News::Granted(..) | tenure::backend::News::Look(_)) {
                self.0.news(news);
            }
        }
    }
    let server = Server::start();
    multi().block_on(async {
        let a = Locks::connect(&server.url()).await.expect("up");
        let deaf = Locks::builder(&server.url()).wrap_sink(|sink| std::sync::Arc::new(Deaf(sink)));
        let b = deaf.connect().await.expect("up");
        let guard = a.mutex("x").expect("a name").lock().await.expect("free");
        let waiter = b.mutex("x").expect("a name");
        let waiting = tokio::spawn(async move { waiter.lock().await });
        soon("in line", async || a.inspect("x").await.is_ok_and(|l| l.is_some_and(|l| l.waiters == 1))).await;
        guard.release().await.expect("ours");
        let guard = tokio::time::timeout(Duration::from_secs(5), waiting).await;
        guard.expect("repaired").expect("no panic").expect("granted").release().await.expect("ours");
    });
}
