//! How a claim gets its votes: one round of requests to the servers.
//!
//! Usually all servers are asked at once, so a free lock costs one round trip. If several claims do that at the same time, the
//! votes may be split and nobody wins. A lock whose votes were split lately is asked for in two steps: first at the arbiter,
//! one server that is the same for all clients, and at the others only if that votes for the claim. The arbiter is no
//! authority: if it is silent, or now and then by lot, all are asked.

use std::sync::Arc;
use std::time::Duration;

use super::fan::{Fan, Heard};
use super::format::{hex, micros, number, token};
use super::known::Round;
use super::store::{FIRST, Redlock, Said, returned};
use super::troubles::Troubles;
use crate::backend::redis::member::{Member, Script, note};
use crate::backend::{Call, Claim};
use crate::core::moment::Moment;
use crate::core::quorum::{Ballot, Step, Vote, proposal};
use crate::error::{Error, Result};
use crate::token::Token;

/// The pause between two attempts at a lock that somebody else holds.
const HELD: Duration = Duration::from_millis(25);
/// The pause after votes that were split.
const SPLIT: Duration = Duration::from_millis(4);
/// How long a client waits for servers that do not answer, at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// One in so many rounds at a lock that many want asks all servers at once.
const LOT: u64 = 4;

/// How a round went.
pub(super) enum Came {
    /// The claim holds.
    Granted(Token),
    /// Not granted; after how long another round is worth a try.
    Lost(Duration),
    /// The claim was withdrawn; or evicted, and why.
    Gone(Option<String>),
}

/// A round under way.
struct Running<'a> {
    store: &'a Arc<Redlock>,
    claim: &'a Claim,
    call: Call,
    round: &'a Round<'a>,
    ballot: Ballot,
    troubles: Troubles,
    fan: Fan<Said>,
    /// Requests for votes that nobody has answered, after the second question was sent.
    rest: Fan<Said>,
    asked: Vec<bool>,
    /// Which were asked, and failed to answer.
    failed: Vec<bool>,
    /// When it stops waiting.
    until: Moment,
    promoting: bool,
    won: bool,
}

impl Redlock {
    /// One round of a claim.
    pub(super) async fn ballot(
        self: &Arc<Self>,
        claim: &Claim,
        round: &Round<'_>,
        call: Call,
    ) -> Result<Came> {
        let sent = self.runtime.now();
        let asked = proposal(None, self.runtime.wall_us()).ok_or_else(exhausted)?;
        let mut running = Running {
            store: self,
            claim,
            call,
            round,
            ballot: Ballot::new(self.quorum, asked, sent, claim.ttl),
            troubles: Troubles::default(),
            fan: Fan::none(),
            rest: Fan::none(),
            asked: vec![false; self.members.len()],
            failed: vec![false; self.members.len()],
            until: (sent + PATIENCE.min(claim.ttl / 4)).min(call.until),
            promoting: false,
            won: false,
        };
        for server in (0..self.members.len()).filter(|n| !self.votes(*n, sent)) {
            running.ballot.hear(server, Vote::Abstained);
            running.troubles.away(self, server, sent);
        }
        // What does not wait asks all: a release returns when a majority has it, and the first server may hear of it last.
        let crowded = claim.stand && self.known().is_crowded(&claim.key, sent);
        let came = match crowded.then(|| self.in_order(sent).into_iter().next()).flatten() {
            Some(first) if !round.number.is_multiple_of(LOT) => running.in_two_steps(first, sent).await,
            _ => {
                running.ask(|_| true, sent);
                running.decide().await
            }
        };
        running.won = matches!(came, Ok(Came::Granted(_)));
        came
    }
}

