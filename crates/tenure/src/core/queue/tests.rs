use super::*;
use crate::core::line::RW_CAPACITY;

const MUTEX: Shape = Shape { kind: Kind::Mutex, capacity: 1 };
const RW: Shape = Shape { kind: Kind::ReadWrite, capacity: RW_CAPACITY };
const PERMITS: Shape = Shape { kind: Kind::Semaphore, capacity: 3 };

fn id(name: &str) -> EntryId {
    EntryId::new(name.as_bytes())
}

fn entry(order: u64, name: &str, shape: Shape, weight: u32) -> Entry {
    Entry { order, id: id(name), shape, weight, granted: false, foreign: false }
}

fn put(at: u64, entry: Entry) -> Change {
    Change { at, what: What::Put(entry) }
}

fn gone(at: u64, name: &str) -> Change {
    Change { at, what: What::Gone(id(name)) }
}

/// A mirror that was listed once, of entries in this order.
fn listed(entries: Vec<Entry>) -> Queue {
    let mut queue = Queue::new();
    let at = entries.iter().map(|e| e.order).max().unwrap_or(0);
    queue.reset(entries, at);
    queue
}

fn waits(ahead: u32, behind: &str) -> Place {
    Place::Waiting { ahead, behind_whom: Some(id(behind)) }
}

fn holders(queue: &Queue) -> Vec<&str> {
    queue.holders().map(|e| std::str::from_utf8(e.id.as_bytes()).expect("text")).collect()
}

#[test]
fn a_mutex_goes_from_one_to_the_next() {
    let mut queue = listed(vec![entry(1, "a", MUTEX, 1)]);
    queue.apply(put(2, entry(2, "b", MUTEX, 1)));
    queue.apply(put(3, entry(3, "c", MUTEX, 1)));
    assert_eq!(queue.standing(&id("a")), Place::Held);
    assert_eq!(queue.standing(&id("c")), waits(1, "b"));
    assert_eq!(queue.watch_whom(&id("c")), [id("b")]);
    let events = queue.apply(gone(4, "a"));
    assert_eq!(events, [Event::Ended { id: id("a"), held: true }, Event::Granted(id("b"))]);
    assert_eq!(queue.standing(&id("a")), Place::Absent);
}

#[test]
fn readers_enter_together_and_wait_for_the_last_writer() {
    let mut queue = listed(vec![
        entry(1, "r1", RW, 1),
        entry(2, "r2", RW, 1),
        entry(3, "w", RW, RW_CAPACITY),
        entry(4, "r3", RW, 1),
        entry(5, "r4", RW, 1),
    ]);
    assert_eq!(holders(&queue), ["r1", "r2"]);
    assert_eq!(queue.watch_whom(&id("w")), [id("r2")]);
    assert_eq!(queue.watch_whom(&id("r4")), [id("w")], "a reader before it is not in its way");
    queue.apply(gone(6, "w"));
    assert_eq!(holders(&queue), ["r1", "r2", "r3", "r4"]);
}

#[test]
fn a_writer_that_becomes_a_reader_lets_readers_in() {
    let mut queue = listed(vec![entry(1, "w", RW, RW_CAPACITY), entry(2, "r", RW, 1)]);
    let events = queue.apply(put(3, entry(1, "w", RW, 1)));
    assert_eq!(events, [Event::Granted(id("r"))]);
}

#[test]
fn permits_are_given_out_in_order_and_watched_as_long_as_they_block() {
    let queue = listed(vec![
        entry(1, "a", PERMITS, 1),
        entry(2, "b", PERMITS, 1),
        entry(3, "c", PERMITS, 3),
        entry(4, "d", PERMITS, 1),
    ]);
    assert_eq!(holders(&queue), ["a", "b"], "nobody overtakes c");
    assert_eq!(queue.watch_whom(&id("c")), [id("b")]);
    assert_eq!(queue.watch_whom(&id("d")), [id("c")]);
    let queue = listed((1..=4).map(|n| entry(n, &n.to_string(), PERMITS, 1)).collect());
    assert_eq!(queue.watch_whom(&id("4")), [id("3"), id("2"), id("1")]);
}

#[test]
fn a_foreign_entry_excludes_everybody_in_a_line_of_any_kind() {
    let mut queue = listed(vec![
        entry(1, "r1", RW, 1),
        Entry::foreign(2, id("go")),
        entry(3, "r2", RW, 1),
        Entry::foreign(4, id("go too")),
    ]);
    assert_eq!(holders(&queue), ["r1"]);
    queue.apply(gone(5, "r1"));
    assert_eq!(holders(&queue), ["go"]);
    assert!(!queue.admits(RW, 1));
    queue.apply(gone(6, "go"));
    assert_eq!(holders(&queue), ["r2"]);
}

#[test]
fn an_entry_whose_weight_makes_no_sense_blocks_like_a_foreign_one() {
    let mut queue = listed(vec![entry(1, "none", PERMITS, 0), entry(2, "much", PERMITS, 9)]);
    assert_eq!(holders(&queue), ["none"]);
    queue.apply(gone(3, "none"));
    assert_eq!(holders(&queue), ["much"]);
}

