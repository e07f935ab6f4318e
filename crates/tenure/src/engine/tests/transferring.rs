//! A hold that goes on under another claim.

use super::*;
use crate::backend::{Anchor, Claim, ClaimId, Leave, News, Released, Sink};
use crate::engine::adopt;
use crate::error::{Error, ErrorKind, LostReason};
use crate::runtime::Runtime;

fn transfer(world: &World, turn: Turn) -> Handle<Result<Turn>> {
    world.rt.go(async move { turn.transfer(&request(TTL), Anchor::Process).await })
}

/// The request that is sent again after one was not answered.
fn the_next(world: &World) -> super::script::Sent<(Claim, Claim), Result<Answer>> {
    for _ in 0..100 {
        world.rt.step(MS * 50);
        if let Some(sent) = world.store.next_transfer() {
            return sent;
        }
    }
    panic!("not asked again");
}

/// What was released, each answered.
fn releases(world: &World) -> Vec<(ClaimId, Leave)> {
    let mut out = Vec::new();
    while let Some(sent) = world.store.next_release() {
        out.push((sent.what.0.id, sent.what.1));
        sent.answer(Released::Gone);
        world.rt.run();
    }
    out.sort_by_key(|(id, _)| *id);
    out
}

/// The withdrawal of both claims, the second of which may have arrived.
fn both(ids: (ClaimId, ClaimId)) -> Vec<(ClaimId, Leave)> {
    let mut out = vec![(ids.0, Leave::Nothing), (ids.1, Leave::Final)];
    out.sort_by_key(|(id, _)| *id);
    out
}

#[test]
fn the_second_claim_goes_on_and_the_first_is_not_released() {
    let world = World::new();
    let turn = world.held();
    let first = turn.hold.claim.id;
    world.rt.step(MS * 3000);
    let sent_at = world.rt.now();
    let mut moved = transfer(&world, turn);
    let sent = world.store.transfer();
    assert_eq!((sent.what.0.id, sent.what.1.anchor), (first, Anchor::Process));
    assert_ne!(sent.what.1.id, first);
    world.rt.step(MS * 500);
    sent.answer(held(1, None));
    world.rt.run();
    let next = moved.done().expect("finished").expect("goes on");
    assert_eq!(next.grant().and_then(|g| g.token), Token::new(1));
    assert_eq!(next.check().expect("held"), lease::deadline(sent_at, TTL), "counted from the request");
    assert_eq!(releases(&world), [], "the first one was used up by the transfer");
    world.rt.step(TTL / 3);
    let renewal = world.store.renewal();
    let renewed: Vec<_> = renewal.what.iter().map(|c| c.id).collect();
    assert_eq!(renewed, [next.hold.claim.id], "renewed under its own id from now on");
    assert_eq!(world.engine.live(), 1);
    let id = next.hold.claim.id;
    drop(next);
    assert_eq!(releases(&world), [(id, Leave::Nothing)]);
}

#[test]
fn s7_a_lost_answer_to_a_transfer_is_asked_for_again_under_the_same_ids() {
    for silent in [true, false] {
        let world = World::new();
        let mut moved = transfer(&world, world.held());
        let first = world.store.transfer();
        let ids = (first.what.0.id, first.what.1.id);
        if silent {
            drop(first);
        } else {
            first.fail(Error::uncertain("the connection broke", ""));
        }
        let second = the_next(&world);
        assert_eq!((second.what.0.id, second.what.1.id), ids);
        second.answer(held(1, None));
        world.rt.run();
        let next = moved.done().expect("finished").expect("goes on");
        assert_eq!(releases(&world), []);
        drop(next);
        assert_eq!(releases(&world), [(ids.1, Leave::Final)], "the first request may still be on its way");
    }
}

