//! L3: if the store declares first come first served, or the run asks for it, no claim overtakes another.
//!
//! A stood in line before B if the store had queued A before B was invoked. B overtook A if B was granted first: B
//! returned before A, the believers at that time left no room for A (so A was not granted yet), and if both have tokens,
//! B has the lower one.

use std::collections::BTreeMap;

use super::facts::{Facts, Hold};
use super::windows::Windows;
use super::{Breach, Status, Tally, Verdict};
use crate::history::{Kind, Name};

pub(super) fn check(facts: &Facts<'_>, windows: &Windows) -> Verdict {
    let mut tally = Tally::default();
    let header = &facts.history.header;
    let declared = header.fair || header.capabilities["order"] == "fifo";
    if declared {
        for (lock, claims) in &facts.locks {
            overtaken(facts, windows, *lock, claims, &mut tally);
        }
    }
    let mut verdict = tally.verdict("L3", "declared order", "grants in line");
    if !declared {
        verdict.status = Status::NotPromised;
        verdict.text = "the store declares no order, and none was asked for".into();
    }
    verdict
}

fn overtaken(facts: &Facts<'_>, windows: &Windows, lock: Name, claims: &[usize], tally: &mut Tally) {
    let mut granted: Vec<&Hold> = facts.granted(claims).collect();
    let at = |hold: &Hold| hold.ok.map_or(0, |ok| ok.t);
    granted.sort_by_key(|hold| at(hold));
    // The grants so far, by the time of their invocation.
    let mut before: BTreeMap<(u64, usize), usize> = BTreeMap::new();
    for (index, late) in granted.iter().enumerate() {
        if let Some(queued) = late.queued {
            let excused = |other: &Hold| windows.excuse_for("L3", queued.t, at(late), &[late.p, other.p]);
            tally.judge(!windows.excuse_for("L3", queued.t, at(late), &[late.p]));
            let rivals = before.range((queued.t + 1, 0)..).map(|(_, other)| *other);
            let first = rivals.filter(|other| overtook(&granted, *other, late)).min();
            if let Some(first) = first.map(|other| granted[other]) {
                tally.breach(excused(first), || {
                    let mut events = [late.grant(), first.grant()].concat();
                    events.push(queued.event);
                    let what = format!(
                        "{lock}: {} stood in line before {} was invoked, which was granted first",
                        late.claim, first.claim
                    );
                    Breach { t: at(first), what, events: facts.events(events) }
                });
            }
        }
        before.insert((late.invoked(), index), index);
    }
}

/// Whether grant number `first` surely came before the grant of `late`, which returned later.
fn overtook(granted: &[&Hold], first: usize, late: &Hold) -> bool {
    let one = granted[first];
    let (Some(ok), Some(end)) = (one.ok, late.ok) else { return false };
    if ok.t >= end.t || one.invoke.is_none() {
        return false;
    }
    if let (Some(low), Some(high)) = (one.token, late.token) {
        return low < high;
    }
    if !one.shares_with(late) {
        return true;
    }
    if one.kind == Kind::Read {
        return false;
    }
    // The believers at that instant: later ones in the list were granted later.
    let believes = |hold: &&&Hold| hold.belief().is_some_and(|(from, to)| from <= ok.t && ok.t < to);
    let beside = || granted[..=first].iter().filter(believes);
    let weight: u64 = beside().map(|hold| hold.weight).sum();
    let least = beside().map(|hold| hold.capacity).fold(late.capacity, u64::min);
    weight + late.weight > least
}
