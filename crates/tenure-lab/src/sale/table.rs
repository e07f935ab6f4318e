//! What a run shows: a bar while it moves, a table or JSON Lines at the end.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::door::Strategy;
use super::stage::Result;
use super::{Plan, scene};
use crate::duration;
use crate::globals::Globals;
use crate::num::round;
use crate::servers;

/// A bar on standard error, if that is a terminal.
pub(super) fn progress(plan: &Plan, globals: &Globals) -> ProgressBar {
    let hidden = globals.quiet || !std::io::stderr().is_terminal();
    let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(u64::from(plan.stock)), target);
    if let Ok(style) =
        ProgressStyle::with_template("{msg:12} {bar:40} {pos} sold of {len} in stock  {elapsed}")
    {
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
    held_by_one: f64,
    ceiling_per_s: f64,
    verdict: &'a str,
    expected: &'a str,
    as_expected: bool,
    held_by_several: f64,
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

/// The verdict for people: a wrong result that had to be expected says so.
pub(super) fn verdict_in_full(plan: &Plan, r: &Result) -> String {
    let excuse = r.strategy.excuse(plan.faults);
    match (r.exact, r.expected) {
        (true, true) => "exact".into(),
        (false, true) if !excuse.is_empty() => format!("wrong, {excuse}"),
        (false, true) => "wrong".into(),
        (false, false) => "wrong, NOT as expected".into(),
        (true, false) if r.errors.is_empty() => "exact, NOT as expected".into(),
        (true, false) => "exact, but with errors".into(),
    }
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
        held_by_one: round(r.presence.one, 4),
        ceiling_per_s: round(r.ceiling_per_s, 1),
        verdict: verdict(r),
        expected: r.wanted.word(),
        as_expected: r.expected,
        held_by_several: round(r.presence.several, 4),
        left: r.ledger.left,
        lost_holds: r.lost,
        faults: plan.faults,
        stopped: r.stops,
        killed: r.kills,
        seed: plan.seed,
    };
    serde_json::to_string(&json).unwrap_or_default()
}

/// A share as a percentage; only all of it is 100 %.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        x if x > 99.94 && x < 100.0 => "99.9 %".into(),
        x if x >= 10.0 => format!("{x:.0} %"),
        x => format!("{x:.1} %"),
    }
}

/// The part of the ceiling that was reached; more than all of it where several held the lock at once.
pub(super) fn reached(r: &Result) -> String {
    if r.ceiling_per_s > 0.0 { percent(r.cycles_per_s / r.ceiling_per_s) } else { "-".into() }
}

/// The words of the tables, explained.
pub(super) const LEGEND: [(&str, &str); 9] = [
    ("sold", "sales that were acknowledged to a customer; exactly the stock is right"),
    ("lost updates", "acknowledged sales that overwrote another one, because both had read the same stock"),
    ("refused", "accesses that the stock refused, because it had seen a newer fencing token"),
    ("one inside", "the part of the time during which exactly one client was between acquire and release"),
    ("cycles/s", "purchases a second: acquire, read, pause, write, release"),
    (
        "ceiling",
        "what one holder at a time can do if only its pauses take time (1 / their mean, as measured)",
    ),
    ("of ceiling", "the part of it that was reached; beyond 100 % several clients were inside at once"),
    ("wait p50, p99", "half (99 %) of the acquire calls took at most so long"),
    ("fairness", "Jain's index of purchases per client: 1 if all got the same, 1/N if one client got all"),
];

/// What a rate means in a run with faults.
pub(super) const RATES_WITH_FAULTS: &str = "With faults, rates and waits include the time in which everybody waits for a paused or killed holder's lease.";

/// The tables and what they mean.
pub(super) fn text(plan: &Plan, results: &[Result]) -> String {
    let paint = colour();
    let mut out = columns(&correctness(plan, results), paint);
    out.push('\n');
    out += &columns(&cost(results), paint);
    out.push('\n');
    for (what, result) in results.iter().flat_map(|r| notes(plan, r).into_iter().map(move |n| (n, r))) {
        let _ = writeln!(out, "{}: {what}", result.strategy.name());
    }
    let shown = results.iter().any(|r| r.ledger.refused > 0);
    for (word, meaning) in LEGEND.iter().filter(|(word, _)| shown || *word != "refused") {
        let _ = writeln!(out, "  {word:13}  {meaning}");
    }
    if plan.faults {
        let _ = writeln!(out, "  {RATES_WITH_FAULTS}");
    }
    let _ = writeln!(out, "\n{}", closing(plan, results));
    out
}

/// Was it right? Columns in which nothing happened are left out.
pub(super) fn correctness(plan: &Plan, results: &[Result]) -> Vec<Vec<String>> {
    let refused = results.iter().any(|r| r.ledger.refused > 0);
    let errors = results.iter().any(|r| !r.errors.is_empty());
    let row = |cells: [String; 8]| {
        let kept = [true, true, true, true, refused, errors, true, true];
        cells.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(cell, _)| cell).collect()
    };
    let head = ["strategy", "sold", "oversold", "lost updates", "refused", "errors", "one inside", "verdict"];
    let mut rows = vec![row(head.map(str::to_owned))];
    rows.extend(results.iter().map(|r| {
        row([
            r.strategy.name().to_owned(),
            r.ledger.sold.to_string(),
            r.ledger.oversold.to_string(),
            r.ledger.lost_updates.to_string(),
            r.ledger.refused.to_string(),
            r.errors.len().to_string(),
            percent(r.presence.one),
            verdict_in_full(plan, r),
        ])
    }));
    rows
}

