//! Looking at lines: a script finds the heads of locks that are not free, then another one shows a page of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::answer::kind;
use super::client::Client;
use super::format::Record;
use super::resp::Value;
use super::scripts::Script;
use super::store::nonsense;
use super::{answer, fault, format, names};
use crate::backend::net::Why;
use crate::backend::{Broken, Errand, Kind, Line, Page, Previous, Query, Seen};
use crate::error::{ErrorKind, Result};
use crate::key::Key;
use crate::token::Token;

/// How many locks are shown on one page.
const PAGE: usize = 100;
/// How many keys the server goes through in one call: less than a millisecond.
const STEP: &str = "500";

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
        let shown = show(client, std::slice::from_ref(&key), query.waiting_max).await?;
        let lines = shown.into_iter().map(|(_, line)| line).collect::<Result<_>>()?;
        return Ok(Page { lines, next: None });
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
    let mut lines = Vec::with_capacity(page.len());
    for (key, line) in show(client, page, query.waiting_max).await? {
        // One that cannot be shown hides none of the others.
        lines.push(line.unwrap_or_else(|error| Line {
            error: Some(error.to_string()),
            ..Line::new(key.clone(), Kind::Mutex, 1)
        }));
    }
    let next = page.last().filter(|_| from + page.len() < keys.len()).map(|k| k.full().to_owned());
    if next.is_none() {
        listed.forget();
    }
    Ok(Page { lines, next })
}

/// Goes through some more keys of the server, and asks for those that match.
pub(super) async fn scan_step(
    client: &Client,
    cursor: &str,
    pattern: &str,
) -> std::result::Result<Value, Why> {
    let words =
        [b"SCAN".as_slice(), cursor.as_bytes(), b"MATCH", pattern.as_bytes(), b"COUNT", STEP.as_bytes()];
    client.command(Errand::Awaited, &words).await
}

/// The next cursor and the names that a step of a scan found. `"0"` ends the scan.
pub(super) fn scanned(answer: &Value) -> std::result::Result<(&str, impl Iterator<Item = &str>), Why> {
    let [next, found] = answer.list().unwrap_or_default() else {
        let what = "the server answered SCAN with something else";
        return Err(Why::new(ErrorKind::Protocol, what, "check that it is Redis"));
    };
    let names = found.list().unwrap_or_default().iter().filter_map(Value::text);
    Ok((next.text().unwrap_or("0"), names))
}

/// The locks whose heads match, in order, each once.
async fn scan(client: &Client, pattern: &str, query: &Query) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    let mut cursor = "0".to_owned();
    // The dialect's names have no namespace: they are shown in the one that was asked for.
    let namespace = if query.namespace.is_empty() { "default" } else { &query.namespace };
    loop {
        let answer = match &client.target.dialect {
            Some(_) => scan_step(client, &cursor, pattern).await,
            None => {
                let words = [cursor.as_bytes(), pattern.as_bytes(), STEP.as_bytes()];
                client.run(Errand::Awaited, Script::Scan, &[], &words).await.map(|(answer, _)| answer)
            }
        };
        let answer = answer.map_err(|why| why.error())?;
        let (next, found) = scanned(&answer).map_err(|why| why.error())?;
        let lock = |name: &str| match &client.target.dialect {
            Some(keys) => names::plain_lock(name, keys, namespace),
            None => names::lock(name),
        };
        keys.extend(found.filter_map(lock).filter(|key| query.wants(key)));
        cursor = next.to_owned();
        if cursor == "0" {
            break;
        }
    }
    keys.sort_by(|a, b| a.full().cmp(b.full()));
    keys.dedup();
    Ok(keys)
}

