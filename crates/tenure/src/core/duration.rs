//! Durations as people write them: `250ms`, `30s`, `5m`, `1h30m`. The command, the lab and configuration files read them alike.

use std::time::Duration;

/// Units, largest first, with their length in ns.
const UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1000),
    ("ns", 1),
];

/// Parses a duration: whole numbers with units, each unit at most once, the larger one first.
///
/// # Errors
/// What is wrong, and how to write it instead.
pub fn parse(text: &str) -> Result<Duration, String> {
    let odd = || format!("{text:?} is not a duration; write it like 250ms, 30s, 5m or 1h30m");
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!(
            "{text:?} has no unit; did you mean {text}s? Write it like 250ms, 30s, 5m or 1h30m"
        ));
    }
    let mut rest = text;
    let mut units = UNITS;
    let mut total: u64 = 0;
    while !rest.is_empty() || total == 0 && units.len() == UNITS.len() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, next) = after.split_at(letters);
        if number.is_empty() || unit.is_empty() {
            return Err(odd());
        }
        let Some(at) = units.iter().position(|(name, _)| *name == unit) else {
            return Err(if UNITS.iter().any(|(name, _)| *name == unit) {
                format!("{text:?} has the unit {unit} twice or out of order; write it like 1h30m")
            } else {
                format!("{text:?} has the unknown unit {unit:?}; use d, h, m, s, ms, us or ns")
            });
        };
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(units[at].1));
        total = part
            .and_then(|p| total.checked_add(p))
            .ok_or_else(|| format!("{text:?} is too long; give a shorter one"))?;
        units = &units[at + 1..];
        rest = next;
    }
    Ok(Duration::from_nanos(total))
}

/// Writes one, short.
#[must_use]
pub fn show(d: Duration) -> String {
    let ns = d.as_nanos();
    match ns {
        0 => "0s".into(),
        _ if ns.is_multiple_of(1_000_000_000) => format!("{}s", d.as_secs()),
        _ if ns.is_multiple_of(1_000_000) => format!("{}ms", d.as_millis()),
        _ if ns.is_multiple_of(1000) => format!("{}us", d.as_micros()),
        _ => format!("{ns}ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        let cases = [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0s", 0),
            ("0h5ms", 5),
        ];
        for (text, ms) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn a_bare_number_gets_a_hint() {
        assert!(parse("10").expect_err("refused").contains("did you mean 10s?"));
        assert!(parse("0").is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        let max = format!("{}s", u64::MAX);
        let beyond = format!("{}0ms", u64::MAX);
        let texts = [
            "",
            " ",
            "s",
            "ms",
            "-1s",
            "+1s",
            "1 s",
            " 1s",
            "1s ",
            "1.5s",
            "1h1h",
            "1m1h",
            "5ms1s",
            "NaN",
            "nan",
            "inf",
            "1e309",
            "1e3s",
            "10x",
            "1S",
            "1s1",
            "1sms",
            "٣s",
            "1s\0",
            "0x10s",
            &max,
            &beyond,
            "18446744073709551615h",
        ];
        for text in texts {
            assert!(parse(text).is_err(), "{text:?} was taken for {:?}", parse(text));
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for ns in [0, 1, 1500, 2_000_000, 400_000_000, 30_000_000_000] {
            let d = Duration::from_nanos(ns);
            assert_eq!(parse(&show(d)), Ok(d));
        }
    }
}
