//! A client of a store whose holds end with sessions: what a driver of such a store does.
//!
//! An answered ping proves nothing by itself: whoever answered may be cut off from the server that ends sessions. It counts
//! once something that only a connected server answers was asked at least a tick after the ping's answer, and answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure::backend::{Answer, Claim, Grant, Lease, Leave, News, Released, Standing};
use tenure::core::moment::Moment;
use tenure::runtime::Runtime;
use tenure::{Error, Result};

use super::machine::Machine;
use super::message::{Ask, Asked, Said, Verb, each};
use super::net::{broken, send};
use super::sessions::{Sessions, left};
use super::world::locked;

/// What such a driver keeps.
#[derive(Debug)]
pub(super) struct Pinging {
    machine: Arc<Machine>,
    state: Mutex<State>,
    /// One at a time opens a session.
    opening: tokio::sync::Mutex<()>,
    number: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Open>,
    /// The last one that was opened: the next one ends it.
    last: u64,
    /// In which session each claim was asked for.
    claims: HashMap<u128, u64>,
    /// What was granted, for a mutant.
    granted: HashMap<u128, Grant>,
}

#[derive(Debug)]
struct Open {
    session: u64,
    /// The session lasts for its timeout from then on at least.
    proved: Moment,
    /// When pings were sent and answered that may not have been counted yet.
    pings: Vec<(Moment, Moment)>,
    /// The request for the next session is under way and ends this one: whatever is proved from now on is worth nothing.
    ending: bool,
}

impl Pinging {
    pub(super) fn new(machine: &Arc<Machine>) -> Pinging {
        let (state, opening, number) = (Mutex::default(), tokio::sync::Mutex::new(()), AtomicU64::new(0));
        Pinging { machine: machine.clone(), state, opening, number }
    }

    fn timeout(&self) -> u64 {
        self.machine.world().session
    }

