//! The dialect `redis+setnx://`: the plain `SET key id NX PX ms` with compare-and-delete that everybody writes.
//!
//! It excludes such programs and is excluded by them. The key is the lock's name as it stands, after the URL's `prefix`;
//! the namespace is no part of it. What the plain form cannot carry is not there: no line and no order, nobody is told,
//! waiters are not seen. The token lies in a key of its own.

use std::sync::Arc;
use std::time::Duration;

use super::answer::{Fields, hex};
use super::client::Client;
use super::digits::padded;
use super::scripts::Script;
use super::{BATCH, answer, changes, evicted, judge, list, open_client, record, store_name};
use crate::backend::{
    Answer, Backend, BoxFuture, Call, Claim, Entry, Errand, Kind, Leave, Opened, Opening, Page, Part, Query,
    Released, Standing, Watched, refusal,
};
use crate::capability::{Capabilities, Knows, Modes, Order, TokenStrength, Turns, Visibility, Wakeup};
use crate::domain::Domain;
use crate::error::Result;
use crate::key::Key;
use crate::runtime::join_all;
use crate::token::Token;

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
    open: |opening| Box::pin(open(opening)),
};

/// The pause that the engine is told to make between two attempts at a lock that somebody else holds.
const LOOK: Duration = Duration::from_millis(25);

async fn open(opening: Opening) -> Opened {
    let (client, probed) = open_client(opening, true).await?;
    let capabilities = Capabilities {
        survives: MOST.survives.min(probed.0),
        token: MOST.token.min(probed.1),
        warnings: probed.2,
        ..MOST
    };
    Ok(Arc::new(Setnx { client, capabilities, listed: list::Listed::default() }))
}

/// One client that speaks the dialect.
#[derive(Debug)]
struct Setnx {
    client: Arc<Client>,
    capabilities: Capabilities,
    listed: list::Listed,
}

impl Drop for Setnx {
    fn drop(&mut self) {
        self.client.close();
    }
}

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

impl Setnx {
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
        let note = record::plain_note(claim);
        let names = [&keys.key, &keys.record, &mark].map(|k| k.as_bytes());
        let words = [&id, &lease, &birth, &note].map(|w| w.as_bytes());
        let asked = self.client.run(errand, Script::PlainAttempt, &names, &words).await;
        let (value, link) = asked.map_err(|why| why.error())?;
        judge(&self.client, &link, &value, &id, |fields| self.standing(fields, claim))
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

    async fn ask_renew(&self, claims: &[Claim], errand: Errand) -> Vec<Result<Answer>> {
        let all: Vec<(Keys, String)> = claims.iter().map(|c| (self.keys(&c.key), hex(c.id))).collect();
        let names: Vec<String> =
            all.iter().flat_map(|(k, id)| [k.key.clone(), k.record.clone(), k.mark(id)]).collect();
        let words: Vec<String> =
            claims.iter().flat_map(|c| [hex(c.id), millis(c.ttl), record::plain_note(c)]).collect();
        let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        let (value, link) = match self.client.run(errand, Script::PlainRenew, &names, &words).await {
            Ok(answered) => answered,
            Err(why) => return claims.iter().map(|_| Err(why.error())).collect(),
        };
        let answers = value.list().unwrap_or_default();
        let each = claims.iter().zip(&all).enumerate();
        each.map(|(i, (claim, (_, id)))| {
            let one = answers.get(i).unwrap_or(&super::resp::Value::Nil);
            judge(&self.client, &link, one, id, |fields| answer::standing(fields, claim))
        })
        .collect()
    }

    async fn ask_release(&self, claim: &Claim, leave: Leave, errand: Errand) -> Result<Released> {
        let (keys, id) = (self.keys(&claim.key), hex(claim.id));
        let mark = keys.mark(&id);
        let trace = match leave {
            Leave::Nothing => String::new(),
            Leave::Final => "m".to_owned(),
            Leave::For(pause) => millis(pause),
        };
        let birth = padded(self.client.server_us(claim.birth), 16);
        let names = [&keys.key, &keys.record, &mark].map(|k| k.as_bytes());
        let words = [&id, &trace, &birth].map(|w| w.as_bytes());
        let asked = self.client.run(errand, Script::PlainRelease, &names, &words).await;
        let (value, link) = asked.map_err(|why| why.error())?;
        judge(&self.client, &link, &value, &id, answer::released)
    }

    async fn ask_transfer(&self, from: &Claim, to: &Claim, errand: Errand) -> Result<Answer> {
        if to.kind != Kind::Mutex {
            return Err(refusal::mutexes_only("redis+setnx", "redis"));
        }
        if to.weight > 1 {
            return Err(refusal::larger());
        }
        refusal::check_tokens(to, 1)?;
        let (keys, id, held) = (self.keys(&to.key), hex(to.id), hex(from.id));
        let marks = [keys.mark(&held), keys.mark(&id)];
        let birth = padded(self.client.server_us(to.birth), 16);
        let (lease, note) = (millis(to.ttl), record::plain_note(to));
        let names = [&keys.key, &keys.record, &marks[0], &marks[1]].map(|k| k.as_bytes());
        let words = [&held, &id, &lease, &birth, &note].map(|w| w.as_bytes());
        let asked = self.client.run(errand, Script::PlainTransfer, &names, &words).await;
        let (value, link) = asked.map_err(|why| why.error())?;
        judge(&self.client, &link, &value, &id, |fields| answer::standing(fields, to))
    }

    async fn ask_evict(
        &self,
        key: &Key,
        token: Option<Token>,
        why: &str,
        errand: Errand,
    ) -> Result<Released> {
        let keys = self.keys(key);
        let token = token.map(|t| format!("{:016}", t.get())).unwrap_or_default();
        let names = [&keys.key, &keys.record].map(|k| k.as_bytes());
        let words = [token.as_bytes(), why.as_bytes()];
        let asked = self.client.run(errand, Script::PlainEvict, &names, &words).await;
        let (value, link) = asked.map_err(|why| why.error())?;
        evicted(&self.client, &link, &value)
    }
}

/// Whole milliseconds, as the dialect counts: at least one, unless it is nothing.
fn millis(d: Duration) -> String {
    d.as_micros().div_ceil(1000).min(9_000_000_000_000).to_string()
}

impl Backend for Setnx {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn domain(&self) -> BoxFuture<'_, Result<Domain>> {
        Box::pin(store_name::domain(&self.client, MOST.backend))
    }

    fn part(&self, _: &Key) -> Part {
        Part::WHOLE
    }

    fn attempt<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(join_all(claims.iter().map(move |claim| Box::pin(self.ask_attempt(claim, call.errand)))))
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(claims.len());
            for batch in claims.chunks(BATCH) {
                answers.extend(self.ask_renew(batch, call.errand).await);
            }
            answers
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, call: Call) -> BoxFuture<'a, Result<Released>> {
        Box::pin(self.ask_release(claim, leave, call.errand))
    }

    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim, call: Call) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(self.ask_transfer(from, to, call.errand))
    }

    fn evict<'a>(
        &'a self,
        key: &'a Key,
        token: Option<Token>,
        why: &'a str,
        call: Call,
    ) -> BoxFuture<'a, Result<Released>> {
        Box::pin(self.ask_evict(key, token, why, call.errand))
    }

    fn inspect<'a>(&'a self, query: &'a Query, _: Call) -> BoxFuture<'a, Result<Page>> {
        Box::pin(list::inspect(&self.client, &self.listed, query))
    }

    fn watch(&self, what: &Watched) {
        changes::watch(&self.client, what);
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.client.close() })
    }
}
