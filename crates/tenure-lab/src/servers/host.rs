//! The store of one host: files in a directory, which somebody may remove under the clients.
//!
//! - `delete_store`, `delete_live`: one of its files. Exclusion is promised all the same.
//! - `delete_directory`: everything. The next client finds nothing and makes a new store: for a second and a ttl both may
//!   grant a lock, and only tokens tell who came later.
//!
//! A store that lost only its file starts at the floor of tokens beside it, up to a minute ahead of the clock. If the floor
//! were removed after that, the next tokens would be lower: a directory's domain of tokens ends with it. No single fault
//! does that, so a directory is removed in the first half of a run, and a store's file in the second.
//!
//! Nothing is ever removed that was there before the run.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tenure::StoreUrl;
use tenure::backend::host::faults;

use super::{Fault, Half, Inside, Lasts, Own, StoreKind, Wish};
use crate::failure::{Doing, Outcome};
use crate::num::Dice;

/// How long clients that have the old files open may take to notice.
const NOTICED: Lasts = Lasts::UntilNoticed(Duration::from_millis(1050));

const FAULTS: [Fault; 3] = [
    removed("delete_store", Half::Second, &[]),
    removed("delete_live", Half::Either, &[]),
    // Later clients cannot know of the holders: two groups, until the old one notices.
    removed("delete_directory", Half::First, &["S1", "S2", "S5", "L3"]),
];

const fn removed(name: &'static str, half: Half, breaks: &'static [&'static str]) -> Fault {
    Fault { name, weight: 1, half, lasts: NOTICED, breaks, forgets: true, turns_back: false }
}

/// The kind.
pub(crate) struct Host;

impl StoreKind for Host {
    fn scheme(&self) -> &'static str {
        "host"
    }

    /// In shared memory, and on a disk if the directory of temporary files is on one; both in the durable form, which is
    /// the stronger one.
    fn sites(&self) -> &'static [&'static str] {
        &["host", "host_dir"]
    }

    fn make(&self, wish: &Wish<'_>) -> Outcome<Option<Arc<dyn Own>>> {
        let parent = if wish.site == "host_dir" { std::env::temp_dir() } else { "/dev/shm".into() };
        let around = tempfile::Builder::new().prefix("tenure-store-").tempdir_in(&parent);
        let around = around.doing(|| format!("make a directory in {}", parent.display()))?;
        Ok(Some(Arc::new(Files::within(around))))
    }

    fn claim(&self, url: &str) -> Result<Arc<dyn Own>, Option<String>> {
        Files::of(url).map(|files| Arc::new(files) as Arc<dyn Own>).map_err(Some)
    }

    fn inside(&self) -> Option<&'static Inside> {
        Some(&Inside { stop_after: faults::stop_after, kill_after: faults::kill_after })
    }
}

/// The files of a store that the lab has for itself.
#[derive(Clone, Debug)]
struct Files {
    dir: PathBuf,
    /// The run made the directory too.
    made: bool,
    _around: Option<Arc<TempDir>>,
}

impl Files {
    fn within(around: TempDir) -> Files {
        Files { dir: around.path().join("store"), made: true, _around: Some(Arc::new(around)) }
    }

    /// The store of a run at this URL. `Err`: why no files of it can be removed.
    fn of(url: &str) -> Result<Files, String> {
        let place = StoreUrl::parse(url).map_err(|error| error.to_string())?.path;
        if place.is_empty() {
            return Ok(Files::within(private().map_err(|error| format!("no deleted files: {error}"))?));
        }
        let dir = PathBuf::from(place);
        let made = !dir.exists();
        if !made && !fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_none()) {
            return Err(format!("no deleted files: {} was not empty, so others may use it", dir.display()));
        }
        Ok(Files { dir, made, _around: None })
    }

    fn remove(&self, fault: &str) -> io::Result<()> {
        match fault {
            "delete_store" => gone(fs::remove_file(self.dir.join("store"))),
            "delete_live" => gone(fs::remove_file(self.dir.join("live"))),
            _ => self.remove_all(),
        }
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

impl Own for Files {
    fn url(&self) -> String {
        format!("host://{}", self.dir.display())
    }

    fn wipe(&self) -> Outcome<()> {
        self.remove_all().doing(|| format!("remove {}", self.dir.display()))
    }

    /// Only the store's idea of the boot changes: it is as if the machine had booted again.
    fn reboot(&self) -> Outcome<()> {
        faults::reboot(&self.dir).doing(|| format!("change the boot of {}", self.dir.display()))
    }

    fn closed(&self) -> Outcome<bool> {
        let maps =
            fs::read_to_string("/proc/self/maps").doing(|| "read the mappings of this process".into())?;
        Ok(!maps.contains(&*self.dir.to_string_lossy()))
    }

    fn beside(&self, name: &str) -> Option<Arc<dyn Own>> {
        Some(Arc::new(Files { dir: self.dir.with_file_name(name), ..self.clone() }))
    }

    fn faults(&self) -> Vec<Fault> {
        FAULTS.to_vec()
    }

    fn strike(&self, fault: &Fault, _: Duration, _: &mut Dice) -> Outcome<()> {
        self.remove(fault.name).doing(|| format!("remove {}", self.dir.display()))
    }

    fn undo(&self, _: &Fault) -> Outcome<()> {
        Ok(())
    }

    fn copy(&self) -> Outcome<()> {
        Ok(())
    }

    fn cut_off(&self) -> &'static [&'static str] {
        &[]
    }

    fn lacks(&self) -> Vec<String> {
        Vec::new()
    }

    fn log(&self) -> Option<PathBuf> {
        None
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
            let files = Files::of(&url(dir)).expect("free");
            assert_eq!(files.url(), url(dir));
            let _ = fs::create_dir(dir);
            for file in ["store", "live", "floor"] {
                fs::write(dir.join(file), "").expect("a file");
            }
            for (fault, left) in FAULTS.iter().zip([2, 1, 0]) {
                files.remove(fault.name).expect("removed");
                let there = fs::read_dir(dir).map_or(0, Iterator::count);
                assert_eq!(there, left, "{} of {}", fault.name, dir.display());
                files.remove(fault.name).expect("nothing to remove is no error");
            }
            assert_eq!(dir.exists(), dir == &bare, "only what the run made goes with its files");
        }
        assert!(used.join("store").exists());
    }

    #[test]
    fn the_default_store_is_left_alone() {
        let Ok(files) = Files::of("host:") else { return };
        let to = files.url();
        assert!(to.starts_with("host:///dev/shm/tenure-") && to.contains("/lab-"), "{to}");
        let around = files.dir.parent().expect("a directory").to_owned();
        drop(files);
        assert!(!around.exists());
    }
}
