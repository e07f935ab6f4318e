//! The semaphore: so many permits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Kind;
use crate::engine::{Engine, Patience, Request, Turn, acquire, telling};
use crate::error::{Error, Result};
use crate::holder::holder;
use crate::key::Key;
use crate::locks::Locks;
use crate::options::LockOptions;

impl Locks {
    /// A semaphore of this name with this number of permits.
    ///
    /// # Errors
    /// `Config` for a bad name, saying which rule, and for no permits at all; `Unsupported` if this store cannot carry a
    /// semaphore, saying which can.
    pub fn semaphore(&self, name: impl AsRef<str>, permits: u32) -> Result<Semaphore> {
        let key = self.key(name.as_ref())?;
        self.carries(&key, "semaphore", |modes| modes.semaphore)?;
        if permits == 0 {
            let what = "a semaphore without permits lets nobody in";
            return Err(Error::config(what, "give it at least 1").of(&key));
        }
        let request = self.request(key, Kind::Semaphore, 1, permits);
        Ok(Semaphore { engine: self.engine.clone(), request })
    }
}

/// A named number of permits. Made by [`Locks::semaphore`]; cheap to clone.
///
/// Callers wait in one line, first come, first served. A caller that wants many permits is not overtaken by callers that want
/// few. The permits of a crashed holder come back when its lease expires. Permits have no fencing token, because several are
/// held at a time.
///
/// **The number of permits** is what each caller says, so it can be changed while the semaphore is in use, program by program.
/// While holders name different numbers, the least of them counts for everybody: a holder that was promised "at most 2" never
/// has more company. When the last holder with the least number has left, the next least counts. Lowering the number takes
/// nothing away from current holders.
///
/// ```
/// # fn main() -> tenure::Result<()> {
/// let locks = tenure::Locks::memory();
/// let uploads = locks.semaphore("uploads", 3)?;
/// let two = uploads.blocking_acquire_many(2)?;
/// let one = uploads.blocking_acquire()?;
/// assert!(uploads.blocking_try_acquire()?.is_none());
/// one.blocking_release()?;
/// let rest = two.blocking_release_some(1)?; // keeps one
/// assert_eq!(rest.permits(), 1);
/// # Ok(()) }
/// ```
///
/// **A rate limit** is a semaphore whose permits come back some time after they were used, whatever happens to the process. Here
/// at most 3 calls in any 200 ms, over the whole fleet:
///
/// ```
/// use std::time::{Duration, Instant};
///
/// # fn main() -> tenure::Result<()> {
/// let locks = tenure::Locks::memory();
/// let calls = locks.semaphore("calls-to-the-bank", 3)?;
/// let began = Instant::now();
/// for _ in 0..7 {
///     let permit = calls.blocking_acquire()?;
///     // the call goes here
///     permit.blocking_release_after(Duration::from_millis(200))?;
/// }
/// assert!(began.elapsed() >= Duration::from_millis(400), "the seventh had to wait for the fourth");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Semaphore {
    engine: Arc<Engine>,
    request: Request,
}

impl Semaphore {
    /// The same semaphore, taken with other options.
    ///
    /// # Errors
    /// `Config` if an option is out of its limits; the message names the limit.
    pub fn with(mut self, options: LockOptions) -> Result<Semaphore> {
        options.apply(&mut self.request)?;
        Ok(self)
    }

