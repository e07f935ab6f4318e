//! A client of several servers of which a quorum decides: what a driver of such a store does, by the product's own [`Ballot`]
//! and [`Poll`]. Each question to each server is a message of its own.
//!
//! Of one claim one round counts at a time: whatever an earlier one still hears of comes to nothing. A claim that was granted
//! and asks again has its votes extended. A new round of it, given up, would release the votes that its hold rests on.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll as Ready;
use std::time::Duration;

use tenure::backend::{Answer, BoxFuture, Claim, ClaimId, Grant, Lease, Leave, Previous, Released, Standing};
use tenure::core::lease::deadline;
use tenure::core::moment::{Moment, nanos};
use tenure::core::quorum::{Ballot, Poll, Quorum, Step, Tally, Vote, proposal};
use tenure::runtime::Runtime;
use tenure::{Error, Result, Token};

use super::locks::lock_of;
use super::machine::Machine;
use super::message::{Matter, Question, Said, Serving, Verb};
use super::net::{broken, send};
use super::polling::PACE;
use super::tally::{lasts, quorum};
use super::world::locked;

/// What such a driver keeps.
#[derive(Debug)]
pub(super) struct Voting {
    machine: Arc<Machine>,
    quorum: Quorum,
    sides: Mutex<HashMap<u128, Side>>,
    /// The greatest floor that was heard of each lock.
    heard: Mutex<HashMap<usize, Token>>,
}

/// Of one claim.
#[derive(Debug, Default)]
struct Side {
    round: u64,
    granted: Option<(Token, Moment)>,
    /// The answers to its release, and whether servers were asked for it before.
    leaving: Option<Poll>,
    asked: bool,
    /// Whether a quorum voted for it when its release was first asked for, as the judge sees it.
    ours: bool,
}

