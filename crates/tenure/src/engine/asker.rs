//! Who asks the store, alone or for a cohort.

use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use super::claim::{Request, Turn};
use super::cohort::{Lead, Number};
use super::hold::{Hold, Phase};
use super::{Core, Engine};
use crate::backend::Answer;
use crate::core::moment::Moment;
use crate::error::{Error, Result};
use crate::key::Key;

/// Who asks the store, and the claim that it asks with. Dropped, the claim is withdrawn, unless another task of its cohort
/// goes on with it.
#[derive(Default)]
pub(super) struct Asker {
    pub(super) turn: Option<Turn>,
    /// What came of the first attempt, if it left together with those of other claims.
    pub(super) first: Option<First>,
    leading: Option<Leading>,
}

/// A first attempt: when it was sent, and its answer; `None` if there was none in time.
pub(super) struct First {
    pub(super) sent: Moment,
    pub(super) answer: Option<Result<Answer>>,
}

struct Leading {
    engine: Arc<Engine>,
    key: Key,
    lead: Lead,
}

impl Asker {
    /// For itself only.
    pub(super) fn alone() -> Asker {
        Asker::default()
    }

    /// For itself only, with a claim that has asked once.
    pub(super) fn begun(turn: Turn, first: First) -> Asker {
        Asker { turn: Some(turn), first: Some(first), leading: None }
    }

    pub(super) fn leading(
        engine: &Arc<Engine>,
        request: &Request,
        lead: Lead,
        hold: Option<Arc<Hold>>,
    ) -> Asker {
        let turn = hold.map(|hold| Turn::passed_on(engine, hold, 0, None));
        let leading = Leading { engine: engine.clone(), key: request.key.clone(), lead };
        Asker { turn, first: None, leading: Some(leading) }
    }

    /// How many tokens to ask for.
    pub(super) fn tokens(&self) -> u32 {
        self.leading.as_ref().map_or(1, |leading| leading.lead.tokens)
    }

    /// Goes on with this claim.
    pub(super) fn ask_with(&mut self, turn: Turn) -> &Turn {
        if let Some(Leading { engine, key, lead }) = self.leading.as_ref().filter(|l| l.lead.tokens > 1) {
            engine.core.cohorts.asks(key, lead.number, &turn.hold);
        }
        self.turn.insert(turn)
    }

    /// The claim was granted. Those who wait in the cohort come after this one.
    pub(super) fn granted(&mut self) -> Option<Turn> {
        let mut turn = self.turn.take()?;
        let Some(Leading { engine, key, lead }) = self.leading.take() else { return Some(turn) };
        if engine.core.cohorts.close(&key, lead.number) {
            turn.cohort = Some(lead.number);
            let watch = Watch { core: Arc::downgrade(&engine.core), key, number: lead.number };
            let watch = Waker::from(Arc::new(watch));
            if turn.hold.listen(&mut None, &watch).is_some() {
                watch.wake();
            }
        }
        Some(turn)
    }

    /// The store refused, or does not answer. `all`: whoever waits in the cohort has waited in vain as well; otherwise it
    /// is only this one who gives up.
    pub(super) fn refused(&mut self, error: &Error, all: bool) {
        if (all || !error.kind().may_pass())
            && let Some(Leading { engine, key, lead }) = self.leading.take()
        {
            engine.core.cohorts.refuse(&key, lead.number, error);
        }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let Some(Leading { engine, key, lead }) = self.leading.take() else { return };
        if engine.forked() {
            return;
        }
        let worth = |turn: &Turn| matches!(turn.hold.inner().phase, Phase::Waiting | Phase::Held(_));
        match self.turn.take().filter(worth) {
            Some(turn) => {
                if engine.core.cohorts.succeed(&key, lead, Some(turn.hold.clone())) {
                    turn.let_go();
                }
            }
            None => drop(engine.core.cohorts.succeed(&key, lead, None)),
        }
    }
}

/// Sees to it that nobody waits for a hold that is lost, whatever its last holder does.
struct Watch {
    core: Weak<Core>,
    key: Key,
    number: Number,
}

impl Wake for Watch {
    fn wake(self: Arc<Watch>) {
        if let Some(core) = self.core.upgrade() {
            core.cohorts.dissolve(&self.key, self.number);
        }
    }
}
