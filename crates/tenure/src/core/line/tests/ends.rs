//! How the hold before a grant ended.

use super::super::{Kind, Place, Previous, RW_CAPACITY, Trace};
use super::{Lines, TTL, ask, lines, mutex, now, whole};

const K: &[u8] = b"default/payment";

/// What a claim is told that takes a free lock.
fn before(l: &mut Lines, id: u128, key: &[u8], ns: u64) -> Previous {
    let place = l.attempt(&mutex(id, key), now(ns)).expect("not refused");
    whole(l);
    told(&place)
}

fn told(place: &Place) -> Previous {
    match place {
        Place::Held { previous, .. } => *previous,
        other => panic!("it does not hold: {other:?}"),
    }
}

#[test]
fn each_holder_is_told_how_the_one_before_ended() {
    let mut l = lines();
    assert_eq!(before(&mut l, 1, K, 0), Previous::Unknown);
    l.release(1, K, 0, Trace::Nothing, now(1)).expect("held");
    assert_eq!(before(&mut l, 2, K, 2), Previous::Released);
    let late = TTL + 2;
    assert_eq!(before(&mut l, 3, K, late), Previous::Expired);
    assert_eq!(before(&mut l, 3, K, late + 1), Previous::Expired, "asked again");
    assert_eq!(told(&l.renew(3, K, None, now(late + 2)).expect("held")), Previous::Expired, "renewed");
    l.evict(K, None, b"why", now(late + 3)).expect("held");
    assert_eq!(before(&mut l, 4, K, late + 4), Previous::Evicted);
    l.release(4, K, 0, Trace::For(10), now(late + 5)).expect("held");
    assert_eq!(before(&mut l, 5, K, late + 20), Previous::Released, "it was kept, and nobody died");
}

#[test]
fn a_lock_that_nobody_visited_remembers_it_too() {
    let mut l = lines();
    before(&mut l, 1, K, 0);
    l.sweep(9, now(TTL)).expect("swept");
    assert_eq!(l.counts().locks, 0);
    assert_eq!(before(&mut l, 2, K, TTL + 1), Previous::Expired);
}

#[test]
fn a_waiter_is_told_when_its_turn_comes() {
    let mut l = lines();
    let dead = super::Ask { slot: 7, ..mutex(1, K) };
    l.attempt(&dead, now(0)).expect("free");
    l.attempt(&mutex(2, K), now(1)).expect("waits");
    l.reap(7, now(2)).expect("dead");
    assert_eq!(told(&l.peek(2)), Previous::Expired);
    let to = mutex(3, K);
    assert_eq!(told(&l.transfer(2, &to, now(3)).expect("held")), Previous::Expired, "the same hold goes on");
}

#[test]
fn only_writers_leave_work_half_done() {
    let mut l = lines();
    let rw = |id, weight| ask(id, K, Kind::ReadWrite, weight);
    l.attempt(&rw(1, RW_CAPACITY), now(0)).expect("free");
    let place = l.attempt(&rw(2, 1), now(TTL)).expect("free");
    assert_eq!(told(&place), Previous::Expired);
    l.release(2, K, 0, Trace::Nothing, now(TTL + 1)).expect("held");
    let place = l.attempt(&rw(3, RW_CAPACITY), now(TTL + 2)).expect("free");
    assert_eq!(told(&place), Previous::Expired, "a reader mended nothing");
    l.transfer(3, &rw(4, 1), now(TTL + 3)).expect("held");
    let place = l.attempt(&rw(5, 1), now(TTL + 4)).expect("free");
    assert_eq!(told(&place), Previous::Released, "the writer reads now");
    whole(&l);
}

#[test]
fn what_is_forgotten_is_unknown_and_releases_go_first() {
    let mut l = lines();
    let name = |n: u128| format!("default/job/{n}").into_bytes();
    for n in 1..=50 {
        before(&mut l, n, &name(n), 0);
    }
    l.sweep(100, now(TTL)).expect("swept");
    for n in 1_000..11_000 {
        before(&mut l, n, &name(n), TTL + 1);
        l.release(n, &name(n), 0, Trace::Nothing, now(TTL + 1)).expect("held");
    }
    let kept =
        (1..=50).filter(|n| before(&mut l, 90_000 + n, &name(*n), TTL + 2) == Previous::Expired).count();
    assert!(kept >= 45, "only {kept} of 50 are known to have expired");
    let last = (10_900..11_000).map(|n| before(&mut l, 90_000 + n, &name(n), TTL + 2));
    let known = last.filter(|before| *before == Previous::Released).count();
    assert!(known > 60, "only {known} of the last 100 releases are known");
    assert_eq!(before(&mut l, 99_999, &name(1_000), TTL + 2), Previous::Unknown);
    whole(&l);
}