#[test]
fn another_kind_than_the_line_s_is_refused_while_that_line_lives() {
    let mut queue =
        listed(vec![entry(1, "a", PERMITS, 1), entry(2, "b", MUTEX, 1), entry(3, "c", PERMITS, 1)]);
    assert_eq!(queue.conflict(MUTEX), Some(PERMITS));
    assert_eq!(queue.standing(&id("b")), Place::Refused(PERMITS));
    assert_eq!(queue.standing(&id("c")), waits(1, "b"), "nobody overtakes, not even the refused");
    assert_eq!(queue.watch_whom(&id("c")), [id("b"), id("a")]);
    queue.apply(gone(4, "b"));
    assert_eq!(holders(&queue), ["a", "c"]);
}

#[test]
fn the_least_capacity_counts_until_its_last_holder_leaves() {
    let five = Shape { capacity: 5, ..PERMITS };
    let mut queue = listed(vec![entry(1, "a", PERMITS, 2), entry(2, "b", five, 1), entry(3, "c", five, 2)]);
    assert_eq!(queue.conflict(five), None);
    assert_eq!(holders(&queue), ["a", "b"], "c fits in its own 5, and not in the 3 of a");
    assert!(!queue.admits(five, 1));
    assert_eq!(queue.watch_whom(&id("c")), [id("b"), id("a")]);
    queue.apply(gone(4, "a"));
    assert_eq!(holders(&queue), ["b", "c"]);
    assert!(queue.admits(five, 2));
    assert!(!queue.admits(PERMITS, 1), "3 of its 3 are taken");
}

#[test]
fn a_newcomer_is_admitted_if_nobody_waits_and_there_is_room() {
    let mut queue = listed(vec![entry(1, "a", PERMITS, 1)]);
    assert!(queue.admits(PERMITS, 2));
    assert!(!queue.admits(PERMITS, 3));
    assert!(!queue.admits(MUTEX, 1));
    assert!(!queue.admits(PERMITS, 0));
    queue.apply(put(2, entry(2, "b", PERMITS, 3)));
    assert!(!queue.admits(PERMITS, 1), "b waits");
    assert!(!Queue::new().admits(PERMITS, 1), "it was never listed");
}

#[test]
fn a_grant_stays_though_an_entry_with_a_lower_order_arrives_late() {
    let mut queue = listed(vec![entry(5, "a", MUTEX, 1)]);
    queue.apply(put(6, entry(3, "late", MUTEX, 1)));
    assert_eq!(holders(&queue), ["a"]);
    assert_eq!(queue.standing(&id("late")), Place::Waiting { ahead: 0, behind_whom: None });
    assert_eq!(queue.watch_whom(&id("late")), [id("a")]);
    queue.apply(put(7, entry(5, "a", MUTEX, 1)));
    assert_eq!(holders(&queue), ["a"], "its content changed, and it still holds");
}

#[test]
fn changes_that_are_known_already_are_ignored() {
    let mut queue = listed(vec![entry(1, "a", MUTEX, 1), entry(2, "b", MUTEX, 1)]);
    queue.apply(gone(7, "a"));
    assert_eq!(queue.apply(put(1, entry(1, "a", MUTEX, 1))), []);
    assert_eq!(queue.apply(gone(7, "a")), []);
    assert_eq!(queue.reset(vec![entry(1, "a", MUTEX, 1)], 6), [], "an old listing");
    assert_eq!(holders(&queue), ["b"]);
}

#[test]
fn a_name_that_is_used_again_is_a_new_entry() {
    let mut queue = listed(vec![entry(1, "a", MUTEX, 1), entry(2, "b", MUTEX, 1)]);
    let events = queue.apply(put(9, entry(9, "a", MUTEX, 1)));
    assert_eq!(events, [Event::Ended { id: id("a"), held: true }, Event::Granted(id("b"))]);
    assert_eq!(queue.standing(&id("a")), waits(0, "b"));
}

#[test]
fn after_a_lost_watch_only_what_was_known_is_granted() {
    let mut queue = listed(vec![entry(1, "a", MUTEX, 1), entry(2, "b", MUTEX, 1)]);
    queue.lost_watch();
    // An entry that was put at 3 was missed: the one at 4 must not hold before it.
    queue.apply(put(4, entry(4, "d", MUTEX, 1)));
    queue.apply(gone(5, "a"));
    assert_eq!(holders(&queue), ["b"], "everything ahead of b is known");
    queue.apply(gone(6, "b"));
    assert_eq!(queue.standing(&id("d")), Place::Unsure);
    let listing = vec![entry(3, "c", MUTEX, 1), entry(4, "d", MUTEX, 1)];
    assert_eq!(queue.reset(listing, 6), [Event::Granted(id("c"))]);
    assert_eq!(queue.standing(&id("d")), waits(0, "c"));
}

#[test]
fn nothing_is_granted_before_the_first_listing() {
    let mut queue = Queue::new();
    assert!(!queue.is_whole());
    assert_eq!(queue.apply(put(1, entry(1, "a", MUTEX, 1))), []);
    assert_eq!(queue.standing(&id("a")), Place::Unsure);
}
