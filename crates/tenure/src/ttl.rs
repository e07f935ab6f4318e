//! Which leases a store can give.

use std::fmt;
use std::time::Duration;

use crate::core::{calendar, lease};
use crate::error::{Error, Result};

/// Which leases a store can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ttl {
    /// Each claim has a lease of its own.
    PerClaim {
        /// The shortest. A shorter one that is asked for becomes this long.
        min: Duration,
        /// The longest. A longer one is refused.
        max: Duration,
        /// Leases are multiples of this. What lies between two becomes the longer one.
        grain: Duration,
    },
    /// All claims of a client share the lease of its session.
    PerClient(Duration),
    /// A hold lasts until its process or its connection ends.
    Unbounded,
}

impl Ttl {
    /// Any lease that the library takes.
    pub const ANY: Ttl =
        Ttl::PerClaim { min: lease::TTL_MIN, max: lease::TTL_MAX, grain: Duration::from_nanos(1) };

    /// The lease that a claim gets which asks for this one. [`Duration::MAX`]: no bound.
    ///
    /// # Errors
    /// `Config` if the store has none that is so long.
    pub fn fit(self, asked: Duration) -> Result<Duration> {
        match self {
            Ttl::PerClaim { max, .. } if asked > max => Err(Error::config(
                format!("a ttl of {} is longer than this store's leases", calendar::span(asked)),
                format!("ask for at most {}", calendar::span(max)),
            )),
            Ttl::PerClaim { min, grain, .. } => {
                let grain = grain.as_nanos();
                if grain <= 1 {
                    return Ok(asked.max(min));
                }
                let nanos = asked.max(min).as_nanos().div_ceil(grain) * grain;
                Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
            }
            Ttl::PerClient(session) => Ok(session),
            Ttl::Unbounded => Ok(Duration::MAX),
        }
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ttl::PerClaim { min, max, .. } => {
                write!(f, "{} to {}", calendar::span(*min), calendar::span(*max))
            }
            Ttl::PerClient(session) => write!(f, "{} a client", calendar::span(*session)),
            Ttl::Unbounded => f.write_str("no bound"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_lease_is_rounded_up_and_never_down_and_refused_where_it_is_too_long() {
        let s = Duration::from_secs;
        let seconds = Ttl::PerClaim { min: s(2), max: s(60), grain: s(1) };
        for (asked, got) in [(100, 2000), (2000, 2000), (2001, 3000), (60_000, 60_000)] {
            let fit = seconds.fit(Duration::from_millis(asked)).expect("in range");
            assert_eq!(fit, Duration::from_millis(got), "{asked} ms");
        }
        let error = seconds.fit(s(61)).expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert_eq!(Ttl::PerClient(s(30)).fit(s(5)).expect("the session's"), s(30));
        assert_eq!(Ttl::Unbounded.fit(s(5)).expect("no bound"), Duration::MAX);
        assert_eq!(Ttl::ANY.fit(s(5)).expect("as asked"), s(5));
    }
}
