//! What the verbs promise, one by one.

use super::super::settle::MARK_NS;
use super::super::{
    Event, Found, Kind, Lines as AnyLines, Now, Place, Previous, RW_CAPACITY, Refusal, Trace, VecArena,
};
use super::{Lines, TTL, WAITING, ask, held, lines, mutex, now, whole};

const K: &[u8] = b"default/orders/42";

fn gone(why: Option<&str>) -> Place {
    Place::Gone { why: why.map(str::to_owned) }
}

/// The first hold of a lock.
fn held_until(token: i64, end: u64) -> Place {
    Place::Held { token, end, previous: Previous::Unknown }
}

/// Attempts, at `ns`.
fn stand(lines: &mut Lines, ask: &super::Ask<'_>, ns: u64) -> Place {
    let place = lines.attempt(ask, now(ns)).expect("not refused");
    whole(lines);
    place
}

#[test]
fn first_come_first_served_and_nothing_remains() {
    let mut l = lines();
    let first = held(&stand(&mut l, &mutex(1, K), 0)).expect("free");
    assert_eq!(stand(&mut l, &mutex(2, K), 5), Place::Waiting { ahead: 0, end: WAITING + 5, look: TTL });
    assert_eq!(
        stand(&mut l, &mutex(3, K), 6),
        Place::Waiting { ahead: 1, end: WAITING + 6, look: WAITING + 5 }
    );
    let impatient = super::Ask { stand: false, ..mutex(4, K) };
    assert_eq!(stand(&mut l, &impatient, 7), Place::Busy);
    assert_eq!(l.release(1, K, 0, Trace::Nothing, now(8)), Ok(Found::Held));
    assert_eq!(l.drain_events().collect::<Vec<_>>(), [Event::Granted { id: 2, slot: 0 }]);
    let second = held(&stand(&mut l, &mutex(2, K), 9)).expect("its turn");
    assert!(second > first);
    assert_eq!(l.release(1, K, 0, Trace::Nothing, now(9)), Ok(Found::Nothing));
    assert_eq!(l.release(2, K, 0, Trace::Nothing, now(9)), Ok(Found::Held));
    assert_eq!(l.release(3, K, 0, Trace::Nothing, now(9)), Ok(Found::Held));
    whole(&l);
    assert_eq!(l.counts(), super::super::Counts::default());
}

#[test]
fn s9_a_withdrawn_claim_is_never_granted() {
    for (id, before) in [(1, true), (2, false)] {
        let mut l = lines();
        if before {
            stand(&mut l, &mutex(id, K), 10);
        }
        l.release(id, K, 0, Trace::Mark, now(20)).expect("released");
        let late = super::Ask { birth: 20, ..mutex(id, K) };
        assert_eq!(stand(&mut l, &late, 30), gone(None));
        assert_eq!(stand(&mut l, &late, 20 + MARK_NS), gone(None), "the last instant that an attempt counts");
        assert_eq!(stand(&mut l, &late, 21 + MARK_NS), gone(None), "the mark is gone, the attempt too old");
        assert_eq!(l.counts().marks, 0);
    }
}

#[test]
fn s9_holds_for_a_claim_that_was_kept_for_a_while() {
    let mut l = lines();
    stand(&mut l, &mutex(1, K), 0);
    assert_eq!(l.release(1, K, 0, Trace::For(500), now(100)), Ok(Found::Held));
    assert_eq!(l.release(1, K, 0, Trace::Mark, now(100)), Ok(Found::Nothing));
    assert_eq!(l.renew(1, K, None, now(200)), Ok(gone(None)));
    assert_eq!(stand(&mut l, &mutex(2, K), 300), Place::Waiting { ahead: 0, end: 300 + WAITING, look: 600 });
    assert!(held(&stand(&mut l, &mutex(2, K), 600)).is_some());
    assert_eq!(stand(&mut l, &mutex(1, K), 700), gone(None), "it became a mark");
    assert_eq!(l.counts().marks, 1);
}

#[test]
fn s10_renewal_never_creates_and_never_shortens() {
    let mut l = lines();
    assert_eq!(l.renew(1, K, None, now(0)), Ok(gone(None)));
    let token = held(&stand(&mut l, &mutex(1, K), 0)).expect("free");
    let long = vec![b'x'; 900];
    assert_eq!(l.renew(1, K, Some(&long), now(5)), Ok(held_until(token, TTL + 5)));
    assert_eq!(l.renew(1, K, Some(b""), now(1)), Ok(held_until(token, TTL + 5)));
    assert_eq!(l.view(K, 9, now(6)).expect("held").holders[0].note, b"");
    whole(&l);
    assert_eq!(l.renew(1, K, None, now(TTL + 5)), Ok(gone(None)), "no revival");
    assert_eq!(l.counts().locks, 0);
}

