//! The report of a run: one page, no external resource, charts as SVG.
//!
//! - `svg`: what every chart needs.
//! - `overview`: the whole run, every lock a row.
//! - `zoom`: the interesting moments, every holder a bar.
//! - `waits`: how long clients waited.
//!
//! However long the history, the page stays small: the overview counts in bins, and a zoom is as narrow as it must be to
//! show single holders.

mod overview;
mod svg;
mod waits;
mod zoom;

use std::fmt::Write as _;

use crate::judge::{Breach, Facts, Status, Verdict, Windows};
use svg::{escape, seconds};

const STYLE: &str = "
:root { color-scheme: light dark; --ink:#1c2833; --soft:#5d6d7e; --line:#d5dbdf; --paper:#fff; --sheet:#f4f6f7; --band:#f0b42938;
  --hold:#2471a3; --good:#1e8449; --bad:#c0392b; --warn:#a8690a }
@media (prefers-color-scheme: dark) { :root { --ink:#e5e8e8; --soft:#a6b0b5; --line:#3d474d; --paper:#14191e; --sheet:#1d252c;
  --band:#c9962e33; --hold:#5dade2; --good:#58d68d; --bad:#ff7b6b; --warn:#f5b041 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 66rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.4rem 0 .4rem } h3 { font-size: 1rem; margin: 1.4rem 0 .3rem }
p, figcaption { color: var(--soft); margin: .3rem 0 } figure { margin: .6rem 0 1.2rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top }
th { color: var(--soft); font-weight: 600 } td.n, th.n { text-align: right }
.held { color: var(--good); font-weight: 700 } .broken, .floor { color: var(--bad); font-weight: 700 }
.not { color: var(--warn); font-weight: 700 } .none { color: var(--soft) } td[class] { white-space: nowrap }
pre, code { font: 12.5px/1.45 ui-monospace, monospace } pre { background: var(--sheet); padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; border-radius: 6px; margin: .4rem 0 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .8rem 0 } dt { color: var(--soft) } dd { margin: 0 }
svg { width: 100%; height: auto; display: block } text { fill: var(--soft); font: 12px system-ui, sans-serif } text.name { fill: var(--ink) }
.axis { stroke: var(--line) } .band { fill: var(--band) } .fault { fill: var(--warn) } .hold { fill: var(--hold) }
.bad { fill: var(--bad) } .mark { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 4 3 } .end { stroke: var(--bad); stroke-width: 2 }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .35em 0 .8em; vertical-align: -1px }
";

/// What the colours mean, in all charts.
const LEGEND: &str = "<p><span class=\"key\" style=\"background:var(--hold)\"></span>held \
    <span class=\"key\" style=\"background:var(--bad)\"></span>two holders that exclude each other, or the end of a belief \
    <span class=\"key\" style=\"background:var(--warn)\"></span>a fault, by what it hits \
    <span class=\"key\" style=\"background:var(--band)\"></span>while a fault lasts</p>\n";

/// The whole page.
pub(crate) fn page(facts: &Facts<'_>, windows: &Windows, verdicts: &[Verdict]) -> String {
    let header = &facts.history.header;
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    let title =
        format!("Tenure lab: {}", if header.backend.is_empty() { "a history" } else { &header.backend });
    let _ = write!(
        out,
        "<meta name=\"viewport\" content=\"width=device-width\">\n<title>{0}</title>\n<style>{STYLE}</style></head>\n<body>\n<h1>{0}</h1>\n",
        escape(&title)
    );
    lead(&mut out, verdicts);
    about(&mut out, facts, windows);
    table(&mut out, verdicts);
    breaches(&mut out, facts, verdicts);
    out += "<h2>The whole run</h2>\n";
    out += LEGEND;
    overview::draw(&mut out, facts, windows, verdicts);
    out += "<h2>Holders, close up</h2>\n";
    zoom::draw(&mut out, facts, windows, verdicts);
    out += "<h2>Waiting for a lock</h2>\n";
    waits::draw(&mut out, facts, windows);
    out += "</body></html>\n";
    out
}

/// The result in one sentence.
fn lead(out: &mut String, verdicts: &[Verdict]) {
    let of = |status| {
        verdicts.iter().filter(|verdict| verdict.status == status).map(|v| v.rule).collect::<Vec<_>>()
    };
    let (broken, missed) = (of(Status::Broken), of(Status::FloorMissed));
    let (class, text) = if !broken.is_empty() {
        ("broken", format!("Broken: {}.", broken.join(", ")))
    } else if !missed.is_empty() {
        ("floor", format!("Too little happened: {}.", missed.join(", ")))
    } else {
        ("held", "Every promise that was put to the test held.".to_owned())
    };
    let _ = writeln!(out, "<p class=\"{class}\">{text}</p>");
}

fn about(out: &mut String, facts: &Facts<'_>, windows: &Windows) {
    let header = &facts.history.header;
    let mut rows = vec![
        ("Store", header.url.clone()),
        ("Seed", header.seed.to_string()),
        ("Tenure", header.version.clone()),
        ("Clients", format!("{} processes of {} tasks", header.processes, header.tasks)),
        ("Ttl", format!("{} ms", header.ttl_ms)),
        (
            "Happened",
            format!(
                "{} acquisitions and {} faults in {}, {} events",
                facts.acquisitions,
                windows.all.len(),
                seconds(facts.last().saturating_sub(facts.first())),
                facts.history.events.len()
            ),
        ),
    ];
    if let Some(replay) = &header.replay {
        rows.push(("Repeat", replay.clone()));
    }
    *out += "<dl>";
    for (name, text) in rows.iter().filter(|(_, text)| !text.is_empty()) {
        let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(text));
    }
    for (name, version) in header.versions.iter().flatten() {
        let version = version.as_str().map_or_else(|| version.to_string(), str::to_owned);
        let _ = write!(out, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(&version));
    }
    *out += "</dl>\n";
}

fn class(status: Status) -> &'static str {
    match status {
        Status::Held => "held",
        Status::Broken => "broken",
        Status::NotPromised => "not",
        Status::NotJudged => "none",
        Status::FloorMissed => "floor",
    }
}

