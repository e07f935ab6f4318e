//! Lease arithmetic: until when may a client believe that it holds?

use std::time::Duration;

use super::moment::{Moment, nanos};

/// By how much two clocks may differ in rate, in parts per thousand.
pub const RHO_PERMILLE: u64 = 10;
/// What the deadline leaves for the time between looking at the clock and acting.
pub const MARGIN: Duration = Duration::from_millis(2);

/// The shortest and the longest lease.
pub const TTL_MIN: Duration = Duration::from_millis(100);
/// The longest lease.
pub const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// For how long a hold may go on after its release, at most.
pub const KEEP_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// The lease of a holder, unless asked otherwise.
pub const TTL_DEFAULT: Duration = Duration::from_secs(30);
/// The lease of a waiter: short, since it is renewed cheaply and a dead waiter should not stand in the line for long.
pub const TTL_WAITING: Duration = Duration::from_secs(10);
/// How long a store remembers that a claim was withdrawn, and how old an attempt may be at most.
pub const MARK_LIFE: Duration = Duration::from_secs(60);
/// The longest pause after which the first two in line look again.
pub const LOOK_AGAIN_MAX: Duration = Duration::from_secs(2);

/// `t_send + ttl * (1 - rho) - 2 ms`: the instant after which the holder no longer believes that it holds.
#[must_use]
pub fn deadline(t_send: Moment, ttl: Duration) -> Moment {
    let ttl = nanos(ttl);
    let safe = ttl - ttl / 1000 * RHO_PERMILLE;
    Moment(t_send.0.saturating_add(safe.saturating_sub(nanos(MARGIN))))
}

/// From when the deadline of a *pushed* grant counts: the send time of the claim's last answered request plus the
/// store's time that passed until the grant (shortened by rho, since the store's clock may run fast), and never from
/// later than the push's arrival.
#[must_use]
pub fn pushed_from(t_send: Moment, answered_at: u64, granted_at: u64, arrived: Moment) -> Moment {
    let passed = granted_at.saturating_sub(answered_at);
    let safe = passed - passed / 1000 * RHO_PERMILLE;
    Moment(t_send.0.saturating_add(safe)).min(arrived)
}

/// When to renew: a third of the lease after it was sent.
#[must_use]
pub fn renew_at(t_send: Moment, ttl: Duration) -> Moment {
    t_send + ttl / 3
}

/// How long to wait for the answer to one renewal before it is tried again.
#[must_use]
pub fn renew_patience(ttl: Duration) -> Duration {
    ttl / 6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_lies_before_the_lease_ends_at_the_store() {
        for ms in [100, 400, 30_000, 86_400_000] {
            let (sent, ttl) = (Moment(5_000), Duration::from_millis(ms));
            assert!(deadline(sent, ttl) + MARGIN <= sent + ttl);
            assert!(deadline(sent, ttl) > sent + ttl * 9 / 10);
        }
    }

    #[test]
    fn a_push_never_counts_from_later_than_its_arrival() {
        let sent = Moment(1_000_000);
        assert_eq!(pushed_from(sent, 0, 50_000_000, Moment(2_000_000)), Moment(2_000_000));
        assert_eq!(pushed_from(sent, 0, 1_000_000, Moment(90_000_000)), Moment(1_990_000));
        assert_eq!(
            pushed_from(sent, 9, 3, Moment(90_000_000)),
            sent,
            "a store clock that went back gives nothing"
        );
    }
}
