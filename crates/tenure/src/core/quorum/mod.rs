//! One lock on several independent servers: a claim holds when a quorum of them says so. This is Redlock with fencing
//! tokens ("Redlock-F"): classic Redlock gives none, and a counter per server cannot be made into one.
//!
//! This module is the client's half: [`Ballot`] decides about one try to acquire, [`Poll`] about everything that is asked
//! afterwards. The servers' half is a script per verb. The model check in the lab runs both, and refutes what is simpler.
//!
//! # What a server keeps
//!
//! Per lock a vote `L`, which expires: the claim that has this server, the claim's round, the floor at the time of the vote,
//! and the token that the server accepted with it, if any. And `F`, which does not expire: the greatest token that the server ever accepted. Its
//! *floor* is `max(F, its own time in µs - FLOOR_LAG)`.
//!
//! ```text
//! ACQUIRE(claim, round, ttl, p)  L is another claim's, or a later round of this claim: Denied, with the floor and what is
//!                                left of L. Else L := (claim, round, floor) for ttl, and it keeps its token if it was this
//!                                round's.
//!                                If p > floor: L.token := F := p, Accepted. If L.token = p: Accepted, the same request
//!                                came before. Else Locked, with the floor.
//!                                A p more than PROPOSAL_MAX_AHEAD ahead of the server's time is never accepted.
//! PROMOTE(claim, round, t)       If L = (claim, round), and t > max(F, L.floor) or L.token = t: L.token := F := t, yes. Else
//!                                no. Not the floor of now: it moves with the clock, away from a client whose own is behind.
//! EXTEND(claim, t, ttl)          If L is the claim's and F <= t: L for ttl from now, F := t, yes. Else no.
//!                                Compares F, not the floor: the floor would refuse every long hold.
//! RELEASE(claim, rounds <= r)    If L is the claim's and its round is at most r: delete L. F stays.
//! FLOOR(t)                       F := max(F, t). No vote: sent after a grant to servers that did not accept its token.
//! ```
//!
//! That a repeated request is recognised by `L.token`, and not by `F = p`, matters: two claims that heard of the same floor
//! propose the same token, and the second one must not be accepted because it has the vote and asks twice.
//!
//! # The rules
//!
//! - **Two quorums share a server**, so at least one server sees both grants. It accepts strictly growing tokens, so no
//!   two grants share a token, and a grant that begins after another has the greater one. Clocks play no part in this.
//! - **A ballot's votes are its own.** A claim that asks again starts a new round with a new ballot. Votes of an earlier
//!   round do not count: their leases began earlier.
//! - **Every try that fails is released on all servers**, also on those that did not answer. Otherwise everybody waits for
//!   its lease. The release names the round, so that a late one cannot take a vote from the claim's next round.
//! - **Believed in until** `sent + ttl`, less the margins of [`lease::deadline`], where `sent` is before the first request
//!   of the round. A grant decided later than that is none.
//! - **Renewal needs a quorum of `EXTEND`**, and nothing is revived.
//! - **A server that lost its memory does not vote** until its [`quarantine`] is over: until then the votes that it forgot
//!   may still be believed in, and its floor may be lower than a token that it accepted.
//!
//! Withdrawal is final without marks: a late `ACQUIRE` of a withdrawn claim takes single servers for a ttl, and nobody
//! counts them.

use std::time::Duration;

use crate::core::lease;
use crate::core::moment::Moment;
use crate::token::Token;

mod poll;
#[cfg(test)]
mod tests;

pub use poll::{Poll, Tally};

/// By how much a server's floor lags behind its clock. Client clocks that differ by less cost no second round trip.
pub const FLOOR_LAG: Duration = Duration::from_secs(1);
/// By how much a client's clock may be ahead of the servers', if a server that lost its memory is to keep tokens in order.
pub const CLOCK_ERROR: Duration = Duration::from_secs(1);
/// A proposal further ahead of a server's clock is refused: an absurd clock must not use up the tokens.
pub const PROPOSAL_MAX_AHEAD: Duration = Duration::from_secs(600);

/// How long a server that lost its memory does not vote, counted by its uptime, which has a grain of a second.
#[must_use]
pub fn quarantine(longest_ttl: Duration) -> Duration {
    longest_ttl.max(FLOOR_LAG + CLOCK_ERROR) + Duration::from_secs(1)
}

