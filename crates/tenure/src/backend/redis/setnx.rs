//! The dialect `redis+setnx://`: the plain `SET key id NX PX ms` with compare-and-delete that everybody writes.
//!
//! It excludes such programs and is excluded by them. The key is the lock's name as it stands, after the URL's `prefix`;
//! the namespace is no part of it. What the plain form cannot carry is not there: no line and no order, nobody is told,
//! waiters are not seen. The token lies in a key of its own.

use std::time::Duration;

use super::answer::{self, Fields, hex};
use super::digits::padded;
use super::format;
use super::scripts::Script;
use super::store::{self, Store, Verbs};
use crate::backend::{Answer, BoxFuture, Claim, Entry, Errand, Kind, Leave, Released, Standing, refusal};
use crate::capability::{Capabilities, Knows, Modes, Order, TokenStrength, Turns, Visibility, Wakeup};
use crate::error::Result;
use crate::key::Key;
use crate::runtime::join_all;

const MOST: Capabilities = Capabilities {
    token: TokenStrength::Hybrid,
    order: Order::None,
    modes: Modes::MUTEX,
    wakeup: Wakeup::Poll,
    visibility: Visibility::Holders,
    turns: Turns::Each,
    survives: super::MOST.survives,
    previous: Knows::No,
    ..Capabilities::strongest("redis+setnx")
};

/// The dialect's row in the table.
pub(in crate::backend) const ENTRY: Entry = Entry {
    schemes: &["redis+setnx", "rediss+setnx"],
    feature: "redis",
    capabilities: MOST,
    open: |opening| Box::pin(store::open::<Plain>(opening)),
};

/// The pause that the engine is told to make between two attempts at a lock that somebody else holds.
const LOOK: Duration = Duration::from_millis(25);

/// The keys of a lock: what everybody sets, and our record beside it.
struct Keys {
    key: String,
    record: String,
}

impl Keys {
    fn mark(&self, id: &str) -> String {
        format!("{}m{id}", &self.record[..self.record.len() - 1])
    }
}

/// A lock is one key, as everybody sets it.
#[derive(Debug)]
struct Plain;

impl Verbs for Plain {
    const MOST: Capabilities = MOST;
    const DIALECT: bool = true;
    const SCRIPTS: &'static [Script] = Script::PLAIN;

    fn attempt<'a>(
        store: &'a Store<Plain>,
        claims: &'a [Claim],
        errand: Errand,
    ) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(join_all(claims.iter().map(move |claim| Box::pin(store.ask_attempt(claim, errand)))))
    }

    async fn renew(store: &Store<Plain>, claims: &[Claim], errand: Errand) -> Vec<Result<Answer>> {
        let all: Vec<(Keys, String)> = claims.iter().map(|c| (store.keys(&c.key), hex(c.id))).collect();
        let names: Vec<String> =
            all.iter().flat_map(|(k, id)| [k.key.clone(), k.record.clone(), k.mark(id)]).collect();
        let words: Vec<String> =
            claims.iter().flat_map(|c| [hex(c.id), millis(c.ttl), format::plain_note(c)]).collect();
        let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        let asked = store.client.run(errand, Script::PlainRenew, &names, &words).await;
        store.renewed(claims, all.iter().map(|(_, id)| id), asked)
    }

    async fn release(store: &Store<Plain>, claim: &Claim, leave: Leave, errand: Errand) -> Result<Released> {
        let (keys, id) = (store.keys(&claim.key), hex(claim.id));
        let mark = keys.mark(&id);
        let trace = match leave {
            Leave::Nothing => String::new(),
            Leave::Final => "m".to_owned(),
            Leave::For(pause) => millis(pause),
        };
        let birth = padded(store.client.server_us(claim.birth), 16);
        let names = [&keys.key, &keys.record, &mark].map(|k| k.as_bytes());
        let words = [&id, &trace, &birth].map(|w| w.as_bytes());
        let asked = store.client.run(errand, Script::PlainRelease, &names, &words).await;
        store.answered(asked, &id, answer::released)
    }

    async fn transfer(store: &Store<Plain>, from: &Claim, to: &Claim, errand: Errand) -> Result<Answer> {
        if to.kind != Kind::Mutex {
            return Err(refusal::mutexes_only("redis+setnx", "redis"));
        }
        if to.weight > 1 {
            return Err(refusal::larger());
        }
        refusal::check_tokens(to, 1)?;
        let (keys, id, held) = (store.keys(&to.key), hex(to.id), hex(from.id));
        let marks = [keys.mark(&held), keys.mark(&id)];
        let birth = padded(store.client.server_us(to.birth), 16);
        let (lease, note) = (millis(to.ttl), format::plain_note(to));
        let names = [&keys.key, &keys.record, &marks[0], &marks[1]].map(|k| k.as_bytes());
        let words = [&held, &id, &lease, &birth, &note].map(|w| w.as_bytes());
        let asked = store.client.run(errand, Script::PlainTransfer, &names, &words).await;
        store.answered(asked, &id, |fields| answer::standing(fields, to))
    }

    fn evict(store: &Store<Plain>, key: &Key) -> (Script, Vec<String>) {
        let keys = store.keys(key);
        (Script::PlainEvict, vec![keys.key, keys.record])
    }
}

impl Store<Plain> {
    fn keys(&self, key: &Key) -> Keys {
        let prefix = self.client.target.dialect.as_deref().unwrap_or_default();
        let key = format!("{prefix}{}", key.name());
        let record = super::names::plain_record(&key);
        Keys { key, record }
    }

    async fn ask_attempt(&self, claim: &Claim, errand: Errand) -> Result<Answer> {
        if claim.kind != Kind::Mutex {
            return Err(refusal::mutexes_only("redis+setnx", "redis"));
        }
        refusal::check_tokens(claim, 1)?;
        self.client.check_permitted().await.map_err(|why| why.error())?;
        let (keys, id) = (self.keys(&claim.key), hex(claim.id));
        let (mark, lease) = (keys.mark(&id), millis(claim.ttl));
        let birth = padded(self.client.server_us(claim.birth), 16);
        let note = format::plain_note(claim);
        let names = [&keys.key, &keys.record, &mark].map(|k| k.as_bytes());
        let words = [&id, &lease, &birth, &note].map(|w| w.as_bytes());
        let asked = self.client.run(errand, Script::PlainAttempt, &names, &words).await;
        self.answered(asked, &id, |fields| self.standing(fields, claim))
    }

    /// A claim that finds the lock busy has no place to wait in: the engine asks again.
    fn standing(&self, fields: &Fields<'_>, claim: &Claim) -> Option<Result<Answer>> {
        if fields.letter() != "B" || !claim.stand {
            return answer::standing(fields, claim);
        }
        let at = Some(fields.now()?.saturating_mul(1000));
        let standing = Standing::Waiting { place: None, ahead: None, look_again: LOOK };
        Some(Ok(Answer { standing, at }))
    }
}

/// Whole milliseconds, as the dialect counts: at least one, unless it is nothing.
fn millis(d: Duration) -> String {
    d.as_micros().div_ceil(1000).min(9_000_000_000_000).to_string()
}
