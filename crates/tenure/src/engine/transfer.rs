//! Continuing a hold under another claim: with less weight, with another anchor, in another process.

use std::sync::Arc;
use std::time::Duration;

use super::acquire::{PATIENCE, pause};
use super::claim::{Request, Turn};
use super::hold::{Next, Stands, gone};
use super::{Core, Engine, janitor, scope, telling};
use crate::backend::{Anchor, Call, Claim, Leave};
use crate::capability::{Needs, Transfer};
use crate::core::lease;
use crate::core::moment::Moment;
use crate::error::{Error, Lost, LostReason, Result};
use crate::runtime::race;

/// For how long a transfer is repeated at most. A store refuses one that is older than a mark lives, which would look
/// as if the hold were gone: nobody listens any more by then.
const REPEATED: Duration = Duration::from_secs(lease::MARK_LIFE.as_secs() / 2);

impl Turn {
    /// Continues this hold as `request`, anchored to `anchor`: the same lock with at most the same weight, and a fresh
    /// id. Whoever has the old one can do nothing with it afterwards.
    ///
    /// Cancel safe: dropped on the way, both claims are withdrawn and the lock is given back. So it is where it fails.
    /// A lost answer is asked for again under the same ids, until the deadline of the old hold. A store that
    /// cannot do it is not asked.
    pub(crate) async fn transfer(self, request: &Request, anchor: Anchor) -> Result<Turn> {
        let deadline = self.check()?;
        let engine = self.engine.clone();
        engine.usable()?;
        engine.able(match anchor {
            Anchor::Process => Needs::new().transfer(Transfer::SameClient),
            Anchor::Time => Needs::new().transfer(Transfer::Anyone).keeps(),
        })?;
        let next = Turn::anchored(&engine, request, true, anchor)?;
        // As in a release: what renewals say of the old claim from now on is no loss.
        let unanswered = self.hold.leave(Leave::Nothing);
        self.disband();
        // Not renewed any more, and still there for `close` to find.
        engine.core.replan(&self.hold, Next::At(Moment::NEVER));
        if let Err(error) = drive(&next, &self.hold.parting(), deadline).await {
            let why = error.lost().map(|lost| lost.why().clone());
            let told = |why: &LostReason| {
                matches!(why, LostReason::Gone | LostReason::Evicted(_) | LostReason::StoreRemoved)
            };
            if let Some(why) = why.filter(told) {
                self.hold.gone(why);
            }
            return Err(error);
        }
        self.hold.end();
        engine.core.forget(&self.hold);
        if unanswered {
            janitor::start(&engine.core, self.hold.claim.clone(), Leave::Final, true);
        }
        telling::transferred();
        scope::note(&next);
        Ok(next)
    }

    /// Ends our part in a hold without releasing it: it lasts until its lease ends, unless somebody continues it.
    #[allow(dead_code)] // for handles
    pub(crate) fn abandon(self) -> Claim {
        self.hold.end();
        self.engine.core.forget(&self.hold);
        self.hold.claim.clone()
    }
}

/// Continues, in this process, a hold that another client has abandoned. Of `from` the store looks at id and lock only;
/// nobody may believe in it any more, so there is no deadline of an old hold: the request is repeated for 30 s at most.
#[allow(dead_code)] // for handles
pub(crate) async fn adopt(engine: &Arc<Engine>, from: &Claim, request: &Request) -> Result<Turn> {
    engine.usable()?;
    engine.able(Needs::new().transfer(Transfer::Anyone))?;
    let next = Turn::anchored(engine, request, true, Anchor::Process)?;
    drive(&next, from, Moment::NEVER).await?;
    telling::transferred();
    scope::note(&next);
    Ok(next)
}

/// Asks until somebody answers, or until `deadline`: the same ids each time.
async fn drive(next: &Turn, from: &Claim, deadline: Moment) -> Result<()> {
    let (core, hold) = (&next.engine.core, &next.hold);
    let key = &hold.claim.key;
    let until = deadline.min(hold.claim.birth + REPEATED);
    let mut tries = 0;
    let mut last = None;
    loop {
        let sent = core.runtime.now();
        if !hold.sends() {
            next.engine.usable()?;
            // Evicted between the store's answers.
            return Err(Lost::new(key.clone(), LostReason::Gone).into());
        }
        let patience = (sent + PATIENCE).min(until);
        match race(
            &*core.runtime,
            patience,
            core.backend.transfer(from, &hold.claim, Call::awaited(patience)),
        )
        .await
        {
            Some(Ok(answer)) => {
                let why = gone(answer.standing.clone());
                let (next_look, stands) = hold.attempted(sent, core.runtime.now(), answer);
                core.plan(hold, next_look, stands == Stands::Polling);
                return match next.check() {
                    Ok(_) => Ok(()),
                    Err(_) if next.engine.usable().is_err() => next.engine.usable(),
                    Err(lost) if *lost.why() == LostReason::Gone => Err(Lost::new(key.clone(), why).into()),
                    Err(lost) => Err(lost.into()),
                };
            }
            Some(Err(error)) if !error.kind().may_pass() => {
                hold.attempt_failed(&error);
                return Err(error.of(key));
            }
            Some(Err(error)) => {
                hold.attempt_failed(&error);
                tracing::debug!(lock = %key, %error, "transfer failed");
                last = Some(error);
            }
            None => {}
        }
        tries += 1;
        let again = core.runtime.now() + pause(&next.engine, tries);
        if again >= until {
            return Err(unknown(core, last).of(key));
        }
        core.runtime.sleep_until(again).await;
    }
}

fn unknown(core: &Core, last: Option<Error>) -> Error {
    tracing::debug!(store = ?core.backend, error = ?last, "no answer to a transfer");
    Error::uncertain(
        "nobody answered whether the hold goes on",
        "it is given back in the background, and ends with its lease at the latest",
    )
}
