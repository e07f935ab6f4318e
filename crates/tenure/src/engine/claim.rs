//! A claim that is ours to end: what a face asks for, and the [`Turn`] that withdraws itself when dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::hold::Hold;
use super::{Engine, Leaving, cohort, janitor, telling};
use crate::backend::{Anchor, Claim, Cohort, Errand, Grant, Kind, Leave, Owner, Previous, Released};
use crate::capability::Needs;
use crate::core::lease;
use crate::core::moment::Moment;
use crate::error::{Error, Lost, LostReason, Result};
use crate::key::Key;

/// What a face asks for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) key: Key,
    pub(crate) kind: Kind,
    pub(crate) weight: u32,
    pub(crate) capacity: u32,
    pub(crate) ttl: Duration,
    pub(crate) owner: Arc<Owner>,
    pub(crate) reason: Arc<str>,
    /// Whether every task is to be a claim of its own, always.
    pub(crate) fair: bool,
}

impl Request {
    /// Whether one claim can stand for both.
    pub(super) fn same_claim(&self, other: &Request) -> bool {
        let terms = |r: &Request| (r.kind, r.weight, r.capacity, r.ttl);
        terms(self) == terms(other)
            && self.key == other.key
            && self.owner == other.owner
            && self.reason == other.reason
    }

    /// What a claim asked for.
    pub(crate) fn of(claim: Claim) -> Request {
        let Claim { key, kind, weight, capacity, ttl, owner, reason, .. } = claim;
        Request { key, kind, weight, capacity, ttl, owner, reason, fair: true }
    }
}

/// The most claims that one client may have, held and waiting: an end to what a runaway loop can take.
const CLAIMS_MAX: usize = 1_000_000;

/// A claim that is ours to end: dropping it withdraws it, at any point of its life.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) engine: Arc<Engine>,
    pub(crate) hold: Arc<Hold>,
    /// How many of the hold's tokens others have used, who passed it on.
    pub(crate) used: u32,
    /// Who waits for it to be passed on.
    pub(super) cohort: Option<cohort::Number>,
    /// It was passed on.
    pub(super) passed: AtomicBool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // A forked child has no part in its parent's claims.
        if self.passed.load(Ordering::Relaxed) || self.engine.forked() {
            return;
        }
        if self.pass() {
            return telling::passed_on();
        }
        janitor::withdraw(&self.engine.core, &self.hold);
    }
}

impl Turn {
    /// Made before the first request leaves, so that there is never a claim without an owner.
    pub(super) fn new(
        engine: &Arc<Engine>,
        request: &Request,
        stand: bool,
        tokens: u32,
        birth: Moment,
    ) -> Result<Turn> {
        Turn::made(engine, request, stand, tokens, Anchor::Process, birth)
    }

    /// The turn of a task that goes on with a claim of another.
    pub(super) fn passed_on(
        engine: &Arc<Engine>,
        hold: Arc<Hold>,
        used: u32,
        cohort: Option<cohort::Number>,
    ) -> Turn {
        Turn { engine: engine.clone(), hold, used, cohort, passed: AtomicBool::new(false) }
    }

    /// The same, anchored to something else than this process.
    pub(super) fn anchored(
        engine: &Arc<Engine>,
        request: &Request,
        stand: bool,
        anchor: Anchor,
    ) -> Result<Turn> {
        Turn::made(engine, request, stand, 1, anchor, engine.core.runtime.now())
    }

