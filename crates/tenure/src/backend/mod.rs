//! The contract that a backend fulfils.
//!
//! - [`table`]: every backend that exists.
//! - `changed`: which locks changed, collected until somebody looks.
//! - `refusal`: checks of claims and the wording of refusals.
//! - `local`, `note`: what the stores share that run the line of claims themselves.
//! - [`net`]: what the stores over a network share: two connections that are kept up, and a watchdog.
//!
//! A backend knows one store and no primitive's name. It drives nothing by itself: the engine decides when to ask,
//! when to renew and until when to believe. Every verb is idempotent on the claim id. No verb has a default
//! method, so a wrapper (fault injection, recording) that forgets a verb does not compile. `attempt_one` has one, which goes
//! through the wrapper's own `attempt`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::capability::Capabilities;
use crate::core::moment::Moment;
use crate::domain::Domain;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::token::Token;

pub(crate) use self::changed::Changed;
pub(crate) use self::table::find_among;
pub use self::table::{Entry, Opened, Opening, find, table};
pub use crate::core::line::{Kind, RW_CAPACITY};
pub use crate::core::previous::Previous;
pub use crate::runtime::BoxFuture;

pub(crate) mod changed;
#[cfg(feature = "host")]
pub mod host;
#[cfg(any(feature = "host", feature = "memory"))]
mod local;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(any(feature = "redis", feature = "unstable"))]
pub mod net;
#[cfg(any(feature = "host", feature = "memory"))]
mod note;
#[cfg(any(test, feature = "unstable"))]
mod pass_on;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "redlock")]
pub mod redlock;
#[cfg(any(feature = "memory", feature = "host", feature = "redis"))]
mod refusal;
mod table;

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

/// The identity shown in listings; never used for decisions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(try_from = "crate::config::OwnerFile", into = "crate::config::OwnerFile")
)]
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
    /// The shorter of this lease and the one that was asked for; [`Duration::MAX`] asks for one without a bound. Applied
    /// to every answer: an end that a store computed with a clock that has stepped since may lie anywhere.
    #[must_use]
    pub fn at_most(self, asked: Duration) -> Lease {
        match self {
            Lease::For(d) => Lease::For(d.min(asked)),
            Lease::Unbounded if asked == Duration::MAX => Lease::Unbounded,
            Lease::Unbounded => Lease::For(asked),
        }
    }
}

/// Why somebody calls: decides which connection a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// A task waits for the answer.
    Awaited,
    /// No task waits: renewals, and releases of dropped guards. They must not depend on the caller's runtime, and the
    /// request is handed to the transport when the future is first polled.
    Background,
}

/// How a call is made. No store keeps any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Whether somebody waits for the answer.
    pub errand: Errand,
    /// Nobody listens after this moment: the store may be told to drop the request then.
    pub until: Moment,
}

impl Call {
    /// A call whose answer is awaited for as long as it takes.
    pub const PATIENT: Call = Call::awaited(Moment::NEVER);

    /// A call whose answer a task awaits until `until`.
    #[must_use]
    pub const fn awaited(until: Moment) -> Call {
        Call { errand: Errand::Awaited, until }
    }

    /// A call that no task waits for.
    #[must_use]
    pub const fn background(until: Moment) -> Call {
        Call { errand: Errand::Background, until }
    }
}

/// A part of a store that fails by itself: a server, a shard, a slot. Requests about keys of one part share its fate;
/// those of different parts never wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part(pub u32);

impl Part {
    /// The only part of a store that has one.
    pub const WHOLE: Part = Part(0);
}

/// What a claim that holds was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The fencing token, the first of those that the claim asked for; `None` where the kind has none.
    pub token: Option<Token>,
    /// How long it lasts: at most as long as the claim asked for. The engine believes in no more than that.
    pub lease: Lease,
    /// How the hold before it ended. Kept with the claim: asked again, the store says the same.
    pub previous: Previous,
}

/// Where a claim stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds.
    Held(Grant),
    /// It waits.
    Waiting {
        /// How long the store keeps its place without a renewal. `None`: it keeps no place. Then the engine attempts
        /// again, and a withdrawal needs no request unless an attempt is still unanswered.
        place: Option<Lease>,
        /// How many wait before it, if the store knows.
        ahead: Option<u32>,
        /// After how long another look is worthwhile. With a place: when the next lease ahead expires; the first two in
        /// line look then. Without one: the pause that the store suggests. The engine randomises it, and makes it longer
        /// for a client with many waiters.
        look_again: Duration,
    },
    /// It was not granted, and does not stand in line.
    Busy,
    /// The store does not know it (any more), or has withdrawn or evicted it.
    Gone {
        /// The reason given with an eviction.
        why: Option<String>,
    },
    /// The store was removed while this process used it, and all claims with it.
    Removed,
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
    /// The promise that no late request of this id is ever granted, by whatever means the store has. An attempt of the id
    /// may still be under way in this client: a backend that makes several requests of it sends no more of them.
    Final,
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

