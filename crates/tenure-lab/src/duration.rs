//! Durations as people write them: `250ms`, `30s`, `5m`, `1h30m`.

use std::time::Duration;

const UNITS: &[(&str, f64)] = &[
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
];

/// Reads a duration.
///
/// # Errors
/// Says what is wrong with it; a bare number is refused with a hint.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    if !text.is_empty() && text.chars().all(digits) {
        return Err(format!("a number alone has no unit; write {text}s or {text}ms"));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut last = f64::INFINITY;
    while !rest.is_empty() || text.is_empty() {
        let number = &rest[..rest.find(|c| !digits(c)).unwrap_or(rest.len())];
        rest = &rest[number.len()..];
        let unit = &rest[..rest.find(digits).unwrap_or(rest.len())];
        rest = &rest[unit.len()..];
        let scale = UNITS.iter().find(|(u, _)| *u == unit).map(|(_, s)| *s).filter(|s| *s < last);
        let (Ok(number), Some(scale)) = (number.parse::<f64>(), scale) else {
            return Err("not a duration; write it like 250ms, 30s, 5m or 1h30m".into());
        };
        last = scale;
        let part = Duration::try_from_secs_f64(number * scale).map_err(|e| e.to_string())?;
        total = total.checked_add(part).ok_or("too long")?;
    }
    Ok(total)
}

/// Writes one, short.
pub(crate) fn show(d: Duration) -> String {
    let ns = d.as_nanos();
    match ns {
        0 => "0s".into(),
        _ if ns.is_multiple_of(1_000_000_000) => format!("{}s", d.as_secs()),
        _ if ns.is_multiple_of(1_000_000) => format!("{}ms", d.as_millis()),
        _ if ns.is_multiple_of(1000) => format!("{}us", d.as_micros()),
        _ => format!("{ns}ns"),
    }
}

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
    fn durations_are_read_and_nonsense_is_refused() {
        for (text, ms) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("0s", 0),
            ("1.5s", 1500),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "10",
            "1.5",
            "s",
            "1h1h",
            "1m1h",
            "-1s",
            "1e309s",
            "NaN",
            "5 s",
            "9999999999999999999d",
            "1x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("10").expect_err("refused").contains("10s"));
    }

    #[test]
    fn spans_are_short_to_read() {
        let texts = [0, 999, 1500, 409_358, 12_300_000, 45_000_000_000].map(roughly);
        assert_eq!(texts, ["0", "999 ns", "1.5 µs", "409 µs", "12.3 ms", "45.00 s"]);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for ns in [0, 1, 1500, 2_000_000, 400_000_000, 30_000_000_000] {
            let d = Duration::from_nanos(ns);
            assert_eq!(parse(&show(d)), Ok(d));
        }
    }
}