fn table(out: &mut String, verdicts: &[Verdict]) {
    *out += "<h2>Rule by rule</h2>\n<table><tr><th>rule</th><th></th><th>verdict</th><th>judged</th>\
             <th class=\"n\">breaches</th><th class=\"n\">not promised</th></tr>\n";
    for verdict in verdicts {
        let count =
            |name: &str| verdict.counts.iter().find(|(what, _)| *what == name).map(|(_, n)| n.to_string());
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td class=\"{}\">{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            verdict.rule,
            verdict.title,
            class(verdict.status),
            verdict.status.word(),
            escape(&verdict.text),
            count("breaches").unwrap_or_default(),
            count("not promised").unwrap_or_default(),
        );
    }
    *out += "</table>\n<p>A breach while a fault breaks what the rule rests on, or up to one ttl later, is counted as not \
             promised. So a rule can be held and have such cases: \"held\" is about the time during which it was promised. \
             S3 is promised always.</p>\n";
}

fn breaches(out: &mut String, facts: &Facts<'_>, verdicts: &[Verdict]) {
    for verdict in verdicts.iter().filter(|verdict| !verdict.breaches.is_empty()) {
        let _ = writeln!(out, "<h2>{} {} was broken</h2>", verdict.rule, verdict.title);
        let _ = writeln!(
            out,
            "<p>Seed {}. Repeat with <code>{}</code></p>",
            verdict.seed,
            escape(&verdict.replay)
        );
        for Breach { t, what, events } in &verdict.breaches {
            let _ = writeln!(
                out,
                "<h3>{} (at {})</h3>\n<pre>",
                escape(what),
                seconds(t.saturating_sub(facts.first()))
            );
            for event in events {
                let _ = writeln!(out, "{}", escape(&serde_json::to_string(event).unwrap_or_default()));
            }
            *out += "</pre>\n";
        }
    }
}
