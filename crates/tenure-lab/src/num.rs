//! Numbers that every scenario needs: a seeded generator, percentiles, fairness, the boot clock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// By how much the state of a generator grows with each number.
pub(crate) const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The number that SplitMix64 draws from a state.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A small seeded generator (SplitMix64): runs are repeated by their seed, nothing here is secret.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed; `stream` tells apart those who share it.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Dice {
        let mut dice = Dice(seed ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03));
        dice.next();
        dice
    }

    /// From a state, for those who share no seed with others.
    #[must_use]
    pub fn at(state: u64) -> Dice {
        Dice(state)
    }

    /// Any number.
    #[allow(clippy::should_implement_trait)] // it never ends, so it is no iterator
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `n`; 0 for none.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// Whether it is the one of `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A number from 0 to just below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        #[allow(clippy::cast_precision_loss)] // 53 bits
        let bits = (self.next() >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }

    /// An exponentially distributed pause.
    pub(crate) fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.unit()).ln())
    }
}

/// `CLOCK_BOOTTIME` in ns: the same for all processes of this machine.
pub(crate) fn boot_ns() -> u64 {
    let t = clock_gettime(ClockId::Boottime);
    t.tv_sec.unsigned_abs() * 1_000_000_000 + t.tv_nsec.unsigned_abs()
}

/// The CPU time that this process has used, in ns.
pub(crate) fn cpu_ns() -> u64 {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    t.tv_sec.unsigned_abs() * 1_000_000_000 + t.tv_nsec.unsigned_abs()
}

/// The memory that this process has resident, in kB; 0 where the system does not say.
pub(crate) fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The whole microseconds of a span in ns.
pub(crate) fn us(ns: u64) -> u64 {
    ns / 1000
}

/// The value below which the share `q` of the sorted samples lies; 0 for none.
pub(crate) fn percentile(sorted: &[u64], q: f64) -> u64 {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rank
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// Jain's index of fairness: 1 when all have the same, 1/n when one has all. 1 for nobody.
pub(crate) fn jain(shares: impl Iterator<Item = u64> + Clone) -> f64 {
    #[allow(clippy::cast_precision_loss)] // counts
    let (n, sum, squares) = shares.fold((0.0, 0.0, 0.0), |(n, sum, squares), x| {
        let x = x as f64;
        (n + 1.0, sum + x, squares + x * x)
    });
    if squares == 0.0 { 1.0 } else { sum * sum / (n * squares) }
}

/// So many per second.
#[allow(clippy::cast_precision_loss)] // counts
pub(crate) fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// Rounded for JSON and tables.
pub(crate) fn round(x: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (x * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let sorted: Vec<u64> = (1..=100).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|q| percentile(&sorted, q)), [50, 99, 100]);
        assert_eq!(percentile(&[7], 0.5), 7);
        assert_eq!(percentile(&[], 0.5), 0);
    }

    #[test]
    fn jain_knows_fair_from_unfair() {
        assert!((jain([5, 5, 5, 5].into_iter()) - 1.0).abs() < 1e-9);
        assert!((jain([20, 0, 0, 0].into_iter()) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn pauses_have_the_mean_that_was_asked_for() {
        let mut dice = Dice::new(7, 1);
        let sum: Duration = (0..20_000).map(|_| dice.exponential(Duration::from_millis(1))).sum();
        let mean = sum / 20_000;
        assert!(mean > Duration::from_micros(950) && mean < Duration::from_micros(1050), "{mean:?}");
    }
}
