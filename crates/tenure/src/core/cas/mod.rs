//! A lock as one object that is changed by compare-and-set: NATS key-value buckets, S3-like buckets, Kubernetes leases.
//!
//! The store keeps one [`Object`] per lock and a version of it (a sequence number, an ETag, a `resourceVersion`). Every
//! change is a write on the condition that the version is still the one that was read. There is no line: a claim holds or
//! asks again. [`Call`] says what to do next for one verb; the driver of the store reads and writes.
//!
//! # The rules
//!
//! - **No two bodies of a lock are equal.** Every write raises `count`, and carries the `stamp` of its call. Where the
//!   version is a hash of the body, an equal body would have an old version again, and a late write would match it. And two
//!   calls may want the same of the same version: a renewal, and a withdrawal that only writes the hold once more. Without a
//!   stamp, one would take the other's write for its own.
//! - **The object is never deleted.** It keeps the last token and the count. A lock that is free is an object that says so.
//! - **Withdrawal is final by version.** A late write names the version that it expects. If the object still has that
//!   version, the withdrawal writes it once more with a new count: no late write can match any more. If the object has
//!   another version, there is nothing to do.
//! - **A write whose outcome is unknown is settled by reading**, never by writing again blindly. If the object is what the
//!   call wrote, the call succeeded.
//! - **Belief starts with a write of the same call.** Observers count a lease from the version that they see. A holder that
//!   finds its claim in the object by reading therefore writes it once more before it believes in a full lease.
//! - **Renewal never creates.** A renewal that finds another claim, or its own with an ended lease, answers `Gone`.
//!
//! # When has a hold ended?
//!
//! No two clients compare clocks. A hold has ended if one of these is true:
//!
//! - The observer has seen the same version for a whole ttl on its own boot clock. It counts from the *arrival* of the
//!   first answer with that version ([`Sightings`]). The holder counts from before it sent the write, so it stops first.
//! - The store's own clock says that the object has not changed for a ttl and [`STORE_MARGIN`]. Both readings are the
//!   store's. A new process needs this: it has seen nothing, and a job that only tries once would never take over from a
//!   dead holder. A driver without such readings passes `None`.
//!
//! # What the store must give
//!
//! Reads must be linearizable. A stale read (a replica, a cache, NATS `DIRECT.GET`, Kubernetes `resourceVersion=0`) is
//! harmless for a write, which then fails. It is not harmless for a withdrawal: it would show a version older than the one
//! that a late write expects, and the withdrawal would leave that version in place. A driver may keep what it saw last to
//! save a request. It says so by [`Seen::fresh`], and then the call uses it to write, and never to answer.

use std::sync::Arc;
use std::time::Duration;

use crate::core::moment::Moment;
use crate::core::previous::Previous;
use crate::token::Token;

mod call;
mod sightings;
#[cfg(test)]
mod tests;

pub use call::Call;
pub use sightings::Sightings;

/// How much longer than its ttl an object must have been unchanged by the store's clock before its hold has ended. The
/// readings have a grain of a second and may come from two of its servers.
pub const STORE_MARGIN: Duration = Duration::from_secs(5);

/// The version of an object, as the store names it. Compared, never interpreted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Arc<str>);

impl Version {
    /// A version from the store's text.
    #[must_use]
    pub fn new(text: &str) -> Version {
        Version(text.into())
    }

    /// The store's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a lock is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nobody holds it.
    Free,
    /// A claim holds it and renews it.
    Held,
    /// It was released, and stays taken for its `ttl`, unrenewed.
    Kept,
}

/// The last eviction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broken {
    /// Whose hold it was; `None` if it was another program's.
    pub claim: Option<u128>,
    /// The token that was taken away.
    pub token: Option<Token>,
    /// When, in µs since the epoch, on the evicting client's wall clock.
    pub at_us: u64,
    /// By whom and why.
    pub why: Arc<str>,
}

/// A lock, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    /// Grows with every write. A new object starts with the wall clock's µs, so that one that was lost and made again
    /// repeats no body either.
    pub count: u64,
    /// The random number of the call that wrote it.
    pub stamp: u64,
    /// The first token of the newest hold; of a free lock, the last token that was used. `None` before the first grant.
    pub token: Option<Token>,
    /// How many tokens, from `token` on, belong to the hold. At least 1.
    pub tokens: u32,
    /// Whether it is held.
    pub state: State,
    /// The claim of the newest hold: its id, or a digest of it. `None` before the first grant and for another program.
    pub claim: Option<u128>,
    /// Who holds it and why, in the driver's encoding.
    pub note: Arc<str>,
    /// The lease of the hold, counted from each write.
    pub ttl: Duration,
    /// Of a free lock: how its last hold ended. Otherwise: how the hold before this one ended.
    pub previous: Previous,
    /// The last eviction, until the next clean release.
    pub broken: Option<Broken>,
}

impl Object {
    /// A lock that nobody has held.
    fn new(now: Now) -> Object {
        Object {
            count: now.wall_us.max(1),
            stamp: 0,
            token: None,
            tokens: 1,
            state: State::Free,
            claim: None,
            note: "".into(),
            ttl: Duration::ZERO,
            previous: Previous::Unknown,
            broken: None,
        }
    }

    /// The last token that belongs to the hold.
    #[must_use]
    pub fn last_token(&self) -> Option<Token> {
        self.token.and_then(|token| token.later(self.tokens.saturating_sub(1)))
    }

