//! The kinds of store that the engine is run against: each run has one, drawn from its seed.

use std::time::Duration;

use tenure::{
    After, Capabilities, Evict, HoldEnd, Knows, Modes, Order, TokenStrength, Transfer, Ttl, Turns,
    Visibility, Wakeup,
};

use super::locks::{LOCKS, READERS};
use crate::num::Dice;

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// A server that keeps the line and pushes grants.
    Line,
    /// The same, over connections that the product's own supervision keeps up.
    Lanes,
    /// A server that keeps one object per lock, which clients change by compare-and-set. Whoever waits asks again.
    Objects,
    /// A server that has sessions: holds and places end with them.
    Sessions,
    /// Several servers that know nothing of each other, of which a quorum decides. Whoever waits asks again.
    Quorum,
}

/// All of them, in the order of tables: the name, and how many runs of a hundred are its own. Those without a share run where
/// a mutant asks for them: their judge still finds what it cannot excuse.
pub(super) const STORES: [(Store, &str, u64); 5] = [
    (Store::Line, "line", 46),
    (Store::Lanes, "lanes", 22),
    (Store::Objects, "objects", 12),
    (Store::Sessions, "sessions", 12),
    (Store::Quorum, "quorum", 8),
];

impl Store {
    /// The one that a run has.
    pub(super) fn of(seed: u64) -> Store {
        let mut rest = Dice::new(seed, 2).below(100);
        for (store, _, share) in STORES {
            match rest.checked_sub(share) {
                Some(left) => rest = left,
                None => return store,
            }
        }
        Store::Line
    }

    /// Whether there are locks that several may hold together.
    pub(super) fn shares(self) -> bool {
        matches!(self, Store::Line | Store::Lanes | Store::Sessions)
    }

    /// Whether a server keeps the line.
    pub(super) fn lines(self) -> bool {
        matches!(self, Store::Line | Store::Lanes)
    }

    /// Whether clients have connections, which they make before they can ask for anything.
    pub(super) fn connects(self) -> bool {
        self == Store::Lanes
    }

    /// How many of the locks there are.
    pub(super) fn locks(self) -> usize {
        if self.shares() { LOCKS } else { READERS }
    }

    /// Whether a hold can outlast its holder, and go on under another client's claim.
    pub(super) fn keeps(self) -> bool {
        self.lines() || self == Store::Objects
    }

    /// Whether one claim can stand for several tasks, which pass its hold on.
    pub(super) fn passes(self) -> bool {
        self != Store::Quorum
    }

    /// Whether its servers judge claims by when they were born.
    pub(super) fn asks_births(self) -> bool {
        self != Store::Quorum
    }

    /// Whether the driver tells the judge what was granted, so that leases end in true time there.
    pub(super) fn decides_at_clients(self) -> bool {
        self == Store::Quorum
    }

    /// The rules that each kind judges: a table with nothing under one of them is a judge that sleeps.
    pub(super) fn judges(self, rule: &str) -> bool {
        match self {
            Store::Line | Store::Lanes | Store::Sessions => true,
            Store::Objects | Store::Quorum => rule != "L3",
        }
    }

    /// What it promises.
    pub(super) fn capabilities(self, session: u64, leases: [u64; 2]) -> Capabilities {
        let mut can = Capabilities::strongest("simulated");
        match self {
            Store::Line | Store::Lanes => {}
            Store::Objects => {
                (can.order, can.wakeup, can.modes) = (Order::None, Wakeup::Poll, Modes::MUTEX);
                can.visibility = Visibility::Holders;
            }
            Store::Sessions => {
                (can.hold_end, can.ttl) = (HoldEnd::Session, Ttl::PerClient(Duration::from_nanos(session)));
                (can.after, can.transfer) = (After::No, Transfer::No);
            }
            Store::Quorum => {
                (can.order, can.wakeup, can.modes) = (Order::None, Wakeup::Poll, Modes::MUTEX);
                (can.token, can.visibility, can.previous) =
                    (TokenStrength::Hybrid, Visibility::None, Knows::No);
                (can.turns, can.after, can.transfer, can.evict) =
                    (Turns::Each, After::No, Transfer::No, Evict::No);
                // No vote was ever decided about that takes longer than a lease: the least has room for two round trips. The
                // longest is what a server without its memory waits out.
                let [min, max] = leases.map(Duration::from_nanos);
                can.ttl = Ttl::PerClaim { min, max, grain: Duration::from_nanos(1) };
            }
        }
        can
    }
}
