//! How the last holds of free locks ended: a table of a fixed size, since a lock that nobody holds or waits for has no
//! cell. Where there is no room, the oldest clean release goes first: what is not known is `Unknown`, which a holder must
//! take for the worst.

use super::arena::CELL;
use super::cells::{ENDS, HEAD, NONE, claim, hi, lo, lock, pair, root, state};
use super::{Arena, Kind, Lines, Now, Previous, RW_CAPACITY, Refusal};

/// The table's cells: those behind the root.
pub(super) const CELLS: u32 = 16;
/// Places that one name's entry may have: half a cache line.
const WAYS: usize = 4;
/// How many times that many places a cell has; its first words are its head.
const SETS: usize = CELL / WAYS - 1;

const HOW_BITS: u32 = 2;
const AGE_BITS: u32 = 22;
const AGE_MASK: u64 = (1 << AGE_BITS) - 1;
/// An entry is as old as the clock says in units of 2^36 ns, about a minute.
const AGE_SHIFT: u32 = 36;

const fn code(how: Previous) -> u32 {
    match how {
        Previous::Unknown => 0,
        Previous::Released => 1,
        Previous::Expired => 2,
        Previous::Evicted => 3,
    }
}

const fn of(code: u32) -> Previous {
    match code {
        1 => Previous::Released,
        2 => Previous::Expired,
        3 => Previous::Evicted,
        _ => Previous::Unknown,
    }
}

/// The state of a claim, with how the hold before its grant ended.
pub(super) const fn granted(state: u32, before: Previous) -> u32 {
    state | code(before) << 8
}

/// The kind of a lock, with how its last hold ended.
pub(super) const fn kind_word(kind: u32, ended: Previous) -> u64 {
    pair(kind, code(ended))
}

/// An entry: 40 bits of the name's hash, how, and when.
const fn entry(hash: u64, how: Previous, age: u64) -> u64 {
    hash >> (HOW_BITS + AGE_BITS) << (HOW_BITS + AGE_BITS) | (code(how) as u64) << AGE_BITS | age
}

const fn age(now: Now) -> u64 {
    now.ns >> AGE_SHIFT & AGE_MASK
}

/// Whether an entry is that of the name with this hash.
const fn is_of(entry: u64, hash: u64) -> bool {
    entry != 0 && (entry ^ hash) >> (HOW_BITS + AGE_BITS) == 0
}

const fn how(entry: u64) -> Previous {
    of(lo(entry >> AGE_BITS) & ((1 << HOW_BITS) - 1))
}

impl<A: Arena> Lines<A> {
    /// Makes the table of a fresh arena.
    pub(super) fn new_ends(&mut self) -> Result<(), Refusal> {
        while self.arena.cells() <= CELLS {
            if !self.arena.grow() {
                return Err(Refusal::Full);
            }
        }
        for cell in 1..=CELLS {
            self.put(cell, HEAD, pair(NONE, ENDS));
        }
        self.set_root(root::NEXT, u64::from(CELLS) + 1);
        Ok(())
    }

    /// The cell and the first word where a name's entries lie.
    fn set_of(hash: u64) -> (u32, usize) {
        let n = lo(hash) % (CELLS * SETS as u32);
        (1 + n / SETS as u32, WAYS * (1 + n as usize % SETS))
    }

    /// How the last hold of a lock ended that has no cell.
    pub(super) fn last_end(&self, hash: [u64; 2]) -> Previous {
        let (cell, first) = Self::set_of(hash[0]);
        let mut words = (first..first + WAYS).map(|field| self.at(cell, field));
        words.find(|word| is_of(*word, hash[1])).map_or(Previous::Unknown, how)
    }

    /// Remembers it, when the lock's cell goes.
    pub(super) fn keep_end(&mut self, l: u32, now: Now) {
        let ended = self.ended(l);
        if ended == Previous::Unknown {
            return;
        }
        let (cell, first) = Self::set_of(self.at(l, lock::HASH));
        let word = entry(self.at(l, lock::HASH + 1), ended, age(now));
        // Its own entry, else an empty one, else the oldest release, else the oldest.
        let rank = |field: usize| {
            let old = self.at(cell, field);
            (!is_of(old, word), old != 0, how(old) != Previous::Released, old & AGE_MASK)
        };
        let field = (first..first + WAYS).min_by_key(|field| rank(*field)).unwrap_or(first);
        self.set(cell, field, word);
    }

    /// How the last hold of a live lock ended.
    pub(super) fn ended(&self, l: u32) -> Previous {
        of(hi(self.at(l, lock::KIND)))
    }

    pub(super) fn set_ended(&mut self, l: u32, how: Previous) {
        self.set(l, lock::KIND, kind_word(lo(self.at(l, lock::KIND)), how));
    }

    /// Notes how a hold ends. A reader leaves nothing half done, and a waiter held nothing.
    pub(super) fn ends(&mut self, l: u32, c: u32, how: Previous) -> Result<(), Refusal> {
        let holds = self.state(c) != state::WAITING;
        if holds && (self.kind(l)? != Kind::ReadWrite || self.weight(c) == RW_CAPACITY) {
            self.set_ended(l, how);
        }
        Ok(())
    }

    /// How the hold before a claim's grant ended.
    pub(super) fn before(&self, c: u32) -> Previous {
        of(lo(self.at(c, claim::STATE)) >> 8)
    }
}
