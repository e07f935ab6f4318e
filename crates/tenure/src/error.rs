//! Errors: what happened, and what a caller can do about it.

use std::error::Error as StdError;
use std::fmt;

use crate::key::Key;

/// The result of most calls of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about an [`Error`]. There is one kind for each thing to do, not for each cause. The page
/// [errors](crate::manual::errors) has the HTTP status and the exit code of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The program, the URL or the name is wrong. Fix it; a retry cannot help.
    Config,
    /// The store refuses these credentials or permissions.
    Denied,
    /// The backend cannot promise what was asked.
    Unsupported,
    /// The store cannot be reached, or has no room. Nothing was taken; a later retry may help.
    Unavailable,
    /// The request may or may not have taken effect. Tenure withdraws the claim in the background.
    Uncertain,
    /// The lock was ours and is no longer. See [`Error::lost`].
    Lost,
    /// The store gave an impossible answer: corrupt data, another format version, a bug.
    Protocol,
}

impl ErrorKind {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn may_pass(self) -> bool {
        matches!(self, ErrorKind::Unavailable | ErrorKind::Uncertain)
    }
}

/// An error: one sentence that says what happened, one that says what to do, and its source.
///
/// Match on [`kind`](Error::kind) and print the rest; the texts may change. It never contains a secret.
///
/// ```
/// use tenure::{ErrorKind, Locks};
///
/// # fn main() {
/// let error = Locks::blocking_connect("hots:").expect_err("no such scheme");
/// assert_eq!(error.kind(), ErrorKind::Config);
/// println!("{}. {}.", error.what(), error.advice());
/// let status = match error.kind() {
///     ErrorKind::Unavailable | ErrorKind::Uncertain => 503, // a later retry may help
///     ErrorKind::Lost => 409,                               // stop; do not write
///     _ => 500,
/// };
/// # assert_eq!(status, 500);
/// # }
/// ```
pub struct Error {
    repr: Box<Repr>,
}

struct Repr {
    kind: ErrorKind,
    what: String,
    advice: String,
    key: Option<Key>,
    lost: Option<Lost>,
    fate: Fate,
    /// The client was closed by its own program.
    closed: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What is known of the request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing: it may have been applied, or there was none.
    Unknown,
    /// It never left this process.
    Unsent,
    /// The store itself answered it: asking again at once gets the same answer.
    Answered,
}

macro_rules! makers {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(what: impl Into<String>, advice: impl Into<String>) -> Error {
            Error::new(ErrorKind::$kind, what.into(), advice.into())
        }
    )*};
}

impl Error {
    fn new(kind: ErrorKind, what: String, advice: String) -> Error {
        Error {
            repr: Box::new(Repr {
                kind,
                what,
                advice,
                key: None,
                lost: None,
                fate: Fate::Unknown,
                closed: false,
                source: None,
            }),
        }
    }

    makers! {
        /// The caller's input is wrong. `what` says what happened, `advice` what to do.
        config => Config,
        /// The store refuses.
        denied => Denied,
        /// The backend cannot do this.
        unsupported => Unsupported,
        /// The store cannot be reached or has no room.
        unavailable => Unavailable,
        /// It is not known whether the request took effect.
        uncertain => Uncertain,
        /// The store gave an impossible answer.
        protocol => Protocol,
    }

    /// The same error, of a request that never left this process: surely it changed nothing.
    #[must_use]
    pub fn unsent(mut self) -> Error {
        self.repr.fate = Fate::Unsent;
        self
    }

