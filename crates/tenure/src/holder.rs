//! What everybody has who holds something, whatever it is: one definition for [`Guard`](crate::Guard),
//! [`ReadGuard`](crate::ReadGuard) and [`Permit`](crate::Permit), each with its own documentation.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use crate::core::calendar;
use crate::engine::Turn;
use crate::error::{Error, Lost};

/// The methods of a guard with a field `turn`.
macro_rules! holder {
    ($guard:ident) => {
        impl $guard {
            /// The lock's name.
            #[must_use]
            pub fn key(&self) -> &crate::Key {
                &self.turn.hold.claim.key
            }

            /// The hash of the claim behind this hold: what listings show as [`Seen::claim`](crate::Seen::claim). It tells
            /// this hold from others of the same lock, and authorises nothing.
            #[must_use]
            pub fn claim(&self) -> String {
                self.turn.hold.claim.id.short()
            }

            /// How the hold before this one ended. After anything but [`Previous::Released`](crate::Previous::Released), the
            /// holder before may have stopped halfway: check what it left behind. Of a read-write lock only the holds of
            /// writers count; of a semaphore, the hold that ended last.
            #[must_use]
            pub fn previous(&self) -> crate::Previous {
                self.turn.grant().map(|grant| grant.previous).unwrap_or_default()
            }

            /// Checks that the hold is still ours, and returns how long it is at least without another renewal. This is arithmetic on
            /// the boot clock: no I/O, no waiting. After the deadline the answer is `Lost`, for good.
            ///
            /// The answer can be out of date as soon as it is given. Only the resource can close that gap, by the token.
            ///
            /// # Errors
            /// [`Lost`](crate::Lost), saying why.
            pub fn check(&self) -> crate::Result<std::time::Duration, crate::Lost> {
                let deadline = self.turn.check()?;
                let left = deadline.since(self.turn.engine.core.runtime.now());
                if left.is_zero() {
                    // The deadline passed between two looks at the clock.
                    self.turn.check()?;
                }
                Ok(left)
            }

            /// How long the hold is ours without another renewal; zero once it is lost.
            #[must_use]
            pub fn remaining(&self) -> std::time::Duration {
                self.check().unwrap_or(std::time::Duration::ZERO)
            }

            /// Resolves when the hold is lost, no later than at its deadline.
            ///
            /// # Cancel safety
            /// Dropping the future changes nothing; it can be called again.
            ///
            /// # On drop
            /// Nothing happens.
            ///
            /// # When the answer is lost
            /// It asks nothing: the deadline passes by our own clock.
            pub async fn lost(&self) -> crate::Lost {
                crate::holder::lost(&self.turn).await
            }

            /// Runs `work` while the hold lasts, and drops it as soon as the hold is lost.
            ///
            /// # Errors
            /// [`Lost`](crate::Lost), if that came first; what `work` had done by then is done.
            ///
            /// # Cancel safety
            /// As `work`'s own; the guard stays.
            ///
            /// # On drop
            /// Drops `work`.
            ///
            /// # When the answer is lost
            /// It asks nothing.
            pub async fn while_held<T>(
                &self,
                work: impl Future<Output = T>,
            ) -> crate::Result<T, crate::Lost> {
                crate::runtime::unless(self.lost(), work).await
            }

            /// Releases it, and says whether it was ours until now.
            ///
            /// If another task of this client waits for the same mutex behind the same claim, the hold is passed on to that task.
            /// The store is not asked then; the deadline decides whether it was ours.
            ///
            /// # Errors
            /// `Lost` if it was no longer ours. `Uncertain` if the store did not answer before the lease expired.
            ///
            /// # Cancel safety
            /// Dropping the future releases all the same, in the background.
            ///
            /// # On drop
            /// The same.
            ///
            /// # When the answer is lost
            /// The release is repeated under the same claim id until it is answered or the lease expires.
            pub async fn release(self) -> crate::Result<()> {
                self.turn.release(crate::backend::Leave::Nothing).await
            }

            /// Releases it, but only after `pause`. Until then nobody is granted what it holds, whatever happens to this process. Use
            /// it for jobs that must not run again immediately, and for rate limits. At most 400 days.
            ///
            /// # Errors
            /// Those of [`release`](Self::release). `Config` if `pause` is too long; the hold is then released immediately.
            ///
            /// # Cancel safety
            /// Dropping the future continues in the background, with the same pause.
            ///
            /// # On drop
            /// The same.
            ///
            /// # When the answer is lost
            /// The request is repeated until it is answered or the lease expires.
            pub async fn release_after(self, pause: std::time::Duration) -> crate::Result<()> {
                if pause > crate::core::lease::KEEP_MAX {
                    return Err(crate::holder::too_long(pause));
                }
                self.turn.release(crate::backend::Leave::For(pause)).await
            }

            /// Changes who is shown as the holder, for example when another process does the work. The store gets it with a renewal that
            /// is sent immediately.
            ///
            /// # Errors
            /// `Config` if a text is longer than 128 bytes, in a forked process and after `Locks::close`.
            pub fn describe(&self, owner: crate::Owner) -> crate::Result<()> {
                crate::options::check_owner(&owner)?;
                self.turn.engine.usable()?;
                self.turn.describe(std::sync::Arc::new(owner));
                Ok(())
            }

            /// Changes the reason that listings show, at most 256 bytes, and waits until the store has it. Use it, for example, to show
            /// progress.
            ///
            /// # Errors
            /// `Config` for a reason that is too long, in a forked process and after `Locks::close`; `Lost` if the hold is no
            /// longer ours.
            ///
            /// # Cancel safety
            /// Dropping the future may or may not change it; the hold continues.
            ///
            /// # On drop
            /// The same.
            ///
            /// # When the answer is lost
            /// The request is repeated until it is answered or the lease expires.
            pub async fn set_reason(&self, reason: &str) -> crate::Result<()> {
                crate::options::check_reason(reason)?;
                self.turn.restate(reason.into()).await
            }

            /// [`set_reason`](Self::set_reason) for code without async.
            ///
            /// # Errors
            /// As [`set_reason`](Self::set_reason).
            pub fn blocking_set_reason(&self, reason: &str) -> crate::Result<()> {
                pollster::block_on(self.set_reason(reason))
            }

            /// [`release`](Self::release) for code without async.
            ///
            /// # Errors
            /// As [`release`](Self::release).
            pub fn blocking_release(self) -> crate::Result<()> {
                pollster::block_on(self.release())
            }

            /// [`release_after`](Self::release_after) for code without async.
            ///
            /// # Errors
            /// As [`release_after`](Self::release_after).
            pub fn blocking_release_after(self, pause: std::time::Duration) -> crate::Result<()> {
                pollster::block_on(self.release_after(pause))
            }

            /// [`lost`](Self::lost) for code without async: blocks until the hold is lost, or for `wait`.
            #[must_use]
            pub fn blocking_lost_for(&self, wait: std::time::Duration) -> Option<crate::Lost> {
                let runtime = &*self.turn.engine.core.runtime;
                let until = runtime.now() + wait;
                pollster::block_on(crate::runtime::race(runtime, until, self.lost()))
            }
        }
    };
}
pub(crate) use holder;

/// Resolves when a hold is lost.
pub(crate) async fn lost(turn: &Turn) -> Lost {
    let mut listening = Listening { turn, slot: None };
    let why = poll_fn(|cx| {
        if let Err(lost) = turn.check() {
            return Poll::Ready(lost.why().clone());
        }
        match listening.turn.hold.listen(&mut listening.slot, cx.waker()) {
            Some(why) => Poll::Ready(why),
            None => Poll::Pending,
        }
    })
    .await;
    Lost::new(turn.hold.claim.key.clone(), why)
}

/// A pause that nobody may ask for.
pub(crate) fn too_long(pause: Duration) -> Error {
    Error::config(format!("a pause of {} is too long", calendar::span(pause)), "use at most 400 days")
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
