//! What a holder has.

use std::fmt;

use crate::engine::{Turn, telling};
use crate::holder::holder;
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

    /// The fencing token of this grant: greater than that of every earlier grant. Hand it to the resource.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }
}

holder!(Guard);
