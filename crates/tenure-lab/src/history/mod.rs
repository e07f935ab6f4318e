//! The history of a run: what every client of a lab saw, one event a line, so that anybody can judge it.
//!
//! The format is public: `docs/wire/history.schema.json`. Every line is one JSON object; the first is the [`Header`].
//! Stamps are `CLOCK_BOOTTIME` in ns, one clock for all processes of a machine, so real-time order is exact.
//!
//! # How a process writes events
//! Each process has one file of its own ([`Writer`], no header) and each task one [`Recorder`]:
//! ```
//! use tenure_lab::history::{Claim, Kind, Op, Phase, Recorder, Writer};
//! # let dir = tempfile::tempdir()?;
//! # let file = dir.path().join("part-3.jsonl");
//! let writer = std::sync::Arc::new(Writer::create(&file)?);
//! let rec = Recorder::new(writer, 3, "3.1"); // process 3, its task 1
//! let claim = Claim::numbered(3, 0); // the first claim of process 3: unique in the run
//! // `now` stamps. Before a call: invoke, check, release. After it returned: everything else.
//! rec.put(&rec.now(Op::Acquire, Phase::Invoke).lock("hot").kind(Kind::Mutex, 1, 1).claim(claim))?;
//! # let (token, deadline) = (7, rec.now(Op::Check, Phase::Ok).t + 400_000_000);
//! rec.put(&rec.now(Op::Acquire, Phase::Ok).lock("hot").claim(claim).token(token).deadline(deadline))?;
//! let before = rec.now(Op::Check, Phase::Ok); // stamped before the call, written after it
//! rec.put(&before.claim(claim).deadline(deadline))?;
//! rec.put(&rec.now(Op::Release, Phase::Invoke).claim(claim))?;
//! rec.put(&rec.now(Op::Release, Phase::Ok).claim(claim))?;
//! # Ok::<(), std::io::Error>(())
//! ```
//! - An acquire ends with `ok`, `fail` (surely not granted) or `info` (unknown), or with `cancel` where its future was
//!   dropped, or with nothing where the process was killed.
//! - `queued` when the store is known to have put the claim in line. It is what the declared order is judged by.
//! - `enter`: the first access to a resource; registers the token and reads the `value`. `write`: the value read plus
//!   one; `ok`, `refused`, or `info` where the answer was lost. Both say `fenced`; the unfenced twin is another resource.
//! - `check` and `renew` carry the deadline believed at that time; a belief counts up to the latest deadline told.
//! - The runner is process 0: `fault` (`begin` stamped before it, `end` after it), `final` for each resource, `residue`.
//!   A fault's `breaks` are the rules that are not promised during it and one ttl longer. A fault that hits one client
//!   process has the target `client N` (N its `p`), and then excuses only what involves that process.
//!   A client stopped by SIGSTOP is the fault `pause`.
//! - A process that was killed is told to [`Merge::died`]: what it held ends there, since the dead believe nothing.
//!   A process that is started again gets another number `p` and another file.
//!
//! [`Merge`] puts the files of all processes together by `t`; [`History::read`] reads the result.

mod event;
mod merge;
mod name;
mod read;
mod wire;
mod write;

pub use event::{Claim, Event, Fault, Kind, Op, Phase};
pub use merge::{Merge, Merged};
pub use name::Name;
pub use read::{History, ReadError};
pub use wire::SHAPES;
pub use write::{Recorder, Writer};

use serde::{Deserialize, Serialize};

/// The version of the format.
pub const VERSION: u32 = 1;

/// The first line of a history: what run it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// The version of the format, 1.
    pub history: u32,
    /// The backend's name.
    pub backend: String,
    /// The store's URL, without secrets.
    pub url: String,
    /// What the run is repeated by.
    pub seed: u64,
    /// The ttl of every claim, in ms.
    pub ttl_ms: u64,
    /// How many locks.
    pub locks: u32,
    /// How many client processes at a time.
    pub processes: u32,
    /// How many tasks each.
    pub tasks: u32,
    /// What the store promised when it was opened.
    pub capabilities: serde_json::Value,
    /// The version of Tenure.
    pub version: String,
    /// Strict first come was asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fair: bool,
    /// The least that must have happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floors: Option<Floors>,
    /// How many events follow. A history with fewer or more of them is not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// The command that repeats the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<String>,
    /// Versions of what took part: the server, the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versions: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The least that must have happened in a run, so that its verdicts mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Floors {
    /// Acquisitions that succeeded.
    pub acquisitions: u64,
    /// Faults that began.
    pub windows: u64,
}

impl Header {
    /// The ttl of every claim, in ns.
    #[must_use]
    pub fn ttl_ns(&self) -> u64 {
        self.ttl_ms.saturating_mul(1_000_000)
    }
}
