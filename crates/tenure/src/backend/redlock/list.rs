//! Looking at votes: which claim a majority has voted for.

use std::collections::BTreeSet;

use super::format::other_version;
use super::store::Redlock;
use super::troubles::too_few;
use crate::backend::redis::member::{Look, Voted};
use crate::backend::{Kind, Line, Page, Query, Seen};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::runtime::join_all;
use crate::token::Token;

/// How many locks are shown on one page.
const PAGE: usize = 100;

/// Looks at the locks that a query asks for.
pub(super) async fn inspect(store: &Redlock, query: &Query) -> Result<Page> {
    if let Some(name) = &query.name {
        let key = Key::new(&query.namespace, name)?;
        let found = show(store, std::slice::from_ref(&key)).await?;
        let lines = found.into_iter().map(|line| line.map_err(|(key, error)| error.of(&key)));
        return Ok(Page { lines: lines.collect::<Result<_>>()?, next: None });
    }
    let prefix = query.prefix.trim_end_matches('/');
    let begin = match query.namespace.as_str() {
        "" => String::new(),
        namespace => format!("{namespace}/{prefix}"),
    };
    let found = join_all(store.members.iter().map(|member| Box::pin(member.scan(&begin)))).await;
    let keys: BTreeSet<String> = found
        .into_iter()
        .flatten()
        .flatten()
        .filter(|key| query.wants(key))
        .map(|key| key.full().to_owned())
        .filter(|key| query.after.as_ref().is_none_or(|after| key > after))
        .collect();
    let page: Vec<Key> = keys.iter().take(PAGE).filter_map(|key| Key::from_full(key).ok()).collect();
    let next = page.last().filter(|_| keys.len() > PAGE).map(|key| key.full().to_owned());
    let lines = show(store, &page).await?.into_iter().map(|line| line.unwrap_or_else(unreadable));
    Ok(Page { lines: lines.collect(), next })
}

/// A line of which nothing is known but why.
fn unreadable((key, error): (Key, Error)) -> Line {
    let mut line = Line::new(key, Kind::Mutex, 1);
    line.error = Some(error.to_string());
    line
}

/// A line, or why it cannot be shown.
type Shown = std::result::Result<Line, (Key, Error)>;

/// The lines of those that are held.
async fn show(store: &Redlock, keys: &[Key]) -> Result<Vec<Shown>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let looked = join_all(store.members.iter().map(|member| Box::pin(member.look(keys)))).await;
    let (mut heard, mut away) = (Vec::new(), Vec::new());
    for (server, looked) in looked.into_iter().enumerate() {
        match looked {
            Ok(all) => heard.push(all),
            Err(why) => away.push((store.shown(server), why)),
        }
    }
    if heard.len() < store.quorum.needed() {
        return Err(too_few(store.quorum, heard.len(), &away));
    }
    let lines = keys.iter().enumerate().filter_map(|(at, key)| {
        let looks: Vec<&Look> = heard.iter().filter_map(|all| all.get(at)).collect();
        line(store, key, &looks)
    });
    Ok(lines.collect())
}

/// A lock that a majority has voted for one claim of, or that some server cannot show.
fn line(store: &Redlock, key: &Key, looks: &[&Look]) -> Option<Shown> {
    let votes: Vec<&Voted> = looks
        .iter()
        .filter_map(|look| if let Look::Vote(vote) = look { Some(&**vote) } else { None })
        .collect();
    let for_it =
        |vote: &Voted| votes.iter().filter(|other| other.claim == vote.claim && other.token > 0).count();
    let granted = votes.iter().filter(|vote| for_it(vote) >= store.quorum.needed());
    let Some(best) = granted.max_by_key(|vote| (vote.token, vote.left)) else {
        let other = looks.iter().find_map(|look| if let Look::Version(v) = look { Some(v) } else { None })?;
        return Some(Err((key.clone(), other_version(other))));
    };
    let mut line = Line::new(key.clone(), Kind::Mutex, 1);
    line.token = Token::new(best.token);
    line.holders.push(Seen {
        claim: best.claim.short(),
        owner: best.owner.clone(),
        reason: best.reason.clone(),
        // A token is the wall clock's time of its grant, or a little more.
        since_us: best.token.unsigned_abs(),
        expires_in: Some(best.left),
        weight: 1,
        token: line.token,
        behind: 0,
    });
    Some(Ok(line))
}
