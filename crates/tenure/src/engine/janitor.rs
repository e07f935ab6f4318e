//! Withdraws what was dropped.
//!
//! A release is first polled once by whoever drops the guard: a local store is done then, and a remote one has its
//! request on the way. What is not done goes on as a task of the runtime, until it is answered or the lease is over.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::hold::{Dropped, Ended, Hold, Phase};
use super::{Core, Leaving, telling};
use crate::backend::{Call, Claim, Errand, Leave, Released};
use crate::core::moment::Moment;
use crate::core::{backoff, lease};
use crate::error::LostReason;
use crate::runtime::race;

/// How long `close` waits for withdrawals.
pub(super) const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// The shortest and the longest time that one release may take before it is sent again.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Counts withdrawals that are under way.
#[derive(Debug, Default)]
pub(crate) struct Janitor {
    pending: AtomicUsize,
    mutex: Mutex<()>,
    idle: Condvar,
    idle_async: Notify,
}

impl Janitor {
    pub(super) fn pending(&self) -> usize {
        self.pending.load(Ordering::SeqCst)
    }

    fn done(&self) {
        if self.pending.fetch_sub(1, Ordering::SeqCst) == 1 {
            drop(self.mutex.lock().unwrap_or_else(PoisonError::into_inner));
            self.idle.notify_all();
            self.look_again();
        }
    }

    /// Blocks until nothing is pending, at most for `most`.
    pub(super) fn idle_blocking(&self, most: Duration) {
        let end = Instant::now() + most;
        let mut guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        while self.pending() > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            guard = self.idle.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets [`idle`] look again.
    pub(super) fn look_again(&self) {
        self.idle_async.notify_waiters();
    }
}

/// Waits until nothing is pending and no release is under way, at most until `until`. Returns how many of them are left.
pub(super) async fn idle(core: &Core, until: Moment) -> usize {
    let wait = async {
        loop {
            let notified = core.janitor.idle_async.notified();
            if left(core) == 0 {
                return 0;
            }
            notified.await;
        }
    };
    race(&*core.runtime, until, wait).await.unwrap_or_else(|| left(core))
}

/// How many withdrawals and releases are under way.
fn left(core: &Core) -> usize {
    let releases = core.registry().leaving();
    core.janitor.pending().max(releases)
}

/// Withdraws a hold whose owner is gone: takes it out of the keeper's hands and tells the store, in the background.
pub(super) fn withdraw(core: &Arc<Core>, hold: &Arc<Hold>) {
    if hold.has_ended() {
        return;
    }
    // Before it ends: `close` must find it either in the registry or among those that leave.
    let ours = Leaving::begin(core, hold.claim.id);
    let Some(Ended { before, there, unanswered, leaving }) = hold.end() else { return };
    if !there {
        return;
    }
    // A release that had begun goes on with what it was to leave.
    let leave = leaving.unwrap_or(Leave::Nothing);
    telling::withdrawn(&before);
    start(core, hold.parting().into_owned(), leave, unanswered);
    drop(ours); // the withdrawal has begun, and has its own
}

/// `close` takes a hold away from its guard, and withdraws what waits or is about to be withdrawn by its task.
pub(super) fn close(core: &Arc<Core>, hold: &Arc<Hold>) {
    let (there, unanswered) = {
        let mut inner = hold.inner();
        let there = inner.may_be_there();
        match inner.phase {
            Phase::Held(_) => hold.lose(&mut inner, LostReason::Closed),
            Phase::Asking | Phase::Waiting | Phase::Dropped(_) => {
                inner.phase = Phase::Dropped(Dropped::Closed);
                inner.wake_all();
            }
            _ => return,
        }
        (there, inner.unanswered > 0)
    };
    let ours = Leaving::begin(core, hold.claim.id);
    if there {
        start(core, hold.parting().into_owned(), Leave::Nothing, unanswered);
    }
    drop(ours);
}

/// What a release is to leave, if an attempt of the claim may still be `unanswered` and on its way.
pub(super) fn marked(leave: Leave, unanswered: bool) -> Leave {
    if unanswered && leave == Leave::Nothing { Leave::Final } else { leave }
}

/// Releases in the background. `unanswered`: no late attempt of the claim may be granted.
pub(super) fn start(core: &Arc<Core>, claim: Claim, leave: Leave, unanswered: bool) {
    core.janitor.pending.fetch_add(1, Ordering::SeqCst);
    let mut task: Pin<Box<dyn Future<Output = ()> + Send>> =
        Box::pin(persist(core.clone(), claim, leave, unanswered));
    if task.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending {
        core.runtime.spawn(task);
    }
}

/// Counts down even if the runtime drops the task.
struct Pending(Arc<Core>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.janitor.done();
    }
}

async fn persist(core: Arc<Core>, claim: Claim, leave: Leave, unanswered: bool) {
    let pending = Pending(core);
    let core = &pending.0;
    let _leaving = Leaving::begin(core, claim.id);
    // After this the store has forgotten the claim by itself: a late attempt is older than a mark lives.
    let now = core.runtime.now();
    let end = now + claim.ttl.max(claim.waiting).max(lease::MARK_LIFE);
    let _ = release(core, &claim, marked(leave, unanswered), Errand::Background, now, end).await;
    if unanswered && matches!(leave, Leave::For(_)) {
        // The hold that stays is followed by a mark.
        let _ = release(core, &claim, Leave::Final, Errand::Background, core.runtime.now(), end).await;
    }
}

/// What is known of a release.
pub(super) enum Outcome {
    /// The store said so. `repeated`: an earlier try has left, so it may have been applied already.
    Answered { released: Released, repeated: bool },
    /// Nobody answered in time.
    Unknown,
    /// The store refuses.
    Refused(crate::Error),
}

/// Releases from `now` on until somebody answers, or until `end`.
pub(super) async fn release(
    core: &Arc<Core>,
    claim: &Claim,
    leave: Leave,
    errand: Errand,
    mut now: Moment,
    end: Moment,
) -> Outcome {
    let (mut tries, mut repeated) = (0, false);
    loop {
        // Others wait for a lock that is not given back, so a short lease is worth a quick second try. It doubles, or a
        // store that is slower than that would never be heard.
        let first = (claim.ttl / 6).max(PATIENCE.0);
        let until = (now + first.saturating_mul(1 << tries.min(6)).min(PATIENCE.1)).min(end);
        match race(&*core.runtime, until, core.backend.release(claim, leave, Call { errand, until })).await {
            Some(Ok(released)) => return Outcome::Answered { released, repeated },
            Some(Err(error)) if !error.kind().may_pass() => {
                tracing::warn!(lock = %claim.key, %error, "release refused");
                return Outcome::Refused(error);
            }
            Some(Err(error)) => {
                tracing::debug!(lock = %claim.key, %error, "release failed");
                repeated |= !error.is_unsent();
            }
            None => repeated = true,
        }
        tries += 1;
        let mut dice = [0u8; 8];
        core.runtime.fill(&mut dice);
        let again = core.runtime.now() + backoff::pause(tries, u64::from_le_bytes(dice));
        if again >= end {
            return Outcome::Unknown;
        }
        core.runtime.sleep_until(again).await;
        now = core.runtime.now();
    }
}
