//! A writer that dies at any store, or is refused room at any cell, leaves a whole structure, and the verb, repeated by
//! another, gives the right answer.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use super::super::arena::CELL;
use super::super::{Arena, Ask, Found, Kind, LineRow, Lines, Now, Place, Refusal, Trace};
use super::history::random_ask;
use super::{Dice, mutex, whole};

/// The memory that outlives its writers.
#[derive(Clone, Default)]
struct Memory {
    words: Vec<u64>,
    undo: Vec<(usize, u64)>,
}

/// A writer's view of it, with the day of its death.
struct Mortal {
    memory: Rc<RefCell<Memory>>,
    /// How many stores it will yet do.
    left: u64,
    /// The most words that any step had to undo.
    longest: usize,
    /// The most cells there may be.
    most: u32,
    bad: Cell<bool>,
}

struct Death;

impl Mortal {
    fn new(memory: &Rc<RefCell<Memory>>, left: u64, most: u32) -> Mortal {
        Mortal { memory: Rc::clone(memory), left, longest: 0, most, bad: Cell::new(false) }
    }

    fn store(&mut self) {
        if self.left == 0 {
            resume_unwind(Box::new(Death));
        }
        self.left -= 1;
    }
}

impl Memory {
    fn roll_back(&mut self) {
        for (at, word) in self.undo.drain(..).rev() {
            self.words[at] = word;
        }
    }
}

impl Arena for Mortal {
    fn get(&self, at: usize) -> u64 {
        self.memory.borrow().words.get(at).copied().unwrap_or_else(|| {
            self.fault();
            0
        })
    }

    fn set(&mut self, at: usize, word: u64) {
        self.store();
        let mut m = self.memory.borrow_mut();
        let old = m.words[at];
        m.undo.push((at, old));
        m.words[at] = word;
        self.longest = self.longest.max(m.undo.len());
    }

    fn put(&mut self, at: usize, word: u64) {
        self.store();
        self.memory.borrow_mut().words[at] = word;
    }

    fn cells(&self) -> u32 {
        u32::try_from(self.memory.borrow().words.len() / CELL).expect("few")
    }

    fn grow(&mut self) -> bool {
        let more = self.cells() < self.most;
        if more {
            // Only the root must be found empty: other new memory may hold garbage.
            let words = &mut self.memory.borrow_mut().words;
            let garbage = if words.is_empty() { 0 } else { 0xDEAD_BEEF_DEAD_BEEF };
            words.resize(words.len() + CELL, garbage);
        }
        more
    }

    fn commit(&mut self) {
        self.store();
        self.memory.borrow_mut().undo.clear();
    }

    fn abort(&mut self) {
        self.memory.borrow_mut().roll_back();
    }

    fn fault(&self) {
        self.bad.set(true);
    }

    fn faulty(&self) -> bool {
        self.bad.get()
    }
}

#[derive(Clone, Debug)]
enum Verb {
    Attempt(u128, Kind, u64),
    Renew(u128, usize),
    Release(u128, Trace),
    /// From an id to another one.
    Transfer(u128, u128, Kind, u64),
    Evict(usize),
    Reap(u32),
    Sweep,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Place(Place),
    Found(Found),
    Count(u32),
}

fn run(l: &mut Lines<Mortal>, verb: &Verb, key: &[u8], now: Now) -> Result<Answer, Refusal> {
    Ok(match *verb {
        Verb::Attempt(id, kind, seed) => {
            let mut ask = random_ask(id, key, kind, &mut Dice(seed), now.ns, &[7; 400]);
            ask.birth = now.ns;
            Answer::Place(l.attempt(&ask, now)?)
        }
        Verb::Renew(id, n) => Answer::Place(l.renew(id, key, Some(&note(n)), now)?),
        Verb::Release(id, trace) => Answer::Found(l.release(id, key, now.ns, trace, now)?),
        Verb::Transfer(from, to, kind, seed) => {
            let mut ask = random_ask(to, key, kind, &mut Dice(seed), now.ns, &[7; 400]);
            ask.birth = now.ns;
            match l.transfer(from, &ask, now) {
                Err(Refusal::Larger) => Answer::Count(u32::MAX),
                other => Answer::Place(other?),
            }
        }
        Verb::Evict(n) => Answer::Count(l.evict(key, None, &vec![b'w'; n], now)?),
        Verb::Reap(slot) => Answer::Count(l.reap(slot, now)?),
        Verb::Sweep => {
            l.sweep(9, now)?;
            Answer::Count(0)
        }
    })
}

/// One byte, `n` times; another byte for another `n`.
fn note(n: usize) -> Vec<u8> {
    vec![u8::try_from(n % 251).expect("a byte"); n]
}

