//! The mutex: one holder at a time.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Engine, Patience, Request, acquire, acquire_in_turn, try_all};
use crate::error::Result;
use crate::guard::Guard;
use crate::key::Key;
use crate::options::LockOptions;

/// A named lock that one holder has at a time. Made by `Locks::mutex`; cheap to clone.
///
/// Waiters stand in line in the store and are woken by push, first come first served, where the backend declares it
/// (`Locks::capabilities`). Where it shares [`turns`](crate::Capabilities::turns), tasks of one client that wait together with
/// the same options stand behind one claim and pass the lock on among themselves, each with a token of its own;
/// [`LockOptions::fair`] makes each a claim. It is not re-entrant: a task that holds it and locks it again waits for itself, unless it
/// does so as an owner ([`lock_as`](Mutex::lock_as)); within a [`scope`](crate::scope()) that is an error and not a hang.
///
/// **Which lock do you need?** Tasks of one process that share memory are better served by `tokio::sync::Mutex`.
/// Work that can be made idempotent or optimistic needs no lock at all.
#[derive(Clone, Debug)]
pub struct Mutex {
    pub(crate) engine: Arc<Engine>,
    pub(crate) request: Request,
}

impl Mutex {
    pub(crate) fn new(engine: Arc<Engine>, request: Request) -> Mutex {
        Mutex { engine, request }
    }

    /// The same lock, taken with other options.
    ///
    /// # Errors
    /// `Config` where an option is out of its limits; the message names the limit.
    pub fn with(mut self, options: LockOptions) -> Result<Mutex> {
        options.apply(&mut self.request)?;
        Ok(self)
    }

    /// The lock's name.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.request.key
    }

    /// Acquires with a claim of its own.
    pub(crate) async fn take(&self, patience: Patience) -> Result<Option<Guard>> {
        Ok(acquire(&self.engine, &self.request, patience).await?.map(Guard::new))
    }

    /// Tries several mutexes of one client at once, each with a claim of its own.
    pub(crate) async fn try_all(mutexes: &[&Mutex]) -> Vec<Result<Option<Guard>>> {
        let Some(first) = mutexes.first() else { return Vec::new() };
        let requests: Vec<&Request> = mutexes.iter().map(|mutex| &mutex.request).collect();
        let turns = try_all(&first.engine, &requests).await;
        turns.into_iter().map(|turn| Ok(turn?.map(Guard::new))).collect()
    }

    /// Acquires, with a claim that tasks may share.
    async fn take_in_turn(&self, patience: Patience) -> Result<Option<Guard>> {
        Ok(acquire_in_turn(&self.engine, &self.request, patience).await?.map(Guard::new))
    }

    /// Waits in line until the lock is granted.
    ///
    /// # Errors
    /// `Unavailable` when the store has not answered for as long as it keeps our place in line (10 s); `Denied`,
    /// `Config` (another kind of lock has this name; a forked process; a closed client), `Protocol`.
    ///
    /// # Cancel safety
    /// Dropping the future loses the place in line and leaves nothing behind: the claim is withdrawn in the background,
    /// also if it was granted at that very moment.
    ///
    /// # On drop
    /// Dropping the guard gives the lock back in the background; [`Guard::release`] tells whether it was still ours.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id, so a grant whose answer was lost is found again.
    pub async fn lock(&self) -> Result<Guard> {
        loop {
            // `None` only where a patience ran out, and there is none.
            if let Some(guard) = self.take_in_turn(Patience::Forever).await? {
                return Ok(guard);
            }
        }
    }

    /// Takes the lock if nobody holds it and nobody waits; never stands in line. `None`: busy.
    ///
    /// # Errors
    /// As [`lock`](Mutex::lock); `Unavailable` after 5 s without an answer.
    ///
    /// # Cancel safety
    /// As [`lock`](Mutex::lock).
    ///
    /// # On drop
    /// As [`lock`](Mutex::lock).
    ///
    /// # When the answer is lost
    /// As [`lock`](Mutex::lock).
    pub async fn try_lock(&self) -> Result<Option<Guard>> {
        self.take(Patience::None).await
    }

    /// Waits in line for at most `wait`. `None`: not within that time. A `wait` of zero is [`try_lock`](Mutex::try_lock).
    ///
    /// # Errors
    /// As [`lock`](Mutex::lock).
    ///
    /// # Cancel safety
    /// As [`lock`](Mutex::lock).
    ///
    /// # On drop
    /// As [`lock`](Mutex::lock).
    ///
    /// # When the answer is lost
    /// As [`lock`](Mutex::lock); a store that answers the request with nothing for 2 s, or with errors only, is
    /// `Unavailable`, not busy.
    pub async fn try_lock_for(&self, wait: Duration) -> Result<Option<Guard>> {
        self.take_in_turn(Patience::lasting(wait, &*self.engine.core.runtime)).await
    }

    /// [`lock`](Mutex::lock) for code without async: blocks this thread, from any thread, also inside `spawn_blocking`.
    /// Inside an async task it blocks the executor's thread; progress never needs that executor, so it still returns.
    ///
    /// # Errors
    /// As [`lock`](Mutex::lock).
    pub fn blocking_lock(&self) -> Result<Guard> {
        pollster::block_on(self.lock())
    }

    /// [`try_lock`](Mutex::try_lock) for code without async.
    ///
    /// # Errors
    /// As [`lock`](Mutex::lock).
    pub fn blocking_try_lock(&self) -> Result<Option<Guard>> {
        pollster::block_on(self.try_lock())
    }

    /// [`try_lock_for`](Mutex::try_lock_for) for code without async.
    ///
    /// # Errors
    /// As [`lock`](Mutex::lock).
    pub fn blocking_try_lock_for(&self, wait: Duration) -> Result<Option<Guard>> {
        pollster::block_on(self.try_lock_for(wait))
    }
}
