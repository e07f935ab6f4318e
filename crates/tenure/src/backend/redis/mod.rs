//! Locks on one Redis server: `redis://`, `rediss://`, and the plain `SET NX PX` of everybody as `redis+setnx://`.
//!
//! The line of a lock lives on the server. Each verb is one script there, so it is atomic, takes its time from the
//! server's clock, and grants to the next in line what it made free; the one who was granted is told by a push that
//! carries token and time. Keys, records and channels are a public interface: `docs/wire/redis.md`.
//!
//! - `lua/`: the scripts. - `fields`: names in them. - `scripts`: running them. - `answer`, `record`: reading what they say.
//! - `client`, `supervise`: two connections, which one a request takes, making them anew. - `changes`: news of what is watched. - `place`: where they live.
//! - `link`, `together`, `stream`, `resp`, `digits`: one connection. - `handshake`: its beginning, and what the server can promise.
//! - `setnx`: the dialect. - `target`, `names`, `fault`: URLs, keys, errors.
//! - `store_name`: which order the tokens belong to.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinError;

use self::answer::{Fields, hex};
use self::client::Client;
use self::digits::padded;
use self::fault::{Fault, Why};
use self::link::Link;
use self::place::Thread;
use self::resp::Value;
use self::scripts::Script;
use self::supervise::Lane;
use self::target::Target;
use super::{
    Anchor, Answer, Backend, BoxFuture, Call, Claim, Entry, Errand, Leave, Opening, Page, Part, Query,
    Released, Watched, refusal,
};
use crate::capability::{Capabilities, Fact, Knows, Survives, TokenStrength};
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::token::Token;

mod answer;
mod changes;
mod client;
mod digits;
mod fault;
mod fields;
#[cfg(feature = "unstable")]
mod fuzz;
mod handshake;
mod link;
mod list;
mod names;
mod place;
mod record;
mod resp;
mod scripts;
pub(super) mod setnx;
mod store_name;
mod stream;
mod supervise;
mod target;
mod together;

#[cfg(feature = "unstable")]
pub(crate) use self::fuzz::FUZZ;
#[cfg(any(test, feature = "unstable"))]
pub use self::scripts::scripts;

/// The most claims in one renewal: a longer script would hold the server up.
const BATCH: usize = 100;

/// The most tokens that one claim may ask for.
const TOKENS: u32 = 65_536;

const MOST: Capabilities = Capabilities {
    token: TokenStrength::Hybrid,
    // Replicas lag, and one server is the only copy.
    survives: Survives { failover: Fact::No, data_loss: Fact::No, ..Survives::EVERYTHING },
    previous: Knows::Yes,
    ..Capabilities::strongest("redis")
};

/// This backend's row in the table.
pub(super) const ENTRY: Entry = Entry {
    schemes: &["redis", "rediss"],
    feature: "redis",
    capabilities: MOST,
    open: |opening| Box::pin(open(opening)),
};

async fn open(opening: Opening) -> Result<Arc<dyn Backend>> {
    let (client, probed) = open_client(opening, false).await?;
    let capabilities = Capabilities {
        survives: MOST.survives.min(probed.0),
        token: MOST.token.min(probed.1),
        warnings: probed.2,
        ..MOST
    };
    Ok(Arc::new(Redis { client, capabilities, listed: list::Listed::default() }))
}

/// Connects, and finds out what the server can promise.
async fn open_client(opening: Opening, dialect: bool) -> Result<(Arc<Client>, handshake::Probed)> {
    let target = Target::new(opening.url, dialect)?;
    let scripts = if dialect { Script::PLAIN } else { Script::LINE };
    let make = |home| -> Result<Unfinished> {
        let thread = Thread::start()?;
        let (runtime, sink) = (opening.runtime.clone(), opening.sink.clone());
        Ok(Unfinished(Some(Arc::new(Client::new(target.clone(), scripts, home, thread, runtime, sink)))))
    };
    let home = Handle::try_current().ok();
    let mut unfinished = make(home.clone())?;
    let mut links = unfinished.connect().await;
    if home.is_some() && links.as_ref().is_err_and(JoinError::is_panic) {
        // The caller's runtime does no I/O.
        unfinished = make(None)?;
        links = unfinished.connect().await;
    }
    let ended = |e| Error::unavailable("the runtime ended while connecting", "connect again").because(e);
    let (command, keeper) = links.map_err(ended)?.map_err(|why| why.error())?;
    let probed = handshake::probe(&command).await.map_err(|why| why.error())?;
    let Some(client) = unfinished.0.take() else { return Err(Error::protocol("connecting ended twice", "")) };
    supervise::start(&client, command, keeper);
    // Whoever only looks needs less.
    match client.check_permitted().await {
        Err(why) if why.kind == ErrorKind::Denied => tracing::warn!(why.what, "locks cannot be taken"),
        other => other.map_err(|why| why.error())?,
    }
    Ok((client, probed))
}