#[test]
fn readers_between_two_writers_share_a_token() {
    let mut l = lines();
    let (reader, writer) =
        (|id| ask(id, K, Kind::ReadWrite, 1), |id| ask(id, K, Kind::ReadWrite, RW_CAPACITY));
    let r1 = held(&stand(&mut l, &reader(1), 0));
    assert!(r1.is_some());
    assert_eq!(held(&stand(&mut l, &reader(2), 0)), r1);
    assert!(held(&stand(&mut l, &writer(3), 0)).is_none());
    assert!(held(&stand(&mut l, &reader(4), 0)).is_none(), "no reader overtakes a writer");
    l.release(1, K, 0, Trace::Nothing, now(1)).expect("released");
    l.release(2, K, 0, Trace::Nothing, now(1)).expect("released");
    let w = held(&stand(&mut l, &writer(3), 2));
    assert!(w > r1);
    l.release(3, K, 0, Trace::Nothing, now(3)).expect("released");
    let r4 = held(&stand(&mut l, &reader(4), 4));
    assert!(r4 > w);
    assert_eq!(held(&stand(&mut l, &reader(5), 5)), r4);
}

#[test]
fn the_longest_prefix_that_fits_is_granted() {
    let mut l = lines();
    let permit = |id, weight| ask(id, K, Kind::Semaphore, weight);
    assert_eq!(held(&stand(&mut l, &permit(1, 4), 0)), Some(0));
    for (id, weight) in [(2, 1), (3, 2), (4, 2), (5, 1)] {
        assert!(held(&stand(&mut l, &permit(id, weight), 0)).is_none());
    }
    l.release(1, K, 0, Trace::Nothing, now(1)).expect("released");
    let granted: Vec<u128> = l
        .drain_events()
        .map(|e| match e {
            Event::Granted { id, .. } | Event::Evicted { id, .. } => id,
        })
        .collect();
    assert_eq!(granted, [2, 3], "5 would fit, but 4 is before it");
    assert_eq!(l.attempt(&permit(6, 0), now(1)), Err(Refusal::Weight));
    assert_eq!(l.attempt(&permit(6, 5), now(1)), Err(Refusal::Weight));
    assert_eq!(l.attempt(&mutex(6, K), now(1)), Err(Refusal::Kind(Kind::Semaphore)));
    let smaller = super::Ask { capacity: 2, ..permit(7, 1) };
    assert_eq!(stand(&mut l, &smaller, 1), Place::Waiting { ahead: 2, end: WAITING + 1, look: WAITING });
    assert_eq!(
        l.view(K, 9, now(2)).expect("lives").holders.len(),
        2,
        "a smaller capacity takes nothing away"
    );
}

/// Continues a hold, at `ns`.
fn go_on(lines: &mut Lines, from: u128, to: &super::Ask<'_>, ns: u64) -> Result<Place, Refusal> {
    let place = lines.transfer(from, to, now(ns));
    whole(lines);
    place
}

#[test]
fn a_writer_that_becomes_a_reader_lets_readers_in_and_no_writer() {
    let mut l = lines();
    let (reader, writer) =
        (|id| ask(id, K, Kind::ReadWrite, 1), |id| ask(id, K, Kind::ReadWrite, RW_CAPACITY));
    let wrote = held(&stand(&mut l, &writer(1), 0)).expect("free");
    for waits in [reader(2), reader(3), writer(4), reader(5)] {
        assert!(held(&stand(&mut l, &waits, 0)).is_none());
    }
    let reads = held(&go_on(&mut l, 1, &reader(10), 7).expect("shrinks")).expect("still held");
    assert!(reads > wrote, "a late write of the writer must be told from what readers see");
    let granted: Vec<Event> = l.drain_events().collect();
    assert_eq!(granted, [Event::Granted { id: 2, slot: 0 }, Event::Granted { id: 3, slot: 0 }]);
    assert_eq!(held(&l.peek(2)), Some(reads));
    assert_eq!(l.view(K, 9, now(7)).expect("held").holders[0].since_us, 1_000, "held since it was granted");
    assert!(held(&stand(&mut l, &reader(5), 8)).is_none(), "it stays behind the writer");
    for id in [2, 3, 10] {
        assert!(held(&l.peek(4)).is_none());
        l.release(id, K, 0, Trace::Nothing, now(9)).expect("released");
    }
    assert!(held(&l.peek(4)).is_some_and(|t| t > reads));
}

