//! Re-entry: an owner may take a lock that it holds once more.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::backend::Owner;
use crate::engine::{Engine, Patience};
use crate::error::{Error, Lost, Result};
use crate::guard::Guard;
use crate::key::Key;
use crate::locks::Locks;
use crate::mutex::Mutex;
use crate::options::check_owner;
use crate::runtime::{race, unless};
use crate::token::Token;

impl Locks {
    /// A new owner. Code that has it, or a clone of it, may take a lock that the owner already holds, with [`Mutex::lock_as`].
    /// Two owners exclude each other.
    ///
    /// It lives in this process: it cannot be sent to another one, and a fork's copy of it is refused.
    #[must_use]
    pub fn owner(&self) -> Reentrant {
        Reentrant {
            shared: Arc::new(Shared { engine: self.engine.clone(), holds: StdMutex::default() }),
            shown: None,
        }
    }
}

/// An owner that may re-enter. Made by [`Locks::owner`]; a clone is the same owner.
///
/// ```
/// # fn main() -> tenure::Result<()> {
/// let locks = tenure::Locks::memory();
/// let (me, orders) = (locks.owner(), locks.mutex("orders")?);
/// let outer = orders.blocking_lock_as(&me)?;
/// let inner = orders.blocking_lock_as(&me)?; // at once, with the same token
/// assert_eq!(inner.token(), outer.token());
/// inner.blocking_release()?;
/// assert!(orders.blocking_try_lock()?.is_none(), "still held");
/// outer.blocking_release()?; // the last level releases it
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Reentrant {
    shared: Arc<Shared>,
    /// Who is shown as the holder; `None`: who the lock's options say.
    shown: Option<Arc<Owner>>,
}

struct Shared {
    engine: Arc<Engine>,
    holds: StdMutex<HashMap<Key, Arc<Entry>>>,
}

/// One lock as one owner sees it.
#[derive(Default)]
struct Entry {
    /// One task of the owner acquires at a time; the others re-enter what it got.
    acquiring: tokio::sync::Mutex<()>,
    guard: StdMutex<Weak<Guard>>,
}

impl fmt::Debug for Reentrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reentrant").field("shown", &self.shown).finish_non_exhaustive()
    }
}

impl Reentrant {
    /// The same owner, shown to those who look as the holder of what it acquires from now on.
    ///
    /// # Errors
    /// `Config` where a text is longer than 128 bytes.
    pub fn shown_as(mut self, owner: Owner) -> Result<Reentrant> {
        check_owner(&owner)?;
        self.shown = Some(Arc::new(owner));
        Ok(self)
    }

    /// Whether both are clones of one.
    #[must_use]
    pub fn is(&self, other: &Reentrant) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Shared {
    fn holds(&self) -> MutexGuard<'_, HashMap<Key, Arc<Entry>>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets an entry that nobody uses any more.
    fn forget(&self, key: &Key) {
        let mut holds = self.holds();
        if holds.get(key).is_some_and(|entry| Arc::strong_count(entry) == 1 && entry.dead()) {
            holds.remove(key);
        }
    }
}

impl Entry {
    fn guard(&self) -> MutexGuard<'_, Weak<Guard>> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dead(&self) -> bool {
        self.guard().strong_count() == 0
    }

    /// One level more, if there is any.
    fn again(&self) -> Result<Option<Arc<Guard>>> {
        let Some(guard) = self.guard().upgrade() else { return Ok(None) };
        guard.check()?;
        Ok(Some(guard))
    }
}

impl Mutex {
    /// [`lock`](Mutex::lock) for an owner that may re-enter. If the owner already holds the lock, this adds a level to the same
    /// hold, immediately, with the same token and options. The hold ends with the last of its levels, in whatever order they end.
    ///
    /// Tasks that share the owner share the hold. The lock excludes nothing between them.
    ///
    /// # Errors
    /// Those of [`lock`](Mutex::lock). `Lost` while a level of a lost hold is still alive: all its levels must end before the owner
    /// can acquire the lock again. `Config` for an owner of another client, and in a fork.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in line and leaves nothing behind.
    ///
    /// # On drop
    /// Dropping the last level releases the lock in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id, so a grant whose answer was lost is found again.
    pub async fn lock_as(&self, owner: &Reentrant) -> Result<ReentrantGuard> {
        loop {
            // `None` only where a patience ran out, and there is none.
            if let Some(guard) = self.enter(owner, Patience::Forever).await? {
                return Ok(guard);
            }
        }
    }

