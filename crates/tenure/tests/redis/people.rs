//! Those who come in the random histories, and what they ask for.

use tenure::core::line::{Ask, Kind, NO_SLOT, RW_CAPACITY};

/// The naive model's name of the lock.
pub(crate) const NAME: &[u8] = b"shop/a";
pub(crate) const CLIENT: &str = "00000000000000c1";

pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }
}

/// A claim as the history knows it.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) id: u128,
    pub(crate) kind: Kind,
    pub(crate) weight: u32,
    pub(crate) capacity: u32,
    pub(crate) ttl: u64,
    pub(crate) waiting: u64,
    pub(crate) birth: u64,
    pub(crate) note: String,
}

impl Person {
    /// The claim as the line sees it.
    pub(crate) fn ask(&self) -> Ask<'_> {
        Ask {
            id: self.id,
            key: NAME,
            kind: self.kind,
            weight: self.weight,
            capacity: self.capacity,
            stand: true,
            ttl: self.ttl * 1000,
            waiting: self.waiting * 1000,
            birth: self.birth * 1000,
            slot: NO_SLOT,
            note: self.note.as_bytes(),
        }
    }

    /// Kind, terms, id, birth and who, as the scripts take them.
    pub(crate) fn words(&self) -> [String; 5] {
        let terms = format!("{:010}{:010}{:011}{:011}", self.weight, self.capacity, self.ttl, self.waiting);
        let who = format!("{CLIENT}{}", self.note);
        [(self.kind as u8).to_string(), terms, hex(self.id), format!("{:016}", self.birth), who]
    }

    pub(crate) fn new(id: u128, kind: Kind, now: u64, dice: &mut Dice) -> Person {
        // Now and then somebody comes who takes the lock for something else.
        let kind = match dice.roll(20) {
            0 => Kind::Mutex,
            1 => Kind::Semaphore,
            2 => Kind::ReadWrite,
            _ => kind,
        };
        let (weight, capacity) = match kind {
            Kind::ReadWrite => (if dice.roll(3) == 0 { RW_CAPACITY } else { 1 }, RW_CAPACITY),
            Kind::Semaphore => {
                let capacity = [3, 3, 4, 5][usize::try_from(dice.roll(4)).expect("small")];
                (1 + u32::try_from(dice.roll(3)).expect("small"), capacity)
            }
            _ => (1, 1),
        };
        let lease =
            |dice: &mut Dice| [100_000, 500_000, 3_000_000][usize::try_from(dice.roll(3)).expect("small")];
        let birth = if dice.roll(12) == 0 { now - 61_000_000 } else { now };
        let (ttl, waiting) = (lease(dice), lease(dice));
        // A grant that is told is good for the shorter of both, of which the model knows nothing.
        let waiting = waiting.max(ttl);
        Person { id, kind, weight, capacity, ttl, waiting, birth, note: format!("person {id}") }
    }
}

pub(crate) fn hex(id: u128) -> String {
    format!("{id:032x}")
}

/// This machine's time, in µs since the epoch.
pub(crate) fn now_us() -> i64 {
    let now = std::time::UNIX_EPOCH.elapsed().expect("a clock");
    i64::try_from(now.as_micros()).expect("digits")
}
