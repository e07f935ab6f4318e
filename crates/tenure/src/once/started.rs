//! A run that is begun and finished by two calls: for a job that is no future, such as a program of its own.

use std::fmt;

use super::{Mine, Once, Ran, Run};
use crate::error::Result;
use crate::guard::Guard;

/// A slot that is ours, and whose job must run now. Made by [`Once::begin`].
///
/// # On drop
/// The slot is released, after [`Once::at_least`], and may run again, unless [`Once::never_again`] is set.
#[must_use = "dropping it releases the slot"]
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
    /// [`run`](Once::run) in two steps. Takes the slot, unless it has been run or is running; in that case `Err` has that run. The
    /// caller runs the job, stops it when the [guard](Started::guard) is lost, and reports how it ended by
    /// [`finish`](Started::finish).
    ///
    /// # Errors
    /// Those of [`run`](Once::run).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the slot as it was; with [`never_again`](Once::never_again) it may count as begun.
    ///
    /// # On drop
    /// Dropping the [`Started`] releases the slot.
    ///
    /// # When the answer is lost
    /// Each request is repeated until it is answered or the lease expires.
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
    /// Those of [`begin`](Once::begin).
    pub fn blocking_begin(&self) -> Result<Result<Started, Run>> {
        pollster::block_on(self.begin())
    }
}

impl Started {
    /// The hold of the slot, with its fencing token.
    pub fn guard(&self) -> &Guard {
        self.mine.guard()
    }

    /// The label of the slot.
    #[must_use]
    pub fn slot(&self) -> &str {
        &self.mine.due.label
    }

    /// Reports how the job ended. Writes the record and leaves the slot used, or releases it if the error is to be retried. The
    /// store's answer is in [`Ran::recorded`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the slot used, or releases it, all the same. The record may be missing.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// Each request is repeated until it is answered or the lease expires.
    pub async fn finish<T, E: fmt::Display>(self, result: Result<T, E>) -> Ran<T, E> {
        self.once.finish(self.mine, result).await
    }

    /// The job was not run: releases the slot, for the next one to ask.
    ///
    /// # Errors
    /// Those of [`Guard::release`].
    ///
    /// # Cancel safety
    /// Dropping the future releases it all the same, in the background.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// The request is repeated until it is answered or the lease expires.
    pub async fn give_back(mut self) -> Result<()> {
        match self.mine.guard.take() {
            Some(guard) => guard.release().await,
            None => Ok(()),
        }
    }

    /// [`give_back`](Started::give_back) for code without async.
    ///
    /// # Errors
    /// Those of [`give_back`](Started::give_back).
    pub fn blocking_give_back(self) -> Result<()> {
        pollster::block_on(self.give_back())
    }

    /// [`finish`](Started::finish) for code without async.
    pub fn blocking_finish<T, E: fmt::Display>(self, result: Result<T, E>) -> Ran<T, E> {
        pollster::block_on(self.finish(result))
    }
}
