//! Random histories. One line is compared with a naive list; many lines are checked for wholeness after each verb.

use std::collections::BTreeMap;

use super::super::settle::MARK_NS;
use super::super::{Ask, Found, Kind, NO_SLOT, Now, Place, Previous, RW_CAPACITY, Refusal, Trace};
use super::{Dice, lines, whole};

#[derive(Clone, Copy, PartialEq)]
enum Is {
    Held(i64),
    Waiting,
    /// Released, and granted for a while; whether a mark is to follow.
    Kept(bool),
}

struct One {
    id: u128,
    weight: u32,
    capacity: u32,
    is: Is,
    end: u64,
    slot: u32,
    before: Previous,
}

/// The line as anybody would write it first.
#[derive(Default)]
struct Naive {
    kind: Option<Kind>,
    line: Vec<One>,
    /// Until when, and why.
    marks: BTreeMap<u128, (u64, Option<String>)>,
    last: i64,
    shared: i64,
    /// How the last hold ended that counts.
    ended: Previous,
}

/// Whether the end of such a hold counts.
fn counts(kind: Option<Kind>, one: &One) -> bool {
    one.is != Is::Waiting && (kind != Some(Kind::ReadWrite) || one.weight == RW_CAPACITY)
}

const TTL: u64 = 900;
const WAITING: u64 = 400;

impl Naive {
    fn used(&self) -> u64 {
        self.line.iter().filter(|c| c.is != Is::Waiting).map(|c| u64::from(c.weight)).sum()
    }

    /// Whether it fits in every capacity that a holder, or the claim itself, names.
    fn fits(&self, weight: u32, capacity: u32) -> bool {
        let holders = self.line.iter().filter(|c| c.is != Is::Waiting);
        let all = self.used() + u64::from(weight);
        holders.map(|c| c.capacity).chain([capacity]).all(|each| all <= u64::from(each))
    }

    fn token(&mut self, weight: u32, now: Now) -> i64 {
        let reads = self.kind == Some(Kind::ReadWrite) && weight < RW_CAPACITY;
        if self.kind == Some(Kind::Semaphore) {
            return 0;
        }
        if !reads || self.shared == 0 {
            self.last = (self.last + 1).max(now.wall_us.cast_signed());
            self.shared = if reads { self.last } else { 0 };
        }
        self.last
    }

    fn settle(&mut self, now: Now) {
        let over = |held: bool| {
            let mut over = self.line.iter().filter(|c| c.end <= now.ns && counts(self.kind, c));
            over.any(|c| matches!(c.is, Is::Held(_)) == held)
        };
        if over(true) {
            self.ended = Previous::Expired;
        } else if over(false) {
            self.ended = Previous::Released;
        }
        let marks = &mut self.marks;
        self.line.retain(|c| {
            if c.end <= now.ns && c.is == Is::Kept(true) {
                marks.insert(c.id, (now.ns + MARK_NS, None));
            }
            c.end > now.ns
        });
        marks.retain(|_, m| m.0 >= now.ns);
        while let Some(i) = self.line.iter().position(|c| c.is == Is::Waiting) {
            let (weight, capacity) = (self.line[i].weight, self.line[i].capacity);
            if !self.fits(weight, capacity) {
                break;
            }
            let token = self.token(weight, now);
            (self.line[i].is, self.line[i].end) = (Is::Held(token), now.ns + TTL);
            self.line[i].before = self.ended;
        }
        if self.line.is_empty() {
            (self.kind, self.shared) = (None, 0);
        }
    }

    fn standing(&self, id: u128) -> Option<Place> {
        let i = self.line.iter().position(|c| c.id == id && !matches!(c.is, Is::Kept(_)))?;
        Some(match self.line[i].is {
            Is::Held(token) => Place::Held { token, end: self.line[i].end, previous: self.line[i].before },
            _ => {
                let before = &self.line[..i];
                let ahead = before.iter().filter(|c| c.is == Is::Waiting).count();
                let look = self.line.iter().enumerate().filter(|(n, c)| *n < i || c.is != Is::Waiting);
                let look = look.map(|(_, c)| c.end).min().expect("something is before a waiter");
                Place::Waiting { ahead: u32::try_from(ahead).expect("few"), end: self.line[i].end, look }
            }
        })
    }

