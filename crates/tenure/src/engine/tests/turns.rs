//! Tasks that share a claim and pass its hold on.

use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::backend::{Claim, ClaimId, Leave, News, Released, Sink};
use crate::engine::acquire_in_turn;
use crate::error::{Error, ErrorKind};
use crate::runtime::Runtime;

type Task = Handle<Result<Option<Turn>>>;

fn alike() -> Request {
    Request { fair: false, ..request(TTL) }
}

impl World {
    fn ask(&self, request: Request, patience: Patience) -> Task {
        let engine = self.engine.clone();
        self.rt.go(async move { acquire_in_turn(&engine, &request, patience).await })
    }

    fn asks(&self, tasks: usize) -> Vec<Task> {
        (0..tasks).map(|_| self.ask(alike(), Patience::Forever)).collect()
    }

    /// A task that waits by itself, so that whoever comes after it shares a claim.
    fn first_in_line(&self) -> Task {
        let first = self.ask(alike(), Patience::Forever);
        self.store.attempt().answer(waiting(0, Some(1)));
        first
    }

    fn push(&self, id: ClaimId, token: i64) {
        self.hub.news(News::Granted(id, grant(token), 2));
        self.rt.run();
    }

    /// Releases, and says what came of it where the store was not asked.
    fn pass(&self, turn: Turn) {
        let mut released = self.rt.go(async move { turn.release(Leave::Nothing).await });
        released.done().expect("nobody had to be asked").expect("it was ours");
        assert!(!self.store.released(), "the store keeps it for the next");
    }

    fn release(&self, turn: Turn) -> Claim {
        let _released = self.rt.go(async move { turn.release(Leave::Nothing).await });
        let sent = self.store.release();
        let claim = sent.what.0.clone();
        sent.answer(Released::WasHeld);
        self.rt.run();
        claim
    }

    /// One task holds, and the others stand behind one claim, which waits.
    fn crowd(&self, tasks: usize) -> (Turn, Claim, Vec<Task>) {
        let mut first = self.ask(alike(), Patience::Forever);
        let alone = self.store.attempt();
        assert_eq!(alone.what.cohort.tokens, 1, "nobody else of this client wants it");
        alone.answer(held(1, Some(1)));
        self.rt.run();
        let first = granted(&mut first);
        // The second one asks for itself only: nobody waited when it came.
        let mut second = self.ask(alike(), Patience::Forever);
        let sent = self.store.attempt();
        let (single, tokens) = (sent.what.id, sent.what.cohort.tokens);
        assert_eq!(tokens, 1);
        sent.answer(waiting(0, Some(1)));
        let others = self.asks(tasks);
        let sent = self.store.attempt();
        let claim = sent.what.clone();
        assert!(claim.cohort.tokens > 1 && claim.stand);
        sent.answer(waiting(1, Some(1)));
        self.rt.run();
        assert!(self.store.next_attempt().is_none(), "one claim for all of them");
        self.release(first);
        self.push(single, 2);
        let second = granted(&mut second);
        (second, claim, others)
    }

    /// The same, granted to the first of the crowd.
    fn served(&self, tasks: usize) -> (Turn, Claim, Vec<Task>) {
        let (before, claim, mut others) = self.crowd(tasks);
        self.release(before);
        self.push(claim.id, 100);
        let mut first = others.remove(0);
        (granted(&mut first), claim, others)
    }
}

fn token(turn: &Turn) -> i64 {
    turn.grant().and_then(|grant| grant.token).map_or(0, Token::get)
}

#[test]
fn s2_a_hold_is_passed_on_first_come_first_served_each_with_a_token_of_its_own() {
    let world = World::new();
    let (mut turn, claim, others) = world.served(4);
    assert_eq!(token(&turn), 100);
    for (n, mut next) in others.into_iter().enumerate() {
        assert!(next.done().is_none(), "not yet");
        // Given back or only dropped: it goes on either way.
        if n == 1 {
            drop(turn)
        } else {
            world.pass(turn)
        }
        world.rt.run();
        turn = granted(&mut next);
        assert_eq!(token(&turn), 101 + i64::try_from(n).expect("few"));
        turn.check().expect("held");
    }
    let last = world.release(turn);
    assert_eq!((last.id, last.cohort.used), (claim.id, 4), "the others of its tokens go back");
    assert_eq!(world.engine.live(), 0);
    assert!(world.engine.core.cohorts.is_empty());
}

