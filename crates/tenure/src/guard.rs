//! What a holder has.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::backend::{Leave, Owner};
use crate::core::lease::KEEP_MAX;
use crate::core::moment::Moment;
use crate::engine::{Turn, race, telling, unless};
use crate::error::{Error, Lost, Result};
use crate::key::Key;
use crate::options::{check_owner, check_reason};
use crate::token::Token;

/// A held lock. Owns what it needs: `Send + Sync + 'static`, not `Clone`.
///
/// The lease is renewed in the background, by a thread of Tenure's own, until the guard ends. A lease can still be
/// lost: to a pause longer than the lease, to a store that stays away, to an operator. Three ways to notice, from the
/// strongest: let the resource check [`token`](Guard::token); run the work under [`while_held`](Guard::while_held);
/// call [`check`](Guard::check) before each side effect.
///
/// # On drop
/// The lock is given back in the background, also during a panic and without any async runtime. The last handle of a
/// client waits up to 100 ms for that, so a program that drops its guard and returns from `main` leaves nothing.
#[must_use = "dropping the guard gives the lock back"]
pub struct Guard {
    pub(crate) turn: Turn,
    token: Token,
    _held: telling::Held,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("key", self.key()).field("token", &self.token).finish_non_exhaustive()
    }
}

impl Guard {
    pub(crate) fn new(turn: Turn) -> Guard {
        // Every backend that carries a mutex gives tokens; the lowest one stands for "cannot win against anybody".
        let token = turn.grant().and_then(|grant| grant.token).unwrap_or(Token::MIN);
        Guard { turn, token, _held: telling::Held::begin() }
    }

    /// The lock's name.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.turn.hold.claim.key
    }

    /// The fencing token of this grant: greater than that of every earlier grant. Hand it to the resource.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// Whether the lock is still ours, and for how long at least without another renewal. Arithmetic on the boot clock:
    /// no I/O, no waiting. Past the deadline the answer is `Lost`, for good.
    ///
    /// The answer can be out of date as soon as it is given: only the resource can close that gap, by the token.
    ///
    /// # Errors
    /// [`Lost`], saying why.
    pub fn check(&self) -> Result<Duration, Lost> {
        let deadline = self.turn.check()?;
        let left = deadline.since(self.turn.engine.core.runtime.now());
        if left.is_zero() {
            // The deadline passed between two looks at the clock.
            self.turn.check()?;
        }
        Ok(left)
    }

    /// How long the lock is ours without another renewal; zero once it is lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.check().unwrap_or(Duration::ZERO)
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
        let mut listening = Listening { turn: &self.turn, slot: None };
        let why = poll_fn(|cx| {
            if let Err(lost) = self.turn.check() {
                return Poll::Ready(lost.why().clone());
            }
            match listening.turn.hold.listen(&mut listening.slot, cx.waker()) {
                Some(why) => Poll::Ready(why),
                None => Poll::Pending,
            }
        })
        .await;
        Lost::new(self.key().clone(), why)
    }

    /// Runs `work` while the lock is held, and drops it the moment the lock is lost.
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

    /// Gives the lock back, and says whether it was ours until now.
    ///
    /// # Errors
    /// `Lost` if it was no longer ours; `Uncertain` if nobody answered before the lease ended.
    ///
    /// # Cancel safety
    /// Dropping the future releases all the same, in the background.
    ///
    /// # On drop
    /// As above.
    ///
    /// # When the answer is lost
    /// The release is repeated under the same claim id until it is answered or the lease is over.
    pub async fn release(self) -> Result<()> {
        self.turn.release(Leave::Nothing).await
    }

    /// Gives the lock back, but only after `pause` more: until then nobody is granted, whatever happens to this
    /// process. For jobs that must not run again at once, and for rate limits. At most 400 days.
    ///
    /// # Errors
    /// As [`release`](Guard::release); `Config` where `pause` is too long: the guard is dropped then, and the lock given
    /// back at once.
    ///
    /// # Cancel safety
    /// Dropping the future goes on in the background, with the same pause.
    ///
    /// # On drop
    /// As above.
    ///
    /// # When the answer is lost
    /// As [`release`](Guard::release).
    pub async fn release_after(self, pause: Duration) -> Result<()> {
        if pause > KEEP_MAX {
            return Err(Error::config(format!("a pause of {pause:?} is too long"), "use at most 400 days"));
        }
        self.turn.release(Leave::For(pause)).await
    }

    /// Changes who is shown as the holder, for instance when another process does the work. Sent to the store with a
    /// renewal, at once.
    ///
    /// # Errors
    /// `Config` where a text is longer than 128 bytes, in a forked process and after `Locks::close`.
    pub fn describe(&self, owner: Owner) -> Result<()> {
        check_owner(&owner)?;
        self.turn.engine.usable()?;
        self.turn.describe(Arc::new(owner));
        Ok(())
    }

    /// Changes the reason that is shown, at most 256 bytes, and waits until the store has it: how far the work is, for
    /// whoever looks.
    ///
    /// # Errors
    /// `Config` for a reason that is too long, in a forked process and after `Locks::close`; `Lost` if the lock is no
    /// longer ours.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not change it; the lock stays held.
    ///
    /// # On drop
    /// As above.
    ///
    /// # When the answer is lost
    /// It is asked again until it is answered or the lease is over.
    pub async fn set_reason(&self, reason: &str) -> Result<()> {
        check_reason(reason)?;
        self.turn.restate(reason.into()).await
    }

    /// [`set_reason`](Guard::set_reason) for code without async.
    ///
    /// # Errors
    /// As [`set_reason`](Guard::set_reason).
    pub fn blocking_set_reason(&self, reason: &str) -> Result<()> {
        pollster::block_on(self.set_reason(reason))
    }

    /// [`release`](Guard::release) for code without async.
    ///
    /// # Errors
    /// As [`release`](Guard::release).
    pub fn blocking_release(self) -> Result<()> {
        pollster::block_on(self.release())
    }

    /// [`release_after`](Guard::release_after) for code without async.
    ///
    /// # Errors
    /// As [`release_after`](Guard::release_after).
    pub fn blocking_release_after(self, pause: Duration) -> Result<()> {
        pollster::block_on(self.release_after(pause))
    }

    /// [`lost`](Guard::lost) for code without async: blocks until the lock is lost, or for `wait`.
    #[must_use]
    pub fn blocking_lost_for(&self, wait: Duration) -> Option<Lost> {
        let runtime = &*self.turn.engine.core.runtime;
        let until: Moment = runtime.now() + wait;
        pollster::block_on(race(runtime, until, self.lost()))
    }
}

/// Takes its waker back when it is dropped.
struct Listening<'a> {
    turn: &'a Turn,
    slot: Option<u64>,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        // In a forked child its mutex may be locked for ever.
        if !self.turn.engine.forked() {
            self.turn.hold.unlisten(self.slot);
        }
    }
}
