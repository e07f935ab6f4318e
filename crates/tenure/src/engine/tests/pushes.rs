//! Pushes and answers that overtake each other.

use super::*;
use crate::backend::{News, Part, Sink};
use crate::core::moment::nanos;
use crate::runtime::Runtime;

/// A claim in line, and the future that waits for it.
fn in_line(world: &World, ahead: u32) -> (Handle<Result<Option<Turn>>>, crate::backend::ClaimId) {
    let asked = world.lock(request(TTL), Patience::Forever);
    let attempt = world.store.attempt();
    let id = attempt.what.id;
    attempt.answer(waiting(ahead, Some(0)));
    world.rt.run();
    (asked, id)
}

fn push(world: &World, id: crate::backend::ClaimId, at: u64) {
    world.hub.news(News::Granted(id, grant(7), at));
    world.rt.run();
}

#[test]
fn l5_a_push_grants() {
    let world = World::new();
    let (mut asked, id) = in_line(&world, 0);
    push(&world, id, 5);
    let turn = granted(&mut asked);
    assert_eq!(turn.grant().expect("held").token, Token::new(7));
}

#[test]
fn s1_an_old_waiting_answer_does_not_undo_a_pushed_grant() {
    let world = World::new();
    let (mut asked, id) = in_line(&world, 0);
    world.rt.step(lease::LOOK_AGAIN_MAX);
    let look = world.store.renewal();
    world.rt.step(MS);
    push(&world, id, nanos(lease::LOOK_AGAIN_MAX));
    let turn = granted(&mut asked);
    world.rt.step(MS);
    look.answer_all(&waiting(0, Some(1)));
    world.rt.run();
    turn.check().expect("still held");
    // It asks again, and this answer counts.
    world.store.renewal().answer_all(&waiting(0, Some(nanos(TTL))));
    world.rt.run();
    turn.check().expect_err("a holder that was asked for after its grant cannot be waiting");
}

#[test]
fn s1_an_early_push_from_before_the_answer_is_not_believed() {
    let world = World::new();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    let attempt = world.store.attempt();
    push(&world, attempt.what.id, 10);
    // Granted at 10 and over since; the claim stands in line once more at 20.
    attempt.answer(waiting(1, Some(20)));
    world.rt.run();
    assert!(asked.done().is_none(), "a grant that is over is not believed");
    world.store.renewal().answer_all(&held(9, Some(30)));
    world.rt.run();
    assert_eq!(granted(&mut asked).grant().expect("held").token, Token::new(9), "it looked at once");
}

#[test]
fn s5_an_early_push_counts_from_no_later_than_its_arrival() {
    let world = World::new();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    let arrived = world.rt.now();
    let attempt = world.store.attempt();
    // The store's clock was stepped between the two, so that more time seems to have passed than has.
    push(&world, attempt.what.id, nanos(TTL));
    world.rt.step(MS * 900);
    attempt.answer(waiting(0, Some(0)));
    world.rt.run();
    let turn = granted(&mut asked);
    assert!(turn.check().expect("held") <= lease::deadline(arrived, TTL));
}

#[test]
fn l5_a_push_that_overtakes_the_answer_is_kept() {
    let world = World::new();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    let sent = world.rt.now();
    let attempt = world.store.attempt();
    push(&world, attempt.what.id, nanos(MS));
    world.rt.step(MS * 3);
    attempt.answer(waiting(0, Some(0)));
    world.rt.run();
    let turn = granted(&mut asked);
    assert!(turn.check().expect("held") <= lease::deadline(sent + MS, TTL));
}

#[test]
fn l5_a_look_while_the_attempt_is_unanswered_is_not_lost() {
    let world = World::new();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    let attempt = world.store.attempt();
    world.hub.news(News::Look(attempt.what.id));
    world.rt.run();
    attempt.answer(waiting(0, Some(0)));
    world.rt.run();
    world.store.renewal().answer_all(&held(3, Some(5)));
    world.rt.run();
    granted(&mut asked);
}

#[test]
fn l5_a_look_while_a_renewal_is_under_way_is_not_lost() {
    for news in [News::Look, |_| News::LinkDown(Part::WHOLE)] {
        let world = World::new();
        let (mut asked, id) = in_line(&world, 0);
        world.rt.step(lease::LOOK_AGAIN_MAX);
        let look = world.store.renewal();
        world.hub.news(news(id));
        world.rt.step(MS);
        look.answer_all(&waiting(0, Some(1)));
        world.rt.run();
        world.store.renewal().answer_all(&held(3, Some(5)));
        world.rt.run();
        granted(&mut asked);
    }
}

#[test]
fn l5_a_push_during_a_look_of_a_claim_that_asks_still_arrives() {
    let world = World::new();
    let mut asked = world.lock(request(TTL), Patience::Forever);
    let attempt = world.store.attempt();
    world.hub.news(News::Look(attempt.what.id));
    world.rt.step(MS);
    push(&world, attempt.what.id, 3);
    attempt.answer(waiting(0, Some(2)));
    world.rt.run();
    granted(&mut asked);
}

#[test]
fn s5_a_grant_that_is_already_past_its_deadline_is_asked_about() {
    let world = World::new();
    let (mut asked, id) = in_line(&world, 500);
    // Granted right after the last answer, and the push took longer than the lease lasts.
    let short = Grant { lease: Lease::For(100 * MS), ..grant(7) };
    world.rt.step(200 * MS);
    world.hub.news(News::Granted(id, short, 1));
    world.rt.run();
    world.store.renewal().answer_all(&held(7, None));
    world.rt.run();
    let turn = granted(&mut asked);
    turn.check().expect("held");
    assert!(!world.store.released(), "the first grant was kept");
}

#[test]
fn a_store_that_says_look_again_at_once_is_not_asked_in_a_loop() {
    let world = World::new();
    let _asked = world.lock(request(TTL), Patience::Forever);
    let standing = Standing::Waiting {
        place: Some(Lease::For(lease::TTL_WAITING)),
        ahead: None,
        look_again: Duration::ZERO,
    };
    let eager = Answer { standing, at: None };
    world.store.attempt().answer(eager.clone());
    world.rt.run();
    assert!(!world.store.renewed(), "it pauses");
}