    fn again(&mut self, id: u128, now: Now) -> Option<Place> {
        if let Some(c) = self.line.iter_mut().find(|c| c.id == id && !matches!(c.is, Is::Kept(_))) {
            c.end = c.end.max(now.ns + if c.is == Is::Waiting { WAITING } else { TTL });
        }
        self.standing(id).or_else(|| {
            let kept = self.line.iter().any(|c| c.id == id);
            let why = self.marks.get(&id).map(|m| m.1.clone()).or(kept.then_some(None))?;
            Some(Place::Gone { why })
        })
    }

    fn attempt(&mut self, ask: &Ask<'_>, now: Now) -> Option<Place> {
        self.settle(now);
        if let Some(place) = self.again(ask.id, now) {
            return Some(place);
        }
        if now.ns.saturating_sub(ask.birth) > MARK_NS {
            return Some(Place::Gone { why: None });
        }
        if *self.kind.get_or_insert(ask.kind) != ask.kind {
            return None;
        }
        let waits = self.line.iter().any(|c| c.is == Is::Waiting);
        let fits = !waits && self.fits(ask.weight, ask.capacity);
        if !fits && !ask.stand {
            return Some(Place::Busy);
        }
        let is = if fits { Is::Held(self.token(ask.weight, now)) } else { Is::Waiting };
        let end = now.ns + if fits { TTL } else { WAITING };
        self.line.push(One {
            id: ask.id,
            weight: ask.weight,
            capacity: ask.capacity,
            is,
            end,
            slot: ask.slot,
            before: self.ended,
        });
        self.standing(ask.id)
    }

    fn release(&mut self, id: u128, birth: u64, trace: Trace, now: Now) -> Found {
        self.settle(now);
        let at = self.line.iter().position(|c| c.id == id);
        let found = match at.map(|i| self.line[i].is) {
            None | Some(Is::Kept(_)) => Found::Nothing,
            Some(Is::Held(_)) => Found::Held,
            Some(Is::Waiting) => Found::Waiting,
        };
        match (found, trace, at) {
            (Found::Nothing, Trace::Mark, Some(i)) => self.line[i].is = Is::Kept(true),
            (Found::Nothing, Trace::Mark, None) if now.ns.saturating_sub(birth) <= MARK_NS => {
                self.marks.entry(id).or_insert((now.ns + MARK_NS, None));
            }
            (Found::Held, Trace::For(d), Some(i)) => {
                (self.line[i].is, self.line[i].end, self.line[i].slot) =
                    (Is::Kept(false), now.ns + d, NO_SLOT);
            }
            (Found::Held | Found::Waiting, _, Some(i)) => {
                let one = self.line.remove(i);
                if counts(self.kind, &one) {
                    self.ended = Previous::Released;
                }
                if trace == Trace::Mark {
                    self.marks.insert(id, (now.ns + MARK_NS, None));
                }
            }
            _ => {}
        }
        self.settle(now);
        found
    }

    /// `None`: refused.
    fn transfer(&mut self, from: u128, to: &Ask<'_>, now: Now) -> Option<Place> {
        self.settle(now);
        if let Some(place) = self.again(to.id, now) {
            return Some(place);
        }
        let gone = |why| Some(Place::Gone { why });
        if now.ns.saturating_sub(to.birth) > MARK_NS {
            return gone(None);
        }
        let held = |c: &&mut One| c.id == from && matches!(c.is, Is::Held(_));
        let Some(one) = self.line.iter_mut().find(held) else {
            return gone(self.marks.get(&from).and_then(|m| m.1.clone()));
        };
        if self.kind != Some(to.kind) || to.weight > one.weight {
            return None;
        }
        let reads_now = to.kind == Kind::ReadWrite && one.weight == RW_CAPACITY && to.weight < RW_CAPACITY;
        (one.id, one.weight, one.capacity, one.slot) = (to.id, to.weight, to.capacity, to.slot);
        one.end = now.ns + TTL;
        if reads_now {
            let token = self.token(to.weight, now);
            self.ended = Previous::Released;
            self.line.iter_mut().find(|c| c.id == to.id).expect("there").is = Is::Held(token);
        }
        self.settle(now);
        self.standing(to.id)
    }

