//! The read-write lock: many readers, or one writer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Kind, RW_CAPACITY};
use crate::engine::{Engine, Patience, Request, Turn, acquire, telling};
use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::holder::holder;
use crate::key::Key;
use crate::locks::Locks;
use crate::options::LockOptions;
use crate::token::Token;

impl Locks {
    /// A read-write lock of this name: many readers at a time, or one writer.
    ///
    /// # Errors
    /// `Config` for a bad name, saying which rule; `Unsupported` if this store cannot carry one, saying which can.
    pub fn rwlock(&self, name: impl AsRef<str>) -> Result<RwLock> {
        let key = self.key(name.as_ref())?;
        self.carries(&key, "read-write lock", |modes| modes.rw)?;
        self.fences(&key)?;
        let read = self.request(key, Kind::ReadWrite, 1, RW_CAPACITY);
        let write = Request { weight: RW_CAPACITY, ..read.clone() };
        Ok(RwLock { engine: self.engine.clone(), read, write })
    }
}

/// A named lock with many readers or one writer at a time. Made by [`Locks::rwlock`]; cheap to clone.
///
/// Readers and writers wait in one line, first come, first served. Readers that stand together enter together. Nobody overtakes,
/// so writers do not starve. A reader that arrives while a writer waits, waits behind the writer. A task that reads, and reads
/// again while a writer waits, therefore waits for itself. Inside a [`scope`](crate::scope()) a task that waits for its own write
/// lock gets an error.
///
/// Each writer has its own fencing token. The readers between two writers share one, greater than the previous writer's and
/// smaller than the next one's. A resource that records the token on reads as well therefore refuses the late write of a writer
/// that lost the lock before these readers.
///
/// ```
/// # fn main() -> tenure::Result<()> {
/// let locks = tenure::Locks::memory();
/// let config = locks.rwlock("config")?;
/// let (a, b) = (config.blocking_read()?, config.blocking_read()?); // together
/// assert_eq!(a.token(), b.token());
/// assert!(config.blocking_try_write()?.is_none());
/// drop((a, b));
/// let writer = config.blocking_try_write_for(std::time::Duration::from_secs(60))?.expect("free by now");
/// let reader = writer.blocking_downgrade()?; // no other writer in between
/// reader.blocking_release()?;
/// # Ok(()) }
/// ```
///
/// **A reader cannot be upgraded** to a writer. Two readers that both wait to become the writer would wait for each other for
/// ever. Release, take the write lock, and read again, since another writer may have been there:
///
/// ```compile_fail,E0599
/// # fn main() -> tenure::Result<()> {
/// let reader = tenure::Locks::memory().rwlock("config")?.blocking_read()?;
/// let writer = reader.blocking_upgrade()?; // no such method
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct RwLock {
    engine: Arc<Engine>,
    read: Request,
    write: Request,
}

impl RwLock {
    /// The same lock, taken with other options.
    ///
    /// # Errors
    /// `Config` if an option is out of its limits; the message names the limit.
    pub fn with(mut self, options: LockOptions) -> Result<RwLock> {
        options.apply(&mut self.read)?;
        options.apply(&mut self.write)?;
        Ok(self)
    }

