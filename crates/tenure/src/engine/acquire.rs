//! Acquiring: ask, wait for the push, hand out a [`Turn`].

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tracing::Instrument;

use super::hold::{Dropped, Hold, Phase};
use super::turn::{Asker, First};
use super::{Engine, cohort, janitor, scope, telling, turn};
use crate::backend::{
    Anchor, Answer, Call, Claim, Cohort, Errand, Grant, Kind, Leave, Owner, Part, Released,
};
use crate::core::moment::Moment;
use crate::core::{backoff, lease};
use crate::error::{Error, ErrorKind, Lost, LostReason, Result};
use crate::key::Key;
use crate::runtime::{LazyTimer, Runtime, join_all, race};

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

/// For how long to wait in line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Patience {
    /// Not at all: never stands in line.
    None,
    /// Until this moment.
    Until(Moment),
    /// For ever.
    Forever,
}

impl Patience {
    /// Until when; what never stands in line ends at once.
    pub(super) fn until(self) -> Moment {
        match self {
            Patience::None => Moment(0),
            Patience::Until(at) => at,
            Patience::Forever => Moment::NEVER,
        }
    }

    /// For `wait` from now; for a `wait` of zero, not at all.
    pub(crate) fn lasting(wait: Duration, runtime: &dyn Runtime) -> Patience {
        if wait.is_zero() { Patience::None } else { Patience::Until(runtime.now() + wait) }
    }
}

