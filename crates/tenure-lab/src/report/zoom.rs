//! Interesting moments: every holder a bar, coloured by its process.

use std::fmt::Write as _;

use super::svg::{self, Span};
use crate::history::Name;
use crate::judge::{Facts, Hold, Verdict, Windows};

/// How many bars a chart may have before it gets narrower; around a breach fewer, so that it can be seen.
const BARS: usize = 260;
const BREACH_BARS: usize = 60;
/// How many holders of one lock are shown one above the other.
const LANES: usize = 6;
const LANE: f64 = 13.0;
const COLOURS: [&str; 8] =
    ["#3b82c4", "#d98324", "#2f9e62", "#c2588f", "#8271d8", "#149aa8", "#a98232", "#8794a1"];

/// A moment, and why it is shown.
struct Moment {
    t: u64,
    why: String,
    breach: bool,
}

pub(super) fn draw(out: &mut String, facts: &Facts<'_>, windows: &Windows, verdicts: &[Verdict]) {
    for moment in moments(facts, windows, verdicts) {
        let span = around(facts, &moment);
        chart(out, facts, windows, span, &moment);
    }
}

/// The first breach of each broken rule; one that a fault excuses; the longest pause; or else the middle of the run.
fn moments(facts: &Facts<'_>, windows: &Windows, verdicts: &[Verdict]) -> Vec<Moment> {
    let mut moments: Vec<Moment> = Vec::new();
    for (verdict, breach) in verdicts.iter().filter_map(|verdict| Some((verdict, verdict.breaches.first()?)))
    {
        let why = format!("{} was broken here: {}", verdict.rule, breach.what);
        // One moment often breaks several rules.
        match moments
            .iter_mut()
            .find(|moment| moment.t.abs_diff(breach.t) < facts.history.header.ttl_ns() / 4)
        {
            Some(moment) => moment.why += &format!("; {why}"),
            None => moments.push(Moment { t: breach.t, why, breach: true }),
        }
    }
    let excused = verdicts.iter().find_map(|verdict| Some((verdict.rule, verdict.excused.first()?)));
    moments.extend(excused.map(|(rule, breach)| Moment {
        t: breach.t,
        why: format!("{rule} was not promised here, and did not hold: {}", breach.what),
        breach: true,
    }));
    let paused = windows.all.iter().filter(|window| window.name.as_str() == "pause");
    moments.extend(paused.max_by_key(|window| window.to - window.from).map(|window| Moment {
        // When the leases of the paused have ended, or it is over.
        t: (window.from + facts.history.header.ttl_ns()).min(window.to),
        why: format!(
            "the longest pause: {}, of {}",
            svg::seconds(window.to - window.from),
            window.target.as_str()
        ),
        breach: false,
    }));
    if moments.is_empty() {
        let t = facts.first() + (facts.last() - facts.first()) / 2;
        moments.push(Moment { t, why: "the middle of the run".into(), breach: false });
    }
    moments.truncate(6);
    moments
}

/// Some ttls around a moment, or less where there is much to see.
fn around(facts: &Facts<'_>, moment: &Moment) -> Span {
    let (t, most) = (moment.t, if moment.breach { BREACH_BARS } else { BARS });
    let mut half = facts.history.header.ttl_ns().saturating_mul(3).max(1000);
    loop {
        let span = Span {
            from: t.saturating_sub(half).max(facts.first()),
            to: t.saturating_add(half).min(facts.last()).max(facts.first() + 1),
        };
        let bars = facts
            .holds
            .iter()
            .filter(|hold| hold.belief().is_some_and(|(from, to)| span.touches(from, to)))
            .count();
        if bars <= most || half < 2000 {
            return span;
        }
        half = half * 2 / 3;
    }
}

fn chart(out: &mut String, facts: &Facts<'_>, windows: &Windows, span: Span, moment: &Moment) {
    let mut rows: Vec<(Name, Vec<Vec<&Hold>>)> = Vec::new();
    for (lock, claims) in &facts.locks {
        let lanes = lanes(facts.granted(claims), span);
        if !lanes.is_empty() {
            rows.push((*lock, lanes));
        }
    }
    let tall: f64 = rows.iter().map(|(_, lanes)| lanes.len() as f64 * LANE + 8.0).sum();
    svg::open(out, tall + 22.0);
    span.ticks(out, facts.first(), tall);
    span.bands(out, windows, 0.0, tall);
    let mut y = 4.0;
    for (lock, lanes) in rows {
        svg::label(out, y + 10.0, lock.as_str());
        for lane in &lanes {
            for hold in lane {
                bar(out, facts, span, hold, y);
            }
            y += LANE;
        }
        y += 8.0;
        let line = y - 4.0;
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{}\" x2=\"{}\" y1=\"{line}\" y2=\"{line}\"/>",
            svg::LEFT,
            svg::RIGHT
        );
    }
    if moment.breach {
        let x = span.x(moment.t);
        let _ = write!(out, "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{tall}\"/>");
    }
    svg::close(
        out,
        &format!(
            "{} {} around {}: {}. A bar is a holder, its colour a process; it ends in red where the lease ended or the \
             loss was told. Bands are faults.",
            svg::seconds(span.length()),
            if span.length() < facts.last() - facts.first() { "of the run," } else { "," },
            svg::seconds(moment.t.saturating_sub(facts.first())),
            moment.why
        ),
    );
}

/// Holders that believe at the same time lie one above the other.
fn lanes<'a>(granted: impl Iterator<Item = &'a Hold>, span: Span) -> Vec<Vec<&'a Hold>> {
    let mut holds: Vec<(u64, u64, &Hold)> = granted
        .filter_map(|hold| hold.belief().map(|(from, to)| (from, to, hold)))
        .filter(|(from, to, _)| span.touches(*from, *to))
        .collect();
    holds.sort_by_key(|(from, ..)| *from);
    let mut lanes: Vec<(u64, Vec<&Hold>)> = Vec::new();
    for (from, to, hold) in holds {
        let free = lanes.iter().position(|(until, _)| *until <= from);
        match free {
            Some(lane) => {
                lanes[lane].0 = to;
                lanes[lane].1.push(hold);
            }
            None if lanes.len() < LANES => lanes.push((to, vec![hold])),
            None => {}
        }
    }
    lanes.into_iter().map(|(_, lane)| lane).collect()
}

fn bar(out: &mut String, facts: &Facts<'_>, span: Span, hold: &Hold, y: f64) {
    let Some((from, to)) = hold.belief() else { return };
    let (x, end) = (span.x(from), span.x(to));
    let colour = COLOURS[hold.p as usize % COLOURS.len()];
    let client = hold.ok.and_then(|at| facts.history.events[at.event].c);
    let _ = write!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"10\" rx=\"1.5\" fill=\"{colour}\"><title>{} {} of client {}{}, {}</title></rect>",
        (end - x - 0.5).max(0.8),
        hold.kind.word(),
        hold.claim,
        client.map_or("?", Name::as_str),
        hold.token.map(|token| format!(", token {token}")).unwrap_or_default(),
        if to == u64::MAX { "to the end".to_owned() } else { svg::seconds(to - from) },
    );
    if hold.release.is_none_or(|at| at.t > to) && to < span.to {
        let _ = write!(
            out,
            "<line class=\"end\" x1=\"{end:.1}\" x2=\"{end:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            y - 1.0,
            y + 11.0
        );
    }
}
