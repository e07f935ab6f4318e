//! The fields of a claim's state, and the lock around them.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

use super::hold::{Dropped, Phase};
use super::sync::MutexGuard;
use crate::backend::{Grant, Leave, Owner};
use crate::core::moment::Moment;
use crate::error::{Error, LostReason};

/// What [`Hold`](super::hold::Hold) knows of its claim.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) phase: Phase,
    /// What it was granted, also after its loss.
    pub(crate) granted: Option<Grant>,
    /// When the last answered request was sent, and what the store's clock said in its answer.
    pub(crate) sent: Moment,
    pub(crate) answered_at: Option<u64>,
    /// Attempts whose answers have not come: while there are any, a withdrawal leaves a mark.
    pub(crate) unanswered: u32,
    /// When the renewal that is under way was sent.
    pub(crate) renewing: Option<Moment>,
    /// News came while a request was under way, whose answer may be older: ask once more after it.
    pub(super) again: bool,
    /// When we learned of the grant: what was asked before may be answered as before it.
    pub(super) learned: Moment,
    /// What the release that is under way leaves. From then on answers to renewals say nothing.
    pub(crate) leaving: Option<Leave>,
    /// A grant that was pushed before the attempt's answer came, and when it arrived.
    pub(super) early: Option<(Grant, u64, Moment)>,
    /// Renewals that failed, in a row, and how the last one did.
    pub(crate) failures: u32,
    pub(crate) trouble: Option<Error>,
    /// How many wait ahead, as far as we were told.
    pub(crate) ahead: Option<u32>,
    /// Until when our place in line is sure; without a place, until when we go on asking unless somebody answers.
    pub(crate) waiting_until: Moment,
    /// Whether the store keeps a place in line for it, as the last answer said.
    pub(super) placed: bool,
    /// Who is shown as the holder, and why.
    pub(crate) owner: Arc<Owner>,
    pub(crate) reason: Arc<str>,
    pub(super) acquirer: Option<Waker>,
    pub(super) listeners: BTreeMap<u64, Waker>,
    pub(super) next_listener: u64,
    /// To be woken, or only dropped, once the mutex is free.
    pub(super) woken: Vec<Waker>,
    pub(super) replaced: Vec<Waker>,
}

/// The inner state, locked. Wakers are called and dropped after unlocking: that may drop the very task that locks it
/// again.
pub(crate) struct Locked<'a> {
    guard: Option<MutexGuard<'a, Inner>>,
}

impl<'a> Locked<'a> {
    pub(super) fn of(guard: MutexGuard<'a, Inner>) -> Locked<'a> {
        Locked { guard: Some(guard) }
    }
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
        let nobody = self.woken.is_empty() && self.replaced.is_empty();
        if !nobody {
            self.tell();
        }
    }
}

impl Locked<'_> {
    /// Unlocks, and then calls the wakers. Most changes wake nobody.
    #[cold]
    fn tell(&mut self) {
        let (woken, replaced) = (std::mem::take(&mut self.woken), std::mem::take(&mut self.replaced));
        self.guard = None;
        for waker in woken {
            unharmed(|| waker.wake());
        }
        for waker in replaced {
            unharmed(|| drop(waker));
        }
    }
}

/// Runs code of the user's executor: should it panic, the others are woken all the same, and the keeper lives on.
pub(super) fn unharmed(run: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        tracing::error!("a waker panicked");
    }
}

impl Inner {
    pub(super) fn new(owner: Arc<Owner>, reason: Arc<str>) -> Inner {
        Inner {
            phase: Phase::Asking,
            granted: None,
            sent: Moment(0),
            answered_at: None,
            unanswered: 0,
            renewing: None,
            again: false,
            learned: Moment(0),
            leaving: None,
            early: None,
            failures: 0,
            trouble: None,
            ahead: None,
            waiting_until: Moment(0),
            placed: true,
            owner,
            reason,
            acquirer: None,
            listeners: BTreeMap::new(),
            next_listener: 0,
            woken: Vec::new(),
            replaced: Vec::new(),
        }
    }

    /// Whether it waits for news, which may have been lost.
    pub(super) fn awaits_push(&self) -> bool {
        self.phase == Phase::Asking || (self.phase == Phase::Waiting && self.placed)
    }

    /// Whether the next look is an attempt: it waits without a place in the store.
    pub(super) fn polls(&self) -> bool {
        self.phase == Phase::Waiting && !self.placed
    }

    /// The acquiring future wants to be woken at the next change.
    pub(crate) fn await_change(&mut self, waker: &Waker) {
        if !self.acquirer.as_ref().is_some_and(|known| known.will_wake(waker)) {
            let replaced = self.acquirer.replace(waker.clone());
            self.replaced.extend(replaced);
        }
    }

    /// Whether the store may have something of it that nobody has withdrawn.
    pub(crate) fn may_be_there(&self) -> bool {
        let unanswered = self.unanswered > 0;
        match self.phase {
            // `close` has released it.
            Phase::Lost(LostReason::Closed) | Phase::Done => false,
            // Nothing was ever sent, or the store said itself that it has nothing of this id.
            Phase::Asking | Phase::Dropped(Dropped::Told | Dropped::Closed) => unanswered,
            Phase::Lost(LostReason::Gone | LostReason::Evicted(_)) => unanswered,
            Phase::Waiting => self.placed || unanswered,
            _ => true,
        }
    }

    /// Whether it is over, and its task has yet to withdraw it.
    pub(super) fn awaits_withdrawal(&self) -> bool {
        matches!(self.phase, Phase::Dropped(_)) && self.may_be_there()
    }

    /// Whether answers and pushes change nothing any more.
    pub(super) fn ended(&self) -> bool {
        self.leaving.is_some() || matches!(self.phase, Phase::Lost(_) | Phase::Done | Phase::Dropped(_))
    }

    pub(super) fn wake_acquirer(&mut self) {
        self.woken.extend(self.acquirer.take());
    }

    pub(crate) fn wake_all(&mut self) {
        self.wake_acquirer();
        self.woken.extend(std::mem::take(&mut self.listeners).into_values());
    }
}
