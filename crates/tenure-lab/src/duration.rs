//! Durations as people write them: `250ms`, `30s`, `5m`, `1h30m`.

pub use tenure::core::duration::parse;
pub(crate) use tenure::core::duration::show;

/// Writes a span in ns as people read it: three digits at most, and a unit.
#[allow(clippy::cast_precision_loss)] // to be read
pub(crate) fn roughly(ns: u64) -> String {
    let (x, unit) = match ns {
        0 => return "0".into(),
        1..1000 => (ns as f64, "ns"),
        1000..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let digits = if ns < 1000 || x >= 100.0 { 0 } else { 1 + usize::from(unit == "s" && x < 100.0) };
    format!("{x:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_to_read() {
        let texts = [0, 999, 1500, 409_358, 12_300_000, 45_000_000_000].map(roughly);
        assert_eq!(texts, ["0", "999 ns", "1.5 µs", "409 µs", "12.3 ms", "45.00 s"]);
    }
}
