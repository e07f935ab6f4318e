//! News of changes: the server is asked to tell of what is watched, and of nothing else.
//!
//! A few locks by name: their heads are read, and the server tells once when one of them changes (`CLIENT TRACKING` with
//! `OPTIN`), so that they are read again after that. A whole namespace: the server tells of each change below a prefix. Where
//! it tells nothing, one looks every second.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::client::Client;
use super::fault::{of_answer, of_fault};
use super::link::Link;
use super::resp::{Value, command};
use super::{handshake, names};
use crate::backend::net::{Lane, Why};
use crate::backend::{Changed, News, Watched};
use crate::key::Key;

/// How long changes are collected before they are told.
const CHANGES: Duration = Duration::from_millis(50);
/// How often to look where the server tells nothing.
const LOOK: Duration = Duration::from_secs(1);

/// Changes what is watched.
pub(super) fn watch(client: &Arc<Client>, what: &Watched) {
    what.clone_into(&mut client.watched());
    let shared = client.clone();
    client.thread.place().spawn(async move {
        if let Some(link) = shared.lanes.link(Lane::Keeper) {
            track(&shared, &link).await;
        }
    });
}

/// Asks the server to tell of what is watched.
pub(super) async fn track(client: &Arc<Client>, link: &Link) {
    // One after the other: what was asked for last counts.
    let _turn = client.tracking.lock().await;
    let number = client.asked.fetch_add(1, Ordering::SeqCst) + 1;
    let watched = client.watched().clone();
    if let Err(why) = ask_for(client, link, &watched).await
        && watched != Watched::Nothing
    {
        tracing::debug!(why.what, "the server does not tell of changes; looking every second instead");
        let client = client.clone();
        tokio::spawn(async move {
            while client.asked.load(Ordering::SeqCst) == number && !client.lanes.is_closed() {
                tell(&client, Changed::Anything);
                client.sleep(LOOK).await;
            }
        });
    }
    if watched != Watched::Nothing {
        // What changed before the server began to tell.
        tell(client, Changed::Anything);
    }
}

async fn ask_for(client: &Client, link: &Link, watched: &Watched) -> Result<(), Why> {
    handshake::ask(link, &[b"CLIENT", b"TRACKING", b"OFF"]).await?;
    let prefix = match watched {
        Watched::Nothing => return Ok(()),
        Watched::Names(keys) => {
            handshake::ask(link, &[b"CLIENT", b"TRACKING", b"ON", b"OPTIN"]).await?;
            return remember(client, link, keys).await;
        }
        // The dialect's keys have no namespace.
        Watched::Namespace(_) | Watched::Everything if client.target.dialect.is_some() => {
            names::begin(client.target.dialect.as_deref().unwrap_or_default())
        }
        Watched::Namespace(namespace) => names::begin(&format!("{namespace}/")),
        Watched::Everything => names::PREFIX.to_owned(),
    };
    let words: [&[u8]; 6] = [b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"PREFIX", prefix.as_bytes()];
    handshake::ask(link, &words).await.map(drop)
}

/// Reads what changes with these locks, so that the server tells of the next change of each.
async fn remember(client: &Client, link: &Link, keys: &[Key]) -> Result<(), Why> {
    let read = |key: &Key| match &client.target.dialect {
        Some(prefix) => {
            let name = format!("{prefix}{}", key.name());
            vec![names::plain_record(&name), name]
        }
        None if client.target.votes => vec![names::votes(key)],
        None => vec![names::head(key)],
    };
    for name in keys.iter().flat_map(read) {
        let (yes, get) = (command(&[b"CLIENT", b"CACHING", b"YES"]), command(&[b"GET", name.as_bytes()]));
        for answer in link.ask_both(&yes, &get).await {
            match answer.map_err(|fault| of_fault(&fault))? {
                // A key of another kind is watched all the same.
                Value::Error(text) if !text.starts_with("WRONGTYPE") => return Err(of_answer(&text)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// The server tells that keys changed, or, without names, that any may have.
pub(super) fn told(client: &Arc<Client>, names: Option<&Value>) {
    let locks = names.and_then(Value::list).and_then(|names| {
        let watched = client.watched();
        names.iter().map(|name| locks_of(client, &watched, name.text()?)).collect::<Option<Vec<_>>>()
    });
    let locks = locks.map(|locks| Changed::Lines(locks.into_iter().flatten().collect()));
    tell(client, locks.unwrap_or(Changed::Anything));
}

/// The locks that this key belongs to. `None`: nobody can tell.
fn locks_of(client: &Client, watched: &Watched, name: &str) -> Option<BTreeSet<Key>> {
    let Some(prefix) = &client.target.dialect else {
        return names::lock_of_part(name).map(|key| BTreeSet::from([key]));
    };
    // The dialect's keys have no namespace: each watcher sees them in its own.
    match watched {
        Watched::Namespace(namespace) => {
            names::plain_lock_of_part(name, prefix, namespace).map(|key| BTreeSet::from([key]))
        }
        Watched::Names(keys) => {
            let is_of = |key: &&Key| {
                let plain = format!("{prefix}{}", key.name());
                name == plain || name == names::plain_record(&plain)
            };
            let found: BTreeSet<Key> = keys.iter().filter(is_of).cloned().collect();
            (!found.is_empty()).then_some(found)
        }
        Watched::Nothing | Watched::Everything => None,
    }
}

/// Something changed. Many changes are one piece of news.
fn tell(client: &Arc<Client>, more: Changed) {
    let mut changed = client.changed();
    if let Some(before) = &mut *changed {
        before.add(more);
        return;
    }
    *changed = Some(more);
    drop(changed);
    let client = client.clone();
    client.thread.place().clone().spawn(async move {
        client.sleep(CHANGES).await;
        let Some(changed) = client.changed().take() else { return };
        let watched = client.watched().clone();
        if let Watched::Names(keys) = watched
            && let Some(link) = client.lanes.link(Lane::Keeper)
        {
            let read: Vec<Key> = keys.into_iter().filter(|key| changed.has(key)).collect();
            // Where that fails the connection does, and the next one asks anew.
            let _turn = client.tracking.lock().await;
            if let Err(why) = remember(&client, &link, &read).await {
                tracing::debug!(why.what, "what is watched was not read again");
            }
        }
        client.lanes.sink().news(match changed {
            Changed::Anything => News::Changed,
            Changed::Lines(keys) => News::LinesChanged(keys.into_iter().collect()),
        });
    });
}
