//! The history of a run: what every client of the lab saw, one event per line. Any tool can judge it.
//!
//! The format is public: `docs/wire/history.schema.json`. Every line is a JSON object; the first one is the [`Header`].
//! Stamps are `CLOCK_BOOTTIME` in ns, one clock for all processes of a machine, so real-time order is exact.
//!
//! - `event`: events as values.
//! - `wire`: events as lines, and the fields that each must have.
//! - `write`: how a process writes its part.
//! - `merge`: the parts of all processes, put together by time.
//! - `read`: a whole history in memory.
//! - `name`: names that many events share.
//!
//! # How a process writes events
//! Each process has its own file ([`Writer`], without a header), and each task has a [`Recorder`]:
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
//! - A client does one thing at a time, and writes the outcome of each call before the next one. Each claim is asked for
//!   once and granted at most once, by the same client.
//! - An acquire ends with `ok`, `fail` (certainly not granted) or `info` (unknown), with `cancel` if its future was
//!   dropped, or with nothing if the process was killed.
//! - A grant has a token and a deadline, if the store gives them (header, `capabilities`).
//! - `queued` means that the store has put the claim in line. The declared order is judged by it.
//! - `enter` is the first access to a resource: it registers the token and reads the `value`. `write` writes the value
//!   read plus one, with the token of the grant: `ok`, `refused`, or `info` if the answer was lost. Both say `fenced`; the
//!   unfenced twin is another resource. Counters begin at 0.
//! - `check` and `renew` carry the deadline believed at that time. A belief lasts until the latest deadline told. After
//!   its release, a claim is neither checked nor renewed.
//! - The runner is process 0. It writes `fault` (`begin` stamped before it, `end` after it), and last of all `final` for
//!   each resource and `residue` with the waiters and the holders or keys that were left.
//!   The `breaks` of a fault are the rules that are not promised while it lasts, and one ttl longer. A fault that hits
//!   one client process has the target `client N` (N is its `p`), and excuses only what involves that process.
//!   A client stopped by SIGSTOP is the fault `pause`.
//! - Report a killed process to [`Merge::died`]: its holds end there, because the dead believe nothing.
//!   A process that is started again gets another number `p` and another file.
//!
//! A history that breaks one of these rules is not false, but it proves nothing: the rules of the contract that rest on
//! the missing evidence are "not judged".
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

/// The first line of a history: describes the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// The version of the format, 1.
    pub history: u32,
    /// The backend's name.
    pub backend: String,
    /// The store's URL, without secrets.
    pub url: String,
    /// The seed that repeats the run.
    pub seed: u64,
    /// The ttl of every claim, in ms.
    pub ttl_ms: u64,
    /// Number of locks. Each must have been granted.
    pub locks: u32,
    /// Number of client processes at a time. At least as many must have been granted a lock.
    pub processes: u32,
    /// Number of tasks per process.
    pub tasks: u32,
    /// The promises of the store when it was opened.
    pub capabilities: serde_json::Value,
    /// The version of Tenure.
    pub version: String,
    /// The run asked for strict first come, first served.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fair: bool,
    /// The least that must have happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floors: Option<Floors>,
    /// Number of events that follow. A history with another number of events is incomplete, and is not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// The command that repeats the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<String>,
    /// Versions of the server, the kernel and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versions: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What must have happened at least, for the verdicts to mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Floors {
    /// Successful acquisitions.
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
