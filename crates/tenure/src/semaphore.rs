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
    /// A semaphore of this name with so many permits.
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
/// Who waits stands in one line, first come first served: whoever wants many is not overtaken by those who want few. The
/// permits of the dead come back when their leases end. Permits have no fencing tokens, since many have one at a time.
///
/// **How many there are** is what each caller says: the store grants a claim if it fits into its own number. So the number
/// can be changed while it is in use, program by program; lowering it takes nothing away from those who have permits.
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
/// **A rate limit** is a semaphore whose permits come back a while after they were used, whatever happens to the process:
/// at most 3 calls in any 200 ms, fleet-wide.
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
    /// `Config` where an option is out of its limits; the message names the limit.
    pub fn with(mut self, options: LockOptions) -> Result<Semaphore> {
        options.apply(&mut self.request)?;
        Ok(self)
    }

    /// The semaphore's name.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.request.key
    }

    /// How many permits there are, as this value assumes.
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
            let what = format!("{permits} permits of {all} can never be had");
            return Err(Error::config(what, format!("ask for 1 to {all}")).of(key));
        }
        let request = Request { weight: permits, ..self.request.clone() };
        Ok(acquire(&self.engine, &request, patience).await?.map(Permit::new))
    }

    /// Waits in line for one permit.
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
    pub async fn acquire(&self) -> Result<Permit> {
        loop {
            // `None` only where a patience ran out, and there is none.
            if let Some(guard) = self.take_one(Patience::Forever).await? {
                return Ok(guard);
            }
        }
    }

    /// Takes a permit if one is free and nobody waits; never stands in line. `None`: busy.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire); `Unavailable` after 5 s without an answer.
    ///
    /// # Cancel safety
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # On drop
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # When the answer is lost
    /// As [`acquire`](Semaphore::acquire).
    pub async fn try_acquire(&self) -> Result<Option<Permit>> {
        self.take_one(Patience::None).await
    }

    /// Waits in line for at most `wait`. `None`: not within that time. A `wait` of zero is
    /// [`try_acquire`](Semaphore::try_acquire).
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # Cancel safety
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # On drop
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # When the answer is lost
    /// As [`acquire`](Semaphore::acquire); a store that answers the request with nothing for 2 s, or with errors only, is `Unavailable`, not busy.
    pub async fn try_acquire_for(&self, wait: Duration) -> Result<Option<Permit>> {
        self.take_one(Patience::lasting(wait, &*self.engine.core.runtime)).await
    }

    /// [`acquire`](Semaphore::acquire) for code without async: blocks this thread, from any thread, also inside `spawn_blocking`.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire).
    pub fn blocking_acquire(&self) -> Result<Permit> {
        pollster::block_on(self.acquire())
    }

    /// [`try_acquire`](Semaphore::try_acquire) for code without async.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire).
    pub fn blocking_try_acquire(&self) -> Result<Option<Permit>> {
        pollster::block_on(self.try_acquire())
    }

    /// [`try_acquire_for`](Semaphore::try_acquire_for) for code without async.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire).
    pub fn blocking_try_acquire_for(&self, wait: Duration) -> Result<Option<Permit>> {
        pollster::block_on(self.try_acquire_for(wait))
    }

    /// Waits in line for so many permits at once: all of them or none.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire); `Config` for 0, and for more than there are.
    ///
    /// # Cancel safety
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # On drop
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # When the answer is lost
    /// As [`acquire`](Semaphore::acquire).
    pub async fn acquire_many(&self, permits: u32) -> Result<Permit> {
        loop {
            // `None` only where a patience ran out, and there is none.
            if let Some(guard) = self.take_many(permits, Patience::Forever).await? {
                return Ok(guard);
            }
        }
    }

    /// Takes `permits` if so many are free and nobody waits; never stands in line. `None`: busy.
    ///
    /// # Errors
    /// As [`acquire_many`](Semaphore::acquire_many); `Unavailable` after 5 s without an answer.
    ///
    /// # Cancel safety
    /// As [`acquire_many`](Semaphore::acquire_many).
    ///
    /// # On drop
    /// As [`acquire_many`](Semaphore::acquire_many).
    ///
    /// # When the answer is lost
    /// As [`acquire_many`](Semaphore::acquire_many).
    pub async fn try_acquire_many(&self, permits: u32) -> Result<Option<Permit>> {
        self.take_many(permits, Patience::None).await
    }

    /// Waits in line for at most `wait`. `None`: not within that time. A `wait` of zero is
    /// [`try_acquire_many`](Semaphore::try_acquire_many).
    ///
    /// # Errors
    /// As [`acquire_many`](Semaphore::acquire_many).
    ///
    /// # Cancel safety
    /// As [`acquire_many`](Semaphore::acquire_many).
    ///
    /// # On drop
    /// As [`acquire_many`](Semaphore::acquire_many).
    ///
    /// # When the answer is lost
    /// As [`acquire_many`](Semaphore::acquire_many); a store that answers the request with nothing for 2 s, or with errors only, is `Unavailable`, not busy.
    pub async fn try_acquire_many_for(&self, permits: u32, wait: Duration) -> Result<Option<Permit>> {
        self.take_many(permits, Patience::lasting(wait, &*self.engine.core.runtime)).await
    }

    /// [`acquire_many`](Semaphore::acquire_many) for code without async: blocks this thread, from any thread, also inside `spawn_blocking`.
    ///
    /// # Errors
    /// As [`acquire_many`](Semaphore::acquire_many).
    pub fn blocking_acquire_many(&self, permits: u32) -> Result<Permit> {
        pollster::block_on(self.acquire_many(permits))
    }

    /// [`try_acquire_many`](Semaphore::try_acquire_many) for code without async.
    ///
    /// # Errors
    /// As [`acquire_many`](Semaphore::acquire_many).
    pub fn blocking_try_acquire_many(&self, permits: u32) -> Result<Option<Permit>> {
        pollster::block_on(self.try_acquire_many(permits))
    }

    /// [`try_acquire_many_for`](Semaphore::try_acquire_many_for) for code without async.
    ///
    /// # Errors
    /// As [`acquire_many`](Semaphore::acquire_many).
    pub fn blocking_try_acquire_many_for(&self, permits: u32, wait: Duration) -> Result<Option<Permit>> {
        pollster::block_on(self.try_acquire_many_for(permits, wait))
    }
}

