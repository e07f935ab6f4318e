//! The contract that a backend fulfils, and the table of backends.
//!
//! A backend knows one store and no primitive's name. It drives nothing by itself: the engine decides when to ask,
//! when to renew and until when to believe. Every verb is idempotent on the claim id. There are no default methods,
//! so a wrapper (fault injection, recording) that forgets a verb does not compile.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::capability::Capabilities;
use crate::core::moment::Moment;
use crate::domain::Domain;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::runtime::Runtime;
use crate::token::Token;
use crate::url::StoreUrl;

pub use crate::core::line::{Kind, RW_CAPACITY};
pub use crate::runtime::BoxFuture;

#[cfg(feature = "host")]
pub mod host;
#[cfg(any(feature = "host", feature = "memory"))]
mod local;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(any(feature = "host", feature = "memory"))]
mod note;
#[cfg(any(test, feature = "unstable"))]
mod pass_on;
#[cfg(feature = "redis")]
pub mod redis;

/// The random 128-bit id of a claim, made before the first request. It authorises release, so it is never shown:
/// listings show [`short`](ClaimId::short).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub u128);

impl ClaimId {
    /// A hash of the id, safe to show: 64 bits of it, as hexadecimal digits.
    #[must_use]
    pub fn long(self) -> String {
        format!("{:016x}", self.digest())
    }

    /// The first six hexadecimal digits of [`long`](ClaimId::long), as listings show them.
    #[must_use]
    pub fn short(self) -> String {
        format!("{:06x}", self.digest() >> 40)
    }

    /// Half of the 128 bits never leave this function, so the id cannot be computed back from its digest.
    fn digest(self) -> u64 {
        fn mix(mut z: u64) -> u64 {
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }
        #[allow(clippy::cast_possible_truncation)] // the two halves
        let (high, low) = ((self.0 >> 64) as u64, self.0 as u64);
        mix(high.wrapping_add(mix(low)))
    }
}

impl fmt::Debug for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClaimId({}..)", self.short())
    }
}

/// Who asks: shown to people, never judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The user's name.
    pub user: String,
    /// The host's name.
    pub host: String,
    /// The process that people look for.
    pub pid: u32,
    /// Its program.
    pub program: String,
}

/// What a hold is anchored to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Anchor {
    /// This process: where the backend sees it end, the hold ends with it.
    Process,
    /// Time only.
    Time,
}

/// How one claim serves several tasks of its client, which pass its hold on among themselves. Each of them needs a fencing
/// token of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cohort {
    /// How many tokens are to be the claim's own, from that of its grant on. At least 1.
    pub tokens: u32,
    /// How many of them were used, as a release and the first claim of a transfer say it: the last one used is the
    /// lock's newest token then, and the others go back. At least 1.
    pub used: u32,
    /// How many tasks wait for the hold to be passed on to them: shown to people, never judged. A renewal that carries
    /// another number than the store knows replaces it.
    pub behind: u32,
}

impl Cohort {
    /// One task.
    pub const ALONE: Cohort = Cohort { tokens: 1, used: 1, behind: 0 };
}

/// One attempt to hold a lock.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its id.
    pub id: ClaimId,
    /// The lock.
    pub key: Key,
    /// The kind of line that the lock is.
    pub kind: Kind,
    /// How much of the capacity it takes.
    pub weight: u32,
    /// The capacity that it assumes.
    pub capacity: u32,
    /// For how many tasks of its client it stands: [`Cohort::ALONE`] where the store's
    /// [`turns`](Capabilities::turns) are `each`, and where the kind is not a mutex.
    pub cohort: Cohort,
    /// Whether it stands in line when it cannot be granted at once.
    pub stand: bool,
    /// Its lease once granted. Every request of a claim carries the same.
    pub ttl: Duration,
    /// Its lease while it waits.
    pub waiting: Duration,
    /// When it was made, on this machine's boot clock. A store refuses an attempt older than
    /// [`MARK_LIFE`](crate::core::lease::MARK_LIFE) that is not in its line: a mark may have been there.
    pub birth: Moment,
    /// What it is anchored to.
    pub anchor: Anchor,
    /// Who asks. A renewal that carries another owner or reason than the store knows replaces it.
    pub owner: Arc<Owner>,
    /// Why, in the user's words; empty for none.
    pub reason: Arc<str>,
}

