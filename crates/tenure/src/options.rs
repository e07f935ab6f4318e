//! Options of a single lock.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::Owner;
use crate::core::lease::{TTL_MAX, TTL_MIN};
use crate::engine::Request;
use crate::error::{Error, Result};

/// The longest reason, in bytes.
pub(crate) const REASON_MAX: usize = 256;
/// The longest of an owner's texts, in bytes.
const OWNER_MAX: usize = 128;

/// How a lock is taken: for [`Mutex::with`](crate::Mutex::with), [`RwLock::with`](crate::RwLock::with) and
/// [`Semaphore::with`](crate::Semaphore::with).
///
/// ```
/// use std::time::Duration;
/// use tenure::{LockOptions, Locks};
///
/// let locks = Locks::memory();
/// let options = LockOptions::new().ttl(Duration::from_secs(5)).reason("order 42");
/// let guard = locks.mutex("orders/42")?.with(options)?.blocking_lock()?;
/// assert!(guard.remaining() < Duration::from_secs(5));
/// # Ok::<(), tenure::Error>(())
/// ```
///
/// With the cargo feature `serde`, options can be read from a configuration file. A duration is a text as the command takes it,
/// such as `"10s"` or `"1h30m"`. Every field may be left out. An unknown field or a value that is out of range is refused.
///
/// ```
/// # #[cfg(feature = "serde")] {
/// let options = r#"{"ttl": "10s", "reason": "order 42", "owner": {"user": "ann", "program": "shop"}, "fair": true}"#;
/// let options: tenure::LockOptions = serde_json::from_str(options)?;
/// assert!(serde_json::from_str::<tenure::LockOptions>(r#"{"tll": "10s"}"#).is_err());
/// # }
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(try_from = "crate::config::LockOptionsFile", into = "crate::config::LockOptionsFile")
)]
pub struct LockOptions {
    pub(crate) ttl: Option<Duration>,
    pub(crate) reason: Option<Arc<str>>,
    pub(crate) owner: Option<Arc<Owner>>,
    pub(crate) fair: bool,
}

impl LockOptions {
    /// The defaults of the client.
    #[must_use]
    pub fn new() -> LockOptions {
        LockOptions::default()
    }

    /// The lease: how long a dead holder blocks others at most. 100 ms to 24 h, 30 s by default. It is renewed at a third of its
    /// length, so it does not limit how long the lock can be held.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> LockOptions {
        self.ttl = Some(ttl);
        self
    }

    /// The reason shown in listings. At most 256 bytes.
    #[must_use]
    pub fn reason(mut self, reason: &str) -> LockOptions {
        self.reason = Some(reason.into());
        self
    }

    /// The identity shown in listings instead of this process; never used for decisions.
    #[must_use]
    pub fn owner(mut self, owner: Owner) -> LockOptions {
        self.owner = Some(owner.into());
        self
    }

    /// Gives every task that waits for the mutex its own place in the store's line: strictly first come, first served among all
    /// tasks of all clients. Each task is listed.
    ///
    /// Without it, if the store can reserve fencing tokens ([`Turns::Shared`](crate::Turns::Shared)), tasks of one client that wait
    /// for the same mutex share one claim, and pass the lock on among themselves without asking the store. Claims are served first
    /// come, first served, and so are the tasks of a claim. With a hundred tasks that is much faster, and a client that stops
    /// occupies one place in line instead of a hundred. A claim takes no more tasks after it is granted, so nobody waits for more
    /// tasks than were waiting then. Only tasks with the same ttl, owner and reason share a claim. It is listed once, with the
    /// number of tasks behind it.
    ///
    /// Nothing else changes: each task has its own guard, token, deadline and loss signal. Read-write locks, semaphores and locks of
    /// several names are always fair.
    ///
    /// ```
    /// use tenure::{LockOptions, Locks, Turns};
    ///
    /// let locks = Locks::memory(); // any store; only where it shares turns is there a difference
    /// let sale = locks.mutex("tickets/42")?.with(LockOptions::new().fair())?;
    /// let guard = sale.blocking_lock()?; // before all who came later, whichever program they are of
    /// guard.blocking_release()?;
    /// assert_eq!(locks.capabilities().turns, Turns::Each);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[must_use]
    pub fn fair(mut self) -> LockOptions {
        self.fair = true;
        self
    }

    /// Changes a request.
    pub(crate) fn apply(&self, request: &mut Request) -> Result<()> {
        self.check()?;
        if let Some(ttl) = self.ttl {
            request.ttl = ttl;
        }
        if let Some(reason) = &self.reason {
            request.reason = reason.clone();
        }
        if let Some(owner) = &self.owner {
            request.owner = owner.clone();
        }
        request.fair |= self.fair;
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<()> {
        if let Some(ttl) = self.ttl {
            check_ttl(ttl)?;
        }
        if let Some(reason) = &self.reason {
            check_reason(reason)?;
        }
        if let Some(owner) = &self.owner {
            check_owner(owner)?;
        }
        Ok(())
    }
}

pub(crate) fn check_ttl(ttl: Duration) -> Result<()> {
    if (TTL_MIN..=TTL_MAX).contains(&ttl) {
        return Ok(());
    }
    Err(Error::config(
        format!("a ttl of {} is out of range", crate::core::calendar::span(ttl)),
        "use 100 ms to 24 h",
    ))
}

pub(crate) fn check_reason(reason: &str) -> Result<()> {
    if reason.len() > REASON_MAX {
        let what = format!("the reason is {} bytes long", reason.len());
        return Err(Error::config(what, format!("use at most {REASON_MAX}")));
    }
    Ok(())
}

pub(crate) fn check_owner(owner: &Owner) -> Result<()> {
    for (what, text) in [("user", &owner.user), ("host", &owner.host), ("program", &owner.program)] {
        if text.len() > OWNER_MAX {
            return Err(Error::config(
                format!("the owner's {what} is {} bytes long", text.len()),
                format!("use at most {OWNER_MAX}"),
            ));
        }
    }
    Ok(())
}

/// Cuts a text that the system gave at `OWNER_MAX`, at a character.
pub(crate) fn shortened(mut text: String) -> String {
    let mut end = OWNER_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
