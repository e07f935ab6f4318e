//! The report: one page, no external resource, charts as SVG.

use std::fmt::Write as _;

use super::Plan;
use super::stage::Result;
use super::table::{notes, time, verdict};
use crate::duration;

const COLOURS: [&str; 4] = ["#c0392b", "#d68910", "#2471a3", "#1e8449"];

const STYLE: &str = "
:root { --ink:#1c2833; --soft:#5d6d7e; --line:#d5dbdf; --paper:#fff; --band:#f4d03f55 }
@media (prefers-color-scheme: dark) { :root { --ink:#e5e8e8; --soft:#99a3a4; --line:#424949; --paper:#17202a; --band:#b7950b55 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .4rem }
p, figcaption { color: var(--soft); margin: .3rem 0 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left } th { color: var(--soft); font-weight: 600 }
.exact { color: #1e8449; font-weight: 700 } .wrong { color: #c0392b; font-weight: 700 }
svg { width: 100%; height: auto; display: block } text { fill: var(--soft); font: 12px system-ui, sans-serif }
.axis { stroke: var(--line) } .band { fill: var(--band) } figure { margin: 0 0 1rem }
";

/// The whole page.
pub(super) fn page(plan: &Plan, results: &[Result]) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    let _ = write!(
        out,
        "<meta name=\"viewport\" content=\"width=device-width\">\n<title>Flash sale</title>\n<style>{STYLE}</style></head>\n<body>\n\
         <h1>Flash sale</h1>\n<p>{} clients in {} processes fight for {} items; a client holds the lock for {} on \
         average{}. Store: {}. Seed: {}.</p>\n",
        plan.clients,
        plan.processes,
        plan.stock,
        duration::show(plan.work),
        if plan.faults { ", with faults" } else { "" },
        escape(&plan.shown_url),
        plan.seed,
    );
    table(&mut out, plan, results);
    let colour = |i: usize| COLOURS[i % COLOURS.len()];
    let bars = |f: &dyn Fn(&Result) -> u64| -> Vec<(String, u64, &str)> {
        results.iter().enumerate().map(|(i, r)| (r.strategy.name().to_owned(), f(r), colour(i))).collect()
    };
    out += "<h2>Sold</h2>\n";
    bar_chart(&mut out, &bars(&|r| r.ledger.sold), Some(u64::from(plan.stock)), &|n| n.to_string());
    out += "<p>Each sale was acknowledged to a customer. The line is what was there to sell.</p>\n<h2>Lost updates</h2>\n";
    bar_chart(&mut out, &bars(&|r| r.ledger.lost_updates), None, &|n| n.to_string());
    out += "<p>Acknowledged writes that were based on a stock that was no longer current.</p>\n<h2>Waiting for the lock (p99)</h2>\n";
    bar_chart(&mut out, &bars(&|r| r.acquire_us[1]), None, &time);
    out += "<h2>The stock over time</h2>\n";
    for (i, r) in results.iter().enumerate() {
        curve(&mut out, plan, r, colour(i));
    }
    out += "<h2>Purchases of each client</h2>\n";
    for (i, r) in results.iter().enumerate() {
        shares(&mut out, r, colour(i));
    }
    out += "</body></html>\n";
    out
}

fn table(out: &mut String, plan: &Plan, results: &[Result]) {
    *out += "<table><tr><th>strategy</th><th>sold</th><th>oversold</th><th>lost updates</th><th>refused by the fence</th>\
             <th>errors</th><th>cycles/s</th><th>p50</th><th>p99</th><th>fairness</th><th>verdict</th></tr>\n";
    for r in results {
        let word = verdict(r);
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.0}</td><td>{}</td><td>{}</td>\
             <td>{:.3}</td><td class=\"{word}\">{word}</td></tr>",
            r.strategy.name(),
            r.ledger.sold,
            r.ledger.oversold,
            r.ledger.lost_updates,
            r.ledger.refused,
            r.errors.len(),
            r.cycles_per_s,
            time(r.acquire_us[0]),
            time(r.acquire_us[1]),
            r.jain,
        );
    }
    *out += "</table>\n";
    for r in results {
        for note in notes(plan, r) {
            let _ = writeln!(out, "<p>{}: {}</p>", r.strategy.name(), escape(&note));
        }
    }
}

#[allow(clippy::cast_precision_loss)] // lengths on paper
fn bar_chart(
    out: &mut String,
    bars: &[(String, u64, &str)],
    mark: Option<u64>,
    show: &dyn Fn(u64) -> String,
) {
    let most = bars.iter().map(|b| b.1).chain(mark).max().unwrap_or(1).max(1) as f64;
    let (left, width, row) = (110.0, 620.0, 30.0);
    let height = row * bars.len() as f64 + 6.0;
    let _ = writeln!(out, "<svg viewBox=\"0 0 860 {height}\" role=\"img\">");
    for (i, (name, value, colour)) in bars.iter().enumerate() {
        let (y, w) = (row * i as f64 + 4.0, *value as f64 / most * width);
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text><rect x=\"{left}\" y=\"{y}\" width=\"{:.1}\" \
             height=\"20\" rx=\"3\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{}\">{}</text>",
            left - 8.0,
            y + 14.0,
            w.max(1.0),
            left + w.max(1.0) + 8.0,
            y + 14.0,
            show(*value),
        );
    }
    if let Some(mark) = mark {
        let x = left + mark as f64 / most * width;
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{height}\" stroke=\"currentColor\" stroke-dasharray=\"4 3\"/>"
        );
    }
    *out += "</svg>\n";
}

