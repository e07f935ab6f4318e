//! The kinds of store that the engine is run against: each run has one, drawn from its seed.

use std::time::Duration;

use tenure::{After, Capabilities, HoldEnd, Modes, Order, Transfer, Ttl, Visibility, Wakeup};

use super::judge::{LOCKS, READERS};
use crate::num::Dice;

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// A server that keeps the line and pushes grants.
    Line,
    /// A server that keeps one object per lock, which clients change by compare-and-set. Whoever waits asks again.
    Objects,
    /// A server that has sessions: holds and places end with them.
    Sessions,
}

/// All of them, in the order of tables: the name, and how many runs of a hundred are its own. Those without a share run where
/// a mutant asks for them: their judge still finds what it cannot excuse.
pub(super) const STORES: [(Store, &str, u64); 3] =
    [(Store::Line, "line", 72), (Store::Objects, "objects", 14), (Store::Sessions, "sessions", 14)];

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
        self != Store::Objects
    }

    /// How many of the locks there are.
    pub(super) fn locks(self) -> usize {
        if self.shares() { LOCKS } else { READERS }
    }

    /// Whether a hold can outlast its holder, and go on under another client's claim.
    pub(super) fn keeps(self) -> bool {
        self != Store::Sessions
    }

    /// The rules that each kind judges: a table with nothing under one of them is a judge that sleeps.
    pub(super) fn judges(self, rule: &str) -> bool {
        match self {
            Store::Line | Store::Sessions => true,
            Store::Objects => rule != "L3",
        }
    }

    /// What it promises.
    pub(super) fn capabilities(self, session: u64) -> Capabilities {
        let mut can = Capabilities::strongest("simulated");
        match self {
            Store::Line => {}
            Store::Objects => {
                (can.order, can.wakeup, can.modes) = (Order::None, Wakeup::Poll, Modes::MUTEX);
                can.visibility = Visibility::Holders;
            }
            Store::Sessions => {
                (can.hold_end, can.ttl) = (HoldEnd::Session, Ttl::PerClient(Duration::from_nanos(session)));
                (can.after, can.transfer) = (After::No, Transfer::No);
            }
        }
        can
    }
}
