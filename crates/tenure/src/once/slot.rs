//! Which run of a job is meant.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::core::calendar::{self, rfc3339};
use crate::error::{Error, Result};

/// The longest slot.
const SPAN_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The longest label, in bytes.
const LABEL_MAX: usize = 100;

/// Which run of a job is meant: the same slot means the same run, on every machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Every { period: Duration, at: Duration },
    Between { start: SystemTime, end: SystemTime },
    Named(String),
}

/// A slot as it is at some time.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) label: String,
    /// When it ends, in µs since the epoch; `None`: by its name alone nobody knows.
    pub(super) end_us: Option<u64>,
    /// How long it is.
    pub(super) span: Option<Duration>,
}

impl Slot {
    /// The slot that this machine's clock is in when the job is asked for. Slots are `period` long and start `at` into it: daily
    /// slots with an `at` of three hours start at 03:00 UTC. Weekly slots count from the epoch, a Thursday, so 4 days 3 h means
    /// Mondays at 03:00. The label is the start in RFC 3339.
    ///
    /// `period` is 1 s to 366 days, `at` less than that; both in whole seconds.
    #[must_use]
    pub fn every(period: Duration, at: Duration) -> Slot {
        Slot { what: What::Every { period, at } }
    }

    /// The slot from `start` to `end`, at most 366 days, labelled by its start. It is refused before it starts and after it ends, by
    /// more than clocks may differ.
    #[must_use]
    pub fn between(start: SystemTime, end: SystemTime) -> Slot {
        Slot { what: What::Between { start, end } }
    }

    /// The slot of this label, of one level and at most 100 bytes: an invoice run "2026-11", a migration "v42". It has no time, so
    /// it is never refused as being over. It counts as used for as long as its record is kept.
    #[must_use]
    pub fn named(label: &str) -> Slot {
        Slot { what: What::Named(label.to_owned()) }
    }

    /// Whether there is a next one.
    pub(super) fn repeats(&self) -> bool {
        matches!(self.what, What::Every { .. })
    }

    pub(super) fn check(&self) -> Result<()> {
        match &self.what {
            What::Every { period, at } => {
                let whole = period.subsec_nanos() == 0 && at.subsec_nanos() == 0;
                if !whole || *period < Duration::from_secs(1) || *period > SPAN_MAX || at >= period {
                    let (length, start) = (calendar::span(*period), calendar::span(*at));
                    let what = if at >= period {
                        format!(
                            "slots of {length} cannot start at {start}: the start must be shorter than the slot"
                        )
                    } else {
                        format!("a slot cannot be {length} long")
                    };
                    let advice =
                        "use whole seconds, a length of 1 s to 366 days, and a start shorter than the length";
                    return Err(Error::config(what, advice));
                }
            }
            What::Between { start, end } => {
                let span = end.duration_since(*start).ok().filter(|span| !span.is_zero());
                if micros(*start).is_none() || span.is_none_or(|span| span > SPAN_MAX) {
                    let advice = "start it after 1970, and end it at most 366 days later";
                    return Err(Error::config("the slot ends before it starts, or is too long", advice));
                }
            }
            What::Named(label) => {
                if !(1..=LABEL_MAX).contains(&label.len()) || label.contains('/') {
                    let what = format!("the slot's label has {} bytes, or a / in it", label.len());
                    return Err(Error::config(what, format!("use 1 to {LABEL_MAX} bytes without /")));
                }
            }
        }
        Ok(())
    }

    /// The slot that is meant at `now_us`, where clocks may be apart by `tolerance`.
    pub(super) fn due(&self, now_us: u64, tolerance: Duration) -> Result<Due> {
        let (start, end) = match &self.what {
            What::Named(label) => return Ok(Due { label: label.clone(), end_us: None, span: None }),
            What::Every { period, at } => {
                let (period, at) = (micros_of(*period), micros_of(*at));
                let start = now_us.saturating_sub(at) / period * period + at;
                (start, start + period)
            }
            What::Between { start, end } => (micros(*start).unwrap_or(0), micros(*end).unwrap_or(0)),
        };
        let label = rfc3339(start);
        let tolerance = micros_of(tolerance);
        if now_us > end.saturating_add(tolerance) {
            let what = format!("the slot {label} is over since {}", rfc3339(end));
            return Err(Error::config(what, "ask for a slot of now; the clock of this machine may be wrong"));
        }
        if start > now_us.saturating_add(tolerance) {
            let what = format!("the slot {label} has not begun");
            return Err(Error::config(what, "ask when it has; the clock of this machine may be wrong"));
        }
        Ok(Due { label, end_us: Some(end), span: Some(Duration::from_micros(end - start)) })
    }
}

fn micros(at: SystemTime) -> Option<u64> {
    at.duration_since(UNIX_EPOCH).ok().map(micros_of)
}

pub(super) fn micros_of(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);
    /// 2026-11-21T02:59:59Z, a Saturday.
    const NOW: u64 = 1_795_229_999_000_000;

    fn label(slot: &Slot, now: u64) -> String {
        slot.check().expect("a good slot");
        slot.due(now, Duration::from_secs(600)).expect("due").label
    }

    #[test]
    fn slots_begin_where_they_should() {
        let nightly = Slot::every(DAY, 3 * HOUR);
        assert_eq!(label(&nightly, NOW), "2026-11-20T03:00:00Z");
        assert_eq!(label(&nightly, NOW + 1_000_000), "2026-11-21T03:00:00Z");
        assert_eq!(label(&nightly, NOW + 86_400_000_000), "2026-11-21T03:00:00Z");
        assert_eq!(label(&Slot::every(7 * DAY, 4 * DAY + 3 * HOUR), NOW), "2026-11-16T03:00:00Z");
        assert_eq!(label(&Slot::every(Duration::from_secs(60), Duration::ZERO), NOW), "2026-11-21T02:59:00Z");
        assert_eq!(label(&Slot::named("2026-11"), NOW), "2026-11");
        let start = UNIX_EPOCH + Duration::from_micros(NOW + 500_000);
        assert_eq!(label(&Slot::between(start, start + HOUR), NOW), "2026-11-21T02:59:59.5Z");
    }

    #[test]
    fn a_slot_that_is_over_or_far_away_is_refused() {
        let start = UNIX_EPOCH + Duration::from_micros(NOW);
        let slot = Slot::between(start, start + HOUR);
        let tolerance = Duration::from_secs(600);
        let ask = |minutes: i64| slot.due(NOW.saturating_add_signed(minutes * 60_000_000), tolerance);
        assert!(ask(-10).is_ok() && ask(0).is_ok() && ask(70).is_ok());
        assert!(ask(71).expect_err("over").to_string().contains("is over"));
        assert!(ask(-11).expect_err("far away").to_string().contains("has not begun"));
    }

    #[test]
    fn impossible_slots_are_refused() {
        let epoch = UNIX_EPOCH;
        for slot in [
            Slot::every(Duration::ZERO, Duration::ZERO),
            Slot::every(Duration::from_millis(1500), Duration::ZERO),
            Slot::every(DAY, DAY),
            Slot::every(367 * DAY, HOUR),
            Slot::between(epoch + HOUR, epoch + HOUR),
            Slot::between(epoch + 2 * HOUR, epoch + HOUR),
            Slot::between(epoch - HOUR, epoch + HOUR),
            Slot::between(epoch, epoch + 367 * DAY),
            Slot::named("a/b"),
            Slot::named(""),
            Slot::named(&"x".repeat(101)),
        ] {
            slot.check().expect_err("impossible");
        }
    }
}
