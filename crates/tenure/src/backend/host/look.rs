//! Listings: pages of lines, shard by shard. Looking changes nothing.

use super::format::SHARDS;
use super::store::{Inner, Outcome};
use crate::backend::{Page, Query, local};
use crate::core::line::{LineRow, Now};
use crate::error::{Error, Result};
use crate::key::Key;

/// How many claims one hold of a shard's lock looks at.
const SEEN: usize = 1000;
/// How many lines a page has at most.
const LINES: usize = 256;

/// What a page asks one shard for.
pub(super) struct Asked<'a> {
    pub(super) namespace: &'a [u8],
    pub(super) prefix: &'a [u8],
    pub(super) after: Option<u128>,
    pub(super) limit: usize,
    pub(super) waiting_max: usize,
}

/// Some lines, where to go on, and when they looked like this.
pub(super) type Rows = (Vec<LineRow>, Option<u128>, Now);

/// The shards of a store, open for use or for looking only.
pub(super) trait Shards {
    fn shard_of(&self, key: &[u8]) -> usize;
    /// Whether there may be anything in a shard.
    fn used(&self, shard: usize) -> bool;
    fn row(&self, shard: usize, key: &Key, waiting_max: usize) -> Outcome<(Option<LineRow>, Now)>;
    fn rows(&self, shard: usize, asked: &Asked<'_>) -> Outcome<Rows>;
}

/// One page.
pub(super) fn inspect(shards: &impl Shards, query: &Query) -> Outcome<Page> {
    if let Some(name) = &query.name {
        let key = Key::new(&query.namespace, name)?;
        let (row, now) = shards.row(shards.shard_of(key.full().as_bytes()), &key, query.waiting_max)?;
        let lines = row.into_iter().map(|row| local::line(row, now)).collect::<Result<_>>()?;
        return Ok(Page { lines, next: None });
    }
    let (mut shard, mut after) = cursor(query.after.as_deref())?;
    let prefix =
        if query.prefix.is_empty() { String::new() } else { format!("{}/{}", query.namespace, query.prefix) };
    let limit = (SEEN / query.waiting_max.saturating_add(4)).clamp(1, LINES);
    let mut page = Page::default();
    while shard < SHARDS && page.lines.len() < LINES {
        if !shards.used(shard) {
            (shard, after) = (shard + 1, None);
            continue;
        }
        let (namespace, prefix, waiting_max) =
            (query.namespace.as_bytes(), prefix.as_bytes(), query.waiting_max);
        let (rows, next, now) =
            shards.rows(shard, &Asked { namespace, prefix, after, limit, waiting_max })?;
        for row in rows {
            page.lines.push(local::line(row, now)?);
        }
        after = next;
        if after.is_none() {
            shard += 1;
        }
    }
    page.next =
        (shard < SHARDS).then(|| format!("{shard}:{}", after.map_or(String::new(), |h| format!("{h:x}"))));
    Ok(page)
}

/// Reads `shard:hash`.
fn cursor(after: Option<&str>) -> Result<(usize, Option<u128>)> {
    let Some(text) = after else { return Ok((0, None)) };
    let parsed = text.split_once(':').and_then(|(shard, hash)| {
        let hash = if hash.is_empty() { None } else { Some(u128::from_str_radix(hash, 16).ok()?) };
        Some((shard.parse().ok()?, hash))
    });
    parsed.ok_or_else(|| {
        Error::config(format!("{text:?} is not where a page ended"), "pass on what a page gave as next")
    })
}

/// Under the lock of each shard, for few claims at a time.
impl Shards for Inner {
    fn shard_of(&self, key: &[u8]) -> usize {
        self.shard_of(key)
    }

    fn used(&self, shard: usize) -> bool {
        self.used(shard)
    }

    fn row(&self, shard: usize, key: &Key, waiting_max: usize) -> Outcome<(Option<LineRow>, Now)> {
        self.usable()?;
        let view = |lines: &mut super::store::ShardLines<'_>, now| {
            Ok(lines.view(key.full().as_bytes(), waiting_max, now))
        };
        let (row, now) = self.verb(shard, view)?;
        Ok((row.map_err(|refusal| local::refused(refusal, key, None))?, now))
    }

    fn rows(&self, shard: usize, asked: &Asked<'_>) -> Outcome<Rows> {
        self.usable()?;
        let Asked { namespace, prefix, after, limit, waiting_max } = *asked;
        let page = |lines: &mut super::store::ShardLines<'_>, now| {
            Ok(lines.page(namespace, prefix, after, limit, waiting_max, now))
        };
        let (found, now) = self.verb(shard, page)?;
        let (rows, next) = found.map_err(|refusal| self.refused(refusal))?;
        Ok((rows, next, now))
    }
}