impl Running<'_> {
    /// Asks those servers that vote and were not asked yet.
    fn ask(&mut self, which: impl Fn(usize) -> bool, sent: Moment) {
        let (store, claim, number_) = (self.store, self.claim, number(self.round.number));
        let proposed = token(Some(self.ballot.proposal()));
        let words = |member: &Member| {
            let birth = member.moment(claim.birth);
            vec![hex(claim.id), number_.clone(), micros(claim.ttl), proposed.clone(), note(claim), birth]
        };
        let fresh: Vec<bool> = (0..self.asked.len())
            .map(|n| !self.asked[n] && which(n) && store.votes(n, sent) && self.ballot.vote(n).is_none())
            .collect();
        self.fan.add(store.ask(self.call.errand, Script::VoteAcquire, &claim.key, words, |n| fresh[n]));
        self.asked.iter_mut().zip(fresh).for_each(|(asked, fresh)| *asked |= fresh);
    }

    /// First at one server; at the others if it votes for the claim, or is silent.
    async fn in_two_steps(&mut self, first: usize, sent: Moment) -> Result<Came> {
        self.ask(|n| n == first, sent);
        let until = self.until.min(sent + FIRST);
        if let Heard::Answer(server, said) = self.fan.next(&*self.store.runtime, until).await {
            let vote = self.hear_vote(server, said);
            if let Vote::Denied { left, .. } = vote {
                self.store.known().crowds(&self.claim.key, sent);
                return Ok(Came::Lost(left.clamp(SPLIT, HELD)));
            }
            if let Some(why) = self.troubles.gone.take() {
                return Ok(Came::Gone(why));
            }
        }
        self.ask(|_| true, sent);
        self.decide().await
    }

    /// Hears the servers until they have decided.
    async fn decide(&mut self) -> Result<Came> {
        let (store, mut late) = (self.store, false);
        loop {
            let now = store.runtime.now();
            match self.ballot.decide(now, late) {
                Step::Wait => late = !self.hear().await,
                Step::Promote { token: greater, to } => {
                    let number_ = number(self.round.number);
                    let words = |_: &Member| vec![hex(self.claim.id), number_.clone(), token(Some(greater))];
                    let key = &self.claim.key;
                    let asked =
                        store.ask(self.call.errand, Script::VotePromote, key, words, |n| to.contains(&n));
                    self.rest.add(std::mem::replace(&mut self.fan, asked));
                    self.until = (now + PATIENCE.min(self.claim.ttl / 4)).min(self.call.until);
                    self.promoting = true;
                }
                Step::Granted { token: granted } if self.round.won(granted) => {
                    self.spread(granted);
                    return Ok(Came::Granted(granted));
                }
                Step::Granted { .. } => return self.void(),
                Step::GiveUp { .. } if self.troubles.gone.is_some() => {
                    return Ok(Came::Gone(self.troubles.gone.take().flatten()));
                }
                Step::GiveUp { look_again } => return self.lost(look_again),
                Step::Exhausted => return Err(exhausted()),
            }
            if !self.round.counts() {
                return self.void();
            }
        }
    }

    /// The round no longer counts: the claim was withdrawn, or has asked again.
    fn void(&self) -> Result<Came> {
        match self.round.is_last() {
            true => Ok(Came::Gone(None)),
            false => Err(Error::uncertain("the claim asked again meanwhile", "see what became of that")),
        }
    }

    /// Hears one answer. False: there is none in time.
    async fn hear(&mut self) -> bool {
        let store = self.store;
        match self.fan.next(&*store.runtime, self.until).await {
            Heard::Late => return false,
            Heard::Answer(server, said) if self.promoting => {
                if let Some(yes) = self.troubles.yes(store, server, said) {
                    self.ballot.hear_promotion(server, yes);
                }
            }
            Heard::Answer(server, said) => _ = self.hear_vote(server, said),
        }
        true
    }

    fn hear_vote(&mut self, server: usize, said: Said) -> Vote {
        self.failed[server] = said.is_err();
        let vote = self.troubles.vote(self.store, server, said);
        self.ballot.hear(server, vote);
        vote
    }

    /// Tells of a grant, in the background: servers that have answered without accepting its token, and those that answer
    /// late.
    fn spread(&mut self, token_: Token) {
        let answered = |n: usize| self.ballot.vote(n).is_some_and(|vote| vote != Vote::Abstained);
        let unaware: Vec<usize> = self.ballot.unaware().into_iter().filter(|n| answered(*n)).collect();
        let words = vec![hex(self.claim.id), token(Some(token_))];
        let (store, key) = (self.store, &self.claim.key);
        store.tell(self.call.errand, Script::VoteFloor, key, words, |n| unaware.contains(&n));
        store.hear_rest(self.take_rest(), self.claim, self.round.number, Some(token_));
    }

    /// Requests for votes that are under way.
    fn take_rest(&mut self) -> Fan<Said> {
        let waiting = if self.promoting { &mut self.rest } else { &mut self.fan };
        std::mem::replace(waiting, Fan::none())
    }

    fn lost(&mut self, look_again: Option<Duration>) -> Result<Came> {
        let store = self.store;
        let here = store.members.len() - self.troubles.count().min(store.members.len());
        if here < store.quorum.needed() {
            return Err(std::mem::take(&mut self.troubles).error(store, here));
        }
        store.known().crowds(&self.claim.key, store.runtime.now());
        Ok(Came::Lost(look_again.map_or(SPLIT, |left| left.clamp(SPLIT, HELD))))
    }
}

/// A round that comes to nothing, or is dropped, gives its votes back: those that it heard of now, the others when it hears
/// of them. A server that has voted for another claim has nothing of this one.
impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.won {
            return;
        }
        let (store, round) = (self.store, self.round.number);
        let voted = |n: usize| {
            matches!(self.ballot.vote(n), Some(Vote::Accepted | Vote::Locked { .. })) || self.failed[n]
        };
        let words = returned(self.claim.id, round);
        store.tell(self.call.errand, Script::VoteRelease, &self.claim.key, words, voted);
        store.hear_rest(self.take_rest(), self.claim, round, None);
    }
}

fn exhausted() -> Error {
    Error::protocol(
        "no token can follow the last one of a server",
        "find out who changed the data of the servers",
    )
}
