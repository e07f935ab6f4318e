//! What a client of the lab holds, whatever it took: the guard of a mutex or a writer, a reader's, or permits.

use std::time::Duration;

use tenure::{Guard, Key, Lost, Owner, Permit, Previous, ReadGuard, Result, Token};

/// What proves a hold, of whatever kind the lock is.
#[derive(Debug)]
pub(crate) enum AnyGuard {
    Guard(Guard),
    Read(ReadGuard),
    Permit(Permit),
}

/// The same of each.
macro_rules! of {
    ($guard:expr, $one:ident => $what:expr) => {
        match $guard {
            AnyGuard::Guard($one) => $what,
            AnyGuard::Read($one) => $what,
            AnyGuard::Permit($one) => $what,
        }
    };
}

impl AnyGuard {
    /// A permit has none, nor a reader where the store gives none.
    pub(crate) fn token(&self) -> Option<Token> {
        match self {
            AnyGuard::Guard(guard) => Some(guard.token()),
            AnyGuard::Read(guard) => guard.token(),
            AnyGuard::Permit(_) => None,
        }
    }

    pub(crate) fn previous(&self) -> Previous {
        of!(self, guard => guard.previous())
    }

    pub(crate) fn key(&self) -> &Key {
        of!(self, guard => guard.key())
    }

    /// The hash of its claim, as listings show it.
    #[cfg(feature = "proofs")]
    pub(crate) fn claim(&self) -> String {
        of!(self, guard => guard.claim())
    }

    pub(crate) fn describe(&self, owner: Owner) -> Result<()> {
        of!(self, guard => guard.describe(owner))
    }

    pub(crate) fn check(&self) -> Result<Duration, Lost> {
        of!(self, guard => guard.check())
    }

    pub(crate) fn remaining(&self) -> Duration {
        of!(self, guard => guard.remaining())
    }

    pub(crate) async fn lost(&self) -> Lost {
        of!(self, guard => guard.lost().await)
    }

    pub(crate) async fn while_held<T>(&self, work: impl Future<Output = T>) -> Result<T, Lost> {
        of!(self, guard => guard.while_held(work).await)
    }

    pub(crate) async fn release(self) -> Result<()> {
        of!(self, guard => guard.release().await)
    }

    pub(crate) async fn release_after(self, pause: Duration) -> Result<()> {
        of!(self, guard => guard.release_after(pause).await)
    }

    pub(crate) fn blocking_release(self) -> Result<()> {
        of!(self, guard => guard.blocking_release())
    }
}