#[test]
fn the_least_number_of_permits_counts_until_its_last_holder_leaves() {
    let mut l = lines();
    let of = |id, weight, capacity| super::Ask { capacity, ..ask(id, K, Kind::Semaphore, weight) };
    assert_eq!(held(&stand(&mut l, &of(1, 1, 2), 0)), Some(0));
    assert_eq!(held(&stand(&mut l, &of(2, 1, 2), 0)), Some(0));
    assert!(held(&stand(&mut l, &of(3, 1, 9), 0)).is_none(), "a greater number lets nobody in beside them");
    assert!(held(&stand(&mut l, &of(4, 7, 9), 0)).is_none());
    let granted = |l: &mut Lines| {
        let ids = l.drain_events().map(|e| match e {
            Event::Granted { id, .. } | Event::Evicted { id, .. } => id,
        });
        ids.collect::<Vec<_>>()
    };
    l.release(1, K, 0, Trace::Nothing, now(1)).expect("released");
    assert_eq!(granted(&mut l), [3]);
    assert_eq!(l.view(K, 9, now(1)).expect("it is held").capacity, 2);
    l.release(2, K, 0, Trace::Nothing, now(1)).expect("released");
    assert_eq!(granted(&mut l), [4], "the last holder with the least number has left");
    assert_eq!(l.view(K, 9, now(1)).expect("it is held").capacity, 9);
    let small = super::Ask { stand: false, ..of(5, 1, 8) };
    assert_eq!(stand(&mut l, &small, 1), Place::Busy);
    whole(&l);
}

#[test]
fn permits_that_are_given_back_go_to_those_who_wait() {
    let mut l = lines();
    let permit = |id, weight| ask(id, K, Kind::Semaphore, weight);
    stand(&mut l, &permit(1, 4), 0);
    stand(&mut l, &permit(2, 2), 0);
    assert_eq!(go_on(&mut l, 1, &permit(11, 5), 1), Err(Refusal::Weight));
    assert_eq!(go_on(&mut l, 1, &permit(11, 3), 1), Ok(held_until(0, TTL + 1)));
    assert!(held(&l.peek(2)).is_none(), "one is not enough");
    assert_eq!(go_on(&mut l, 11, &permit(12, 4), 2), Err(Refusal::Larger));
    assert_eq!(go_on(&mut l, 11, &mutex(12, K), 2), Err(Refusal::Kind(Kind::Semaphore)));
    go_on(&mut l, 11, &permit(12, 2), 3).expect("shrinks");
    assert!(held(&l.peek(2)).is_some());
    assert_eq!(go_on(&mut l, 12, &permit(13, 0), 4), Err(Refusal::Weight));
}

#[test]
fn s4_the_old_id_can_do_nothing_after_a_transfer() {
    let mut l = lines();
    let token = held(&stand(&mut l, &mutex(1, K), 0)).expect("free");
    stand(&mut l, &mutex(9, K), 0);
    assert_eq!(held(&go_on(&mut l, 1, &mutex(2, K), 5).expect("goes on")), Some(token));
    assert_eq!(l.renew(1, K, None, now(6)), Ok(gone(None)));
    assert_eq!(l.release(1, K, 0, Trace::Nothing, now(6)), Ok(Found::Nothing));
    assert_eq!(go_on(&mut l, 1, &mutex(3, K), 6), Ok(gone(None)), "continued once only");
    assert_eq!(go_on(&mut l, 1, &mutex(2, K), 7), Ok(held_until(token, TTL + 7)), "asked again");
    assert_eq!(go_on(&mut l, 9, &mutex(3, K), 8), Ok(gone(None)), "a waiter does not hold");
    assert_eq!(l.release(2, K, 0, Trace::Nothing, now(9)), Ok(Found::Held));
    assert!(held(&l.peek(9)).is_some());
}

#[test]
fn s9_a_transfer_to_a_withdrawn_claim_is_refused() {
    let mut l = lines();
    stand(&mut l, &mutex(1, K), 0);
    l.release(2, K, 0, Trace::Mark, now(1)).expect("marked");
    assert_eq!(go_on(&mut l, 1, &mutex(2, K), 2), Ok(gone(None)));
    assert!(held(&l.peek(1)).is_some(), "nothing changed");
    let patient = super::Ask { ttl: 3 * MARK_NS, ..mutex(4, K) };
    go_on(&mut l, 1, &patient, 3).expect("goes on");
    assert_eq!(go_on(&mut l, 4, &mutex(5, K), 1 + MARK_NS), Ok(gone(None)), "its mark may be gone");
    assert_eq!(go_on(&mut l, 77, &mutex(78, K), 4), Ok(gone(None)), "S10: nothing is created");
    l.evict(K, None, b"enough", now(5)).expect("evicted");
    assert_eq!(go_on(&mut l, 4, &mutex(6, K), 6), Ok(gone(Some("enough"))));
}

