//! The pictures of the page. Places are percentages of the width and text keeps its size, so that a chart fits any screen.

use std::fmt::Write as _;

use super::Plan;
use super::stage::Result;
use super::table::time;

/// A line that goes further than this part beyond the stock leaves the chart.
const HEADROOM: f64 = 1.15;
/// Points of a line: more would not be seen.
const POINTS: usize = 600;
/// A pause in sales from which on it needs a word, in seconds.
const PLATEAU: f64 = 0.15;

/// The colours of the strategies.
pub(super) fn keys(out: &mut String, results: &[Result]) {
    *out += "<p class=\"keys\">";
    for (i, r) in results.iter().enumerate() {
        let _ = write!(
            out,
            "<span class=\"item\"><span class=\"key\" style=\"background:var(--c{i})\"></span>{}</span> ",
            r.strategy.name()
        );
    }
    *out += "</p>\n";
}

/// The time axis that all strategies share: from 0 to the end of the longest.
fn span(results: &[Result]) -> f64 {
    results.iter().map(|r| r.seconds).fold(0.001, f64::max)
}

/// What was sold over time, all strategies on the same axes.
#[allow(clippy::cast_precision_loss)] // places on paper
pub(super) fn sold(out: &mut String, plan: &Plan, results: &[Result]) {
    let (height, span, top) = (260.0, span(results), f64::from(plan.stock) * HEADROOM);
    let y = |sold: f64| height - (sold / top).min(1.0) * height;
    let stock = y(f64::from(plan.stock));
    let _ =
        writeln!(out, "<svg height=\"{}\" role=\"img\" aria-label=\"Items sold over time\">", height + 22.0);
    ticks(out, span, height);
    let _ = writeln!(
        out,
        "<line class=\"axis\" x1=\"0\" x2=\"100%\" y1=\"{height}\" y2=\"{height}\"/><line class=\"stock\" x1=\"0\" x2=\"100%\" \
         y1=\"{stock:.1}\" y2=\"{stock:.1}\"/><text class=\"ink\" x=\"3%\" y=\"{:.1}\">{} in stock</text>",
        stock + 15.0,
        plan.stock
    );
    // A nested picture is stretched; its lines keep their width.
    let _ = write!(
        out,
        "<svg x=\"0\" y=\"0\" width=\"100%\" height=\"{height}\" viewBox=\"0 0 1000 {height}\" preserveAspectRatio=\"none\">"
    );
    for (i, r) in results.iter().enumerate() {
        let mut points = String::from("0,");
        let _ = write!(points, "{height}");
        let step = (r.sales.len() / POINTS).max(1);
        for (n, t) in r.sales.iter().enumerate().filter(|(n, _)| n % step == 0 || n + 1 == r.sales.len()) {
            let _ = write!(points, " {:.1},{:.1}", t / span * 1000.0, y((n + 1) as f64));
            if (n + 1) as f64 > top {
                break;
            }
        }
        let _ = write!(
            out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"var(--c{i})\" stroke-width=\"2\" vector-effect=\"non-scaling-stroke\"/>"
        );
    }
    *out += "</svg>\n";
    leavers(out, results, span, top);
    *out += "</svg>\n";
}

/// The lines that leave the chart at the top, with how far they went.
#[allow(clippy::cast_precision_loss)] // places on paper
fn leavers(out: &mut String, results: &[Result], span: f64, top: f64) {
    let gone = results.iter().enumerate().filter(|(_, r)| r.ledger.sold as f64 > top);
    for (row, (i, r)) in gone.enumerate() {
        let left = r.sales.iter().enumerate().find(|(n, _)| (n + 1) as f64 > top);
        let at = left.map_or(0.0, |(_, t)| t / span * 100.0);
        let (x, anchor) = if at < 60.0 { (at + 1.0, "start") } else { (at - 1.0, "end") };
        let _ = write!(
            out,
            "<text x=\"{x:.1}%\" y=\"{}\" text-anchor=\"{anchor}\" style=\"fill:var(--c{i})\">\u{2191} {} sold {}</text>",
            13 + row * 15,
            r.strategy.name(),
            r.ledger.sold
        );
    }
}

