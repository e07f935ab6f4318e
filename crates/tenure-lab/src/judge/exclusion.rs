//! S1: the beliefs in a lock never outweigh its capacity.

use super::facts::{Facts, Hold};
use super::windows::Windows;
use super::{Breach, Tally, Verdict};
use crate::duration::roughly;
use crate::history::{Kind, Name};

/// A grant while others still believed that they hold, and all together exceed the capacity.
pub(super) struct Overlap<'a> {
    pub(super) late: &'a Hold,
    /// The fewest earlier holds that exceed the capacity together with it.
    pub(super) early: Vec<&'a Hold>,
}

pub(super) fn check<'a>(facts: &'a Facts<'a>, windows: &Windows) -> (Verdict, Vec<Overlap<'a>>) {
    let mut tally = Tally::default();
    let mut overlaps = Vec::new();
    for (lock, claims) in &facts.locks {
        for hold in facts.granted(claims) {
            let t = hold.ok.map_or(0, |at| at.t);
            tally.judge(!windows.excuse("S1", t, t));
        }
        sweep(facts.granted(claims), |overlap| {
            let t = overlap.late.ok.map_or(0, |at| at.t);
            let clients: Vec<u32> = overlap.early.iter().chain([&overlap.late]).map(|hold| hold.p).collect();
            tally.breach(windows.excuse_for("S1", t, t, &clients), || show(facts, *lock, t, &overlap));
            overlaps.push(overlap);
        });
    }
    (tally.verdict("S1", "exclusion of belief", "grants"), overlaps)
}

/// Walks through the beliefs in a lock by time, and reports each grant that does not fit.
fn sweep<'a>(granted: impl Iterator<Item = &'a Hold>, mut tell: impl FnMut(Overlap<'a>)) {
    let mut believers: Vec<(&Hold, u64, u64)> =
        granted.filter_map(|hold| hold.belief().map(|(from, to)| (hold, from, to))).collect();
    believers.sort_by_key(|(_, from, _)| *from);
    let mut live: Vec<(&Hold, u64)> = Vec::new();
    for (late, from, to) in believers {
        // Beliefs are half-open: one that ends at this instant no longer counts.
        live.retain(|(_, end)| *end > from);
        if let Some(early) = unfit(&live, late) {
            tell(Overlap { late, early });
        }
        live.push((late, to));
    }
}

/// The fewest of `live` that exceed the capacity together with `late`.
fn unfit<'a>(live: &[(&'a Hold, u64)], late: &Hold) -> Option<Vec<&'a Hold>> {
    if let Some((other, _)) = live.iter().find(|(other, _)| !late.shares_with(other)) {
        return Some(vec![other]);
    }
    if late.kind == Kind::Read {
        return None;
    }
    if late.weight > late.capacity {
        return Some(Vec::new());
    }
    let mut heaviest: Vec<&Hold> = live.iter().map(|(hold, _)| *hold).collect();
    heaviest.sort_by_key(|hold| std::cmp::Reverse(hold.weight));
    // All together must fit into the capacity that each of them names.
    let exceeded = heaviest.iter().map(|one| Some(*one)).chain([None]).filter_map(|names| {
        let capacity = names.map_or(late.capacity, |one| one.capacity);
        let others =
            heaviest.iter().copied().filter(|hold| names.is_none_or(|one| !std::ptr::eq(one, *hold)));
        let (mut weight, mut set) = (late.weight, Vec::new());
        for hold in names.into_iter().chain(others) {
            weight += hold.weight;
            set.push(hold);
            if weight > capacity {
                return Some(set);
            }
        }
        None
    });
    exceeded.min_by_key(Vec::len)
}

fn show(facts: &Facts<'_>, lock: Name, t: u64, overlap: &Overlap<'_>) -> Breach {
    let mut events = overlap.late.grant();
    let mut weight = overlap.late.weight;
    for hold in &overlap.early {
        events.extend(hold.proof());
        weight += hold.weight;
    }
    let late = overlap.late;
    let what = match overlap.early.as_slice() {
        [early] if !late.shares_with(early) => {
            let left = early.belief().map_or(0, |(_, to)| to.saturating_sub(t));
            let left = if left > u64::MAX / 2 { "ever".into() } else { roughly(left) };
            format!(
                "{lock}: {} was granted while {} still believed to hold, for {left}",
                late.claim, early.claim
            )
        }
        early => {
            let named = early.iter().map(|hold| hold.capacity).chain([late.capacity]);
            let least = named.min().unwrap_or(late.capacity);
            format!("{lock}: {} was granted, and {weight} permits were believed of {least}", late.claim)
        }
    };
    Breach { t, what, events: facts.events(events) }
}
