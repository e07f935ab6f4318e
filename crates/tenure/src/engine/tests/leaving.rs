//! Releasing, withdrawing, closing.

use super::*;
use crate::backend::{Leave, News, Released, Sink};
use crate::engine::detached;
use crate::error::{Error, ErrorKind, LostReason};

/// Acquires with a first attempt whose answer is lost.
fn held_at_the_second_try(world: &World) -> Turn {
    let mut asked = world.lock(request(TTL), Patience::Forever);
    drop(world.store.attempt());
    world.rt.step(Duration::from_secs(3));
    world.store.attempt().answer(held(1, None));
    world.rt.run();
    granted(&mut asked)
}

fn release(world: &World, turn: Turn, leave: Leave) -> Handle<Result<()>> {
    world.rt.go(async move { turn.release(leave).await })
}

#[test]
fn s9_a_release_marks_the_claim_while_an_attempt_is_unanswered() {
    let world = World::new();
    let turn = held_at_the_second_try(&world);
    let mut released = release(&world, turn, Leave::Nothing);
    let sent = world.store.release();
    assert_eq!(sent.what.1, Leave::Final);
    sent.answer(Released::WasHeld);
    world.rt.run();
    released.done().expect("finished").expect("was ours");
    // Where everything was answered, nothing is left.
    let turn = world.held();
    let _released = release(&world, turn, Leave::Nothing);
    assert_eq!(world.store.release().what.1, Leave::Nothing);
}

#[test]
fn s9_a_hold_that_stays_for_a_while_is_marked_as_well() {
    let world = World::new();
    let turn = held_at_the_second_try(&world);
    let mut released = release(&world, turn, Leave::For(TTL));
    let sent = world.store.release();
    assert_eq!(sent.what.1, Leave::For(TTL));
    sent.answer(Released::WasHeld);
    world.rt.run();
    released.done().expect("finished").expect("was ours");
    assert_eq!(
        world.store.release().what.1,
        Leave::Final,
        "so that it is not granted once more when that is over"
    );
}

#[test]
fn s8_a_repeated_release_that_is_answered_too_late_is_uncertain() {
    for late in [false, true] {
        let world = World::new();
        let mut released = release(&world, world.held(), Leave::Nothing);
        drop(world.store.release());
        world.rt.step(Duration::from_secs(2));
        // The store does not know the claim: a first release whose answer was lost, or a lease that ended.
        let second = world.store.release();
        second.answer(Released::Gone);
        if late {
            world.rt.stop_for(TTL);
        }
        world.rt.run();
        let released = released.done().expect("finished");
        assert_eq!(released.map_err(|e| e.kind()), if late { Err(ErrorKind::Uncertain) } else { Ok(()) });
    }
}

#[test]
fn s8_a_repeated_release_by_handle_that_finds_nothing_is_uncertain() {
    for found in [Released::WasHeld, Released::Gone] {
        let world = World::new();
        let (turn, engine) = (world.held(), world.engine.clone());
        let claim = turn.abandon();
        let mut released = world.rt.go(async move { detached::release(&engine, &claim).await });
        drop(world.store.release());
        world.rt.step(Duration::from_secs(2));
        // Given back by the try whose answer was lost, or ended before that try arrived.
        world.store.release().answer(found);
        world.rt.run();
        let released = released.done().expect("finished").map_err(|e| e.kind());
        assert_eq!(released, if found == Released::WasHeld { Ok(()) } else { Err(ErrorKind::Uncertain) });
    }
}

/// What never left is no reason to believe that an earlier try gave the lock back.
#[test]
fn s8_a_release_that_was_sent_once_and_finds_nothing_is_lost() {
    for unsent in [true, false] {
        let world = World::new();
        let mut released = release(&world, world.held(), Leave::Nothing);
        let error = Error::unavailable("no connection", "");
        world.store.release().fail(if unsent { error.unsent() } else { error });
        // Longer than the pause, and shorter than the second try may take.
        world.rt.step(Duration::from_millis(30));
        world.store.release().answer(Released::Gone);
        world.rt.run();
        let released = released.done().expect("finished").map_err(|e| e.kind());
        assert_eq!(released, if unsent { Err(ErrorKind::Lost) } else { Ok(()) });
    }
}

#[test]
fn a_release_that_is_cut_short_leaves_what_was_asked_for() {
    for leave in [Leave::Nothing, Leave::For(TTL)] {
        let world = World::new();
        let released = release(&world, world.held(), leave);
        drop(world.store.release());
        released.cancel();
        world.rt.run();
        let sent = world.store.release();
        assert_eq!(sent.what.1, leave);
        sent.answer(Released::WasHeld);
        world.rt.step(TTL);
        assert!(!world.store.released(), "once answered, it is over");
    }
}

