//! The whole run on one chart: grants, faults, and for each lock how much of the time it was held, in bins.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::svg::{self, LEFT, RIGHT, Span};
use crate::history::Name;
use crate::judge::{Facts, Verdict, Windows};

const BINS: usize = 290;
/// How many locks get a row of their own: the busiest.
const ROWS: usize = 12;
const TALL: f64 = 46.0;

pub(super) fn draw(out: &mut String, facts: &Facts<'_>, windows: &Windows, verdicts: &[Verdict]) {
    let span = Span { from: facts.first(), to: facts.last().max(facts.first() + 1) };
    let targets = targets(windows);
    let locks = busiest(facts);
    let fault_rows = targets.len() as f64 * 15.0;
    let first_lock = TALL + 14.0 + fault_rows + 8.0;
    let bottom = first_lock + locks.len() as f64 * 22.0;
    svg::open(out, bottom + 22.0);
    span.ticks(out, span.from, bottom);
    span.bands(out, windows, 0.0, bottom);
    let most = grants(out, facts, span);
    for (row, (target, faults)) in targets.iter().enumerate() {
        let y = TALL + 14.0 + row as f64 * 15.0;
        svg::label(out, y + 10.0, target);
        for (from, to, name) in faults {
            let x = span.x(*from);
            let _ = write!(
                out,
                "<rect class=\"fault\" x=\"{x:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"11\" rx=\"2\"><title>{}, {}</title></rect>",
                (span.x(*to) - x).max(1.5),
                svg::escape(name.as_str()),
                svg::seconds(to - from)
            );
        }
    }
    for (row, lock) in locks.iter().enumerate() {
        occupancy(out, facts, *lock, span, first_lock + row as f64 * 22.0);
    }
    for breach in verdicts.iter().flat_map(|verdict| &verdict.breaches) {
        let x = span.x(breach.t);
        let _ = write!(out, "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{bottom}\"/>");
    }
    let other = facts.locks.len().saturating_sub(locks.len());
    let more = if other > 0 { format!(" {other} quieter locks are not shown.") } else { String::new() };
    svg::close(
        out,
        &format!(
            "Grants ({most} at most in {}), faults by what they hit, and the locks: the fuller the bar, the larger the part of the \
             time that it was held; red where holders did not fit together. Bands are faults, dashed red lines are \
             breaches.{more}",
            svg::seconds(span.length() / BINS as u64)
        ),
    );
}

/// Faults by target; all clients in one row.
fn targets(windows: &Windows) -> BTreeMap<String, Vec<(u64, u64, Name)>> {
    let mut rows: BTreeMap<String, Vec<(u64, u64, Name)>> = BTreeMap::new();
    for window in &windows.all {
        let target = window.target.as_str();
        let row = if target.starts_with("client") { "clients" } else { target };
        rows.entry(row.to_owned()).or_default().push((window.from, window.to, window.name));
    }
    rows
}

fn busiest(facts: &Facts<'_>) -> Vec<Name> {
    let mut locks: Vec<(usize, Name)> =
        facts.locks.iter().map(|(lock, claims)| (facts.granted(claims).count(), *lock)).collect();
    locks.sort_by_key(|(count, lock)| (std::cmp::Reverse(*count), *lock));
    locks.into_iter().take(ROWS).map(|(_, lock)| lock).collect()
}

fn bin(span: Span, t: u64) -> usize {
    let place =
        u128::from(t.clamp(span.from, span.to) - span.from) * BINS as u128 / u128::from(span.length());
    usize::try_from(place).unwrap_or(BINS).min(BINS - 1)
}

fn wide() -> f64 {
    (RIGHT - LEFT) / BINS as f64
}

/// Grants over time; says how many the fullest bin has.
fn grants(out: &mut String, facts: &Facts<'_>, span: Span) -> u64 {
    let mut bins = [0u64; BINS];
    for ok in facts.holds.iter().filter_map(|hold| hold.ok) {
        bins[bin(span, ok.t)] += 1;
    }
    let most = bins.iter().copied().max().unwrap_or(0);
    svg::label(out, TALL - 4.0, "grants");
    for (index, count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
        let tall = *count as f64 / most.max(1) as f64 * TALL;
        let x = LEFT + index as f64 * wide();
        let _ = write!(
            out,
            "<rect class=\"hold\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\"/>",
            TALL - tall + 2.0,
            wide() * 0.9
        );
    }
    most
}

/// How much of each bin a lock was held, and where two held it that may not.
fn occupancy(out: &mut String, facts: &Facts<'_>, lock: Name, span: Span, y: f64) {
    let mut held = [0u64; BINS];
    let mut clash = [false; BINS];
    let claims = facts.locks.get(&lock).map_or(&[][..], Vec::as_slice);
    let mut beliefs: Vec<_> = facts
        .granted(claims)
        .filter_map(|hold| hold.belief().map(|(from, to)| (from, to.min(span.to), hold)))
        .collect();
    beliefs.sort_by_key(|(from, ..)| *from);
    let (mut until, mut last) = (span.from, None);
    for (from, to, hold) in beliefs {
        if from < until && last.is_some_and(|other| !hold.shares_with(other)) {
            clash[bin(span, from)] = true;
        }
        // What is covered already is not counted again.
        add(&mut held, span, from.max(until), to);
        if to > until {
            (until, last) = (to, Some(hold));
        }
    }
    svg::label(out, y + 13.0, lock.as_str());
    let whole = span.length() as f64 / BINS as f64;
    for index in 0..BINS {
        let share = (held[index] as f64 / whole).min(1.0);
        if share > 0.0 || clash[index] {
            let tall = if clash[index] { 16.0 } else { (share * 16.0).max(1.0) };
            let x = LEFT + index as f64 * wide();
            let _ = write!(
                out,
                "<rect class=\"{}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\"/>",
                if clash[index] { "bad" } else { "hold" },
                y + 17.0 - tall,
                wide() * 0.9
            );
        }
    }
    *out += "\n";
}

fn add(held: &mut [u64; BINS], span: Span, from: u64, to: u64) {
    if from >= to {
        return;
    }
    let edge = |index: usize| {
        let place = u128::from(span.length()) * index as u128 / BINS as u128;
        span.from + u64::try_from(place).unwrap_or(u64::MAX)
    };
    for (index, held) in held.iter_mut().enumerate().take(bin(span, to) + 1).skip(bin(span, from)) {
        *held += to.min(edge(index + 1)).saturating_sub(from.max(edge(index)));
    }
}