    fn evict(&mut self, why: &str, now: Now) -> u32 {
        self.settle(now);
        let before = self.line.len();
        if self.line.iter().any(|c| counts(self.kind, c)) {
            self.ended = Previous::Evicted;
        }
        let marks = &mut self.marks;
        self.line.retain(|c| {
            if c.is != Is::Waiting {
                marks.insert(c.id, (now.ns + MARK_NS, Some(why.to_owned())));
            }
            c.is == Is::Waiting
        });
        let evicted = before - self.line.len();
        self.settle(now);
        u32::try_from(evicted).expect("few")
    }

    fn reap(&mut self, slot: u32, now: Now) -> u32 {
        self.settle(now);
        let before = self.line.len();
        if self.line.iter().any(|c| c.slot == slot && counts(self.kind, c)) {
            self.ended = Previous::Expired;
        }
        self.line.retain(|c| c.slot != slot);
        let reaped = before - self.line.len();
        self.settle(now);
        u32::try_from(reaped).expect("few")
    }
}

pub(super) fn random_ask<'a>(
    id: u128,
    key: &'a [u8],
    kind: Kind,
    dice: &mut Dice,
    at: u64,
    note: &'a [u8],
) -> Ask<'a> {
    let (weight, capacity) = match kind {
        Kind::Mutex => (1, 1),
        Kind::ReadWrite if dice.below(3) == 0 => (RW_CAPACITY, RW_CAPACITY),
        Kind::ReadWrite => (1, RW_CAPACITY),
        Kind::Semaphore => {
            let capacity = u32::try_from(dice.below(4)).expect("small") + 1;
            (u32::try_from(dice.below(u64::from(capacity))).expect("small") + 1, capacity)
        }
    };
    let birth = at.saturating_sub(if dice.below(30) == 0 { MARK_NS + 1 } else { dice.below(50) });
    let slot = u32::try_from(dice.below(4)).expect("small");
    Ask {
        id,
        key,
        kind,
        weight,
        capacity,
        stand: dice.below(4) > 0,
        ttl: TTL,
        waiting: WAITING,
        birth,
        slot,
        note,
    }
}

