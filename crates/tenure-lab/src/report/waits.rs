//! How long those who got a lock had waited for it, as a histogram on a scale of powers.

use std::fmt::Write as _;

use super::svg::{self, LEFT, RIGHT};
use crate::judge::{Facts, Windows};
use crate::num::percentile;

const TALL: f64 = 130.0;
/// Bars for each doubling.
const FINE: usize = 2;

pub(super) fn draw(out: &mut String, facts: &Facts<'_>, windows: &Windows) {
    let (mut calm, mut shaken) = (Vec::new(), Vec::new());
    let faults = Merged::of(windows);
    for hold in &facts.holds {
        let (Some(asked), Some(ok)) = (hold.invoke, hold.ok) else { continue };
        let list = if faults.touch(asked.t, ok.t) { &mut shaken } else { &mut calm };
        list.push(ok.t.saturating_sub(asked.t));
    }
    calm.sort_unstable();
    shaken.sort_unstable();
    let all = || calm.iter().chain(&shaken).copied();
    let (Some(least), Some(most)) = (all().min(), all().max()) else {
        *out += "<p>Nobody got a lock.</p>\n";
        return;
    };
    let (first, last) = (slot(least), slot(most));
    let mut bins = vec![[0u64; 2]; last - first + 1];
    for (which, list) in [&calm, &shaken].into_iter().enumerate() {
        for wait in list {
            bins[slot(*wait) - first][which] += 1;
        }
    }
    chart(out, &bins, first);
    let line = |name: &str, sorted: &[u64]| {
        let at = |q| svg::seconds(percentile(sorted, q));
        format!(
            "{name}: {} grants, half within {}, 99 % within {}, all within {}",
            sorted.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        )
    };
    svg::close(
        out,
        &format!(
            "From the invocation of an acquire to its return. {}. {}. Each bar is half a doubling; its upper, amber part are \
             waits that a fault touched.",
            line("Without a fault", &calm),
            line("With one", &shaken)
        ),
    );
}

/// The bar of a wait: `FINE` for each doubling.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a bar
fn slot(ns: u64) -> usize {
    ((ns.max(1) as f64).log2() * FINE as f64).floor() as usize
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // places on paper
fn chart(out: &mut String, bins: &[[u64; 2]], first: usize) {
    let most = bins.iter().map(|bin| bin[0] + bin[1]).max().unwrap_or(1).max(1) as f64;
    // A single bar is not as wide as the page.
    let wide = ((RIGHT - LEFT) / bins.len() as f64).min(60.0);
    svg::open(out, TALL + 24.0);
    svg::label(out, 12.0, &format!("{most:.0}"));
    let every = bins.len().div_ceil(10);
    for (index, [calm, shaken]) in bins.iter().enumerate() {
        let x = LEFT + index as f64 * wide;
        let tall = |count: u64| count as f64 / most * TALL;
        let (low, high) = (tall(*calm), tall(*shaken));
        for (class, y, height) in [("hold", TALL - low, low), ("fault", TALL - low - high, high)] {
            if height > 0.0 {
                // What is there is seen.
                let height = height.max(1.0);
                let y = y.min(TALL - height);
                let _ = write!(
                    out,
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
                    wide * 0.88
                );
            }
        }
        if index % every == 0 {
            let from = 2f64.powf((first + index) as f64 / FINE as f64).round() as u64;
            let _ = write!(out, "<text x=\"{x:.1}\" y=\"{}\">{}</text>", TALL + 16.0, svg::seconds(from));
        }
    }
    let _ = writeln!(out, "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{TALL}\" y2=\"{TALL}\"/>");
}

/// The times in which there was a fault: disjoint and sorted.
struct Merged(Vec<(u64, u64)>);

impl Merged {
    fn of(windows: &Windows) -> Merged {
        let mut times: Vec<(u64, u64)> = windows.all.iter().map(|window| (window.from, window.to)).collect();
        times.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (from, to) in times {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        Merged(merged)
    }

    fn touch(&self, from: u64, to: u64) -> bool {
        let after = self.0.partition_point(|(begin, _)| *begin <= to);
        after > 0 && self.0[after - 1].1 >= from
    }
}