#[test]
fn s6_a_cancelled_acquire_is_withdrawn_at_every_await() {
    let cut: [fn(&World); 4] = [
        |_| {},
        |w| drop(w.store.attempt()),
        |w| {
            w.store.attempt().fail(Error::unavailable("down", ""));
            w.rt.run();
        },
        |w| {
            w.store.attempt().answer(held(1, None));
            w.rt.run();
        },
    ];
    for (n, before) in cut.iter().enumerate() {
        let world = World::new();
        let mut asked = world.lock(request(TTL), Patience::Forever);
        before(&world);
        drop(asked.done());
        asked.cancel();
        world.rt.run();
        let expected = if n < 3 { Leave::Final } else { Leave::Nothing };
        assert_eq!(world.store.release().what.1, expected, "{n}");
        assert_eq!(world.engine.live(), 0);
    }
}

#[test]
fn s6_nonsense_in_answer_to_an_attempt_is_withdrawn() {
    let world = World::new();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    world.store.attempt().fail(Error::protocol("half an answer", ""));
    world.rt.run();
    let error = asked.done().expect("finished").expect_err("nonsense");
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(world.store.release().what.1, Leave::Final, "it may have been granted");
    let mut asked = world.lock(request(TTL), Patience::Forever);
    world.store.attempt().fail(Error::denied("no", ""));
    world.rt.run();
    assert_eq!(asked.done().expect("finished").expect_err("denied").kind(), ErrorKind::Denied);
    assert!(!world.store.released(), "what the store refused, it did not take");
}

#[test]
fn a_renewal_that_overlaps_the_release_is_no_loss() {
    let world = World::new();
    let turn = world.held();
    let hold = turn.hold.clone();
    world.rt.step(TTL / 3);
    let renewal = world.store.renewal();
    let mut released = release(&world, turn, Leave::Nothing);
    renewal.answer_all(&gone());
    world.rt.run();
    assert!(!matches!(hold.inner().phase, super::super::hold::Phase::Lost(_)), "nothing was lost");
    world.store.release().answer(Released::WasHeld);
    world.rt.run();
    released.done().expect("finished").expect("was ours");
}

#[test]
fn s8_a_release_says_what_is_known() {
    let world = World::new();
    let mut released = release(&world, world.held(), Leave::Nothing);
    world.store.release().answer(Released::Gone);
    world.rt.run();
    assert_eq!(released.done().expect("finished").expect_err("gone").kind(), ErrorKind::Lost);
    let mut released = release(&world, world.held(), Leave::Nothing);
    world.rt.step(TTL * 2);
    assert_eq!(released.done().expect("finished").expect_err("silent").kind(), ErrorKind::Uncertain);
}

#[test]
fn close_marks_what_is_still_asking_and_takes_nothing_afterwards() {
    let world = World::new();
    let held_before = world.held();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    let attempt = world.store.attempt();
    let engine = world.engine.clone();
    let mut closed = world.rt.go(async move { engine.close().await });
    let mut leaves = Vec::new();
    for _ in 0..2 {
        let sent = world.store.release();
        leaves.push(sent.what.1);
        sent.answer(Released::WasHeld);
    }
    leaves.sort_by_key(|leave| *leave == Leave::Final);
    assert_eq!(leaves, [Leave::Nothing, Leave::Final]);
    attempt.answer(held(1, None));
    world.rt.run();
    closed.done().expect("finished").expect("all answered");
    assert_eq!(asked.done().expect("finished").expect_err("closed").kind(), ErrorKind::Config);
    assert_eq!(held_before.check().expect_err("closed").why(), &LostReason::Closed);
    assert!(
        Turn::new(&world.engine, &request(TTL), true, 1, world.engine.core.runtime.now()).is_err(),
        "no claim begins after close"
    );
}

/// Its request, or the next one, would find no connection, and the lock would stay until its lease ends.
#[test]
fn s6_close_waits_for_a_release_that_is_under_way() {
    for answered in [true, false] {
        let world = World::new();
        let mut released = release(&world, world.held(), Leave::Nothing);
        let sent = world.store.release();
        let engine = world.engine.clone();
        let mut closed = world.rt.go(async move { engine.close().await });
        world.rt.run();
        assert!(closed.done().is_none(), "the release has no answer yet");
        if answered {
            sent.answer(Released::WasHeld);
            world.rt.run();
            closed.done().expect("finished").expect("all answered");
            released.done().expect("finished").expect("was ours");
        } else {
            world.rt.step(TTL);
            assert_eq!(closed.done().expect("finished").expect_err("silent").kind(), ErrorKind::Uncertain);
        }
    }
}

#[test]
fn s6_what_the_store_has_after_it_said_gone_is_given_back() {
    for answer in [held(1, None), waiting(0, None)] {
        let world = World::new();
        let asked = world.lock(request(TTL), Patience::Forever);
        let sent = world.store.attempt();
        let id = sent.what.id;
        // The session that it was asked for in is over; the attempt went on in the next one.
        world.hub.news(News::Gone(id, None));
        world.rt.run();
        sent.answer(answer);
        world.rt.run();
        let released = world.store.release();
        assert_eq!((released.what.0.id, released.what.1), (id, Leave::Nothing));
        released.answer(Released::WasHeld);
        world.rt.step(Duration::from_secs(1));
        world.rt.run();
        assert_ne!(world.store.attempt().what.id, id, "asked for again under a new id");
        drop(asked);
    }
}