/// Every note is one that somebody wrote, and not a mixture.
fn notes_are_whole(row: Option<&LineRow>) -> bool {
    let mut claims = row.into_iter().flat_map(|r| r.holders.iter().chain(&r.waiting));
    claims.all(|c| c.note == note(c.note.len()) || c.note == [7; 400])
}

/// Whether the answer of a repeated verb may be that: the same, or what a verb says that was done before.
fn right(first: &Answer, repeated: &Answer) -> bool {
    match (first, repeated) {
        (Answer::Place(Place::Held { .. }), Answer::Place(Place::Held { .. })) => true,
        (Answer::Place(a), Answer::Place(b)) => a == b,
        (Answer::Found(a), Answer::Found(b)) => a == b || *b == Found::Nothing,
        (Answer::Count(a), Answer::Count(b)) => b <= a,
        _ => false,
    }
}

/// Runs the verb on copies of `memory`: once to the end, and dying at each of its stores. Returns its length.
fn die_everywhere(memory: &Memory, verb: &Verb, key: &[u8], now: Now) -> (Memory, u64) {
    let whole_run = Rc::new(RefCell::new(memory.clone()));
    let mut l = Lines::new(Mortal::new(&whole_run, u64::MAX, u32::MAX)).expect("whole");
    // An eviction that is repeated also hits those who were let in by the first one, as any second one would.
    let waiters = l.view(key, 0, now).map_or(0, |row| row.waiters);
    let exact = waiters == 0 || !matches!(verb, Verb::Evict(_));
    let answer = run(&mut l, verb, key, now).expect("room enough");
    whole(&l);
    assert!(l.arena().longest < 1024, "{verb:?} needs {} words in one step", l.arena().longest);
    let stores = u64::MAX - l.arena().left;
    let (counts, row) = (l.counts(), l.view(key, 99, now));
    for n in 0..stores {
        let copy = Rc::new(RefCell::new(memory.clone()));
        let died = catch_unwind(AssertUnwindSafe(|| {
            let mut dying = Lines::new(Mortal::new(&copy, n, u32::MAX)).expect("whole");
            run(&mut dying, verb, key, now)
        }));
        assert!(died.is_err_and(|e| e.is::<Death>()), "{verb:?} did less at store {n}");
        copy.borrow_mut().roll_back();
        let mut l = Lines::new(Mortal::new(&copy, u64::MAX, u32::MAX)).expect("whole");
        if let Err(why) = l.check() {
            panic!("{verb:?} killed at store {n}: {why}");
        }
        assert!(
            notes_are_whole(l.view(key, 99, now).as_ref()),
            "{verb:?} killed at store {n}: a note is a mixture"
        );
        let repeated = run(&mut l, verb, key, now).expect("room enough");
        whole(&l);
        if !exact {
            continue;
        }
        assert!(right(&answer, &repeated), "{verb:?} killed at store {n}: {repeated:?}, not {answer:?}");
        // Whoever visits next finds the same line, whenever the first one died.
        run(&mut l, &Verb::Release(u128::MAX, Trace::Nothing), key, now).expect("visited");
        assert_eq!(l.counts(), counts, "{verb:?} killed at store {n}");
        let again = l.view(key, 99, now);
        let who = |r: &Option<LineRow>| -> Vec<u128> {
            r.iter().flat_map(|r| r.holders.iter().chain(&r.waiting)).map(|c| c.id).collect()
        };
        assert_eq!(who(&again), who(&row), "{verb:?} killed at store {n}");
    }
    (whole_run.take(), stores)
}

fn random_verb(dice: &mut Dice, kind: Kind) -> Verb {
    let id = u128::from(dice.below(12)) * 0x1_0000_0001_0000_0001 + 1;
    match dice.below(17) {
        14.. => {
            let to = u128::from(dice.below(12)) * 0x1_0000_0001_0000_0001 + 1;
            Verb::Transfer(id, to, kind, dice.next())
        }
        0..7 => Verb::Attempt(id, kind, dice.next()),
        7 | 8 => Verb::Renew(id, usize::try_from(dice.below(1000)).expect("small")),
        9 => Verb::Release(id, Trace::Nothing),
        10 => Verb::Release(id, Trace::Mark),
        11 => Verb::Release(id, Trace::For(dice.below(500))),
        12 => Verb::Evict(usize::try_from(dice.below(1000)).expect("small")),
        _ => [Verb::Reap(1), Verb::Reap(2), Verb::Sweep][usize::try_from(dice.below(3)).expect("small")]
            .clone(),
    }
}

