//! Acquiring: ask, wait for the push, hand out a [`Turn`].

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tracing::{Instrument, Span};

use super::asker::Asker;
use super::claim::{Request, Turn};
use super::hold::{Dropped, Phase, Stands};
use super::{Engine, scope, telling};
use crate::backend::{Answer, Call, Standing};
use crate::core::moment::Moment;
use crate::core::{backoff, lease};
use crate::error::{Error, LostReason, Result};
use crate::key::Key;
use crate::runtime::{LazyTimer, Runtime, race};

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
/// Acquires. `None`: not within the patience.
///
/// Cancel safe at every await: whatever was asked is withdrawn by the [`Turn`] that owns it.
pub(crate) async fn acquire(
    engine: &Arc<Engine>,
    request: &Request,
    patience: Patience,
) -> Result<Option<Turn>> {
    let begun = Begun::now(engine, request, patience).await?;
    let mut asker = Asker::alone();
    let result = drive(engine, request, patience, &mut asker, begun.at).instrument(begun.span.clone()).await;
    begun.ended(result)
}

/// What all acquiring begins and ends with. The work between the two is not passed to a function: its future is large, and
/// each move copies it.
pub(super) struct Begun<'a> {
    engine: &'a Engine,
    request: &'a Request,
    pub(super) span: Span,
    /// When it began.
    pub(super) at: Moment,
    waiting: telling::Waiting,
}

impl<'a> Begun<'a> {
    /// Refuses what must not be asked for, and opens the span.
    pub(super) async fn now(
        engine: &'a Arc<Engine>,
        request: &'a Request,
        patience: Patience,
    ) -> Result<Begun<'a>> {
        // A local store answers at once: without this, a task that locks in a loop would never let others run.
        tokio::task::coop::consume_budget().await;
        engine.usable()?;
        if patience != Patience::None {
            scope::refuse(engine, request)?;
        }
        let span = telling::span(&request.key);
        let at = engine.core.runtime.now();
        Ok(Begun { engine, request, span, at, waiting: telling::Waiting::begin() })
    }

    /// Reports what it came to.
    pub(super) fn ended(self, result: Result<Option<Turn>>) -> Result<Option<Turn>> {
        drop(self.waiting);
        if let Ok(Some(turn)) = &result {
            scope::note(turn);
        }
        let waited = || self.engine.core.runtime.now().since(self.at);
        telling::acquired(&self.span, &self.request.key, &result, waited);
        result
    }
}

/// Asks from `now` on with claims of `asker`, beginning with the one that it has.
pub(super) async fn drive(
    engine: &Arc<Engine>,
    request: &Request,
    patience: Patience,
    asker: &mut Asker,
    mut now: Moment,
) -> Result<Option<Turn>> {
    let core = &engine.core;
    let stand = patience != Patience::None;
    let until = if stand { patience.until() } else { now + TRY_PATIENCE };
    let mut rounds = 0;
    let mut late = None;
    loop {
        let first = asker.first.take();
        let first_sent = first.as_ref().map_or(now, |first| first.sent);
        let asked = match (&asker.turn, first) {
            (Some(turn), Some(first)) => ask(turn, first_sent, until, Some(first.answer)).await?,
            // It stands in line, or did so when it changed hands.
            (Some(_), None) => Asked::Waiting,
            (None, _) => {
                let turn = Turn::new(engine, request, stand, asker.tokens(), first_sent)?;
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
        now = core.runtime.now();
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
                let sent = if tries == 0 { first_sent } else { core.runtime.now() };
                if !hold.sends() {
                    return Ok(Asked::Gone);
                }
                let patience = (sent + PATIENCE).min(until).min(give_up);
                let asked = core.backend.attempt_one(&hold.claim, Call::awaited(patience));
                (sent, race(&*core.runtime, patience, asked).await)
            }
        };
        let now = core.runtime.now();
        core.reach.heard(core, answer.as_ref(), now >= sent + PATIENCE);
        match answer {
            Some(Ok(answer)) => {
                let busy = answer.standing == Standing::Busy;
                let (next, stands) = hold.attempted(sent, now, answer);
                if busy {
                    return Ok(Asked::Busy);
                }
                core.plan(hold, next, stands == Stands::Polling);
                return Ok(match stands {
                    Stands::Held => Asked::Held,
                    Stands::Waiting | Stands::Polling => Asked::Waiting,
                    Stands::Nowhere => Asked::Gone,
                });
            }
            Some(Err(error)) if !error.kind().may_pass() => {
                hold.attempt_failed(&error);
                return Err(error.of(&hold.claim.key));
            }
            // What does not stand in line does not wait for the store to change its mind either.
            Some(Err(error)) if error.was_answered() && !hold.claim.stand => {
                hold.inner().unanswered -= 1;
                return Err(error.of(&hold.claim.key));
            }
            Some(Err(error)) => {
                hold.attempt_failed(&error);
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
