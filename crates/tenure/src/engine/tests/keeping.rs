//! Renewing, losing, telling.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Poll, Wake, Waker};

use super::*;
use crate::error::{Error, LostReason};
use crate::runtime::Runtime;

#[test]
fn s5_the_deadline_counts_from_when_the_request_was_sent() {
    let world = World::new();
    let sent = world.rt.now();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    let attempt = world.store.attempt();
    world.rt.step(Duration::from_secs(1));
    attempt.answer(held(1, None));
    world.rt.run();
    let turn = granted(&mut asked);
    assert_eq!(turn.check().expect("held"), lease::deadline(sent, TTL));
    world.rt.step(lease::deadline(sent, TTL).since(world.rt.now()) - MS);
    turn.check().expect("held until its deadline");
    world.rt.step(MS);
    assert_eq!(turn.check().expect_err("over").why(), &LostReason::Expired);
}

/// The end of the lease lies far ahead of the store's clock, which has stepped back.
#[test]
fn s5_no_answer_is_believed_for_longer_than_the_ttl() {
    let world = World::new();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    let mut sent = world.rt.now();
    world.store.attempt().answer(lasting(TTL * 20));
    world.rt.run();
    let turn = granted(&mut asked);
    assert_eq!(turn.check().expect("held"), lease::deadline(sent, TTL));
    for _ in 0..3 {
        world.rt.step(lease::renew_at(sent, TTL).since(world.rt.now()));
        sent = world.rt.now();
        world.store.renewal().answer_all(&lasting(TTL * 100));
        world.rt.run();
        assert_eq!(turn.check().expect("held"), lease::deadline(sent, TTL));
    }
    world.rt.step(TTL);
    assert_eq!(turn.check().expect_err("over").why(), &LostReason::Expired);
}

