//! What a holder has.

use std::fmt;

use crate::engine::{Turn, telling};
use crate::holder::holder;
use crate::token::Token;

/// A held lock. It owns what it needs: `Send + Sync + 'static`, not `Clone`.
///
/// A thread of the library renews the lease in the background until the guard ends. A lease can still be lost: the process is
/// paused for longer than the lease, the store does not answer, or an operator takes the lock away. There are three ways to
/// notice, from the strongest to the weakest:
///
/// 1. Let the resource check the [`token`](Guard::token). Only this stops a late write.
/// 2. Run the work under [`while_held`](Guard::while_held), which stops it as soon as the lock is lost.
/// 3. Call [`check`](Guard::check) before each side effect.
///
/// ```
/// # pollster::block_on(async {
/// let locks = tenure::Locks::memory();
/// let guard = locks.mutex("report")?.lock().await?;
/// let pages = guard.while_held(async { 42 }).await?; // `Err(Lost)` if the lock is lost first
/// let left = guard.check()?; // how long it is ours at least: arithmetic, no I/O
/// assert!(pages == 42 && left > std::time::Duration::ZERO);
/// match guard.release().await {
///     Ok(()) => println!("it was ours until now"),
///     Err(error) if error.lost().is_some() => println!("another holder may have worked at the same time: {error}"),
///     Err(error) => println!("not known; it ends with its lease: {error}"),
/// }
/// # Ok::<(), tenure::Error>(()) }).unwrap();
/// ```
///
/// # On drop
/// The lock is released in the background, also during a panic and without an async runtime. The last handle of a client waits
/// up to 100 ms for that, so a program that drops its guard and returns from `main` leaves no lock behind.
#[must_use = "dropping the guard releases the lock"]
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

    /// The fencing token of this grant, greater than that of every earlier grant. Pass it to the resource that the lock protects.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }
}

holder!(Guard);
