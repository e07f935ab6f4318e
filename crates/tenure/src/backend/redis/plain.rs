//! The dialect `redis+setnx://`: the plain `SET key id NX PX ms` with compare-and-delete that everybody writes.
//!
//! It excludes such programs and is excluded by them. The key is the lock's name as it stands, after the URL's `prefix`;
//! the namespace is no part of it. What the plain form cannot carry is not there: no line and no order, nobody is told,
//! waiters are not seen. The token lies in a key of its own.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use super::answer::{Fields, hex};
use super::client::{Client, Errand, errand_of_release};
use super::digits::padded;
use super::scripts::Script;
use super::{BATCH, answer, evicted, judge, list, open_client, record, store_name, supervise};
use crate::backend::{
    Answer, Backend, BoxFuture, Claim, ClaimId, Entry, Kind, Lease, Leave, Opened, Opening, Page, Query,
    Released, Standing, larger, one_token,
};
use crate::capability::{Capabilities, Modes, Order, TokenStrength, Turns, Visibility, Wakeup};
use crate::domain::Domain;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::token::Token;

const MOST: Capabilities = Capabilities {
    token: TokenStrength::Hybrid,
    order: Order::None,
    modes: Modes::MUTEX,
    wakeup: Wakeup::Poll,
    visibility: Visibility::Holders,
    turns: Turns::Each,
    ..Capabilities::strongest("redis+setnx")
};

/// The dialect's row in the table.
pub(in crate::backend) const ENTRY: Entry = Entry {
    schemes: &["redis+setnx", "rediss+setnx"],
    feature: "redis",
    capabilities: MOST,
    open: |opening| Box::pin(open(opening)),
};

/// Between two looks at a lock that somebody else holds: evenly between the shortest and twice that, so that those who wait
/// do not come all at once.
const LOOK: Duration = Duration::from_millis(25);

/// With each so many that wait in one client, its looks become as much rarer again: a crowd does not flood the server.
const CROWD: u32 = 32;

async fn open(opening: Opening) -> Opened {
    let (client, probed) = open_client(opening, true).await?;
    let capabilities =
        Capabilities { survives: MOST.survives.min(probed.0), token: MOST.token.min(probed.1), ..MOST };
    Ok(Arc::new(Plain { client, capabilities, waiting: Mutex::default(), listed: list::Listed::default() }))
}

/// One client that speaks the dialect.
#[derive(Debug)]
struct Plain {
    client: Arc<Client>,
    capabilities: Capabilities,
    /// Who waits, by polling: only this client knows.
    waiting: Mutex<HashMap<ClaimId, Waits>>,
    listed: list::Listed,
}

/// One that waits.
#[derive(Debug, Default)]
struct Waits {
    /// How many of its attempts have no answer yet that the engine does not know of, since it called them renewals.
    unanswered: u32,
    stage: Stage,
}

/// What a renewal of it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Another attempt.
    #[default]
    Asks,
    /// A renewal: it is granted.
    Over,
    /// A renewal, which finds nothing: it is being withdrawn, by a request that may leave no mark.
    Leaves,
}

