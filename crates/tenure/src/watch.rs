//! Following locks as they change.

use std::time::Duration;

use tokio::sync::watch;

use crate::backend::{self, Line};
use crate::core::moment::Moment;
use crate::error::Result;
use crate::locks::Locks;
use crate::runtime::race;

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
    pub(crate) locks: Locks,
    pub(crate) prefix: String,
    pub(crate) watched: Watched,
    /// Of what the store is to tell.
    pub(crate) told: backend::Watched,
    pub(crate) changes: watch::Receiver<u64>,
    pub(crate) last: Option<Vec<Line>>,
}

impl Watch {
    /// The first call returns the current lines. Each later call waits for the next change. Changes between two calls are reported
    /// as one.
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
        loop {
            self.changes.mark_unchanged();
            let lines = match self.watched {
                Watched::Alone => self.locks.inspect(&self.prefix).await?.into_iter().collect(),
                Watched::Below => self.locks.list(&self.prefix).await?,
                Watched::Everywhere => self.locks.list_all(&self.prefix).await?,
            };
            if self.last.as_ref().is_none_or(|last| !same(last, &lines)) {
                self.last = Some(lines.clone());
                return Ok(lines);
            }
            // A lease that ends while nobody touches its line changes what is seen and makes no news.
            let runtime = self.locks.engine.core.runtime.clone();
            let seen = lines.iter().flat_map(|l| l.holders.iter().chain(&l.waiting));
            let shortest = seen.filter_map(|s| s.expires_in).min();
            let until = shortest.map_or(Moment::NEVER, |d| runtime.now() + d + Duration::from_millis(1));
            let _ = race(&*runtime, until, self.changes.changed()).await;
        }
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
        self.locks.engine.hub.unwatch(&self.told);
    }
}

/// The same but for the time that passes.
fn same(a: &[Line], b: &[Line]) -> bool {
    fn timeless(lines: &[Line]) -> Vec<Line> {
        let mut lines = lines.to_vec();
        for seen in lines.iter_mut().flat_map(|l| l.holders.iter_mut().chain(&mut l.waiting)) {
            seen.expires_in = None;
        }
        lines
    }
    timeless(a) == timeless(b)
}
