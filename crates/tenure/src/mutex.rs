//! The mutex: one holder at a time.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Engine, Patience, Request, acquire, acquire_in_turn, try_all};
use crate::error::Result;
use crate::guard::Guard;
use crate::key::Key;
use crate::options::LockOptions;

/// A named lock with one holder at a time. Made by [`Locks::mutex`](crate::Locks::mutex); cheap to clone.
///
/// Waiters wait in line in the store. If the backend declares it ([`Locks::capabilities`](crate::Locks::capabilities)), they are
/// served first come, first served, and woken by push.
///
/// ```
/// use std::time::Duration;
///
/// # pollster::block_on(async {
/// let locks = tenure::Locks::memory();
/// let order = locks.mutex("orders/42")?;
/// let guard = order.lock().await?; // waits in line
/// assert!(order.try_lock().await?.is_none(), "busy: this call never waits");
/// // Show the token to what you change, so that it can refuse a holder that is late.
/// println!("UPDATE ... WHERE fence <= {}", guard.token());
/// guard.release().await?; // an error if the lock was no longer ours
/// assert!(order.try_lock_for(Duration::from_secs(60)).await?.is_some());
/// # Ok::<(), tenure::Error>(()) }).unwrap();
/// ```
///
/// **Not re-entrant.** A task that holds the lock and locks it again waits for itself. Inside a [`scope`](crate::scope()) that is
/// an error instead. To allow it, lock as an owner ([`lock_as`](Mutex::lock_as)).
///
/// **Order.** If the store shares [`turns`](crate::Capabilities::turns), tasks of one client that wait with the same options share
/// one place in line and pass the lock on among themselves, each with its own token. [`LockOptions::fair`] gives each task its own
/// place.
///
/// **Which lock do you need?** For tasks of one process that share memory, use `tokio::sync::Mutex`. Work that is idempotent, or
/// that can detect conflicts, needs no lock. See [choosing](crate::manual::choosing).
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
    /// `Config` if an option is out of its limits; the message names the limit.
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
        acquire(&self.engine, &self.request, patience).await?.map(Guard::new).transpose()
    }

    /// Tries several mutexes of one client at once, each with a claim of its own.
    pub(crate) async fn try_all(mutexes: &[&Mutex]) -> Vec<Result<Option<Guard>>> {
        let Some(first) = mutexes.first() else { return Vec::new() };
        let requests: Vec<&Request> = mutexes.iter().map(|mutex| &mutex.request).collect();
        let turns = try_all(&first.engine, &requests).await;
        turns.into_iter().map(|turn| turn?.map(Guard::new).transpose()).collect()
    }

    /// Acquires, with a claim that tasks may share.
    async fn take_in_turn(&self, patience: Patience) -> Result<Option<Guard>> {
        acquire_in_turn(&self.engine, &self.request, patience).await?.map(Guard::new).transpose()
    }

    /// Waits in line until the lock is granted.
    ///
    /// # Errors
    /// `Unavailable` if the store has not answered for 10 s, which is as long as it keeps a place in line. `Config` if another
    /// kind of lock has this name, in a forked process, and after [`Locks::close`](crate::Locks::close). `Denied`, `Protocol`.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in line and leaves nothing behind. If the claim was granted at that moment, it is
    /// released in the background.
    ///
    /// # On drop
    /// Dropping the guard releases the lock in the background. [`Guard::release`] tells whether it was still ours.
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

    /// Takes the lock if nobody holds it and nobody waits for it. Never waits in line. `None` means busy.
    ///
    /// # Errors
    /// Those of [`lock`](Mutex::lock); `Unavailable` after 5 s without an answer.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind. If the claim was granted at that moment, it is released in the
    /// background.
    ///
    /// # On drop
    /// Dropping the guard releases the lock in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id for at most 5 s.
    pub async fn try_lock(&self) -> Result<Option<Guard>> {
        self.take(Patience::None).await
    }

    /// Waits in line for at most `wait`. `None` means that it was not granted within that time. A `wait` of zero is
    /// [`try_lock`](Mutex::try_lock).
    ///
    /// # Errors
    /// Those of [`lock`](Mutex::lock). If the store does not answer for 2 s, or answers with errors only, the result
    /// is `Unavailable` instead of `None`, even before `wait` is over.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in line and leaves nothing behind.
    ///
    /// # On drop
    /// Dropping the guard releases the lock in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id, so a grant whose answer was lost is found again.
    pub async fn try_lock_for(&self, wait: Duration) -> Result<Option<Guard>> {
        self.take_in_turn(Patience::lasting(wait, &*self.engine.core.runtime)).await
    }

    /// [`lock`](Mutex::lock) for code without async. Blocks this thread; call it from any thread, also inside `spawn_blocking`.
    /// Inside an async task it blocks the executor's thread, but it still returns: progress never needs that executor.
    ///
    /// # Errors
    /// Those of [`lock`](Mutex::lock).
    pub fn blocking_lock(&self) -> Result<Guard> {
        pollster::block_on(self.lock())
    }

    /// [`try_lock`](Mutex::try_lock) for code without async.
    ///
    /// # Errors
    /// Those of [`lock`](Mutex::lock).
    pub fn blocking_try_lock(&self) -> Result<Option<Guard>> {
        pollster::block_on(self.try_lock())
    }

    /// [`try_lock_for`](Mutex::try_lock_for) for code without async.
    ///
    /// # Errors
    /// Those of [`lock`](Mutex::lock).
    pub fn blocking_try_lock_for(&self, wait: Duration) -> Result<Option<Guard>> {
        pollster::block_on(self.try_lock_for(wait))
    }
}
