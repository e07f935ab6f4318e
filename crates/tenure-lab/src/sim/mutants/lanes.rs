//! What the supervision of connections does wrong.

use super::Mutant;

/// A connection is made again, and whoever waits is not told to look.
pub(super) struct Hides;

impl Mutant for Hides {
    fn hides_returns(&self) -> bool {
        true
    }
}

/// Pushes are asked for once, over the first connection.
pub(super) struct SubscribesOnce;

impl Mutant for SubscribesOnce {
    fn subscribes_once(&self) -> bool {
        true
    }
}

/// A connection that lasted does not end the count of failures.
pub(super) struct NeverHopes;

impl Mutant for NeverHopes {
    fn never_hopes(&self) -> bool {
        true
    }
}

/// No answer is missed, however long it takes.
pub(super) struct WaitsForEver;

impl Mutant for WaitsForEver {
    fn waits_for_ever(&self) -> bool {
        true
    }
}

/// What was sent over a connection that broke is said not to have left.
pub(super) struct Denies;

impl Mutant for Denies {
    fn denies_sending(&self) -> bool {
        true
    }
}