#[test]
fn l3_whoever_comes_after_the_grant_stands_behind_those_who_wait_in_the_store() {
    let world = World::new();
    let (turn, _, mut others) = world.served(2);
    let mut late = world.ask(alike(), Patience::Forever);
    let sent = world.store.attempt();
    assert!(sent.what.cohort.tokens > 1);
    let id = sent.what.id;
    sent.answer(waiting(3, Some(1)));
    let mut later = world.ask(alike(), Patience::Forever);
    assert!(world.store.next_attempt().is_none(), "that one stands behind the late one");
    world.pass(turn);
    let second = granted(&mut others[0]);
    assert!(late.done().is_none());
    world.release(second);
    assert!(late.done().is_none() && later.done().is_none(), "others are first now");
    world.push(id, 900);
    world.pass(granted(&mut late));
    assert_eq!(token(&granted(&mut later)), 901);
}

#[test]
fn a_leader_that_leaves_leaves_its_place_in_line() {
    let world = World::new();
    let (before, claim, mut others) = world.crowd(3);
    others.remove(0).cancel();
    world.rt.run();
    assert!(!world.store.released() && world.store.next_attempt().is_none(), "the claim waits on");
    // The next one has no patience left when it gets the lead.
    others.remove(0).cancel();
    world.release(before);
    world.push(claim.id, 7);
    assert_eq!(token(&granted(&mut others[0])), 7);
}

#[test]
fn a_leader_whose_time_is_up_leaves_its_place_in_line() {
    let world = World::new();
    let mut first = world.first_in_line();
    let until = world.rt.now() + 500 * MS;
    let mut leader = world.ask(alike(), Patience::Until(until));
    let sent = world.store.attempt();
    let id = sent.what.id;
    sent.answer(waiting(1, Some(1)));
    let mut short = world.ask(alike(), Patience::Until(until));
    let mut member = world.ask(alike(), Patience::Forever);
    world.rt.step(600 * MS);
    for late in [&mut leader, &mut short] {
        assert!(matches!(late.done(), Some(Ok(None))), "busy until its time was up");
    }
    assert!(!world.store.released() && world.store.next_attempt().is_none());
    world.push(id, 7);
    assert_eq!(token(&granted(&mut member)), 7);
    assert!(first.done().is_none());
}

#[test]
fn s9_a_leader_that_leaves_before_any_answer_is_withdrawn_and_the_next_one_asks_anew() {
    let world = World::new();
    let _first = world.first_in_line();
    let mut others = world.asks(2);
    let sent = world.store.attempt();
    others.remove(0).cancel();
    world.rt.run();
    let withdrawn = world.store.release();
    assert_eq!((withdrawn.what.0.id, withdrawn.what.1), (sent.what.id, Leave::Final));
    let again = world.store.attempt();
    assert_ne!(again.what.id, sent.what.id);
    again.answer(held(9, Some(1)));
    world.rt.run();
    assert_eq!(token(&granted(&mut others[0])), 9);
}

#[test]
fn s6_what_is_passed_to_a_task_that_has_gone_goes_on_to_the_next() {
    let world = World::new();
    let (turn, _, mut others) = world.served(4);
    // In its seat.
    others.remove(1).cancel();
    {
        let mut released = pin!(turn.release(Leave::Nothing));
        let done = released.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(done.is_ready(), "passed on, and nobody has been polled since");
    }
    drop(turn);
    // With the hold in its hands, and without knowing it.
    others.remove(0).cancel();
    world.rt.run();
    let last = granted(&mut others[0]);
    assert_eq!(token(&last), 102, "a token that nobody used is used up");
    drop(last);
    let sent = world.store.release();
    assert_eq!(sent.what.0.cohort.used, 3);
    sent.answer(Released::WasHeld);
    world.rt.run();
    assert_eq!(world.engine.live(), 0);
}

