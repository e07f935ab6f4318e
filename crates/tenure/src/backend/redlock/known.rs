//! What a client knows of its claims: which hold, with which token, and which of a claim's rounds counts.
//!
//! Only one round of a claim counts at a time. What an earlier round still hears is ignored. A claim that holds starts no
//! round, because a round that fails would release the votes that the hold rests on.

use std::collections::HashMap;
use std::time::Duration;

use super::store::Redlock;
use crate::backend::ClaimId;
use crate::core::moment::Moment;
use crate::key::Key;
use crate::token::Token;

/// How many claims are remembered whose end nobody told: their tokens can be had from the servers again.
const MEMORY: usize = 1 << 20;
/// For how long a lock counts as one that many want.
const CROWDED: Duration = Duration::from_secs(1);
/// How many such locks are remembered.
const CROWDS: usize = 4096;

/// What this client knows.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The tokens of the claims that hold.
    tokens: HashMap<u128, Token>,
    /// The rounds that count, of the claims that ask.
    rounds: HashMap<u128, u64>,
    /// Locks whose votes were split lately.
    crowds: HashMap<Key, Moment>,
    /// The greatest round so far.
    last: u64,
}

impl Known {
    /// The token that a claim of this client holds with.
    pub(super) fn token(&self, id: ClaimId) -> Option<Token> {
        self.tokens.get(&id.0).copied()
    }

    /// A claim holds.
    pub(super) fn holds(&mut self, id: ClaimId, token: Token) {
        if self.tokens.len() >= MEMORY {
            self.tokens.clear();
        }
        self.tokens.insert(id.0, token);
    }

    /// A claim holds no longer, and asks no longer.
    pub(super) fn forget(&mut self, id: ClaimId) {
        self.tokens.remove(&id.0);
        self.rounds.remove(&id.0);
    }

    /// A round that is greater than all before, of this client and of earlier ones on this machine.
    pub(super) fn round(&mut self, now: Moment) -> u64 {
        self.last = (now.nanos() / 1_000).max(self.last + 1);
        self.last
    }

    /// Notes that a lock is wanted by several.
    pub(super) fn crowds(&mut self, key: &Key, now: Moment) {
        if self.crowds.len() >= CROWDS {
            self.crowds.retain(|_, until| *until > now);
        }
        if self.crowds.len() < CROWDS {
            self.crowds.insert(key.clone(), now + CROWDED);
        }
    }

    /// Whether it is.
    pub(super) fn is_crowded(&self, key: &Key, now: Moment) -> bool {
        self.crowds.get(key).is_some_and(|until| *until > now)
    }
}

/// A round of a claim. Dropped, it does not count.
pub(super) struct Round<'a> {
    store: &'a Redlock,
    id: ClaimId,
    pub(super) number: u64,
}

impl<'a> Round<'a> {
    /// Starts the next round of a claim; `None`: it holds.
    pub(super) fn start(store: &'a Redlock, id: ClaimId) -> Option<Round<'a>> {
        let now = store.runtime.now();
        let mut known = store.known();
        if known.token(id).is_some() {
            return None;
        }
        let number = known.round(now);
        known.rounds.insert(id.0, number);
        Some(Round { store, id, number })
    }

    /// Whether it counts: the claim was not withdrawn, and has not asked again meanwhile.
    pub(super) fn counts(&self) -> bool {
        self.store.known().rounds.get(&self.id.0) == Some(&self.number)
    }

    /// Whether no later round of the claim has begun.
    pub(super) fn is_last(&self) -> bool {
        let known = self.store.known();
        known.token(self.id).is_none()
            && known.rounds.get(&self.id.0).is_none_or(|round| *round == self.number)
    }

    /// The claim holds, if this round counts.
    pub(super) fn won(&self, token: Token) -> bool {
        let mut known = self.store.known();
        let counts = known.rounds.get(&self.id.0) == Some(&self.number);
        if counts {
            known.holds(self.id, token);
        }
        counts
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        let mut known = self.store.known();
        if known.rounds.get(&self.id.0) == Some(&self.number) {
            known.rounds.remove(&self.id.0);
        }
    }
}
