//! Following locks as they change.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::backend::{Changed, Line};
use crate::core::moment::Moment;
use crate::engine::Watching;
use crate::error::Result;
use crate::key::Key;
use crate::locks::Locks;
use crate::runtime::race;

/// If more locks than this changed, all are listed again.
const READ_ALONE: usize = 64;

/// A watcher lists for a fifth of the time at most: after each listing it rests for so many times as long, up to a second.
/// Where each change means a listing, more would keep a processor or a server busy.
const REST: u32 = 4;
const REST_MAX: Duration = Duration::from_secs(1);

/// Which locks a [`Watch`] follows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Watched {
    /// The lock of that very name, and none below it.
    Alone,
    /// Those below the prefix.
    Below,
    /// Those below the prefix in every namespace.
    Everywhere,
}

/// Watches locks; made by [`Locks::watch`].
#[derive(Debug)]
pub struct Watch {
    locks: Locks,
    prefix: String,
    watched: Watched,
    changes: Watching,
    /// What is known, and when the first lease of each line ends.
    lines: BTreeMap<Key, (Line, Moment)>,
    /// What must be read before `lines` is up to date.
    due: Changed,
    /// `lines` differs from what was reported last.
    differs: bool,
    /// Until then nothing is listed.
    rested: Moment,
}

impl Watch {
    pub(crate) fn new(locks: Locks, prefix: String, watched: Watched, changes: Watching) -> Watch {
        let lines = BTreeMap::new();
        let (due, differs, rested) = (Changed::Anything, true, Moment(0));
        Watch { locks, prefix, watched, changes, lines, due, differs, rested }
    }

    /// The first call returns the current lines. Each later call waits for the next change. Changes between two calls are reported
    /// as one. If the store tells which locks changed, as Redis does, only those are read again. Otherwise all are, for a fifth of
    /// the time at most.
    ///
    /// # Errors
    /// Those of [`Locks::inspect`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the next call sees the change.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// Call again.
    pub async fn next(&mut self) -> Result<Vec<Line>> {
        let runtime = self.locks.engine.core.runtime.clone();
        loop {
            let told = self.changes.take();
            self.due.add(told);
            self.read().await?;
            if std::mem::take(&mut self.differs) {
                return Ok(self.lines.values().map(|(line, _)| line.clone()).collect());
            }
            // A lease that ends while nobody touches its line changes what is seen and makes no news.
            let until = self.lines.values().map(|(_, end)| *end).min().unwrap_or(Moment::NEVER);
            let _ = race(&*runtime, until, self.changes.wake.changed()).await;
            let now = runtime.now();
            let over = self.lines.iter().filter(|(_, (_, end))| *end <= now).map(|(key, _)| key.clone());
            self.due.add(Changed::Lines(over.collect()));
        }
    }

    /// Reads what is due. What is dropped in the middle stays due.
    async fn read(&mut self) -> Result<()> {
        while let Changed::Lines(keys) = &mut self.due
            && keys.len() <= READ_ALONE
        {
            let Some(key) = keys.first().cloned() else { return Ok(()) };
            if self.follows(&key) {
                match self.locks.line(&key).await {
                    Ok(line) => self.put(key.clone(), line),
                    Err(error) if error.kind().may_pass() => return Err(error),
                    // What cannot be shown alone has a line in a listing, which says why.
                    Err(_) => break,
                }
            }
            if let Changed::Lines(keys) = &mut self.due {
                keys.remove(&key);
            }
        }
        let runtime = self.locks.engine.core.runtime.clone();
        if self.rested > runtime.now() {
            runtime.sleep_until(self.rested).await;
        }
        let began = runtime.now();
        let listed = match self.watched {
            Watched::Alone => self.locks.inspect(&self.prefix).await?.into_iter().collect(),
            Watched::Below => self.locks.list(&self.prefix).await?,
            Watched::Everywhere => self.locks.list_all(&self.prefix).await?,
        };
        let now = runtime.now();
        self.rested = now + (now.since(began) * REST).min(REST_MAX);
        let mut before = std::mem::take(&mut self.lines);
        for line in listed {
            let key = line.key.clone();
            if let Some(known) = before.remove(&key) {
                self.lines.insert(key.clone(), known);
            }
            self.put(key, Some(line));
        }
        self.differs |= !before.is_empty();
        self.due = Changed::default();
        Ok(())
    }

    /// Whether a lock is one of those that are watched.
    fn follows(&self, key: &Key) -> bool {
        let here = || key.namespace() == self.locks.namespace();
        match self.watched {
            Watched::Alone => here() && key.name() == self.prefix,
            Watched::Below => here() && key.is_below(&self.prefix),
            Watched::Everywhere => key.is_below(&self.prefix),
        }
    }

    /// Notes how a lock stands.
    fn put(&mut self, key: Key, line: Option<Line>) {
        let Some(line) = line else {
            self.differs |= self.lines.remove(&key).is_some();
            return;
        };
        let seen = line.holders.iter().chain(&line.waiting);
        let now = self.locks.engine.core.runtime.now();
        let first = seen.filter_map(|s| s.expires_in).min();
        let end = first.map_or(Moment::NEVER, |d| now + d + Duration::from_millis(1));
        let known = self.lines.get(&key);
        self.differs |= known.is_none_or(|(known, _)| timeless(known) != timeless(&line));
        self.lines.insert(key, (line, end));
    }

    /// [`next`](Watch::next) for code without async.
    ///
    /// # Errors
    /// Those of [`next`](Watch::next).
    pub fn blocking_next(&mut self) -> Result<Vec<Line>> {
        pollster::block_on(self.next())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.locks.engine.hub.unwatch(&self.changes);
    }
}

/// A line but for the time that passes.
fn timeless(line: &Line) -> Line {
    let mut line = line.clone();
    for seen in line.holders.iter_mut().chain(&mut line.waiting) {
        seen.expires_in = None;
    }
    line
}