/// What is shown of locks that somebody holds or waits for, or why it cannot be shown.
async fn show<'a>(
    client: &Client,
    keys: &'a [Key],
    waiting_max: usize,
) -> Result<Vec<(&'a Key, Result<Line>)>> {
    let most = waiting_max.to_string();
    let (script, names, words): (_, Vec<String>, &[&[u8]]) = match &client.target.dialect {
        Some(prefix) => {
            let name = |key: &Key| format!("{prefix}{}", key.name());
            let both = keys.iter().flat_map(|key| [name(key), names::plain_record(&name(key))]);
            (Script::PlainInspect, both.collect(), &[])
        }
        None => (Script::Inspect, keys.iter().map(names::head).collect(), &[most.as_bytes()]),
    };
    let each = if script == Script::Inspect { 1 } else { 2 };
    let mut shown = Vec::with_capacity(keys.len());
    let mut done = 0;
    while done < keys.len() {
        let rest: Vec<&[u8]> = names[done * each..].iter().map(String::as_bytes).collect();
        let asked = client.run(Errand::Awaited, script, &rest, words).await;
        let (value, link) = asked.map_err(|why| why.error())?;
        // Long lines are shown a few in each call.
        let answers = value.list().filter(|answers| (1..=keys.len() - done).contains(&answers.len()));
        let Some(answers) = answers else { return Err(nonsense(&link)) };
        for (key, value) in keys[done..].iter().zip(answers) {
            shown.extend(read(key, value, script).map(|line| (key, line.map_err(|error| error.of(key)))));
        }
        done += answers.len();
    }
    Ok(shown)
}

/// `None`: nobody holds it or waits for it.
fn read(key: &Key, value: &Value, script: Script) -> Option<Result<Line>> {
    let line = match value.list()? {
        [_, why] => return why.text().map(|why| Err(unfit(why))),
        all if script == Script::Inspect => read_line(key, all),
        all => read_plain(key, all),
    };
    Some(line.ok_or_else(unreadable))
}

fn unreadable() -> crate::Error {
    let advice = "check what else writes keys that begin with tenure:";
    crate::Error::protocol("what is stored of this lock cannot be read", advice)
}

/// What a script found in the place of a lock.
fn unfit(why: &str) -> crate::Error {
    match why.strip_prefix('V') {
        Some(byte) => answer::other_version(byte),
        None if why == "U" => unreadable(),
        None => fault::of_answer(why.trim_start_matches('!')).error(),
    }
}

fn read_line(key: &Key, all: &[Value]) -> Option<Line> {
    let [now, head, holders, waiting, waiters, eviction] = all else { return None };
    let head = head.text()?;
    let now = u64::try_from(now.number()?).ok()?;
    let previous = holders.list()?.last().and_then(Value::text).and_then(Record::new);
    let (holders, named) = claims(holders.list()?, now)?;
    let (waiting, wanted) = claims(waiting.list()?, now)?;
    let kind = kind(head.get(1..2)?)?;
    // The least that a holder names, or else that of the first waiter.
    let capacity = named.into_iter().min().or(wanted.first().copied()).filter(|_| kind != Kind::Mutex);
    let mut line = Line::new(key.clone(), kind, capacity.unwrap_or(1));
    line.token = holders.iter().filter_map(|h| h.token).max();
    line.previous = previous.map_or(Previous::Unknown, |record| record.previous());
    // People, as far as they are known: of those who stand behind a claim only it knows.
    let behind: u64 = holders.iter().chain(&waiting).map(|c| u64::from(c.behind)).sum();
    line.waiters = u64::try_from(waiters.number()?).ok()?.saturating_add(behind);
    line.broken = broken(eviction.text()?);
    (line.holders, line.waiting) = (holders, waiting);
    Some(line)
}

/// The claims of a flat list, and the capacities in their records.
fn claims(list: &[Value], now: u64) -> Option<(Vec<Seen>, Vec<u32>)> {
    let (mut seen, mut capacities) = (Vec::new(), Vec::new());
    for claim in list.as_chunks::<3>().0 {
        let [id, end, record] = claim;
        let record = Record::new(record.text()?)?;
        capacities.extend(record.capacity());
        seen.push(record.seen(id.text()?, u64::try_from(end.number()?).ok()?, now)?);
    }
    Some((seen, capacities))
}

fn broken(text: &str) -> Option<Broken> {
    let rest = text.strip_prefix('1')?;
    let token = Token::new(rest.get(16..32)?.parse().ok()?);
    Some(Broken { at_us: rest.get(..16)?.parse().ok()?, token, why: rest.get(32..)?.to_owned() })
}

fn read_plain(key: &Key, all: &[Value]) -> Option<Line> {
    let [now, holder, left, record] = all else { return None };
    let mut line = Line::new(key.clone(), Kind::Mutex, 1);
    let expires_in = u64::try_from(left.number()?).ok().map(Duration::from_millis);
    let now = u64::try_from(now.number()?).ok()?;
    let seen = format::plain_seen(record.text().unwrap_or_default(), holder.bytes()?, expires_in, now);
    line.token = seen.token;
    line.holders.push(seen);
    Some(line)
}