/// For how long a hold lasts without being renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// For this long from the instant that the store judged.
    For(Duration),
    /// Until the process or the session ends.
    Unbounded,
}

impl Lease {
    /// The shorter of this lease and the one that was asked for. Applied to every answer: an end that a store computed
    /// with a clock that has stepped since may lie anywhere.
    #[must_use]
    pub fn at_most(self, asked: Duration) -> Lease {
        match self {
            Lease::For(d) => Lease::For(d.min(asked)),
            Lease::Unbounded => Lease::Unbounded,
        }
    }
}

/// What a claim that holds was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The fencing token, the first of those that the claim asked for; `None` where the kind has none.
    pub token: Option<Token>,
    /// How long it lasts: at most as long as the claim asked for. The engine believes in no more than that.
    pub lease: Lease,
}

/// Where a claim stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds.
    Held(Grant),
    /// It waits.
    Waiting {
        /// How long the store keeps its place without a renewal.
        lease: Lease,
        /// How many wait before it, where the store knows.
        ahead: Option<u32>,
        /// The earliest end of a lease ahead: the first two in line look again then.
        look_again: Duration,
    },
    /// It was not granted, and does not stand in line.
    Busy,
    /// The store does not know it (any more), or has withdrawn or evicted it.
    Gone {
        /// The reason given with an eviction.
        why: Option<String>,
    },
}

/// A store's answer: where the claim stands, and when the store said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Where the claim stands.
    pub standing: Standing,
    /// The store's own clock at that instant, in ns; `None` where the store tells no time.
    pub at: Option<u64>,
}

/// What a release leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Nothing: no request of this id is on its way any more.
    Nothing,
    /// A mark, since one may be: no late request of this id is ever granted.
    Mark,
    /// The hold itself, unrenewed, for this long.
    For(Duration),
}

/// What a release found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// It held, and no longer does.
    WasHeld,
    /// It waited, and no longer does.
    WasWaiting,
    /// The store did not know it.
    Gone,
}

/// Which locks to look at.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// The namespace; empty, and without a `name`, for all.
    pub namespace: String,
    /// Only this lock.
    pub name: Option<String>,
    /// Only names below this prefix, by whole levels; empty for all.
    pub prefix: String,
    /// Where the last page ended; `None` for the first.
    pub after: Option<String>,
    /// How many waiting claims to return of each line; the line's `waiters` counts all.
    pub waiting_max: usize,
}

/// One page of lines.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Locks that are held or waited for.
    pub lines: Vec<Line>,
    /// Pass as [`Query::after`] to go on; `None`: that was all.
    pub next: Option<String>,
}

/// One lock as `inspect` sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line {
    /// The lock.
    pub key: Key,
    /// Its kind.
    pub kind: Kind,
    /// Its capacity, as the first claim in line assumes it.
    pub capacity: u32,
    /// The token of the newest grant.
    pub token: Option<Token>,
    /// Who holds, oldest grant first.
    pub holders: Vec<Seen>,
    /// Who waits, first in line first; at most 1,000.
    pub waiting: Vec<Seen>,
    /// How many wait in all.
    pub waiters: u64,
    /// The last time that an operator took the lock away, while the line lives.
    pub broken: Option<Broken>,
}

impl Line {
    /// A line that nobody stands in yet.
    #[must_use]
    pub fn new(key: Key, kind: Kind, capacity: u32) -> Line {
        Line {
            key,
            kind,
            capacity,
            token: None,
            holders: Vec::new(),
            waiting: Vec::new(),
            waiters: 0,
            broken: None,
        }
    }
}

