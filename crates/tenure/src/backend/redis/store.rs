//! What the line and the dialect share: a client of a server as a backend. The verbs differ.

use std::marker::PhantomData;
use std::sync::Arc;

use super::answer::{self, Fields};
use super::client::{Asked, Client};
use super::fault::of_fault;
use super::link::Link;
use super::resp::Value;
use super::scripts::Script;
use super::url::Target;
use super::{changes, domain, handshake, list};
use crate::backend::net::{self, Fault, Link as _};
use crate::backend::{
    Answer, Backend, BoxFuture, Call, Claim, Errand, Leave, Opened, Opening, Page, Part, Query, Released,
    Watched,
};
use crate::capability::Capabilities;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::token::Token;

/// The most claims in one renewal: a longer script would hold the server up.
const BATCH: usize = 100;

/// How a store's verbs are said to the server.
pub(super) trait Verbs: std::fmt::Debug + Send + Sync + Sized + 'static {
    /// The most that it can promise.
    const MOST: Capabilities;
    /// Whether it is the dialect, whose keys have no namespace.
    const DIALECT: bool;
    /// The scripts that a server is given when a client connects.
    const SCRIPTS: &'static [Script];

    fn attempt<'a>(
        store: &'a Store<Self>,
        claims: &'a [Claim],
        errand: Errand,
    ) -> BoxFuture<'a, Vec<Result<Answer>>>;

    /// Renews as many claims as fit into one call.
    fn renew(
        store: &Store<Self>,
        claims: &[Claim],
        errand: Errand,
    ) -> impl Future<Output = Vec<Result<Answer>>> + Send;

    fn release(
        store: &Store<Self>,
        claim: &Claim,
        leave: Leave,
        errand: Errand,
    ) -> impl Future<Output = Result<Released>> + Send;

    fn transfer(
        store: &Store<Self>,
        from: &Claim,
        to: &Claim,
        errand: Errand,
    ) -> impl Future<Output = Result<Answer>> + Send;

    /// The script of an eviction, and its keys.
    fn evict(store: &Store<Self>, key: &Key) -> (Script, Vec<String>);
}

/// One client of one server.
#[derive(Debug)]
pub(super) struct Store<V> {
    pub(super) client: Arc<Client>,
    capabilities: Capabilities,
    listed: list::Listed,
    verbs: PhantomData<V>,
}

impl<V> Drop for Store<V> {
    fn drop(&mut self) {
        self.client.lanes.close();
    }
}

/// Connects, and finds out what the server can promise.
pub(super) async fn open<V: Verbs>(opening: Opening) -> Opened {
    let target = Target::new(opening.url, V::DIALECT)?;
    let make =
        |home| Client::new(target.clone(), V::SCRIPTS, home, opening.runtime.clone(), opening.sink.clone());
    let opened = net::open(net::home(), make).await?;
    let (survives, token, warnings) = handshake::probe(&opened.command).await.map_err(|why| why.error())?;
    let capabilities = Capabilities {
        survives: V::MOST.survives.min(survives),
        token: V::MOST.token.min(token),
        warnings,
        ..V::MOST
    };
    let (client, listed) = (opened.keep()?, list::Listed::default());
    let store = Store::<V> { client, capabilities, listed, verbs: PhantomData };
    // Whoever only looks needs less.
    match store.client.check_permitted().await {
        Err(why) if why.kind == ErrorKind::Denied => tracing::warn!(why.what, "locks cannot be taken"),
        other => other.map_err(|why| why.error())?,
    }
    Ok(Arc::new(store))
}

impl<V: Verbs> Store<V> {
    /// Reads the answer to the verb of one claim.
    pub(super) fn answered<T>(
        &self,
        asked: Asked,
        id: &str,
        read: impl FnOnce(&Fields<'_>) -> Option<Result<T>>,
    ) -> Result<T> {
        let (value, link) = asked.map_err(|why| why.error())?;
        self.judge(&link, &value, id, read)
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
        let fields = Fields::of(value, id);
        if let Some(now) = fields.as_ref().and_then(Fields::now) {
            self.client.learn_time(now);
        }
        fields.and_then(|fields| read(&fields)).unwrap_or_else(|| Err(nonsense(link)))
    }

    /// Reads the answers to a renewal; `ids` of the claims, in order.
    pub(super) fn renewed<'a>(
        &self,
        claims: &[Claim],
        ids: impl Iterator<Item = &'a String>,
        asked: Asked,
    ) -> Vec<Result<Answer>> {
        let (value, link) = match asked {
            Ok(answered) => answered,
            Err(why) => return claims.iter().map(|_| Err(why.error())).collect(),
        };
        let answers = value.list().unwrap_or_default();
        let each = claims.iter().zip(ids).enumerate();
        each.map(|(i, (claim, id))| {
            let one = answers.get(i).unwrap_or(&Value::Nil);
            self.judge(&link, one, id, |fields| answer::standing(fields, claim))
        })
        .collect()
    }

    async fn ask_evict(
        &self,
        key: &Key,
        token: Option<Token>,
        why: &str,
        errand: Errand,
    ) -> Result<Released> {
        let (script, keys) = V::evict(self, key);
        let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        let token = token.map(|t| format!("{:016}", t.get())).unwrap_or_default();
        let words = [token.as_bytes(), why.as_bytes()];
        let asked = self.client.run(errand, script, &keys, &words).await;
        let (value, link) = asked.map_err(|why| why.error())?;
        let texts: Vec<&str> = value.list().unwrap_or_default().iter().filter_map(Value::text).collect();
        let [letter, now, detail] = texts[..] else { return Err(nonsense(&link)) };
        let Ok(now) = now.parse() else { return Err(nonsense(&link)) };
        self.client.learn_time(now);
        match (letter, detail) {
            ("E", "0") => Ok(Released::Gone),
            ("E", _) => Ok(Released::WasHeld),
            ("V", byte) => Err(answer::other_version(byte)),
            _ => Err(nonsense(&link)),
        }
    }
}

/// Closes a connection whose answers do not belong to the requests.
pub(super) fn nonsense(link: &Link) -> Error {
    let fault = Fault::Garbage("an answer that does not belong to its request".into());
    link.fail(&fault);
    of_fault(&fault).error()
}

impl<V: Verbs> Backend for Store<V> {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn domain(&self) -> BoxFuture<'_, Result<Domain>> {
        Box::pin(domain::domain(&self.client, V::MOST.backend))
    }

    fn part(&self, _: &Key) -> Part {
        Part::WHOLE
    }

    fn attempt<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        V::attempt(self, claims, call.errand)
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(claims.len());
            for batch in claims.chunks(BATCH) {
                answers.extend(V::renew(self, batch, call.errand).await);
            }
            answers
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, call: Call) -> BoxFuture<'a, Result<Released>> {
        Box::pin(V::release(self, claim, leave, call.errand))
    }

    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim, call: Call) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(V::transfer(self, from, to, call.errand))
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
        Box::pin(async { self.client.lanes.close() })
    }
}