/// Seconds below a chart, at round times.
fn ticks(out: &mut String, span: f64, height: f64) {
    let rough = 10f64.powf((span / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|f| f * rough).into_iter().find(|s| span / s <= 5.0).unwrap_or(span);
    let mut t = 0.0;
    while t <= span {
        let x = t / span * 100.0;
        let anchor = if x < 3.0 {
            "start"
        } else if x > 96.0 {
            "end"
        } else {
            "middle"
        };
        let decimals = if step >= 1.0 {
            0
        } else if step >= 0.1 {
            1
        } else {
            2
        };
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"0\" y2=\"{height}\"/><text x=\"{x:.2}%\" y=\"{}\" \
             text-anchor=\"{anchor}\">{t:.decimals$} s</text>",
            height + 16.0
        );
        t += step;
    }
    *out += "\n";
}

/// The faults of each strategy on the time axis of the chart above, and why nothing was sold for a while.
pub(super) fn faults(out: &mut String, results: &[Result]) {
    let (span, row) = (span(results), 40.0);
    *out += "<p>Faults on the same time axis. A band: a holder is stopped (SIGSTOP), beyond its lease. A line: a holder is \
             killed (SIGKILL). A hatched bar: nothing is sold, because everybody waits until the stopped or killed holder's \
             lease has expired.</p>\n";
    #[allow(clippy::cast_precision_loss)] // rows on paper
    let height = row * results.len() as f64;
    let _ = writeln!(
        out,
        "<svg height=\"{height}\" role=\"img\" aria-label=\"Faults\"><defs><pattern id=\"wait\" width=\"6\" height=\"6\" \
         patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect width=\"2\" height=\"6\" fill=\"var(--soft)\"/></pattern></defs>"
    );
    for (i, r) in results.iter().enumerate() {
        #[allow(clippy::cast_precision_loss)] // rows on paper
        let y = row * i as f64;
        let _ = write!(
            out,
            "<text class=\"ink\" x=\"0\" y=\"{:.0}\">{}</text><line x1=\"0\" x2=\"{3:.2}%\" y1=\"{2}\" y2=\"{2}\" stroke=\"var(--c{i})\" \
             stroke-width=\"2\"/>",
            y + 12.0,
            r.strategy.name(),
            y + 34.0,
            r.seconds / span * 100.0,
        );
        for band in &r.bands {
            let (x, wide) = (band.at / span * 100.0, band.lasted / span * 100.0);
            let style = if band.what == "SIGKILL" { "fill:var(--bad)" } else { "" };
            let _ = write!(
                out,
                "<rect class=\"band\" style=\"{style}\" x=\"{x:.2}%\" y=\"{}\" width=\"{:.2}%\" height=\"18\"><title>{} at {:.2} s</title></rect>",
                y + 16.0,
                wide.max(0.3),
                band.what,
                band.at
            );
        }
        for (from, to) in plateaus(&r.sales).into_iter().filter(|p| near(r, p.0)) {
            let _ = write!(
                out,
                "<rect fill=\"url(#wait)\" x=\"{:.2}%\" y=\"{}\" width=\"{:.2}%\" height=\"9\"><title>nothing sold for {:.2} s: \
                 waiting for the lease to expire</title></rect>",
                from / span * 100.0,
                y + 25.0,
                (to - from) / span * 100.0,
                to - from
            );
        }
        *out += "\n";
    }
    *out += "</svg>\n";
}

/// Spans in which nothing was sold.
fn plateaus(sales: &[f64]) -> Vec<(f64, f64)> {
    sales.windows(2).map(|w| (w[0], w[1])).filter(|(from, to)| to - from >= PLATEAU).collect()
}

/// Whether a fault began about then.
fn near(r: &Result, t: f64) -> bool {
    r.bands.iter().any(|band| (band.at - t).abs() < PLATEAU)
}

/// The height of a row: a name, and a bar below it.
const ROW: f64 = 40.0;

#[allow(clippy::cast_precision_loss)] // rows on paper
fn rows(out: &mut String, results: &[Result], draw: &dyn Fn(&mut String, usize, &Result, f64) -> String) {
    let _ = writeln!(out, "<svg height=\"{}\" role=\"img\">", ROW * results.len() as f64);
    for (i, r) in results.iter().enumerate() {
        let y = ROW * i as f64;
        let value = draw(out, i, r, y + 18.0);
        let _ = writeln!(
            out,
            "<text class=\"ink\" x=\"0\" y=\"{0}\">{1}</text><text class=\"ink\" x=\"100%\" y=\"{0}\" text-anchor=\"end\">{value}</text>",
            y + 13.0,
            r.strategy.name()
        );
    }
    *out += "</svg>\n";
}

