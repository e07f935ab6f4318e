//! Hand-over: a hold goes on in another process, with the same token.
//!
//! A guard is detached: the hold is continued under a fresh id that is anchored to time only, and that id travels in a
//! [`Handle`]. Whoever adopts the handle continues it once more under an id of its own, so a handle can be adopted once.

mod handle;

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Anchor, Claim, Cohort, Kind};
use crate::core::lease::TTL_WAITING;
use crate::engine::{Request, Turn, adopt, detached};
use crate::error::{Error, ErrorKind, LostReason, Result};
use crate::guard::Guard;
use crate::locks::Locks;
use crate::options::check_ttl;

#[cfg(feature = "unstable")]
pub(crate) use handle::FUZZ;
pub use handle::Handle;

impl Guard {
    /// Ends this process's part in the hold without releasing it. The handle continues the hold with the same token, in this process
    /// or another one. Nobody renews it from now on: it lasts for its lease, unless a client [adopts](Locks::adopt) or
    /// [renews](Locks::renew) it.
    ///
    /// # Errors
    /// `Lost` if it was no longer ours. `Uncertain` if the store did not answer; the lock is then released.
    ///
    /// # Cancel safety
    /// Dropping the future releases the lock in the background.
    ///
    /// # On drop
    /// A handle that is dropped leaves the hold as it is: it ends with its lease.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same ids until it is answered or the lease expires.
    pub async fn detach(self) -> Result<Handle> {
        let ttl = self.turn.hold.claim.ttl;
        self.turn.detach(ttl).await
    }

    /// [`detach`](Guard::detach) with another lease: how long the hand-over may take. 100 ms to 24 h.
    ///
    /// # Errors
    /// Those of [`detach`](Guard::detach). `Config` for a lease out of range; the lock is then released.
    ///
    /// # Cancel safety
    /// Dropping the future releases the lock in the background.
    ///
    /// # On drop
    /// A handle that is dropped leaves the hold as it is: it ends with its lease.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same ids until it is answered or the lease expires.
    pub async fn detach_for(self, ttl: Duration) -> Result<Handle> {
        check_ttl(ttl)?;
        self.turn.detach(ttl).await
    }

    /// [`detach`](Guard::detach) for code without async.
    ///
    /// # Errors
    /// As [`detach`](Guard::detach).
    pub fn blocking_detach(self) -> Result<Handle> {
        pollster::block_on(self.detach())
    }

    /// [`detach_for`](Guard::detach_for) for code without async.
    ///
    /// # Errors
    /// As [`detach_for`](Guard::detach_for).
    pub fn blocking_detach_for(self, ttl: Duration) -> Result<Handle> {
        pollster::block_on(self.detach_for(ttl))
    }
}

impl Turn {
    /// Continues the hold anchored to time only, and leaves it to whoever has the handle.
    pub(crate) async fn detach(self, ttl: Duration) -> Result<Handle> {
        let domain = self.engine.core.backend.domain().await?;
        let Claim { key, kind, weight, capacity, owner, reason, .. } = self.hold.claim_now();
        let request = Request { key, kind, weight, capacity, ttl, owner, reason, fair: true };
        let next = self.transfer(&request, Anchor::Time).await?;
        let token = next.grant().and_then(|grant| grant.token);
        let Claim { id, key, owner, reason, .. } = next.abandon();
        let (owner, reason) = (Arc::unwrap_or_clone(owner), reason.to_string());
        Ok(Handle { id, key, domain, kind, weight, capacity, token, ttl, owner, reason })
    }
}

impl Locks {
    /// Continues a detached hold in this process, with the same token. The hold is renewed from now on, and shown as this client's.
    /// That uses up the handle and every copy of it.
    ///
    /// ```
    /// # fn main() -> tenure::Result<()> {
    /// let locks = tenure::Locks::memory();
    /// let guard = locks.mutex("import")?.blocking_lock()?;
    /// let (token, handle) = (guard.token(), guard.blocking_detach()?);
    /// let secret = handle.to_string(); // pass it on: a pipe, a file that only its reader may read
    /// let guard = locks.blocking_adopt(secret.parse()?)?;
    /// assert_eq!(guard.token(), token);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Lost` if there is nothing to continue: the handle was adopted or released before, its lease has expired, or the lock was taken
    /// away. `Config` for a handle of another store or namespace, and for one of a shared lock or of permits. `Uncertain` if the
    /// store did not answer within 30 s; the hold is then released.
    ///
    /// # Cancel safety
    /// Dropping the future uses the handle up or leaves it as it was. A hold that was continued is released.
    ///
    /// # On drop
    /// Dropping the guard releases the lock in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same ids.
    pub async fn adopt(&self, handle: Handle) -> Result<Guard> {
        if handle.weight != handle.capacity || handle.kind == Kind::Semaphore {
            let what = "the handle is of a lock that is shared";
            return Err(
                Error::config(what, "only an exclusive hold can be adopted as a guard").of(&handle.key)
            );
        }
        Guard::new(self.continued(&handle).await?)
    }