    /// [`try_lock`](Mutex::try_lock) for an owner that may re-enter. `None` means busy, or that another task of the owner is
    /// waiting for it.
    ///
    /// # Errors
    /// Those of [`lock_as`](Mutex::lock_as) and [`try_lock`](Mutex::try_lock).
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    ///
    /// # On drop
    /// Dropping the last level releases the lock in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id for at most 5 s.
    pub async fn try_lock_as(&self, owner: &Reentrant) -> Result<Option<ReentrantGuard>> {
        self.enter(owner, Patience::None).await
    }

    /// [`try_lock_for`](Mutex::try_lock_for) for an owner that may re-enter.
    ///
    /// # Errors
    /// Those of [`lock_as`](Mutex::lock_as) and [`try_lock_for`](Mutex::try_lock_for).
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in line and leaves nothing behind.
    ///
    /// # On drop
    /// Dropping the last level releases the lock in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id, so a grant whose answer was lost is found again.
    pub async fn try_lock_for_as(&self, owner: &Reentrant, wait: Duration) -> Result<Option<ReentrantGuard>> {
        self.enter(owner, Patience::lasting(wait, &*self.engine.core.runtime)).await
    }

    async fn enter(&self, owner: &Reentrant, patience: Patience) -> Result<Option<ReentrantGuard>> {
        self.engine.usable()?;
        let shared = &owner.shared;
        if !Arc::ptr_eq(&shared.engine, &self.engine) {
            let advice = "make the lock and the owner from the same Locks";
            return Err(Error::config("the owner belongs to another client", advice).of(self.key()));
        }
        let level = |guard| ReentrantGuard { guard: Some(guard), shared: shared.clone() };
        let entry = Using {
            shared,
            key: self.key(),
            entry: Some(shared.holds().entry(self.key().clone()).or_default().clone()),
        };
        let Some(held) = &entry.entry else { return Ok(None) };
        if let Some(guard) = held.again()? {
            return Ok(Some(level(guard)));
        }
        let _alone = match patience {
            Patience::None => held.acquiring.try_lock().ok(),
            Patience::Until(at) => race(&*self.engine.core.runtime, at, held.acquiring.lock()).await,
            Patience::Forever => Some(held.acquiring.lock().await),
        };
        if _alone.is_none() {
            return Ok(None);
        }
        if let Some(guard) = held.again()? {
            return Ok(Some(level(guard)));
        }
        let mut mutex = self.clone();
        if let Some(shown) = &owner.shown {
            mutex.request.owner = shown.clone();
        }
        let Some(guard) = mutex.take(patience).await? else { return Ok(None) };
        let guard = Arc::new(guard);
        *held.guard() = Arc::downgrade(&guard);
        Ok(Some(level(guard)))
    }

    /// [`lock_as`](Mutex::lock_as) for code without async.
    ///
    /// # Errors
    /// As [`lock_as`](Mutex::lock_as).
    pub fn blocking_lock_as(&self, owner: &Reentrant) -> Result<ReentrantGuard> {
        pollster::block_on(self.lock_as(owner))
    }

    /// [`try_lock_as`](Mutex::try_lock_as) for code without async.
    ///
    /// # Errors
    /// As [`try_lock_as`](Mutex::try_lock_as).
    pub fn blocking_try_lock_as(&self, owner: &Reentrant) -> Result<Option<ReentrantGuard>> {
        pollster::block_on(self.try_lock_as(owner))
    }

    /// [`try_lock_for_as`](Mutex::try_lock_for_as) for code without async.
    ///
    /// # Errors
    /// As [`try_lock_for_as`](Mutex::try_lock_for_as).
    pub fn blocking_try_lock_for_as(
        &self,
        owner: &Reentrant,
        wait: Duration,
    ) -> Result<Option<ReentrantGuard>> {
        pollster::block_on(self.try_lock_for_as(owner, wait))
    }
}

