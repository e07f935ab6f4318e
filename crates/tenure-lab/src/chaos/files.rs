//! A store on `host:` that a run has for itself, so that somebody can remove its files under the clients.
//!
//! - `delete_store`, `delete_live`: one of its files. Exclusion is promised all the same.
//! - `delete_directory`: everything. Who comes then finds nothing, and makes a new store: for a second and a ttl both may
//!   grant a lock, and tokens alone tell who came later.
//!
//! A store that lost only its file starts at the floor of tokens beside it, up to a minute ahead of the clock. Were the
//! floor removed after that, the next tokens would be lower: a directory's domain of tokens ends with it. No single fault
//! does that, so a directory is removed in the first half of a run, and a store's file in the second.
//!
//! Nothing is ever removed that was there before the run.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tenure::StoreUrl;

use crate::failure::{Doing, Outcome};
use crate::num::Dice;

/// What can be done to it.
pub(super) const FAULTS: [&str; 3] = ["delete_store", "delete_live", "delete_directory"];

/// One of the faults of this half.
pub(super) fn draw(dice: &mut Dice, second_half: bool) -> &'static str {
    match (dice.below(2), second_half) {
        (0, _) => "delete_live",
        (_, true) => "delete_store",
        (_, false) => "delete_directory",
    }
}

/// How long those who have the old files open may take to notice.
pub(super) const NOTICED: Duration = Duration::from_millis(1050);

/// The files.
pub(super) struct Files {
    dir: PathBuf,
    /// The run made the directory too.
    made: bool,
    _around: Option<TempDir>,
}

impl Files {
    /// The store of a run at this URL, and its URL. `Err`: why no files of it can be removed.
    pub(super) fn of(url: &str) -> Result<(String, Files), String> {
        let place = StoreUrl::parse(url).map_err(|error| error.to_string())?.path;
        if place.is_empty() {
            let around = private().map_err(|error| error.to_string())?;
            let dir = around.path().join("store");
            let url = format!("host://{}", dir.display());
            return Ok((url, Files { dir, made: true, _around: Some(around) }));
        }
        let dir = PathBuf::from(place);
        let made = !dir.exists();
        if !made && !fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_none()) {
            return Err(format!("{} was not empty, so others may use it", dir.display()));
        }
        Ok((url.to_owned(), Files { dir, made, _around: None }))
    }

    /// Removes what this fault says.
    pub(super) fn remove(&self, fault: &str) -> Outcome<()> {
        let result = match fault {
            "delete_store" => gone(fs::remove_file(self.dir.join("store"))),
            "delete_live" => gone(fs::remove_file(self.dir.join("live"))),
            _ => self.remove_all(),
        };
        result.doing(|| format!("remove {}", self.dir.display()))
    }

    fn remove_all(&self) -> io::Result<()> {
        if !self.made {
            return empty(&self.dir);
        }
        // At once, and not file by file: somebody may make new ones meanwhile.
        let aside = self.dir.with_extension("removed");
        gone(fs::rename(&self.dir, &aside))?;
        gone(fs::remove_dir_all(&aside))
    }
}

/// A directory below that of the default store, which others of this user may be using.
fn private() -> io::Result<TempDir> {
    let parent = format!("/dev/shm/tenure-{}", rustix::process::geteuid().as_raw());
    match DirBuilder::new().mode(0o700).create(&parent) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    tempfile::Builder::new().prefix("lab-").tempdir_in(parent)
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Last of all what keeps others from making a new store.
fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)?.flatten().filter(|entry| entry.file_name() != "live") {
        gone(fs::remove_file(entry.path()))?;
    }
    gone(fs::remove_file(dir.join("live")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(dir: &Path) -> String {
        format!("host://{}", dir.display())
    }

    #[test]
    fn what_was_there_before_is_never_removed() {
        let around = tempfile::tempdir().expect("a directory");
        let (used, bare, new) =
            (around.path().join("used"), around.path().join("bare"), around.path().join("new"));
        fs::create_dir(&used).expect("a directory");
        fs::write(used.join("store"), "of somebody").expect("a file");
        assert!(Files::of(&url(&used)).is_err_and(|why| why.contains("not empty")));
        fs::create_dir(&bare).expect("a directory");
        for dir in [&bare, &new] {
            let (to, files) = Files::of(&url(dir)).expect("free");
            assert_eq!(to, url(dir));
            let _ = fs::create_dir(dir);
            for file in ["store", "live", "floor"] {
                fs::write(dir.join(file), "").expect("a file");
            }
            for (fault, left) in FAULTS.iter().zip([2, 1, 0]) {
                files.remove(fault).expect("removed");
                let there = fs::read_dir(dir).map_or(0, Iterator::count);
                assert_eq!(there, left, "{fault} of {}", dir.display());
                files.remove(fault).expect("nothing to remove is no error");
            }
            assert_eq!(dir.exists(), dir == &bare, "only what the run made goes with its files");
        }
        assert!(used.join("store").exists());
    }

    #[test]
    fn the_default_store_is_left_alone() {
        let Ok((to, files)) = Files::of("host:") else { return };
        assert!(to.starts_with("host:///dev/shm/tenure-") && to.contains("/lab-"), "{to}");
        let around = files.dir.parent().expect("a directory").to_owned();
        drop(files);
        assert!(!around.exists());
    }
}
