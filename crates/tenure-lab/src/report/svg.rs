//! What every chart needs.

use std::fmt::Write as _;

pub(super) use crate::duration::roughly as seconds;
use crate::judge::Windows;

/// Where the charts lie on the page.
pub(super) const LEFT: f64 = 120.0;
pub(super) const RIGHT: f64 = 975.0;
pub(super) const WIDTH: f64 = 1000.0;

/// Text as part of a page.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A time axis: from, to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) to: u64,
}

#[allow(clippy::cast_precision_loss)] // places on paper
impl Span {
    pub(super) fn x(self, t: u64) -> f64 {
        let share = t.clamp(self.from, self.to) - self.from;
        LEFT + share as f64 / self.length() as f64 * (RIGHT - LEFT)
    }

    pub(super) fn length(self) -> u64 {
        (self.to - self.from).max(1)
    }

    pub(super) fn touches(self, from: u64, to: u64) -> bool {
        from < self.to && to > self.from
    }

    /// Ticks below a chart, at round times since `zero`.
    pub(super) fn ticks(self, out: &mut String, zero: u64, y: f64) {
        let mut step = 1u64;
        let factors = [2, 5, 10];
        let mut turn = 0;
        while self.length() / step > 10 {
            step = 10u64.pow(turn / 3).saturating_mul(factors[turn as usize % 3]);
            turn += 1;
        }
        let mut t = zero + (self.from - zero).div_ceil(step) * step;
        while t <= self.to {
            let x = self.x(t);
            let _ = write!(
                out,
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{y}\"/><text x=\"{x:.1}\" y=\"{}\" \
                 text-anchor=\"middle\">{}</text>",
                y + 15.0,
                tick(t - zero, step)
            );
            t += step;
        }
        *out += "\n";
    }

    /// The faults as bands behind a chart.
    pub(super) fn bands(self, out: &mut String, windows: &Windows, top: f64, bottom: f64) {
        for window in
            windows.all.iter().filter(|window| self.touches(window.from, window.to.max(window.from + 1)))
        {
            let (x, end) = (self.x(window.from), self.x(window.to));
            let _ = write!(
                out,
                "<rect class=\"band\" x=\"{x:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{}\"><title>{} of {}</title></rect>",
                (end - x).max(0.7),
                bottom - top,
                escape(window.name.as_str()),
                escape(window.target.as_str()),
            );
        }
        *out += "\n";
    }
}

#[allow(clippy::cast_precision_loss)] // to be read
fn tick(ns: u64, step: u64) -> String {
    let (unit, name) = match step {
        1_000_000_000.. => (1e9, "s"),
        1_000_000.. => (1e6, "ms"),
        1_000.. => (1e3, "µs"),
        _ => (1.0, "ns"),
    };
    format!("{:.0} {name}", ns as f64 / unit)
}

/// A chart of this height.
pub(super) fn open(out: &mut String, height: f64) {
    let _ = writeln!(out, "<figure><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
}

/// The end of it, with a sentence below.
pub(super) fn close(out: &mut String, caption: &str) {
    let _ = writeln!(out, "</svg><figcaption>{}</figcaption></figure>", escape(caption));
}

/// The name of a row.
pub(super) fn label(out: &mut String, y: f64, name: &str) {
    let short: String = name.chars().take(17).collect();
    let _ = write!(
        out,
        "<text class=\"name\" x=\"{}\" y=\"{y}\" text-anchor=\"end\"><title>{}</title>{}</text>",
        LEFT - 10.0,
        escape(name),
        escape(&short)
    );
}