/// An entry in use: forgotten with the last use, unless something is held.
struct Using<'a> {
    shared: &'a Shared,
    key: &'a Key,
    entry: Option<Arc<Entry>>,
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        self.entry = None;
        self.shared.forget(self.key);
    }
}

/// One level of a hold. The hold ends with the last of its levels.
///
/// # On drop
/// The last level releases the lock in the background. Any other level only ends itself.
#[must_use = "dropping the last level releases the lock"]
pub struct ReentrantGuard {
    guard: Option<Arc<Guard>>,
    shared: Arc<Shared>,
}

impl fmt::Debug for ReentrantGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReentrantGuard").field(self.held()).finish()
    }
}

impl ReentrantGuard {
    fn held(&self) -> &Arc<Guard> {
        self.guard.as_ref().expect("there until dropped")
    }

    /// The lock's name.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.held().key()
    }

    /// The fencing token: the same at every level.
    #[must_use]
    pub fn token(&self) -> Token {
        self.held().token()
    }

    /// How many levels of the hold there are now, this one included.
    #[must_use]
    pub fn levels(&self) -> usize {
        Arc::strong_count(self.held())
    }

    /// Whether the lock is still ours; see [`Guard::check`]. A loss is a loss at every level.
    ///
    /// # Errors
    /// [`Lost`], saying why.
    pub fn check(&self) -> Result<Duration, Lost> {
        self.held().check()
    }

    /// How long the lock is ours without another renewal; zero once it is lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.held().remaining()
    }

    /// Resolves when the lock is lost, no later than at its deadline.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing; it can be called again.
    ///
    /// # On drop
    /// Nothing happens.
    ///
    /// # When the answer is lost
    /// It asks nothing: the deadline passes by our own clock.
    pub async fn lost(&self) -> Lost {
        self.held().lost().await
    }

    /// Runs `work` while the lock is held, and drops it as soon as the lock is lost.
    ///
    /// # Errors
    /// [`Lost`], if that came first; what `work` had done by then is done.
    ///
    /// # Cancel safety
    /// As `work`'s own; the guard stays.
    ///
    /// # On drop
    /// Drops `work`.
    ///
    /// # When the answer is lost
    /// It asks nothing.
    pub async fn while_held<T>(&self, work: impl Future<Output = T>) -> Result<T, Lost> {
        unless(self.lost(), work).await
    }

    /// Ends this level; the last level releases the lock. Says whether the lock was ours until now.
    ///
    /// # Errors
    /// `Lost` if it was no longer ours. For the last level also `Uncertain`, as in [`Guard::release`].
    ///
    /// # Cancel safety
    /// Dropping the future ends the level all the same; the last level releases the lock in the background.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// The release is repeated until it is answered or the lease expires.
    pub async fn release(mut self) -> Result<()> {
        let Some(guard) = self.guard.take() else { return Ok(()) };
        let check = guard.check();
        match Arc::into_inner(guard) {
            Some(last) => {
                drop(self);
                last.release().await
            }
            None => Ok(check.map(drop)?),
        }
    }

    /// [`lost`](ReentrantGuard::lost) for code without async: blocks until the lock is lost, or for `wait`.
    #[must_use]
    pub fn blocking_lost_for(&self, wait: Duration) -> Option<Lost> {
        self.held().blocking_lost_for(wait)
    }

    /// [`release`](ReentrantGuard::release) for code without async.
    ///
    /// # Errors
    /// As [`release`](ReentrantGuard::release).
    pub fn blocking_release(self) -> Result<()> {
        pollster::block_on(self.release())
    }
}

impl Drop for ReentrantGuard {
    fn drop(&mut self) {
        // In a forked child mutexes may be locked for ever.
        let forked = self.shared.engine.forked();
        let Some(guard) = self.guard.take() else { return };
        let key = guard.key().clone();
        drop(guard);
        if !forked {
            self.shared.forget(&key);
        }
    }
}
