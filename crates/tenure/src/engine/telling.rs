//! Metrics, behind the feature `metrics`: counters and histograms through the `metrics` facade. Never labelled by the
//! name of a lock: names are unbounded, and metric labels must not be.

use std::time::Duration;

use tracing::Span;

use super::claim::Turn;
use super::hold::Phase;
use crate::error::{Error, LostReason, Result};
use crate::key::Key;

macro_rules! count {
    ($name:literal $(, $label:literal => $value:expr)*) => {
        #[cfg(feature = "metrics")]
        metrics::counter!($name $(, $label => $value)*).increment(1);
    };
}

macro_rules! gauge {
    ($name:literal, $by:expr) => {
        #[cfg(feature = "metrics")]
        metrics::gauge!($name).increment($by);
    };
}

/// Counts an acquiring future as waiting while it lives.
pub(crate) struct Waiting;

impl Waiting {
    pub(crate) fn begin() -> Waiting {
        gauge!("tenure_waiting", 1.0);
        Waiting
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        gauge!("tenure_waiting", -1.0);
    }
}

/// The span of an acquisition; what it came to is told at its end.
pub(crate) fn span(key: &Key) -> Span {
    use tracing::field::Empty;
    tracing::debug_span!(
        target: "tenure", "acquire", lock = %key, claim = Empty, token = Empty, outcome = Empty, waited = Empty)
}

pub(crate) fn acquired(span: &Span, key: &Key, result: &Result<Option<Turn>>, waited: Duration) {
    let outcome = match result {
        Ok(Some(_)) => "granted",
        Ok(None) => "busy",
        Err(_) => "error",
    };
    if !span.is_disabled() {
        if let Ok(Some(turn)) = result {
            span.record("claim", turn.hold.claim.id.short());
            span.record("token", turn.grant().and_then(|g| g.token).map(crate::Token::get));
        }
        span.record("outcome", outcome).record("waited", tracing::field::debug(waited));
    }
    span.in_scope(|| match result {
        Err(error) => tracing::warn!(target: "tenure", lock = %key, ?waited, %error, outcome, "not acquired"),
        _ => tracing::debug!(target: "tenure", lock = %key, ?waited, outcome, "acquired"),
    });
    count!("tenure_acquires_total", "outcome" => outcome);
    #[cfg(feature = "metrics")]
    metrics::histogram!("tenure_acquire_wait_seconds", "outcome" => outcome).record(waited.as_secs_f64());
    let _ = (outcome, waited);
}

/// A guard's life: from the grant that it was made of to its end.
#[derive(Debug)]
pub(crate) struct Held {
    #[cfg(feature = "metrics")]
    since: std::time::Instant,
}

impl Held {
    pub(crate) fn begin() -> Held {
        gauge!("tenure_held", 1.0);
        Held {
            #[cfg(feature = "metrics")]
            since: std::time::Instant::now(),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        gauge!("tenure_held", -1.0);
        #[cfg(feature = "metrics")]
        metrics::histogram!("tenure_hold_seconds").record(self.since.elapsed().as_secs_f64());
    }
}

pub(crate) fn lost(why: &LostReason) {
    let reason = match why {
        LostReason::Expired => "expired",
        LostReason::Gone => "gone",
        LostReason::Evicted(_) => "evicted",
        LostReason::Closed => "closed",
        LostReason::Forked => "forked",
    };
    count!("tenure_losses_total", "reason" => reason);
    let _ = reason;
}

pub(crate) fn renewed() {
    count!("tenure_renewals_total");
}

pub(crate) fn failed(error: &Error) {
    count!("tenure_renewal_failures_total", "kind" => format!("{:?}", error.kind()));
    let _ = error;
}

pub(crate) fn released() {
    count!("tenure_releases_total");
}

pub(crate) fn transferred() {
    count!("tenure_transfers_total");
}

/// A guard was dropped, and another task of this process has its hold.
pub(crate) fn passed_on() {
    count!("tenure_withdrawals_total");
}

pub(crate) fn withdrawn(phase: &Phase) {
    tracing::debug!(target: "tenure", from = ?phase, "withdrawn");
    count!("tenure_withdrawals_total");
}