/// For how long a single attempt may stay unanswered.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// For how long `try_lock` asks a store that does not answer.
pub(crate) const TRY_PATIENCE: Duration = Duration::from_secs(5);
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
    pub(super) fn new(engine: &Arc<Engine>, request: &Request, stand: bool, tokens: u32) -> Result<Turn> {
        Turn::made(engine, request, stand, tokens, Anchor::Process)
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
        Turn::made(engine, request, stand, 1, anchor)
    }

    fn made(
        engine: &Arc<Engine>,
        request: &Request,
        stand: bool,
        tokens: u32,
        anchor: Anchor,
    ) -> Result<Turn> {
        let claim = Claim {
            id: engine.fresh_id(),
            key: request.key.clone(),
            kind: request.kind,
            weight: request.weight,
            capacity: request.capacity,
            stand,
            ttl: request.ttl,
            waiting: lease::TTL_WAITING,
            cohort: Cohort { tokens, ..Cohort::ALONE },
            birth: engine.core.runtime.now(),
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
        if self.engine.forked() {
            return Err(Lost::new(self.hold.claim.key.clone(), LostReason::Forked));
        }
        self.hold.check(self.engine.core.runtime.now())
    }

    /// The grant, while held.
    pub(crate) fn grant(&self) -> Option<Grant> {
        match self.hold.inner().phase {
            Phase::Held(grant) => {
                Some(Grant { token: grant.token.and_then(|t| t.later(self.used)), ..grant })
            }
            _ => None,
        }
    }

    /// Changes who is shown, at the next renewal: now.
    pub(crate) fn describe(&self, owner: Arc<Owner>) {
        let core = &self.engine.core;
        self.hold.inner().owner = owner;
        core.replan(&self.hold, self.hold.look(core.runtime.now()));
    }

    /// Gives the lock back, and says whether it was ours until now.
    pub(crate) async fn release(&self, leave: Leave) -> Result<()> {
        self.check()?;
        if leave != Leave::Nothing {
            self.disband();
        } else if self.pass() {
            telling::released();
            return Ok(());
        }
        let core = &self.engine.core;
        let deadline = self.hold.deadline().unwrap_or(Moment::NEVER);
        let unanswered = self.hold.leave(leave);
        core.forget(&self.hold);
        let key = &self.hold.claim.key;
        // Past the deadline an answer would change nothing; a lease without one gets as long as `close` takes.
        let end = deadline.min(core.runtime.now() + self.hold.claim.ttl.max(janitor::CLOSE_WAIT));
        let outcome = janitor::release(
            core,
            &self.hold.parting(),
            janitor::marked(leave, unanswered),
            Errand::Awaited,
            end,
        )
        .await;
        match outcome {
            janitor::Outcome::Answered { released: Released::WasHeld, .. } => {}
            // The first try was sent while we held, and its answer was lost: it was ours, and it is given back. Heard
            // after the deadline, the lease may just as well have ended before any try arrived.
            janitor::Outcome::Answered { repeated: true, .. } if core.runtime.now() < deadline => {}
            janitor::Outcome::Answered { repeated: false, .. } => {
                self.hold.gone(None);
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

/// Acquires. `None`: not within the patience.
///
/// Cancel safe at every await: whatever was asked is withdrawn by the [`Turn`] that owns it.
pub(crate) async fn acquire(
    engine: &Arc<Engine>,
    request: &Request,
    patience: Patience,
) -> Result<Option<Turn>> {
    begin(engine, request, patience, drive(engine, request, patience, &mut Asker::alone())).await
}

/// The same, together with the other tasks of this client that want the lock: see [`cohort`].
pub(crate) async fn acquire_in_turn(
    engine: &Arc<Engine>,
    request: &Request,
    patience: Patience,
) -> Result<Option<Turn>> {
    if request.fair || patience == Patience::None {
        return acquire(engine, request, patience).await;
    }
    begin(engine, request, patience, turn::take(engine, request, patience)).await
}

/// What all acquiring begins and ends with.
async fn begin(
    engine: &Arc<Engine>,
    request: &Request,
    patience: Patience,
    work: impl Future<Output = Result<Option<Turn>>>,
) -> Result<Option<Turn>> {
    // A local store answers at once: without this, a task that locks in a loop would never let others run.
    tokio::task::coop::consume_budget().await;
    engine.usable()?;
    if patience != Patience::None {
        scope::refuse(engine, request)?;
    }
    let span = telling::span(&request.key);
    let began = engine.core.runtime.now();
    let waiting = telling::Waiting::begin();
    let result = work.instrument(span.clone()).await;
    drop(waiting);
    if let Ok(Some(turn)) = &result {
        scope::note(turn);
    }
    let waited = engine.core.runtime.now().since(began);
    telling::acquired(&span, &request.key, &result, waited);
    result
}

/// Asks with claims of `asker`, beginning with the one that it has.
pub(super) async fn drive(
    engine: &Arc<Engine>,
    request: &Request,
    patience: Patience,
    asker: &mut Asker,
) -> Result<Option<Turn>> {
    let core = &engine.core;
    let until = match patience {
        Patience::None => core.runtime.now() + TRY_PATIENCE,
        _ => patience.until(),
    };
    let mut rounds = 0;
    let mut late = None;
    loop {
        let first = asker.first.take();
        let first_sent = first.as_ref().map_or_else(|| core.runtime.now(), |first| first.sent);
        let asked = match (&asker.turn, first) {
            (Some(turn), Some(first)) => ask(turn, first_sent, until, Some(first.answer)).await?,
            // It stands in line, or did so when it changed hands.
            (Some(_), None) => Asked::Waiting,
            (None, _) => {
                let turn = Turn::new(engine, request, patience != Patience::None, asker.tokens())?;
                ask(asker.ask_with(turn), first_sent, until, None).await?
            }
        };
        let Some(turn) = &asker.turn else { continue };
        match asked {
            Asked::Held if turn.check().is_ok() => return Ok(asker.granted()),
            Asked::Busy => return Ok(None),
            Asked::TimeUp(Some(error)) => return Err(error.of(&request.key)),
            Asked::TimeUp(None) if late.is_some() => return Err(slow(&request.key)),
            Asked::TimeUp(None) if core.runtime.now() < first_sent + PATIENCE => return Ok(None),
            // Nobody answered for that long: "busy" would be a guess.
            Asked::TimeUp(None) => return Err(unanswered(&request.key)),
            Asked::Waiting => match wait(turn, until).await {
                Waited::Held if turn.check().is_ok() => return Ok(asker.granted()),
                Waited::TimeUp => return Ok(None),
                Waited::Unanswered => {
                    engine.usable()?;
                    let trouble = turn.hold.inner().trouble.take();
                    return Err(trouble.map_or_else(|| unanswered(&request.key), |e| e.of(&request.key)));
                }
                Waited::Held | Waited::Gone => {}
            },
            // Granted and already past its deadline: too late to be believed, so once more, but not for ever.
            Asked::Held => {
                if turn.check().is_err_and(|lost| *lost.why() == LostReason::Expired) {
                    let since: Moment = *late.get_or_insert(first_sent);
                    if core.runtime.now() >= (since + lease::TTL_WAITING).min(until) {
                        return Err(slow(&request.key));
                    }
                }
            }
            Asked::Gone => {}
        }
        engine.usable()?;
        asker.turn = None;
        rounds += 1;
        let again = core.runtime.now() + pause(engine, rounds);
        if again >= until {
            return if late.is_some() { Err(slow(&request.key)) } else { Ok(None) };
        }
        core.runtime.sleep_until(again).await;
    }
}

enum Asked {
    Held,
    Waiting,
    Busy,
    Gone,
    /// With the last error, if there was one.
    TimeUp(Option<Error>),
}

/// Asks until somebody answers: the same claim id each time, so that a lost answer costs nothing. `first` is what came of
/// an attempt that was sent at `first_sent` already.
async fn ask(
    turn: &Turn,
    first_sent: Moment,
    until: Moment,
    mut first: Option<Option<Result<Answer>>>,
) -> Result<Asked> {
    let (core, hold) = (&turn.engine.core, &turn.hold);
    let give_up = first_sent + hold.claim.waiting;
    let mut tries = 0;
    let mut last = None;
    loop {
        let (sent, answer) = match first.take() {
            Some(answer) => (first_sent, answer),
            None => {
                let sent = core.runtime.now();
                if !sends(hold) {
                    return Ok(Asked::Gone);
                }
                let patience = (sent + PATIENCE).min(until).min(give_up);
                let asked = core.backend.attempt_one(&hold.claim, Call::awaited(patience));
                (sent, race(&*core.runtime, patience, asked).await)
            }
        };
        match answer {
            Some(Ok(answer)) => {
                hold.inner().unanswered -= 1;
                let busy = answer.standing == crate::backend::Standing::Busy;
                let next = hold.answered(sent, core.runtime.now(), answer);
                if busy {
                    return Ok(Asked::Busy);
                }
                core.plan(hold, next);
                return Ok(match hold.inner().phase {
                    Phase::Held(_) => Asked::Held,
                    Phase::Waiting => Asked::Waiting,
                    _ => Asked::Gone,
                });
            }
            Some(Err(error)) if !error.kind().may_pass() => {
                // The store judged the request itself: it took nothing. Behind nonsense there may be a grant.
                if settles(&error) {
                    hold.inner().unanswered -= 1;
                }
                return Err(error.of(&hold.claim.key));
            }
            // What does not stand in line does not wait for the store to change its mind either.
            Some(Err(error)) if error.was_answered() && !hold.claim.stand => {
                hold.inner().unanswered -= 1;
                return Err(error.of(&hold.claim.key));
            }
            Some(Err(error)) => {
                if settles(&error) {
                    hold.inner().unanswered -= 1;
                }
                tracing::debug!(lock = %hold.claim.key, %error, "attempt failed");
                last = Some(error);
            }
            None => {}
        }
        if core.runtime.now() >= give_up {
            return Err(last.map_or_else(|| unanswered(&hold.claim.key), |e| e.of(&hold.claim.key)));
        }
        tries += 1;
        let again = core.runtime.now() + pause(&turn.engine, tries);
        if again >= until {
            return Ok(Asked::TimeUp(last));
        }
        core.runtime.sleep_until(again.min(give_up)).await;
    }
}

/// Counts an attempt that is about to be sent. False: the claim was closed or evicted meanwhile, and nothing may be sent.
fn sends(hold: &Hold) -> bool {
    let mut inner = hold.inner();
    let asks = inner.phase == Phase::Asking;
    inner.unanswered += u32::from(asks);
    asks
}

/// Tries several locks at once: the first attempts of all leave in one request for each part of the store, and whatever
/// has to be asked again is asked alone. None of them stands in line.
///
/// Cancel safe at every await: each claim is withdrawn by the [`Turn`] that owns it.
pub(crate) async fn try_all(engine: &Arc<Engine>, requests: &[&Request]) -> Vec<Result<Option<Turn>>> {
    let core = &engine.core;
    let sent = core.runtime.now();
    let mut parts: BTreeMap<Part, Vec<usize>> = BTreeMap::new();
    let mut turns: Vec<Option<Result<Turn>>> = Vec::with_capacity(requests.len());
    for (i, request) in requests.iter().enumerate() {
        let turn = engine.usable().and_then(|()| Turn::new(engine, request, false, 1));
        if turn.as_ref().is_ok_and(|turn| sends(&turn.hold)) {
            parts.entry(core.backend.part(&request.key)).or_default().push(i);
        }
        turns.push(Some(turn));
    }
    let asked = parts.into_values().map(|members| {
        let claim =
            |i: &usize| turns[*i].as_ref().and_then(|turn| turn.as_ref().ok()).map(|t| t.hold.claim.clone());
        let claims: Vec<Claim> = members.iter().filter_map(claim).collect();
        async move {
            let until = sent + PATIENCE;
            let answers = core.backend.attempt(&claims, Call::awaited(until));
            let answers = race(&*core.runtime, until, answers).await;
            let mut answers = answers.map(Vec::into_iter);
            let mut next = move || answers.as_mut().and_then(Iterator::next);
            members.into_iter().map(|i| (i, next())).collect::<Vec<_>>()
        }
    });
    let mut first: Vec<Option<Result<Answer>>> = requests.iter().map(|_| None).collect();
    for (i, answer) in join_all(asked).await.into_iter().flatten() {
        first[i] = answer;
    }
    join_all(requests.iter().zip(&mut turns).zip(first).map(|((request, turn), answer)| {
        let turn = turn.take();
        async move {
            let turn = turn.ok_or_else(super::closed)??;
            let mut asker = Asker::begun(turn, First { sent, answer });
            begin(engine, request, Patience::None, drive(engine, request, Patience::None, &mut asker)).await
        }
    }))
    .await
}

/// Whether an error says for sure that the store took nothing: it judged the request itself, or never got it. Behind
/// nonsense there may be a grant.
pub(super) fn settles(error: &Error) -> bool {
    error.is_unsent()
        || matches!(error.kind(), ErrorKind::Config | ErrorKind::Denied | ErrorKind::Unsupported)
}

enum Waited {
    Held,
    Gone,
    Unanswered,
    TimeUp,
}

/// Waits for the keeper or the sink to change the phase.
async fn wait(turn: &Turn, until: Moment) -> Waited {
    let mut timer = LazyTimer::new(&*turn.engine.core.runtime, until);
    poll_fn(|cx| {
        {
            let mut inner = turn.hold.inner();
            match inner.phase {
                Phase::Held(_) => return Poll::Ready(Waited::Held),
                Phase::Dropped(Dropped::Unanswered) => return Poll::Ready(Waited::Unanswered),
                Phase::Waiting | Phase::Asking => inner.await_change(cx.waker()),
                _ => return Poll::Ready(Waited::Gone),
            }
        }
        timer.poll(cx).map(|()| Waited::TimeUp)
    })
    .await
}

pub(super) fn unanswered(key: &Key) -> Error {
    Error::unavailable(
        "the store does not answer",
        "check that it runs; the claim is withdrawn in the background",
    )
    .of(key)
}

fn slow(key: &Key) -> Error {
    Error::unavailable("the store's answers take longer than the lease lasts", "use a longer ttl").of(key)
}

pub(super) fn pause(engine: &Engine, tries: u32) -> Duration {
    let mut dice = [0u8; 8];
    engine.core.runtime.fill(&mut dice);
    backoff::pause(tries, u64::from_le_bytes(dice))
}