/// A client that is being connected: dropped before that is done, it closes what was opened.
struct Unfinished(Option<Arc<Client>>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            client.close();
        }
    }
}

impl Unfinished {
    /// Makes both connections, each where it will live.
    async fn connect(&self) -> Result<Result<(Arc<Link>, Arc<Link>), Why>, JoinError> {
        let Some(client) = &self.0 else {
            return Ok(Err(Why::new(ErrorKind::Unavailable, "the client was closed", "connect again")));
        };
        let thread = &client.thread.handle;
        let keeper = thread.spawn(supervise::first(client.clone(), Lane::Keeper));
        let place = client.home.as_ref().unwrap_or(thread);
        let command = place.spawn(supervise::first(client.clone(), Lane::Command)).await?;
        let keeper = keeper.await?;
        Ok(command.and_then(|command| Ok((command, keeper?))))
    }
}

/// One client of one server.
#[derive(Debug)]
struct Redis {
    client: Arc<Client>,
    capabilities: Capabilities,
    listed: list::Listed,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.client.close();
    }
}

impl Redis {
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
        let how = record::how(claim, client.server_us(claim.birth));
        (names::head(&claim.key), [hex(claim.id), record::asked(&client.id, claim), how])
    }

    fn attempted(&self, claim: &Claim, asked: Result<(Value, Arc<Link>), fault::Why>) -> Result<Answer> {
        let (value, link) = asked.map_err(|why| why.error())?;
        self.judge(&link, &value, &hex(claim.id), |fields| answer::standing(fields, claim))
    }

    /// Reads an answer. One that is not an answer to this very request means that nothing on the connection can be
    /// trusted any more.
    fn judge<T>(
        &self,
        link: &Link,
        value: &Value,
        id: &str,
        read: impl FnOnce(&Fields<'_>) -> Option<Result<T>>,
    ) -> Result<T> {
        judge(&self.client, link, value, id, read)
    }

    async fn ask_renew(&self, claims: &[Claim], errand: Errand) -> Vec<Result<Answer>> {
        let heads: Vec<String> = claims.iter().map(|c| names::head(&c.key)).collect();
        let words: Vec<String> = claims.iter().flat_map(|c| [hex(c.id), record::note(c)]).collect();
        let keys: Vec<&[u8]> = heads.iter().map(String::as_bytes).collect();
        let arguments: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        let (value, link) = match self.client.run(errand, Script::Renew, &keys, &arguments).await {
            Ok(answered) => answered,
            Err(why) => return claims.iter().map(|_| Err(why.error())).collect(),
        };
        let none = Value::Nil;
        let answers = value.list().unwrap_or_default();
        let each = claims.iter().zip(words.iter().step_by(2)).enumerate();
        each.map(|(i, (claim, id))| {
            let one = answers.get(i).unwrap_or(&none);
            self.judge(&link, one, id, |fields| answer::standing(fields, claim))
        })
        .collect()
    }

    async fn ask_release(&self, claim: &Claim, leave: Leave, errand: Errand) -> Result<Released> {
        let client = &self.client;
        let (head, id) = (names::head(&claim.key), hex(claim.id));
        let trace = match leave {
            Leave::Nothing if claim.cohort.tokens > 1 => format!("t{:010}", claim.cohort.used),
            Leave::Nothing if self.surely_holds(claim) => "s".to_owned(),
            Leave::Nothing => String::new(),
            Leave::Final => format!("m{:016}", client.server_us(claim.birth)),
            Leave::For(pause) => padded(micros(pause), 16),
        };
        let words = [&id, &trace].map(|w| w.as_bytes());
        let asked = client.run_verb(errand, Script::Release, head.as_bytes(), &words).await;
        let (value, link) = asked.map_err(|why| why.error())?;
        self.judge(&link, &value, &id, answer::released)
    }

    /// Whether the lease of a claim that holds cannot end before nobody listens to the answer any more: then the server
    /// need not look at its clock. What is released later is free all the same, as it would be had its lease ended.
    fn surely_holds(&self, claim: &Claim) -> bool {
        // A claim that stands by its lease alone may have come from another process: its birth says nothing.
        let end = claim.birth + Duration::from_micros(record::lease(claim.ttl));
        claim.anchor == Anchor::Process && self.client.runtime.now() + supervise::PATIENCE < end
    }

    async fn ask_transfer(&self, from: &Claim, to: &Claim, errand: Errand) -> Result<Answer> {
        refusal::check_tokens(to, TOKENS)?;
        let client = &self.client;
        let (head, held, id) = (names::head(&to.key), hex(from.id), hex(to.id));
        let terms = record::terms(to);
        let birth = padded(client.server_us(to.birth), 16);
        let who = record::who(&client.id, to);
        let used = padded(from.cohort.used.into(), 10);
        let words = [&held, &id, answer::digit(to.kind), &terms, &birth, &who, &used].map(str::as_bytes);
        let asked = client.run(errand, Script::Transfer, &[head.as_bytes()], &words).await;
        let (value, link) = asked.map_err(|why| why.error())?;
        self.judge(&link, &value, &id, |fields| answer::standing(fields, to))
    }

    async fn ask_evict(
        &self,
        key: &Key,
        token: Option<Token>,
        why: &str,
        errand: Errand,
    ) -> Result<Released> {
        let head = names::head(key);
        let token = token.map(|t| format!("{:016}", t.get())).unwrap_or_default();
        let words = [token.as_bytes(), why.as_bytes()];
        let asked = self.client.run(errand, Script::Evict, &[head.as_bytes()], &words).await;
        let (value, link) = asked.map_err(|why| why.error())?;
        evicted(&self.client, &link, &value)
    }
}

