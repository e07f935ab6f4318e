//! One claim's life on our side: asking, waiting, held, lost, done.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::backend::{Answer, Claim, Grant, Lease, Owner, Standing};
use crate::core::lease;
use crate::core::moment::Moment;
use crate::error::{Lost, LostReason};

/// Shared by the acquiring future, the guard, the keeper and the sink.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) claim: Claim,
    /// Until when we believe that we hold, in ns of the boot clock; 0 while we do not.
    deadline: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) phase: Phase,
    /// When the last answered request was sent, and what the store's clock said in its answer.
    pub(crate) sent: Moment,
    pub(crate) answered_at: Option<u64>,
    /// Attempts whose answers have not come: while there are any, a withdrawal leaves a mark.
    pub(crate) unanswered: u32,
    /// When the renewal that is under way was sent.
    pub(crate) renewing: Option<Moment>,
    /// A grant that was pushed before the attempt's answer came.
    early: Option<(Grant, Option<u64>)>,
    /// Renewals without an answer, in a row.
    pub(crate) failures: u32,
    /// How many wait ahead, as far as we were told.
    pub(crate) ahead: Option<u32>,
    /// Until when our place in line is sure.
    pub(crate) waiting_until: Moment,
    /// Who is shown as the holder.
    pub(crate) owner: Arc<Owner>,
    acquirer: Option<Waker>,
    listeners: Vec<(u64, Waker)>,
    next_listener: u64,
    /// To be woken once the mutex is free.
    woken: Vec<Waker>,
}

/// The inner state, locked. Wakers are called after unlocking: waking may drop the very task that locks it again.
pub(crate) struct Locked<'a> {
    guard: Option<MutexGuard<'a, Inner>>,
}

impl Deref for Locked<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        self.guard.as_ref().expect("locked until dropped")
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        self.guard.as_mut().expect("locked until dropped")
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let woken = std::mem::take(&mut self.woken);
        self.guard = None;
        for waker in woken {
            waker.wake();
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Phase {
    /// No answer yet.
    Asking,
    /// In line.
    Waiting,
    /// Granted, until the deadline.
    Held(Grant),
    /// It was in line and no longer is; `true`: nobody answered for the whole waiting lease.
    Dropped { unanswered: bool },
    /// It was held and is lost. Terminal.
    Lost(LostReason),
    /// Released or withdrawn. Terminal.
    Done,
}

/// So many places from the head, a waiter may be first within a renewal's time.
const NEAR_HEAD: u32 = 100;

/// What the keeper has to do next for a hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next {
    /// Look at it at this moment.
    At(Moment),
    /// Nothing any more.
    Never,
}

