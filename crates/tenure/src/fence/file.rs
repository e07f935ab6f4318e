//! A fence in a file beside the resource: for files, and whatever else programs of one machine share.
//!
//! The file has two places of 512 bytes, written in turn, so that a torn write leaves the older record; each is a line of
//! text with a checksum. What it protects is done under the file's lock (`flock`): shared among accesses with the same
//! token, alone for one that registers a higher token, which so waits for whoever is still inside with a lower one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::rule::{Admission, CheckError, Stamp, check};
use crate::domain::Domain;
use crate::error::{Error, Result};
use crate::token::Token;

/// Bytes of one place: a sector.
const PLACE: usize = 512;
/// What a record begins with: what it is, and the version of its format.
const VERSION: &str = "tenure-fence 1";
/// How long to wait for others who are inside.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// A fence in a file: the highest token that was seen, and its domain.
///
/// Whoever may write the file may forge it, so give it the owner and the mode of the resource. Local file systems only:
/// over a network, `flock` may exclude nobody.
///
/// All calls block, for the disk and for others who are inside: in asynchronous code, call them where blocking is allowed.
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

/// An access that was admitted. Nobody with a higher token is admitted while it lives.
///
/// Keep it for as long as the effect takes and no longer: a process that is stopped inside keeps the next holder out until
/// it goes on or is killed, which ends its access, as with any `flock`.
///
/// # On drop
/// The access ends.
#[derive(Debug)]
#[must_use = "dropping it ends the access"]
pub struct Entry(File);

impl AsFd for Entry {
    /// The file whose lock is the access: it lasts as long as any copy of this descriptor is open.
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
    /// The fence in this file, which is made by the first access. Touches nothing yet.
    pub fn new(path: impl Into<PathBuf>) -> FenceFile {
        FenceFile { path: path.into(), patience: PATIENCE }
    }