/// What did it cost?
pub(super) fn cost(results: &[Result]) -> Vec<Vec<String>> {
    let head = ["strategy", "cycles/s", "ceiling", "of ceiling", "wait p50", "wait p99", "fairness"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(results.iter().map(|r| {
        vec![
            r.strategy.name().to_owned(),
            format!("{:.0}", r.cycles_per_s),
            format!("{:.0}", r.ceiling_per_s),
            reached(r),
            time(r.acquire_us[0]),
            time(r.acquire_us[1]),
            format!("{:.3}", r.jain),
        ]
    }));
    rows
}

/// Aligned columns: the first and a verdict to the left, numbers to the right.
fn columns(rows: &[Vec<String>], colour: bool) -> String {
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let verdict = rows.first().and_then(|head| head.iter().position(|name| name == "verdict"));
    let mut out = String::new();
    for (i, row) in rows.iter().enumerate() {
        for (c, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[c] - cell.chars().count());
            let code = match (i, Some(c) == verdict, cell) {
                (0, ..) => "1",
                (_, true, text) if text == "exact" => "32",
                (_, true, text) if text.contains("as expected") && !text.contains("NOT") => "33",
                (_, true, _) => "31",
                _ => "",
            };
            let painted =
                if colour && !code.is_empty() { format!("\x1b[{code}m{cell}\x1b[0m") } else { cell.clone() };
            match c {
                0 => out += &format!("{painted}{pad}"),
                _ if Some(c) == verdict => out += &format!("  {painted}"),
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
    if r.strategy.homemade() {
        let ttl = duration::show(plan.homemade_ttl(r.strategy));
        let key = servers::reaches(&plan.url);
        notes.push(match (r.strategy, key) {
            (Strategy::Careful, key) => format!(
                "{}; its ttl is {ttl}{}, and it is never renewed",
                if key {
                    "SET NX PX with a random value that is compared before the delete"
                } else {
                    "a file with a random value that is compared before the unlink"
                },
                if plan.faults { " here, as short as Tenure's lease (30s without faults)" } else { "" },
            ),
            (_, key) => format!(
                "{}; its ttl is {ttl}, ten times the mean pause: it is never renewed, so any fixed ttl is a guess",
                if key { "SET NX PX and a blind DEL" } else { "a file and a blind unlink" },
            ),
        });
    }
    if r.stops + r.kills > 0 {
        let holds = match r.lost {
            0 => String::new(),
            n => format!("; {n} holds were lost, and their clients were told"),
        };
        let times = |n: u64| if n == 1 { "once".to_owned() } else { format!("{n} times") };
        let killed = if r.kills > 0 { ", a holder was killed once" } else { "" };
        notes.push(format!("a holder was paused beyond its lease {}{killed}{holds}", times(r.stops)));
    }
    if r.ledger.left != 0 {
        notes.push(format!("the shelf shows {} at the end", r.ledger.left));
    }
    let mut errors = r.errors.clone();
    errors.sort();
    errors.dedup();
    notes.extend(errors.into_iter().take(3).map(|e| format!("error: {e}")));
    if !r.expected {
        notes.push(format!("NOT as expected; repeat it with: {}", scene::repeat(plan)));
    }
    notes
}

/// The outcome of the whole run in one sentence.
pub(super) fn outcome(plan: &Plan, results: &[Result]) -> String {
    let surprises = results.iter().filter(|r| !r.expected).count();
    let wrong: Vec<&str> = results.iter().filter(|r| !r.exact).map(|r| r.strategy.name()).collect();
    if surprises > 0 {
        return format!("{surprises} of {} strategies did NOT do what is expected", results.len());
    }
    match wrong[..] {
        [] => "Every strategy sold exactly the stock.".into(),
        _ if plan.faults => format!(
            "As expected: a holder that is paused beyond its lease writes late, and only a fence refuses it. Wrong: {}.",
            wrong.join(", ")
        ),
        _ => format!("As expected. Wrong: {}.", wrong.join(", ")),
    }
}

fn closing(plan: &Plan, results: &[Result]) -> String {
    format!("{}\n{}", scene::summary(plan), outcome(plan, results))
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
        let rows = [["strategy", "sold", "verdict"], ["a", "1000", "exact"]]
            .map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows, false), "strategy  sold  verdict\na         1000  exact\n");
    }

    #[test]
    fn almost_all_is_not_all() {
        assert_eq!(
            [0.9999, 1.0, 0.974, 0.023, 104.0].map(percent),
            ["99.9 %", "100 %", "97 %", "2.3 %", "10400 %"]
        );
    }
}
