//! What a run shows: a bar while it moves, a table or JSON Lines at the end.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::Plan;
use super::door::Strategy;
use super::stage::Result;
use crate::cli::Globals;
use crate::duration;
use crate::num::round;
use crate::plain;

/// A bar on standard error, if that is a terminal.
pub(super) fn progress(plan: &Plan, globals: &Globals) -> ProgressBar {
    let hidden = globals.quiet || !std::io::stderr().is_terminal();
    let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(u64::from(plan.stock)), target);
    if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:40} {pos}/{len} sold  {elapsed}") {
        bar.set_style(style);
    }
    if !hidden {
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    bar
}

/// The next strategy begins.
pub(super) fn begin(bar: &ProgressBar, strategy: Strategy) {
    bar.reset();
    bar.set_message(strategy.name());
}

/// The fields that scripts rely on, in their order, then our own.
#[derive(Serialize)]
struct Json<'a> {
    strategy: &'a str,
    clients: u32,
    processes: u32,
    stock: u32,
    sold: u64,
    oversold: u64,
    lost_updates: u64,
    refused_by_fence: u64,
    errors: usize,
    seconds: f64,
    cycles_per_s: f64,
    acquire_p50_us: u64,
    acquire_p99_us: u64,
    acquire_max_us: u64,
    jain: f64,
    verdict: &'a str,
    expected: bool,
    left: i64,
    lost_holds: u64,
    faults: bool,
    stopped: u64,
    killed: u64,
    seed: u64,
}

/// The word for a verdict.
pub(super) fn verdict(result: &Result) -> &'static str {
    if result.exact { "exact" } else { "wrong" }
}

/// One JSON object.
pub(super) fn json(plan: &Plan, r: &Result) -> String {
    let [acquire_p50_us, acquire_p99_us, acquire_max_us] = r.acquire_us;
    let json = Json {
        strategy: r.strategy.name(),
        clients: plan.clients,
        processes: plan.processes,
        stock: plan.stock,
        sold: r.ledger.sold,
        oversold: r.ledger.oversold,
        lost_updates: r.ledger.lost_updates,
        refused_by_fence: r.ledger.refused,
        errors: r.errors.len(),
        seconds: round(r.seconds, 3),
        cycles_per_s: round(r.cycles_per_s, 1),
        acquire_p50_us,
        acquire_p99_us,
        acquire_max_us,
        jain: round(r.jain, 4),
        verdict: verdict(r),
        expected: r.expected,
        left: r.ledger.left,
        lost_holds: r.lost,
        faults: plan.faults,
        stopped: r.stops,
        killed: r.kills,
        seed: plan.seed,
    };
    serde_json::to_string(&json).unwrap_or_default()
}

const HEAD: [&str; 11] = [
    "strategy",
    "sold",
    "oversold",
    "lost updates",
    "refused",
    "errors",
    "cycles/s",
    "p50",
    "p99",
    "fairness",
    "verdict",
];

/// The table and what it means.
pub(super) fn text(plan: &Plan, results: &[Result]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    rows.extend(results.iter().map(|r| {
        vec![
            r.strategy.name().to_owned(),
            r.ledger.sold.to_string(),
            r.ledger.oversold.to_string(),
            r.ledger.lost_updates.to_string(),
            r.ledger.refused.to_string(),
            r.errors.len().to_string(),
            format!("{:.0}", r.cycles_per_s),
            time(r.acquire_us[0]),
            time(r.acquire_us[1]),
            format!("{:.3}", r.jain),
            verdict(r).to_owned(),
        ]
    }));
    let mut out = columns(&rows, colour());
    for (what, result) in results.iter().flat_map(|r| notes(plan, r).into_iter().map(move |n| (n, r))) {
        let _ = writeln!(out, "  {}: {what}", result.strategy.name());
    }
    let _ = writeln!(out, "\n{}", closing(plan, results));
    out
}

/// Aligned columns: the first to the left, numbers to the right.
fn columns(rows: &[Vec<String>], colour: bool) -> String {
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut out = String::new();
    for (i, row) in rows.iter().enumerate() {
        for (c, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[c] - cell.chars().count());
            let last = c + 1 == row.len();
            let painted = match cell.as_str() {
                "exact" if colour => "\x1b[32mexact\x1b[0m".to_owned(),
                "wrong" if colour => "\x1b[31mwrong\x1b[0m".to_owned(),
                plain if i == 0 && colour => format!("\x1b[1m{plain}\x1b[0m"),
                plain => plain.to_owned(),
            };
            match c {
                0 => out += &format!("{painted}{pad}"),
                _ if last => out += &format!("  {painted}"),
                _ => out += &format!("  {pad}{painted}"),
            }
        }
        out.push('\n');
    }
    out
}

fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// A time in µs, short.
pub(super) fn time(us: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // shown with two digits
    let x = us as f64;
    match us {
        0..1000 => format!("{us} us"),
        1000..10_000 => format!("{:.1} ms", x / 1e3),
        10_000..1_000_000 => format!("{:.0} ms", x / 1e3),
        _ => format!("{:.1} s", x / 1e6),
    }
}

/// What a row cannot say.
pub(super) fn notes(plan: &Plan, r: &Result) -> Vec<String> {
    let mut notes = Vec::new();
    if r.strategy == Strategy::Naive {
        let ttl = duration::show(plan.naive_ttl());
        let what =
            if plain::reaches(&plan.url) { "SET NX PX and a blind DEL" } else { "a file and a blind unlink" };
        notes.push(format!(
            "{what}; its time to live is {ttl}, ten times the mean pause: nobody renews it, so it must be guessed"
        ));
    }
    if r.stops + r.kills > 0 {
        let holds = match r.lost {
            0 => String::new(),
            n => format!("; {n} holds were lost, and their clients were told"),
        };
        notes.push(format!("{} stops beyond the lease and {} kill of a process{holds}", r.stops, r.kills));
    }
    if r.ledger.left != 0 {
        notes.push(format!("the shelf shows {} in the end", r.ledger.left));
    }
    let mut errors = r.errors.clone();
    errors.sort();
    errors.dedup();
    notes.extend(errors.into_iter().take(3).map(|e| format!("error: {e}")));
    if !r.expected {
        notes.push(format!("NOT what is expected of it (repeat with --seed {})", plan.seed));
    }
    notes
}

fn closing(plan: &Plan, results: &[Result]) -> String {
    let scene = format!(
        "{} clients in {} processes, {} items, {} of work on average while holding{}; {}",
        plan.clients,
        plan.processes,
        plan.stock,
        duration::show(plan.work),
        if plan.faults { ", with faults" } else { "" },
        plan.shown_url,
    );
    match results.iter().filter(|r| !r.expected).count() {
        0 => format!("{scene}\nevery strategy did what is expected of it"),
        n => format!("{scene}\n{n} of {} strategies did NOT do what is expected of them", results.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let all: Vec<String> = [7, 1500, 15_000, 2_500_000].map(time).into();
        assert_eq!(all, ["7 us", "1.5 ms", "15 ms", "2.5 s"]);
    }

    #[test]
    fn columns_align() {
        let row = |s: &str| HEAD.map(|_| s.to_owned()).to_vec();
        let text = columns(&[HEAD.map(str::to_owned).to_vec(), row("exact")], false);
        let widths: Vec<usize> = text.lines().map(|l| l.trim_end().chars().count()).collect();
        assert!(widths[0] >= widths[1] && widths[1] + 2 >= widths[0], "{text}");
    }
}
