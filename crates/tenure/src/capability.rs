//! What a backend can promise, and what a program needs.

use std::fmt;

use crate::error::{Error, Result};
use crate::ttl::Ttl;

macro_rules! grades {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[non_exhaustive]
        pub enum $name { $($(#[$vdoc])* #[cfg_attr(feature = "serde", serde(rename = $word))] $variant),* }

        impl $name {
            /// The word used in tables, listings and JSON.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

grades! {
    /// Who can share a lock, from the narrowest to the widest.
    Scope {
        /// The tasks of one `Locks` value.
        Process => "process",
        /// The processes that see one directory.
        Directory => "directory",
        /// The processes of one user on one machine.
        Host => "host",
        /// Whoever reaches the store.
        Cluster => "cluster",
    }
}
grades! {
    /// What ends a hold whose holder says nothing any more.
    HoldEnd {
        /// The lease runs out.
        Lease => "lease",
        /// The store ends the session.
        Session => "session",
        /// The connection ends.
        Connection => "connection",
        /// The kernel sees the process end.
        Process => "process",
        /// The lease runs out, or the process ends, whichever is first.
        LeaseOrProcess => "lease or process",
    }
}
grades! {
    /// How strong fencing tokens are, from none to the strongest.
    TokenStrength {
        /// No tokens.
        None => "none",
        /// A counter that goes back when the store loses its data.
        Volatile => "volatile",
        /// `max(last + 1, server time in µs)`: goes back only if the data is lost and the clock is wrong as well.
        Hybrid => "hybrid",
        /// Survives a restart and a power loss of the store.
        Durable => "durable",
        /// The order of a consensus log.
        Consensus => "consensus",
    }
}
grades! {
    /// In which order waiters are granted.
    Order {
        /// Any.
        None => "none",
        /// First come, first served.
        Fifo => "fifo",
    }
}
grades! {
    /// How a waiter learns of its turn.
    Wakeup {
        /// By asking again.
        Poll => "poll",
        /// It is told.
        Push => "push",
    }
}
grades! {
    /// What `inspect` can show.
    Visibility {
        /// Nothing.
        None => "none",
        /// How many.
        Counts => "counts",
        /// Who holds.
        Holders => "holders",
        /// Holders and waiters, in order.
        Full => "full",
    }
}
grades! {
    /// Whether something is so.
    Fact {
        /// It is not.
        No => "no",
        /// The store cannot tell. Counts as no where it is needed.
        Unknown => "unknown",
        /// It is.
        Yes => "yes",
    }
}
grades! {
    /// Whether a hold can outlast its holder by a while, unrenewed: what `release_after`, jobs that run once per slot and
    /// rate limits rest on.
    After {
        /// It ends with its session, connection or process.
        No => "no",
        /// The store keeps it for as long as it was told.
        Kept => "kept",
    }
}
grades! {
    /// Under whose claim a hold can go on.
    Transfer {
        /// Nobody's but its own.
        No => "no",
        /// Another claim of the same client.
        SameClient => "same client",
        /// A claim of any client: a handle can be passed to another process.
        Anyone => "anyone",
    }
}
grades! {
    /// Whether an operator can take a lock away from its holder.
    Evict {
        /// Only the holder can end its hold.
        No => "no",
        /// Yes.
        Yes => "yes",
    }
}
grades! {
    /// Whether a grant says how the hold before it ended.
    Knows {
        /// It always says that this is unknown.
        No => "no",
        /// It does, for as long as the store remembers the lock.
        Yes => "yes",
    }
}

/// What exclusion survives: whether a hold is still respected afterwards. Four independent facts, of which none follows
/// from another. Whether *tokens* still grow is another question: see [`TokenStrength`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Survives {
    /// A restart of the store's process.
    pub restart: Fact,
    /// A failover to another server.
    pub failover: Fact,
    /// A power loss of the machine that keeps the state.
    pub power_loss: Fact,
    /// The loss of the data of one server.
    pub data_loss: Fact,
}

impl Survives {
    /// None of them.
    pub const NOTHING: Survives =
        Survives { restart: Fact::No, failover: Fact::No, power_loss: Fact::No, data_loss: Fact::No };
    /// All of them.
    pub const EVERYTHING: Survives =
        Survives { restart: Fact::Yes, failover: Fact::Yes, power_loss: Fact::Yes, data_loss: Fact::Yes };

    /// The lower of both in each fact.
    #[must_use]
    pub fn min(self, other: Survives) -> Survives {
        Survives {
            restart: self.restart.min(other.restart),
            failover: self.failover.min(other.failover),
            power_loss: self.power_loss.min(other.power_loss),
            data_loss: self.data_loss.min(other.data_loss),
        }
    }
}

/// What survives, in words; "nothing" for none.
impl fmt::Display for Survives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.restart, "restart"),
            (self.failover, "failover"),
            (self.power_loss, "power loss"),
            (self.data_loss, "data loss"),
        ];
        let said: Vec<String> = all
            .into_iter()
            .filter(|(fact, _)| *fact != Fact::No)
            .map(|(fact, what)| if fact == Fact::Unknown { format!("{what}?") } else { what.to_owned() })
            .collect();
        f.write_str(if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }.as_str())
    }
}

