use super::*;

const TTL: Duration = Duration::from_secs(30);

/// A store that does what it is told, and its clock.
struct Store {
    current: Option<(Version, Object)>,
    writes: u64,
    now: Now,
    first_seen: Moment,
    by_store: bool,
}

impl Store {
    fn new() -> Store {
        let now = Now { boot: Moment(1_000_000_000_000), wall_us: 5_000 };
        Store { current: None, writes: 0, now, first_seen: Moment(0), by_store: false }
    }

    fn seen(&self) -> Seen {
        let age = self.now.boot.since(self.first_seen);
        let first_seen = if self.by_store { self.now.boot } else { self.first_seen };
        Seen {
            current: self.current.clone(),
            first_seen,
            store_age: self.by_store.then_some(age),
            fresh: true,
        }
    }

    fn write(&mut self, expected: Option<&Version>, object: Object) -> Outcome {
        if self.current.as_ref().map(|(version, _)| version) != expected {
            return Outcome::Stale;
        }
        self.writes += 1;
        self.current = Some((Version::new(&self.writes.to_string()), object));
        self.first_seen = self.now.boot;
        Outcome::Done
    }

    fn run(&mut self, verb: Verb) -> Answer {
        self.finish(&mut Call::new(verb, Unanswered::Nothing, self.writes))
    }

