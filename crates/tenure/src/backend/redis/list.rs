//! Looking at lines: the heads are found by `SCAN`, then a script shows one lock at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::answer::kind;
use super::client::Client;
use super::link::Link;
use super::record::Record;
use super::resp::Value;
use super::scripts::Script;
use super::{answer, names, nonsense, record};
use crate::backend::{Broken, Errand, Kind, Line, Page, Query, Seen};
use crate::error::Result;
use crate::key::Key;
use crate::token::Token;

/// How many locks are shown on one page.
const PAGE: usize = 100;
/// How many keys the server looks at in one step.
const STEP: &str = "1000";

/// The locks that the listing under way found, in order of their names: what it found is listed once each, whatever the
/// server moves around meanwhile.
#[derive(Debug, Default)]
pub(super) struct Listed(Mutex<Option<(String, Arc<Vec<Key>>)>>);

impl Listed {
    fn put(&self, pattern: &str, keys: &Arc<Vec<Key>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((pattern.to_owned(), keys.clone()));
    }

    fn get(&self, pattern: &str) -> Option<Arc<Vec<Key>>> {
        let listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listed.as_ref().filter(|(p, _)| p == pattern).map(|(_, keys)| keys.clone())
    }

    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Looks at the locks that a query asks for.
pub(super) async fn inspect(client: &Client, listed: &Listed, query: &Query) -> Result<Page> {
    if let Some(name) = &query.name {
        let key = Key::new(&query.namespace, name)?;
        let line = show(client, &key, query.waiting_max).await?;
        return Ok(Page { lines: line.into_iter().collect(), next: None });
    }
    let prefix = query.prefix.trim_end_matches('/');
    let pattern = match &client.target.dialect {
        Some(keys) => names::pattern(&format!("{keys}{prefix}"), 't'),
        None if query.namespace.is_empty() => names::pattern("", 'l'),
        None => names::pattern(&format!("{}/{prefix}", query.namespace), 'l'),
    };
    let known = query.after.as_ref().and_then(|_| listed.get(&pattern));
    let keys = match known {
        Some(keys) => keys,
        None => {
            let keys = Arc::new(scan(client, &pattern, query).await?);
            listed.put(&pattern, &keys);
            keys
        }
    };
    let from = query.after.as_ref().map_or(0, |after| keys.partition_point(|k| k.full() <= after.as_str()));
    let page = &keys[from..keys.len().min(from + PAGE)];
    let mut lines = Vec::new();
    for key in page {
        lines.extend(show(client, key, query.waiting_max).await?);
    }
    let next = page.last().filter(|_| from + page.len() < keys.len()).map(|k| k.full().to_owned());
    if next.is_none() {
        listed.forget();
    }
    Ok(Page { lines, next })
}

/// The locks whose heads match, in order, each once.
async fn scan(client: &Client, pattern: &str, query: &Query) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    let mut cursor = "0".to_owned();
    // The dialect's names have no namespace: they are shown in the one that was asked for.
    let namespace = if query.namespace.is_empty() { "default" } else { &query.namespace };
    loop {
        let words =
            [b"SCAN".as_slice(), cursor.as_bytes(), b"MATCH", pattern.as_bytes(), b"COUNT", STEP.as_bytes()];
        let answer = client.command(Errand::Awaited, &words).await.map_err(|why| why.error())?;
        let [next, found] = answer.list().unwrap_or_default() else {
            return Err(crate::Error::protocol(
                "the server answered SCAN with something else",
                "check that it is Redis",
            ));
        };
        let lock = |name: &str| match &client.target.dialect {
            Some(keys) => names::plain_lock(name, keys, namespace),
            None => names::lock(name),
        };
        let found = found.list().unwrap_or_default().iter().filter_map(|name| lock(name.text()?));
        keys.extend(found.filter(|key| wanted(key, query)));
        cursor = next.text().unwrap_or("0").to_owned();
        if cursor == "0" {
            break;
        }
    }
    keys.sort_by(|a, b| a.full().cmp(b.full()));
    keys.dedup();
    Ok(keys)
}

