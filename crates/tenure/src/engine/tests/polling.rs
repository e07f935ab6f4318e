//! Claims that have no place in the store: the engine attempts again.

use super::*;
use crate::backend::{Leave, News, Part, Sink};
use crate::error::Error;
use crate::runtime::Runtime;

const LOOK: Duration = Duration::from_millis(25);

/// The lock is busy, and the store keeps no place.
fn placeless() -> Answer {
    Answer { standing: Standing::Waiting { place: None, ahead: None, look_again: LOOK }, at: None }
}

/// Lets time pass until the next attempt arrives, and says how long that took.
fn next_pause(world: &World) -> (Duration, script::Sent<crate::backend::Claim, Result<Answer>>) {
    let began = world.rt.now();
    loop {
        if let Some(attempt) = world.store.next_attempt() {
            return (world.rt.now().since(began), attempt);
        }
        assert!(!world.store.renewed(), "a claim without a place is never renewed");
        world.rt.step(MS);
    }
}

#[test]
fn a_claim_without_a_place_is_attempted_again_and_granted() {
    let world = World::new();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    let id = {
        let attempt = world.store.attempt();
        let id = attempt.what.id;
        attempt.answer(placeless());
        world.rt.run();
        id
    };
    for _ in 0..50 {
        let (pause, attempt) = next_pause(&world);
        assert!(pause >= LOOK && pause <= LOOK * 2 + MS, "{pause:?}");
        assert_eq!(attempt.what.id, id, "the same claim");
        attempt.answer(placeless());
        world.rt.run();
    }
    let (_, attempt) = next_pause(&world);
    let sent = world.rt.now();
    attempt.answer(held(1, None));
    world.rt.run();
    let turn = granted(&mut asked);
    assert!(turn.check().expect("held") <= lease::deadline(sent, TTL));
    // From now on it is renewed.
    world.rt.step(TTL / 3 + MS);
    world.store.renewal().answer_all(&held(1, None));
    assert!(world.store.next_attempt().is_none());
}

#[test]
fn s9_a_withdrawal_is_final_only_while_an_attempt_is_unanswered() {
    for answered in [true, false] {
        let world = World::new();
        let asked = world.lock(request(TTL), Patience::Forever);
        world.store.attempt().answer(placeless());
        world.rt.run();
        let (_, attempt) = next_pause(&world);
        let late = if answered {
            attempt.answer(placeless());
            world.rt.run();
            None
        } else {
            Some(attempt)
        };
        asked.cancel();
        world.rt.run();
        match late {
            None => assert!(world.store.next_release().is_none(), "there is nothing to withdraw"),
            Some(late) => {
                assert_eq!(world.store.release().what.1, Leave::Final);
                late.answer(held(1, None)); // comes too late to be believed
                world.rt.run();
            }
        }
        assert_eq!(world.engine.live(), 0);
    }
}

/// An attempt that never left leaves nothing to withdraw; one that failed on its way may have arrived.
#[test]
fn s9_an_attempt_that_was_not_sent_needs_no_withdrawal() {
    for unsent in [true, false] {
        let world = World::new();
        let asked = world.lock(request(TTL), Patience::Forever);
        world.store.attempt().answer(placeless());
        world.rt.run();
        let (_, attempt) = next_pause(&world);
        let error = Error::unavailable("no connection", "");
        attempt.fail(if unsent { error.unsent() } else { error });
        world.rt.run();
        asked.cancel();
        world.rt.run();
        assert_eq!(world.store.next_release().is_none(), unsent);
    }
}

#[test]
fn a_store_that_stops_answering_is_reported_after_the_waiting_lease() {
    let world = World::new();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    world.store.attempt().answer(placeless());
    world.rt.run();
    let mut lost = Vec::new();
    for _ in 0..1200 {
        world.rt.step(MS * 10);
        while let Some(attempt) = world.store.next_attempt() {
            lost.push(attempt);
        }
    }
    let error = asked.done().expect("finished").expect_err("nobody answers");
    assert_eq!(error.kind(), crate::ErrorKind::Unavailable, "{error}");
    assert!(lost.len() < 20, "asked {} times while nobody answers", lost.len());
}

#[test]
fn waiters_without_a_place_come_neither_in_bursts_nor_more_often_in_a_crowd() {
    let world = World::new();
    let asked: Vec<_> = (0..320)
        .map(|_| {
            let asked = world.lock(request(TTL), Patience::Forever);
            world.store.attempt().answer(placeless());
            world.rt.run();
            asked
        })
        .collect();
    let (mut most, mut all) = (0, 0);
    // The first to come did not know how many there would be: let them settle.
    for ms in 0..2000 {
        let mut now = 0;
        while let Some(attempt) = world.store.next_attempt() {
            attempt.answer(placeless());
            world.rt.run();
            now += 1;
        }
        if ms >= 1000 {
            (most, all) = (most.max(now), all + now);
        }
        world.rt.step(MS);
    }
    // Alone, each would ask some 27 times a second: 8,500 attempts.
    assert!(all < 1500, "{all} attempts in a second");
    assert!(most < 60, "{most} attempts at once");
    drop(asked);
}

#[test]
fn l6_a_lost_link_wakes_only_those_who_wait_for_pushes_of_its_part() {
    let world = World::new();
    let _polls = world.lock(request(TTL), Patience::Forever);
    world.store.attempt().answer(placeless());
    world.rt.run();
    world.hub.news(News::LinkDown(Part::WHOLE));
    world.rt.run();
    assert!(world.store.next_attempt().is_none(), "it asks at its own pace");
    let _waits = world.lock(request(TTL), Patience::Forever);
    world.store.attempt().answer(waiting(500, Some(1)));
    world.rt.run();
    world.hub.news(News::LinkDown(Part(7)));
    world.rt.run();
    assert!(!world.store.renewed(), "another part of the store");
    world.hub.news(News::LinkDown(Part::WHOLE));
    world.rt.run();
    assert!(world.store.renewed(), "its push may be lost");
}