    /// Whether `token` is one of the hold's.
    fn has(&self, token: Token) -> bool {
        self.token.is_some_and(|first| first <= token) && self.last_token().is_none_or(|last| token <= last)
    }
}

/// What the driver read, and since when it has looked like that.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The object and its version; `None` if the store has none.
    pub current: Option<(Version, Object)>,
    /// When this version was seen first, by [`Sightings`].
    pub first_seen: Moment,
    /// For how long the object has been unchanged, if the store's own clock tells that.
    pub store_age: Option<Duration>,
    /// Whether this call read it from the store. `false`: the driver remembers it from before.
    pub fresh: bool,
}

impl Seen {
    /// The version that a write must expect.
    fn version(&self) -> Option<&Version> {
        self.current.as_ref().map(|(version, _)| version)
    }

    fn object(&self) -> Option<&Object> {
        self.current.as_ref().map(|(_, object)| object)
    }

    /// How long the hold lasts from `now` on, as far as this observer can tell; zero if it has ended.
    fn left(&self, object: &Object, now: Now) -> Duration {
        let own = object.ttl.saturating_sub(now.boot.since(self.first_seen));
        let by_store = self.store_age.map(|age| (object.ttl + STORE_MARGIN).saturating_sub(age));
        by_store.map_or(own, |left| left.min(own))
    }

    /// The object, if it is held or kept, and that has not ended.
    fn taken(&self, now: Now) -> Option<&Object> {
        self.object().filter(|object| object.state != State::Free && !self.left(object, now).is_zero())
    }

    /// How the newest hold ended, for whoever is granted next.
    fn how_ended(&self) -> Previous {
        match self.object() {
            Some(Object { state: State::Free, previous, .. }) => *previous,
            Some(Object { state: State::Held, claim: Some(_), .. }) => Previous::Expired,
            Some(Object { state: State::Kept, .. }) => Previous::Released,
            _ => Previous::Unknown,
        }
    }
}

/// The observer's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The boot clock: leases are judged by it.
    pub boot: Moment,
    /// The wall clock in µs: tokens and counts start from it. It may be wrong; tokens still never go back.
    pub wall_us: u64,
}

/// A claim, as it asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    /// Its id, or a digest of it.
    pub claim: u128,
    /// Its lease.
    pub ttl: Duration,
    /// How many tokens to reserve for it. At least 1.
    pub tokens: u32,
    /// Who asks and why, in the driver's encoding.
    pub note: Arc<str>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Hold the lock if it is free.
    Attempt(Ask),
    /// Keep the hold.
    Renew(Ask),
    /// End the hold, or withdraw the claim.
    Release {
        /// Whose.
        claim: u128,
        /// How many of its tokens were used. At least 1.
        used: u32,
        /// Leave the lock taken, unrenewed, for this long.
        keep: Option<Duration>,
    },
    /// Continue the hold of one claim under another.
    Transfer {
        /// Whose hold.
        from: u128,
        /// How many of its tokens were used. At least 1.
        used: u32,
        /// Who continues it.
        to: Ask,
    },
    /// Take the lock away.
    Evict {
        /// Only from the hold with this token.
        token: Option<Token>,
        /// By whom and why.
        why: Arc<str>,
    },
}

/// A write of a claim that was sent and not answered: it may still take effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Unanswered {
    /// There is none.
    #[default]
    Nothing,
    /// One that expects this version; `None`: that there is no object.
    Expecting(Option<Version>),
    /// Nobody remembers: assume one that expects whatever the object is now.
    Unknown,
}

impl Unanswered {
    /// What remains of it when the object turns out to have this version: a version that is over never comes back.
    fn after_reading(self, version: Option<&Version>) -> Unanswered {
        match self {
            Unanswered::Expecting(expected) if expected.as_ref() != version => Unanswered::Nothing,
            other => other,
        }
    }

    /// Either of two.
    fn or(self, other: Unanswered) -> Unanswered {
        match (self, other) {
            (Unanswered::Nothing, one) | (one, Unanswered::Nothing) => one,
            (one, other) if one == other => one,
            _ => Unanswered::Unknown,
        }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The call is over.
    Answer(Answer),
    /// Write this, then call [`Call::after_write`].
    Write {
        /// Only if the object still has this version; `None`: only if there is none.
        expected: Option<Version>,
        /// What to write.
        object: Object,
    },
    /// Read the object, then call [`Call::decide`].
    Read,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It took effect.
    Done,
    /// The object has another version: nothing was written.
    Stale,
    /// No answer, or one that does not say (S3's 409): it may have taken effect, or may yet.
    Unknown,
}

/// How a call ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The claim holds, for a full lease from when the call was made.
    Held {
        /// Its first token.
        token: Option<Token>,
        /// How the hold before it ended.
        previous: Previous,
    },
    /// Somebody else has the lock.
    Taken {
        /// When their lease ends at the earliest.
        look_again: Duration,
    },
    /// The claim holds nothing.
    Gone {
        /// The reason of the eviction that ended its hold.
        why: Option<Arc<str>>,
    },
    /// The hold ended by this call.
    Ended,
    /// There was no such hold.
    NotHeld,
    /// A write of this call went unanswered, and the object has changed since: the hold is over, and whether this call
    /// ended it cannot be known.
    Unsure,
    /// There is no greater token: the object was tampered with, or a clock was absurd.
    Exhausted,
}
