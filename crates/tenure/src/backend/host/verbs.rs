//! The verbs of the contract, each on one shard under its lock.

use std::sync::Arc;

use super::alarm::Alarm;
use super::bell::Waiter;
use super::slots::Who;
use super::store::{Inner, Outcome, forked};
use crate::backend::{Anchor, Answer, Claim, Leave, Released, Standing, local, note, refusal};
use crate::core::line::{Found, NO_SLOT, Place, Refusal};
use crate::core::moment::nanos;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::token::Token;

/// Room for a usual note, in bytes.
const NOTE: usize = 128;
/// How many claims are renewed under one hold of a shard's lock.
const RENEWALS: usize = 64;
/// How many dead processes one verb removes before it goes on. Every process of a full table.
const FUNERALS: usize = super::format::SLOTS;

/// What an attempt found.
struct Stood {
    place: Place,
    /// Processes that hold the lock or stand at the head of the line, if the claim has to wait for them.
    before: Vec<u32>,
}

impl Inner {
    pub(super) fn usable(&self) -> Result<()> {
        if self.born.left() {
            return Err(forked());
        }
        Ok(())
    }

    fn slot_of(&self, claim: &Claim) -> u32 {
        match claim.anchor {
            Anchor::Process => self.me.raw(),
            Anchor::Time => NO_SLOT,
        }
    }

    /// Stands in line, or looks again.
    pub(super) fn attempt(self: &Arc<Inner>, claim: &Claim, client: u64) -> Outcome<Answer> {
        self.usable()?;
        refusal::check_tokens(claim, 1)?;
        let mut note = Vec::with_capacity(NOTE);
        note::encode(&claim.owner, &claim.reason, &mut note);
        let ask = local::ask(claim, self.slot_of(claim), &note);
        let shard = self.shard_of(ask.key);
        let mut buried = 0;
        loop {
            let (result, now) = self.verb(shard, |lines, now| {
                let place = lines.attempt(&ask, now)?;
                let mut before = Vec::new();
                match place {
                    Place::Waiting { .. } => {
                        self.await_grant(claim, shard, client);
                        lines.holder_slots(ask.key, &mut before);
                    }
                    Place::Busy => lines.holder_slots(ask.key, &mut before),
                    Place::Held { .. } | Place::Gone { .. } => self.waiting.remove(ask.id),
                }
                Ok(Stood { place, before })
            })?;
            let stood = result.map_err(|refusal| local::refused(refusal, &claim.key, Some(claim.kind)))?;
            let token = if let Place::Held { token, .. } = stood.place { token } else { 0 };
            self.check_place(now.ns, token)?;
            let waits = matches!(stood.place, Place::Waiting { .. });
            if waits || matches!(stood.place, Place::Held { .. }) {
                self.keep_patrol(now.ns, if waits { claim.waiting } else { claim.ttl });
            }
            if buried >= FUNERALS || !self.bury_dead(&stood.before, waits) {
                self.changed(now.ns);
                return Ok(local::answer(stood.place, now));
            }
            buried += 1;
        }
    }

    /// Notes that a claim waits here. Under the shard's lock, before anybody can grant it.
    fn await_grant(&self, claim: &Claim, shard: usize, client: u64) {
        self.waiting.insert(claim.id.0, Waiter { shard, ttl: nanos(claim.ttl), client });
    }

    /// Removes those of `slots` that are dead; whether there were any. The living are put under watch if a claim here
    /// waits for them.
    fn bury_dead(self: &Arc<Inner>, slots: &[u32], waits: bool) -> bool {
        let (mut any, mut others) = (false, Vec::new());
        for who in slots.iter().filter_map(|slot| Who::from_raw(*slot)).filter(|who| *who != self.me) {
            if self.slots().alive(who, self.me) {
                others.push(who);
            } else if let Err(e) = self.reap(who) {
                tracing::warn!(error = %e, "a dead process could not be removed yet");
                others.push(who);
            } else {
                any = true;
            }
        }
        if waits && !others.is_empty() {
            Alarm::watch(self, &others);
        }
        any
    }

    /// Renews claims. Never creates one.
    pub(super) fn renew(self: &Arc<Inner>, claims: &[Claim], client: u64) -> Vec<Result<Answer>> {
        if let Err(e) = self.usable() {
            return claims.iter().map(|_| Err(Error::config(e.what(), e.advice()))).collect();
        }
        let now = self.runtime.now().nanos();
        if !self.stands(now, 0) {
            return claims.iter().map(|_| Ok(removed(now))).collect();
        }
        self.keep_patrol(
            now,
            claims.iter().map(|claim| claim.ttl.max(claim.waiting)).max().unwrap_or_default(),
        );
        let shard_of = |i: &usize| self.shard_of(claims[*i].key.full().as_bytes());
        let mut order: Vec<usize> = (0..claims.len()).collect();
        order.sort_by_cached_key(shard_of);
        let mut answers: Vec<Option<Result<Answer>>> = claims.iter().map(|_| None).collect();
        let mut before = Vec::new();
        for chunk in order.chunk_by(|a, b| shard_of(a) == shard_of(b)).flat_map(|c| c.chunks(RENEWALS)) {
            self.renew_chunk(claims, chunk, client, &mut answers, &mut before);
        }
        // Whoever is dead goes; those who wait learn of what that grants them by push.
        self.bury_dead(&before, true);
        let missing = || Err(Error::protocol("a claim was not renewed", "this is a bug: please report it"));
        answers.into_iter().map(|a| a.unwrap_or_else(missing)).collect()
    }