/// Questions that are on their way.
struct Calls(Vec<(usize, BoxFuture<'static, Option<Said>>)>);

impl Calls {
    /// The next answer. `None`: there is none until `until`, or nobody is asked any more.
    async fn next(&mut self, machine: &Machine, until: Moment) -> Option<(usize, Said)> {
        let mut timer = pin!(machine.sleep_until(until));
        poll_fn(|cx| {
            for n in 0..self.0.len() {
                let (server, call) = &mut self.0[n];
                if let Ready::Ready(said) = call.as_mut().poll(cx) {
                    let server = *server;
                    drop(self.0.swap_remove(n));
                    return Ready::Ready(Some((server, said.unwrap_or(Said::Nothing))));
                }
            }
            if self.0.is_empty() { Ready::Ready(None) } else { timer.as_mut().poll(cx).map(|()| None) }
        })
        .await
    }
}

impl Voting {
    pub(super) fn new(machine: &Arc<Machine>) -> Voting {
        let quorum = quorum(machine.world());
        Voting { machine: machine.clone(), quorum, sides: Mutex::default(), heard: Mutex::default() }
    }

    /// Does what is asked, and says what came of it.
    pub(super) async fn ask(&self, verb: &Verb) -> Said {
        let sent = self.machine.clock_now();
        let said = match verb {
            Verb::Attempt(claim, _) => Said::Answer(self.stand(claim, verb).await),
            Verb::Renew(claims) => {
                let Some(claim) = claims.first() else { return Said::Answers(Vec::new()) };
                Said::Answers(vec![self.renew(claim, verb).await])
            }
            Verb::Release(claim, leave, _) => {
                let released = self.leave(claim, verb).await;
                if released.is_ok() {
                    locked(&self.sides).remove(&claim.id.0);
                    locked(&self.machine.world().judge).withdrawn(claim.id, *leave);
                }
                Said::Released(released)
            }
            _ => Said::Answer(Err(Error::unsupported("a quorum does not do that", ""))),
        };
        let mut judge = locked(&self.machine.world().judge);
        match (verb, &said) {
            (Verb::Attempt(claim, _), Said::Answer(Ok(answer))) => judge.hears(claim.id, sent, answer),
            (Verb::Renew(claims), Said::Answers(answers)) => {
                for (claim, answer) in claims.iter().zip(answers.iter().flatten()) {
                    judge.hears(claim.id, sent, answer);
                }
            }
            _ => {}
        }
        said
    }

    /// For how long a server's answer is awaited: longer than both ways usually take.
    fn patience(&self) -> Duration {
        Duration::from_nanos(3 * self.machine.world().latency)
    }

    fn send(&self, to: impl IntoIterator<Item = usize>, claim: &Claim, what: Matter, call: &Verb) -> Calls {
        let asked = Question { key: claim.key.clone(), claim: claim.id, what, call: call.clone() };
        let one = |server| (server, send(&self.machine, server, Verb::Vote(Box::new(asked.clone()))));
        Calls(to.into_iter().map(one).collect())
    }

    fn all(&self) -> std::ops::Range<usize> {
        0..self.quorum.servers()
    }

    /// As the judge hears of what was decided now, of what left at `left`.
    fn serving(&self, left: u64) -> Serving {
        let t = self.machine.world().now();
        Serving { t, left, now: t, shown: t, machine: self.machine.number }
    }

    /// Tries once.
    async fn stand(&self, claim: &Claim, verb: &Verb) -> Result<Answer> {
        let granted = locked(&self.sides).get(&claim.id.0).and_then(|side| side.granted);
        if let Some((token, until)) = granted
            && self.machine.now() < until
        {
            return self.extend(claim, token, verb).await;
        }
        let left = self.machine.world().now();
        let round = {
            let mut sides = locked(&self.sides);
            let side = sides.entry(claim.id.0).or_default();
            (side.round, side.granted) = (side.round + 1, None);
            side.round
        };
        // Whatever an earlier round was granted is void.
        locked(&self.machine.world().judge).ended(claim.id, left);
        let (sent, lock) = (self.machine.now(), lock_of(&claim.key));
        let heard = locked(&self.heard).get(&lock).copied();
        let Some(token) = proposal(heard, self.machine.wall_us()) else { return Err(exhausted()) };
        let mut ballot = Ballot::new(self.quorum, token, sent, claim.ttl);
        let ask = Matter::Acquire { round, ttl: nanos(claim.ttl), token };
        let mut calls = self.send(self.all(), claim, ask, verb);
        let mut until = (sent + self.patience()).min(ballot.deadline());
        loop {
            let heard = calls.next(&self.machine, until).await;
            if !self.counts(claim.id, round) {
                return Err(Error::uncertain("the claim was withdrawn, or asked again meanwhile", ""));
            }
            let late = heard.is_none();
            match heard {
                Some((server, Said::Vote(vote))) => ballot.hear(server, vote),
                Some((server, Said::Yes(yes))) => ballot.hear_promotion(server, yes),
                Some((server, _)) if ballot.promoted().is_none() => ballot.hear(server, Vote::Abstained),
                _ => {}
            }
            match self.decide(&mut ballot, late) {
                Step::Wait => {}
                Step::Granted { token } => {
                    // Nobody waits for that.
                    drop(self.send(ballot.unaware(), claim, Matter::Floor { token }, verb));
                    return Ok(self.granted(claim, token, ballot.deadline(), left));
                }
                Step::Promote { token, to } => {
                    calls.0.extend(self.send(to, claim, Matter::Promote { round, token }, verb).0);
                    until = (self.machine.now() + self.patience()).min(ballot.deadline());
                }
                Step::GiveUp { look_again } => return self.give_up(claim, &ballot, look_again, verb),
                Step::Exhausted => {
                    drop(self.send(self.all(), claim, Matter::Release { round }, verb));
                    return Err(exhausted());
                }
            }
        }
    }

    /// What a ballot comes to, or a mutant makes of it.
    fn decide(&self, ballot: &mut Ballot, late: bool) -> Step {
        let (now, servers) = (self.machine.now(), self.quorum.servers());
        let accepted = self.all().filter(|server| ballot.vote(*server) == Some(Vote::Accepted)).count();
        let mutant = self.machine.world().mutant.as_ref();
        if mutant.is_some_and(|mutant| mutant.enough(accepted, servers)) && now < ballot.deadline() {
            return Step::Granted { token: ballot.proposal() };
        }
        ballot.decide(now, late)
    }

    /// Whether a round of a claim is the one that counts.
    fn counts(&self, id: ClaimId, round: u64) -> bool {
        let goes_on = self.machine.goes_on(id.0);
        goes_on && locked(&self.sides).get(&id.0).is_none_or(|side| side.round == round)
    }

    fn granted(&self, claim: &Claim, token: Token, until: Moment, left: u64) -> Answer {
        let mut sides = locked(&self.sides);
        sides.entry(claim.id.0).or_default().granted = Some((token, until));
        drop(sides);
        let world = self.machine.world();
        let end = lasts(world, lock_of(&claim.key), claim.id);
        let serving = self.serving(left);
        locked(&world.judge).attempted(serving, claim, &Ok(held(token, nanos_left(end, serving.t))));
        held(token, claim.ttl)
    }

    /// Nothing came of a round. Its votes go back, also those that nobody knows of.
    fn give_up(
        &self,
        claim: &Claim,
        ballot: &Ballot,
        look_again: Option<Duration>,
        verb: &Verb,
    ) -> Result<Answer> {
        let (lock, world) = (lock_of(&claim.key), self.machine.world());
        if let Some(floor) = ballot.floor() {
            let mut heard = locked(&self.heard);
            let known = heard.entry(lock).or_insert(floor);
            *known = floor.max(*known);
        }
        let round = locked(&self.sides).get(&claim.id.0).map_or(u64::MAX, |side| side.round);
        if world.mutant.as_ref().is_none_or(|mutant| mutant.gives_votes_back()) {
            drop(self.send(self.all(), claim, Matter::Release { round }, verb));
        }
        let answers = |server: &usize| ballot.vote(*server).is_some_and(|vote| vote != Vote::Abstained);
        if self.all().filter(answers).count() < self.quorum.needed() {
            return Err(Error::unavailable("too few servers vote", ""));
        }
        let pause = look_again.unwrap_or_default().clamp(Duration::from_millis(10), PACE);
        let standing = match claim.stand {
            true => Standing::Waiting { place: None, ahead: None, look_again: pause },
            false => Standing::Busy,
        };
        Ok(Answer { standing, at: None })
    }

    async fn renew(&self, claim: &Claim, verb: &Verb) -> Result<Answer> {
        let granted = locked(&self.sides).get(&claim.id.0).and_then(|side| side.granted);
        match granted {
            Some((token, _)) => self.extend(claim, token, verb).await,
            None => Ok(gone()),
        }
    }

    /// Votes that a claim has are to last longer.
    async fn extend(&self, claim: &Claim, token: Token, verb: &Verb) -> Result<Answer> {
        let (world, sent) = (self.machine.world(), self.machine.now());
        let (left, end) = (world.now(), deadline(sent, claim.ttl));
        let mut poll = Poll::new(self.quorum);
        let mut calls = self.send(self.all(), claim, Matter::Extend { token, ttl: nanos(claim.ttl) }, verb);
        let until = (sent + self.patience()).min(end);
        loop {
            let heard = calls.next(&self.machine, until).await;
            let still = locked(&self.sides).get(&claim.id.0).and_then(|side| side.granted);
            let ours = still.is_some_and(|(of, _)| of == token) && self.machine.goes_on(claim.id.0);
            if !ours || self.machine.now() >= end {
                return Err(Error::uncertain("the claim ended meanwhile", ""));
            }
            let late = heard.is_none();
            if let Some((server, Said::Yes(yes))) = heard {
                poll.hear(server, yes);
            }
            match poll.tally() {
                Tally::Open if late => return Err(broken()),
                Tally::Open => {}
                Tally::Decided => {
                    if let Some(side) = locked(&self.sides).get_mut(&claim.id.0) {
                        side.granted = still.map(|(of, until)| (of, until.max(end)));
                    }
                    let (serving, lasts) = (self.serving(left), lasts(world, lock_of(&claim.key), claim.id));
                    let mut judge = locked(&world.judge);
                    // Served in time, it may be decided after the lease before it ended.
                    judge.lasts(claim.id, lasts);
                    judge.renewed(serving, claim, &Ok(held(token, nanos_left(lasts, serving.t))));
                    return Ok(held(token, claim.ttl));
                }
                Tally::Failed => {
                    if let Some(side) = locked(&self.sides).get_mut(&claim.id.0) {
                        side.granted = None;
                    }
                    locked(&world.judge).renewed(self.serving(left), claim, &Ok(gone()));
                    return Ok(gone());
                }
            }
        }
    }

    /// Ends a hold, or what is under way for one.
    async fn leave(&self, claim: &Claim, verb: &Verb) -> Result<Released> {
        let world = self.machine.world();
        let left = world.now();
        self.machine.withdraw(claim.id);
        let held = lasts(world, lock_of(&claim.key), claim.id) > left;
        let again = {
            let mut sides = locked(&self.sides);
            let side = sides.entry(claim.id.0).or_default();
            let again = std::mem::replace(&mut side.asked, true);
            side.ours = if again { side.ours } else { held && side.granted.is_some() };
            again
        };
        let mut calls = self.send(self.all(), claim, Matter::Release { round: u64::MAX }, verb);
        let until = self.machine.now() + self.patience();
        let mut answers = 0;
        loop {
            let heard = calls.next(&self.machine, until).await;
            let late = heard.is_none();
            let mut sides = locked(&self.sides);
            let side = sides.entry(claim.id.0).or_default();
            let poll = side.leaving.get_or_insert_with(|| Poll::new(self.quorum));
            if let Some((server, Said::Yes(yes))) = heard {
                answers += 1;
                // Asked before, it may have let go then: a no proves nothing.
                if yes || !again {
                    poll.hear(server, yes);
                }
            }
            let (told, released) = match poll.tally() {
                Tally::Decided => (Released::WasHeld, Released::WasHeld),
                Tally::Failed => (Released::Gone, Released::Gone),
                // A quorum has nothing of it now. It was ours if it was when it was first asked for.
                Tally::Open if late && answers >= self.quorum.needed() => {
                    (Released::Gone, if side.ours { Released::WasHeld } else { Released::Gone })
                }
                Tally::Open if late => return Err(broken()),
                Tally::Open => continue,
            };
            drop(sides);
            let serving = self.serving(left);
            locked(&world.judge).released(serving, claim, Leave::Nothing, &Ok(released));
            return Ok(told);
        }
    }
}

fn nanos_left(end: u64, t: u64) -> Duration {
    Duration::from_nanos(end.saturating_sub(t))
}

fn held(token: Token, lease: Duration) -> Answer {
    let grant = Grant { token: Some(token), lease: Lease::For(lease), previous: Previous::Unknown };
    Answer { standing: Standing::Held(grant), at: None }
}

fn gone() -> Answer {
    Answer { standing: Standing::Gone { why: None }, at: None }
}

fn exhausted() -> Error {
    Error::unavailable("there is no token left", "")
}