#[test]
fn a_transfer_moves_the_hold_between_processes() {
    let mut l = lines();
    let here = super::Ask { slot: 1, ..mutex(1, K) };
    stand(&mut l, &here, 0);
    stand(&mut l, &super::Ask { slot: 1, ..mutex(50, b"n/other") }, 0);
    let long = vec![b'n'; 900];
    let there = super::Ask { slot: 2, note: &long, ..mutex(2, K) };
    go_on(&mut l, 1, &there, 1).expect("moved");
    assert_eq!(l.view(K, 9, now(2)).expect("held").holders[0].note, long);
    assert_eq!(l.reap(1, now(2)), Ok(1), "the first process is gone, and only its other lock with it");
    assert!(held(&l.peek(2)).is_some());
    go_on(&mut l, 2, &mutex(3, K), 3).expect("anchored to nobody");
    assert_eq!(l.reap(2, now(3)), Ok(0));
    assert!(held(&l.peek(3)).is_some());
    go_on(&mut l, 3, &super::Ask { slot: 4, ..mutex(4, K) }, 4).expect("adopted");
    assert_eq!(l.reap(4, now(5)), Ok(1));
    assert_eq!(l.counts(), super::super::Counts::default());
}

#[test]
fn a_writer_s_transfer_stops_at_the_ceiling() {
    let mut l = lines();
    let low = |ceiling| Now { ceiling, ..now(0) };
    let token = held(&stand(&mut l, &ask(1, K, Kind::ReadWrite, RW_CAPACITY), 0)).expect("free");
    let reader = ask(2, K, Kind::ReadWrite, 1);
    assert_eq!(l.transfer(1, &reader, low(token + 1)), Err(Refusal::Ceiling(token + 1)));
    assert!(held(&l.peek(1)).is_some(), "nothing changed");
    assert_eq!(held(&l.transfer(1, &reader, low(token + 2)).expect("raised")), Some(token + 1));
    whole(&l);
}

#[test]
fn an_emptied_line_takes_another_kind() {
    let mut l = lines();
    stand(&mut l, &mutex(1, K), 0);
    assert!(held(&stand(&mut l, &ask(2, K, Kind::ReadWrite, 1), TTL)).is_some());
}

#[test]
fn evicted_holders_are_told_why_and_the_next_token_is_greater() {
    let mut l = lines();
    let token = held(&stand(&mut l, &super::Ask { slot: 7, ..mutex(1, K) }, 0)).expect("free");
    stand(&mut l, &mutex(2, K), 0);
    assert_eq!(l.evict(K, Some(token + 1), b"no", now(1)), Ok(0));
    let why = "stuck since noon; ".repeat(40);
    assert_eq!(l.evict(K, Some(token), why.as_bytes(), now(1)), Ok(1));
    whole(&l);
    assert_eq!(
        l.drain_events().collect::<Vec<_>>(),
        [Event::Evicted { id: 1, slot: 7 }, Event::Granted { id: 2, slot: 0 }]
    );
    assert_eq!(l.renew(1, K, None, now(2)), Ok(gone(Some(&why))));
    assert_eq!(stand(&mut l, &mutex(1, K), 2), gone(Some(&why)));
    assert_eq!(l.release(1, K, 0, Trace::Nothing, now(2)), Ok(Found::Nothing));
    assert!(held(&stand(&mut l, &mutex(2, K), 3)).is_some_and(|t| t > token));
    assert_eq!(
        l.view(K, 9, now(3)).expect("lives").broken.expect("remembered"),
        (1_000, token, why.into_bytes())
    );
    assert_eq!(l.evict(K, None, b"all", now(4)), Ok(1));
    assert_eq!(l.view(K, 9, now(4)), None);
    assert_eq!((l.counts().locks, l.counts().marks), (0, 2));
    whole(&l);
}

#[test]
fn a_reaped_slot_leaves_nothing_and_is_granted_nothing() {
    let mut l = lines();
    for n in 0..20u8 {
        let key = [b'n', b'/', n / 2];
        let slot = u32::from(n % 2) + 1;
        stand(&mut l, &super::Ask { slot, ..mutex(u128::from(n) + 1, &key) }, 0);
    }
    stand(&mut l, &super::Ask { slot: 1, ..mutex(50, &[b'n', b'/', 0]) }, 0);
    let mut slots = Vec::new();
    l.holder_slots(&[b'n', b'/', 0], &mut slots);
    assert_eq!(slots, [1, 2]);
    assert_eq!(l.reap(1, now(1)), Ok(11));
    whole(&l);
    assert_eq!(l.reap(1, now(1)), Ok(0));
    assert!(l.drain_events().all(|e| matches!(e, Event::Granted { slot: 2, .. })));
    assert_eq!((l.counts().locks, l.counts().claims), (10, 10));
    assert_eq!(l.reap(2, now(1)), Ok(10));
    whole(&l);
    assert_eq!(l.counts(), super::super::Counts::default());
}

