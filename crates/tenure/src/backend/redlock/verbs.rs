//! The verbs: how a claim gets, keeps and loses its votes.

use std::sync::Arc;
use std::time::Duration;

use super::ballot::Came;
use super::fan::{Fan, Heard};
use super::format::{hex, micros, number, read_token, token};
use super::known::Round;
use super::store::{FIRST, Redlock, Said, returned};
use super::troubles::Troubles;
use crate::backend::redis::member::{Member, Script, note};
use crate::backend::{
    Answer, Call, Claim, ClaimId, Grant, Kind, Lease, Leave, Previous, Released, Standing, refusal,
};
use crate::core::quorum::{Poll, Tally};
use crate::error::Result;
use crate::key::Key;
use crate::token::Token;

/// How long a question to all servers waits for those that are silent, if nobody says how long.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause before servers that did not answer an eviction are asked again.
const AGAIN: Duration = Duration::from_millis(50);
/// Every round of a claim.
const ALL: u64 = u64::MAX;

impl Redlock {
    pub(super) async fn ask_attempt(self: &Arc<Self>, claim: &Claim, call: Call) -> Result<Answer> {
        check(claim)?;
        refusal::check_weight(claim)?;
        let Some(round) = Round::start(self, claim.id) else {
            // It was granted, and the answer was lost: it has one token.
            return self.ask_extend(claim, call).await;
        };
        let standing = match self.ballot(claim, &round, call).await? {
            Came::Granted(token) => held(claim, token),
            Came::Gone(why) => Standing::Gone { why },
            Came::Lost(look_again) if claim.stand => {
                Standing::Waiting { place: None, ahead: None, look_again }
            }
            Came::Lost(_) => Standing::Busy,
        };
        Ok(Answer { standing, at: None })
    }

    pub(super) async fn ask_extend(&self, claim: &Claim, call: Call) -> Result<Answer> {
        let known = self.known().token(claim.id);
        let mut polled = self.extend(claim, known, call).await;
        if known.is_none()
            && let (Tally::Decided, Some(greatest)) = (polled.poll.tally(), polled.token)
        {
            // Only now is it known which token a quorum must accept: votes of two rounds may have two.
            polled = self.extend(claim, Some(greatest), call).await;
        }
        self.still(claim, known, polled)
    }

    async fn extend(&self, claim: &Claim, known: Option<Token>, call: Call) -> Polled {
        let words = [hex(claim.id), token(known), micros(claim.ttl), note(claim)];
        self.poll(Script::VoteExtend, &claim.key, &|_: &Member| words.to_vec(), call).await
    }

    /// Where a claim stands after a question to all servers about its hold.
    fn still(&self, claim: &Claim, known: Option<Token>, polled: Polled) -> Result<Answer> {
        let standing = match (polled.poll.tally(), known.or(polled.token)) {
            (Tally::Decided, Some(token)) => {
                self.known().holds(claim.id, token);
                held(claim, token)
            }
            (Tally::Open, _) => return Err(polled.troubles.error(self, polled.heard)),
            _ => {
                self.known().forget(claim.id);
                Standing::Gone { why: polled.troubles.gone.flatten() }
            }
        };
        Ok(Answer { standing, at: None })
    }

    pub(super) async fn ask_release(&self, claim: &Claim, leave: Leave, call: Call) -> Result<Released> {
        self.known().forget(claim.id);
        let stays = if let Leave::For(time) = leave { time } else { Duration::ZERO };
        let mark = if leave == Leave::Final { "1" } else { "0" };
        let words = |member: &Member| {
            let birth = member.moment(claim.birth);
            vec![hex(claim.id), number(ALL), micros(stays), mark.into(), birth]
        };
        let polled = self.poll(Script::VoteRelease, &claim.key, &words, call).await;
        match polled.poll.tally() {
            Tally::Decided => Ok(Released::WasHeld),
            Tally::Failed => Ok(Released::Gone),
            Tally::Open => Err(polled.troubles.error(self, polled.heard)),
        }
    }

