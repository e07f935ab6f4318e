//! Local turns: a task that waits in a cohort, and the hold that is passed on.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tracing::Instrument;

use super::Engine;
use super::acquire::{Begun, PATIENCE, Patience, acquire, drive, unanswered};
use super::asker::Asker;
use super::claim::{Request, Turn};
use super::cohort::{Entered, Given, Seat};
use super::hold::Phase;
use crate::backend::Lease;
use crate::core::lease;
use crate::core::moment::Moment;
use crate::error::{Error, Result};
use crate::runtime::LazyTimer;

/// Acquires, together with the other tasks of this client that want the lock: see `cohort`.
pub(crate) async fn acquire_in_turn(
    engine: &Arc<Engine>,
    request: &Request,
    patience: Patience,
) -> Result<Option<Turn>> {
    if request.fair || patience == Patience::None {
        return acquire(engine, request, patience).await;
    }
    let begun = Begun::now(engine, request, patience).await?;
    let result = take(engine, request, patience).instrument(begun.span.clone()).await;
    begun.ended(result)
}

/// Acquires together with those tasks of this client that wait for the same lock.
///
/// Cancel safe at every await: a seat, a lead and a hold that was passed on all go to the next.
pub(super) async fn take(
    engine: &Arc<Engine>,
    request: &Request,
    patience: Patience,
) -> Result<Option<Turn>> {
    loop {
        let mut asker = match engine.core.cohorts.enter(request) {
            Entered::Leads(lead) => Asker::leading(engine, request, lead, None),
            Entered::Sits(seat) => {
                let mut waiter = Waiter { engine, request, seat, served: false };
                match waiter.wait(patience.until()).await {
                    None => return Ok(None),
                    Some(Accepted::Refused(error)) => return Err(error),
                    Some(Accepted::Leads(asker)) => asker,
                    Some(Accepted::Holds(turn)) if turn.check().is_ok() => return Ok(Some(turn)),
                    // Lost between the hands: those behind it have been moved already.
                    Some(Accepted::Holds(_)) => {
                        engine.usable()?;
                        continue;
                    }
                }
            }
        };
        // What it sat for before says nothing of the store.
        let began = engine.core.runtime.now();
        let result = drive(engine, request, patience, &mut asker, began).await;
        if let Err(error) = &result {
            let asked = engine.core.runtime.now().since(began);
            asker.refused(error, patience == Patience::Forever || asked >= lease::TTL_WAITING);
        }
        return result;
    }
}

/// A task in its seat. Dropped, it gives on what it was given.
struct Waiter<'a> {
    engine: &'a Arc<Engine>,
    request: &'a Request,
    seat: Arc<Seat>,
    /// It was given something: no cohort knows the seat any more, and none has to be searched for it.
    served: bool,
}

enum Accepted {
    Holds(Turn),
    Leads(Asker),
    Refused(Error),
}

impl Waiter<'_> {
    /// `None`: not by then, and the store knows that they wait.
    async fn wait(&mut self, until: Moment) -> Option<Accepted> {
        let mut timer = LazyTimer::new(&*self.engine.core.runtime, until);
        let given = poll_fn(|cx| match self.seat.poll(cx.waker()) {
            Poll::Ready(given) => Poll::Ready(Some(given)),
            Poll::Pending => timer.poll(cx).map(|()| None),
        })
        .await;
        let Some(given) = given else { return self.silence().map(Accepted::Refused) };
        self.served = true;
        Some(self.accept(given))
    }

    /// Nobody has answered the claim for so long that "busy" would be a guess.
    fn silence(&self) -> Option<Error> {
        let core = &self.engine.core;
        let claim = core.cohorts.claim(&self.request.key, &self.seat)?.upgrade()?;
        let silent =
            claim.inner().phase == Phase::Asking && core.runtime.now() >= claim.claim.birth + PATIENCE;
        silent.then(|| unanswered(&self.request.key))
    }

    fn accept(&self, given: Given) -> Accepted {
        match given {
            Given::Hold(hold, used, number) => {
                Accepted::Holds(Turn::passed_on(self.engine, hold, used, Some(number)))
            }
            Given::Lead(lead, hold) => Accepted::Leads(Asker::leading(self.engine, self.request, lead, hold)),
            Given::Refusal(error) => Accepted::Refused(error),
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.served || self.engine.forked() {
            return;
        }
        self.engine.core.cohorts.leave(&self.request.key, &self.seat);
        drop(self.seat.take().map(|given| self.accept(given)));
    }
}

impl Turn {
    /// Passes the hold on to the next task of its cohort, as it is: with the lease that the keeper renews. Says whether
    /// there was one; otherwise whoever waited behind it asks anew, and the hold is to be released.
    pub(super) fn pass(&self) -> bool {
        let Some(number) = self.cohort else { return false };
        let (core, hold, used) = (&self.engine.core, &self.hold, self.used + 1);
        let key = &hold.claim.key;
        // With the lease of a store that is away the next would not get far. That of a grant may be short by itself.
        let lease = match self.grant().map(|grant| grant.lease) {
            Some(Lease::For(lease)) => lease.min(hold.claim.ttl),
            _ => hold.claim.ttl,
        };
        let enough = core.runtime.now() + lease / 2;
        let fresh = hold.deadline().is_some_and(|deadline| deadline > enough);
        let left = used < hold.claim.cohort.tokens;
        let passed = fresh && left && hold.as_claimed() && core.cohorts.pass(key, number, hold, used);
        if passed {
            self.passed.store(true, Ordering::Relaxed);
        } else {
            core.cohorts.dissolve(key, number);
        }
        passed
    }

    /// Whoever waits behind it asks anew.
    pub(super) fn disband(&self) {
        if let Some(number) = self.cohort {
            self.engine.core.cohorts.dissolve(&self.hold.claim.key, number);
        }
    }

    /// Another task has the claim now.
    pub(super) fn let_go(self) {
        self.passed.store(true, Ordering::Relaxed);
    }
}