#[test]
fn tokens_stop_at_the_ceiling_and_the_verb_can_be_repeated() {
    let low = |ns, ceiling| Now { ceiling, ..now(ns) };
    let mut l = lines();
    assert_eq!(l.attempt(&mutex(1, K), low(0, 1_000)), Err(Refusal::Ceiling(1_000)));
    assert_eq!(l.counts().locks, 0);
    assert_eq!(held(&l.attempt(&mutex(1, K), low(0, 1_001)).expect("raised")), Some(1_000));
    stand(&mut l, &super::Ask { slot: 3, ..mutex(2, K) }, 0);
    assert_eq!(l.release(1, K, 0, Trace::Nothing, low(0, 1_001)), Err(Refusal::Ceiling(1_001)));
    assert_eq!(l.evict(K, None, b"", low(0, 1_001)), Err(Refusal::Ceiling(1_001)));
    assert_eq!(l.release(1, K, 0, Trace::Nothing, low(0, 1_002)), Ok(Found::Held));
    assert_eq!(l.last_token(), 1_001);
    assert_eq!(l.reap(3, low(0, 1_003)), Err(Refusal::Ceiling(1_003)));
    assert_eq!(l.reap(3, low(0, 1_004)), Ok(1));
    l.raise_token(i64::MAX - 2);
    assert_eq!(held(&stand(&mut l, &mutex(4, K), 0)), Some(i64::MAX - 1));
    assert_eq!(l.attempt(&mutex(5, b"n/other"), now(0)), Err(Refusal::Ceiling(i64::MAX)), "no wrap");
    whole(&l);
}

#[test]
fn lines_that_nobody_visits_go_away() {
    let mut l = lines();
    for n in 0..50u8 {
        stand(&mut l, &mutex(u128::from(n) + 1, &[b'n', b'/', n]), u64::from(n));
    }
    for _ in 0..25 {
        stand(&mut l, &mutex(99, K), TTL + 50);
    }
    assert_eq!(l.counts(), super::super::Counts { locks: 1, claims: 1, marks: 0 });
}

#[test]
fn pages_show_whole_levels_and_lose_nothing() {
    let mut l = lines();
    let mut id = 0;
    for ns in ["a", "ab"] {
        for name in ["x", "x/1", "x/2", "xy", "y"]
            .map(str::to_owned)
            .into_iter()
            .chain((0..90).map(|n| format!("z/{n}")))
        {
            id += 1;
            stand(&mut l, &mutex(id, format!("{ns}/{name}").as_bytes()), 0);
        }
    }
    let list = |ns: &str, prefix: &str, limit| {
        let (mut after, mut out) = (None, Vec::new());
        loop {
            let (rows, next) = l.page(ns.as_bytes(), prefix.as_bytes(), after, limit, 0, now(1));
            assert!(rows.len() <= limit);
            out.extend(rows.into_iter().map(|r| String::from_utf8(r.key).expect("text")));
            after = next;
            if after.is_none() {
                break;
            }
        }
        out.sort();
        out
    };
    assert_eq!(list("a", "", 7).len(), 95);
    assert_eq!(list("ab", "", 1000).len(), 95);
    assert_eq!(list("a", "a/x", 2), ["a/x", "a/x/1", "a/x/2"]);
    assert_eq!(list("a", "a/x/", 2), ["a/x/1", "a/x/2"]);
    assert_eq!(list("b", "", 2), [""; 0]);
    assert_eq!(l.page(b"a", b"", None, 10, 0, now(TTL)).0, [], "looking hides what has ended");
}

#[test]
fn two_arenas_of_the_same_content_are_one() {
    let mut l = lines();
    let long = vec![b'k'; 401];
    let token = held(&stand(&mut l, &mutex(1, &long), 0)).expect("free");
    let AnyLines { arena, .. } = l;
    let mut l: AnyLines<VecArena> = AnyLines::new(arena).expect("adopted");
    assert_eq!(held(&stand(&mut l, &mutex(1, &long), 1)), Some(token));
    assert_eq!(l.view(&long, 0, now(1)).expect("held").key, long);
}
