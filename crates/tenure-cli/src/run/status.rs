//! `--status-file`: one JSON object about the outcome.
//!
//! Only a run that held the lock writes it: into a new file, which is then renamed, so that a reader sees the whole object
//! of one run or of another. A run that was busy, or failed before it held the lock, leaves the file as it is.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::exit::Failure;
use crate::text::json_line;

/// How many names are tried for the new file.
const NAMES: u32 = 100;

/// Where the object goes: checked before the lock is taken, and independent of the working directory.
#[derive(Debug)]
pub(super) enum StatusFile {
    /// A file of its own, or none yet.
    File(PathBuf),
    /// A pipe, a terminal or a device, which cannot be replaced.
    Stream(File),
}

/// What is written. The fields are a public interface.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Status {
    /// `ran`: the command ended by itself. `lost`: the lock was lost, and the command was stopped. `failed`: it did not run,
    /// although the lock was held. `abandoned`: `tenure run` was killed, and the command was stopped. (`busy` and `done`,
    /// a job whose slot was used before, are never written: then the lock was not held.)
    pub(super) outcome: &'static str,
    /// The lock's name; of several, one per line.
    pub(super) lock: String,
    /// Its namespace.
    pub(super) namespace: String,
    /// The fencing token, if there is one.
    pub(super) token: Option<i64>,
    /// How the hold before it ended: `released`, `expired`, `evicted` or `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<&'static str>,
    /// If several names are given: each with its token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) locks: Vec<One>,
    /// Of a job, the label of its slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) slot: Option<String>,
    /// How long it took to acquire the lock.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<&'static str>,
}

impl StatusFile {
    /// Checks that it can be written. Changes nothing in a file that is there.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn open(path: &Path) -> Result<StatusFile, Failure> {
        open(path).map_err(|error| {
            let what = format!("the status file {} cannot be written", path.display());
            Failure::usage(what, "name a file in a directory that you may write to").because(&error)
        })
    }

    /// Writes it.
    ///
    /// # Errors
    /// The disk is full, or the directory is gone.
    pub(super) fn write(&mut self, status: &Status) -> io::Result<()> {
        let line = json_line(status);
        match self {
            StatusFile::Stream(stream) => stream.write_all(line.as_bytes()),
            StatusFile::File(path) => match replace(path, line.as_bytes()) {
                // A file of ours in a directory of somebody else's: it cannot be replaced, but written.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => fs::write(path, line),
                result => result,
            },
        }
    }
}

fn open(path: &Path) -> io::Result<StatusFile> {
    // Whoever follows a link expects the file behind it to be written, not the link to be replaced.
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(error) if error.kind() == ErrorKind::NotFound => std::path::absolute(path)?,
        Err(error) => return Err(error),
    };
    match fs::metadata(&path) {
        Ok(found) if found.is_file() => {
            File::options().append(true).open(&path)?;
        }
        Ok(found) if found.is_dir() => return Err(ErrorKind::IsADirectory.into()),
        Ok(_) => return Ok(StatusFile::Stream(File::options().append(true).open(&path)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let (_, new) = create_beside(&path)?;
            fs::remove_file(new)?;
        }
        Err(error) => return Err(error),
    }
    Ok(StatusFile::File(path))
}

/// A new, empty file in the same directory.
fn create_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    let pid = std::process::id();
    let mut last = io::Error::from(ErrorKind::AlreadyExists);
    for n in 0..NAMES {
        let new = path.with_file_name(format!(".tenure-status-{pid}-{n}"));
        match File::create_new(&new) {
            Ok(file) => return Ok((file, new)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Puts a new file with this content in the place of the old one, with its permissions.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let (mut file, new) = create_beside(path)?;
    let kept = fs::metadata(path).map(|old| old.permissions());
    let written = file.write_all(content).and_then(|()| match kept {
        Ok(permissions) => file.set_permissions(permissions),
        Err(_) => Ok(()),
    });
    written.and_then(|()| fs::rename(&new, path)).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn write(path: &Path, outcome: &'static str) {
        let mut file = StatusFile::open(path).expect("it can be written");
        file.write(&Status { outcome, ..Status::default() }).expect("it is written");
    }

    #[test]
    fn a_file_is_replaced_and_a_link_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link) = (dir.path().join("status"), dir.path().join("link"));
        fs::write(&file, "old").expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
        symlink("status", &link).expect("a link");
        let mut reader = File::open(&file).expect("the old one");
        write(&link, "ran");
        assert!(fs::read_to_string(&file).expect("the new one").starts_with(r#"{"outcome":"ran""#));
        assert_eq!(io::read_to_string(&mut reader).expect("the old one"), "old");
        assert_eq!(fs::metadata(&file).expect("the new one").permissions().mode() & 0o777, 0o600);
        assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 2, "something was left behind");
    }

    #[test]
    fn opening_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("status");
        StatusFile::open(&file).expect("it can be written");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
        fs::write(&file, "old").expect("a file");
        StatusFile::open(&file).expect("it can be written");
        assert_eq!(fs::read_to_string(&file).expect("as it was"), "old");
        assert!(StatusFile::open(dir.path()).is_err() && StatusFile::open(&file.join("x")).is_err());
    }
}