/// Permits that are held. Owns what it needs: `Send + Sync + 'static`, not `Clone`.
///
/// Its lease is renewed in the background like that of a [`Guard`](crate::Guard), and can be lost in the same ways.
///
/// # On drop
/// The permits are given back in the background.
#[must_use = "dropping the permit gives it back"]
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

    /// How many permits these are.
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.turn.hold.claim.weight
    }

    /// Gives `permits` of them back and keeps the rest, without a moment in which somebody else could take those.
    ///
    /// # Errors
    /// `Config` for 0 and for all of them or more, which [`release`](Permit::release) gives back; `Lost` if they were no
    /// longer ours; `Uncertain` if nobody answered before the lease ended, or for 30 s. All of them are given back in the
    /// background then.
    ///
    /// # Cancel safety
    /// Dropping the future gives all of them back in the background.
    ///
    /// # On drop
    /// As above.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim ids until it is answered or the lease is over.
    pub async fn release_some(self, permits: u32) -> Result<Permit> {
        let claim = self.turn.hold.claim_now();
        let (held, anchor) = (claim.weight, claim.anchor);
        if permits == 0 || permits >= held {
            let what = format!("{permits} of {held} permits cannot be given back by themselves");
            let advice = "give back at least 1 and keep at least 1, or release all";
            return Err(Error::config(what, advice).of(&claim.key));
        }
        let request = Request { weight: held - permits, ..Request::of(claim) };
        Ok(Permit::new(self.turn.transfer(&request, anchor).await?))
    }

    /// [`release_some`](Permit::release_some) for code without async.
    ///
    /// # Errors
    /// As [`release_some`](Permit::release_some).
    pub fn blocking_release_some(self, permits: u32) -> Result<Permit> {
        pollster::block_on(self.release_some(permits))
    }
}
