//! The clocks of this machine.

use rustix::time::{ClockId, clock_gettime};

use crate::core::moment::Moment;

/// The boot clock now: never goes back, counts suspended time.
#[must_use]
pub fn boot_now() -> Moment {
    #[cfg(target_os = "linux")]
    let id = ClockId::Boottime;
    // macOS: its monotonic clock counts suspended time.
    #[cfg(not(target_os = "linux"))]
    let id = ClockId::Monotonic;
    let t = clock_gettime(id);
    Moment(
        u64::try_from(t.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000)
            + u64::try_from(t.tv_nsec).unwrap_or(0),
    )
}

/// The wall clock now, in µs since the epoch.
#[must_use]
pub fn wall_us() -> u64 {
    let t = clock_gettime(ClockId::Realtime);
    u64::try_from(t.tv_sec).unwrap_or(0).saturating_mul(1_000_000)
        + u64::try_from(t.tv_nsec / 1000).unwrap_or(0)
}
