//! One claim's life on our side: asking, waiting, held, lost, done.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::Duration;

use super::inner::{Inner, Locked};
use super::sync::{AtomicU32, AtomicU64, Mutex, Ordering};
use crate::backend::{Answer, Claim, Grant, Lease, Leave, Standing};
use crate::core::lease;
use crate::core::moment::Moment;
use crate::error::{Error, ErrorKind, Lost, LostReason};

/// Shared by the acquiring future, the guard, the keeper and the sink.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) claim: Claim,
    /// Until when we believe that we hold, in ns of the boot clock; 0 while we do not.
    deadline: AtomicU64,
    /// How many of its tokens were used by tasks that passed it on.
    used: AtomicU32,
    inner: Mutex<Inner>,
}

/// Why a claim that asked or stood in line no longer does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Dropped {
    /// The store said so.
    Told,
    /// The client was closed, which withdraws it.
    Closed,
    /// The store said so, and in an answer that came later that it has the claim.
    Crossed,
    /// Nobody answered for the whole waiting lease.
    Unanswered,
    /// We did not ask for the whole waiting lease: this process was stopped.
    Lapsed,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Phase {
    /// No answer yet.
    Asking,
    /// In line.
    Waiting,
    /// Granted, until the deadline.
    Held(Grant),
    /// It was in line and no longer is.
    Dropped(Dropped),
    /// It was held and is lost. Terminal.
    Lost(LostReason),
    /// Released or withdrawn. Terminal.
    Done,
}

/// Where a claim stands after the answer to an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stands {
    Held,
    /// In the store's line.
    Waiting,
    /// It waits without a place in the store.
    Polling,
    Nowhere,
}

/// So many places from the head, a waiter may be first within a renewal's time.
const NEAR_HEAD: u32 = 100;
/// A claim is not asked about more often than this, whatever a store says.
const SOONEST: Duration = Duration::from_millis(10);
/// When a grant is confirmed that is good for less than was asked for.
const CONFIRM: Duration = Duration::from_millis(250);

/// What the keeper has to do next for a hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next {
    /// Look at it at this moment.
    At(Moment),
    /// It has no place in the store: ask again after about this long.
    Poll(Duration),
    /// Nothing any more.
    Never,
}

impl Hold {
    pub(crate) fn new(claim: Claim) -> Hold {
        let (owner, reason) = (claim.owner.clone(), claim.reason.clone());
        Hold {
            claim,
            deadline: AtomicU64::new(0),
            used: AtomicU32::new(0),
            inner: Mutex::new(Inner::new(owner, reason)),
        }
    }

    pub(crate) fn inner(&self) -> Locked<'_> {
        Locked::of(self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The claim as it is to be sent: with the owner and the reason that are to be shown now.
    pub(crate) fn claim_now(&self) -> Claim {
        let mut claim = self.claim.clone();
        let inner = self.inner();
        (claim.owner, claim.reason) = (inner.owner.clone(), inner.reason.clone());
        drop(inner);
        claim
    }

    /// The claim as it is to be released or continued: with the number of tokens that were used.
    pub(crate) fn parting(&self) -> Cow<'_, Claim> {
        if self.claim.cohort.tokens == 1 {
            return Cow::Borrowed(&self.claim);
        }
        let mut claim = self.claim.clone();
        claim.cohort.used = self.used() + 1;
        Cow::Owned(claim)
    }

    /// How many of its tokens were used by tasks that passed it on.
    pub(crate) fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// It is passed on to the task that uses the token after these.
    pub(super) fn use_tokens(&self, used: u32) {
        self.used.store(used, Ordering::Relaxed);
    }

