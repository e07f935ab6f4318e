//! What a measurement counts, and a histogram that many processes can add up.

use serde::{Deserialize, Serialize};

/// Times are kept to two digits: to within 1 %.
const DIGITS: u8 = 2;
/// The longest time that is told apart, in ns: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// A histogram of times in ns, with the exact maximum and sum.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "Counts", from = "Counts")]
pub(crate) struct Histogram {
    times: hdrhistogram::Histogram<u64>,
    sum: u64,
    max: u64,
}

/// A histogram as it is sent to another process: each value, and how often it was measured.
#[derive(Serialize, Deserialize)]
struct Counts {
    counts: Vec<(u64, u64)>,
    sum: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        let times = hdrhistogram::Histogram::new_with_max(LONGEST, DIGITS).expect("bounds that are allowed");
        Histogram { times, sum: 0, max: 0 }
    }
}

impl From<Histogram> for Counts {
    fn from(from: Histogram) -> Counts {
        let recorded = from.times.iter_recorded();
        let counts = recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
        Counts { counts, sum: from.sum, max: from.max }
    }
}

impl From<Counts> for Histogram {
    fn from(from: Counts) -> Histogram {
        let mut all = Histogram { sum: from.sum, max: from.max, ..Histogram::default() };
        for (value, count) in from.counts {
            all.times.saturating_record_n(value, count);
        }
        all
    }
}

impl Histogram {
    /// Adds one time.
    pub(crate) fn add(&mut self, ns: u64) {
        self.times.saturating_record(ns);
        self.sum += ns;
        self.max = self.max.max(ns);
    }

    /// Adds another one.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        self.times.add(&other.times).expect("the same bounds");
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// The value below which the share `q` lies, in µs.
    #[allow(clippy::cast_precision_loss)] // a time
    pub(crate) fn quantile_us(&self, q: f64) -> f64 {
        self.times.lowest_equivalent(self.times.value_at_quantile(q)) as f64 / 1e3
    }

    /// The largest value, in µs.
    #[allow(clippy::cast_precision_loss)] // a time
    pub(crate) fn max_us(&self) -> f64 {
        self.max as f64 / 1e3
    }

    /// The mean, in µs.
    #[allow(clippy::cast_precision_loss)] // a time
    pub(crate) fn mean_us(&self) -> f64 {
        let count = self.times.len();
        if count == 0 { 0.0 } else { self.sum as f64 / count as f64 / 1e3 }
    }
}

/// What one process measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Completed cycles of each task.
    pub(crate) cycles: Vec<u64>,
    /// How long the acquire calls took.
    pub(crate) acquire: Histogram,
    /// Failed calls.
    pub(crate) errors: u64,
    /// The first of them.
    pub(crate) error: Option<String>,
    /// handoff: when each hold was acquired, and when its release was called.
    pub(crate) stamps: Vec<(u64, u64)>,
    /// holds: what it cost.
    pub(crate) cost: Option<Cost>,
}

/// What holding many locks cost one process.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Locks that were still held in the end.
    pub(crate) held: u64,
    /// Renewals that were sent, by claims.
    pub(crate) renewals: u64,
    /// CPU time, in per cent of one core.
    pub(crate) cpu_percent: f64,
    /// Memory, in kB, above what the process had before.
    pub(crate) memory_kb: u64,
    /// The same for the server's process, where it tells: whoever else uses it is counted too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_cpu_percent: Option<f64>,
    /// Memory that the server allocated meanwhile, in kB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_memory_kb: Option<f64>,
}

impl Tally {
    /// Counts a failed call.
    pub(crate) fn failed(&mut self, error: impl std::fmt::Debug) {
        self.errors += 1;
        self.error.get_or_insert_with(|| format!("{error:?}"));
    }

    /// Adds what another task or process measured.
    pub(crate) fn merge(&mut self, other: Tally) {
        self.cycles.extend(other.cycles);
        self.acquire.merge(&other.acquire);
        self.errors += other.errors;
        self.error = self.error.take().or(other.error);
        self.cost = self.cost.or(other.cost);
    }
}

/// The hand-overs of two sides: from just before one's release is called until the other's acquire returns.
pub(crate) fn hand_overs(sides: &[Vec<(u64, u64)>]) -> Histogram {
    let mut holds: Vec<(u64, u64, usize)> = Vec::new();
    for (side, stamps) in sides.iter().enumerate() {
        holds.extend(stamps.iter().map(|(acquired, released)| (*acquired, *released, side)));
    }
    holds.sort_unstable();
    let mut out = Histogram::default();
    for pair in holds.windows(2) {
        let ((_, released, a), (acquired, _, b)) = (pair[0], pair[1]);
        // The same side twice is no hand-over; an acquire before the release would break exclusion, and is not hidden.
        if a != b {
            out.add(acquired.saturating_sub(released));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One after the other, each through the text in which processes tell it.
    fn added_up(parts: &[Histogram]) -> Histogram {
        let mut all = Histogram::default();
        for part in parts {
            let text = serde_json::to_string(part).expect("a text");
            all.merge(&serde_json::from_str(&text).expect("a histogram"));
        }
        all
    }

    #[test]
    fn quantiles_survive_adding_up() {
        let mut parts = [Histogram::default(), Histogram::default()];
        (1..=500).for_each(|i| parts[0].add(i * 1000));
        (501..=1000).for_each(|i| parts[1].add(i * 1000));
        let all = added_up(&parts);
        assert!((all.quantile_us(0.5) - 500.0).abs() < 5.0, "{}", all.quantile_us(0.5));
        assert!((all.quantile_us(0.99) - 990.0).abs() < 10.0, "{}", all.quantile_us(0.99));
        assert!((all.max_us() - 1000.0).abs() < 1e-9 && (all.mean_us() - 500.5).abs() < 0.01);
    }

    #[test]
    fn times_are_close() {
        for ns in (0..5000).chain((13..41).map(|s| 1u64 << s)) {
            let mut one = Histogram::default();
            one.add(ns);
            let told = added_up(&[one]).quantile_us(1.0) * 1e3;
            #[allow(clippy::cast_precision_loss)] // a time
            let ns = ns as f64;
            assert!(told <= ns + 1e-6 && ns - told <= ns / 100.0, "{ns} {told}");
        }
        let mut endless = Histogram::default();
        endless.add(u64::MAX / 2);
        assert!(endless.quantile_us(0.5) > 3.5e9, "what is too long for the bounds is still long");
        assert!(Histogram::default().quantile_us(0.5).abs() < 1e-9, "nothing was measured");
    }

    #[test]
    fn only_changes_of_sides_are_hand_overs() {
        let all = hand_overs(&[vec![(0, 10), (11, 20), (50, 60)], vec![(27, 40)]]);
        assert_eq!((all.times.len(), all.max), (2, 10));
    }
}
