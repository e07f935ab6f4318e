//! A fence in a file beside the resource: for files, and anything else that programs of one machine share.
//!
//! Accesses run under the file's lock (`flock`). Accesses with the same token share it. An access that registers a higher
//! token takes it exclusively, so it waits for accesses with a lower token to end. A token counts only once its record is
//! on disk: see `record` for the bytes of the file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::record::{self, Found, PLACE, read_both};
use super::rule::{Admission, CheckError, Stamp, check};
use crate::domain::Domain;
use crate::error::{Error, Result};
use crate::token::Token;

/// How long to wait for accesses of others to end, by default.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// A fence in a file: the highest token that was seen, and its domain.
///
/// A user who may write the file can forge it, so give it the owner and the mode of the resource. Use local file systems
/// only: on a network file system, `flock` may exclude nobody.
///
/// All calls block, on the disk and on the accesses of others. In asynchronous code, call them where blocking is allowed.
///
/// ```
/// use tenure::fence::{CheckError, FenceFile, Stamp};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = std::env::temp_dir().join(format!("tenure-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// # let report = dir.join("report.csv");
/// # let locks = tenure::Locks::memory();
/// # let domain = locks.blocking_domain()?;
/// # let guard = locks.mutex("report")?.blocking_lock()?;
/// let fence = FenceFile::new(report.with_extension("csv.fence"));
/// let stamp = Stamp::new(domain, guard.token());
/// match fence.enter(&stamp) {
///     Ok(_inside) => std::fs::write(&report, "a,b\n")?, // nobody with a higher token comes in meanwhile
///     Err(CheckError::Refused(why)) => eprintln!("{why}"), // somebody else holds the lock: stop
///     Err(CheckError::Failed(error)) => return Err(error.into()),
/// }
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct FenceFile {
    path: PathBuf,
    patience: Duration,
}

/// An admitted access. No higher token is admitted while it lives.
///
/// Keep it only for as long as the effect takes. A process that is stopped inside keeps the next holder out until it
/// continues or is killed, which ends its access, as with any `flock`.
///
/// # On drop
/// The access ends.
#[derive(Debug)]
#[must_use = "dropping it ends the access"]
pub struct Entry(File);

impl AsFd for Entry {
    /// The file whose lock is the access. The access lasts as long as any copy of this descriptor is open.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Shared,
    Alone,
}

impl FenceFile {
    /// The fence in this file. The first access creates the file; this call touches nothing.
    pub fn new(path: impl Into<PathBuf>) -> FenceFile {
        FenceFile { path: path.into(), patience: PATIENCE }
    }

