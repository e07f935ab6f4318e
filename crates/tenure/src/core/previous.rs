//! How the hold before a grant ended.

use std::fmt;

/// How the hold before a grant ended. The next holder must know: after anything but a release, work may be half done.
///
/// Of a read-write lock only the holds of writers count. Of a semaphore it is the hold that ended last. A store keeps this
/// for a while after a lock became free (`redis:` for ten minutes, `memory:` and `host:` until other locks need the room);
/// after that it is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Previous {
    /// Its holder released it, or it was passed on within one client.
    Released,
    /// Its lease ended, or its process did: the holder may have stopped halfway.
    Expired,
    /// An operator took it away.
    Evicted,
    /// The store does not know: nobody held the lock, or its record is gone.
    #[default]
    Unknown,
}

impl Previous {
    /// One word, as `TENURE_PREVIOUS`, JSON and histories have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Previous::Released => "released",
            Previous::Expired => "expired",
            Previous::Evicted => "evicted",
            Previous::Unknown => "unknown",
        }
    }

    /// The one that [`as_str`](Previous::as_str) calls this.
    #[must_use]
    pub fn find(word: &str) -> Option<Previous> {
        [Previous::Released, Previous::Expired, Previous::Evicted, Previous::Unknown]
            .into_iter()
            .find(|previous| previous.as_str() == word)
    }
}

impl fmt::Display for Previous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
