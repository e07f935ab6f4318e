//! Metrics, behind the feature `metrics`: counters and histograms through the `metrics` facade. Never labelled by the
//! name of a lock: names are unbounded, and metric labels must not be.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::Span;

use super::Core;
use super::claim::Turn;
use super::hold::{Hold, Phase};
use crate::backend::Answer;
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

macro_rules! set {
    ($name:literal, $to:expr $(, $label:literal => $value:expr)*) => {
        #[cfg(feature = "metrics")]
        metrics::gauge!($name $(, $label => $value)*).set($to);
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

pub(crate) fn acquired(span: &Span, key: &Key, result: &Result<Option<Turn>>, waited: impl Fn() -> Duration) {
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
        span.record("outcome", outcome).record("waited", tracing::field::debug(waited()));
    }
    span.in_scope(|| match result {
        // Whoever closes a client knows that its waiters get nothing.
        Err(error) if error.is_closed() => {
            tracing::debug!(target: "tenure", lock = %key, "the client was closed")
        }
        Err(error) => {
            tracing::warn!(target: "tenure", lock = %key, waited = ?waited(), %error, outcome, "not acquired")
        }
        Ok(None) => tracing::debug!(target: "tenure", lock = %key, waited = ?waited(), outcome, "busy"),
        Ok(Some(_)) => {
            tracing::debug!(target: "tenure", lock = %key, waited = ?waited(), outcome, "acquired")
        }
    });
    count!("tenure_acquires_total", "outcome" => outcome);
    #[cfg(feature = "metrics")]
    metrics::histogram!("tenure_acquire_wait_seconds", "outcome" => outcome).record(waited().as_secs_f64());
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

pub(crate) fn lost(lock: &Key, claim: &str, why: &LostReason) {
    if *why == LostReason::Closed {
        // Whoever closes a client ends its holds on purpose.
        tracing::debug!(target: "tenure", %lock, claim, "released, since the client was closed");
    } else {
        tracing::warn!(target: "tenure", %lock, claim, %why, "lock lost");
    }
    let reason = match why {
        LostReason::Expired => "expired",
        LostReason::Gone => "gone",
        LostReason::Evicted(_) => "evicted",
        LostReason::Closed => "closed",
        LostReason::Forked => "forked",
        LostReason::StoreRemoved => "store_removed",
    };
    count!("tenure_losses_total", "reason" => reason);
    let _ = reason;
}

/// A renewal was answered after `took`. `left`: until the deadline, if the claim holds.
pub(crate) fn renewed(core: &Core, took: Duration, left: Option<Duration>) {
    count!("tenure_renewals_total");
    #[cfg(feature = "metrics")]
    {
        metrics::histogram!("tenure_renewal_seconds", "backend" => core.name()).record(took.as_secs_f64());
        if let Some(left) = left {
            metrics::histogram!("tenure_renewal_left_seconds", "backend" => core.name())
                .record(left.as_secs_f64());
        }
    }
    let _ = (core, took, left);
}

/// A renewal failed, for the `failures`-th time in a row. The first one of a hold is news; the others follow from it, and that
/// the store is down is told once for all of them.
pub(crate) fn failed(hold: &Hold, held: bool, failures: u32, error: &Error) {
    count!("tenure_renewal_failures_total", "kind" => format!("{:?}", error.kind()));
    let (lock, claim) = (&hold.claim.key, hold.claim.id.short());
    if held && failures == 1 {
        tracing::warn!(target: "tenure", %lock, claim, %error, "renewal failed");
    } else {
        tracing::debug!(target: "tenure", %lock, claim, failures, %error, "renewal failed");
    }
}

/// Whether the store answers. Told once when it stops, and once when it answers again.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// When it stopped answering, in ns of the runtime's clock, and one more; 0: it answers.
    down: AtomicU64,
}

impl Reach {
    /// A request was answered, whatever the answer was.
    pub(crate) fn answered(&self, core: &Core) {
        // The usual case costs one look.
        if self.down.load(Ordering::Relaxed) == 0 {
            return;
        }
        let since = self.down.swap(0, Ordering::Relaxed);
        if since != 0 {
            let now = core.runtime.now().nanos() + 1;
            let down = Duration::from_nanos(now.saturating_sub(since));
            tracing::info!(target: "tenure", store = core.name(), ?down, "store back");
            set!("tenure_store_up", 1.0, "backend" => core.name());
        }
    }

    /// An attempt was answered, or it was not: that says something of the store only if it was waited for long enough.
    pub(crate) fn heard(&self, core: &Core, answer: Option<&Result<Answer>>, long: bool) {
        match answer {
            Some(Ok(_)) => self.answered(core),
            Some(Err(error)) => self.told(core, error),
            None if long => self.silent(core, &Error::unavailable("the store does not answer", "")),
            None => {}
        }
    }

    /// A request failed: the store itself may have said so.
    pub(crate) fn told(&self, core: &Core, error: &Error) {
        if error.was_answered() || !error.kind().may_pass() {
            self.answered(core);
        } else {
            self.silent(core, error);
        }
    }

    /// A request was not answered in time.
    pub(crate) fn silent(&self, core: &Core, error: &Error) {
        let now = core.runtime.now().nanos() + 1;
        if self.down.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(target: "tenure", store = core.name(), %error, "store down");
            count!("tenure_store_outages_total", "backend" => core.name());
            set!("tenure_store_up", 0.0, "backend" => core.name());
        }
    }
}

/// Tells the recorder what the metrics mean. Harmless to repeat.
pub(crate) fn describe() {
    #[cfg(feature = "metrics")]
    {
        use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
        describe_counter!(
            "tenure_acquires_total",
            Unit::Count,
            "Finished acquire calls: granted, busy or error"
        );
        describe_histogram!("tenure_acquire_wait_seconds", Unit::Seconds, "How long acquire calls took");
        describe_gauge!("tenure_waiting", Unit::Count, "Acquire calls under way");
        describe_gauge!("tenure_held", Unit::Count, "Guards alive");
        describe_histogram!("tenure_hold_seconds", Unit::Seconds, "Life of a guard");
        describe_counter!("tenure_renewals_total", Unit::Count, "Answered renewals");
        describe_histogram!("tenure_renewal_seconds", Unit::Seconds, "Round trip of renewals");
        let left = "Time left to the deadline of a held lock when the answer to its renewal came";
        describe_histogram!("tenure_renewal_left_seconds", Unit::Seconds, left);
        describe_counter!("tenure_reconnects_total", Unit::Count, "Connections that were made again");
        describe_counter!("tenure_renewal_failures_total", Unit::Count, "Failed renewals, by kind of error");
        describe_counter!("tenure_losses_total", Unit::Count, "Lost holds, by reason");
        describe_counter!("tenure_releases_total", Unit::Count, "Releases that were awaited");
        describe_counter!("tenure_transfers_total", Unit::Count, "Holds that continued under another claim");
        describe_counter!("tenure_withdrawals_total", Unit::Count, "Claims withdrawn in the background");
        describe_gauge!("tenure_store_up", "1 while the store answers, 0 while it does not");
        describe_counter!("tenure_store_outages_total", Unit::Count, "How often the store stopped answering");
    }
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