#[test]
fn s5_nobody_waits_for_a_hold_that_is_lost_whatever_its_holder_does() {
    let world = World::new();
    let (turn, claim, mut others) = world.served(3);
    world.hub.news(News::Gone(claim.id, Some("by ann".into())));
    world.rt.run();
    assert!(turn.check().is_err(), "and it is not let go");
    let sent = world.store.attempt();
    assert!(sent.what.id != claim.id && sent.what.cohort.tokens > 1);
    sent.answer(held(500, Some(3)));
    world.rt.run();
    let next = granted(&mut others[0]);
    assert_eq!(token(&next), 500);
    drop(turn);
    assert!(!world.store.released(), "the store said itself that it is gone");
    world.pass(next);
    assert_eq!(token(&granted(&mut others[1])), 501);
}

#[test]
fn s6_a_task_that_leaves_after_its_cohort_was_dissolved_is_passed_nothing() {
    let world = World::new();
    let (_turn, claim, mut others) = world.served(4);
    // One of the next cohort too, which those of the lost hold join.
    let mut late = world.ask(alike(), Patience::Forever);
    let sent = world.store.attempt();
    let id = sent.what.id;
    sent.answer(waiting(0, Some(2)));
    world.hub.news(News::Gone(claim.id, None));
    world.rt.run();
    others.remove(1).cancel();
    world.rt.run();
    world.push(id, 500);
    world.pass(granted(&mut late));
    let next = granted(&mut others[0]);
    world.pass(next);
    let last = granted(&mut others[1]);
    assert_eq!(world.release(last).cohort.used, 3, "nothing for the one that left");
    assert!(world.engine.core.cohorts.is_empty());
}

#[test]
fn what_the_store_refuses_one_it_refuses_all_who_ask_the_same() {
    let world = World::new();
    let _first = world.first_in_line();
    let mut others = world.asks(3);
    world.store.attempt().fail(Error::config("it is a semaphore", "use another name"));
    world.rt.run();
    for task in &mut others {
        let error = task.done().expect("told").expect_err("refused");
        assert_eq!((error.kind(), error.what()), (ErrorKind::Config, "it is a semaphore"));
    }
    // Nobody answers: after ten seconds all of them know.
    let mut others = world.asks(3);
    for _ in 0..40 {
        world.rt.step(500 * MS);
        while world.store.next_attempt().is_some() {}
        while world.store.released() {}
        while world.store.renewed() {}
    }
    for task in &mut others {
        assert_eq!(task.done().expect("told").expect_err("silence").kind(), ErrorKind::Unavailable);
    }
}

#[test]
fn s8_a_store_that_never_answered_the_leader_is_not_busy_for_those_behind_it() {
    let world = World::new();
    let _first = world.first_in_line();
    let _leader = world.ask(alike(), Patience::Forever);
    let until = world.rt.now() + 3000 * MS;
    let mut short = world.ask(alike(), Patience::Until(world.rt.now() + 500 * MS));
    let mut member = world.ask(alike(), Patience::Until(until));
    world.rt.step(600 * MS);
    assert!(matches!(short.done(), Some(Ok(None))), "an answer may take that long");
    for _ in 0..5 {
        world.rt.step(500 * MS);
    }
    assert_eq!(member.done().expect("told").expect_err("silence").kind(), ErrorKind::Unavailable);
}

#[test]
fn a_leader_that_asked_in_vain_for_a_moment_speaks_for_itself_only() {
    let world = World::new();
    let (before, claim, mut others) = world.crowd(1);
    let until = world.rt.now() + lease::TTL_WAITING + 1000 * MS;
    let mut next = world.ask(alike(), Patience::Until(until));
    let mut last = world.ask(alike(), Patience::Forever);
    world.release(before);
    world.push(claim.id, 100);
    let turn = granted(&mut others[0]);
    for _ in 0..20 {
        world.rt.step(500 * MS);
        while let Some(sent) = world.store.next_renewal() {
            sent.answer_all(&held(100, Some(3)));
        }
        world.rt.run();
    }
    // Not passed on: the next one leads, and the store is away for its last second.
    turn.describe(owner(77));
    drop(turn);
    let mut told = None;
    while told.is_none() {
        assert!(world.store.failing("away") || world.rt.now() < until);
        world.rt.step(50 * MS);
        told = next.done();
    }
    assert_eq!(told.expect("told").expect_err("errors only").kind(), ErrorKind::Unavailable);
    world.rt.run();
    assert!(last.done().is_none(), "it has no end to its patience");
}

