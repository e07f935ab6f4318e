//! What can only be tested from inside: that the structure is whole after every step, and after a death at any store.

mod damage;
mod ends;
mod history;
mod kill;
mod trees;
mod verbs;

use super::{Arena, Ask, Kind, NO_SLOT, Now, Place, RW_CAPACITY, VecArena};

type Lines = super::Lines<VecArena>;

const TTL: u64 = 30_000;
const WAITING: u64 = 10_000;

fn now(ns: u64) -> Now {
    Now { ns, wall_us: 1_000 + ns / 1_000, ceiling: i64::MAX }
}

fn ask(id: u128, key: &[u8], kind: Kind, weight: u32) -> Ask<'_> {
    let capacity = match kind {
        Kind::Mutex => 1,
        Kind::ReadWrite => RW_CAPACITY,
        Kind::Semaphore => 4,
    };
    let (ttl, waiting) = (TTL, WAITING);
    Ask {
        id,
        key,
        kind,
        weight,
        capacity,
        stand: true,
        ttl,
        waiting,
        birth: 0,
        slot: NO_SLOT,
        note: b"someone",
    }
}

fn mutex(id: u128, key: &[u8]) -> Ask<'_> {
    ask(id, key, Kind::Mutex, 1)
}

fn lines() -> Lines {
    Lines::new(VecArena::default()).expect("a new arena has room")
}

/// A small generator of random numbers: the same seed gives the same history.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    fn id(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

fn held(place: &Place) -> Option<i64> {
    match place {
        Place::Held { token, .. } => Some(*token),
        _ => None,
    }
}

fn whole<A: Arena>(lines: &super::Lines<A>) {
    if let Err(why) = lines.check() {
        panic!("{why}");
    }
}