fn bar(out: &mut String, (x, wide): (f64, f64), y: f64, fill: &str) {
    let _ = write!(
        out,
        "<rect x=\"{x:.2}%\" y=\"{y}\" width=\"{:.2}%\" height=\"14\" rx=\"2\" fill=\"{fill}\"/>",
        wide.max(0.0)
    );
}

/// The place of a number on a logarithmic axis that ends at `most`, from 0 to 1. One has a place, zero has none.
#[allow(clippy::cast_precision_loss)] // places on paper
fn power(n: u64, most: u64) -> f64 {
    if n == 0 { 0.0 } else { ((n as f64).log10() + 0.3) / ((most.max(10) as f64).log10() + 0.3) }
}

/// Counts that may differ by powers of ten.
pub(super) fn powers(
    out: &mut String,
    results: &[Result],
    count: &dyn Fn(&Result) -> u64,
    show: &dyn Fn(u64) -> String,
) {
    let most = results.iter().map(count).max().unwrap_or(0);
    rows(out, results, &|out, i, r, y| {
        bar(out, (0.0, power(count(r), most) * 100.0), y, &format!("var(--c{i})"));
        show(count(r))
    });
}

/// What part of the time nobody, one, or several were inside.
pub(super) fn presence(out: &mut String, results: &[Result]) {
    rows(out, results, &|out, i, r, y| {
        let p = r.presence;
        let _ = write!(
            out,
            "<rect x=\"0\" y=\"{y}\" width=\"100%\" height=\"14\" rx=\"2\" fill=\"var(--sheet)\"/>"
        );
        bar(out, (0.0, p.one * 100.0), y, &format!("var(--c{i})"));
        bar(out, (p.one * 100.0, p.several * 100.0), y, "var(--bad)");
        format!(
            "one {:.1} %, several {:.1} %, none {:.1} %",
            p.one * 100.0,
            p.several * 100.0,
            p.none * 100.0
        )
    });
}

/// From the median to the 99th percentile.
pub(super) fn waits(out: &mut String, results: &[Result]) {
    let most = results.iter().map(|r| r.acquire_us[1]).max().unwrap_or(0);
    rows(out, results, &|out, i, r, y| {
        let [low, high, _] = r.acquire_us;
        let (from, to) = (power(low, most) * 100.0, power(high, most) * 100.0);
        bar(out, (from.min(99.5), (to - from).max(0.5)), y, &format!("var(--c{i})"));
        format!("{} to {}", time(low), time(high))
    });
}

/// One bar for each client.
#[allow(clippy::cast_precision_loss)] // lengths on paper
pub(super) fn shares(out: &mut String, r: &Result, i: usize) {
    let most = r.cycles.iter().copied().max().unwrap_or(0).max(1);
    let wide = 100.0 / r.cycles.len().max(1) as f64;
    let _ = write!(
        out,
        "<svg height=\"84\" role=\"img\"><text class=\"ink\" x=\"0\" y=\"13\">{}</text><text class=\"ink\" x=\"100%\" y=\"13\" \
         text-anchor=\"end\">fairness {:.3}, at most {most}</text>",
        r.strategy.name(),
        r.jain
    );
    for (n, count) in r.cycles.iter().enumerate() {
        let tall = *count as f64 / most as f64 * 56.0;
        let _ = write!(
            out,
            "<rect x=\"{:.2}%\" y=\"{:.1}\" width=\"{:.2}%\" height=\"{tall:.1}\" fill=\"var(--c{i})\"/>",
            wide * n as f64,
            76.0 - tall,
            wide * 0.8
        );
    }
    *out += "<line class=\"axis\" x1=\"0\" x2=\"100%\" y1=\"76\" y2=\"76\"/></svg>\n";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_counts_are_both_seen() {
        let [few, many] = [11, 67_408].map(|n| power(n, 67_408));
        assert!(few > 0.2 && few < 0.4 && (many - 1.0).abs() < 1e-9, "{few} {many}");
        assert!(power(0, 10).abs() < 1e-9 && power(1, 10) > 0.05);
    }

    #[test]
    fn a_plateau_is_a_long_gap() {
        assert_eq!(plateaus(&[0.0, 0.1, 0.5, 0.6]), [(0.1, 0.5)]);
    }
}