/// One claim as `inspect` sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The hash of its id, as listings show it.
    pub claim: String,
    /// Who.
    pub owner: Owner,
    /// Why.
    pub reason: String,
    /// Since when it holds (or waits), in µs since the epoch, on the store's clock.
    pub since_us: u64,
    /// How long its lease lasts yet; `None`: unbounded.
    pub expires_in: Option<Duration>,
    /// Its weight.
    pub weight: u32,
    /// Its token.
    pub token: Option<Token>,
    /// How many local waiters stand behind this claim in its own process.
    pub behind: u32,
}

/// An eviction that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// When, in µs since the epoch.
    pub at_us: u64,
    /// The token that was taken away.
    pub token: Option<Token>,
    /// By whom and why.
    pub why: String,
}

/// What a store tells unasked.
#[derive(Clone, Debug)]
pub enum News {
    /// Something changed for this waiting claim: ask again.
    Look(ClaimId),
    /// This waiting claim was granted; `at` is the store's time of the grant.
    Granted(ClaimId, Grant, Option<u64>),
    /// This claim was taken away, for this reason.
    Gone(ClaimId, Option<String>),
    /// Some line changed. Sent only while [`Backend::watch`] is on; many changes may be one piece of news.
    Changed,
    /// Pushes may have been lost: everybody look again.
    LinkDown,
}

/// Where pushes arrive: given to a backend when it is opened. Never blocks for long.
pub trait Sink: Send + Sync + 'static {
    /// Takes a piece of news.
    fn news(&self, news: News);
}

/// A store that keeps lines of claims.
///
/// What all verbs share. *Idempotent* on the claim id. *Cancel safe*: a dropped future may or may not have taken
/// effect, and the engine withdraws the claim by its id afterwards. An error of kind `Uncertain` or `Unavailable` means
/// the same unless it says that nothing was sent. A verb first removes the claims whose lease ended and grants what
/// became free, in the line it is about.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// What this store promises, probed when it was opened; never above the table.
    fn capabilities(&self) -> Capabilities;

    /// Which order this store's tokens belong to; lasts as long as they go on growing. Asked only when somebody wants to
    /// know.
    fn domain(&self) -> BoxFuture<'_, Result<Domain>>;

    /// Stands in line, or looks again. Grants at once if there is room and nobody waits.
    fn attempt<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Answer>>;

    /// Renews the leases of claims that hold or wait, and says where each stands. Never creates a claim: one that the
    /// store does not know is `Gone`. Answers in the order of `claims`.
    fn renew<'a>(&'a self, claims: &'a [Claim]) -> BoxFuture<'a, Vec<Result<Answer>>>;

    /// Ends a hold, or withdraws a waiting claim.
    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave) -> BoxFuture<'a, Result<Released>>;

    /// Continues the hold of `from` under the claim `to`, in one step: the same lock, kind, token and since-time; the
    /// id, owner, reason, lease and anchor of `to`, and its weight, which is at most what is held. Of several tokens it
    /// goes on with the last one that was used. Afterwards `from` is unknown, so whoever still has that id can do nothing
    /// with it; what became free is granted. The lease restarts with `to.ttl`, which may be less than was left.
    ///
    /// A writer that becomes a reader gets the readers' token: greater than its own, and shared by the readers that
    /// join it before the next writer.
    ///
    /// Where `to` already stands it is answered where, so a lost answer costs nothing. Never creates a hold: `Gone` where
    /// `from` does not hold, where `to` was withdrawn with a mark, and where `to` is older than a mark lives. `Config`
    /// where `to` weighs more than `from` holds or is of another kind.
    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim) -> BoxFuture<'a, Result<Answer>>;

    /// Takes the lock away: from whoever holds it with `token` (any of those that were given with its grant), or from all
    /// that hold it. The next token is greater.
    fn evict<'a>(
        &'a self,
        key: &'a Key,
        token: Option<Token>,
        why: &'a str,
    ) -> BoxFuture<'a, Result<Released>>;

    /// Looks at lines, a page at a time. Changes nothing.
    fn inspect<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page>>;

    /// Turns [`News::Changed`] on or off for this client.
    fn watch(&self, on: bool);

    /// Ends the connection. Claims that live on are not released.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What a transfer to a greater weight is refused with.
