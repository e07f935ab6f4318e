//! `--status-file`: one JSON object about how it went.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use crate::exit::Failure;
use crate::text::json_line;

/// The file, opened before anything else is done.
#[derive(Debug)]
pub(super) struct StatusFile(File);

/// What is written. The fields are a public interface.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Status {
    /// `ran`: the command ended by itself. `done`: of a job, its slot was used before, and nothing was run. `busy`: not acquired in time. `lost`: the lock was lost, and the command was
    /// stopped. `failed`: it did not run. `abandoned`: `tenure run` was killed, and the command was stopped.
    pub(super) outcome: &'static str,
    /// The lock's name; of several, one per line.
    pub(super) lock: String,
    /// Its namespace.
    pub(super) namespace: String,
    /// The fencing token, once granted, where there is one.
    pub(super) token: Option<i64>,
    /// Where several names are given: each with its token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) locks: Vec<One>,
    /// Of a job, the label of its slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) slot: Option<String>,
    /// How long it took to acquire the lock, or until that was given up.
    pub(super) waited_ms: u64,
    /// For how long it was held until now.
    pub(super) held_ms: Option<u64>,
    /// The exit code of `tenure run`.
    pub(super) exit: u8,
    /// The signal that ended the command.
    pub(super) signal: Option<i32>,
    /// Whether processes of the command live on and keep the lock.
    pub(super) lingering: bool,
    /// Why the lock was lost.
    pub(super) lost: Option<String>,
    /// What went wrong.
    pub(super) error: Option<String>,
}

/// One lock of several.
#[derive(Clone, Debug, Serialize)]
pub(super) struct One {
    pub(super) lock: String,
    pub(super) token: Option<i64>,
}

impl StatusFile {
    /// Opens and empties it.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn open(path: &Path) -> Result<StatusFile, Failure> {
        File::create(path).map(StatusFile).map_err(|error| {
            let what = format!("the status file {} cannot be written", path.display());
            Failure::usage(what, "name a file in a directory of yours").because(&error)
        })
    }

    /// Writes it.
    ///
    /// # Errors
    /// The disk is full.
    pub(super) fn write(&mut self, status: &Status) -> std::io::Result<()> {
        self.0.write_all(json_line(status).as_bytes())?;
        self.0.flush()
    }
}