    /// The semaphore's name.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.request.key
    }

    /// The number of permits that this value names. While a holder names a smaller one, that counts.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.request.capacity
    }

    async fn take_one(&self, patience: Patience) -> Result<Option<Permit>> {
        Ok(acquire(&self.engine, &self.request, patience).await?.map(Permit::new))
    }

    async fn take_many(&self, permits: u32, patience: Patience) -> Result<Option<Permit>> {
        let (key, all) = (&self.request.key, self.request.capacity);
        if permits == 0 || permits > all {
            let what = match all {
                1 => "the semaphore has only 1 permit".to_owned(),
                _ if permits == 0 => "0 permits are no hold".to_owned(),
                _ => format!("the semaphore has only {all} permits"),
            };
            return Err(Error::config(what, format!("ask for 1 to {all}")).of(key));
        }
        let request = Request { weight: permits, ..self.request.clone() };
        Ok(acquire(&self.engine, &request, patience).await?.map(Permit::new))
    }

    /// Waits in line for one permit.
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
    pub async fn acquire(&self) -> Result<Permit> {
        loop {
            // `None` only where a patience ran out, and there is none.
            if let Some(guard) = self.take_one(Patience::Forever).await? {
                return Ok(guard);
            }
        }
    }

    /// Takes a permit if one is free and nobody waits. Never waits in line. `None` means busy.
    ///
    /// # Errors
    /// Those of [`acquire`](Semaphore::acquire); `Unavailable` after 5 s without an answer.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind. If the claim was granted at that moment, it is released in the
    /// background.
    ///
    /// # On drop
    /// Dropping the permit releases it in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id for at most 5 s.
    pub async fn try_acquire(&self) -> Result<Option<Permit>> {
        self.take_one(Patience::None).await
    }

    /// Waits in line for at most `wait`. `None` means that it was not granted within that time. A `wait` of zero is
    /// [`try_acquire`](Semaphore::try_acquire).
    ///
    /// # Errors
    /// Those of [`acquire`](Semaphore::acquire). If the store does not answer for 2 s, or answers with errors only,
    /// the result is `Unavailable` instead of `None`, even before `wait` is over.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in line and leaves nothing behind.
    ///
    /// # On drop
    /// Dropping the permit releases it in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id, so a grant whose answer was lost is found again.
    pub async fn try_acquire_for(&self, wait: Duration) -> Result<Option<Permit>> {
        self.take_one(Patience::lasting(wait, &*self.engine.core.runtime)).await
    }

    /// [`acquire`](Semaphore::acquire) for code without async. Blocks this thread; call it from any thread, also inside `spawn_blocking`.
    ///
    /// # Errors
    /// Those of [`acquire`](Semaphore::acquire).
    pub fn blocking_acquire(&self) -> Result<Permit> {
        pollster::block_on(self.acquire())
    }

    /// [`try_acquire`](Semaphore::try_acquire) for code without async.
    ///
    /// # Errors
    /// Those of [`acquire`](Semaphore::acquire).
    pub fn blocking_try_acquire(&self) -> Result<Option<Permit>> {
        pollster::block_on(self.try_acquire())
    }

    /// [`try_acquire_for`](Semaphore::try_acquire_for) for code without async.
    ///
    /// # Errors
    /// Those of [`acquire`](Semaphore::acquire).
    pub fn blocking_try_acquire_for(&self, wait: Duration) -> Result<Option<Permit>> {
        pollster::block_on(self.try_acquire_for(wait))
    }

    /// Waits in line for this many permits at once: all of them or none.
    ///
    /// # Errors
    /// Those of [`acquire`](Semaphore::acquire); `Config` for 0 and for more than there are.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in line and leaves nothing behind.
    ///
    /// # On drop
    /// Dropping the [`Permit`] releases all of them in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id, so a grant whose answer was lost is found again.
    pub async fn acquire_many(&self, permits: u32) -> Result<Permit> {
        loop {
            // `None` only where a patience ran out, and there is none.
            if let Some(guard) = self.take_many(permits, Patience::Forever).await? {
                return Ok(guard);
            }
        }
    }

    /// Takes `permits` if that many are free and nobody waits. Never waits in line. `None` means busy.
    ///
    /// # Errors
    /// Those of [`acquire_many`](Semaphore::acquire_many); `Unavailable` after 5 s without an answer.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind. If the claim was granted at that moment, it is released in the
    /// background.
    ///
    /// # On drop
    /// Dropping the permit releases it in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id for at most 5 s.
    pub async fn try_acquire_many(&self, permits: u32) -> Result<Option<Permit>> {
        self.take_many(permits, Patience::None).await
    }

    /// Waits in line for at most `wait`. `None` means that it was not granted within that time. A `wait` of zero is
    /// [`try_acquire_many`](Semaphore::try_acquire_many).
    ///
    /// # Errors
    /// Those of [`acquire_many`](Semaphore::acquire_many). If the store does not answer for 2 s, or answers with
    /// errors only, the result is `Unavailable` instead of `None`, even before `wait` is over.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in line and leaves nothing behind.
    ///
    /// # On drop
    /// Dropping the permit releases it in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id, so a grant whose answer was lost is found again.
    pub async fn try_acquire_many_for(&self, permits: u32, wait: Duration) -> Result<Option<Permit>> {
        self.take_many(permits, Patience::lasting(wait, &*self.engine.core.runtime)).await
    }

    /// [`acquire_many`](Semaphore::acquire_many) for code without async. Blocks this thread; call it from any thread, also inside `spawn_blocking`.
    ///
    /// # Errors
    /// Those of [`acquire_many`](Semaphore::acquire_many).
    pub fn blocking_acquire_many(&self, permits: u32) -> Result<Permit> {
        pollster::block_on(self.acquire_many(permits))
    }

    /// [`try_acquire_many`](Semaphore::try_acquire_many) for code without async.
    ///
    /// # Errors
    /// Those of [`acquire_many`](Semaphore::acquire_many).
    pub fn blocking_try_acquire_many(&self, permits: u32) -> Result<Option<Permit>> {
        pollster::block_on(self.try_acquire_many(permits))
    }

    /// [`try_acquire_many_for`](Semaphore::try_acquire_many_for) for code without async.
    ///
    /// # Errors
    /// Those of [`acquire_many`](Semaphore::acquire_many).
    pub fn blocking_try_acquire_many_for(&self, permits: u32, wait: Duration) -> Result<Option<Permit>> {
        pollster::block_on(self.try_acquire_many_for(permits, wait))
    }
}