    fn finish(&mut self, call: &mut Call) -> Answer {
        let mut step = call.decide(&self.seen(), self.now);
        loop {
            step = match step {
                Step::Answer(answer) => return answer,
                Step::Write { expected, object } => {
                    let outcome = self.write(expected.as_ref(), object);
                    call.after_write(outcome)
                }
                Step::Read => call.decide(&self.seen(), self.now),
            };
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.boot = self.now.boot + time;
    }

    fn object(&self) -> &Object {
        &self.current.as_ref().expect("an object").1
    }

    fn version(&self) -> Option<Version> {
        self.seen().version().cloned()
    }
}

fn ask(claim: u128) -> Ask {
    Ask { claim, ttl: TTL, tokens: 1, note: "".into() }
}

fn attempt(claim: u128) -> Verb {
    Verb::Attempt(ask(claim))
}

fn renew(claim: u128) -> Verb {
    Verb::Renew(ask(claim))
}

fn release(claim: u128) -> Verb {
    Verb::Release { claim, used: 1, keep: None }
}

fn held(token: i64, previous: Previous) -> Answer {
    Answer::Held { token: Token::new(token), previous }
}

#[test]
fn a_lock_goes_from_one_to_the_next_and_tells_how_the_last_hold_ended() {
    let mut store = Store::new();
    assert_eq!(store.run(attempt(1)), held(5_000, Previous::Unknown));
    assert_eq!(store.run(attempt(2)), Answer::Taken { look_again: TTL });
    assert_eq!(store.run(release(2)), Answer::NotHeld);
    assert_eq!(store.run(release(1)), Answer::Ended);
    assert_eq!(store.run(attempt(2)), held(5_001, Previous::Released));
    store.pass(TTL);
    assert_eq!(store.run(attempt(3)), held(5_002, Previous::Expired));
    assert_eq!(store.run(Verb::Renew(ask(2))), Answer::Gone { why: None });
    let evict = Verb::Evict { token: None, why: "stuck".into() };
    assert_eq!(store.run(evict), Answer::Ended);
    assert_eq!(store.run(Verb::Renew(ask(3))), Answer::Gone { why: Some("stuck".into()) });
    assert_eq!(store.run(attempt(4)), held(5_003, Previous::Evicted));
}

#[test]
fn a_renewal_keeps_the_hold_and_never_creates_one() {
    let mut store = Store::new();
    assert_eq!(store.run(Verb::Renew(ask(1))), Answer::Gone { why: None });
    store.run(attempt(1));
    for _ in 0..5 {
        store.pass(TTL * 2 / 3);
        assert_eq!(store.run(Verb::Renew(ask(1))), held(5_000, Previous::Unknown));
    }
    store.pass(TTL);
    assert_eq!(store.run(Verb::Renew(ask(1))), Answer::Gone { why: None });
}

#[test]
fn asked_again_a_holder_is_told_the_same_and_writes_before_it_believes() {
    let mut store = Store::new();
    store.run(attempt(1));
    let (writes, count) = (store.writes, store.object().count);
    store.pass(TTL / 2);
    assert_eq!(store.run(attempt(1)), held(5_000, Previous::Unknown));
    assert_eq!((store.writes, store.object().count), (writes + 1, count + 1));
}

#[test]
fn no_two_bodies_are_equal() {
    let mut store = Store::new();
    let mut bodies = std::collections::HashSet::new();
    for _ in 0..3 {
        for verb in [attempt(1), Verb::Renew(ask(1)), release(1)] {
            store.run(verb);
            assert!(bodies.insert(store.object().clone()));
        }
    }
}

#[test]
fn a_newcomer_takes_over_by_the_store_s_clock() {
    let mut store = Store::new();
    store.by_store = true;
    store.run(attempt(1));
    store.pass(TTL);
    assert_eq!(store.run(attempt(2)), Answer::Taken { look_again: STORE_MARGIN });
    store.pass(STORE_MARGIN);
    assert_eq!(store.run(attempt(2)), held(5_001, Previous::Expired));
}

#[test]
fn a_kept_lock_stays_taken_and_was_released() {
    let mut store = Store::new();
    store.run(attempt(1));
    let keep = Some(Duration::from_secs(3));
    assert_eq!(store.run(Verb::Release { claim: 1, used: 1, keep }), Answer::Ended);
    assert_eq!(store.run(attempt(2)), Answer::Taken { look_again: Duration::from_secs(3) });
    assert_eq!(store.run(attempt(1)), Answer::Gone { why: None });
    assert_eq!(store.run(release(1)), Answer::NotHeld);
    store.pass(Duration::from_secs(3));
    assert_eq!(store.run(attempt(2)), held(5_001, Previous::Released));
}

#[test]
fn tokens_are_reserved_and_the_unused_go_back() {
    let mut store = Store::new();
    let many = |claim| Ask { tokens: 5, ..ask(claim) };
    store.run(Verb::Attempt(many(1)));
    assert_eq!(store.object().last_token(), Token::new(5_004));
    store.run(Verb::Release { claim: 1, used: 2, keep: None });
    assert_eq!(store.run(Verb::Attempt(many(2))), held(5_002, Previous::Released));
    let transfer = Verb::Transfer { from: 2, used: 3, to: ask(3) };
    assert_eq!(store.run(transfer.clone()), held(5_004, Previous::Released));
    assert_eq!(store.run(transfer), held(5_004, Previous::Released), "asked again");
    assert_eq!(store.run(release(2)), Answer::NotHeld);
    let evict = |token| Verb::Evict { token: Token::new(token), why: "".into() };
    assert_eq!(store.run(evict(5_003)), Answer::NotHeld);
    assert_eq!(store.run(evict(5_004)), Answer::Ended);
    assert_eq!(store.run(attempt(4)), held(5_005, Previous::Evicted));
    store.pass(TTL);
    store.run(Verb::Attempt(many(5)));
    store.pass(TTL);
    assert_eq!(store.run(attempt(6)), held(5_011, Previous::Expired), "all five count as used");
}

#[test]
fn a_wall_clock_that_goes_back_or_a_lost_object_takes_no_token_back() {
    let mut store = Store::new();
    store.run(attempt(1));
    store.run(release(1));
    store.now.wall_us = 7;
    assert_eq!(store.run(attempt(2)), held(5_001, Previous::Released));
    store.now.wall_us = 9_000;
    store.current = None;
    assert_eq!(store.run(attempt(3)), held(9_000, Previous::Unknown));
    assert_eq!(store.object().count, 9_000, "nor a count");
}

#[test]
fn there_is_no_token_past_the_last() {
    let mut store = Store::new();
    store.run(attempt(1));
    store.run(release(1));
    store.current.as_mut().expect("an object").1.token = Token::new(i64::MAX);
    assert_eq!(store.run(attempt(2)), Answer::Exhausted);
}

#[test]
fn a_late_write_of_a_withdrawn_claim_matches_nothing() {
    let mut store = Store::new();
    for round in 0..2 {
        let mut call = Call::new(attempt(round), Unanswered::Nothing, 7);
        let Step::Write { expected, object } = call.decide(&store.seen(), store.now) else {
            panic!("it is free");
        };
        // The call is abandoned, its write is on the way.
        let mut withdrawal = Call::new(release(round), call.unanswered(), 7);
        assert_eq!(store.finish(&mut withdrawal), Answer::NotHeld);
        assert_eq!(withdrawal.unanswered(), Unanswered::Nothing);
        assert_eq!(store.write(expected.as_ref(), object), Outcome::Stale);
        assert_eq!(store.object().state, State::Free);
    }
}

#[test]
fn a_withdrawal_writes_only_if_a_late_write_could_match() {
    let mut store = Store::new();
    store.run(attempt(1));
    let at = store.version();
    store.run(release(1));
    for (earlier, writes) in [
        (Unanswered::Nothing, 0),
        (Unanswered::Expecting(None), 0),
        (Unanswered::Expecting(at), 0),
        (Unanswered::Expecting(store.version()), 1),
        (Unanswered::Unknown, 1),
    ] {
        let before = store.writes;
        assert_eq!(store.finish(&mut Call::new(release(2), earlier.clone(), 7)), Answer::NotHeld);
        assert_eq!(store.writes - before, writes, "{earlier:?}");
    }
}

#[test]
fn an_unknown_outcome_is_settled_by_reading() {
    for applied in [true, false] {
        let mut store = Store::new();
        let mut call = Call::new(attempt(1), Unanswered::Nothing, 7);
        let Step::Write { expected, object } = call.decide(&store.seen(), store.now) else {
            panic!("it is free");
        };
        if applied {
            store.write(expected.as_ref(), object);
        }
        assert_eq!(call.after_write(Outcome::Unknown), Step::Read);
        assert_eq!(store.finish(&mut call), held(5_000, Previous::Unknown));
        assert_eq!(store.writes, 1, "applied: {applied}");
    }
}

/// Two calls may want the same of the same version. Whoever believed in the other's write would count a lease from a moment
/// after those who watch the object do.
#[test]
fn a_renewal_in_doubt_does_not_take_another_call_s_write_for_its_own() {
    let others: [fn() -> Call; 2] =
        [|| Call::new(release(2), Unanswered::Unknown, 2), || Call::new(renew(1), Unanswered::Nothing, 3)];
    for other in others {
        let mut store = Store::new();
        let granted = store.run(attempt(1));
        let mut renewal = Call::new(renew(1), Unanswered::Nothing, 1);
        let Step::Write { .. } = renewal.decide(&store.seen(), store.now) else {
            panic!("it holds");
        };
        let before = store.writes;
        store.finish(&mut other());
        assert_eq!(store.writes, before + 1, "the hold was written once more");
        assert_eq!(renewal.after_write(Outcome::Unknown), Step::Read);
        assert_eq!(store.finish(&mut renewal), granted);
        assert_eq!(store.writes, before + 2, "it believes in a write of its own");
    }
}

#[test]
fn a_release_in_doubt_says_so_if_others_came_since() {
    let mut store = Store::new();
    store.run(attempt(1));
    let mut call = Call::new(release(1), Unanswered::Nothing, 7);
    let Step::Write { expected, object } = call.decide(&store.seen(), store.now) else {
        panic!("it holds");
    };
    store.write(expected.as_ref(), object);
    call.after_write(Outcome::Unknown);
    store.run(attempt(2));
    assert_eq!(store.finish(&mut call), Answer::Unsure);
}

#[test]
fn what_is_remembered_leads_to_a_write_and_never_to_an_answer() {
    let mut store = Store::new();
    store.run(attempt(1));
    let old = Seen { fresh: false, ..store.seen() };
    store.run(release(1));
    let mut call = Call::new(attempt(2), Unanswered::Nothing, 7);
    assert_eq!(call.decide(&old, store.now), Step::Read, "it was taken then");
    assert_eq!(store.finish(&mut call), held(5_001, Previous::Released));
    // Nor does it make a withdrawal forget what it has to prevent.
    let mut call = Call::new(release(3), Unanswered::Expecting(store.version()), 7);
    assert!(matches!(call.decide(&old, store.now), Step::Write { .. }));
    assert_eq!(call.after_write(Outcome::Stale), Step::Read);
    assert_eq!(call.unanswered(), Unanswered::Expecting(store.version()));
}

#[test]
fn another_program_s_hold_ends_by_time_and_tells_nothing() {
    let mut store = Store::new();
    let foreign = Object { state: State::Held, ttl: TTL, ..Object::new(store.now) };
    store.write(None, foreign);
    assert_eq!(store.run(attempt(1)), Answer::Taken { look_again: TTL });
    store.pass(TTL);
    assert_eq!(store.run(attempt(1)), held(5_000, Previous::Unknown));
}

#[test]
fn sightings_count_from_the_first_arrival_of_a_version_and_are_bounded() {
    let mut sightings = Sightings::new(2);
    let [one, two] = ["1", "2"].map(Version::new);
    assert_eq!(sightings.saw("a", &one, Moment(5)), Moment(5));
    assert_eq!(sightings.saw("a", &one, Moment(9)), Moment(5));
    assert_eq!(sightings.saw("a", &two, Moment(9)), Moment(9));
    sightings.saw("b", &one, Moment(10));
    assert_eq!(sightings.saw("a", &two, Moment(11)), Moment(9));
    sightings.saw("c", &one, Moment(12));
    assert_eq!(sightings.saw("b", &one, Moment(13)), Moment(13), "the longest unused was forgotten");
    assert_eq!(sightings.saw("c", &one, Moment(14)), Moment(12));
}