#[test]
fn s6_a_cancelled_transfer_is_withdrawn_at_every_await() {
    let cut: [fn(&World); 4] = [
        |_| {},
        |w| drop(w.store.transfer()),
        |w| {
            drop(w.store.transfer());
            w.rt.step(MS * 2001);
        },
        |w| {
            w.store.transfer().fail(Error::unavailable("down", ""));
            w.rt.run();
        },
    ];
    for before in cut {
        let world = World::new();
        let turn = world.held();
        let first = turn.hold.claim.id;
        let moved = transfer(&world, turn);
        let known: Vec<_> = world.engine.core.registry().all().iter().map(|h| h.claim.id).collect();
        let second = *known.iter().find(|id| **id != first).expect("entered before it was sent");
        before(&world);
        moved.cancel();
        world.rt.run();
        assert_eq!(releases(&world), both((first, second)));
        assert_eq!(world.engine.live(), 0);
        world.rt.step(TTL * 2);
        assert!(world.store.next_transfer().is_none_or(|sent| sent.what.1.id == second));
        assert!(world.store.next_renewal().is_none(), "nobody renews either of them");
    }
}

#[test]
fn s8_a_hold_that_is_gone_cannot_go_on() {
    for why in [None, Some("enough".to_owned())] {
        let world = World::new();
        let turn = world.held();
        let mut moved = transfer(&world, turn);
        world.store.transfer().answer(Answer { standing: Standing::Gone { why: why.clone() }, at: None });
        world.rt.run();
        let error = moved.done().expect("finished").expect_err("gone");
        let reason = why.map_or(LostReason::Gone, LostReason::Evicted);
        assert_eq!(error.lost().map(|lost| lost.why()), Some(&reason));
        assert_eq!(releases(&world), [], "there is nothing to give back");
        assert_eq!(world.engine.live(), 0);
    }
}

#[test]
fn what_the_store_refuses_is_given_back() {
    for (error, marked) in [(Error::config("larger", ""), false), (Error::protocol("half", ""), true)] {
        let world = World::new();
        let kind = error.kind();
        let mut moved = transfer(&world, world.held());
        let sent = world.store.transfer();
        let ids = (sent.what.0.id, sent.what.1.id);
        sent.fail(error);
        world.rt.run();
        assert_eq!(moved.done().expect("finished").expect_err("refused").kind(), kind);
        let expected = if marked { both(ids) } else { vec![(ids.0, Leave::Nothing)] };
        assert_eq!(releases(&world), expected, "behind nonsense there may be a hold");
        assert_eq!(world.engine.live(), 0);
    }
}

#[test]
fn s8_a_transfer_that_nobody_answers_ends_with_the_old_hold_and_is_withdrawn() {
    // A long lease does not make it longer than what the store listens to.
    for (ttl, longest) in [(TTL / 3, TTL / 3), (TTL * 100, lease::MARK_LIFE / 2)] {
        let world = World::new();
        let mut asked = world.lock(request(ttl), Patience::Forever);
        let lease = Grant { lease: Lease::For(ttl), ..grant(1) };
        world.store.attempt().answer(Answer { standing: Standing::Held(lease), at: None });
        world.rt.run();
        let mut moved = transfer(&world, granted(&mut asked));
        let sent = world.store.transfer();
        let ids = (sent.what.0.id, sent.what.1.id);
        drop(sent);
        world.rt.step(longest / 2);
        assert!(moved.done().is_none(), "still asking");
        world.rt.step(longest / 2 + MS);
        assert_eq!(moved.done().expect("finished").expect_err("silent").kind(), ErrorKind::Uncertain);
        assert_eq!(releases(&world), both(ids));
    }
}

#[test]
fn s9_an_unanswered_attempt_of_the_first_claim_leaves_a_mark() {
    let world = World::new();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    drop(world.store.attempt());
    world.rt.step(MS * 3000);
    world.store.attempt().answer(held(1, None));
    world.rt.run();
    let turn = granted(&mut asked);
    let first = turn.hold.claim.id;
    let mut moved = transfer(&world, turn);
    world.store.transfer().answer(held(1, None));
    world.rt.run();
    let _next = moved.done().expect("finished").expect("goes on");
    assert_eq!(releases(&world), [(first, Leave::Final)]);
}