    pub(super) async fn ask_transfer(
        self: &Arc<Self>,
        from: &Claim,
        to: &Claim,
        call: Call,
    ) -> Result<Answer> {
        check(to)?;
        if to.weight > 1 {
            return Err(refusal::larger());
        }
        let round = number(self.known().round(self.runtime.now()));
        let words = |member: &Member| {
            let birth = member.moment(to.birth);
            vec![hex(to.id), hex(from.id), round.clone(), micros(to.ttl), note(to), birth]
        };
        // One server after the other, in an order that all clients share, until one says yes: of several claims that want the
        // same hold one is first there, and the others end there.
        for first in self.in_order(self.runtime.now()) {
            let call = Call { until: call.until.min(self.runtime.now() + FIRST), ..call };
            let polled = self.poll_some(Script::VoteTransfer, &to.key, &words, call, |n| n == first).await;
            if polled.troubles.taken {
                return Ok(Answer { standing: Standing::Gone { why: None }, at: None });
            }
            if polled.poll.answer(first) == Some(true) {
                break;
            }
        }
        let mut polled = self.poll(Script::VoteTransfer, &to.key, &words, call).await;
        let decided = polled.poll.tally() == Tally::Decided;
        let known = {
            let mut known = self.known();
            let token = known.token(from.id).or(known.token(to.id));
            if decided {
                known.forget(from.id);
            }
            token
        };
        if !decided {
            // A part of the votes is no hold.
            self.tell(call.errand, Script::VoteRelease, &to.key, returned(to.id, ALL), |_| true);
        }
        let rest = std::mem::replace(&mut polled.rest, Fan::none());
        let answer = self.still(to, known, polled)?;
        if let Some(token) = self.known().token(to.id) {
            self.hear_rest(rest, to, ALL, Some(token));
        }
        Ok(answer)
    }

    pub(super) async fn ask_evict(
        &self,
        key: &Key,
        which: Option<Token>,
        why: &str,
        call: Call,
    ) -> Result<Released> {
        let mut id = [0u8; 16];
        self.runtime.fill(&mut id);
        let words = [hex(ClaimId(u128::from_le_bytes(id))), token(which), why.to_owned()];
        let end = (self.runtime.now() + PATIENCE).min(call.until);
        let mut poll = Poll::new(self.quorum);
        loop {
            // A server that has taken its vote away says no from then on: its yes counts.
            let silent = |n: usize| poll.answer(n).is_none();
            let polled =
                self.poll_some(Script::VoteEvict, key, &|_: &Member| words.to_vec(), call, silent).await;
            for server in 0..self.members.len() {
                if let Some(yes) = polled.poll.answer(server) {
                    poll.hear(server, yes);
                }
            }
            match poll.tally() {
                Tally::Decided => return Ok(Released::WasHeld),
                Tally::Failed => return Ok(Released::Gone),
                Tally::Open => {}
            }
            let now = self.runtime.now();
            if now + AGAIN >= end {
                let heard = (0..self.members.len()).filter(|n| poll.answer(*n).is_some()).count();
                return Err(polled.troubles.error(self, heard));
            }
            self.runtime.sleep_until(now + AGAIN).await;
        }
    }

    /// Asks all servers a question with yes or no.
    async fn poll(
        &self,
        script: Script,
        key: &Key,
        words: &(dyn Fn(&Member) -> Vec<String> + Sync),
        call: Call,
    ) -> Polled {
        self.poll_some(script, key, words, call, |_| true).await
    }

    /// Asks some of them.
    async fn poll_some(
        &self,
        script: Script,
        key: &Key,
        words: &(dyn Fn(&Member) -> Vec<String> + Sync),
        call: Call,
        which: impl Fn(usize) -> bool,
    ) -> Polled {
        let mut polled = Polled {
            poll: Poll::new(self.quorum),
            token: None,
            heard: 0,
            troubles: Troubles::default(),
            rest: Fan::none(),
        };
        let now = self.runtime.now();
        let until = (now + PATIENCE).min(call.until);
        // A vote that a server without its memory lost is not its no.
        let votes: Vec<bool> = (0..self.members.len()).map(|n| which(n) && self.votes(n, now)).collect();
        let mut fan: Fan<Said> = self.ask(call.errand, script, key, words, |n| votes[n]);
        for server in (0..self.members.len()).filter(|n| which(*n) && !votes[*n]) {
            polled.troubles.away(self, server, now);
        }
        while polled.poll.tally() == Tally::Open {
            let Heard::Answer(server, said) = fan.next(&*self.runtime, until).await else { break };
            if let Ok(words) = &said
                && words.get(1).is_some_and(|letter| letter == "Y")
            {
                polled.token = polled.token.max(words.get(3).and_then(|text| read_token(text)));
            }
            if let Some(yes) = polled.troubles.yes(self, server, said) {
                polled.heard += 1;
                polled.poll.hear(server, yes);
            }
        }
        polled.rest = fan;
        polled
    }
}

/// A question to all servers, as far as it was answered.
struct Polled {
    poll: Poll,
    /// The greatest token that came with a yes.
    token: Option<Token>,
    heard: usize,
    troubles: Troubles,
    /// What was not heard before it was decided.
    rest: Fan<Said>,
}

/// Refuses what a quorum cannot carry.
fn check(claim: &Claim) -> Result<()> {
    if claim.kind != Kind::Mutex {
        return Err(refusal::mutexes_only("redlock", "redis"));
    }
    refusal::check_tokens(claim, 1)
}

fn held(claim: &Claim, token: Token) -> Standing {
    Standing::Held(Grant { token: Some(token), lease: Lease::For(claim.ttl), previous: Previous::Unknown })
}