    /// Whether the request never left this process.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        self.repr.fate == Fate::Unsent
    }

    /// The same error, with the lock that it is about.
    #[must_use]
    pub fn of(mut self, key: &Key) -> Error {
        self.repr.key = Some(key.clone());
        self
    }

    /// The same error in other words.
    #[must_use]
    pub(crate) fn saying(mut self, what: &str, advice: &str) -> Error {
        (self.repr.what, self.repr.advice) = (what.to_owned(), advice.to_owned());
        self
    }

    /// The same error, with what caused it.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.repr.source = Some(source.into());
        self
    }

    /// A copy for another caller; its source becomes text.
    pub(crate) fn again(&self) -> Error {
        let Repr { kind, what, advice, key, lost, fate, closed, source } = &*self.repr;
        let source = source.as_ref().map(|source| source.to_string().into());
        let (what, advice, key, lost) = (what.clone(), advice.clone(), key.clone(), lost.clone());
        let (kind, fate, closed) = (*kind, *fate, *closed);
        Error { repr: Box::new(Repr { kind, what, advice, key, lost, fate, closed, source }) }
    }

    /// The same error, which the store itself answered: asking again at once gets the same answer.
    #[cfg(any(feature = "redis", feature = "unstable"))]
    pub(crate) fn answered(mut self) -> Error {
        self.repr.fate = Fate::Answered;
        self
    }

    /// The same error, which is of the program's own making: it closed the client.
    pub(crate) fn closed(mut self) -> Error {
        self.repr.closed = true;
        self
    }

    /// Whether the program has closed the client.
    pub(crate) fn is_closed(&self) -> bool {
        self.repr.closed
    }

    /// Whether the store itself answered this.
    pub(crate) fn was_answered(&self) -> bool {
        self.repr.fate == Fate::Answered
    }

    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.repr.kind
    }

    /// The lock that it is about, where there is one.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        self.repr.key.as_ref()
    }

    /// How the lock was lost, for [`ErrorKind::Lost`].
    #[must_use]
    pub fn lost(&self) -> Option<&Lost> {
        self.repr.lost.as_ref()
    }

    /// One sentence: what happened.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.repr.what
    }

    /// One sentence: what to do about it.
    #[must_use]
    pub fn advice(&self) -> &str {
        &self.repr.advice
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.repr.key {
            write!(f, "lock {key}: ")?;
        }
        write!(f, "{}", self.repr.what)?;
        if !self.repr.advice.is_empty() {
            write!(f, "; {}", self.repr.advice)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.repr.kind)?;
        if let Some(source) = &self.repr.source {
            write!(f, " (because: {source})")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.repr.source.as_ref().map(|s| &**s as &(dyn StdError + 'static))
    }
}

/// A lock that was held and is no longer ours. This is final: a lost guard stays lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    key: Key,
    why: LostReason,
}

/// Why a lock was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostReason {
    /// No renewal was answered before the deadline.
    Expired,
    /// The store no longer knows the claim: its lease ended there, or the store lost its data.
    Gone,
    /// An operator took it away, and said why.
    Evicted(String),
    /// `Locks::close` was called while it was held.
    Closed,
    /// This process is a fork of the one that holds the lock.
    Forked,
    /// The store was removed while the lock was held, for example the directory of a `host:` store. Whoever opens the store
    /// again finds the lock free.
    StoreRemoved,
}

impl Lost {
    /// A loss of `key`.
    #[must_use]
    pub fn new(key: Key, why: LostReason) -> Lost {
        Lost { key, why }
    }

    /// The lock that was lost.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Why it was lost.
    #[must_use]
    pub fn why(&self) -> &LostReason {
        &self.why
    }
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LostReason::Expired => f.write_str("no renewal was answered before the deadline"),
            LostReason::Gone => f.write_str("the store no longer knows the claim"),
            LostReason::Evicted(why) if why.is_empty() => f.write_str("an operator took it away"),
            LostReason::Evicted(why) => write!(f, "an operator took it away: {why}"),
            LostReason::Closed => f.write_str("the client was closed while it was held"),
            LostReason::Forked => f.write_str("this process is a fork of the holder"),
            LostReason::StoreRemoved => f.write_str("the store was removed while it was held"),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lock {} was lost: {}", self.key, self.why)
    }
}

impl StdError for Lost {}

impl From<Lost> for Error {
    fn from(lost: Lost) -> Error {
        let mut error = Error::new(
            ErrorKind::Lost,
            format!("was lost: {}", lost.why),
            "stop the work that it protects".into(),
        );
        error.repr.key = Some(lost.key.clone());
        error.repr.lost = Some(lost);
        error
    }
}