#[test]
fn a_renewal_that_overlaps_the_transfer_is_no_loss() {
    let world = World::new();
    let turn = world.held();
    world.rt.step(TTL / 3);
    let renewal = world.store.renewal();
    let mut moved = transfer(&world, turn);
    let sent = world.store.transfer();
    renewal.answer_all(&gone());
    world.rt.run();
    sent.answer(held(1, None));
    world.rt.run();
    let next = moved.done().expect("finished").expect("goes on");
    next.check().expect("held");
    assert_eq!(releases(&world), []);
}

#[test]
fn s5_an_answer_after_its_own_lease_is_not_believed() {
    let world = World::new();
    let mut moved = transfer(&world, world.held());
    let sent = world.store.transfer();
    let ids = (sent.what.0.id, sent.what.1.id);
    let short = Grant { lease: Lease::For(MS * 100), ..grant(1) };
    world.rt.step(MS * 200);
    sent.answer(Answer { standing: Standing::Held(short), at: None });
    world.rt.run();
    let error = moved.done().expect("finished").expect_err("too late");
    assert_eq!(error.lost().map(|lost| lost.why()), Some(&LostReason::Expired));
    let mut expected = vec![(ids.0, Leave::Nothing), (ids.1, Leave::Nothing)];
    expected.sort_by_key(|(id, _)| *id);
    assert_eq!(releases(&world), expected);
}

#[test]
fn an_eviction_that_overtakes_the_answer_is_a_loss() {
    let world = World::new();
    let mut moved = transfer(&world, world.held());
    let sent = world.store.transfer();
    world.hub.news(News::Gone(sent.what.1.id, Some("enough".into())));
    sent.answer(held(1, None));
    world.rt.run();
    assert_eq!(moved.done().expect("finished").expect_err("evicted").kind(), ErrorKind::Lost);
    assert_eq!(world.engine.live(), 0);
}

#[test]
fn close_in_the_middle_withdraws_both() {
    let world = World::new();
    let mut moved = transfer(&world, world.held());
    let sent = world.store.transfer();
    let ids = (sent.what.0.id, sent.what.1.id);
    let engine = world.engine.clone();
    let mut closed = world.rt.go(async move { engine.close().await });
    assert_eq!(releases(&world), both(ids));
    closed.done().expect("finished").expect("all answered");
    sent.answer(held(1, None));
    world.rt.run();
    assert_eq!(moved.done().expect("finished").expect_err("closed").kind(), ErrorKind::Config);
    assert_eq!(releases(&world), []);
}

#[test]
fn what_was_abandoned_is_neither_renewed_nor_released_and_can_be_adopted() {
    let world = World::new();
    let turn = world.held();
    let first = turn.hold.claim.id;
    let left = turn.abandon();
    assert_eq!((left.id, world.engine.live()), (first, 0));
    world.rt.step(TTL / 2);
    assert!(!world.store.renewed() && !world.store.released());
    let engine = world.engine.clone();
    let mut adopted = world.rt.go(async move { adopt(&engine, &left, &request(TTL)).await });
    drop(world.store.transfer());
    let sent = the_next(&world);
    assert_eq!((sent.what.0.id, sent.what.1.anchor), (first, Anchor::Process));
    sent.answer(held(1, None));
    world.rt.run();
    let turn = adopted.done().expect("finished").expect("adopted");
    turn.check().expect("held");
    // A second time there is nothing to adopt.
    let (engine, left) = (world.engine.clone(), turn.hold.claim.clone());
    let mut again = world.rt.go(async move { adopt(&engine, &left, &request(TTL)).await });
    world.store.transfer().answer(gone());
    world.rt.run();
    assert_eq!(again.done().expect("finished").expect_err("gone").kind(), ErrorKind::Lost);
}
