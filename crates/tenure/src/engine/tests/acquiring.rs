//! Asking: silence, errors, patience.

use super::*;
use crate::error::{Error, ErrorKind};
use crate::runtime::Runtime;

fn kind(asked: &mut Handle<Result<Option<Turn>>>) -> ErrorKind {
    asked.done().expect("finished").expect_err("an error").kind()
}

#[test]
fn a_silent_store_is_unavailable_after_a_waiting_lease() {
    let world = World::new();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    world.rt.step(lease::TTL_WAITING - MS);
    assert!(asked.done().is_none());
    world.rt.step(MS);
    assert_eq!(kind(&mut asked), ErrorKind::Unavailable);
    let mut tried = world.lock(request(TTL), Patience::None);
    world.rt.step(Duration::from_secs(5));
    assert_eq!(kind(&mut tried), ErrorKind::Unavailable);
}

#[test]
fn the_store_s_own_words_are_told() {
    for patience in [Patience::None, Patience::Forever] {
        let world = World::new();
        let mut asked = world.lock(request(TTL), patience);
        for _ in 0..1000 {
            if world.store.failing("it is full") {
                continue;
            }
            world.rt.step(20 * MS);
        }
        let error = asked.done().expect("finished").expect_err("full");
        assert_eq!(error.what(), "it is full", "{patience:?}");
    }
    // A short patience with a store that refuses connections is not "busy".
    let world = World::new();
    let until = world.rt.now() + Duration::from_millis(100);
    let mut asked = world.lock(request(TTL), Patience::Until(until));
    while world.store.failing("refused") || world.rt.now() < until {
        world.rt.step(MS);
    }
    assert_eq!(kind(&mut asked), ErrorKind::Unavailable);
}

#[test]
fn a_waiter_whose_renewals_fail_is_told_why() {
    let world = World::new();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    world.store.attempt().answer(waiting(500, Some(0)));
    for _ in 0..1100 {
        world.rt.step(10 * MS);
        while let Some(renewal) = world.store.next_renewal() {
            let answers = renewal.what.iter().map(|_| Err(Error::denied("revoked", ""))).collect();
            renewal.send(answers);
        }
    }
    assert_eq!(kind(&mut asked), ErrorKind::Denied);
    assert_eq!(world.store.release().what.1, crate::backend::Leave::Nothing, "and its place is given up");
}

#[test]
fn patience_at_its_edges() {
    let world = World::new();
    let now = world.rt.now();
    // Over at once: one request goes out, and is withdrawn.
    let mut asked = world.lock(request(TTL), Patience::Until(now));
    assert!(matches!(asked.done(), Some(Ok(None))));
    assert_eq!(world.store.release().what.1, crate::backend::Leave::Final);
    // For ever, by a duration that does not fit.
    let mut asked = world.lock(request(TTL), Patience::Until(now + Duration::MAX));
    drop(world.store.attempt());
    world.store.attempt().answer(waiting(500, None));
    for _ in 0..20 {
        world.rt.step(Duration::from_secs(1));
        while let Some(renewal) = world.store.next_renewal() {
            renewal.answer_all(&waiting(500, None));
        }
    }
    assert!(asked.done().is_none());
    // Shorter than the round trip.
    let mut asked = world.lock(request(TTL), Patience::Until(world.rt.now() + MS));
    let late = world.store.attempt();
    world.rt.step(MS);
    assert!(matches!(asked.done(), Some(Ok(None))));
    late.answer(held(1, None));
    world.rt.run();
    assert_eq!(world.store.release().what.1, crate::backend::Leave::Final, "it may yet be granted");
}

#[test]
fn a_process_that_was_stopped_for_long_stands_in_line_again() {
    let world = World::new();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    world.store.attempt().answer(waiting(500, Some(0)));
    world.rt.run();
    world.rt.stop_for(Duration::from_secs(60));
    assert!(asked.done().is_none(), "the store was never silent");
    let sent = world.store.release();
    assert_eq!(sent.what.1, crate::backend::Leave::Nothing, "the old place is given up");
    world.rt.step(Duration::from_secs(1));
    world.store.attempt().answer(held(1, None));
    world.rt.run();
    granted(&mut asked);
}

#[test]
fn answers_that_always_come_too_late_end_in_an_error() {
    for patience in [Patience::None, Patience::Forever] {
        let world = World::new();
        let mut asked = world.lock(request(100 * MS), patience);
        let short = Grant { lease: Lease::For(100 * MS), ..grant(1) };
        for _ in 0..3000 {
            let Some(attempt) = world.store.next_attempt() else {
                world.rt.step(10 * MS);
                continue;
            };
            world.rt.step(150 * MS);
            attempt.answer(Answer { standing: Standing::Held(short), at: None });
            world.rt.step(10 * MS);
            while let Some(release) = world.store.next_release() {
                release.answer(crate::backend::Released::WasHeld);
            }
        }
        assert_eq!(kind(&mut asked), ErrorKind::Unavailable, "{patience:?}");
    }
}

#[test]
fn a_claim_that_is_gone_is_asked_for_again_under_a_new_id() {
    let world = World::new();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    let first = world.store.attempt();
    let old = first.what.id;
    first.answer(gone());
    world.rt.step(Duration::from_secs(1));
    let second = world.store.attempt();
    assert_ne!(second.what.id, old);
    second.answer(held(1, None));
    world.rt.run();
    granted(&mut asked);
    assert!(!world.store.released() || world.engine.live() == 0);
}
