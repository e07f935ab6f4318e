//! What is measured: the workload, whose, and one process's part of it.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::lock::Kind;

/// The workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// One task, one lock: acquire and release in a loop.
    Solo,
    /// N tasks, each its own lock.
    Spread,
    /// N tasks of one client on one lock.
    Storm,
    /// Ten clients, N tasks in all, one lock.
    Fan,
    /// Two clients: one holds for 20 ms while the other waits.
    Handoff,
    /// N locks held and renewed.
    Holds,
}

impl Work {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Work::Solo => "solo",
            Work::Spread => "spread",
            Work::Storm => "storm",
            Work::Fan => "fan",
            Work::Handoff => "handoff",
            Work::Holds => "holds",
        }
    }
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Peer {
    /// Tenure, through its async API.
    Tenure,
    /// The bare flock(2) call, a thread for each task.
    Flock,
    /// handoff only: a futex in shared memory, the fastest wake that there is.
    Futex,
    /// On redis:// URLs: SET NX PX, asked again until it is set, and a script that compares and deletes.
    Setnx,
    /// On redis:// URLs, solo and spread only: a bare PING, the shortest round trip that there is.
    Ping,
}

impl Peer {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Peer::Tenure => "tenure",
            Peer::Flock => "flock",
            Peer::Futex => "futex",
            Peer::Setnx => "setnx",
            Peer::Ping => "ping",
        }
    }
}

/// What one process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) work: Work,
    pub(super) peer: Peer,
    pub(super) url: String,
    pub(super) namespace: String,
    /// The lock's name, or the beginning of the locks' names.
    pub(super) lock: String,
    /// Where peers keep their files.
    pub(super) dir: PathBuf,
    /// handoff: which of the two sides this process has.
    pub(super) sides: Vec<u32>,
    pub(super) clients: u32,
    pub(super) tasks: u32,
    /// What is taken, and how many permits a semaphore has.
    pub(super) kind: Kind,
    pub(super) permits: u32,
    /// Every task stands in the store's line by itself.
    pub(super) fair: bool,
    pub(super) secs: f64,
}
