//! The line that a measurement ends with, in the form of `tenure bench`.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A clock that all processes of the machine share, in ns.
pub(crate) fn now() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    u64::try_from(t.tv_sec).unwrap_or_default() * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap_or_default()
}

/// What was measured.
pub(crate) struct Measured {
    pub(crate) peer: &'static str,
    pub(crate) work: String,
    /// Cycles of each task.
    pub(crate) cycles: Vec<u64>,
    pub(crate) time: Duration,
    /// Latencies in ns: of the acquire call, or of the hand-over.
    pub(crate) latencies: Vec<u64>,
}

impl Measured {
    /// Prints it as one JSON object on a line.
    pub(crate) fn print(mut self) {
        self.latencies.sort_unstable();
        let cycles: u64 = self.cycles.iter().sum();
        println!(
            "{{\"peer\":\"{}\",\"work\":\"{}\",\"cycles\":{cycles},\"cycles_s\":{:.1},\"p50_us\":{:.3},\"p99_us\":{:.3},\
             \"max_us\":{:.3},\"jain\":{:.3},\"errors\":0}}",
            self.peer,
            self.work,
            cycles as f64 / self.time.as_secs_f64(),
            self.at(0.5),
            self.at(0.99),
            self.at(1.0),
            self.jain(),
        );
    }

    fn at(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        self.latencies.get(index).map_or(0.0, |ns| *ns as f64 / 1000.0)
    }

    /// Jain's index of fairness: 1 when all tasks got the same.
    fn jain(&self) -> f64 {
        let sum: f64 = self.cycles.iter().map(|c| *c as f64).sum();
        let squares: f64 = self.cycles.iter().map(|c| (*c as f64).powi(2)).sum();
        if squares == 0.0 { 1.0 } else { sum * sum / (self.cycles.len() as f64 * squares) }
    }
}