#[test]
fn s5_a_lease_that_was_not_renewed_for_long_is_given_back_and_not_passed_on() {
    let world = World::new();
    let (turn, claim, mut others) = world.served(2);
    world.rt.step(TTL * 6 / 10);
    turn.check().expect("held still");
    assert_eq!(world.release(turn).id, claim.id);
    let again = world.store.attempt();
    again.answer(held(200, Some(1)));
    world.rt.run();
    assert_eq!(token(&granted(&mut others[0])), 200);
}

#[test]
fn o1_a_hold_that_says_something_else_is_not_passed_on_nor_one_that_stays() {
    for stays in [false, true] {
        let world = World::new();
        let (turn, claim, _others) = world.served(2);
        let leave = if stays { Leave::For(TTL) } else { Leave::Nothing };
        if !stays {
            turn.describe(owner(77));
        }
        let _released = world.rt.go(async move { turn.release(leave).await });
        let sent = world.store.release();
        assert_eq!((sent.what.0.id, sent.what.1), (claim.id, leave));
        assert_ne!(world.store.attempt().what.id, claim.id, "the next one asks for itself");
    }
}

#[test]
fn o1_a_renewal_says_how_many_wait_behind_and_only_who_asks_alike_shares() {
    let world = World::new();
    let (_turn, claim, _others) = world.served(5);
    let other = Request { reason: "another matter".into(), ..alike() };
    let _other = world.ask(other, Patience::Forever);
    let sent = world.store.attempt();
    assert_eq!((&*sent.what.reason, sent.what.cohort.behind), ("another matter", 0));
    sent.answer(waiting(0, Some(1)));
    let _fair = world.ask(request(TTL), Patience::Forever);
    assert_eq!(world.store.attempt().what.cohort.tokens, 1, "a claim of its own");
    world.rt.step(TTL / 2);
    let mut behind = None;
    while let Some(sent) = world.store.next_renewal() {
        behind = sent.what.iter().find(|c| c.id == claim.id).map(|c| c.cohort.behind).or(behind);
    }
    assert_eq!(behind, Some(4));
}

#[test]
fn a_claim_serves_as_many_as_it_has_tokens() {
    let world = World::new();
    let (turn, claim, mut others) = world.served(256);
    let late = world.ask(alike(), Patience::Forever);
    assert_ne!(world.store.attempt().what.id, claim.id);
    late.cancel();
    assert!(world.store.released());
    let mut turn = Some(turn);
    for task in &mut others {
        world.pass(turn.take().expect("held"));
        turn = Some(granted(task));
    }
    assert_eq!(turn.as_ref().map(token), Some(355));
    assert_eq!(world.release(turn.expect("held")).cohort.used, 256);
}

#[test]
fn s2_a_hold_that_goes_on_elsewhere_says_which_token_was_the_last() {
    let world = World::new();
    let (turn, claim, mut others) = world.served(3);
    world.pass(turn);
    let turn = granted(&mut others[0]);
    let _moved = world.rt.go(async move { turn.transfer(&request(TTL), crate::backend::Anchor::Time).await });
    let sent = world.store.transfer();
    assert_eq!((sent.what.0.id, sent.what.0.cohort.used), (claim.id, 2));
    assert_ne!(world.store.attempt().what.id, claim.id, "whoever waited behind it asks anew");
}

#[test]
fn close_tells_everybody() {
    let world = World::new();
    let (turn, _, mut others) = world.served(3);
    let engine = world.engine.clone();
    let _closed = world.rt.go(async move { engine.close().await });
    world.rt.run();
    assert!(turn.check().is_err());
    for task in &mut others {
        assert_eq!(task.done().expect("told").expect_err("closed").kind(), ErrorKind::Config);
    }
}