/// Permits that are held. It owns what it needs: `Send + Sync + 'static`, not `Clone`.
///
/// Its lease is renewed in the background like that of a [`Guard`](crate::Guard), and can be lost in the same ways.
///
/// # On drop
/// The permits are released in the background.
#[must_use = "dropping the permit releases it"]
pub struct Permit {
    pub(crate) turn: Turn,
    _held: telling::Held,
}

holder!(Permit);

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("key", self.key())
            .field("permits", &self.permits())
            .finish_non_exhaustive()
    }
}

impl Permit {
    pub(crate) fn new(turn: Turn) -> Permit {
        Permit { turn, _held: telling::Held::begin() }
    }

    /// The number of permits held.
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.turn.hold.claim.weight
    }

    /// Releases `permits` of them and keeps the rest, in one step: no other caller can take the rest in between.
    ///
    /// # Errors
    /// `Config` for 0, and for all of them or more (use [`release`](Permit::release)). `Lost` if they were no longer ours.
    /// `Uncertain` if the store did not answer before the lease expired, or for 30 s. After an error all of them are released in
    /// the background.
    ///
    /// # Cancel safety
    /// Dropping the future releases all of them in the background.
    ///
    /// # On drop
    /// Dropping the returned [`Permit`] releases the rest in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim ids until it is answered or the lease expires.
    pub async fn release_some(self, permits: u32) -> Result<Permit> {
        let claim = self.turn.hold.claim_now();
        let (held, anchor) = (claim.weight, claim.anchor);
        if permits == 0 || permits >= held {
            let what = format!("{permits} of {held} permits cannot be released on their own");
            let advice = "release at least 1 and keep at least 1, or release all";
            return Err(Error::config(what, advice).of(&claim.key));
        }
        let request = Request { weight: held - permits, ..Request::of(claim) };
        Ok(Permit::new(self.turn.transfer(&request, anchor).await?))
    }

    /// [`release_some`](Permit::release_some) for code without async.
    ///
    /// # Errors
    /// Those of [`release_some`](Permit::release_some).
    pub fn blocking_release_some(self, permits: u32) -> Result<Permit> {
        pollster::block_on(self.release_some(permits))
    }
}
