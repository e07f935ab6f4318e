//! Changes what is shown of a hold, and waits until the store has it.

use std::sync::Arc;
use std::time::Duration;

use super::Turn;
use super::acquire::pause;
use super::hold::Phase;
use crate::backend::Call;
use crate::core::lease;
use crate::error::Result;
use crate::runtime::race;

/// Between two looks at whether an older renewal was answered.
const LOOK: Duration = Duration::from_millis(2);

impl Turn {
    /// Shows another reason: a renewal that carries it, repeated until it is answered or the lease is over.
    pub(crate) async fn restate(&self, reason: Arc<str>) -> Result<()> {
        self.engine.usable()?;
        self.check()?;
        let core = &self.engine.core;
        self.hold.inner().reason = reason;
        self.settled().await;
        let mut tries = 0;
        loop {
            let deadline = self.check()?;
            let claim = core.claim_now(&self.hold);
            let sent = core.runtime.now();
            let patience =
                (sent + lease::renew_patience(claim.ttl).max(Duration::from_millis(50))).min(deadline);
            let ask = core.backend.renew_one(&claim, Call::awaited(patience));
            match race(&*core.runtime, patience, ask).await {
                Some(Ok(answer)) => {
                    let next = self.hold.answered(sent, core.runtime.now(), answer);
                    core.replan(&self.hold, next);
                    return Ok(self.check().map(drop)?);
                }
                Some(Err(error)) if !error.kind().may_pass() => return Err(error.of(&claim.key)),
                Some(Err(error)) => tracing::debug!(lock = %claim.key, %error, "a new reason was not taken"),
                None => {}
            }
            tries += 1;
            let again = core.runtime.now() + pause(&self.engine, tries);
            core.runtime.sleep_until(again.min(deadline)).await;
        }
    }

    /// Waits until the renewal that is under way is answered: it carries what was shown before, and must not come last.
    /// One that is never answered is not waited for.
    async fn settled(&self) {
        let core = &self.engine.core;
        let until = core.runtime.now() + lease::renew_patience(self.hold.claim.ttl);
        let under_way = || {
            let inner = self.hold.inner();
            inner.renewing.is_some() && matches!(inner.phase, Phase::Held(_))
        };
        while under_way() && core.runtime.now() < until {
            core.runtime.sleep_until(core.runtime.now() + LOOK).await;
        }
    }
}
