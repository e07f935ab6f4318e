//! The smallest run that still breaks the rule: fewer clients, workers and rounds, and no fault that is not needed.

use super::faults::COUNT;
use super::judge::Broken;
use super::mutants::Wrong;
use super::plan::Case;
use super::run::{Came, run};

/// At most so many runs are tried.
const TRIES: u32 = 3_000;

/// Shrinks a case that broke `rule`.
pub(super) fn shrink(case: &Case, rule: &'static str, wrong: Option<&Wrong>) -> Case {
    let mut best = case.clone();
    let mut tries = 0;
    let mut fails = |case: &Case| {
        tries += 1;
        let came: Came = run(case, wrong, false, &mut [0; COUNT]);
        let same = came.broken.is_some_and(|Broken { rule: broken, .. }| broken == rule);
        same.then_some(came.faults)
    };
    let mut left = TRIES;
    loop {
        let before = best.clone();
        for cap in CAPS {
            let highest = cap(&mut best.clone()).to_owned();
            for lower in 1..highest {
                let mut smaller = best.clone();
                *cap(&mut smaller) = lower;
                if fails(&smaller).is_some() {
                    best = smaller;
                    break;
                }
            }
        }
        // From the last fault to the first: what comes early decides about what comes late.
        let faults = fails(&best).unwrap_or(0);
        for fault in (0..faults).rev().filter(|f| !before.skip.contains(f)) {
            let mut smaller = best.clone();
            smaller.skip.insert(fault);
            if fails(&smaller).is_some() {
                best = smaller;
            }
            left = left.saturating_sub(1);
        }
        if best == before || left == 0 {
            return best;
        }
    }
}

/// What of a case can be lowered.
const CAPS: [fn(&mut Case) -> &mut u64; 3] = [|c| &mut c.rounds, |c| &mut c.workers, |c| &mut c.clients];
