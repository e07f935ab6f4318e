//! The verbs of the line: one script each.

use std::time::Duration;

use super::answer::{self, hex};
use super::client::Asked;
use super::digits::{micros, padded};
use super::scripts::Script;
use super::store::{Store, Verbs};
use super::{MOST, format, names};
use crate::backend::net;
use crate::backend::{Anchor, Answer, BoxFuture, Claim, Errand, Leave, Released, refusal};
use crate::capability::Capabilities;
use crate::error::{Error, Result};
use crate::key::Key;

/// The most tokens that one claim may ask for.
const TOKENS: u32 = 65_536;

/// A lock is a line on the server.
#[derive(Debug)]
pub(super) struct Line;

impl Verbs for Line {
    const MOST: Capabilities = MOST;
    const DIALECT: bool = false;
    const SCRIPTS: &'static [Script] = Script::LINE;

    fn attempt<'a>(
        store: &'a Store<Line>,
        claims: &'a [Claim],
        errand: Errand,
    ) -> BoxFuture<'a, Vec<Result<Answer>>> {
        match claims {
            [claim] => Box::pin(async move { vec![store.ask_attempt(claim, errand).await] }),
            claims => Box::pin(store.ask_attempts(claims, errand)),
        }
    }

    async fn renew(store: &Store<Line>, claims: &[Claim], errand: Errand) -> Vec<Result<Answer>> {
        let heads: Vec<String> = claims.iter().map(|c| names::head(&c.key)).collect();
        let words: Vec<String> = claims.iter().flat_map(|c| [hex(c.id), format::note(c)]).collect();
        let keys: Vec<&[u8]> = heads.iter().map(String::as_bytes).collect();
        let arguments: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        let asked = store.client.run(errand, Script::Renew, &keys, &arguments).await;
        store.renewed(claims, words.iter().step_by(2), asked)
    }

    async fn release(store: &Store<Line>, claim: &Claim, leave: Leave, errand: Errand) -> Result<Released> {
        let client = &store.client;
        let (head, id) = (names::head(&claim.key), hex(claim.id));
        let trace = match leave {
            Leave::Nothing if claim.cohort.tokens > 1 => format!("t{:010}", claim.cohort.used),
            Leave::Nothing if store.surely_holds(claim) => "s".to_owned(),
            Leave::Nothing => String::new(),
            Leave::Final => format!("m{:016}", client.server_us(claim.birth)),
            Leave::For(pause) => padded(micros(pause), 16),
        };
        let words = [&id, &trace].map(|w| w.as_bytes());
        let asked = client.run_verb(errand, Script::Release, head.as_bytes(), &words).await;
        store.answered(asked, &id, answer::released)
    }

    async fn transfer(store: &Store<Line>, from: &Claim, to: &Claim, errand: Errand) -> Result<Answer> {
        refusal::check_tokens(to, TOKENS)?;
        let client = &store.client;
        let (head, held, id) = (names::head(&to.key), hex(from.id), hex(to.id));
        let terms = format::terms(to);
        let birth = padded(client.server_us(to.birth), 16);
        let who = format::who(&client.id, to);
        let used = padded(from.cohort.used.into(), 10);
        let words = [&held, &id, answer::digit(to.kind), &terms, &birth, &who, &used].map(str::as_bytes);
        let asked = client.run(errand, Script::Transfer, &[head.as_bytes()], &words).await;
        store.answered(asked, &id, |fields| answer::standing(fields, to))
    }

    fn evict(_: &Store<Line>, key: &Key) -> (Script, Vec<String>) {
        (Script::Evict, vec![names::head(key)])
    }
}

impl Store<Line> {
    async fn ask_attempt(&self, claim: &Claim, errand: Errand) -> Result<Answer> {
        check(claim)?;
        self.client.check_permitted().await.map_err(|why| why.error())?;
        let (key, words) = self.attempt_words(claim);
        let words = words.each_ref().map(String::as_bytes);
        let asked = self.client.run_verb(errand, Script::Attempt, key.as_bytes(), &words).await;
        self.attempted(claim, asked)
    }

    /// Several attempts, in as few calls as will do. What is refused here is not sent.
    async fn ask_attempts(&self, claims: &[Claim], errand: Errand) -> Vec<Result<Answer>> {
        if let Err(why) = self.client.check_permitted().await {
            return claims.iter().map(|_| Err(why.error())).collect();
        }
        let checked: Vec<Result<()>> = claims.iter().map(check).collect();
        let sent =
            || claims.iter().zip(&checked).filter(|(_, checked)| checked.is_ok()).map(|(claim, _)| claim);
        let verbs: Vec<_> = sent()
            .map(|claim| {
                let (key, words) = self.attempt_words(claim);
                (key.into_bytes(), words.map(String::into_bytes))
            })
            .collect();
        let asked = self.client.run_verbs(errand, Script::Attempt, &verbs).await;
        let mut answers = sent().zip(asked).map(|(claim, asked)| self.attempted(claim, asked));
        let missing = || Err(Error::protocol("an attempt has no answer", "this is a bug: please report it"));
        checked
            .iter()
            .map(|checked| match checked {
                Ok(()) => answers.next().unwrap_or_else(missing),
                Err(error) => Err(error.again()),
            })
            .collect()
    }

    /// The key and the arguments of an attempt.
    fn attempt_words(&self, claim: &Claim) -> (String, [String; 3]) {
        let client = &self.client;
        let how = format::how(claim, client.server_us(claim.birth));
        (names::head(&claim.key), [hex(claim.id), format::asked(&client.id, claim), how])
    }

    fn attempted(&self, claim: &Claim, asked: Asked) -> Result<Answer> {
        self.answered(asked, &hex(claim.id), |fields| answer::standing(fields, claim))
    }

    /// Whether the lease of a claim that holds cannot end before nobody listens to the answer any more: then the server
    /// need not look at its clock. What is released later is free all the same, as it would be had its lease ended.
    fn surely_holds(&self, claim: &Claim) -> bool {
        // A claim that stands by its lease alone may have come from another process: its birth says nothing.
        let end = claim.birth + Duration::from_micros(format::lease(claim.ttl));
        claim.anchor == Anchor::Process && self.client.lanes.runtime().now() + net::PATIENCE < end
    }
}

/// Refuses a claim that no line can carry.
fn check(claim: &Claim) -> Result<()> {
    refusal::check_weight(claim)?;
    refusal::check_tokens(claim, TOKENS)
}
