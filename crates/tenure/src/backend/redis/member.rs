//! One of several servers that vote: a client of a plain server that may be away.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use super::client::Client;
use super::format::{plain_note, read_note};
pub(in crate::backend) use super::handshake::Born;
use super::resp::Value;
pub(in crate::backend) use super::scripts::Script;
use super::url::Target;
use super::{changes, digits, list, names};
use crate::backend::net::{self, Why};
use crate::backend::{Claim, ClaimId, Errand, News, Owner, Sink, Watched};
use crate::core::moment::Moment;
use crate::error::{ErrorKind, Result};
use crate::key::Key;
use crate::runtime::Runtime;
use crate::url::StoreUrl;

/// One server. Dropped, it is no longer connected.
#[derive(Debug)]
pub(in crate::backend) struct Member {
    client: Arc<Client>,
}

/// What a server keeps of a lock.
#[derive(Clone, Debug)]
pub(in crate::backend) enum Look {
    /// No vote.
    Nothing,
    /// A vote.
    Vote(Box<Voted>),
    /// Another version wrote it: this is its format byte.
    Version(String),
}

/// Whom a server has voted for.
#[derive(Clone, Debug)]
pub(in crate::backend) struct Voted {
    pub(in crate::backend) claim: ClaimId,
    pub(in crate::backend) left: Duration,
    pub(in crate::backend) token: i64,
    pub(in crate::backend) owner: Owner,
    pub(in crate::backend) reason: String,
}

/// Who asks and why, as servers keep it.
pub(in crate::backend) fn note(claim: &Claim) -> String {
    plain_note(claim)
}

/// Servers that vote push nothing but changes.
struct Changes(Arc<dyn Sink>);

impl Sink for Changes {
    fn news(&self, news: News) {
        if matches!(news, News::Changed | News::LinesChanged(_)) {
            self.0.news(news);
        }
    }
}

impl Member {
    /// Begins to connect, and goes on for as long as it takes.
    ///
    /// # Errors
    /// `Config` where the URL has a part that no server has.
    pub(in crate::backend) fn open(
        url: &StoreUrl,
        host: (String, Option<u16>),
        runtime: &Arc<dyn Runtime>,
        sink: &Arc<dyn Sink>,
    ) -> Result<Member> {
        let target = Target::voter(url.clone(), host)?;
        let home = Handle::try_current().ok();
        let changes = Arc::new(Changes(sink.clone()));
        let client = Arc::new(Client::new(target, Script::VOTE, home, runtime.clone(), changes)?);
        net::keep_trying(&client);
        Ok(Member { client })
    }

    /// Its address, for people.
    pub(in crate::backend) fn shown(&self) -> String {
        format!("{}:{}", self.client.target.host, self.client.target.port)
    }

    /// Whether it can be asked; the reason if not.
    pub(in crate::backend) fn reachable(&self) -> std::result::Result<(), Why> {
        self.client.lanes.pick(Errand::Awaited).map(|_| ())
    }

    /// What it said of itself on the newest connection; `None`: it was not reached yet.
    pub(in crate::backend) fn born(&self) -> Option<Born> {
        self.client.born.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A moment of ours on the server's clock: 16 digits, in µs.
    pub(in crate::backend) fn moment(&self, at: Moment) -> String {
        digits::padded(self.client.server_us(at), 16)
    }

    /// Tells of changes of these locks from now on.
    pub(in crate::backend) fn watch(&self, what: &Watched) {
        changes::watch(&self.client, what);
    }

    /// Runs a script about one claim on a lock. The answer's words, of which the first is that of the request: the claim.
    pub(in crate::backend) async fn ask(
        &self,
        errand: Errand,
        script: Script,
        key: &Key,
        words: Vec<String>,
    ) -> std::result::Result<Vec<String>, Why> {
        let (votes, mark) = (names::votes(key), names::mark(key, words.first().map_or("", String::as_str)));
        let keys = [votes.as_bytes(), mark.as_bytes()];
        let keys = if script.marks() { &keys[..] } else { &keys[..1] };
        let arguments: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        let mut asked = self.client.run(errand, script, keys, &arguments).await;
        if script.may_repeat() && asked.as_ref().is_err_and(|why| why.kind == ErrorKind::Uncertain) {
            asked = self.client.run(errand, script, keys, &arguments).await;
        }
        let (value, link) = asked?;
        let texts = value.list().unwrap_or_default().iter().map(|v| v.text().map(str::to_owned));
        let texts: Option<Vec<String>> = texts.collect();
        match texts.filter(|texts| texts.len() >= 2 && texts.first() == words.first()) {
            Some(texts) => {
                if let Some(now) = texts.get(2).and_then(|now| digits::number(now)) {
                    self.client.learn_time(now);
                }
                Ok(texts)
            }
            None => {
                net::Link::fail(&*link, &net::Fault::Garbage("an answer to another request".into()));
                Err(Why::new(
                    ErrorKind::Protocol,
                    "the server answered something else",
                    "check that it is Redis",
                ))
            }
        }
    }

    /// What it keeps of locks, in their order.
    pub(in crate::backend) async fn look(&self, keys: &[Key]) -> std::result::Result<Vec<Look>, Why> {
        let heads: Vec<String> = keys.iter().map(names::votes).collect();
        let heads: Vec<&[u8]> = heads.iter().map(String::as_bytes).collect();
        let (value, _) = self.client.run(Errand::Awaited, Script::VoteInspect, &heads, &[]).await?;
        Ok(value.list().unwrap_or_default().iter().map(look).collect())
    }

    /// The locks of which it keeps something, whose names begin like this.
    pub(in crate::backend) async fn scan(&self, begin: &str) -> std::result::Result<Vec<Key>, Why> {
        let pattern = names::pattern(begin, 'q');
        let (mut keys, mut cursor) = (Vec::new(), "0".to_owned());
        loop {
            let answer = list::scan_step(&self.client, &cursor, &pattern).await?;
            let (next, found) = list::scanned(&answer)?;
            keys.extend(found.filter_map(names::voted));
            cursor = next.to_owned();
            if cursor == "0" {
                return Ok(keys);
            }
        }
    }

    /// Ends the connections.
    pub(in crate::backend) fn close(&self) {
        self.client.lanes.close();
    }
}

fn look(value: &Value) -> Look {
    let texts: Vec<&str> = value.list().unwrap_or_default().iter().filter_map(Value::text).collect();
    match texts[..] {
        [_, "V", byte] => Look::Version(byte.to_owned()),
        [_, _, claim, left, token, note] => {
            voted(claim, left, token, note).map_or(Look::Nothing, |voted| Look::Vote(Box::new(voted)))
        }
        _ => Look::Nothing,
    }
}

fn voted(claim: &str, left: &str, token: &str, note: &str) -> Option<Voted> {
    let (owner, reason, _) = read_note(note);
    Some(Voted {
        claim: ClaimId(digits::unhex(claim)?),
        left: Duration::from_micros(digits::number(left)?),
        token: i64::try_from(digits::number(token)?).ok()?,
        owner,
        reason,
    })
}

impl Drop for Member {
    fn drop(&mut self) {
        self.close();
    }
}
