//! What a user does first.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tenure::{ErrorKind, Locks, Owner};

use crate::server::Server;
use crate::{multi, single, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("basics::lock_and_release_in_every_surrounding", lock_and_release_in_every_surrounding),
        trial("basics::waiters_are_granted_in_order_by_push", waiters_are_granted_in_order_by_push),
        trial("basics::the_first_connect_is_retried", the_first_connect_is_retried),
        trial("basics::the_domain_of_tokens_outlives_all_data", the_domain_of_tokens_outlives_all_data),
    ]
}

async fn once(url: &str) {
    let locks = Locks::connect(url).await.expect("connects");
    let mutex = locks.mutex("orders/42").expect("a name");
    let first = mutex.lock().await.expect("free");
    assert!(mutex.try_lock().await.expect("answers").is_none());
    let token = first.token();
    first.release().await.expect("ours");
    let second = mutex.try_lock().await.expect("answers").expect("free");
    assert!(second.token() > token);
    second.release().await.expect("ours");
    locks.close().await.expect("closes");
}

fn lock_and_release_in_every_surrounding() {
    let server = Server::start();
    let url = server.url();
    multi().block_on(once(&url));
    single().block_on(once(&url));
    pollster::block_on(once(&url));
    let keys = server.keys();
    assert_eq!(keys, ["tenure:{default/orders/42}:l"]);
    // A runtime without I/O: the connection lives elsewhere.
    let bare = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    bare.block_on(once(&url));
}

/// A program and its server that start at the same time, the server last.
fn the_first_connect_is_retried() {
    let server = Server::start();
    let url = server.url();
    server.kill();
    let patient = |patience| Locks::builder(&url).retry_for(patience).blocking_connect();
    assert_eq!(patient(Duration::ZERO).expect_err("not there").kind(), ErrorKind::Unavailable);
    assert_eq!(patient(Duration::from_millis(200)).expect_err("not there").kind(), ErrorKind::Unavailable);
    // What no retry can cure is told at once.
    let began = Instant::now();
    let wrong = Locks::builder("hots:").retry_for(Duration::from_secs(600)).blocking_connect();
    assert_eq!(wrong.expect_err("no such scheme").kind(), ErrorKind::Config);
    assert!(began.elapsed() < Duration::from_secs(60));
    std::thread::scope(|threads| {
        let connecting = threads.spawn(|| patient(Duration::from_secs(120)));
        std::thread::sleep(Duration::from_millis(300));
        server.launch().expect("it starts again");
        let locks = connecting.join().expect("no panic").expect("connects in the end");
        locks.mutex("a").expect("a name").blocking_lock().expect("free").blocking_release().expect("ours");
    });
}

fn waiters_are_granted_in_order_by_push() {
    let server = Server::start();
    let url = server.url();
    multi().block_on(async {
        let locks = Locks::connect(&url).await.expect("connects");
        let guard = locks.mutex("q").expect("a name").lock().await.expect("free");
        let (send, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut others = Vec::new();
        for n in 0..20u64 {
            let owner = Owner { user: format!("u{n}"), host: "h".into(), pid: 7, program: "p".into() };
            let locks = Locks::builder(&url).owner(owner).connect().await.expect("connects");
            let mutex = locks.mutex("q").expect("a name");
            let send = send.clone();
            others.push(tokio::spawn(async move {
                let guard = mutex.lock().await.expect("granted");
                send.send((n, guard.token())).expect("listened to");
                guard.release().await.expect("ours");
                drop(locks);
            }));
            // In line before the next one comes.
            while guard_line(&url).await <= n {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let line = locks.inspect("q").await.expect("answers").expect("held");
        assert_eq!((line.holders.len(), line.waiters, line.waiting.len()), (1, 20, 20));
        assert_eq!(line.waiting[3].owner.user, "u3");
        let mut last = guard.token();
        guard.release().await.expect("ours");
        for n in 0..20 {
            let (who, token) = order.recv().await.expect("told");
            assert_eq!(who, n);
            assert!(token > last);
            last = token;
        }
        for other in others {
            other.await.expect("no panic");
        }
    });
    assert_eq!(server.keys(), ["tenure:{default/q}:l"]);
}

/// How many wait.
async fn guard_line(url: &str) -> u64 {
    let locks = Locks::connect(url).await.expect("connects");
    locks.inspect("q").await.expect("answers").map_or(0, |l| l.waiters)
}

fn the_domain_of_tokens_outlives_all_data() {
    let server = Server::start();
    let port = server.port;
    let domain = |url: &str| {
        let locks = Locks::blocking_connect(url).expect("connects");
        let named = locks.blocking_domain();
        locks.blocking_close().expect("closes");
        named
    };
    let url = server.url();
    pollster::block_on(once(&url));
    let before = server.keys();
    let name = domain(&url).expect("named");
    assert_eq!(server.keys(), before, "asking writes nothing");
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(name.as_str(), format!("redis:{node}:{port}/0"));
    // Everything is lost, with the server.
    server.kill();
    server.launch().expect("it starts again");
    assert_eq!(server.keys(), [""; 0]);
    assert_eq!(domain(&url).expect("named"), name);
    assert_eq!(domain(&format!("redis://localhost:{port}")).expect("named"), name);
    let plain = format!("redis+setnx://127.0.0.1:{port}");
    assert_eq!(domain(&plain).expect("named").as_str(), format!("redis+setnx:{node}:{port}/0"));
    assert_ne!(domain(&format!("{url}/1")).expect("named"), name, "another database");
    // An operator gives it a name for all addresses.
    server.cli(&["SET", "tenure:domain", "1cache.internal"]);
    assert_eq!(domain(&url).expect("named").as_str(), "redis:cache.internal");
    assert_eq!(domain(&plain).expect("named").as_str(), "redis+setnx:cache.internal");
    for bad in ["", "1", "x", "2cache"] {
        server.cli(&["SET", "tenure:domain", bad]);
        assert_eq!(domain(&url).expect_err("no name").kind(), tenure::ErrorKind::Protocol, "{bad:?}");
    }
}