    /// How long to wait for others who are inside; 10 s by default.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> FenceFile {
        self.patience = patience;
        self
    }

    /// Admits an access and registers its token, which is on disk when this returns. Call it for reads too.
    ///
    /// What happens after this returns is no longer under the fence: see [`enter`](FenceFile::enter).
    ///
    /// # Errors
    /// [`CheckError::Refused`]; [`CheckError::Failed`] where the file cannot be read or written (`Denied`, `Config`,
    /// `Unavailable`), is damaged (`Protocol`), or others stay inside for too long (`Unavailable`).
    pub fn check(&self, shown: &Stamp) -> Result<(), CheckError> {
        self.enter(shown).map(drop)
    }

    /// Admits an access, registers its token, and keeps higher tokens out until the answer is dropped.
    ///
    /// # Errors
    /// As [`check`](FenceFile::check).
    pub fn enter(&self, shown: &Stamp) -> Result<Entry, CheckError> {
        let until = Instant::now() + self.patience;
        loop {
            let file = self.open(true, Mode::Shared, until)?;
            if check(self.newest(&file)?.stamp(), shown)? == Admission::Known {
                return Ok(Entry(file));
            }
            drop(file);
            let file = self.open(true, Mode::Alone, until)?;
            let before = self.newest(&file)?;
            if check(before.stamp(), shown)? == Admission::Record {
                self.write(&file, &before, shown)?;
            }
            // Others with the same token may come in; a higher one may have come in first.
        }
    }

    /// The highest token that was seen, and its domain; `None` where nobody was ever admitted. Changes nothing.
    ///
    /// # Errors
    /// As the failures of [`check`](FenceFile::check).
    pub fn read(&self) -> Result<Option<Stamp>> {
        if !self.path.try_exists().map_err(|e| self.failed("looked at", e))? {
            return Ok(None);
        }
        let file = self.open(false, Mode::Shared, Instant::now() + self.patience)?;
        Ok(self.newest(&file)?.kept.map(|(_, stamp)| stamp))
    }

    /// Raises the fence: from now on tokens below `token` are refused, and without one the highest that was seen.
    /// Answers what it is now, which is never less than before.
    ///
    /// # Errors
    /// As [`check`](FenceFile::check); `Config` where nobody was admitted yet and `domain` or `token` is missing.
    pub fn raise(&self, domain: Option<&Domain>, token: Option<Token>) -> Result<Stamp, CheckError> {
        let file = self.open(true, Mode::Alone, Instant::now() + self.patience)?;
        let before = self.newest(&file)?;
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

    /// Forgets what was seen, and begins with this domain and token: how an operator moves a resource to another store, or
    /// replaces a damaged file. Whoever still holds a token of the old store is refused from now on.
    ///
    /// # Errors
    /// As the failures of [`check`](FenceFile::check), a damaged file excepted.
    pub fn reset(&self, to: &Stamp) -> Result<()> {
        let file = self.open(true, Mode::Alone, Instant::now() + self.patience)?;
        let before = read_both(&file).map_err(|e| self.failed("read", e))?;
        self.write(&file, &before, to)
    }

    /// Opens and locks the file, and makes sure that it is the one that others find under this name.
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
                        "another process has stayed inside {} for {:?}",
                        self.path.display(),
                        self.patience
                    ),
                    "find it with fuser or lsof: it may be stopped, so let it go on or kill it",
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

    fn write(&self, file: &File, before: &Found, stamp: &Stamp) -> Result<()> {
        let io = |e| self.failed("written", e);
        let serial = before.kept.as_ref().map_or(0, |(serial, _)| serial.wrapping_add(1));
        file.write_all_at(&encode(serial, stamp), serial % 2 * PLACE as u64).map_err(io)?;
        if before.kept.is_some() {
            return file.sync_data().map_err(io);
        }
        // A reset of a damaged file leaves no remains in the other place.
        file.set_len(PLACE as u64).map_err(io)?;
        file.sync_all().map_err(io)?;
        let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(io)
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

/// What is in the file.
struct Found {
    /// The newest good record, with its serial number.
    kept: Option<(u64, Stamp)>,
    /// Nobody has ever written anything.
    fresh: bool,
}

impl Found {
    fn stamp(&self) -> Option<&Stamp> {
        self.kept.as_ref().map(|(_, stamp)| stamp)
    }
}

fn read_both(file: &File) -> io::Result<Found> {
    let mut bytes = [0; 2 * PLACE];
    let mut n = 0;
    while n < bytes.len() {
        match file.read_at(&mut bytes[n..], n as u64) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let places = bytes.chunks(PLACE).filter_map(decode);
    let kept = places.max_by_key(|(serial, _)| *serial);
    // A record that was never synced was never relied on: its bytes may still be zeros after a loss of power.
    Ok(Found { kept, fresh: bytes.iter().all(|b| *b == 0) })
}

fn encode(serial: u64, stamp: &Stamp) -> [u8; PLACE] {
    let text = format!("{VERSION} {serial} {} {}", stamp.token(), stamp.domain());
    let line = format!("{text} {:016x}", checksum(text.as_bytes()));
    let mut bytes = [b' '; PLACE];
    // The longest: 14 + 20 + 19 + 200 + 16 and four spaces.
    for (place, byte) in bytes.iter_mut().zip(line.bytes()) {
        *place = byte;
    }
    bytes[PLACE - 1] = b'\n';
    bytes
}

fn decode(bytes: &[u8]) -> Option<(u64, Stamp)> {
    let line = std::str::from_utf8(bytes).ok()?.trim_end();
    let (text, sum) = line.rsplit_once(' ')?;
    if sum != format!("{:016x}", checksum(text.as_bytes())) {
        return None;
    }
    let mut words = text.strip_prefix(VERSION)?.strip_prefix(' ')?.split(' ');
    let (serial, token, domain) = (words.next()?, words.next()?, words.next()?);
    let stamp = Stamp::new(Domain::new(domain).ok()?, token.parse().ok()?);
    Some((serial.parse().ok()?, stamp))
}

/// FNV-1a of 64 bits: notices torn and flipped bytes; no defence against malice.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_record_fits_and_every_flipped_bit_is_noticed() {
        let domain = Domain::new(&"d".repeat(200)).expect("a domain");
        let stamp = Stamp::new(domain, Token::new(i64::MAX).expect("a token"));
        let bytes = encode(u64::MAX, &stamp);
        assert_eq!(decode(&bytes), Some((u64::MAX, stamp)));
        let end = bytes.iter().rposition(|b| !b.is_ascii_whitespace()).expect("a text");
        assert!(end < PLACE - 1);
        for at in 0..=end {
            for bit in 0..8 {
                let mut flipped = bytes;
                flipped[at] ^= 1 << bit;
                assert_eq!(decode(&flipped), None, "byte {at} bit {bit}");
            }
        }
    }
}