impl Query {
    /// Whether a listing shows this lock.
    #[cfg(feature = "redis")]
    pub(crate) fn wants(&self, key: &Key) -> bool {
        (self.namespace.is_empty() || key.namespace() == self.namespace) && key.is_below(&self.prefix)
    }
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
    /// Its capacity: the least that a holder names, or else that of the first waiter.
    pub capacity: u32,
    /// The token of the newest grant.
    pub token: Option<Token>,
    /// Who holds, oldest grant first.
    pub holders: Vec<Seen>,
    /// How the hold before the newest of these ended.
    pub previous: Previous,
    /// Who waits, first in line first; at most 1,000.
    pub waiting: Vec<Seen>,
    /// How many wait in all.
    pub waiters: u64,
    /// The last time that an operator took the lock away, while the line lives.
    pub broken: Option<Broken>,
    /// Why nothing else is known of it: what is stored is of another version, or not of Tenure. In listings only; asked for
    /// alone, that is an error.
    pub error: Option<String>,
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
            previous: Previous::Unknown,
            waiting: Vec::new(),
            waiters: 0,
            broken: None,
            error: None,
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
    /// This waiting claim was granted, at this time of the store's own clock, in ns. Only a store that tells the time
    /// pushes grants; others push [`Look`](News::Look). The lease may be shorter than the one asked for, until a renewal
    /// confirms that somebody heard of the grant.
    Granted(ClaimId, Grant, u64),
    /// This claim was taken away, for this reason.
    Gone(ClaimId, Option<String>),
    /// The store was removed while this process used it, and this claim with it.
    Removed(ClaimId),
    /// Some line changed. Sent only for what [`Backend::watch`] asked for; many changes may be one piece of news.
    Changed,
    /// These lines changed, and no others: less to read again than after [`Changed`](News::Changed).
    LinesChanged(Vec<Key>),
    /// Pushes about keys of this part may have been lost: their waiters look again.
    LinkDown(Part),
}

/// Of what a client wants to be told: see [`Backend::watch`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Watched {
    /// Of nothing.
    #[default]
    Nothing,
    /// Of these locks.
    Names(Vec<Key>),
    /// Of all locks of a namespace.
    Namespace(String),
    /// Of all locks.
    Everything,
}

/// Where pushes arrive: given to a backend when it is opened. Never blocks for long.
pub trait Sink: Send + Sync + 'static {
    /// Takes a piece of news.
    fn news(&self, news: News);

    /// Whether anybody still waits for, or holds, what this claim is for. A store may be told to forget a claim that nobody
    /// knows any more.
    fn knows(&self, id: ClaimId) -> bool {
        let _ = id;
        true
    }
}

/// A store that keeps lines of claims.
///
/// What all verbs share. *Idempotent* on the claim id. *Cancel safe*: a dropped future may or may not have taken
/// effect, and the engine withdraws the claim by its id afterwards. An error of kind `Uncertain` or `Unavailable` means
/// the same unless it is [`unsent`](crate::Error::is_unsent). A verb first removes the claims whose lease ended and grants what
/// became free, in the line it is about.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// What this store promises, probed when it was opened; never above the table.
    fn capabilities(&self) -> Capabilities;

    /// The domain in which this store's tokens are comparable. It stays the same for as long as tokens keep growing. Asked
    /// only when a caller wants to know it.
    fn domain(&self) -> BoxFuture<'_, Result<Domain>>;

    /// Which part of the store keeps this lock. Pure and cheap.
    fn part(&self, key: &Key) -> Part;

    /// Stands in line, or looks again. Grants at once if there is room and nobody waits. All claims are of one part, and
    /// each stands for itself: one that is refused does not hinder the others. Answers in the order of `claims`.
    fn attempt<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>>;

    /// The same for one claim, which is what most requests are about. A store that answers without a list of answers may
    /// do so here; it need not.
    ///
    /// `Protocol` if `attempt` gives no answer to the claim.
    fn attempt_one<'a>(&'a self, claim: &'a Claim, call: Call) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(async move { only(self.attempt(std::slice::from_ref(claim), call).await) })
    }

    /// Renews the leases of claims that hold or wait, and says where each stands. Never creates a claim: one that the
    /// store does not know is `Gone`. All claims are of one part. Answers in the order of `claims`.
    fn renew<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>>;

    /// Ends a hold, or withdraws a waiting claim.
    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, call: Call) -> BoxFuture<'a, Result<Released>>;

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
    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim, call: Call) -> BoxFuture<'a, Result<Answer>>;

    /// Takes the lock away: from whoever holds it with `token` (any of those that were given with its grant), or from all
    /// that hold it. The next token is greater.
    fn evict<'a>(
        &'a self,
        key: &'a Key,
        token: Option<Token>,
        why: &'a str,
        call: Call,
    ) -> BoxFuture<'a, Result<Released>>;

    /// Looks at lines, a page at a time. Changes nothing.
    fn inspect<'a>(&'a self, query: &'a Query, call: Call) -> BoxFuture<'a, Result<Page>>;

    /// Of which locks this client wants to be told that they changed, from now on. A store may tell of more, but whoever
    /// locks what nobody watches should not pay for it.
    fn watch(&self, what: &Watched);

    /// Ends the connection. Claims that live on are not released.
    fn close(&self) -> BoxFuture<'_, ()>;
}

impl dyn Backend {
    /// [`renew`](Backend::renew) of one claim.
    ///
    /// # Errors
    /// As the verb's, and `Protocol` if the store gives no answer to it.
    pub async fn renew_one(&self, claim: &Claim, call: Call) -> Result<Answer> {
        only(self.renew(std::slice::from_ref(claim), call).await)
    }
}

fn only(mut answers: Vec<Result<Answer>>) -> Result<Answer> {
    let short =
        || Err(Error::protocol("the store did not answer every claim", "this is a bug: please report it"));
    if answers.len() == 1 { answers.pop().unwrap_or_else(short) } else { short() }
}