#[test]
fn death_at_any_store_leaves_a_whole_structure() {
    for seed in 1..7u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (mut memory, mut ns, mut stores) = (Memory::default(), 1_000_000, 0);
        for _ in 0..60 {
            ns += dice.below(150);
            let now = Now { ns, wall_us: ns, ceiling: i64::MAX };
            let which = usize::try_from(dice.below(3)).expect("small");
            let kind = [Kind::Mutex, Kind::ReadWrite, Kind::Semaphore][which];
            let key = vec![b'k'; 5 + 120 * which];
            let (next, n) = die_everywhere(&memory, &random_verb(&mut dice, kind), &key, now);
            (memory, stores) = (next, stores + n);
        }
        assert!(stores > 500, "the history did too little: {stores} stores");
    }
}

#[test]
fn writers_may_take_turns() {
    for seed in 1..20u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let memory = Rc::new(RefCell::new(Memory::default()));
        let writer = || Lines::new(Mortal::new(&memory, u64::MAX, u32::MAX)).expect("whole");
        let (mut writers, mut ns) = ([writer(), writer(), writer()], 1_000_000);
        for _ in 0..400 {
            ns += dice.below(120);
            let now = Now { ns, wall_us: ns, ceiling: i64::MAX };
            let l = &mut writers[usize::try_from(dice.below(3)).expect("small")];
            let which = usize::try_from(dice.below(6)).expect("small");
            let kind = [Kind::Mutex, Kind::ReadWrite, Kind::Semaphore][which % 3];
            run(l, &random_verb(&mut dice, kind), &[b'k', b'0' + u8::try_from(which).expect("small")], now)
                .expect("room");
            whole(l);
        }
    }
}

#[test]
fn a_refusal_for_want_of_room_changes_nothing() {
    let mut full = 0;
    for seed in 4711..4721 {
        full += refusals(&mut Dice(seed));
    }
    assert!(full > 200, "only {full} refusals");
}

/// A history in little room; says how often there was none.
fn refusals(dice: &mut Dice) -> u32 {
    let memory = Rc::new(RefCell::new(Memory::default()));
    let (mut full, mut ns) = (0, 1_000_000);
    let mut l =
        Lines::new(Mortal::new(&memory, u64::MAX, 15 + super::super::ends::CELLS)).expect("room for a root");
    for _ in 0..1_000 {
        ns += dice.below(60);
        let now = Now { ns, wall_us: ns, ceiling: i64::MAX };
        let which = usize::try_from(dice.below(3)).expect("small");
        let kind = [Kind::Mutex, Kind::ReadWrite, Kind::Semaphore][which];
        let key = vec![b'k'; 5 + 300 * which];
        l.sweep(9, now).expect("needs no room");
        let _ = l.renew(0, &key, None, now);
        let before = (l.counts(), l.view(&key, 99, now), l.last_token());
        let verb = random_verb(dice, kind);
        match run(&mut l, &verb, &key, now) {
            Ok(_) => {}
            Err(Refusal::Full) => {
                full += 1;
                assert!(
                    matches!(
                        verb,
                        Verb::Attempt(..)
                            | Verb::Renew(..)
                            | Verb::Release(_, Trace::Mark)
                            | Verb::Transfer(..)
                    ),
                    "{verb:?}"
                );
                assert_eq!((l.counts(), l.view(&key, 99, now), l.last_token()), before, "{verb:?}");
            }
            Err(other) => panic!("{verb:?}: {other:?}"),
        }
        whole(&l);
    }
    full
}

#[test]
fn a_long_line_needs_few_words_a_step() {
    let memory = Rc::new(RefCell::new(Memory::default()));
    let mut l = Lines::new(Mortal::new(&memory, u64::MAX, u32::MAX)).expect("room");
    let now = |ns| Now { ns, wall_us: ns, ceiling: i64::MAX };
    let mut dice = Dice(31);
    let ids: Vec<u128> = (0..3_000).map(|_| dice.id()).collect();
    for &id in &ids {
        let ask =
            Ask { slot: 1, ttl: 1_000_000, waiting: 1_000_000, note: &[9; 1000], ..mutex(id, b"n/long") };
        l.attempt(&ask, now(1)).expect("room");
    }
    for &id in ids.iter().step_by(3) {
        l.renew(id, b"n/long", Some(b"other"), now(2)).expect("known");
        l.release(id, b"n/long", 0, Trace::Mark, now(3)).expect("known");
    }
    l.evict(b"n/long", None, &[9; 1000], now(4)).expect("held");
    l.reap(1, now(5)).expect("reaped");
    whole(&l);
    assert_eq!((l.counts().locks, l.counts().claims), (0, 0));
    assert!(l.arena().longest < 300, "{} words", l.arena().longest);
}