/// The token to propose in the next round: greater than every floor that was heard of, and at least the wall clock's µs.
/// `None` if there is no greater token.
#[must_use]
pub fn proposal(heard: Option<Token>, wall_us: u64) -> Option<Token> {
    let wall = i64::try_from(wall_us).ok().and_then(Token::new);
    match heard {
        Some(heard) => heard.later(1).map(|next| wall.map_or(next, |wall| wall.max(next))),
        None => wall.or(Token::new(1)),
    }
}

/// How many servers there are, and how many of them decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quorum {
    servers: usize,
    needed: usize,
}

impl Quorum {
    /// `needed` of `servers`; `None` unless any two such quorums share a server.
    #[must_use]
    pub fn new(servers: usize, needed: usize) -> Option<Quorum> {
        let fits = needed <= servers && needed > servers - needed;
        fits.then_some(Quorum { servers, needed })
    }

    /// The smallest quorum of so many servers; `None` for no server.
    #[must_use]
    pub fn majority(servers: usize) -> Option<Quorum> {
        Quorum::new(servers, servers / 2 + 1)
    }

    /// How many servers there are.
    #[must_use]
    pub fn servers(self) -> usize {
        self.servers
    }

    /// How many of them decide.
    #[must_use]
    pub fn needed(self) -> usize {
        self.needed
    }
}

/// A server's answer to `ACQUIRE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vote {
    /// It voted for the claim and accepted the proposed token.
    Accepted,
    /// It voted for the claim and refused the token.
    Locked {
        /// Its floor; `None` if it never accepted a token and has no clock.
        floor: Option<Token>,
    },
    /// It has voted for another claim.
    Denied {
        /// Its floor.
        floor: Option<Token>,
        /// When that vote expires.
        left: Duration,
        /// A digest of the other claim.
        rival: u64,
    },
    /// It does not vote: it is unreachable, in quarantine, or answered with an error. It may still have taken the request.
    Abstained,
}

impl Vote {
    fn floor(&self) -> Option<Token> {
        match self {
            Vote::Locked { floor } | Vote::Denied { floor, .. } => *floor,
            Vote::Accepted | Vote::Abstained => None,
        }
    }

    fn is_for_us(&self) -> bool {
        matches!(self, Vote::Accepted | Vote::Locked { .. })
    }

    fn rank(&self) -> u8 {
        match self {
            Vote::Abstained => 0,
            Vote::Denied { .. } => 1,
            Vote::Locked { .. } => 2,
            Vote::Accepted => 3,
        }
    }
}

/// What to do next in a ballot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Wait for more answers.
    Wait,
    /// The claim holds. Send `FLOOR(token)` to the servers of [`Ballot::unaware`]: nobody waits for that.
    Granted {
        /// Its token.
        token: Token,
    },
    /// A quorum voted for the claim, and the proposed token is too low: send `PROMOTE` with this one.
    Promote {
        /// The token.
        token: Token,
        /// The servers to send it to.
        to: Vec<usize>,
    },
    /// The claim was not granted. Send `RELEASE` to all servers.
    GiveUp {
        /// When enough votes for others expire, if one of them may hold the lock. `None`: nobody holds it, the votes are
        /// split or servers are missing, so a new round is worth a try after a short random pause.
        look_again: Option<Duration>,
    },
    /// There is no greater token: a server's memory was tampered with. Send `RELEASE` to all servers.
    Exhausted,
}

/// One round of one claim: from the first request to the decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ballot {
    quorum: Quorum,
    proposal: Token,
    sent: Moment,
    ttl: Duration,
    votes: Vec<Option<Vote>>,
    promotion: Option<(Token, Poll)>,
}

impl Ballot {
    /// A ballot about a proposed token, with a lease of `ttl`. `sent` is an instant before the first request leaves.
    #[must_use]
    pub fn new(quorum: Quorum, proposal: Token, sent: Moment, ttl: Duration) -> Ballot {
        Ballot { quorum, proposal, sent, ttl, votes: vec![None; quorum.servers], promotion: None }
    }

    /// The proposed token.
    #[must_use]
    pub fn proposal(&self) -> Token {
        self.proposal
    }

    /// The token of the second round trip, if there was one.
    #[must_use]
    pub fn promoted(&self) -> Option<Token> {
        self.promotion.as_ref().map(|(token, _)| *token)
    }

    /// The instant after which a grant of this ballot is no longer believed in.
    #[must_use]
    pub fn deadline(&self) -> Moment {
        lease::deadline(self.sent, self.ttl)
    }