/// Whether a lock lies below the prefix by whole levels.
fn wanted(key: &Key, query: &Query) -> bool {
    let name = key.name();
    let (prefix, strictly) = match query.prefix.strip_suffix('/') {
        Some(prefix) => (prefix, true),
        None => (query.prefix.as_str(), false),
    };
    let rest = name.strip_prefix(prefix);
    (query.namespace.is_empty() || key.namespace() == query.namespace)
        && (prefix.is_empty() || rest.is_some_and(|r| r.starts_with('/') || (r.is_empty() && !strictly)))
}

async fn show(client: &Client, key: &Key, waiting_max: usize) -> Result<Option<Line>> {
    if let Some(prefix) = &client.target.dialect {
        return show_plain(client, key, &format!("{prefix}{}", key.name())).await;
    }
    let (head, most) = (names::head(key), waiting_max.to_string());
    let asked = client.run(Errand::Awaited, Script::Inspect, &[head.as_bytes()], &[most.as_bytes()]).await;
    let (value, link) = asked.map_err(|why| why.error())?;
    read(&link, key, &value)
}

fn read(link: &Link, key: &Key, value: &Value) -> Result<Option<Line>> {
    if *value == Value::Nil {
        return Ok(None);
    }
    let [now, head, holders, waiting, waiters, eviction] = value.list().unwrap_or_default() else {
        return Err(nonsense(link));
    };
    let head = head.text().unwrap_or_default();
    if !head.starts_with('1') {
        return Err(answer::other_version(head.get(..1).unwrap_or_default()).of(key));
    }
    let line = || {
        let now = u64::try_from(now.number()?).ok()?;
        let (holders, first) = claims(holders.list()?, now)?;
        let (waiting, next) = claims(waiting.list()?, now)?;
        let kind = kind(head.get(1..2)?)?;
        let capacity = if kind == Kind::Mutex { None } else { first.or(next) };
        let mut line = Line::new(key.clone(), kind, capacity.unwrap_or(1));
        line.token = holders.iter().filter_map(|h| h.token).max();
        // People, as far as they are known: of those who stand behind a claim only it knows.
        let behind: u64 = holders.iter().chain(&waiting).map(|c| u64::from(c.behind)).sum();
        line.waiters = u64::try_from(waiters.number()?).ok()?.saturating_add(behind);
        line.broken = broken(eviction.text()?);
        (line.holders, line.waiting) = (holders, waiting);
        Some(line)
    };
    line().map(Some).ok_or_else(|| nonsense(link))
}

/// The claims of a flat list, and the capacity in the record of the first one.
fn claims(list: &[Value], now: u64) -> Option<(Vec<Seen>, Option<u32>)> {
    let (mut seen, mut capacity) = (Vec::new(), None);
    for claim in list.as_chunks::<3>().0 {
        let [id, end, record] = claim;
        let record = Record::new(record.text()?)?;
        capacity = capacity.or(record.capacity());
        seen.push(record.seen(id.text()?, u64::try_from(end.number()?).ok()?, now)?);
    }
    Some((seen, capacity))
}

fn broken(text: &str) -> Option<Broken> {
    let rest = text.strip_prefix('1')?;
    let token = Token::new(rest.get(16..32)?.parse().ok()?);
    Some(Broken { at_us: rest.get(..16)?.parse().ok()?, token, why: rest.get(32..)?.to_owned() })
}

async fn show_plain(client: &Client, key: &Key, name: &str) -> Result<Option<Line>> {
    let keys = [name.as_bytes(), names::plain_record(name).as_bytes()].map(<[u8]>::to_vec);
    let asked = client
        .run(Errand::Awaited, Script::PlainInspect, &[keys[0].as_slice(), keys[1].as_slice()], &[])
        .await;
    let (value, link) = asked.map_err(|why| why.error())?;
    if value == Value::Nil {
        return Ok(None);
    }
    let [now, holder, left, record] = value.list().unwrap_or_default() else { return Err(nonsense(&link)) };
    let (Some(_), Some(holder), Some(left)) = (now.number(), holder.bytes(), left.number()) else {
        return Err(nonsense(&link));
    };
    let mut line = Line::new(key.clone(), Kind::Mutex, 1);
    let expires_in = u64::try_from(left).ok().map(Duration::from_millis);
    let seen = record::plain_seen(record.text().unwrap_or_default(), holder, expires_in);
    line.token = seen.token;
    line.holders.push(seen);
    Ok(Some(line))
}