    /// How long to wait for accesses of others to end; 10 s by default.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> FenceFile {
        self.patience = patience;
        self
    }

    /// Admits an access and registers its token, which is on disk when this returns. Call it for reads too.
    ///
    /// The fence does not protect what happens after this returns: see [`enter`](FenceFile::enter).
    ///
    /// # Errors
    /// [`CheckError::Refused`]; [`CheckError::Failed`] if the file cannot be read or written (`Denied`, `Config`,
    /// `Unavailable`), is damaged (`Protocol`), or others stay inside for too long (`Unavailable`). If the token could not
    /// be synced to disk, the access fails, and so does the next one with this token unless it can sync it.
    pub fn check(&self, shown: &Stamp) -> Result<(), CheckError> {
        self.enter(shown).map(drop)
    }

    /// Admits an access, registers its token, and keeps higher tokens out until the returned value is dropped.
    ///
    /// # Errors
    /// As [`check`](FenceFile::check).
    pub fn enter(&self, shown: &Stamp) -> Result<Entry, CheckError> {
        let until = Instant::now() + self.patience;
        loop {
            let file = self.open(true, Mode::Shared, until)?;
            let found = self.newest(&file)?;
            if check(found.stamp(), shown)? == Admission::Known && found.pending().is_none() {
                return Ok(Entry(file));
            }
            drop(file);
            let file = self.open(true, Mode::Alone, until)?;
            let before = self.newest(&file)?;
            match check(before.stamp(), shown)? {
                Admission::Record => self.write(&file, &before, shown)?,
                Admission::Known => self.settle(&file, &before)?,
            }
            // Take the lock again, shared: others with the same token may enter. A higher token may come first.
        }
    }

    /// The highest token that was seen, and its domain; `None` if no access was ever admitted. Changes nothing, so the
    /// token may not be on disk yet.
    ///
    /// # Errors
    /// As the failures of [`check`](FenceFile::check).
    pub fn read(&self) -> Result<Option<Stamp>> {
        if !self.path.try_exists().map_err(|e| self.failed("looked at", e))? {
            return Ok(None);
        }
        let file = self.open(false, Mode::Shared, Instant::now() + self.patience)?;
        Ok(self.newest(&file)?.kept.map(|record| record.stamp))
    }

    /// Raises the fence: it refuses tokens below `token` from now on. Without `token`, it refuses the highest token seen.
    /// Returns the fence as it is now, which is never lower than before.
    ///
    /// # Errors
    /// Like [`check`](FenceFile::check); `Config` if no access was admitted yet and `domain` or `token` is missing.
    pub fn raise(&self, domain: Option<&Domain>, token: Option<Token>) -> Result<Stamp, CheckError> {
        let file = self.open(true, Mode::Alone, Instant::now() + self.patience)?;
        let before = self.newest(&file)?;
        self.settle(&file, &before)?;
        let to = match (before.stamp(), domain, token) {
            (Some(seen), _, _) => {
                let above = Token::new(seen.token().get().saturating_add(1)).unwrap_or(seen.token());
                Stamp::new(domain.unwrap_or(seen.domain()).clone(), token.unwrap_or(above))
            }
            (None, Some(domain), Some(token)) => Stamp::new(domain.clone(), token),
            (None, ..) => {
                let what = format!("{} has seen no token yet", self.path.display());
                return Err(Error::config(what, "give the domain and the token").into());
            }
        };
        match check(before.stamp(), &to) {
            Ok(Admission::Record) => self.write(&file, &before, &to)?,
            Ok(Admission::Known) => {}
            Err(super::Refusal::Stale { highest, .. }) => {
                return Ok(Stamp::new(to.domain().clone(), highest));
            }
            Err(refusal) => return Err(refusal.into()),
        }
        Ok(to)
    }

    /// Forgets the tokens seen so far and starts with this domain and token. Operators use it to move a resource to another
    /// store, or to replace a damaged file. Tokens of the old store are refused from now on.
    ///
    /// # Errors
    /// Like the failures of [`check`](FenceFile::check), except for a damaged file.
    pub fn reset(&self, to: &Stamp) -> Result<()> {
        let file = self.open(true, Mode::Alone, Instant::now() + self.patience)?;
        let before = read_both(&file).map_err(|e| self.failed("read", e))?;
        // Serial numbers that are used up are no obstacle here.
        let used_up = before.kept.as_ref().is_some_and(|record| record.serial == u64::MAX);
        let before = if used_up { Found { kept: None, fresh: false } } else { before };
        self.write(&file, &before, to)
    }

    /// Opens and locks the file, and makes sure that others find the same file under this name.
    fn open(&self, make: bool, mode: Mode, until: Instant) -> Result<File> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).write(make).create(make).truncate(false).custom_flags(flags);
        loop {
            let file = options.open(&self.path).map_err(|e| self.failed("opened", e))?;
            let stat = file.metadata().map_err(|e| self.failed("looked at", e))?;
            if !stat.is_file() {
                return Err(Error::denied(
                    format!("{} is not a plain file", self.path.display()),
                    "name a file of its own",
                ));
            }
            self.lock(&file, mode, until)?;
            match std::fs::symlink_metadata(&self.path) {
                Ok(there) if (there.dev(), there.ino()) == (stat.dev(), stat.ino()) => return Ok(file),
                // Removed or replaced while we waited.
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound && make => {}
                Err(e) => return Err(self.failed("looked at", e)),
            }
        }
    }

    fn lock(&self, file: &File, mode: Mode, until: Instant) -> Result<()> {
        let mut pause = Duration::from_micros(200);
        loop {
            let tried = match mode {
                Mode::Shared => file.try_lock_shared(),
                Mode::Alone => file.try_lock(),
            };
            match tried {
                Ok(()) => return Ok(()),
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(TryLockError::Error(e)) => return Err(self.failed("locked", e)),
                Err(TryLockError::WouldBlock) => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::unavailable(
                    format!(
                        "another process has kept {} locked for {:?}",
                        self.path.display(),
                        self.patience
                    ),
                    "find it with fuser or lsof; it may be stopped: continue or kill it",
                ));
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(PAUSE);
        }
    }

    fn newest(&self, file: &File) -> Result<Found> {
        let found = read_both(file).map_err(|e| self.failed("read", e))?;
        if found.kept.is_none() && !found.fresh {
            return Err(Error::protocol(
                format!("{} is damaged, or of another version", self.path.display()),
                "find out the highest token and run tenure fence reset",
            ));
        }
        Ok(found)
    }

    /// Writes a newer record, and brings it to disk.
    fn write(&self, file: &File, before: &Found, stamp: &Stamp) -> Result<()> {
        let io = |e| self.failed("written", e);
        let Some(newest) = &before.kept else {
            record::put(file, 0, 0, stamp).map_err(io)?;
            // A reset of a damaged file leaves no remains in the other place.
            file.set_len(PLACE as u64).map_err(io)?;
            return self.sync_whole(file, 0);
        };
        let Some(serial) = newest.serial.checked_add(1) else {
            return Err(Error::protocol(
                format!("{} has used up its serial numbers, so it is damaged", self.path.display()),
                "find out the highest token and run tenure fence reset",
            ));
        };
        // Not over the newest record: if this write is torn, that one remains.
        let place = 1 - newest.place;
        record::put(file, place, serial, stamp).map_err(io)?;
        file.sync_data().and_then(|()| record::mark(file, place)).map_err(io)
    }

    /// Brings the newest record to disk if it may not be there: its writer was killed, or its sync failed. It is written
    /// once more, because after a failed sync the kernel takes the page for clean.
    fn settle(&self, file: &File, found: &Found) -> Result<()> {
        let Some(pending) = found.pending() else { return Ok(()) };
        record::put(file, pending.place, pending.serial, &pending.stamp)
            .map_err(|e| self.failed("written", e))?;
        self.sync_whole(file, pending.place)
    }

    /// Syncs the file and its name in the directory, then marks the record.
    fn sync_whole(&self, file: &File, place: usize) -> Result<()> {
        let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = file.sync_all().and_then(|()| File::open(parent)?.sync_all());
        synced.and_then(|()| record::mark(file, place)).map_err(|e| self.failed("written", e))
    }

    fn failed(&self, how: &str, error: io::Error) -> Error {
        let what = format!("the fence {} cannot be {how}: {error}", self.path.display());
        let link = rustix::io::Errno::LOOP.raw_os_error();
        let made = match error.kind() {
            _ if error.raw_os_error() == Some(link) => {
                Error::denied(what, "name the file itself, not a link to it")
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Error::denied(what, "give this user access to the file and its directory")
            }
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                Error::config(what, "name a file in a directory that exists")
            }
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => {
                Error::config(what, "name another file")
            }
            _ => Error::unavailable(what, "try again; if it stays, the file system is in trouble"),
        };
        made.because(error)
    }
}
