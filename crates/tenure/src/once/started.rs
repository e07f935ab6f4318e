//! A run that is begun and finished by two calls: for a job that is no future, such as a program of its own.

use std::fmt;

use super::{Mine, Once, Ran, Run};
use crate::error::Result;
use crate::guard::Guard;

/// A slot that is ours, and whose job is to be run now. Made by [`Once::begin`].
///
/// # On drop
/// The slot is given back, so that it is run again; not with [`Once::never_again`].
#[must_use = "dropping it gives the slot back"]
pub struct Started {
    once: Once,
    mine: Mine,
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("key", self.guard().key()).finish_non_exhaustive()
    }
}

impl Once {
    /// [`run`](Once::run) in two steps: takes the slot, if nobody has run or runs it. The job is up to the caller, who stops
    /// it when the [guard](Started::guard) is lost, and says how it ended by [`finish`](Started::finish). Otherwise `Err`
    /// with the run that is in the way.
    ///
    /// # Errors
    /// As [`run`](Once::run).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the slot as it was; with [`never_again`](Once::never_again) it may count as begun.
    ///
    /// # On drop
    /// Dropping the [`Started`] gives the slot back.
    ///
    /// # When the answer is lost
    /// As [`run`](Once::run).
    pub async fn begin(&self) -> Result<Result<Started, Run>> {
        Ok(self.claim().await?.map(|mine| Started { once: self.clone(), mine }))
    }

    /// The label of the slot that is meant now: its lock is `NAME/@LABEL`.
    ///
    /// # Errors
    /// `Config` for a slot that is over or has not begun.
    pub fn label(&self) -> Result<String> {
        Ok(self.due()?.label)
    }

    /// [`begin`](Once::begin) for code without async.
    ///
    /// # Errors
    /// As [`begin`](Once::begin).
    pub fn blocking_begin(&self) -> Result<Result<Started, Run>> {
        pollster::block_on(self.begin())
    }
}

impl Started {
    /// The hold of the slot, with its fencing token.
    pub fn guard(&self) -> &Guard {
        &self.mine.guard
    }

    /// The label of the slot.
    #[must_use]
    pub fn slot(&self) -> &str {
        &self.mine.due.label
    }

    /// The job has ended like this: writes the record, and leaves the slot used, or gives it back where an error is to be
    /// retried. What the store says to it is in [`Ran::recorded`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the slot used, or gives it back, all the same; the record may be missing.
    ///
    /// # On drop
    /// As above.
    ///
    /// # When the answer is lost
    /// As [`Once::run`].
    pub async fn finish<T, E: fmt::Display>(self, result: Result<T, E>) -> Ran<T, E> {
        self.once.finish(self.mine, result).await
    }

    /// The job was not run: gives the slot back, for the next one who asks.
    ///
    /// # Errors
    /// As [`Guard::release`].
    ///
    /// # Cancel safety
    /// Dropping the future gives it back all the same, in the background.
    ///
    /// # On drop
    /// As above.
    ///
    /// # When the answer is lost
    /// As [`Guard::release`].
    pub async fn give_back(self) -> Result<()> {
        self.mine.guard.release().await
    }

    /// [`give_back`](Started::give_back) for code without async.
    ///
    /// # Errors
    /// As [`give_back`](Started::give_back).
    pub fn blocking_give_back(self) -> Result<()> {
        pollster::block_on(self.give_back())
    }

    /// [`finish`](Started::finish) for code without async.
    pub fn blocking_finish<T, E: fmt::Display>(self, result: Result<T, E>) -> Ran<T, E> {
        pollster::block_on(self.finish(result))
    }
}