    fn send(&self, session: u64, what: Ask) -> tenure::backend::BoxFuture<'static, Option<Said>> {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        send(&self.machine, 0, Verb::Session(Box::new(Asked { session, number, what })))
    }

    /// Does what is asked, and says what came of it.
    pub(super) async fn ask(self: &Arc<Pinging>, verb: &Verb) -> Said {
        let sent = self.machine.now();
        let mut said = match verb {
            Verb::Attempt(claim, _) => Said::Answer(self.stand(claim).await),
            Verb::Renew(claims) => Said::Answers(self.look(claims).await),
            Verb::Release(claim, ..) => Said::Released(self.leave(claim).await),
            Verb::Evict(key, token) => {
                Said::Released(match self.send(0, Ask::Evict(key.clone(), *token)).await {
                    Some(Said::Released(released)) => released,
                    _ => Err(broken()),
                })
            }
            _ => Said::Answer(Err(Error::unsupported("a hold ends with its session", ""))),
        };
        let age = locked(&self.state).open.as_ref().map_or(Duration::MAX, |open| sent.since(open.proved));
        let lease = Lease::For(left(self.timeout(), age));
        each(&mut said, |answer| match &mut answer.standing {
            Standing::Held(grant) => grant.lease = lease,
            Standing::Waiting { place, .. } => *place = Some(lease),
            _ => {}
        });
        self.told(verb, sent, &said);
        said
    }

    fn told(&self, verb: &Verb, sent: Moment, said: &Said) {
        let mut judge = locked(&self.machine.world().judge);
        let mut hears = |claim: &Claim, answer: &Answer| {
            if let Standing::Held(grant) = answer.standing {
                locked(&self.state).granted.insert(claim.id.0, grant);
            }
            judge.hears(claim.id, sent, answer);
        };
        match (verb, said) {
            (Verb::Attempt(claim, _), Said::Answer(Ok(answer))) => hears(claim, answer),
            (Verb::Renew(claims), Said::Answers(answers)) => {
                claims.iter().zip(answers.iter().flatten()).for_each(|(claim, answer)| hears(claim, answer));
            }
            (Verb::Release(claim, ..), Said::Released(Ok(_))) => judge.withdrawn(claim.id, Leave::Nothing),
            _ => {}
        }
    }

    /// A session that lasts, opened if there is none.
    async fn session(&self) -> Result<u64> {
        if let Some(session) = self.usable() {
            return Ok(session);
        }
        let _one = self.opening.lock().await;
        if let Some(session) = self.usable() {
            return Ok(session);
        }
        let sent = self.machine.now();
        let last = {
            let mut state = locked(&self.state);
            state.open.iter_mut().for_each(|open| open.ending = true);
            state.last
        };
        let session = match self.send(last, Ask::Open).await {
            Some(Said::Session(session)) => session,
            Some(Said::Refused) => return Err(Error::unavailable("the server is out of memory", "")),
            _ => return Err(broken()),
        };
        let mut state = locked(&self.state);
        state.open = Some(Open { session, proved: sent, pings: Vec::new(), ending: false });
        state.last = session;
        drop(state);
        self.lost(|of| of != session);
        Ok(session)
    }

    /// The session, if it is not over, and not old while nothing needs it.
    fn usable(&self) -> Option<u64> {
        let state = locked(&self.state);
        let open = state.open.as_ref().filter(|open| !open.ending)?;
        let idle = state.claims.keys().all(|id| self.machine.lost(*id));
        let most = if idle { self.timeout() / 4 } else { self.timeout() };
        (!left(most, self.machine.now().since(open.proved)).is_zero()).then_some(open.session)
    }

    /// What was asked for in these sessions is gone with them.
    fn lost(&self, over: impl Fn(u64) -> bool) {
        let gone: Vec<u128> = {
            let mut state = locked(&self.state);
            let mut gone: Vec<u128> =
                state.claims.iter().filter(|(_, of)| over(**of)).map(|(id, _)| *id).collect();
            gone.sort_unstable();
            state.claims.retain(|_, of| !over(*of));
            if state.open.as_ref().is_some_and(|open| over(open.session)) {
                state.open = None;
            }
            gone
        };
        for id in gone {
            self.machine.told(News::Gone(tenure::backend::ClaimId(id), None));
        }
    }

    async fn stand(&self, claim: &Claim) -> Result<Answer> {
        loop {
            let session = self.session().await?;
            if !self.machine.goes_on(claim.id.0) {
                return Err(Error::uncertain("the claim was withdrawn meanwhile", ""));
            }
            locked(&self.state).claims.insert(claim.id.0, session);
            match self.send(session, Ask::Stand(Box::new(claim.clone()))).await {
                Some(Said::Answer(answer)) => {
                    let left = matches!(&answer, Ok(a) if matches!(a.standing, Standing::Busy | Standing::Gone { .. }));
                    if left {
                        locked(&self.state).claims.remove(&claim.id.0);
                    }
                    return answer;
                }
                Some(Said::NoSession) => {
                    // Asked once more, this claim must not hear that it is gone.
                    locked(&self.state).claims.remove(&claim.id.0);
                    self.lost(|of| of == session);
                }
                Some(Said::Refused) => return Err(Error::unavailable("the server is out of memory", "")),
                _ => return Err(broken()),
            }
        }
    }

    async fn look(self: &Arc<Pinging>, claims: &[Claim]) -> Vec<Result<Answer>> {
        let sent = self.machine.now();
        let gone = || Ok(Answer { standing: Standing::Gone { why: None }, at: None });
        let session = locked(&self.state).open.as_ref().map(|open| open.session);
        let Some(session) = session else { return claims.iter().map(|_| gone()).collect() };
        if let Some(answers) = self.trust(session, sent, claims).await {
            return answers;
        }
        self.ping(session, sent);
        match self.send(session, Ask::Look(claims.to_vec())).await {
            Some(Said::Answers(answers)) => {
                self.prove(session, sent);
                let mut state = locked(&self.state);
                for (claim, answer) in claims.iter().zip(answers.iter().flatten()) {
                    if matches!(answer.standing, Standing::Gone { .. }) {
                        state.claims.remove(&claim.id.0);
                    }
                }
                answers
            }
            Some(Said::NoSession) => {
                self.lost(|of| of == session);
                claims.iter().map(|_| gone()).collect()
            }
            _ => claims.iter().map(|_| Err(broken())).collect(),
        }
    }

    /// A mutant asks for no more than a ping, where it was granted all before.
    async fn trust(&self, session: u64, sent: Moment, claims: &[Claim]) -> Option<Vec<Result<Answer>>> {
        self.machine.world().mutant.as_ref().filter(|mutant| mutant.trusts_pings())?;
        let known = |claim: &Claim| locked(&self.state).granted.get(&claim.id.0).copied();
        let granted: Option<Vec<Grant>> = claims.iter().map(known).collect();
        let granted = granted?;
        match self.send(session, Ask::Ping).await {
            Some(Said::Session(_)) => {}
            _ => return Some(claims.iter().map(|_| Err(broken())).collect()),
        }
        if let Some(open) = locked(&self.state).open.as_mut().filter(|open| open.session == session) {
            open.proved = open.proved.max(sent);
        }
        Some(granted.into_iter().map(|g| Ok(Answer { standing: Standing::Held(g), at: None })).collect())
    }

    fn ping(self: &Arc<Pinging>, session: u64, sent: Moment) {
        let (me, asked) = (self.clone(), self.send(session, Ask::Ping));
        self.machine.spawn(Box::pin(async move {
            let Some(Said::Session(_)) = asked.await else { return };
            let answered = me.machine.now();
            let mut state = locked(&me.state);
            let Some(open) = state.open.as_mut().filter(|open| open.session == session) else { return };
            open.pings.push((sent, answered));
        }));
    }

    /// Something that was asked at `sent` was answered: what was pinged a tick before that has been counted.
    fn prove(&self, session: u64, sent: Moment) {
        let tick = Duration::from_nanos(Sessions::tick(self.timeout()));
        let mut state = locked(&self.state);
        let lasts = |open: &&mut Open| open.session == session && !open.ending;
        let Some(open) = state.open.as_mut().filter(lasts) else { return };
        let counted = open.pings.iter().filter(|(_, answered)| *answered + tick <= sent);
        open.proved = counted.map(|(pinged, _)| *pinged).fold(open.proved, Moment::max);
        open.pings.retain(|(_, answered)| *answered + tick > sent);
    }

    async fn leave(&self, claim: &Claim) -> Result<Released> {
        self.machine.withdraw(claim.id);
        let session = {
            let state = locked(&self.state);
            let open = state.open.as_ref().map(|open| open.session);
            state.claims.get(&claim.id.0).copied().filter(|of| open == Some(*of))
        };
        // Asked for in a session that is over, or not at all: nothing of it can come any more.
        let Some(session) = session else { return Ok(Released::Gone) };
        match self.send(session, Ask::Leave(Box::new(claim.clone()))).await {
            Some(Said::Released(released)) => {
                locked(&self.state).claims.remove(&claim.id.0);
                released
            }
            Some(Said::NoSession) => {
                locked(&self.state).claims.remove(&claim.id.0);
                self.lost(|of| of == session);
                Ok(Released::Gone)
            }
            Some(Said::Refused) => Err(Error::unavailable("the server is out of memory", "")),
            _ => Err(broken()),
        }
    }
}