/// Refuses a claim that no line can carry.
fn check(claim: &Claim) -> Result<()> {
    refusal::check_weight(claim)?;
    refusal::check_tokens(claim, TOKENS)
}

/// As [`Redis::judge`].
fn judge<T>(
    client: &Client,
    link: &Link,
    value: &Value,
    id: &str,
    read: impl FnOnce(&Fields<'_>) -> Option<Result<T>>,
) -> Result<T> {
    let fields = Fields::of(value, id);
    if let Some(now) = fields.as_ref().and_then(Fields::now) {
        client.learn_time(now);
    }
    fields.and_then(|fields| read(&fields)).unwrap_or_else(|| Err(nonsense(link)))
}

/// Closes a connection whose answers do not belong to the requests.
fn nonsense(link: &Link) -> Error {
    let why = "an answer that does not belong to its request";
    link.fail(&Fault::Garbage(why.into()));
    fault::of_fault(&Fault::Garbage(why.into())).error()
}

/// Reads the answer to an eviction.
fn evicted(client: &Client, link: &Link, value: &Value) -> Result<Released> {
    let texts: Vec<&str> = value.list().unwrap_or_default().iter().filter_map(Value::text).collect();
    let [letter, now, detail] = texts[..] else { return Err(nonsense(link)) };
    let Ok(now) = now.parse() else { return Err(nonsense(link)) };
    client.learn_time(now);
    match (letter, detail) {
        ("E", "0") => Ok(Released::Gone),
        ("E", _) => Ok(Released::WasHeld),
        ("V", byte) => Err(answer::other_version(byte)),
        _ => Err(nonsense(link)),
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX).min(9_000_000_000_000_000)
}

impl Backend for Redis {
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
        match claims {
            [claim] => Box::pin(async move { vec![self.ask_attempt(claim, call.errand).await] }),
            claims => Box::pin(self.ask_attempts(claims, call.errand)),
        }
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