#[test]
fn s5_the_signal_comes_at_the_deadline_and_a_late_answer_changes_nothing() {
    let world = World::new();
    let turn = Arc::new(world.held());
    let deadline = turn.check().expect("held");
    let (listener, rt) = (turn.clone(), world.rt.clone());
    let mut told = world.rt.go(async move {
        let mut slot = None;
        std::future::poll_fn(|cx| {
            listener.hold.listen(&mut slot, cx.waker()).map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        rt.now()
    });
    world.rt.step(TTL / 3);
    let renewal = world.store.renewal();
    world.rt.step(TTL);
    assert_eq!(told.done(), Some(deadline));
    renewal.answer_all(&held(1, None));
    world.rt.run();
    turn.check().expect_err("lost is lost");
}

/// The store refuses every renewal at once, and comes back 300 ms before the deadline: the lock is kept.
#[test]
fn a_renewal_is_tried_again_in_time_before_the_deadline() {
    for seed in 0..20 {
        let world = World::new();
        let ttl = Duration::from_secs(3) + MS * seed;
        let mut asked = world.lock(request(ttl), Patience::Forever);
        world.store.attempt().answer(lasting(ttl));
        world.rt.run();
        let turn = granted(&mut asked);
        let deadline = turn.check().expect("held");
        while world.rt.now() < deadline - MS * 300 {
            world.rt.step(MS);
            while let Some(renewal) = world.store.next_renewal() {
                renewal.send(vec![Err(Error::unavailable("no room", ""))]);
                world.rt.run();
            }
        }
        for _ in 0..299 {
            world.rt.step(MS);
            while let Some(renewal) = world.store.next_renewal() {
                renewal.answer_all(&lasting(ttl));
                world.rt.run();
            }
        }
        assert!(turn.check().expect("kept") > deadline);
    }
}

#[test]
fn nothing_spins_before_a_deadline() {
    // The runtime panics where something does.
    let world = World::new();
    let first = world.held();
    world.rt.step(MS * 3);
    let second = world.held();
    world.rt.step(TTL * 2);
    first.check().expect_err("nobody answered");
    second.check().expect_err("nobody answered");
}

#[test]
fn l6_renewals_that_are_never_answered_do_not_pile_up() {
    let world = World::new();
    let before = world.rt.tasks();
    let turns: Vec<_> = (0..50).map(|_| world.held()).collect();
    world.rt.step(TTL * 4);
    drop(turns);
    while world.store.released() {}
    world.rt.step(lease::MARK_LIFE * 4);
    assert!(world.rt.tasks() <= before + 1, "{} tasks live on", world.rt.tasks());
}

#[test]
fn l6_an_unanswered_renewal_is_repeated_alone() {
    let world = World::new();
    let turns: Vec<_> = (0..3).map(|_| world.held()).collect();
    world.rt.step(TTL / 3);
    assert_eq!(world.store.renewal().what.len(), 3, "together, and its answer is lost");
    world.rt.step(lease::renew_patience(TTL));
    for _ in 0..2 {
        let alone = world.store.renewal();
        assert_eq!(alone.what.len(), 1);
        alone.answer_all(&held(1, None));
    }
    world
        .rt
        .step(lease::deadline(crate::core::moment::Moment(0), TTL).since(crate::core::moment::Moment(0)) / 2);
    let still = turns.iter().filter(|turn| turn.check().is_ok()).count();
    assert_eq!(still, 2, "the sick one is lost, the others are not");
}

#[test]
fn l6_many_claims_of_all_leases_are_renewed_in_batches_and_none_starves() {
    let world = World::new();
    let leases = [100 * MS, Duration::from_secs(1), TTL, lease::TTL_MAX];
    let mut turns = Vec::new();
    for n in 0..20_000 {
        let ttl = leases[n % leases.len()];
        let mut asked = world.lock(request(ttl), Patience::Forever);
        world.store.attempt().answer(lasting(ttl));
        world.rt.run();
        turns.push(granted(&mut asked));
    }
    for _ in 0..300 {
        world.rt.step(10 * MS);
        while let Some(renewal) = world.store.next_renewal() {
            assert!(renewal.what.len() <= 100);
            let answers = renewal.what.iter().map(|claim| Ok(lasting(claim.ttl))).collect();
            renewal.send(answers);
        }
    }
    world.rt.run();
    assert_eq!(turns.iter().filter(|t| t.check().is_err()).count(), 0);
}

fn lasting(ttl: Duration) -> Answer {
    let grant = Grant { lease: Lease::For(ttl), ..grant(1) };
    Answer { standing: Standing::Held(grant), at: None }
}

#[test]
fn a_description_given_during_a_renewal_is_sent_at_once() {
    let world = World::new();
    let turn = world.held();
    world.rt.step(TTL / 3);
    let renewal = world.store.renewal();
    turn.describe(owner(2));
    world.rt.step(MS);
    renewal.answer_all(&held(1, None));
    world.rt.run();
    assert_eq!(world.store.renewal().what[0].owner.pid, 2);
}

/// A waker of a user who does not care.
struct Rude(AtomicUsize);

impl Wake for Rude {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("a user's waker panics");
    }
}

#[test]
fn a_waker_that_panics_harms_neither_the_other_listeners_nor_the_other_locks() {
    let world = World::new();
    let (first, other) = (world.held(), world.held());
    let rude = Arc::new(Rude(AtomicUsize::new(0)));
    let waker = Waker::from(rude.clone());
    let (mut a, mut b) = (None, None);
    assert!(first.hold.listen(&mut a, &waker).is_none());
    assert!(first.hold.listen(&mut b, &waker).is_none());
    world.rt.step(TTL / 3);
    world.store.renewal().send(vec![Ok(gone()), Ok(held(1, None))]);
    world.rt.run();
    assert_eq!(rude.0.load(Ordering::Relaxed), 2, "both were told");
    assert!(other.check().is_ok());
    world.rt.step(TTL / 3);
    assert_eq!(world.store.renewal().what[0].id, other.hold.claim.id, "and the keeper goes on");
}

/// A waker that, like a task that owns a guard, uses the hold while it is dropped.
struct Owning(Arc<super::super::Hold>, mpsc::Sender<()>);

impl Wake for Owning {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Owning {
    fn drop(&mut self) {
        let (hold, done) = (self.0.clone(), self.1.clone());
        let (free, is_free) = mpsc::channel();
        std::thread::spawn(move || {
            drop(hold.inner());
            let _ = free.send(());
        });
        if is_free.recv_timeout(Duration::from_secs(5)).is_ok() {
            let _ = done.send(());
        }
    }
}

#[test]
fn no_waker_is_dropped_under_the_lock() {
    let world = World::new();
    let turn = world.held();
    let (done, dropped) = mpsc::channel();
    let fresh = || Waker::from(Arc::new(Owning(turn.hold.clone(), done.clone())));
    let mut slot = None;
    let _ = turn.hold.listen(&mut slot, &fresh());
    let _ = turn.hold.listen(&mut slot, &fresh());
    turn.hold.unlisten(slot);
    turn.hold.inner().await_change(&fresh());
    turn.hold.inner().await_change(&fresh());
    let free = dropped.try_iter().count();
    assert_eq!(free, 3, "replaced, removed, replaced: each time the hold could be used");
}

#[test]
fn no_claim_id_is_ever_printed() {
    let world = World::new();
    let turn = world.held();
    let printed = format!("{turn:?} {:?} {:?}", world.engine, world.hub);
    let ids = world.engine.ids.lock().expect("no panic in there").clone();
    assert!(!ids.is_empty(), "ids are drawn in advance, and kept");
    for id in ids.into_iter().chain([turn.hold.claim.id.0]) {
        assert!(!printed.contains(&id.to_string()) && !printed.contains(&format!("{id:x}")));
    }
}
