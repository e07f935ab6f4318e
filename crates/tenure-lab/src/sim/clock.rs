//! A clock that runs at a rate of its own and can be stepped.

pub(super) const US: u64 = 1_000;
pub(super) const MS: u64 = 1_000_000;
pub(super) const S: u64 = 1_000_000_000;

/// One machine's clock, as a function of true time. Both in ns.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// What it showed (`shown`) at some true time (`at`).
    at: u64,
    shown: u64,
    /// How many ns it advances in a true millisecond.
    rate: u64,
}

const MILLI: u64 = 1_000_000;

impl Clock {
    /// Shows `shown` at `at`; `ppm` is by how many parts in a million it runs fast.
    pub(super) fn new(at: u64, shown: u64, ppm: i64) -> Clock {
        Clock { at, shown, rate: MILLI.saturating_add_signed(ppm) }
    }

    /// What it shows at the true time `t`.
    pub(super) fn read(&self, t: u64) -> u64 {
        let passed = t.saturating_sub(self.at);
        self.shown + passed / MILLI * self.rate + passed % MILLI * self.rate / MILLI
    }

    /// The earliest true time at which it shows `shown` or more.
    pub(super) fn when(&self, shown: u64) -> u64 {
        if shown == u64::MAX {
            return u64::MAX;
        }
        let left = shown.saturating_sub(self.shown);
        let mut t = self.at + left / self.rate * MILLI + left % self.rate * MILLI / self.rate;
        while self.read(t) < shown {
            t += 1;
        }
        t
    }

    /// Steps by `by` at the true time `t`.
    pub(super) fn step(&mut self, t: u64, by: i64) {
        (self.shown, self.at) = (self.read(t).saturating_add_signed(by), t);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_is_the_inverse_of_read() {
        for ppm in [-20_000, -4_999, 0, 1, 5_000, 30_000] {
            let mut clock = Clock::new(77, 1_000_000_007, ppm);
            for (t, step) in [(1_234_567_890, 5_000_000), (99_999_999_999, -3_000_000)] {
                clock.step(t, step);
                for shown in [clock.read(t) + 1, clock.read(t) + 123_456_789, clock.read(t) + 60_000_000_001]
                {
                    let when = clock.when(shown);
                    assert!(
                        clock.read(when) >= shown && (when <= t || clock.read(when - 1) < shown),
                        "{ppm}"
                    );
                }
            }
        }
    }
}
