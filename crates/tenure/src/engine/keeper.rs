//! One scheduler for all leases of a client: renews, looks again, and ends beliefs at their deadlines.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::hold::{Dropped, Hold, Next, Phase};
use super::{Core, telling};
use crate::backend::{Answer, Call, Part};
use crate::core::moment::Moment;
use crate::core::{backoff, lease};
use crate::error::{Error, LostReason};
use crate::runtime::{race, yield_now};

/// The most claims in one renewal request: a longer script would block a server.
const BATCH: usize = 100;
/// What is due this much later is renewed along: fewer, fuller batches.
const ALONG: std::time::Duration = std::time::Duration::from_millis(5);

/// Proof that a keeper runs. Lost in a panic, the next one takes over; lost where the runtime takes no tasks, the next
/// claim tries again.
pub(super) struct Office(pub(super) Arc<Core>);

impl Drop for Office {
    fn drop(&mut self) {
        let now = self.0.runtime.now();
        let mut registry = self.0.registry();
        registry.running = std::thread::panicking() && !registry.closed;
        if !registry.running {
            return;
        }
        for hold in registry.all() {
            let polls = hold.inner().polls();
            registry.schedule(&hold, now, polls);
        }
        drop(registry);
        tracing::error!("renewing panicked, and begins again");
        self.0.runtime.spawn(Box::pin(run(Office(self.0.clone()))));
    }
}

/// Runs until the client is closed.
pub(super) async fn run(office: Office) {
    let core = &office.0;
    loop {
        let now = core.runtime.now();
        let (due, next) = {
            let mut registry = core.registry();
            if registry.closed {
                return;
            }
            let due = registry.take_due(now, ALONG, BATCH * 10);
            let next = if due.is_empty() { registry.next_due() } else { now };
            registry.planned = next;
            (due, next)
        };
        if !due.is_empty() {
            look(core, &due, now);
            // Batches that are ready to go out do not wait for all others.
            yield_now().await;
            continue;
        }
        race(&*core.runtime, next, core.nudge.notified()).await;
    }
}

/// Looks at claims that are due: ends the belief in those past their deadlines, asks the store about the others.
fn look(core: &Arc<Core>, due: &[Arc<Hold>], now: Moment) {
    let mut batches: BTreeMap<(Part, Ask), Vec<Arc<Hold>>> = BTreeMap::new();
    for hold in due {
        match consider(hold, now) {
            Due::Ask { ask, again, alone } => {
                core.replan(hold, Next::At(again));
                if alone {
                    // Its last request had no answer: alone, it cannot hold others up again.
                    send(core, ask, vec![hold.clone()]);
                    continue;
                }
                let batch = batches.entry((core.backend.part(&hold.claim.key), ask)).or_default();
                batch.push(hold.clone());
                if batch.len() == BATCH {
                    send(core, ask, std::mem::take(batch));
                }
            }
            Due::Wait(next) => core.replan(hold, next),
        }
    }
    for ((_, ask), batch) in batches.into_iter().filter(|(_, batch)| !batch.is_empty()) {
        send(core, ask, batch);
    }
}

/// What the store is asked about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ask {
    /// It holds, or has a place in line.
    Renew,
    /// It waits without a place: the store may grant it now.
    Attempt,
}

enum Due {
    Ask { ask: Ask, again: Moment, alone: bool },
    Wait(Next),
}

fn consider(hold: &Arc<Hold>, now: Moment) -> Due {
    let mut inner = hold.inner();
    if inner.leaving.is_some() {
        return Due::Wait(Next::Never);
    }
    let (end, lease) = match inner.phase {
        Phase::Held(_) => (hold.deadline().unwrap_or(now), hold.claim.ttl),
        Phase::Waiting => (inner.waiting_until, hold.claim.waiting),
        // Driven by the acquiring future.
        Phase::Asking => return Due::Wait(Next::At(Moment::NEVER)),
        _ => return Due::Wait(Next::Never),
    };
    if now >= end {
        if inner.phase == Phase::Waiting {
            let asked = inner.renewing.is_some() || inner.failures > 0;
            inner.phase = Phase::Dropped(if asked { Dropped::Unanswered } else { Dropped::Lapsed });
            inner.wake_all();
        } else {
            hold.lose(&mut inner, LostReason::Expired);
        }
        return Due::Wait(Next::Never);
    }
    let patience = lease::renew_patience(lease);
    let alone = match inner.renewing {
        Some(sent) if now < sent + patience => return Due::Wait(Next::At((sent + patience).min(end))),
        Some(_) => true,
        None => false,
    };
    inner.renewing = Some(now);
    let ask = if inner.polls() { Ask::Attempt } else { Ask::Renew };
    Due::Ask { ask, again: (now + patience).min(end), alone }
}

