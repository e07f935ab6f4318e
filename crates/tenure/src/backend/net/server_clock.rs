//! The server's clock, as this client knows it from the server's answers.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::core::moment::Moment;

/// An estimate of the server's clock. It is never ahead of the server, because an answer takes time to arrive: a claim
/// never looks younger to the server than it is.
#[derive(Debug, Default)]
pub struct ServerClock {
    /// The server's clock minus this machine's boot clock, in µs.
    offset: AtomicI64,
}

impl ServerClock {
    /// The server's clock showed `server_us` (µs since the epoch) before `now`.
    pub fn learn(&self, server_us: u64, now: Moment) {
        let here = now.nanos() / 1000;
        self.offset.store(server_us.cast_signed().wrapping_sub(here.cast_signed()), Ordering::Relaxed);
    }

    /// A moment of this machine on the server's clock, in µs since the epoch.
    pub fn at_us(&self, at: Moment) -> u64 {
        let us = (at.nanos() / 1000).cast_signed().saturating_add(self.offset.load(Ordering::Relaxed));
        u64::try_from(us).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_in_the_servers_time() {
        let clock = ServerClock::default();
        let now = Moment(5_000_000_000);
        clock.learn(1_700_000_000_000_000, now);
        assert_eq!(clock.at_us(now), 1_700_000_000_000_000);
        assert_eq!(clock.at_us(Moment(4_000_000_000)), 1_699_999_999_000_000);
        // A server whose clock is behind this machine's boot clock.
        clock.learn(1_000_000, now);
        assert_eq!(clock.at_us(Moment(6_000_000_000)), 2_000_000);
        assert_eq!(clock.at_us(Moment(1_000_000_000)), 0, "before the server's epoch");
        // Whatever a server claims, nothing overflows.
        for wild in [0, u64::MAX, u64::MAX / 2, u64::MAX / 2 + 1] {
            clock.learn(wild, now);
            let _ = clock.at_us(Moment(0));
            let _ = clock.at_us(Moment::NEVER);
        }
    }
}
