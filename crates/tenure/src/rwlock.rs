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
        let read = self.request(key, Kind::ReadWrite, 1, RW_CAPACITY);
        let write = Request { weight: RW_CAPACITY, ..read.clone() };
        Ok(RwLock { engine: self.engine.clone(), read, write })
    }
}

/// A named lock that many readers have at a time, or one writer. Made by [`Locks::rwlock`]; cheap to clone.
///
/// Readers and writers stand in one line, first come first served: readers that stand together are let in together, and
/// nobody overtakes, so writers do not starve. A reader that comes while a writer waits, waits behind it; so a task that
/// reads and reads once more while a writer waits would wait for itself. Within a [`scope`](crate::scope()) a task that
/// waits for its own write lock gets an error, not a hang.
///
/// Each writer has a fencing token of its own. The readers between two writers share one, greater than the last
/// writer's and smaller than the next one's: a resource that records the token on reads too refuses the late write of a
/// writer that lost the lock before they came.
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
/// **There is no way to upgrade** a reader to a writer. Two readers that both wait to become the writer would wait for
/// each other for ever, and a reader that lets go in between may find that somebody else has written. Release, take the
/// write lock, and look again at what was read:
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
    /// `Config` where an option is out of its limits; the message names the limit.
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
        Ok(acquire(&self.engine, &self.write, patience).await?.map(Guard::new))
    }

    /// Waits in line until no writer has the lock and none waits ahead, and takes it for reading.
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
    /// Dropping the guard gives it back in the background; its `release` tells whether it was still ours.
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

    /// Takes the lock for reading if no writer has it and nobody waits; never stands in line. `None`: busy.
    ///
    /// # Errors
    /// As [`read`](RwLock::read); `Unavailable` after 5 s without an answer.
    ///
    /// # Cancel safety
    /// As [`read`](RwLock::read).
    ///
    /// # On drop
    /// As [`read`](RwLock::read).
    ///
    /// # When the answer is lost
    /// As [`read`](RwLock::read).
    pub async fn try_read(&self) -> Result<Option<ReadGuard>> {
        self.take_read(Patience::None).await
    }

    /// Waits in line for at most `wait`. `None`: not within that time. A `wait` of zero is
    /// [`try_read`](RwLock::try_read).
    ///
    /// # Errors
    /// As [`read`](RwLock::read).
    ///
    /// # Cancel safety
    /// As [`read`](RwLock::read).
    ///
    /// # On drop
    /// As [`read`](RwLock::read).
    ///
    /// # When the answer is lost
    /// As [`read`](RwLock::read); a store that answers the request with nothing for 2 s, or with errors only, is `Unavailable`, not busy.
    pub async fn try_read_for(&self, wait: Duration) -> Result<Option<ReadGuard>> {
        self.take_read(Patience::lasting(wait, &*self.engine.core.runtime)).await
    }

    /// [`read`](RwLock::read) for code without async: blocks this thread, from any thread, also inside `spawn_blocking`.
    ///
    /// # Errors
    /// As [`read`](RwLock::read).
    pub fn blocking_read(&self) -> Result<ReadGuard> {
        pollster::block_on(self.read())
    }

    /// [`try_read`](RwLock::try_read) for code without async.
    ///
    /// # Errors
    /// As [`read`](RwLock::read).
    pub fn blocking_try_read(&self) -> Result<Option<ReadGuard>> {
        pollster::block_on(self.try_read())
    }

    /// [`try_read_for`](RwLock::try_read_for) for code without async.
    ///
    /// # Errors
    /// As [`read`](RwLock::read).
    pub fn blocking_try_read_for(&self, wait: Duration) -> Result<Option<ReadGuard>> {
        pollster::block_on(self.try_read_for(wait))
    }

    /// Waits in line until nobody has the lock, and takes it for writing.
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
    /// Dropping the guard gives it back in the background; its `release` tells whether it was still ours.
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

    /// Takes the lock for writing if nobody has it and nobody waits; never stands in line. `None`: busy.
    ///
    /// # Errors
    /// As [`write`](RwLock::write); `Unavailable` after 5 s without an answer.
    ///
    /// # Cancel safety
    /// As [`write`](RwLock::write).
    ///
    /// # On drop
    /// As [`write`](RwLock::write).
    ///
    /// # When the answer is lost
    /// As [`write`](RwLock::write).
    pub async fn try_write(&self) -> Result<Option<Guard>> {
        self.take_write(Patience::None).await
    }

    /// Waits in line for at most `wait`. `None`: not within that time. A `wait` of zero is
    /// [`try_write`](RwLock::try_write).
    ///
    /// # Errors
    /// As [`write`](RwLock::write).
    ///
    /// # Cancel safety
    /// As [`write`](RwLock::write).
    ///
    /// # On drop
    /// As [`write`](RwLock::write).
    ///
    /// # When the answer is lost
    /// As [`write`](RwLock::write); a store that answers the request with nothing for 2 s, or with errors only, is `Unavailable`, not busy.
    pub async fn try_write_for(&self, wait: Duration) -> Result<Option<Guard>> {
        self.take_write(Patience::lasting(wait, &*self.engine.core.runtime)).await
    }

    /// [`write`](RwLock::write) for code without async: blocks this thread, from any thread, also inside `spawn_blocking`.
    ///
    /// # Errors
    /// As [`write`](RwLock::write).
    pub fn blocking_write(&self) -> Result<Guard> {
        pollster::block_on(self.write())
    }

    /// [`try_write`](RwLock::try_write) for code without async.
    ///
    /// # Errors
    /// As [`write`](RwLock::write).
    pub fn blocking_try_write(&self) -> Result<Option<Guard>> {
        pollster::block_on(self.try_write())
    }

    /// [`try_write_for`](RwLock::try_write_for) for code without async.
    ///
    /// # Errors
    /// As [`write`](RwLock::write).
    pub fn blocking_try_write_for(&self, wait: Duration) -> Result<Option<Guard>> {
        pollster::block_on(self.try_write_for(wait))
    }
}

/// A lock that is held for reading. Owns what it needs: `Send + Sync + 'static`, not `Clone`.
///
/// Its lease is renewed in the background like that of a [`Guard`], and can be lost in the same ways.
///
/// # On drop
/// The lock is given back in the background.
#[must_use = "dropping the guard gives the lock back"]
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
    /// one's. `None` where the store cannot give one. Hand it to the resource with each read.
    #[must_use]
    pub fn token(&self) -> Option<Token> {
        self.token
    }
}

impl Guard {
    /// Goes on as a reader: no other writer is let in before, and the readers that wait ahead of the next writer are let
    /// in now. The reader's token is greater than the writer's. A write lock only.
    ///
    /// # Errors
    /// `Config` for the guard of a mutex, which has no readers; `Lost` if it was no longer ours; `Uncertain` if nobody
    /// answered before the lease ended, or for 30 s. The lock is given back in the background then.
    ///
    /// # Cancel safety
    /// Dropping the future gives the lock back in the background.
    ///
    /// # On drop
    /// As above.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim ids until it is answered or the lease is over.
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
    /// As [`downgrade`](Guard::downgrade).
    pub fn blocking_downgrade(self) -> Result<ReadGuard> {
        pollster::block_on(self.downgrade())
    }
}