    /// Whether it is held, and shown as it was asked for.
    pub(super) fn as_claimed(&self) -> bool {
        let inner = self.inner();
        matches!(inner.phase, Phase::Held(_))
            && inner.leaving.is_none()
            && Arc::ptr_eq(&inner.owner, &self.claim.owner)
            && Arc::ptr_eq(&inner.reason, &self.claim.reason)
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
            super::telling::lost(&self.claim.key, &self.claim.id.short(), &why);
        }
        self.deadline.store(0, Ordering::Release);
        inner.phase = Phase::Lost(why);
        inner.wake_all();
    }

    /// Counts an attempt that is about to be sent. False: the claim was closed or evicted meanwhile, and nothing may be sent.
    pub(crate) fn sends(&self) -> bool {
        let mut inner = self.inner();
        let asks = inner.phase == Phase::Asking;
        inner.unanswered += u32::from(asks);
        asks
    }

    /// A request sent at `sent` was answered. Says what to do next.
    pub(crate) fn answered(&self, sent: Moment, now: Moment, answer: Answer) -> Next {
        self.take(&mut self.inner(), sent, now, answer)
    }

    /// The same for an attempt; also says where the claim stands now. The attempt is counted and judged in one step. A
    /// withdrawal between two steps would see neither an unanswered attempt nor its grant, and leave the lock held.
    pub(crate) fn attempted(&self, sent: Moment, now: Moment, answer: Answer) -> (Next, Stands) {
        let mut inner = self.inner();
        inner.unanswered -= 1;
        let next = self.take(&mut inner, sent, now, answer);
        let stands = match inner.phase {
            Phase::Held(_) => Stands::Held,
            Phase::Waiting if inner.polls() => Stands::Polling,
            Phase::Waiting => Stands::Waiting,
            _ => Stands::Nowhere,
        };
        (next, stands)
    }

    /// An attempt failed. It counts as unanswered for as long as the store may have taken it.
    pub(crate) fn attempt_failed(&self, error: &Error) {
        // It judged the request itself, or never got it. Behind nonsense there may be a grant.
        let took_nothing = error.is_unsent()
            || matches!(error.kind(), ErrorKind::Config | ErrorKind::Denied | ErrorKind::Unsupported);
        if took_nothing {
            self.inner().unanswered -= 1;
        }
    }

    /// What an answer changes, whatever was asked.
    fn take(&self, inner: &mut Inner, sent: Moment, now: Moment, answer: Answer) -> Next {
        (inner.failures, inner.trouble) = (0, None);
        if inner.ended() {
            // What the store has after all is withdrawn, not forgotten.
            let there =
                matches!(answer.standing, Standing::Held(_) | Standing::Waiting { place: Some(_), .. });
            if there && inner.phase == Phase::Dropped(Dropped::Told) {
                inner.phase = Phase::Dropped(Dropped::Crossed);
            }
            return Next::Never;
        }
        let again = std::mem::take(&mut inner.again);
        match self.judge(inner, sent, now, answer) {
            Next::At(_) | Next::Poll(_) if again => Next::At(now),
            next => next,
        }
    }

    fn judge(&self, inner: &mut Inner, sent: Moment, now: Moment, answer: Answer) -> Next {
        let newer = sent >= inner.sent;
        match answer.standing {
            Standing::Held(grant) => {
                let grant = self.bounded(grant);
                if newer {
                    (inner.sent, inner.answered_at) = (sent, answer.at);
                }
                self.hold(inner, grant, sent, now)
            }
            Standing::Waiting { place, ahead, look_again } => {
                if matches!(inner.phase, Phase::Held(_)) {
                    if sent <= inner.learned {
                        // From before the grant, which overtook it. Whoever is asked now must know of the grant.
                        return Next::At(now);
                    }
                    self.lose(inner, LostReason::Gone);
                    return Next::Never;
                }
                if newer {
                    (inner.sent, inner.answered_at) = (sent, answer.at);
                    inner.ahead = ahead;
                }
                inner.phase = Phase::Waiting;
                inner.placed = place.is_some();
                let asked = Lease::For(self.claim.waiting);
                let (until, renew) = match place.unwrap_or(asked).at_most(self.claim.waiting) {
                    Lease::For(d) => (lease::deadline(sent, d), lease::renew_at(sent, d)),
                    Lease::Unbounded => (Moment::NEVER, Moment::NEVER),
                };
                inner.waiting_until = inner.waiting_until.max(until);
                if let Some((grant, at, arrived)) = inner.early.take() {
                    return self.hold_pushed(inner, grant, at, arrived, now);
                }
                if place.is_none() {
                    return Next::Poll(look_again);
                }
                // The first two look again by themselves: they repair a lost push and a dead head. Those near them may
                // be first before their next renewal, so they renew a little earlier.
                let look = match ahead {
                    None | Some(0 | 1) => sent + look_again.min(lease::LOOK_AGAIN_MAX),
                    Some(n) if n < NEAR_HEAD => sent + lease::LOOK_AGAIN_MAX,
                    Some(_) => Moment::NEVER,
                };
                Next::At(renew.min(look).max(sent + SOONEST))
            }
            standing if matches!(inner.phase, Phase::Held(_)) => {
                self.lose(inner, gone(standing));
                Next::Never
            }
            Standing::Busy | Standing::Gone { .. } | Standing::Removed => {
                inner.phase = Phase::Dropped(Dropped::Told);
                inner.wake_all();
                Next::Never
            }
        }
    }

    /// A grant as it is believed: never for longer than the ttl that the claim asked for. A store's clock may step back,
    /// or the store fail over to one whose clock is behind; the end of the lease lies far in its future then.
    fn bounded(&self, grant: Grant) -> Grant {
        Grant { lease: grant.lease.at_most(self.claim.ttl), ..grant }
    }

    /// The store pushed a grant.
    pub(crate) fn granted(&self, grant: Grant, at: u64, now: Moment) -> Next {
        let grant = self.bounded(grant);
        let mut inner = self.inner();
        match inner.phase {
            _ if inner.ended() => Next::Never,
            Phase::Waiting => self.hold_pushed(&mut inner, grant, at, now, now),
            // The push overtook the answer to the attempt, which says from when the lease counts.
            Phase::Asking => {
                inner.early = Some((grant, at, now));
                Next::At(Moment::NEVER)
            }
            Phase::Held(_) => Next::At(lease::renew_at(inner.sent, self.claim.ttl).max(now)),
            _ => Next::Never,
        }
    }

    fn hold_pushed(
        &self,
        inner: &mut Inner,
        grant: Grant,
        granted: u64,
        arrived: Moment,
        now: Moment,
    ) -> Next {
        // Older than the answer that said "waiting": a grant that was over by then. The answer to a first try was lost,
        // and a second one stood in line again.
        let answered = inner.answered_at.filter(|answered| granted >= *answered);
        let from = answered.map(|answered| lease::pushed_from(inner.sent, answered, granted, arrived));
        let from = from.filter(|from| match grant.lease {
            Lease::For(d) => now < lease::deadline(*from, d),
            Lease::Unbounded => true,
        });
        let next = from.map(|from| self.hold(inner, grant, from, now));
        // A grant for less time than the ttl must be confirmed, which the next renewal does. It is sent a little later: an
        // immediate one would cost a request for every short hold.
        let whole = grant.lease == Lease::For(self.claim.ttl) || grant.lease == Lease::Unbounded;
        match next {
            Some(Next::At(at)) if !whole => Next::At(at.min(now + CONFIRM)),
            Some(next) => next,
            // Not to be believed: ask at once.
            None => {
                inner.again = inner.renewing.is_some();
                Next::At(now)
            }
        }
    }

    /// Something changed for this claim: ask at once, or after the answer that is on its way and may be older.
    pub(crate) fn look(&self, now: Moment) -> Next {
        let mut inner = self.inner();
        match inner.phase {
            _ if inner.ended() => Next::Never,
            Phase::Asking => {
                inner.again = true;
                Next::At(Moment::NEVER)
            }
            _ => {
                inner.again = inner.renewing.is_some();
                Next::At(now)
            }
        }
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
            (inner.phase, inner.granted, inner.learned) = (Phase::Held(grant), Some(grant), now);
            inner.wake_acquirer();
        }
        self.deadline.store(deadline.nanos(), Ordering::Release);
        Next::At(renew.max(from + SOONEST).min(deadline))
    }

    /// The store took it away, or was removed.
    pub(crate) fn gone(&self, why: LostReason) {
        let mut inner = self.inner();
        match inner.phase {
            Phase::Held(_) => self.lose(&mut inner, why),
            Phase::Asking | Phase::Waiting => {
                inner.phase = Phase::Dropped(Dropped::Told);
                inner.wake_all();
            }
            _ => {}
        }
    }

    /// Begins the release: what comes in from now on is no loss. Says whether an attempt is still unanswered.
    pub(crate) fn leave(&self, leave: Leave) -> bool {
        let mut inner = self.inner();
        inner.leaving = Some(leave);
        inner.unanswered > 0
    }

    /// Whether it was released or withdrawn.
    pub(crate) fn has_ended(&self) -> bool {
        self.inner().phase == Phase::Done
    }

    /// Ends it from our side, and says what there was to end. `None`: it had ended before.
    pub(crate) fn end(&self) -> Option<Ended> {
        let mut inner = self.inner();
        if inner.phase == Phase::Done {
            return None;
        }
        self.deadline.store(0, Ordering::Release);
        let there = inner.may_be_there();
        let before = std::mem::replace(&mut inner.phase, Phase::Done);
        inner.wake_all();
        Some(Ended { before, there, unanswered: inner.unanswered > 0, leaving: inner.leaving })
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
        if !inner.listeners.get(&id).is_some_and(|known| known.will_wake(waker)) {
            let replaced = inner.listeners.insert(id, waker.clone());
            inner.replaced.extend(replaced);
        }
        None
    }

    /// Removes a listener.
    pub(crate) fn unlisten(&self, slot: Option<u64>) {
        if let Some(id) = slot {
            let mut inner = self.inner();
            let removed = inner.listeners.remove(&id);
            inner.replaced.extend(removed);
        }
    }
}

/// What a hold was when it ended.
pub(crate) struct Ended {
    pub(crate) before: Phase,
    /// Whether the store may have something of it.
    pub(crate) there: bool,
    /// Whether an attempt is still unanswered.
    pub(crate) unanswered: bool,
    /// What a release that had begun was to leave.
    pub(crate) leaving: Option<Leave>,
}

/// Why a hold is lost of which the store says this.
pub(crate) fn gone(standing: Standing) -> LostReason {
    match standing {
        Standing::Gone { why: Some(why) } => LostReason::Evicted(why),
        Standing::Removed => LostReason::StoreRemoved,
        _ => LostReason::Gone,
    }
}
