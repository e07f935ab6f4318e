//! The durable floor of tokens: a small file with two checksummed copies, written in turn.
//!
//! No token at or above the ceiling is given before a higher ceiling has reached the disk. So a store that is built
//! anew (after a reboot, or because it was removed) starts above every token that was ever given, even if the clock
//! went back; and since the ceiling is raised a minute ahead, almost no grant waits for the disk.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::create::write_all;
use super::layout::{PAGE, checksum, mix};
use super::place::{Dir, refused};
use crate::error::{Error, Result};

const FLOOR: &str = "floor";
const NEW: &str = "floor.new";
const MAGIC: u64 = u64::from_le_bytes(*b"floor\r\n\x01");
/// How far ahead of need the ceiling is raised: a minute of tokens.
const AHEAD: i64 = 60_000_000;

/// One copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    serial: u64,
    floor: i64,
}

/// The floor that is on disk; `None` where there never was one.
pub(super) fn read(dir: &Dir) -> Result<Option<i64>> {
    match dir.open_file(FLOOR, false)? {
        None => Ok(None),
        Some(file) => newest(dir, file.as_fd()).map(|entry| Some(entry.floor)),
    }
}

/// Makes sure that the floor on disk is above `needed`, and returns it. One caller at a time.
pub(super) fn raise(dir: &Dir, needed: i64, wall_us: u64) -> Result<i64> {
    let io = |e: Errno| refused(e, "the token floor cannot be written", &dir.file(FLOOR));
    let now = i64::try_from(wall_us).unwrap_or(i64::MAX);
    let floor = needed.max(now).saturating_add(AHEAD);
    match dir.open_file(FLOOR, false)? {
        Some(file) => {
            let before = newest(dir, file.as_fd())?;
            // The older copy is overwritten, so a torn write leaves the newer one.
            let next = Entry { serial: before.serial + 1, floor: floor.max(before.floor) };
            next.write(file.as_fd()).map_err(io)?;
            rustix::fs::fdatasync(&file).map_err(io)?;
            Ok(next.floor)
        }
        None => {
            make(dir, floor).map_err(io)?;
            Ok(floor)
        }
    }
}

/// Makes the file, under another name until it is whole.
fn make(dir: &Dir, floor: i64) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir.fd, NEW, flags, Mode::RUSR | Mode::WUSR)?;
    for serial in 1..=2 {
        Entry { serial, floor }.write(file.as_fd())?;
    }
    rustix::fs::fsync(&file)?;
    rustix::fs::renameat(&dir.fd, NEW, &dir.fd, FLOOR)?;
    rustix::fs::fsync(&dir.fd)
}

fn newest(dir: &Dir, file: BorrowedFd<'_>) -> Result<Entry> {
    let path = dir.file(FLOOR);
    let mut best: Option<Entry> = None;
    for place in 0..2 {
        let mut bytes = [0; 32];
        rustix::io::pread(file, &mut bytes, place * PAGE as u64)
            .map_err(|e| refused(e, "the token floor cannot be read", &path))?;
        best = best.into_iter().chain(Entry::read(&bytes)).max_by_key(|e| e.serial);
    }
    best.ok_or_else(|| {
        Error::protocol(
            format!("{} is damaged: the highest token ever given is unknown", path.display()),
            "if this machine's clock has never gone back, stop the processes that use the store and remove this file",
        )
    })
}

impl Entry {
    fn words(self) -> [u64; 4] {
        let mut words = [MAGIC, self.serial, self.floor.unsigned_abs(), 0];
        words[3] = mix(checksum(&words[..3]));
        words
    }

    fn write(self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        let bytes: Vec<u8> = self.words().iter().flat_map(|w| w.to_le_bytes()).collect();
        write_all(file, &bytes, self.serial % 2 * PAGE as u64)
    }

    fn read(bytes: &[u8; 32]) -> Option<Entry> {
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        let copy = Entry { serial: words[1], floor: i64::try_from(words[2]).ok()? };
        (copy.words() == words).then_some(copy)
    }
}