impl Hold {
    pub(crate) fn new(claim: Claim) -> Hold {
        let owner = claim.owner.clone();
        Hold {
            claim,
            deadline: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                phase: Phase::Asking,
                sent: Moment(0),
                answered_at: None,
                unanswered: 0,
                renewing: None,
                early: None,
                failures: 0,
                ahead: None,
                waiting_until: Moment(0),
                owner,
                acquirer: None,
                listeners: Vec::new(),
                next_listener: 0,
                woken: Vec::new(),
            }),
        }
    }

    pub(crate) fn inner(&self) -> Locked<'_> {
        Locked { guard: Some(self.inner.lock().unwrap_or_else(PoisonError::into_inner)) }
    }

    /// The claim as it is to be sent: with the owner that is to be shown now.
    pub(crate) fn claim_now(&self) -> Claim {
        let mut claim = self.claim.clone();
        claim.owner = self.inner().owner.clone();
        claim
    }

    /// The deadline; `None` while not held.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.deadline.load(Ordering::Acquire) {
            0 => None,
            ns => Some(Moment(ns)),
        }
    }

    /// Whether we hold at `now`: arithmetic only. Past the deadline the hold is lost for good.
    pub(crate) fn check(&self, now: Moment) -> Result<Moment, Lost> {
        if let Some(deadline) = self.deadline()
            && now < deadline
        {
            return Ok(deadline);
        }
        let mut inner = self.inner();
        match &inner.phase {
            // A renewal may have come between the two looks.
            Phase::Held(_) => match self.deadline() {
                Some(deadline) if now < deadline => Ok(deadline),
                _ => {
                    self.lose(&mut inner, LostReason::Expired);
                    Err(Lost::new(self.claim.key.clone(), LostReason::Expired))
                }
            },
            Phase::Lost(why) => Err(Lost::new(self.claim.key.clone(), why.clone())),
            _ => Err(Lost::new(self.claim.key.clone(), LostReason::Gone)),
        }
    }

    /// Ends the belief, and tells whoever listens.
    pub(crate) fn lose(&self, inner: &mut Inner, why: LostReason) {
        if matches!(inner.phase, Phase::Held(_)) {
            tracing::warn!(lock = %self.claim.key, claim = self.claim.id.short(), %why, "lock lost");
            super::telling::lost(&why);
        }
        self.deadline.store(0, Ordering::Release);
        inner.phase = Phase::Lost(why);
        inner.wake_all();
    }

    /// A request sent at `sent` was answered. Says what to do next.
    pub(crate) fn answered(&self, sent: Moment, now: Moment, answer: Answer) -> Next {
        let mut inner = self.inner();
        inner.failures = 0;
        if matches!(inner.phase, Phase::Lost(_) | Phase::Done | Phase::Dropped { .. }) {
            return Next::Never;
        }
        let newer = sent >= inner.sent;
        match answer.standing {
            Standing::Held(grant) => {
                if newer {
                    (inner.sent, inner.answered_at) = (sent, answer.at);
                }
                self.hold(&mut inner, grant, sent, now)
            }
            Standing::Waiting { lease, ahead, look_again } => {
                if matches!(inner.phase, Phase::Held(_)) {
                    if !newer {
                        // An old answer, overtaken by the grant.
                        return Next::At(lease::renew_at(inner.sent, self.claim.ttl).max(now));
                    }
                    self.lose(&mut inner, LostReason::Gone);
                    return Next::Never;
                }
                if newer {
                    (inner.sent, inner.answered_at) = (sent, answer.at);
                    inner.ahead = ahead;
                }
                inner.phase = Phase::Waiting;
                let (until, renew) = match lease {
                    Lease::For(d) => (lease::deadline(sent, d), lease::renew_at(sent, d)),
                    Lease::Unbounded => (Moment::NEVER, Moment::NEVER),
                };
                inner.waiting_until = inner.waiting_until.max(until);
                if let Some((grant, at)) = inner.early.take() {
                    return self.hold_pushed(&mut inner, grant, at, now);
                }
                // The first two look again by themselves: they repair a lost push and a dead head. Those near them may
                // be first before their next renewal, so they renew a little earlier.
                let look = match ahead {
                    None | Some(0 | 1) => sent + look_again,
                    Some(n) if n < NEAR_HEAD => sent + lease::LOOK_AGAIN_MAX,
                    Some(_) => Moment::NEVER,
                };
                Next::At(renew.min(look))
            }
            Standing::Busy | Standing::Gone { .. } if matches!(inner.phase, Phase::Held(_)) => {
                self.lose(&mut inner, gone(answer.standing));
                Next::Never
            }
            Standing::Busy | Standing::Gone { .. } => {
                inner.phase = Phase::Dropped { unanswered: false };
                inner.wake_all();
                Next::Never
            }
        }
    }

    /// The store pushed a grant.
    pub(crate) fn granted(&self, grant: Grant, at: Option<u64>, now: Moment) -> Next {
        let mut inner = self.inner();
        match inner.phase {
            Phase::Waiting => self.hold_pushed(&mut inner, grant, at, now),
            // The push overtook the answer to the attempt, which says from when the lease counts.
            Phase::Asking => {
                inner.early = Some((grant, at));
                Next::At(Moment::NEVER)
            }
            Phase::Held(_) => Next::At(lease::renew_at(inner.sent, self.claim.ttl).max(now)),
            _ => Next::Never,
        }
    }

    fn hold_pushed(&self, inner: &mut Inner, grant: Grant, at: Option<u64>, now: Moment) -> Next {
        let from = match (inner.answered_at, at) {
            (Some(answered), Some(granted)) => lease::pushed_from(inner.sent, answered, granted, now),
            _ => inner.sent,
        };
        self.hold(inner, grant, from, now)
    }

    /// Believes in `grant`, whose lease counts from `from`.
    fn hold(&self, inner: &mut Inner, grant: Grant, from: Moment, now: Moment) -> Next {
        let (deadline, renew) = match grant.lease {
            Lease::For(d) => (lease::deadline(from, d), lease::renew_at(from, d)),
            Lease::Unbounded => (Moment::NEVER, Moment::NEVER),
        };
        let first = !matches!(inner.phase, Phase::Held(_));
        if !first && self.deadline().is_some_and(|d| now >= d) {
            // The answer came after the deadline: lost is lost.
            self.lose(inner, LostReason::Expired);
            return Next::Never;
        }
        let deadline = self.deadline().unwrap_or(Moment(1)).max(deadline);
        if first {
            inner.phase = Phase::Held(grant);
            inner.wake_acquirer();
        }
        self.deadline.store(deadline.nanos(), Ordering::Release);
        Next::At(renew.min(deadline))
    }

    /// The store took it away.
    pub(crate) fn gone(&self, why: Option<String>) {
        let mut inner = self.inner();
        match inner.phase {
            Phase::Held(_) => self.lose(&mut inner, gone(Standing::Gone { why })),
            Phase::Asking | Phase::Waiting => {
                inner.phase = Phase::Dropped { unanswered: false };
                inner.wake_all();
            }
            _ => {}
        }
    }

    /// Ends it from our side. Says whether the store may know of it, and whether an attempt is still unanswered.
    pub(crate) fn end(&self) -> Option<(Phase, bool)> {
        let mut inner = self.inner();
        if inner.phase == Phase::Done {
            return None;
        }
        self.deadline.store(0, Ordering::Release);
        let before = std::mem::replace(&mut inner.phase, Phase::Done);
        inner.wake_all();
        Some((before, inner.unanswered > 0))
    }

    /// Registers a listener for the loss; the same `slot` again replaces its waker.
    pub(crate) fn listen(&self, slot: &mut Option<u64>, waker: &Waker) -> Option<LostReason> {
        let mut inner = self.inner();
        match &inner.phase {
            Phase::Held(_) => {}
            Phase::Lost(why) => return Some(why.clone()),
            _ => return Some(LostReason::Gone),
        }
        let id = *slot.get_or_insert_with(|| {
            inner.next_listener += 1;
            inner.next_listener
        });
        match inner.listeners.iter_mut().find(|(n, _)| *n == id) {
            Some((_, w)) => w.clone_from(waker),
            None => inner.listeners.push((id, waker.clone())),
        }
        None
    }

    /// Removes a listener.
    pub(crate) fn unlisten(&self, slot: Option<u64>) {
        if let Some(id) = slot {
            self.inner().listeners.retain(|(n, _)| *n != id);
        }
    }
}

impl Inner {
    /// The acquiring future wants to be woken at the next change.
    pub(crate) fn await_change(&mut self, waker: &Waker) {
        match &mut self.acquirer {
            Some(w) => w.clone_from(waker),
            None => self.acquirer = Some(waker.clone()),
        }
    }

    fn wake_acquirer(&mut self) {
        self.woken.extend(self.acquirer.take());
    }

    pub(crate) fn wake_all(&mut self) {
        self.wake_acquirer();
        self.woken.extend(self.listeners.drain(..).map(|(_, waker)| waker));
    }
}

fn gone(standing: Standing) -> LostReason {
    match standing {
        Standing::Gone { why: Some(why) } => LostReason::Evicted(why),
        _ => LostReason::Gone,
    }
}
