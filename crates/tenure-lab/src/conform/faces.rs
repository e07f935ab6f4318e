//! What a trial of the mutex takes as its lock: a mutex, or what can act as one.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure::backend::{Backend, BoxFuture, Call, Claim, Kind, Page, Query, RW_CAPACITY};
use tenure::{Capabilities, Line, LockOptions, Locks, Result, RwLock, Semaphore, Token};

use super::promised;
use super::{Ctx, Verdict};
use crate::any_guard::AnyGuard;

/// What is taken as the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Face {
    /// A mutex.
    #[default]
    Mutex,
    /// The write lock of a read-write lock.
    Write,
    /// The last permit of a semaphore: all others are taken.
    Permit,
}

/// The permits of a semaphore that acts as a mutex.
pub(super) const PERMITS: u32 = 3;
/// The program that holds all of them but one.
pub(super) const FILLER: &str = "filler";

/// Excludes trials of tokens.
pub(super) fn no_token(ctx: &Ctx) -> Option<&'static str> {
    (ctx.face == Face::Permit).then_some("permits have no token")
}

/// Excludes trials that evict whoever holds, and trials of evictions on a store that knows none.
pub(super) fn evicts_all(ctx: &Ctx) -> Option<&'static str> {
    let all = (ctx.face == Face::Permit).then_some("an eviction takes the other permits away as well");
    all.or_else(|| promised::no_evict(ctx))
}

impl Face {
    /// As it stands behind a trial's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Face::Mutex => "mutex",
            Face::Write => "write_lock",
            Face::Permit => "last_permit",
        }
    }

    /// All, the mutex first.
    pub const ALL: [Face; 3] = [Face::Mutex, Face::Write, Face::Permit];

    /// As it stands behind a count of trials.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Face::Mutex => " trials",
            Face::Write => " as a write lock",
            Face::Permit => " as the last permit",
        }
    }

    /// What one holder or waiter weighs.
    pub(super) fn weight(self) -> u32 {
        if self == Face::Write { RW_CAPACITY } else { 1 }
    }

    /// The capability without which there is none.
    pub(super) fn why_not(self, caps: Capabilities) -> Option<&'static str> {
        match self {
            Face::Write if !caps.modes.rw => Some("modes has no read-write lock"),
            Face::Permit if !caps.modes.semaphore => Some("modes has no semaphore"),
            _ => None,
        }
    }

    /// A mutex's claim, made for this.
    pub(super) fn claim(self, mutex: Claim) -> Claim {
        match self {
            Face::Mutex => mutex,
            Face::Write => {
                Claim { kind: Kind::ReadWrite, weight: RW_CAPACITY, capacity: RW_CAPACITY, ..mutex }
            }
            Face::Permit => Claim { kind: Kind::Semaphore, weight: 1, capacity: PERMITS, ..mutex },
        }
    }

    /// The store, without the fillers in what it lists.
    pub(super) fn hiding(self, store: Arc<dyn Backend>) -> Arc<dyn Backend> {
        if self == Face::Permit { Arc::new(Hiding(store)) } else { store }
    }

    pub(super) fn lock(self, locks: &Locks, name: &str) -> Result<Lock> {
        Ok(match self {
            Face::Mutex => Lock::Mutex(locks.mutex(name)?),
            Face::Write => Lock::Write(locks.rwlock(name)?),
            Face::Permit => Lock::Permit(locks.semaphore(name, PERMITS)?),
        })
    }
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) enum Lock {
    Mutex(tenure::Mutex),
    Write(RwLock),
    Permit(Semaphore),
}

impl Lock {
    pub(crate) fn with(self, options: LockOptions) -> Result<Lock> {
        Ok(match self {
            Lock::Mutex(mutex) => Lock::Mutex(mutex.with(options)?),
            Lock::Write(lock) => Lock::Write(lock.with(options)?),
            Lock::Permit(semaphore) => Lock::Permit(semaphore.with(options)?),
        })
    }

    pub(crate) async fn lock(&self) -> Result<AnyGuard> {
        Ok(match self {
            Lock::Mutex(mutex) => AnyGuard::Guard(mutex.lock().await?),
            Lock::Write(lock) => AnyGuard::Guard(lock.write().await?),
            Lock::Permit(semaphore) => AnyGuard::Permit(semaphore.acquire().await?),
        })
    }

    pub(crate) async fn try_lock(&self) -> Result<Option<AnyGuard>> {
        Ok(match self {
            Lock::Mutex(mutex) => mutex.try_lock().await?.map(AnyGuard::Guard),
            Lock::Write(lock) => lock.try_write().await?.map(AnyGuard::Guard),
            Lock::Permit(semaphore) => semaphore.try_acquire().await?.map(AnyGuard::Permit),
        })
    }

    pub(crate) async fn try_lock_for(&self, wait: Duration) -> Result<Option<AnyGuard>> {
        Ok(match self {
            Lock::Mutex(mutex) => mutex.try_lock_for(wait).await?.map(AnyGuard::Guard),
            Lock::Write(lock) => lock.try_write_for(wait).await?.map(AnyGuard::Guard),
            Lock::Permit(semaphore) => semaphore.try_acquire_for(wait).await?.map(AnyGuard::Permit),
        })
    }

    pub(crate) fn blocking_try_lock(&self) -> Result<Option<AnyGuard>> {
        Ok(match self {
            Lock::Mutex(mutex) => mutex.blocking_try_lock()?.map(AnyGuard::Guard),
            Lock::Write(lock) => lock.blocking_try_write()?.map(AnyGuard::Guard),
            Lock::Permit(semaphore) => semaphore.blocking_try_acquire()?.map(AnyGuard::Permit),
        })
    }

    pub(crate) fn blocking_lock(&self) -> Result<AnyGuard> {
        Ok(match self {
            Lock::Mutex(mutex) => AnyGuard::Guard(mutex.blocking_lock()?),
            Lock::Write(lock) => AnyGuard::Guard(lock.blocking_write()?),
            Lock::Permit(semaphore) => AnyGuard::Permit(semaphore.blocking_acquire()?),
        })
    }
}

impl AnyGuard {
    pub(crate) fn the_token(&self) -> Verdict<Token> {
        self.token().ok_or_else(|| "it has no token".into())
    }
}

/// A line without its fillers.
pub(super) fn hide(line: &mut Line) {
    line.holders.retain(|holder| holder.owner.program != FILLER);
}

/// Shows what there is beside the fillers.
#[derive(Debug)]
struct Hiding(Arc<dyn Backend>);

impl Backend for Hiding {
    tenure::pass_on!(0: capabilities, domain, part, attempt, renew, release, transfer, evict, watch, close);

    fn inspect<'a>(&'a self, query: &'a Query, call: Call) -> BoxFuture<'a, Result<Page>> {
        Box::pin(async move {
            let mut page = self.0.inspect(query, call).await?;
            page.lines.iter_mut().for_each(hide);
            page.lines.retain(|line| !line.holders.is_empty() || line.waiters > 0);
            Ok(page)
        })
    }
}