    /// A server's answer to `ACQUIRE`. The same request may be sent to a silent server again. Of two answers the better one
    /// counts, since the deadline counts from before the first.
    pub fn hear(&mut self, server: usize, vote: Vote) {
        if let Some(slot) = self.votes.get_mut(server)
            && slot.is_none_or(|before| before.rank() <= vote.rank())
        {
            *slot = Some(vote);
        }
    }

    /// A server's answer to `PROMOTE`.
    pub fn hear_promotion(&mut self, server: usize, accepted: bool) {
        if let Some((_, poll)) = &mut self.promotion {
            poll.hear(server, accepted);
        }
    }

    /// A server's vote so far.
    #[must_use]
    pub fn vote(&self, server: usize) -> Option<Vote> {
        self.votes.get(server).copied().flatten()
    }

    /// A server's answer to `PROMOTE` so far.
    #[must_use]
    pub fn promotion(&self, server: usize) -> Option<bool> {
        self.promotion.as_ref().and_then(|(_, poll)| poll.answer(server))
    }

    /// The greatest floor that was heard: the next [`proposal`] must be greater.
    #[must_use]
    pub fn floor(&self) -> Option<Token> {
        let accepted = self.count(|vote| *vote == Vote::Accepted) > 0;
        let floors = self.votes.iter().flatten().filter_map(Vote::floor);
        floors.chain(accepted.then_some(self.proposal)).max()
    }

    /// What to do at `now`. `late`: the patience for the answers that are still missing is over.
    pub fn decide(&mut self, now: Moment, late: bool) -> Step {
        if now >= self.deadline() {
            return self.give_up();
        }
        match &self.promotion {
            Some((token, poll)) => match poll.tally() {
                Tally::Decided => Step::Granted { token: *token },
                Tally::Open if !late => Step::Wait,
                Tally::Open | Tally::Failed => self.give_up(),
            },
            None => self.count_votes(late),
        }
    }

    /// The servers that are not known to have accepted the token of the grant.
    #[must_use]
    pub fn unaware(&self) -> Vec<usize> {
        let knows = |server: &usize| match &self.promotion {
            Some((_, poll)) => poll.answer(*server) == Some(true),
            None => self.vote(*server) == Some(Vote::Accepted),
        };
        (0..self.quorum.servers).filter(|server| !knows(server)).collect()
    }

    fn count_votes(&mut self, late: bool) -> Step {
        let needed = self.quorum.needed;
        let accepted = self.count(|vote| *vote == Vote::Accepted);
        if accepted >= needed {
            return Step::Granted { token: self.proposal };
        }
        let missing = if late { 0 } else { self.votes.iter().filter(|vote| vote.is_none()).count() };
        let for_us = self.count(Vote::is_for_us);
        if accepted + missing >= needed {
            return Step::Wait; // the proposal may still win, without a second round trip
        }
        if for_us >= needed {
            return self.promote();
        }
        if for_us + missing >= needed { Step::Wait } else { self.give_up() }
    }

    fn promote(&mut self) -> Step {
        // A proposal that nobody accepted does not count: it may be absurd.
        let token = match self.floor() {
            Some(floor) => floor.later(1),
            None => Some(self.proposal),
        };
        let Some(token) = token else { return Step::Exhausted };
        self.promotion = Some((token, Poll::new(self.quorum)));
        let may_vote = |server: &usize| self.vote(*server).is_none_or(|vote| vote.is_for_us());
        Step::Promote { token, to: (0..self.quorum.servers).filter(may_vote).collect() }
    }

    fn give_up(&self) -> Step {
        let mut rivals: Vec<(u64, Duration)> = self.votes.iter().flatten().filter_map(denied).collect();
        rivals.sort_unstable_by_key(|(_, left)| *left);
        let largest = rivals.iter().map(|(rival, _)| rivals.iter().filter(|r| r.0 == *rival).count()).max();
        let unknown = self.quorum.servers - rivals.len() - self.count(Vote::is_for_us);
        let held = largest.is_some_and(|votes| votes + unknown >= self.quorum.needed);
        let lacking = self.quorum.needed.saturating_sub(self.count(Vote::is_for_us)).max(1);
        let free_at = rivals.get(lacking.min(rivals.len()).saturating_sub(1)).map(|(_, left)| *left);
        Step::GiveUp { look_again: free_at.filter(|_| held) }
    }

    fn count(&self, what: impl Fn(&Vote) -> bool) -> usize {
        self.votes.iter().flatten().filter(|vote| what(vote)).count()
    }
}

fn denied(vote: &Vote) -> Option<(u64, Duration)> {
    match vote {
        Vote::Denied { left, rival, .. } => Some((*rival, *left)),
        _ => None,
    }
}
