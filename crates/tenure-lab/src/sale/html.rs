//! The report: one page, no external resource, charts as SVG.

use std::fmt::Write as _;

use super::stage::Result;
use super::table::{self, notes, outcome, verdict};
use super::{Plan, charts, scene};

const STYLE: &str = "
:root { color-scheme: light dark; --ink:#1c2833; --soft:#5d6d7e; --line:#d5dbdf; --paper:#fff; --sheet:#f4f6f7; --band:#f0b42955;
  --c0:#7f8c8d; --c1:#ca6f1e; --c2:#7d3c98; --c3:#2471a3; --c4:#1e8449; --good:#1e8449; --bad:#c0392b }
@media (prefers-color-scheme: dark) { :root { --ink:#e5e8e8; --soft:#a6b0b5; --line:#3d474d; --paper:#14191e; --sheet:#1d252c; --band:#c9962e55;
  --c0:#95a5a6; --c1:#f5b041; --c2:#c39bd3; --c3:#5dade2; --c4:#58d68d; --good:#58d68d; --bad:#ff7b6b } }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .2rem }
p { color: var(--soft); margin: .2rem 0 .6rem } p.lead { color: var(--ink) }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: .8rem 0 }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child, .exact, .wrong, th.verdict { text-align: left } th { color: var(--soft); font-weight: 600 }
td.exact, td.wrong { white-space: normal; min-width: 7.5rem }
.exact { color: var(--good); font-weight: 700 } .wrong { color: var(--bad); font-weight: 700 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .6rem 0; color: var(--soft) }
dt { color: var(--ink) } dd { margin: 0; overflow-wrap: anywhere }
pre { font: 12.5px/1.45 ui-monospace, monospace; background: var(--sheet); padding: .6rem .8rem; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere }
svg { width: 100%; display: block; overflow: hidden } svg text { fill: var(--soft); font: 12px system-ui, sans-serif }
svg text.ink { fill: var(--ink) } .axis { stroke: var(--line) } .band { fill: var(--band) } .stock { stroke: var(--ink); stroke-dasharray: 5 4 }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .35em 0 0; vertical-align: -1px }
.keys span.item { white-space: nowrap; margin-right: 1.1em; color: var(--ink) }
@media (max-width: 480px) { dl { grid-template-columns: 1fr } dd { margin-bottom: .4rem } th, td { padding: .3rem .4rem; font-size: 13px } }
";

/// The whole page.
pub(super) fn page(plan: &Plan, results: &[Result]) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    let _ = write!(
        out,
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Flash sale</title>\n\
         <style>{STYLE}</style></head>\n<body>\n<h1>Flash sale</h1>\n<p>{}</p>\n<p class=\"lead\">{}</p>\n",
        escape(&scene::summary(plan)),
        escape(&outcome(plan, results)),
    );
    heading(&mut out, "Was it right?", "Exactly the stock, sold one by one, is right.");
    table(&mut out, &table::correctness(plan, results), results);
    for r in results {
        for note in notes(plan, r) {
            let _ = writeln!(out, "<p>{}: {}</p>", r.strategy.name(), escape(&note));
        }
    }
    heading(
        &mut out,
        "What did it cost?",
        "The pause while holding is the customer's work; everything else is overhead.",
    );
    table(&mut out, &table::cost(results), results);
    if plan.faults {
        let _ = writeln!(out, "<p>{}</p>", table::RATES_WITH_FAULTS);
    }
    heading(
        &mut out,
        "Items sold over time",
        "The dashed line is the stock. A line that crosses it sells what does not exist; one that leaves the chart says \
         how far it went.",
    );
    charts::keys(&mut out, results);
    charts::sold(&mut out, plan, results);
    if plan.faults {
        charts::faults(&mut out, results);
    }
    heading(&mut out, "Sold beyond the stock", "Logarithmic: each step to the right is ten times as many.");
    charts::powers(&mut out, results, &|r| r.ledger.oversold, &|n| n.to_string());
    heading(
        &mut out,
        "Lost updates",
        "Acknowledged sales that overwrote another one, because both had read the same stock. Logarithmic.",
    );
    charts::powers(&mut out, results, &|r| r.ledger.lost_updates, &|n| n.to_string());
    heading(
        &mut out,
        "How many clients were inside",
        "Between acquire and release, as parts of the time: exactly one (solid), several (red), none (empty).",
    );
    charts::presence(&mut out, results);
    heading(
        &mut out,
        "Waiting for the lock",
        "Half of the acquire calls took at most as long as the left end of a bar, 99 % as long as the right end. \
         Logarithmic.",
    );
    charts::waits(&mut out, results);
    heading(
        &mut out,
        "Purchases of each client",
        "One bar per client. Equal bars are fair: Jain's index is 1 if all clients bought the same number.",
    );
    for (i, r) in results.iter().enumerate() {
        charts::shares(&mut out, r, i);
    }
    about(&mut out, plan);
    out += "</body></html>\n";
    out
}

fn heading(out: &mut String, title: &str, says: &str) {
    let _ = writeln!(out, "<h2>{title}</h2>\n<p>{says}</p>");
}

fn table(out: &mut String, rows: &[Vec<String>], results: &[Result]) {
    *out += "<div class=\"wide\"><table>\n";
    for (i, row) in rows.iter().enumerate() {
        *out += "<tr>";
        // A verdict comes right after the name: what a narrow screen cuts off is the numbers.
        let last = usize::from(rows[0].last().is_some_and(|name| name == "verdict"));
        let mut order: Vec<usize> = (0..row.len()).collect();
        order[1..].rotate_right(last);
        for (cell, name) in order.into_iter().map(|c| (&row[c], &rows[0][c])) {
            let is_verdict = name == "verdict";
            let _ = match (i.checked_sub(1), is_verdict) {
                (None, true) => write!(out, "<th class=\"verdict\">{cell}</th>"),
                (None, false) => write!(out, "<th>{cell}</th>"),
                (Some(n), true) => {
                    write!(out, "<td class=\"{}\">{}</td>", verdict(&results[n]), escape(cell))
                }
                (Some(_), false) => write!(out, "<td>{}</td>", escape(cell)),
            };
        }
        *out += "</tr>\n";
    }
    *out += "</table></div>\n";
}

/// What the words mean, and how to repeat the run.
fn about(out: &mut String, plan: &Plan) {
    *out += "<h2>The words</h2>\n<dl>";
    for (word, meaning) in table::LEGEND {
        let _ = write!(out, "<dt>{word}</dt><dd>{meaning}</dd>");
    }
    let _ = writeln!(
        out,
        "</dl>\n<h2>Repeat it</h2>\n<pre>{}</pre>\n<dl><dt>Version</dt><dd>{}</dd><dt>Machine</dt><dd>{}</dd></dl>\n\
         <p>The seed repeats the random choices, not the order in which the machine runs the processes.</p>",
        escape(&scene::repeat(plan)),
        scene::version(),
        escape(&scene::machine()),
    );
}

/// Text as part of the page.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
