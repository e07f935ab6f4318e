//! What a run is, and what stays the same for all of it.

use std::collections::BTreeSet;

use super::clock::{MS, S};
use super::faults::{COUNT, FAULTS};
use crate::num::Dice;

/// What is run. The caps make a failing run smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) seed: u64,
    /// At most so many clients, workers in each, and locks taken by each.
    pub(super) clients: u64,
    pub(super) workers: u64,
    pub(super) rounds: u64,
    /// Faults that are left out, by their number.
    pub(super) skip: BTreeSet<u32>,
}

impl Case {
    pub(super) fn new(seed: u64) -> Case {
        Case { seed, clients: 4, workers: 6, rounds: 3, skip: BTreeSet::new() }
    }
}

/// What stays the same for a whole run.
pub(super) struct Plan {
    /// How long the bad weather lasts, in ns.
    pub(super) storm: u64,
    /// The shortest lease, in ms.
    pub(super) ttl: u64,
    pub(super) clients: u64,
    pub(super) workers: u64,
    pub(super) rounds: u64,
    /// Every task is a claim of its own.
    pub(super) fair: bool,
    pub(super) latency: u64,
    /// The server does not tell its time.
    pub(super) timeless: bool,
    pub(super) rates: [u32; COUNT],
    /// How many servers vote, where several do.
    pub(super) servers: usize,
}

impl Plan {
    /// How long a session lasts that is not heard of, in ns.
    pub(super) fn session(&self) -> u64 {
        S / 2 + self.ttl.max(1_000) * MS
    }

    /// The shortest and the longest lease that several servers give, in ns: time for two round trips and a renewal, and what
    /// workers ask for at most.
    pub(super) fn leases(&self) -> [u64; 2] {
        let shortest = (100 * MS).max(8 * self.latency);
        [shortest, (3 * self.ttl * MS).max(4 * S)]
    }

    pub(super) fn of(case: &Case) -> Plan {
        let mut dice = Dice::new(case.seed, 1);
        // A quarter of all runs is calm, so that few faults come together; a quarter is wild.
        let odds = [8, 4, 4, 2][usize::try_from(dice.below(4)).unwrap_or(0)];
        let rates = FAULTS.iter().map(|(fault, ..)| {
            let (chance, most) = (dice.below(odds) == 0, 1 + dice.below(fault.most()));
            if chance { u32::try_from(most).unwrap_or(1) } else { 0 }
        });
        let rates: Vec<u32> = rates.collect();
        Plan {
            storm: S / 2 + dice.below(6 * S),
            ttl: [100, 300, 1_000, 4_000][usize::try_from(dice.below(4)).unwrap_or(0)],
            clients: (1 + dice.below(3)).min(case.clients),
            workers: [1, 2, 2, 6][usize::try_from(dice.below(4)).unwrap_or(0)].min(case.workers),
            rounds: (1 + dice.below(3)).min(case.rounds),
            fair: dice.below(4) == 0,
            latency: [MS, 10 * MS, 60 * MS][usize::try_from(dice.below(3)).unwrap_or(0)],
            timeless: dice.below(4) == 0,
            rates: rates.try_into().unwrap_or([0; COUNT]),
            servers: [3, 3, 5][usize::try_from(dice.below(3)).unwrap_or(0)],
        }
    }
}