    /// Renews claims of one shard under one hold of its lock.
    fn renew_chunk(
        self: &Arc<Inner>,
        claims: &[Claim],
        chunk: &[usize],
        client: u64,
        answers: &mut [Option<Result<Answer>>],
        before: &mut Vec<u32>,
    ) {
        let Some(&first) = chunk.first() else { return };
        let shard = self.shard_of(claims[first].key.full().as_bytes());
        let (mut slots, mut note) = (Vec::new(), Vec::with_capacity(NOTE));
        let (mut rest, mut restated) = (chunk, false);
        let done = self.verb(shard, |lines, now| {
            rest = chunk; // run again, it renews all again
            while let Some((&i, more)) = rest.split_first() {
                let claim = &claims[i];
                let (id, key) = (claim.id.0, claim.key.full().as_bytes());
                note::encode(&claim.owner, &claim.reason, &mut note);
                restated |= lines.restates(id, &note);
                let result = lines.renew(id, key, Some(&note), now);
                if let Err(ceiling @ Refusal::Ceiling(_)) = result {
                    return Err(ceiling);
                }
                match result {
                    Ok(Place::Waiting { .. }) => {
                        self.await_grant(claim, shard, client);
                        lines.holder_slots(key, &mut slots);
                        before.append(&mut slots);
                    }
                    _ => self.waiting.remove(id),
                }
                let stands = |place: &Place| {
                    if let Place::Held { token, .. } = place { self.stands(now.ns, *token) } else { true }
                };
                let answer = result
                    .map(|place| if stands(&place) { local::answer(place, now) } else { removed(now.ns) });
                answers[i] = Some(answer.map_err(|r| local::refused(r, &claim.key, Some(claim.kind))));
                rest = more;
            }
            before.sort_unstable();
            before.dedup();
            Ok(())
        });
        if let (true, Ok((_, now))) = (restated, &done) {
            self.changed(now.ns);
        }
        let halted = match done {
            Ok((Ok(()), _)) => return,
            Ok((Err(refusal), _)) => Err(refusal),
            Err(halt) => Ok(Error::from(halt)),
        };
        for &i in rest {
            let key = &claims[i].key;
            answers[i] = Some(Err(match &halted {
                Ok(e) => Error::unavailable(e.what(), e.advice()).of(key),
                Err(refusal) => local::refused(*refusal, key, None),
            }));
        }
    }

    /// Ends a hold, or withdraws a waiting claim.
    pub(super) fn release(&self, claim: &Claim, leave: Leave) -> Outcome<Released> {
        self.usable()?;
        let key = claim.key.full().as_bytes();
        let mut found = Found::Nothing;
        let (result, now) = self.verb(self.shard_of(key), |lines, now| {
            // Run again, it may find the work of the first time.
            let again = lines.release(claim.id.0, key, claim.birth.nanos(), local::trace(leave), now)?;
            found = if found == Found::Nothing { again } else { found };
            Ok(found)
        })?;
        self.waiting.remove(claim.id.0);
        self.changed(now.ns);
        let refused = |refusal| local::refused(refusal, &claim.key, Some(claim.kind));
        let released = result.map(local::released).map_err(refused)?;
        // In a store that nobody else can find, it excluded nobody.
        Ok(if self.stands_at_release(now.ns) { released } else { Released::Gone })
    }

    /// Continues a hold under another claim, in this process if it is anchored to one.
    pub(super) fn transfer(&self, from: &Claim, to: &Claim) -> Outcome<Answer> {
        self.usable()?;
        refusal::check_tokens(to, 1)?;
        let mut note = Vec::with_capacity(NOTE);
        note::encode(&to.owner, &to.reason, &mut note);
        let ask = local::ask(to, self.slot_of(to), &note);
        let (result, now) =
            self.verb(self.shard_of(ask.key), |lines, now| lines.transfer(from.id.0, &ask, now))?;
        let place = result.map_err(|refusal| local::refused(refusal, &to.key, Some(to.kind)))?;
        let token = if let Place::Held { token, .. } = place { token } else { 0 };
        self.check_place(now.ns, token)?;
        self.keep_patrol(now.ns, to.ttl);
        self.changed(now.ns);
        Ok(local::answer(place, now))
    }

    /// Takes a lock away.
    pub(super) fn evict(&self, key: &Key, token: Option<Token>, why: &str) -> Outcome<Released> {
        self.usable()?;
        let full = key.full().as_bytes();
        let (mut holder, mut held) = (token.map(Token::get), 0);
        let (result, now) = self.verb(self.shard_of(full), |lines, now| {
            // Run again, it is not to hit whoever was granted after the first time.
            holder = holder.or_else(|| {
                let row = lines.view(full, 0, now)?;
                row.holders.first().map(|first| first.token).filter(|&token| token != 0)
            });
            let again = lines.evict(full, holder, why.as_bytes(), now)?;
            held = held.max(again);
            Ok(held)
        })?;
        self.changed(now.ns);
        Ok(result.map(local::evicted).map_err(|refusal| local::refused(refusal, key, None))?)
    }
}

/// What is said of claims in a store whose files were removed.
fn removed(ns: u64) -> Answer {
    Answer { standing: Standing::Removed, at: Some(ns) }
}