/// The stock over time, with the faults as bands.
#[allow(clippy::cast_precision_loss)] // lengths on paper
fn curve(out: &mut String, plan: &Plan, r: &Result, colour: &str) {
    let (left, right, top, bottom) = (60.0, 850.0, 10.0, 150.0);
    let span = r.seconds.max(1e-9);
    let high = r.curve.iter().map(|p| p.1).max().unwrap_or(0).max(i64::from(plan.stock)) as f64;
    let low = r.curve.iter().map(|p| p.1).min().unwrap_or(0).min(0) as f64;
    let x = |t: f64| left + (t / span).clamp(0.0, 1.0) * (right - left);
    let y = |v: f64| bottom - (v - low) / (high - low).max(1.0) * (bottom - top);
    let _ = writeln!(out, "<figure><svg viewBox=\"0 0 860 175\" role=\"img\">");
    for band in &r.bands {
        let from = x(band.at);
        let wide = (x(band.at + band.lasted) - from).max(3.0);
        let _ = writeln!(
            out,
            "<rect class=\"band\" x=\"{from:.1}\" y=\"{top}\" width=\"{wide:.1}\" height=\"{}\"><title>{}</title></rect>",
            bottom - top,
            band.what
        );
    }
    for v in [0.0, high] {
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{left}\" x2=\"{right}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/><text x=\"{1}\" y=\"{2:.1}\" \
             text-anchor=\"end\">{v}</text>",
            y(v),
            left - 8.0,
            y(v) + 4.0
        );
    }
    let mut line = format!("{:.1},{:.1}", x(0.0), y(f64::from(plan.stock)));
    // As many points as there are pixels: the extremes of each step stay visible.
    let step = (r.curve.len() / 700).max(1);
    for chunk in r.curve.chunks(step) {
        let extremes = [chunk.iter().max_by_key(|p| p.1), chunk.iter().min_by_key(|p| p.1)];
        for (t, v) in extremes.into_iter().flatten() {
            let _ = write!(line, " {:.1},{:.1}", x(*t), y(*v as f64));
        }
    }
    let _ = writeln!(
        out,
        "<polyline points=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/><text x=\"{left}\" y=\"170\">0</text>\
         <text x=\"{right}\" y=\"170\" text-anchor=\"end\">{:.2} s</text></svg><figcaption>{}{}</figcaption></figure>",
        r.seconds,
        r.strategy.name(),
        if r.bands.is_empty() { "" } else { " (the bands are faults)" },
    );
}

/// One bar for each client.
#[allow(clippy::cast_precision_loss)] // lengths on paper
fn shares(out: &mut String, r: &Result, colour: &str) {
    let most = r.cycles.iter().copied().max().unwrap_or(0).max(1) as f64;
    let wide = 790.0 / r.cycles.len().max(1) as f64;
    *out += "<figure><svg viewBox=\"0 0 860 70\" role=\"img\">";
    for (i, n) in r.cycles.iter().enumerate() {
        let tall = *n as f64 / most * 56.0;
        let _ = write!(
            out,
            "<rect x=\"{:.2}\" y=\"{:.1}\" width=\"{:.2}\" height=\"{tall:.1}\" fill=\"{colour}\"/>",
            60.0 + wide * i as f64,
            62.0 - tall,
            wide * 0.8
        );
    }
    let _ = writeln!(
        out,
        "<line class=\"axis\" x1=\"60\" x2=\"850\" y1=\"62\" y2=\"62\"/><text x=\"52\" y=\"14\" text-anchor=\"end\">{most}</text>\
         </svg><figcaption>{}: fairness (Jain) {:.3}</figcaption></figure>",
        r.strategy.name(),
        r.jain
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
