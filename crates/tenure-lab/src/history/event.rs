//! Events as values.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Name;

/// A claim, by a hash: 16 hexadecimal digits, unique in the run. It is not the claim's id, which authorises a release.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim(pub u64);

impl Claim {
    /// Claim number `n` (from 0, below 2^40) of process `p` (below 2^24). All are different.
    #[must_use]
    pub fn numbered(p: u32, n: u64) -> Claim {
        // Every step is invertible, so different numbers stay different.
        let mut z = (u64::from(p) << 40) | (n & 0xFF_FFFF_FFFF);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Claim(z ^ (z >> 31))
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),* }

        impl $name {
            /// The word in the history.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }
    };
}

words! {
    /// The operation.
    Op {
        /// Asks for a lock.
        Acquire => "acquire",
        /// The store has put the claim in line.
        Queued => "queued",
        /// The future of an acquire was dropped.
        Cancel => "cancel",
        /// The first access to a resource: registers the token, reads the counter.
        Enter => "enter",
        /// Writes the counter.
        Write => "write",
        /// Asks the guard whether it still holds.
        Check => "check",
        /// The lease was renewed.
        Renew => "renew",
        /// The guard signalled its loss.
        Lost => "lost",
        /// Releases the lock.
        Release => "release",
        /// A fault of the lab.
        Fault => "fault",
        /// The value of a counter at the end.
        Final => "final",
        /// What was left behind at the end, by kind.
        Residue => "residue",
    }
}

words! {
    /// The progress of an operation.
    Phase {
        /// It is about to start.
        Invoke => "invoke",
        /// Done.
        Ok => "ok",
        /// Certainly not done.
        Fail => "fail",
        /// The outcome is unknown.
        Info => "info",
        /// The resource refused the token.
        Refused => "refused",
        /// No longer held.
        Lost => "lost",
        /// The lock was no longer ours.
        Gone => "gone",
        /// The answer to a release did not arrive.
        Unknown => "unknown",
        /// A fault begins.
        Begin => "begin",
        /// A fault ends.
        End => "end",
    }
}

words! {
    /// The kind of a lock, and the way in which it is asked for.
    Kind {
        /// One holder.
        Mutex => "mutex",
        /// One of many readers.
        Read => "read",
        /// The only writer.
        Write => "write",
        /// A number of permits.
        Semaphore => "semaphore",
    }
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its name.
    pub name: Name,
    /// Tells faults of the same name apart; `begin` and `end` share it.
    pub id: u64,
    /// What it hits: `server`, `path`, `client 3` ...
    pub target: Name,
    /// The rules that are not promised while it lasts, and for one ttl after it.
    pub breaks: Vec<Name>,
}

/// One line of a history. [`SHAPES`](super::SHAPES) lists the fields of each operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `CLOCK_BOOTTIME` in ns.
    pub t: u64,
    /// The process; 0 is the runner.
    pub p: u32,
    /// The operation.
    pub op: Op,
    /// Its progress.
    pub phase: Phase,
    /// The client: process and task, as `3.1`.
    pub c: Option<Name>,
    /// The lock.
    pub lock: Option<Name>,
    /// The kind of the lock.
    pub kind: Option<Kind>,
    /// On resources: tokens are checked.
    pub fenced: Option<bool>,
    /// The weight of the claim.
    pub weight: Option<u32>,
    /// The capacity of the lock.
    pub capacity: Option<u32>,
    /// The claim.
    pub claim: Option<Claim>,
    /// The fencing token.
    pub token: Option<i64>,
    /// When the belief ends: `CLOCK_BOOTTIME` in ns. None: the belief has no end.
    pub deadline: Option<u64>,
    /// Of a grant: how the hold before it ended, as [`tenure::Previous`] calls it.
    pub previous: Option<Name>,
    /// The resource.
    pub resource: Option<Name>,
    /// The counter: as read by `enter`, as left by `write`, or at the end.
    pub value: Option<i64>,
    /// The fault.
    pub fault: Option<Box<Fault>>,
    /// Details for people; for `residue` the counts by kind.
    pub detail: Option<Box<serde_json::Value>>,
}

impl Event {
    /// An event with a stamp, a process, an operation and a phase only.
    #[must_use]
    pub fn new(t: u64, p: u32, op: Op, phase: Phase) -> Event {
        Event {
            t,
            p,
            op,
            phase,
            c: None,
            lock: None,
            kind: None,
            fenced: None,
            weight: None,
            capacity: None,
            claim: None,
            token: None,
            deadline: None,
            previous: None,
            resource: None,
            value: None,
            fault: None,
            detail: None,
        }
    }

    /// With the client.
    #[must_use]
    pub fn client(mut self, c: impl Into<Name>) -> Event {
        self.c = Some(c.into());
        self
    }

    /// With the lock.
    #[must_use]
    pub fn lock(mut self, lock: impl Into<Name>) -> Event {
        self.lock = Some(lock.into());
        self
    }

    /// With the kind, the claim's weight and the lock's capacity.
    #[must_use]
    pub fn kind(mut self, kind: Kind, weight: u32, capacity: u32) -> Event {
        (self.kind, self.weight, self.capacity) = (Some(kind), Some(weight), Some(capacity));
        self
    }

    /// With the claim.
    #[must_use]
    pub fn claim(mut self, claim: Claim) -> Event {
        self.claim = Some(claim);
        self
    }

    /// With the token, if there is one.
    #[must_use]
    pub fn token(mut self, token: impl Into<Option<i64>>) -> Event {
        self.token = token.into();
        self
    }

    /// With the deadline, if there is one.
    #[must_use]
    pub fn deadline(mut self, deadline: impl Into<Option<u64>>) -> Event {
        self.deadline = deadline.into();
        self
    }

    /// With how the hold before a grant ended.
    #[must_use]
    pub fn previous(mut self, previous: tenure::Previous) -> Event {
        self.previous = Some(Name::new(previous.as_str()));
        self
    }

    /// With the resource, and whether it checks tokens.
    #[must_use]
    pub fn resource(mut self, resource: impl Into<Name>, fenced: bool) -> Event {
        (self.resource, self.fenced) = (Some(resource.into()), Some(fenced));
        self
    }

    /// With the counter.
    #[must_use]
    pub fn value(mut self, value: impl Into<Option<i64>>) -> Event {
        self.value = value.into();
        self
    }

    /// With the fault.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Event {
        self.fault = Some(Box::new(fault));
        self
    }

    /// With details.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<serde_json::Value>) -> Event {
        self.detail = Some(Box::new(detail.into()));
        self
    }
}
