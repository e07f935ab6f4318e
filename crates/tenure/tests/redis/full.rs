//! A server whose memory is full, and that evicts nothing: what is there goes on, and nothing new begins.

use libtest_mimic::Trial;
use tenure::backend::{Call, Claim, Leave, Released, Standing};
use tenure::{ErrorKind, Locks};

use crate::contract::{Store, gone, held};
use crate::server::Server;
use crate::{multi, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("full::what_is_held_goes_on", what_is_held_goes_on),
        trial("full::who_waits_goes_on", who_waits_goes_on),
        trial("full::many_at_once", many_at_once),
    ]
}

fn fill(server: &Server) {
    assert_eq!(server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1"]), "OK");
    assert!(server.cli(&["SET", "anything", "else"]).starts_with("OOM"));
}

/// A new claim is refused, and the error says why.
fn refused(store: &Store, claim: &Claim) {
    let attempt = store.backend.attempt(std::slice::from_ref(claim), Call::PATIENT);
    let error = pollster::block_on(attempt).remove(0).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("memory is full"), "{error}");
}

fn what_is_held_goes_on() {
    for scheme in ["redis:", "redis+setnx:"] {
        let server = Server::start();
        let store = Store::open(&server.url().replace("redis:", scheme));
        let [first, second, third, late] = [(); 4].map(|()| store.claim(""));
        store.take(&first);
        fill(&server);
        assert!(held(store.renew(&first)).is_some());
        assert!(held(store.renew(&Claim { reason: "another".into(), ..first.clone() })).is_some());
        assert_eq!(store.line().expect("held").holders[0].reason, "another");
        assert!(held(store.attempt(&first)).is_some(), "asked again");
        assert!(held(store.transfer(&first, &second)).is_some());
        assert_eq!(store.release(&second, Leave::Nothing), Released::WasHeld);
        assert!(store.line().is_none());
        refused(&store, &store.claim(""));
        assert_eq!(store.release(&late, Leave::Final), Released::Gone);
        server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        assert_eq!(store.attempt(&late), gone(None), "the mark was left");
        store.take(&third);
        fill(&server);
        assert_eq!(store.release(&third, Leave::For(third.ttl)), Released::WasHeld);
        let key = &third.key;
        let evicted =
            pollster::block_on(store.backend.evict(key, None, "by hand", Call::PATIENT)).expect("answers");
        assert_eq!(evicted, Released::WasHeld);
        assert!(store.line().is_none());
    }
}

fn who_waits_goes_on() {
    let server = Server::start();
    let store = Store::open(&server.url());
    let [first, second, third, fourth] = [(); 4].map(|()| Claim { stand: true, ..store.claim("") });
    store.take(&first);
    for claim in [&second, &third, &fourth] {
        assert!(held(store.attempt(claim)).is_none());
    }
    fill(&server);
    let waits = |standing: Standing| assert!(matches!(standing, Standing::Waiting { .. }), "{standing:?}");
    waits(store.renew(&third));
    waits(store.attempt(&third));
    refused(&store, &Claim { stand: true, ..store.claim("") });
    assert_eq!(store.release(&second, Leave::Final), Released::WasWaiting);
    // Whoever is granted is recorded.
    assert_eq!(store.release(&first, Leave::Nothing), Released::WasHeld);
    store.told(&third);
    assert_eq!(store.line().expect("held").holders.len(), 1);
    assert!(held(store.renew(&third)).is_some());
    assert_eq!(store.release(&third, Leave::Nothing), Released::WasHeld);
    store.told(&fourth);
    assert_eq!(store.release(&fourth, Leave::Nothing), Released::WasHeld);
    assert!(store.line().is_none());
}

/// Releases that leave in one call, and then claims that are refused in one call.
fn many_at_once() {
    let server = Server::start();
    multi().block_on(async {
        let locks = Locks::connect(&server.url()).await.expect("up");
        let mut guards = Vec::new();
        for n in 0..100 {
            guards.push(locks.mutex(format!("held/{n}")).expect("a name").lock().await.expect("free"));
        }
        fill(&server);
        let releases: Vec<_> =
            guards.into_iter().map(|guard| tokio::spawn(async move { guard.release().await })).collect();
        for release in releases {
            release.await.expect("no panic").expect("released");
        }
        let tries: Vec<_> = (0..20)
            .map(|n| {
                let mutex = locks.mutex(format!("new/{n}")).expect("a name");
                tokio::spawn(async move { mutex.try_lock().await })
            })
            .collect();
        for one in tries {
            let error = one.await.expect("no panic").expect_err("refused");
            assert!(error.to_string().contains("memory is full"), "{error}");
        }
        assert!(locks.list("").await.expect("listed").is_empty());
    });
}