/// Sends one batch, all of one part of the store, as a task of its own: a slow answer delays nobody else (L6).
fn send(core: &Arc<Core>, ask: Ask, batch: Vec<Arc<Hold>>) {
    let shared = core.clone();
    core.runtime.spawn(Box::pin(async move {
        let sent = shared.runtime.now();
        let mut useless = sent;
        let mut asked = Vec::with_capacity(batch.len());
        for hold in batch {
            let mut inner = hold.inner();
            if ask == Ask::Attempt {
                if !inner.polls() || inner.leaving.is_some() {
                    continue; // granted, dropped or withdrawn since: no attempt may follow
                }
                inner.unanswered += 1;
            }
            inner.renewing = Some(sent);
            let held = matches!(inner.phase, Phase::Held(_));
            useless = useless.max(sent + if held { hold.claim.ttl } else { hold.claim.waiting });
            drop(inner);
            asked.push(hold);
        }
        let claims: Vec<_> = asked.iter().map(|hold| shared.claim_now(hold)).collect();
        let call = Call::background(useless);
        // An answer that comes after all these leases would change nothing, and must not be waited for: one that never
        // comes would keep this task for ever.
        let answers = match ask {
            Ask::Renew => shared.backend.renew(&claims, call),
            Ask::Attempt => shared.backend.attempt(&claims, call),
        };
        let Some(answers) = race(&*shared.runtime, useless, answers).await else {
            return shared.reach.silent(&shared, &Error::unavailable("the store does not answer", ""));
        };
        let now = shared.runtime.now();
        let missing = asked.len().saturating_sub(answers.len());
        let short = (0..missing).map(|_| Err(Error::protocol("the store answered too few claims", "")));
        for (hold, answer) in asked.iter().zip(answers.into_iter().chain(short)) {
            let next = settle(&shared, hold, ask, sent, now, answer);
            shared.replan(hold, next);
        }
    }));
}

fn settle(
    core: &Arc<Core>,
    hold: &Arc<Hold>,
    ask: Ask,
    sent: Moment,
    now: Moment,
    answer: Result<Answer, Error>,
) -> Next {
    {
        let mut inner = hold.inner();
        if inner.renewing.is_some_and(|latest| latest <= sent) {
            inner.renewing = None;
        }
    }
    match answer {
        Ok(answer) => {
            telling::renewed(core, now.since(sent), hold.deadline().map(|end| end.since(now)));
            core.reach.answered(core);
            match ask {
                Ask::Renew => hold.answered(sent, now, answer),
                // It may be granted: whoever withdraws it meanwhile finds either an attempt without an answer or a grant.
                Ask::Attempt => hold.attempted(sent, now, answer).0,
            }
        }
        Err(error) => {
            core.reach.told(core, &error);
            if ask == Ask::Attempt {
                hold.attempt_failed(&error);
            }
            let mut inner = hold.inner();
            inner.failures += 1;
            telling::failed(hold, matches!(inner.phase, Phase::Held(_)), inner.failures, &error);
            let end = match inner.phase {
                Phase::Held(_) => hold.deadline().unwrap_or(now),
                // A waiter is told what a newcomer would be told. Once may be the connection's fault.
                Phase::Waiting if inner.failures > 1 && !error.kind().may_pass() => {
                    inner.trouble = Some(error);
                    inner.phase = Phase::Dropped(Dropped::Unanswered);
                    inner.wake_all();
                    return Next::Never;
                }
                Phase::Waiting => inner.waiting_until,
                _ => return Next::Never,
            };
            let mut dice = [0u8; 8];
            core.runtime.fill(&mut dice);
            inner.trouble = Some(error);
            // Tried again until the deadline: one lost answer must not lose a lock.
            let pause = backoff::pause(inner.failures, u64::from_le_bytes(dice));
            Next::At(now + backoff::before(end.since(now), pause))
        }
    }
}