grades! {
    /// How tasks of one client that want one lock take their turns.
    Turns {
        /// Each is a claim of its own in the store's line.
        Each => "each",
        /// Those that wait together share one claim and pass the lock on among themselves, each with a token of its own:
        /// the store can reserve several for one grant. `LockOptions::fair` makes each a claim of its own.
        Shared => "shared",
    }
}

/// What people should know about a store before they rely on it. Found when the store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Warning {
    /// The store may evict locks when its memory is full: two holders at once.
    Evicts,
    /// The store keeps nothing on disk: after a restart, two holders at once.
    Forgets,
}

impl Warning {
    /// One sentence that says what to do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Warning::Evicts => "set maxmemory-policy to noeviction",
            Warning::Forgets => "turn on appendonly, or use this server for tests only",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Warning::Evicts => "the server may evict locks while they are held, when its memory is full",
            Warning::Forgets => {
                "the server keeps nothing on disk, so a restart loses locks while they are held"
            }
        })
    }
}

/// Which primitives a backend can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Modes {
    /// One holder at a time.
    pub mutex: bool,
    /// Many readers or one writer.
    pub rw: bool,
    /// A number of permits.
    pub semaphore: bool,
}

impl Modes {
    /// All of them.
    pub const ALL: Modes = Modes { mutex: true, rw: true, semaphore: true };
    /// The mutex alone.
    pub const MUTEX: Modes = Modes { mutex: true, rw: false, semaphore: false };
}

/// What one backend promises. The constants of the table are upper bounds; opening a store probes it and may lower
/// them, never raise them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The backend's name, as in its URL scheme.
    pub backend: &'static str,
    /// Who can share a lock.
    pub scope: Scope,
    /// What ends a silent holder's hold.
    pub hold_end: HoldEnd,
    /// How strong tokens are.
    pub token: TokenStrength,
    /// In which order waiters are granted.
    pub order: Order,
    /// Which primitives it carries.
    pub modes: Modes,
    /// How waiters learn of their turn.
    pub wakeup: Wakeup,
    /// What can be seen.
    pub visibility: Visibility,
    /// How tasks of one client take their turns.
    pub turns: Turns,
    /// What exclusion survives.
    pub survives: Survives,
    /// Which leases it gives.
    pub ttl: Ttl,
    /// Whether a hold can outlast its holder.
    pub after: After,
    /// Under whose claim a hold can go on.
    pub transfer: Transfer,
    /// Whether a lock can be taken away.
    pub evict: Evict,
    /// Whether a grant says how the hold before it ended.
    pub previous: Knows,
    /// What its users should know.
    pub warnings: &'static [Warning],
}

impl Capabilities {
    /// The strongest set under `backend`'s name; a backend lowers what it cannot do.
    #[must_use]
    pub const fn strongest(backend: &'static str) -> Capabilities {
        Capabilities {
            backend,
            scope: Scope::Cluster,
            hold_end: HoldEnd::Lease,
            token: TokenStrength::Consensus,
            order: Order::Fifo,
            modes: Modes::ALL,
            wakeup: Wakeup::Push,
            visibility: Visibility::Full,
            turns: Turns::Shared,
            survives: Survives::EVERYTHING,
            ttl: Ttl::ANY,
            after: After::Kept,
            transfer: Transfer::Anyone,
            evict: Evict::Yes,
            previous: Knows::Yes,
            warnings: &[],
        }
    }
}

/// What a program needs of its store. `Locks::require` refuses, at start, a store that is weaker.
///
/// ```
/// use tenure::{Locks, Needs, TokenStrength};
///
/// let locks = Locks::memory();
/// locks.require(Needs::new().fifo().token(TokenStrength::Hybrid))?;
/// assert!(locks.require(Needs::new().token(TokenStrength::Consensus)).is_err());
/// # Ok::<(), tenure::Error>(())
/// ```
///
/// With the cargo feature `serde` it can be read from a configuration file: a field for each method, for example
/// `{"token": "hybrid", "fifo": true}`. An unknown field is refused.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "crate::config::NeedsFile", into = "crate::config::NeedsFile"))]
pub struct Needs {
    scope: Option<Scope>,
    token: Option<TokenStrength>,
    order: Option<Order>,
    wakeup: Option<Wakeup>,
    visibility: Option<Visibility>,
    restart: Option<Fact>,
    failover: Option<Fact>,
    power_loss: Option<Fact>,
    data_loss: Option<Fact>,
    after: Option<After>,
    transfer: Option<Transfer>,
    evict: Option<Evict>,
    previous: Option<Knows>,
}

impl Needs {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Needs {
        Needs {
            scope: None,
            token: None,
            order: None,
            wakeup: None,
            visibility: None,
            restart: None,
            failover: None,
            power_loss: None,
            data_loss: None,
            after: None,
            transfer: None,
            evict: None,
            previous: None,
        }
    }

    /// At least this scope.
    #[must_use]
    pub const fn scope(mut self, scope: Scope) -> Needs {
        self.scope = Some(scope);
        self
    }

