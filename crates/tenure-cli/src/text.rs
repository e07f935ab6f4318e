//! Text for people: escaping, times, durations, tables.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Whether a character could move the cursor, reorder or hide text.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c), 0x00AD | 0x061C | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F
            | 0xFE00..=0xFE0F | 0xFEFF | 0xFFF0..=0xFFFB | 0xE0000..=0xE0FFF)
}

/// Text that others wrote, safe for a terminal and on one line: `\u{1b}` instead of an escape character.
pub(crate) fn escape(text: &str) -> String {
    escape_but(text, |_| false)
}

/// The same, line ends kept.
pub(crate) fn escape_lines(text: &str) -> String {
    escape_but(text, |c| c == '\n')
}

fn escape_but(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) && !keep(c) {
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// One value as one line of JSON, the same characters escaped as for a terminal. They can occur only inside strings,
/// where `\uXXXX` means the same.
pub(crate) fn json_line(value: &impl serde::Serialize) -> String {
    let raw = serde_json::to_string(value).unwrap_or_else(|_| "null".into());
    let mut out = String::with_capacity(raw.len() + 1);
    for c in raw.chars() {
        if is_unsafe(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out.push('\n');
    out
}

/// The wall clock, in µs since the epoch.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Year, month, day of the days since 1970-01-01, in the proleptic Gregorian calendar. Counts in eras of 400 years
/// from March on, so that the leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn rfc3339(us: u64) -> String {
    let (ms, seconds) = (us / 1000 % 1000, us / 1_000_000);
    let (year, month, day) = civil(seconds / 86_400);
    let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
}

/// A duration for people, two units at most: `21s`, `3m 5s`, `250ms`.
pub(crate) fn short(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0 => format!("{}ms", d.as_millis()),
        1..60 => format!("{s}s"),
        60..3600 => two(s / 60, "m", s % 60, "s"),
        3600..86_400 => two(s / 3600, "h", s % 3600 / 60, "m"),
        _ => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

fn two(big: u64, unit: &str, small: u64, sub: &str) -> String {
    if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit} {small}{sub}") }
}

/// How long ago an instant was, in µs since the epoch; zero where clocks disagree.
pub(crate) fn ago(us: u64, now_us: u64) -> Duration {
    Duration::from_micros(now_us.saturating_sub(us))
}

/// `1st`, `2nd`, `3rd`, `11th`.
pub(crate) fn ordinal(n: usize) -> String {
    let suffix = match (n % 100, n % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{n}{suffix}")
}

/// How many columns of a terminal a character takes.
pub(crate) fn columns_of(c: char) -> usize {
    match u32::from(c) {
        // Marks that stand over the character before.
        0x0300..=0x036F
        | 0x0483..=0x0489
        | 0x0591..=0x05BD
        | 0x064B..=0x065F
        | 0x1AB0..=0x1AFF
        | 0x1DC0..=0x1DFF
        | 0x20D0..=0x20FF
        | 0x3099..=0x309A
        | 0xFE20..=0xFE2F => 0,
        // East Asian scripts, full-width forms and pictures.
        0x1100..=0x115F
        | 0x231A..=0x231B
        | 0x23E9..=0x23EC
        | 0x2E80..=0x303E
        | 0x3041..=0xA4CF
        | 0xA960..=0xA97F
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF01..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1F64F
        | 0x1F680..=0x1F6FF
        | 0x1F900..=0x1FAFF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

/// How many columns of a terminal a text takes.
pub(crate) fn width_of(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// The longest part of these characters that is no wider than `width`.
fn within(text: impl Iterator<Item = char>, width: usize) -> Vec<char> {
    let mut left = width;
    text.take_while(|&c| {
        let fits = columns_of(c) <= left;
        left = left.saturating_sub(columns_of(c));
        fits
    })
    .collect()
}

/// A text no wider than `width`, cut at its end.
pub(crate) fn cut_end(text: &str, width: usize) -> String {
    if width_of(text) <= width {
        return text.to_owned();
    }
    let kept: String = within(text.chars(), width.saturating_sub(1)).into_iter().collect();
    if width == 0 { kept } else { kept + "…" }
}

/// A text no wider than `width`, cut in its middle.
pub(crate) fn cut_middle(text: &str, width: usize) -> String {
    if width_of(text) <= width || width < 5 {
        return cut_end(text, width);
    }
    let head = (width - 1) / 2;
    let mut end = within(text.chars().rev(), width - 1 - head);
    end.reverse();
    let begin = within(text.chars(), head);
    begin.into_iter().chain(['…']).chain(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999_999, "2000-02-29T23:59:59.999Z"),
            (1_709_251_199_001_000, "2024-02-29T23:59:59.001Z"),
            (1_795_248_000_123_456, "2026-11-21T08:00:00.123Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (us, text) in cases {
            assert_eq!(rfc3339(us), text);
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let days_in = |year: u64, month: u64| match month {
            2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut date = (1970, 1, 1);
        for n in 0..146_097 {
            assert_eq!(civil(n), date);
            let (y, m, d) = date;
            date = match (m, d) {
                (12, 31) => (y + 1, 1, 1),
                _ if d == days_in(y, m) => (y, m + 1, 1),
                _ => (y, m, d + 1),
            };
        }
    }

    #[test]
    fn text_of_others_is_escaped() {
        assert_eq!(escape("a\x1b[2J\u{202e}é\n"), "a\\u{1b}[2J\\u{202e}é\\u{a}");
        let line = json_line(&"a\u{202e}\x1b\u{e0001}é");
        assert_eq!(line, "\"a\\u202e\\u001b\\udb40\\udc01é\"\n");
        assert_eq!(serde_json::from_str::<String>(&line).expect("JSON"), "a\u{202e}\x1b\u{e0001}é");
    }

    #[test]
    fn durations_and_places() {
        let of = |ms| short(Duration::from_millis(ms));
        assert_eq!(
            [of(0), of(250), of(21_873), of(185_000), of(60_000)],
            ["0ms", "250ms", "21s", "3m 5s", "1m"]
        );
        assert_eq!([of(5_400_000), of(90_000_000)], ["1h 30m", "1d 1h"]);
        assert_eq!(
            [1, 2, 3, 4, 11, 22, 113].map(ordinal),
            ["1st", "2nd", "3rd", "4th", "11th", "22nd", "113th"]
        );
    }

    #[test]
    fn texts_are_cut_to_columns() {
        assert_eq!(
            (cut_end("orders/42", 9), cut_end("orders/42", 7)),
            ("orders/42".into(), "orders…".into())
        );
        assert_eq!(cut_middle("orders/2026/42", 9), "orde…6/42");
        assert_eq!((cut_end("名前名前", 4), width_of("名前")), ("名…".into(), 4));
        assert_eq!(
            (cut_end("ab", 1), cut_end("ab", 0), cut_middle("abc", 2)),
            ("…".into(), String::new(), "a…".into())
        );
        for width in 0..12 {
            assert!(width_of(&cut_middle("名前/a/名前/b", width)) <= width);
        }
        assert_eq!(width_of("e\u{301}"), 1);
    }
}
