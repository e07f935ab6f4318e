//! How long to pause before a failed request is sent again.

use std::time::Duration;

/// The first pause.
pub const FIRST: Duration = Duration::from_millis(20);
/// The longest pause.
pub const LONGEST: Duration = Duration::from_secs(1);

/// The pause before try number `tries` (1 is the first repetition), with `dice` drawn evenly from all of `u64`:
/// evenly between half and all of a pause that doubles from [`FIRST`] to [`LONGEST`], so that clients which failed
/// together do not come back together.
#[must_use]
pub fn pause(tries: u32, dice: u64) -> Duration {
    let full = FIRST.saturating_mul(1 << tries.saturating_sub(1).min(6)).min(LONGEST);
    let half = full / 2;
    half + Duration::from_nanos(dice % (crate::core::moment::nanos(half) + 1))
}

/// A pause shortened so that several more tries fit into the time that is `left` before a deadline: at most a quarter of
/// it. Close to the deadline the tries come every [`LAST`]; none is later than the deadline.
#[must_use]
pub fn before(left: Duration, pause: Duration) -> Duration {
    pause.min(left / 4).max(LAST).min(left)
}

/// The shortest pause before a deadline.
pub const LAST: Duration = Duration::from_millis(10);

/// With each so many claims of one client that poll, the pauses of all of them grow by their first length.
pub const CROWD: usize = 32;

/// The pause before the store is asked again about a claim that has no place there: `look_again` as the store suggests,
/// longer the more claims of this client poll, and with `dice` spread evenly up to twice that, so that waiters do not come
/// in bursts.
#[must_use]
pub fn poll(look_again: Duration, polling: usize, dice: u64) -> Duration {
    let crowd = 1 + u32::try_from(polling / CROWD).unwrap_or(u32::MAX - 1);
    let pause = look_again.saturating_mul(crowd);
    pause.saturating_add(Duration::from_nanos(dice % crate::core::moment::nanos(pause).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_before_a_deadline_come_closer_together() {
        let ms = Duration::from_millis;
        assert_eq!(before(ms(20_000), ms(900)), ms(900));
        assert_eq!(before(ms(400), ms(900)), ms(100));
        assert_eq!(before(ms(12), ms(900)), ms(10));
        assert_eq!(before(ms(3), ms(900)), ms(3), "never past the deadline");
    }

    #[test]
    fn polls_are_spread_and_rarer_in_a_crowd() {
        let look = Duration::from_millis(25);
        for (polling, least) in [(0, 25), (31, 25), (32, 50), (320, 275)] {
            let least = Duration::from_millis(least);
            assert_eq!(poll(look, polling, 0), least);
            assert!(poll(look, polling, u64::MAX) < least * 2);
        }
        assert_eq!(poll(Duration::ZERO, 0, 7), Duration::ZERO, "no division by nothing");
        assert!(poll(Duration::MAX, usize::MAX, u64::MAX) > Duration::from_secs(1), "nothing overflows");
    }

    #[test]
    fn pauses_grow_and_stay_within_bounds() {
        for tries in 1..40 {
            for dice in [0, 7, u64::MAX] {
                let p = pause(tries, dice);
                assert!(p >= FIRST / 2 && p <= LONGEST, "{tries} {p:?}");
            }
        }
        assert!(pause(9, 0) > pause(1, u64::MAX));
    }
}