#[test]
fn one_line_agrees_with_a_naive_list() {
    let kinds = [Kind::Mutex, Kind::ReadWrite, Kind::Semaphore];
    let mut continued = 0;
    for seed in 1..150u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (mut l, mut naive, mut ns) = (lines(), Naive::default(), 1_000_000);
        let key = b"default/one";
        for step in 0..400 {
            ns += if dice.below(300) == 0 { MARK_NS / 2 } else { dice.below(120) };
            let now = Now { ns, wall_us: 5_000 + dice.below(3_000), ceiling: i64::MAX };
            let id = u128::from(dice.below(16)) + 1;
            let at = format!("seed {seed}, step {step}");
            match dice.below(20) {
                0..7 => {
                    let kind = kinds[usize::try_from((seed + dice.below(20) / 19) % 3).expect("small")];
                    let ask = random_ask(id, key, kind, &mut dice, ns, b"note");
                    assert_eq!(l.attempt(&ask, now).ok(), naive.attempt(&ask, now), "{at}: attempt {ask:?}");
                }
                7..10 => {
                    let note = vec![b'n'; usize::try_from(dice.below(1025)).expect("small")];
                    naive.settle(now);
                    let expect = naive.again(id, now).unwrap_or(Place::Gone { why: None });
                    assert_eq!(l.renew(id, key, Some(&note), now), Ok(expect), "{at}: renew {id}");
                }
                10..14 => {
                    let trace = [Trace::Nothing, Trace::Mark, Trace::For(dice.below(900))];
                    let trace = trace[usize::try_from(dice.below(3)).expect("small")];
                    let expect = naive.release(id, ns, trace, now);
                    assert_eq!(
                        l.release(id, key, ns, trace, now),
                        Ok(expect),
                        "{at}: release {id} {trace:?}"
                    );
                }
                16.. => {
                    // Often from one that holds, often under an id of its own.
                    let holder = naive.line.iter().find(|c| c.is != Is::Waiting).map(|c| c.id);
                    let from = holder.filter(|_| dice.below(3) > 0).unwrap_or(id);
                    let ids = [16, 60][usize::try_from(dice.below(2)).expect("small")];
                    let to = u128::from(dice.below(ids)) + 1;
                    let kind = naive.kind.unwrap_or(kinds[usize::try_from(seed % 3).expect("small")]);
                    let ask = random_ask(to, key, kind, &mut dice, ns, b"goes on");
                    let expect = naive.transfer(from, &ask, now);
                    assert_eq!(
                        l.transfer(from, &ask, now).ok(),
                        expect,
                        "{at}: transfer from {from} to {ask:?}"
                    );
                    continued += u32::from(matches!(expect, Some(Place::Held { .. })));
                }
                14 => assert_eq!(l.evict(key, None, b"why", now), Ok(naive.evict("why", now)), "{at}: evict"),
                _ => {
                    let slot = u32::try_from(dice.below(3)).expect("small") + 1;
                    assert_eq!(l.reap(slot, now), Ok(naive.reap(slot, now)), "{at}: reap {slot}");
                }
            }
            whole(&l);
            assert_eq!(l.last_token(), naive.last, "{at}");
            let row = l.view(key, 99, now);
            let holders = naive.line.iter().filter(|c| c.is != Is::Waiting).map(|c| c.id);
            assert!(row.iter().flat_map(|r| &r.holders).map(|c| c.id).eq(holders), "{at}");
            let waiting = naive.line.iter().filter(|c| c.is == Is::Waiting).map(|c| c.id);
            assert!(row.iter().flat_map(|r| &r.waiting).map(|c| c.id).eq(waiting), "{at}");
        }
    }
    assert!(continued > 1_000, "only {continued} holds went on");
}

#[test]
fn many_lines_stay_whole() {
    for seed in 1..25u64 {
        let mut dice = Dice(seed.wrapping_mul(0xD134_2543_DE82_EF95));
        let (mut l, mut ns) = (lines(), 1_000_000);
        for _ in 0..600 {
            ns += dice.below(30);
            let now = Now { ns, wall_us: ns, ceiling: i64::MAX };
            let which = usize::try_from(dice.below(12)).expect("small");
            let key = vec![b'a' + u8::try_from(which).expect("small"); 1 + which * 30];
            let kind = [Kind::Mutex, Kind::ReadWrite, Kind::Semaphore][which % 3];
            let id = u128::from(dice.below(60)) * 0x1_0000_0001_0000_0001 + 1;
            let note = vec![1; usize::try_from(dice.below(600)).expect("small")];
            let done = match dice.below(13) {
                0..6 => l.attempt(&random_ask(id, &key, kind, &mut dice, ns, &note), now).map(|_| ()),
                6 | 7 => l.renew(id, &key, Some(&note), now).map(|_| ()),
                8 | 9 => l.release(id, &key, ns, Trace::Mark, now).map(|_| ()),
                10 => l.evict(&key, None, &note, now).map(|_| ()),
                11 => {
                    let ask = random_ask(id ^ 1 << 90, &key, kind, &mut dice, ns, &note);
                    match l.transfer(id, &ask, now) {
                        Err(Refusal::Larger) => Ok(()),
                        other => other.map(|_| ()),
                    }
                }
                _ => l.reap(1 + u32::try_from(which).expect("small") % 3, now).map(|_| ()),
            };
            assert_eq!(done, Ok(()));
            whole(&l);
        }
        for _ in 0..600 {
            l.sweep(2, super::now(1 << 62)).expect("swept");
        }
        assert_eq!(l.counts(), super::super::Counts::default());
        whole(&l);
    }
}