#[cfg(any(feature = "memory", feature = "host", feature = "redis"))]
pub(crate) fn larger() -> Error {
    Error::config(
        "a hold goes on with the weight that it has, or with less",
        "release it and acquire more: two holders that both wait for more would wait for each other for ever",
    )
}

/// Refuses a claim that asks for several tokens, where none can be set aside for it.
#[cfg(any(feature = "memory", feature = "host", feature = "redis"))]
pub(crate) fn one_token(claim: &Claim) -> Result<()> {
    if claim.cohort.tokens == 1 {
        return Ok(());
    }
    let what = format!("a claim cannot have {} tokens here", claim.cohort.tokens);
    Err(Error::config(what, "ask for one token, or for a mutex of a store whose locks count each for itself"))
}

/// Everything that a backend is opened with.
pub struct Opening {
    /// Where the store is.
    pub url: StoreUrl,
    /// Where pushes go.
    pub sink: Arc<dyn Sink>,
    /// Clock, randomness and a place to run.
    pub runtime: Arc<dyn Runtime>,
    /// Who we are, unless a claim says otherwise.
    pub owner: Arc<Owner>,
}

/// What opening a store gives.
pub type Opened = Result<Arc<dyn Backend>>;

/// One row of the table of backends.
pub struct Entry {
    /// URL schemes, the first one the usual.
    pub schemes: &'static [&'static str],
    /// The cargo feature that compiles it in.
    pub feature: &'static str,
    /// The most that it can promise.
    pub capabilities: Capabilities,
    /// Opens a store.
    pub open: fn(Opening) -> BoxFuture<'static, Opened>,
}

/// Every backend that exists, and how to open those that are compiled in. The only list: the conformance suite, the
/// documentation and the command take theirs from here.
pub fn table() -> impl Iterator<Item = &'static Entry> {
    TABLE.iter()
}

static TABLE: &[Entry] = &[
    #[cfg(feature = "memory")]
    memory::ENTRY,
    #[cfg(feature = "host")]
    host::ENTRY,
    #[cfg(feature = "redis")]
    redis::ENTRY,
    #[cfg(feature = "redis")]
    redis::plain::ENTRY,
];

/// Schemes by the feature that compiles them in, compiled in or not: for a helpful error.
pub(crate) const KNOWN: &[(&str, &str)] = &[
    ("memory", "memory"),
    ("host", "host"),
    ("redis", "redis"),
    ("rediss", "redis"),
    ("redis+setnx", "redis"),
    ("rediss+setnx", "redis"),
];

/// The entry for a URL's scheme.
///
/// # Errors
/// `Config`: names the feature where the scheme is known but not compiled in; otherwise lists the schemes of this
/// build and guesses what was meant.
pub fn find(scheme: &str) -> Result<&'static Entry> {
    if let Some(entry) = table().find(|e| e.schemes.contains(&scheme)) {
        return Ok(entry);
    }
    if let Some((_, feature)) = KNOWN.iter().find(|(s, _)| *s == scheme) {
        return Err(Error::config(
            format!("this build has no {scheme}: backend"),
            format!("compile it with the cargo feature {feature:?}"),
        ));
    }
    let schemes: Vec<&str> = table().flat_map(|e| e.schemes.iter().copied()).collect();
    let schemes = schemes.join(", ");
    let what = format!("there is no backend for the scheme {scheme:?}");
    if let Some(instead) = crate::url::elsewhere(scheme) {
        return Err(Error::config(what, format!("{instead}; this build has: {schemes}")));
    }
    let known: Vec<&str> = KNOWN.iter().map(|(s, _)| *s).collect();
    let advice = match crate::url::closest(scheme, &known) {
        Some(meant) => format!("did you mean {meant}:? This build has: {schemes}"),
        None => format!("this build has: {schemes}"),
    };
    Err(Error::config(what, advice))
}
