//! One of several servers that keep a lock together: it votes for one claim at a time, by the rules that
//! [`tenure::core::quorum`] states for its scripts.
//!
//! A server that comes back without its memory, or with an old copy of it, stays away until its quarantine is over. So it
//! breaks no promise, and the judge excuses nobody for it. What breaks promises: a clock that steps forward ends votes too
//! early, so whoever holds then is excused. Tokens rest on memory or on clocks: where a server forgot and a server's clock was
//! stepped, in one run, their order is not judged.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tenure::Token;
use tenure::backend::ClaimId;
use tenure::core::quorum::{FLOOR_LAG, PROPOSAL_MAX_AHEAD, Vote};

use super::locks::lock_of;
use super::message::{Matter, Question, Said};

/// A vote that lasts until `until`, on the server's clock. With a token, if it accepted one with it.
#[derive(Clone, Copy, Debug)]
struct Given {
    claim: ClaimId,
    round: u64,
    token: i64,
    /// The floor as it was when it voted: what a promotion must be above.
    floor: i64,
    until: u64,
}

#[derive(Clone, Debug, Default)]
struct Lock {
    vote: Option<Given>,
    /// The greatest token that it accepted.
    fence: i64,
}

/// Its memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Voter {
    locks: BTreeMap<usize, Lock>,
    /// Until then it does not vote, on its clock.
    pub(super) away_until: u64,
    /// Promotions are compared with the floor of now, for a mutant.
    pub(super) moves: bool,
}

/// A server's time: what its clock shows, and the same in µs since the epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    pub(super) shown: u64,
    pub(super) wall_us: u64,
}

fn us(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

impl Lock {
    /// Without the vote that has expired.
    fn vote(&mut self, shown: u64) -> Option<Given> {
        self.vote = self.vote.filter(|vote| vote.until > shown);
        self.vote
    }

    fn acquire(&mut self, at: Time, claim: ClaimId, asked: (u64, u64, i64)) -> Vote {
        let (round, ttl, token) = asked;
        let (now, floor) = (at.wall_us.cast_signed(), self.floor(at));
        let shown_floor = Token::new(floor);
        let vote = self.vote(at.shown);
        if let Some(other) = vote.filter(|vote| vote.claim != claim || vote.round > round) {
            let left = Duration::from_nanos(other.until - at.shown);
            let mut digest = DefaultHasher::new();
            (other.claim, (other.claim == claim).then_some(other.round)).hash(&mut digest);
            let rival = digest.finish();
            return Vote::Denied { floor: shown_floor, left, rival };
        }
        let with = vote.filter(|vote| vote.round == round).map_or(0, |vote| vote.token);
        let fresh = token > floor && token <= now.saturating_add(us(PROPOSAL_MAX_AHEAD));
        let token_now = if fresh { token } else { with };
        self.fence = if fresh { token } else { self.fence };
        self.vote = Some(Given { claim, round, token: token_now, floor, until: at.shown + ttl });
        if token_now == token { Vote::Accepted } else { Vote::Locked { floor: shown_floor } }
    }

    fn promote(&mut self, at: Time, claim: ClaimId, round: u64, token: i64, moves: bool) -> bool {
        let now = self.floor(at);
        let Some(vote) = self.vote(at.shown).filter(|vote| (vote.claim, vote.round) == (claim, round)) else {
            return false;
        };
        let floor = if moves { now } else { vote.floor.max(self.fence) };
        let accepts = token > floor || vote.token == token;
        if accepts {
            (self.vote, self.fence) = (Some(Given { token, ..vote }), token.max(self.fence));
        }
        accepts
    }

    fn extend(&mut self, at: Time, claim: ClaimId, token: i64, ttl: u64) -> bool {
        let fenced = self.fence > token;
        let Some(vote) = self.vote(at.shown).filter(|vote| vote.claim == claim && !fenced) else {
            return false;
        };
        (self.vote, self.fence) = (Some(Given { until: at.shown + ttl, ..vote }), token);
        true
    }

    fn release(&mut self, at: Time, claim: ClaimId, round: u64) -> bool {
        let ours = self.vote(at.shown).is_some_and(|vote| vote.claim == claim && vote.round <= round);
        self.vote = self.vote.filter(|_| !ours);
        ours
    }

    fn floor(&self, at: Time) -> i64 {
        self.fence.max(at.wall_us.cast_signed() - us(FLOOR_LAG))
    }
}

impl Voter {
    pub(super) fn serve(&mut self, at: Time, asked: &Question) -> Said {
        if self.away_until > at.shown {
            return Said::Refused;
        }
        let (lock, claim) = (self.locks.entry(lock_of(&asked.key)).or_default(), asked.claim);
        match asked.what {
            Matter::Acquire { round, ttl, token } => {
                Said::Vote(lock.acquire(at, claim, (round, ttl, token.get())))
            }
            Matter::Promote { round, token } => {
                Said::Yes(lock.promote(at, claim, round, token.get(), self.moves))
            }
            Matter::Extend { token, ttl } => Said::Yes(lock.extend(at, claim, token.get(), ttl)),
            Matter::Release { round } => Said::Yes(lock.release(at, claim, round)),
            Matter::Floor { token } => {
                lock.fence = lock.fence.max(token.get());
                Said::Nothing
            }
        }
    }

    /// Until when its vote is a claim's, on its clock.
    pub(super) fn until(&self, lock: usize, claim: ClaimId) -> Option<u64> {
        let vote = self.locks.get(&lock)?.vote?;
        (vote.claim == claim).then_some(vote.until)
    }

    /// What is not as a store that nobody uses.
    pub(super) fn residue(&self, shown: u64) -> Result<(), String> {
        let votes: Vec<_> = self.locks.values().filter_map(|lock| lock.vote).collect();
        let left: Vec<_> = votes.iter().filter(|vote| vote.until > shown).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} are votes")) }
    }
}
