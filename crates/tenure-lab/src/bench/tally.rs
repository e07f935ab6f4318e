//! What a measurement counts, and a histogram that many processes can add up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Sub-buckets of one octave, as a power of two: values are kept to within 1/64.
const FINE: u32 = 6;

/// A histogram of times in ns: buckets that grow with the value, and the exact maximum and sum.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Histogram {
    buckets: BTreeMap<u32, u64>,
    count: u64,
    sum: u64,
    max: u64,
}

/// A histogram that is being filled: as [`Histogram`], but an array.
#[derive(Clone, Debug)]
pub(crate) struct Filling(Vec<u64>, u64, u64);

impl Default for Filling {
    fn default() -> Filling {
        Filling(vec![0; 64 << FINE], 0, 0)
    }
}

fn bucket(ns: u64) -> u32 {
    let octave = 64 - ns.leading_zeros();
    if octave <= FINE + 1 {
        return u32::try_from(ns).unwrap_or(0);
    }
    let shift = octave - FINE - 1;
    (shift << FINE) + u32::try_from(ns >> shift).unwrap_or(0)
}

/// The least value of a bucket.
fn floor(bucket: u32) -> u64 {
    let shift = (bucket >> FINE).saturating_sub(1);
    u64::from(bucket - (shift << FINE)) << shift
}

impl Filling {
    /// Adds one value.
    pub(crate) fn add(&mut self, ns: u64) {
        self.0[bucket(ns) as usize] += 1;
        self.1 += ns;
        self.2 = self.2.max(ns);
    }

    /// What was filled in.
    pub(crate) fn done(&self) -> Histogram {
        let buckets: BTreeMap<u32, u64> =
            (0u32..).zip(self.0.iter().copied()).filter(|(_, n)| *n > 0).collect();
        Histogram { count: buckets.values().sum(), buckets, sum: self.1, max: self.2 }
    }
}

impl Histogram {
    /// Adds another one.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        for (b, n) in &other.buckets {
            *self.buckets.entry(*b).or_default() += n;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// The value below which the share `q` lies, in µs.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rank, a time
    pub(crate) fn quantile_us(&self, q: f64) -> f64 {
        let rank = (self.count as f64 * q).ceil() as u64;
        let mut seen = 0;
        for (b, n) in &self.buckets {
            seen += n;
            if seen >= rank.max(1) {
                return floor(*b) as f64 / 1e3;
            }
        }
        0.0
    }

    /// The largest value, in µs.
    #[allow(clippy::cast_precision_loss)] // a time
    pub(crate) fn max_us(&self) -> f64 {
        self.max as f64 / 1e3
    }

    /// The mean, in µs.
    #[allow(clippy::cast_precision_loss)] // a time
    pub(crate) fn mean_us(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 / 1e3 }
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
    let mut out = Filling::default();
    for pair in holds.windows(2) {
        let ((_, released, a), (acquired, _, b)) = (pair[0], pair[1]);
        // The same side twice is no hand-over; an acquire before the release would break exclusion, and is not hidden.
        if a != b {
            out.add(acquired.saturating_sub(released));
        }
    }
    out.done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_close_and_in_order() {
        let mut last = 0;
        for ns in (0..5000).chain((13..64).map(|s| 1u64 << s)).chain([u64::MAX]) {
            let b = bucket(ns);
            assert!(floor(b) <= ns && ns - floor(b) <= ns / 64, "{ns} {b} {}", floor(b));
            assert!(b >= last, "{ns}");
            last = b;
        }
    }

    #[test]
    fn quantiles_survive_adding_up() {
        let (mut a, mut b) = (Filling::default(), Filling::default());
        (1..=500).for_each(|i| a.add(i * 1000));
        (501..=1000).for_each(|i| b.add(i * 1000));
        let mut all = a.done();
        all.merge(&b.done());
        assert!((all.quantile_us(0.5) - 500.0).abs() < 10.0);
        assert!((all.quantile_us(0.99) - 990.0).abs() < 20.0);
        assert!((all.max_us() - 1000.0).abs() < 1e-9 && (all.mean_us() - 500.5).abs() < 0.01);
    }

    #[test]
    fn only_changes_of_sides_are_hand_overs() {
        let all = hand_overs(&[vec![(0, 10), (11, 20), (50, 60)], vec![(27, 40)]]);
        assert_eq!((all.count, all.max), (2, 10));
    }
}