    /// Continues any hold.
    async fn continued(&self, handle: &Handle) -> Result<Turn> {
        let from = self.claim_of(handle).await?;
        let request = Request {
            key: from.key.clone(),
            kind: from.kind,
            weight: from.weight,
            capacity: from.capacity,
            ttl: from.ttl,
            owner: self.engine.owner.clone(),
            reason: from.reason.clone(),
            fair: true,
        };
        adopt(&self.engine, &from, &request).await.map_err(used_up)
    }

    /// Renews a detached hold without continuing it in this process, for example in a shell, which has no lasting process. The handle
    /// stays valid. Returns how long the hold lasts at least from now on.
    ///
    /// # Errors
    /// Those of [`adopt`](Locks::adopt), and `Unavailable` if the store did not answer within 5 s.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not renew.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// The request is repeated for 5 s; renewing twice does no harm.
    pub async fn renew(&self, handle: &Handle) -> Result<Duration> {
        let claim = self.claim_of(handle).await?;
        detached::renew(&self.engine, &claim).await.map_err(used_up)
    }

    /// Releases a detached hold. That uses up the handle.
    ///
    /// # Errors
    /// Those of [`adopt`](Locks::adopt). `Uncertain` if the store did not answer within 5 s, or if an answer was lost and the
    /// repeated request found nothing: it was released by then, or had ended before.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not release it.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// The request is repeated for 5 s.
    pub async fn release(&self, handle: Handle) -> Result<()> {
        let claim = self.claim_of(&handle).await?;
        detached::release(&self.engine, &claim).await.map_err(used_up)
    }

    /// The claim that a handle stands for, if it is one of this store and namespace.
    async fn claim_of(&self, handle: &Handle) -> Result<Claim> {
        self.engine.usable()?;
        let key = &handle.key;
        if key.namespace() != self.namespace() {
            let what = format!("the handle is of the namespace {}", key.namespace());
            return Err(Error::config(what, format!("this client's is {}", self.namespace())).of(key));
        }
        let domain = self.domain().await?;
        if domain != handle.domain {
            let what = format!("the handle is of the store {}", handle.domain);
            return Err(Error::config(what, format!("this client's is {domain}")).of(key));
        }
        Ok(Claim {
            id: handle.id,
            key: key.clone(),
            kind: handle.kind,
            weight: handle.weight,
            capacity: handle.capacity,
            stand: true,
            ttl: handle.ttl,
            waiting: TTL_WAITING,
            cohort: Cohort::ALONE,
            birth: self.engine.core.runtime.now(),
            anchor: Anchor::Time,
            owner: handle.owner.clone().into(),
            reason: handle.reason.as_str().into(),
        })
    }

    /// [`adopt`](Locks::adopt) for code without async.
    ///
    /// # Errors
    /// As [`adopt`](Locks::adopt).
    pub fn blocking_adopt(&self, handle: Handle) -> Result<Guard> {
        pollster::block_on(self.adopt(handle))
    }

    /// [`renew`](Locks::renew) for code without async.
    ///
    /// # Errors
    /// As [`renew`](Locks::renew).
    pub fn blocking_renew(&self, handle: &Handle) -> Result<Duration> {
        pollster::block_on(self.renew(handle))
    }

    /// [`release`](Locks::release) for code without async.
    ///
    /// # Errors
    /// As [`release`](Locks::release).
    pub fn blocking_release(&self, handle: Handle) -> Result<()> {
        pollster::block_on(self.release(handle))
    }
}

/// Says what a store cannot know: why there is nothing under this id.
fn used_up(error: Error) -> Error {
    let gone = error.lost().is_some_and(|lost| *lost.why() == LostReason::Gone);
    if error.kind() != ErrorKind::Lost || !gone {
        return error;
    }
    error.saying(
        "there is nothing to continue: the handle was adopted or released before, or its lease is over",
        "take the lock anew",
    )
}
