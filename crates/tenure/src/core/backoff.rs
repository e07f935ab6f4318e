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

#[cfg(test)]
mod tests {
    use super::*;

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
