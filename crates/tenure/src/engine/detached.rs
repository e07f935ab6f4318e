//! Holds that no process keeps: renewed and released by whoever has their id.

use std::sync::Arc;
use std::time::Duration;

use super::acquire::pause;
use super::hold::gone;
use super::{Engine, janitor};
use crate::backend::{Call, Claim, Errand, Lease, Leave, Released, Standing};
use crate::core::lease;
use crate::core::moment::Moment;
use crate::error::{Error, Lost, LostReason, Result};
use crate::runtime::race;

/// For how long somebody who does not hold by himself asks a store that does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Renews, and says for how long it lasts at least from now on.
pub(crate) async fn renew(engine: &Arc<Engine>, claim: &Claim) -> Result<Duration> {
    engine.usable()?;
    let runtime = &*engine.core.runtime;
    let until = runtime.now() + PATIENCE;
    let (mut tries, mut last) = (0, None);
    loop {
        let sent = runtime.now();
        let ask = engine.core.backend.renew_one(claim, Call::awaited(until));
        match race(runtime, until, ask).await {
            Some(Ok(answer)) => return judge(engine, claim, sent, answer.standing),
            Some(Err(error)) if !error.kind().may_pass() => return Err(error.of(&claim.key)),
            Some(Err(error)) => last = Some(error),
            None => {}
        }
        tries += 1;
        let again = runtime.now() + pause(engine, tries);
        if again >= until {
            let silent =
                || Error::unavailable("the store does not answer", "try again before the lease ends");
            return Err(last.unwrap_or_else(silent).of(&claim.key));
        }
        runtime.sleep_until(again).await;
    }
}

fn judge(engine: &Arc<Engine>, claim: &Claim, sent: Moment, standing: Standing) -> Result<Duration> {
    let now = engine.core.runtime.now();
    let why = match standing {
        Standing::Held(grant) => match grant.lease.at_most(claim.ttl) {
            Lease::Unbounded => return Ok(Duration::MAX),
            Lease::For(d) if lease::deadline(sent, d) > now => return Ok(lease::deadline(sent, d).since(now)),
            Lease::For(_) => LostReason::Expired,
        },
        standing => gone(standing),
    };
    Err(Lost::new(claim.key.clone(), why).into())
}

/// Releases.
pub(crate) async fn release(engine: &Arc<Engine>, claim: &Claim) -> Result<()> {
    engine.usable()?;
    let now = engine.core.runtime.now();
    match janitor::release(&engine.core, claim, Leave::Nothing, Errand::Awaited, now, now + PATIENCE).await {
        janitor::Outcome::Answered { released: Released::WasHeld, .. } => Ok(()),
        janitor::Outcome::Answered { repeated: false, .. } => {
            Err(Lost::new(claim.key.clone(), LostReason::Gone).into())
        }
        // Given back by a try whose answer was lost, or ended before any try arrived: nobody here knows its deadline.
        janitor::Outcome::Answered { .. } => Err(Error::uncertain(
            "the release was repeated, and there was nothing to release any more",
            "the lock is free in any case; whether it was held until now is unknown",
        )
        .of(&claim.key)),
        janitor::Outcome::Unknown => Err(Error::uncertain(
            "nobody answered the release",
            "release it again; it ends with its lease at the latest",
        )
        .of(&claim.key)),
        janitor::Outcome::Refused(error) => Err(error.of(&claim.key)),
    }
}