impl Drop for Plain {
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

impl Plain {
    fn keys(&self, key: &Key) -> Keys {
        let prefix = self.client.target.dialect.as_deref().unwrap_or_default();
        let key = format!("{prefix}{}", key.name());
        let record = super::names::plain_record(&key);
        Keys { key, record }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<ClaimId, Waits>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask_attempt(&self, claim: &Claim, errand: Errand) -> Result<Answer> {
        if claim.kind != Kind::Mutex {
            return Err(mutexes_only());
        }
        one_token(claim)?;
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

    /// The engine's own attempt.
    async fn stand(&self, claim: &Claim) -> Result<Answer> {
        let answer = self.ask_attempt(claim, Errand::Command).await?;
        let mut waiting = self.waiting();
        if matches!(answer.standing, Standing::Waiting { .. }) {
            waiting.entry(claim.id).or_default();
        } else {
            waiting.remove(&claim.id);
        }
        Ok(answer)
    }

    fn standing(&self, fields: &Fields<'_>, claim: &Claim) -> Option<Result<Answer>> {
        if fields.letter() != "B" || !claim.stand {
            return answer::standing(fields, claim);
        }
        let at = Some(fields.now()?.saturating_mul(1000));
        let mut dice = [0u8; 4];
        self.client.runtime.fill(&mut dice);
        let crowd = 1 + u32::try_from(self.waiting().len()).unwrap_or(u32::MAX) / CROWD;
        let look_again = LOOK * crowd + LOOK * crowd * (u32::from_le_bytes(dice) % 1024) / 1024;
        let lease = Lease::For(claim.waiting);
        Some(Ok(Answer { standing: Standing::Waiting { lease, ahead: None, look_again }, at }))
    }

    /// One that waits tries again: to the engine it renews. It is counted as unanswered already.
    async fn try_again(&self, claim: &Claim) -> Result<Answer> {
        let result = self.ask_attempt(claim, Errand::Keeper).await;
        let mut waiting = self.waiting();
        match &result {
            Ok(Answer { standing: Standing::Waiting { .. }, .. }) => {}
            Err(error) if error.kind().may_pass() => return result,
            Err(_) => {}
            // What else was asked for it is still under way: its release must know.
            Ok(_) if waiting.get(&claim.id).is_some_and(|waits| waits.unanswered <= 1) => {
                waiting.remove(&claim.id);
            }
            Ok(_) => {}
        }
        if let Some(waits) = waiting.get_mut(&claim.id) {
            waits.unanswered = waits.unanswered.saturating_sub(1);
            if waits.stage == Stage::Asks
                && !matches!(result, Ok(Answer { standing: Standing::Waiting { .. }, .. }) | Err(_))
            {
                waits.stage = Stage::Over;
            }
        }
        drop(waiting);
        result
    }

    async fn ask_renew(&self, claims: &[&Claim]) -> Vec<Result<Answer>> {
        let all: Vec<(Keys, String)> = claims.iter().map(|c| (self.keys(&c.key), hex(c.id))).collect();
        let names: Vec<String> =
            all.iter().flat_map(|(k, id)| [k.key.clone(), k.record.clone(), k.mark(id)]).collect();
        let words: Vec<String> =
            claims.iter().flat_map(|c| [hex(c.id), millis(c.ttl), record::plain_note(c)]).collect();
        let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        let (value, link) = match self.client.run(Errand::Keeper, Script::PlainRenew, &names, &words).await {
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

    async fn renew_all(&self, claims: &[Claim]) -> Vec<Result<Answer>> {
        // Counted in the same step: a withdrawal in between must know of the attempt, and leave its mark. One that has
        // begun already may not know of it, so there is no attempt any more: it finds out that it is gone.
        let waits: Vec<bool> = {
            let mut waiting = self.waiting();
            let mut counted = |c: &Claim| match waiting.get_mut(&c.id) {
                Some(waits) if waits.stage == Stage::Asks => {
                    waits.unanswered += 1;
                    true
                }
                _ => false,
            };
            claims.iter().map(&mut counted).collect()
        };
        let holders: Vec<&Claim> = claims.iter().zip(&waits).filter(|(_, w)| !**w).map(|(c, _)| c).collect();
        let mut renewed = Vec::with_capacity(holders.len());
        for batch in holders.chunks(BATCH) {
            renewed.extend(self.ask_renew(batch).await);
        }
        let mut renewed = renewed.into_iter();
        let waiters = claims.iter().zip(&waits).filter(|(_, waits)| **waits);
        let tries = waiters.map(|(claim, _)| Box::pin(self.try_again(claim)));
        let mut tried = all_of(tries.collect()).await.into_iter();
        let next = |waits| if waits { tried.next() } else { renewed.next() };
        let missing = || Err(Error::protocol("a renewal has no answer", ""));
        waits.into_iter().map(next).map(|answer| answer.unwrap_or_else(missing)).collect()
    }

    async fn ask_release(&self, claim: &Claim, leave: Leave) -> Result<Released> {
        let errand = errand_of_release().await;
        let (waited, unsure) = match self.waiting().get_mut(&claim.id) {
            Some(waits) => {
                if waits.stage == Stage::Asks {
                    waits.stage = Stage::Leaves;
                }
                (waits.stage == Stage::Leaves, waits.unanswered > 0)
            }
            None => (false, false),
        };
        let (keys, id) = (self.keys(&claim.key), hex(claim.id));
        let mark = keys.mark(&id);
        let trace = match leave {
            Leave::Nothing if unsure => "m".to_owned(),
            Leave::Nothing => String::new(),
            Leave::Mark => "m".to_owned(),
            Leave::For(pause) => millis(pause),
        };
        let birth = padded(self.client.server_us(claim.birth), 16);
        let names = [&keys.key, &keys.record, &mark].map(|k| k.as_bytes());
        let words = [&id, &trace, &birth].map(|w| w.as_bytes());
        let asked = self.client.run(errand, Script::PlainRelease, &names, &words).await;
        let (value, link) = asked.map_err(|why| why.error())?;
        let released = judge(&self.client, &link, &value, &id, answer::released)?;
        self.waiting().remove(&claim.id);
        Ok(if waited && released == Released::Gone { Released::WasWaiting } else { released })
    }

    async fn ask_transfer(&self, from: &Claim, to: &Claim) -> Result<Answer> {
        if to.kind != Kind::Mutex {
            return Err(mutexes_only());
        }
        if to.weight > 1 {
            return Err(larger());
        }
        one_token(to)?;
        let (keys, id, held) = (self.keys(&to.key), hex(to.id), hex(from.id));
        let marks = [keys.mark(&held), keys.mark(&id)];
        let birth = padded(self.client.server_us(to.birth), 16);
        let (lease, note) = (millis(to.ttl), record::plain_note(to));
        let names = [&keys.key, &keys.record, &marks[0], &marks[1]].map(|k| k.as_bytes());
        let words = [&held, &id, &lease, &birth, &note].map(|w| w.as_bytes());
        let asked = self.client.run(Errand::Command, Script::PlainTransfer, &names, &words).await;
        let (value, link) = asked.map_err(|why| why.error())?;
        judge(&self.client, &link, &value, &id, |fields| answer::standing(fields, to))
    }

    async fn ask_evict(&self, key: &Key, token: Option<Token>, why: &str) -> Result<Released> {
        let keys = self.keys(key);
        let token = token.map(|t| format!("{:016}", t.get())).unwrap_or_default();
        let names = [&keys.key, &keys.record].map(|k| k.as_bytes());
        let words = [token.as_bytes(), why.as_bytes()];
        let asked = self.client.run(Errand::Command, Script::PlainEvict, &names, &words).await;
        let (value, link) = asked.map_err(|why| why.error())?;
        evicted(&self.client, &link, &value)
    }
}

fn mutexes_only() -> Error {
    Error::unsupported("redis+setnx: carries mutexes only", "use redis: instead")
}

/// Runs futures side by side; their results in order.
async fn all_of<T>(mut work: Vec<Pin<Box<impl Future<Output = T>>>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = work.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (one, done) in work.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(value) = one.as_mut().poll(cx)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Whole milliseconds, as the dialect counts: at least one, unless it is nothing.
fn millis(d: Duration) -> String {
    d.as_micros().div_ceil(1000).min(9_000_000_000_000).to_string()
}

impl Backend for Plain {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn domain(&self) -> BoxFuture<'_, Result<Domain>> {
        Box::pin(store_name::domain(&self.client, MOST.backend))
    }

    fn attempt<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(self.stand(claim))
    }

    fn renew<'a>(&'a self, claims: &'a [Claim]) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(self.renew_all(claims))
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave) -> BoxFuture<'a, Result<Released>> {
        Box::pin(self.ask_release(claim, leave))
    }

    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(self.ask_transfer(from, to))
    }

    fn evict<'a>(
        &'a self,
        key: &'a Key,
        token: Option<Token>,
        why: &'a str,
    ) -> BoxFuture<'a, Result<Released>> {
        Box::pin(self.ask_evict(key, token, why))
    }

    fn inspect<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page>> {
        Box::pin(list::inspect(&self.client, &self.listed, query))
    }

    fn watch(&self, on: bool) {
        supervise::watch(&self.client, on);
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.client.close() })
    }
}