    fn made(
        engine: &Arc<Engine>,
        request: &Request,
        stand: bool,
        tokens: u32,
        anchor: Anchor,
        birth: Moment,
    ) -> Result<Turn> {
        let claim = Claim {
            id: engine.fresh_id(),
            key: request.key.clone(),
            kind: request.kind,
            weight: request.weight,
            capacity: request.capacity,
            stand,
            ttl: engine.core.ttl.fit(request.ttl).map_err(|e| e.of(&request.key))?,
            waiting: lease::TTL_WAITING,
            cohort: Cohort { tokens, ..Cohort::ALONE },
            birth,
            anchor,
            owner: request.owner.clone(),
            reason: request.reason.clone(),
        };
        let hold = Arc::new(Hold::new(claim));
        let mut registry = engine.core.registry();
        if registry.len() >= CLAIMS_MAX {
            let what =
                format!("this client has {CLAIMS_MAX} claims, held and waiting, which is the most it takes");
            return Err(Error::unavailable(what, "release some, or connect another client").of(&request.key));
        }
        if !registry.enter(&hold) {
            return Err(super::closed());
        }
        drop(registry);
        Ok(Turn::passed_on(engine, hold, 0, None))
    }

    /// Until when we hold, by arithmetic alone.
    pub(crate) fn check(&self) -> Result<Moment, Lost> {
        self.check_at(self.engine.core.runtime.now())
    }

    fn check_at(&self, now: Moment) -> Result<Moment, Lost> {
        if self.engine.forked() {
            return Err(Lost::new(self.hold.claim.key.clone(), LostReason::Forked));
        }
        self.hold.check(now)
    }

    /// What it was granted, if it ever was: with the token that is this task's, and how the hold before it ended.
    pub(crate) fn grant(&self) -> Option<Grant> {
        let grant = self.hold.inner().granted?;
        let token = grant.token.and_then(|token| token.later(self.used));
        // A task that was passed the hold comes after one that released it.
        let previous = if self.used > 0 { Previous::Released } else { grant.previous };
        Some(Grant { token, previous, ..grant })
    }

    /// Changes who is shown, at the next renewal: now.
    pub(crate) fn describe(&self, owner: Arc<Owner>) {
        let core = &self.engine.core;
        self.hold.inner().owner = owner;
        core.replan(&self.hold, self.hold.look(core.runtime.now()));
    }

    /// Gives the lock back, and says whether it was ours until now.
    pub(crate) async fn release(&self, leave: Leave) -> Result<()> {
        let now = self.engine.core.runtime.now();
        self.check_at(now)?;
        if matches!(leave, Leave::For(_)) {
            self.engine.able(Needs::new().keeps())?;
        }
        if leave != Leave::Nothing {
            self.disband();
        } else if self.pass() {
            telling::released();
            return Ok(());
        }
        let core = &self.engine.core;
        let deadline = self.hold.deadline().unwrap_or(Moment::NEVER);
        let unanswered = self.hold.leave(leave);
        let _leaving = Leaving::begin(core, self.hold.claim.id);
        let key = &self.hold.claim.key;
        // Past the deadline an answer would change nothing; a lease without one gets as long as `close` takes.
        let end = deadline.min(now + self.hold.claim.ttl.max(janitor::CLOSE_WAIT));
        let outcome = janitor::release(
            core,
            &self.hold.parting(),
            janitor::marked(leave, unanswered),
            Errand::Awaited,
            now,
            end,
        )
        .await;
        match outcome {
            janitor::Outcome::Answered { released: Released::WasHeld, .. } => {}
            // The first try was sent while we held, and its answer was lost: it was ours, and it is given back. Heard
            // after the deadline, the lease may just as well have ended before any try arrived.
            janitor::Outcome::Answered { repeated: true, .. } if core.runtime.now() < deadline => {}
            janitor::Outcome::Answered { repeated: false, .. } => {
                self.hold.gone(LostReason::Gone);
                self.check()?;
                return Err(Lost::new(key.clone(), LostReason::Gone).into());
            }
            janitor::Outcome::Answered { .. } | janitor::Outcome::Unknown => {
                return Err(Error::uncertain(
                    "nobody answered the release in time",
                    "it is repeated in the background, and ends with its lease at the latest",
                )
                .of(key));
            }
            janitor::Outcome::Refused(error) => return Err(error.of(key)),
        }
        self.hold.end();
        if unanswered && matches!(leave, Leave::For(_)) {
            janitor::start(core, self.hold.claim.clone(), Leave::Final, true);
        }
        telling::released();
        Ok(())
    }
}