    /// Tokens at least this strong.
    #[must_use]
    pub const fn token(mut self, token: TokenStrength) -> Needs {
        self.token = Some(token);
        self
    }

    /// First come, first served.
    #[must_use]
    pub const fn fifo(mut self) -> Needs {
        self.order = Some(Order::Fifo);
        self
    }

    /// Waiters are told, they do not poll.
    #[must_use]
    pub const fn push(mut self) -> Needs {
        self.wakeup = Some(Wakeup::Push);
        self
    }

    /// At least this much can be seen.
    #[must_use]
    pub const fn visibility(mut self, visibility: Visibility) -> Needs {
        self.visibility = Some(visibility);
        self
    }

    /// A restart of the store's process lets nobody in beside a holder.
    #[must_use]
    pub const fn survives_restart(mut self) -> Needs {
        self.restart = Some(Fact::Yes);
        self
    }

    /// A failover to another server lets nobody in beside a holder.
    #[must_use]
    pub const fn survives_failover(mut self) -> Needs {
        self.failover = Some(Fact::Yes);
        self
    }

    /// A power loss lets nobody in beside a holder.
    #[must_use]
    pub const fn survives_power_loss(mut self) -> Needs {
        self.power_loss = Some(Fact::Yes);
        self
    }

    /// The loss of one server's data lets nobody in beside a holder.
    #[must_use]
    pub const fn survives_data_loss(mut self) -> Needs {
        self.data_loss = Some(Fact::Yes);
        self
    }

    /// A hold can outlast its holder: `release_after`, jobs, rate limits.
    #[must_use]
    pub const fn keeps(mut self) -> Needs {
        self.after = Some(After::Kept);
        self
    }

    /// A hold can go on under another claim, at least this far.
    #[must_use]
    pub const fn transfer(mut self, transfer: Transfer) -> Needs {
        self.transfer = Some(transfer);
        self
    }

    /// An operator can take a lock away.
    #[must_use]
    pub const fn evict(mut self) -> Needs {
        self.evict = Some(Evict::Yes);
        self
    }

    /// A grant says how the hold before it ended.
    #[must_use]
    pub const fn previous(mut self) -> Needs {
        self.previous = Some(Knows::Yes);
        self
    }

    #[cfg(feature = "serde")]
    pub(crate) fn file(&self) -> crate::config::NeedsFile {
        crate::config::NeedsFile {
            scope: self.scope,
            token: self.token,
            visibility: self.visibility,
            transfer: self.transfer,
            fifo: self.order.is_some(),
            push: self.wakeup.is_some(),
            survives_restart: self.restart.is_some(),
            survives_failover: self.failover.is_some(),
            survives_power_loss: self.power_loss.is_some(),
            survives_data_loss: self.data_loss.is_some(),
            keeps: self.after.is_some(),
            evict: self.evict.is_some(),
            previous: self.previous.is_some(),
        }
    }

    /// Compares with what a store promises.
    ///
    /// # Errors
    /// `Unsupported`, naming the first need that is not met, what the store has, and which backends have it.
    pub fn check(&self, have: &Capabilities) -> Result<()> {
        fn need<T: PartialOrd + fmt::Display>(
            what: &str,
            backend: &str,
            want: Option<T>,
            have: T,
            of: impl Fn(&Capabilities) -> T,
        ) -> Result<()> {
            let Some(want) = want.filter(|want| have < *want) else { return Ok(()) };
            let able: Vec<_> = crate::backend::table()
                .map(|c| c.capabilities)
                .filter(|c| of(c) >= want)
                .map(|c| c.backend)
                .collect();
            let advice = if able.is_empty() {
                "no backend of this build can".to_owned()
            } else {
                format!("backends of this build that can: {}", able.join(", "))
            };
            Err(Error::unsupported(
                format!("the program needs {what} {want}, and the {backend} store has {have}"),
                advice,
            ))
        }
        let name = have.backend;
        need("scope", name, self.scope, have.scope, |c| c.scope)?;
        need("token strength", name, self.token, have.token, |c| c.token)?;
        need("order", name, self.order, have.order, |c| c.order)?;
        need("wake-up by", name, self.wakeup, have.wakeup, |c| c.wakeup)?;
        need("visibility", name, self.visibility, have.visibility, |c| c.visibility)?;
        let survives = have.survives;
        need("exclusion through a restart:", name, self.restart, survives.restart, |c| c.survives.restart)?;
        need("exclusion through a failover:", name, self.failover, survives.failover, |c| {
            c.survives.failover
        })?;
        need("exclusion through a power loss:", name, self.power_loss, survives.power_loss, |c| {
            c.survives.power_loss
        })?;
        need("exclusion through a loss of data:", name, self.data_loss, survives.data_loss, |c| {
            c.survives.data_loss
        })?;
        need("holds that outlast their holder:", name, self.after, have.after, |c| c.after)?;
        need("holds that go on under another claim:", name, self.transfer, have.transfer, |c| c.transfer)?;
        need("locks that can be taken away:", name, self.evict, have.evict, |c| c.evict)?;
        need("grants that say how the last hold ended:", name, self.previous, have.previous, |c| c.previous)
    }
}