    /// The lock's name.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.read.key
    }

    async fn take_read(&self, patience: Patience) -> Result<Option<ReadGuard>> {
        Ok(acquire(&self.engine, &self.read, patience).await?.map(ReadGuard::new))
    }

    async fn take_write(&self, patience: Patience) -> Result<Option<Guard>> {
        acquire(&self.engine, &self.write, patience).await?.map(Guard::new).transpose()
    }

    /// Waits in line until no writer has the lock or waits ahead, and takes it for reading.
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
    /// Dropping the guard releases it in the background. Its `release` tells whether it was still ours.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id, so a grant whose answer was lost is found again.
    pub async fn read(&self) -> Result<ReadGuard> {
        loop {
            // `None` only where a patience ran out, and there is none.
            if let Some(guard) = self.take_read(Patience::Forever).await? {
                return Ok(guard);
            }
        }
    }

    /// Takes the lock for reading if no writer has it and nobody waits. Never waits in line. `None` means busy.
    ///
    /// # Errors
    /// Those of [`read`](RwLock::read); `Unavailable` after 5 s without an answer.
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
    pub async fn try_read(&self) -> Result<Option<ReadGuard>> {
        self.take_read(Patience::None).await
    }

    /// Waits in line for at most `wait`. `None` means that it was not granted within that time. A `wait` of zero is
    /// [`try_read`](RwLock::try_read).
    ///
    /// # Errors
    /// Those of [`read`](RwLock::read). If the store does not answer for 2 s, or answers with errors only, the result
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
    pub async fn try_read_for(&self, wait: Duration) -> Result<Option<ReadGuard>> {
        self.take_read(Patience::lasting(wait, &*self.engine.core.runtime)).await
    }

    /// [`read`](RwLock::read) for code without async. Blocks this thread; call it from any thread, also inside `spawn_blocking`.
    ///
    /// # Errors
    /// Those of [`read`](RwLock::read).
    pub fn blocking_read(&self) -> Result<ReadGuard> {
        pollster::block_on(self.read())
    }

    /// [`try_read`](RwLock::try_read) for code without async.
    ///
    /// # Errors
    /// Those of [`read`](RwLock::read).
    pub fn blocking_try_read(&self) -> Result<Option<ReadGuard>> {
        pollster::block_on(self.try_read())
    }

    /// [`try_read_for`](RwLock::try_read_for) for code without async.
    ///
    /// # Errors
    /// Those of [`read`](RwLock::read).
    pub fn blocking_try_read_for(&self, wait: Duration) -> Result<Option<ReadGuard>> {
        pollster::block_on(self.try_read_for(wait))
    }

    /// Waits in line until nobody has the lock, and takes it for writing.
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
    /// Dropping the guard releases it in the background. Its `release` tells whether it was still ours.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id, so a grant whose answer was lost is found again.
    pub async fn write(&self) -> Result<Guard> {
        loop {
            // `None` only where a patience ran out, and there is none.
            if let Some(guard) = self.take_write(Patience::Forever).await? {
                return Ok(guard);
            }
        }
    }

    /// Takes the lock for writing if nobody has it and nobody waits. Never waits in line. `None` means busy.
    ///
    /// # Errors
    /// Those of [`write`](RwLock::write); `Unavailable` after 5 s without an answer.
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
    pub async fn try_write(&self) -> Result<Option<Guard>> {
        self.take_write(Patience::None).await
    }

    /// Waits in line for at most `wait`. `None` means that it was not granted within that time. A `wait` of zero is
    /// [`try_write`](RwLock::try_write).
    ///
    /// # Errors
    /// Those of [`write`](RwLock::write). If the store does not answer for 2 s, or answers with errors only, the
    /// result is `Unavailable` instead of `None`, even before `wait` is over.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in line and leaves nothing behind.
    ///
    /// # On drop
    /// Dropping the guard releases the lock in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id, so a grant whose answer was lost is found again.
    pub async fn try_write_for(&self, wait: Duration) -> Result<Option<Guard>> {
        self.take_write(Patience::lasting(wait, &*self.engine.core.runtime)).await
    }

    /// [`write`](RwLock::write) for code without async. Blocks this thread; call it from any thread, also inside `spawn_blocking`.
    ///
    /// # Errors
    /// Those of [`write`](RwLock::write).
    pub fn blocking_write(&self) -> Result<Guard> {
        pollster::block_on(self.write())
    }

    /// [`try_write`](RwLock::try_write) for code without async.
    ///
    /// # Errors
    /// Those of [`write`](RwLock::write).
    pub fn blocking_try_write(&self) -> Result<Option<Guard>> {
        pollster::block_on(self.try_write())
    }

    /// [`try_write_for`](RwLock::try_write_for) for code without async.
    ///
    /// # Errors
    /// Those of [`write`](RwLock::write).
    pub fn blocking_try_write_for(&self, wait: Duration) -> Result<Option<Guard>> {
        pollster::block_on(self.try_write_for(wait))
    }
}

/// A lock that is held for reading. It owns what it needs: `Send + Sync + 'static`, not `Clone`.
///
/// Its lease is renewed in the background like that of a [`Guard`], and can be lost in the same ways.
///
/// # On drop
/// The lock is released in the background.
#[must_use = "dropping the guard releases the lock"]
pub struct ReadGuard {
    pub(crate) turn: Turn,
    token: Option<Token>,
    _held: telling::Held,
}

holder!(ReadGuard);

impl fmt::Debug for ReadGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadGuard")
            .field("key", self.key())
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

impl ReadGuard {
    pub(crate) fn new(turn: Turn) -> ReadGuard {
        let token = turn.grant().and_then(|grant| grant.token);
        ReadGuard { turn, token, _held: telling::Held::begin() }
    }

    /// The fencing token that the readers between two writers share: greater than the last writer's, smaller than the next
    /// one's. `None` if the store cannot give one. Pass it to the resource with each read.
    #[must_use]
    pub fn token(&self) -> Option<Token> {
        self.token
    }
}

impl Guard {
    /// Turns a write lock into a read lock, with no other writer in between. The readers that wait ahead of the next writer enter
    /// now. The reader's token is greater than the writer's.
    ///
    /// # Errors
    /// `Config` for the guard of a mutex, which has no readers. `Lost` if the lock was no longer ours. `Uncertain` if the store did
    /// not answer before the lease expired, or for 30 s. After an error the lock is released in the background.
    ///
    /// # Cancel safety
    /// Dropping the future releases the lock in the background.
    ///
    /// # On drop
    /// Dropping the [`ReadGuard`] releases it in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim ids until it is answered or the lease expires.
    pub async fn downgrade(self) -> Result<ReadGuard> {
        let claim = self.turn.hold.claim_now();
        if claim.kind != Kind::ReadWrite {
            let advice = "take it with Locks::rwlock(name) and write() to go on as a reader";
            return Err(Error::config("it is a mutex, which has no readers", advice).of(&claim.key));
        }
        let anchor = claim.anchor;
        let request = Request { weight: 1, ..Request::of(claim) };
        Ok(ReadGuard::new(self.turn.transfer(&request, anchor).await?))
    }

    /// [`downgrade`](Guard::downgrade) for code without async.
    ///
    /// # Errors
    /// Those of [`downgrade`](Guard::downgrade).
    pub fn blocking_downgrade(self) -> Result<ReadGuard> {
        pollster::block_on(self.downgrade())
    }
}
