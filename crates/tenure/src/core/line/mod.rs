//! The one model behind every primitive: a lock is a line of claims with weights; when room comes free, the longest
//! prefix that fits the capacity is granted. Claims on a semaphore may name different capacities: a claim is granted if
//! it fits the least that a present holder, or the claim itself, names.
//!
//! Written once over an [`Arena`] of words, so that a `Vec` in memory (`memory:`) and a journaled file mapping
//! (`host:`) run the same code. All verbs are idempotent on the claim id and cost O(log n) in the length of the line.
//!
//! - [`arena`]: what the line needs of its memory, and the plain one.
//! - `cells`: where each field lies; text in chained cells.
//! - `tree`: the ordered tree (a treap) that keeps lines, the index of claims and the locks.
//! - [`Lines`]: attempt, renew, release, evict (`verbs`), transfer and reap (`slots`), of the steps in `settle`.
//! - `ends`: how the last hold of a lock ended.
//! - `view`: what `inspect` shows; changes nothing.
//! - `check`: whether a structure is whole, for tests.

pub mod arena;
mod cells;
#[cfg(any(test, feature = "unstable"))]
mod check;
mod ends;
mod settle;
mod slots;
mod transfer;
mod tree;
mod verbs;
mod view;

#[cfg(test)]
mod tests;

pub use arena::{Arena, VecArena};
/// The word of an arena that says how many of its cells were ever used.
#[cfg(feature = "host")]
pub(crate) const NEXT_WORD: usize = cells::root::NEXT;
use crate::core::previous::Previous;
pub use verbs::{Counts, Lines};
pub use view::{ClaimRow, LineRow};

/// What kind of line a lock is. A claim of another kind than the live line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Kind {
    /// Capacity 1, weight 1; each grant has a token of its own.
    Mutex = 1,
    /// Capacity `RW_CAPACITY`; a reader weighs 1, a writer all of it. Readers between two writers share a token.
    ReadWrite = 2,
    /// Capacity N; grants have no token.
    Semaphore = 3,
}

/// The capacity of a read-write lock, and the weight of a writer.
pub const RW_CAPACITY: u32 = u32::MAX;

/// The slot of a claim that is anchored to no process.
pub const NO_SLOT: u32 = 0;

/// The most claims that may wait for one lock.
pub const WAITERS_MAX: u64 = 100_000;

/// The store's clocks at one instant, and how far tokens may go.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The clock of leases, in ns. Never goes back.
    pub ns: u64,
    /// The wall clock in µs, from which tokens are made. May be wrong; tokens still never go back.
    pub wall_us: u64,
    /// No token at or above this may be given ([`Refusal::Ceiling`]); `i64::MAX` where nothing limits it.
    pub ceiling: i64,
}

/// A claim as the line sees it.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The claim's id: random, chosen before the first request.
    pub id: u128,
    /// `namespace/name`.
    pub key: &'a [u8],
    /// The kind of line.
    pub kind: Kind,
    /// How much of the capacity it takes.
    pub weight: u32,
    /// The capacity that it assumes.
    pub capacity: u32,
    /// Whether it stands in line when it cannot be granted at once.
    pub stand: bool,
    /// Its lease once granted, in ns.
    pub ttl: u64,
    /// Its lease while it waits, in ns.
    pub waiting: u64,
    /// When the claim was made, on the clock of [`Now::ns`].
    pub birth: u64,
    /// The process slot it is anchored to, or [`NO_SLOT`].
    pub slot: u32,
    /// Who asks and why, in the backend's own encoding; shown, never judged.
    pub note: &'a [u8],
}

/// Where a claim stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It holds. `token` is 0 where the kind has none; `end` is when its lease ends.
    Held {
        /// The fencing token, or 0.
        token: i64,
        /// When the lease ends ([`Now::ns`]).
        end: u64,
        /// How the hold before it ended.
        previous: Previous,
    },
    /// It waits.
    Waiting {
        /// How many wait before it.
        ahead: u32,
        /// When its waiting lease ends.
        end: u64,
        /// When something ahead of it ends by itself at the earliest: worth another look then.
        look: u64,
    },
    /// Not granted, and it did not want to stand in line.
    Busy,
    /// The line does not know it, or it was withdrawn or evicted. `why` is the reason given with an eviction.
    Gone {
        /// The eviction's reason.
        why: Option<String>,
    },
}

/// What a release found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// It held.
    Held,
    /// It waited.
    Waiting,
    /// Nothing of that id.
    Nothing,
}

/// What a release leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Nothing.
    Nothing,
    /// A mark: no late request of this id is granted. Only while one may still be on its way.
    Mark,
    /// The hold itself, unrenewed and anchored to no process, for this many ns more.
    For(u64),
}

/// Why a verb was refused. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The live line is of this other kind.
    Kind(Kind),
    /// Weight 0, or more than the capacity, or a capacity that is not that of the kind.
    Weight,
    /// A hold goes on with less weight, or the same, never with more.
    Larger,
    /// The arena has no room; or a key or note is longer than 1 KiB.
    Full,
    /// [`WAITERS_MAX`] already wait.
    TooMany,
    /// A token at or above the ceiling would be needed: raise it above this and try again.
    Ceiling(i64),
    /// The structure is not what it must be. The arena's content cannot be trusted.
    Corrupt,
}

/// Something that happened to a claim other than the one a verb was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was granted.
    Granted {
        /// The claim.
        id: u128,
        /// The process slot it is anchored to.
        slot: u32,
    },
    /// It was evicted.
    Evicted {
        /// The claim.
        id: u128,
        /// The process slot it is anchored to.
        slot: u32,
    },
}
