//! The durable floor of tokens: a small file in which each process has two checksummed copies, written in turn. The
//! floor is the highest of all.
//!
//! No token at or above the ceiling is given before a higher ceiling has reached the disk. So a store that is built
//! anew (after a reboot, or because it was removed) starts above every token that was ever given, even if the clock
//! went back; and since the ceiling is raised a minute ahead, almost no grant waits for the disk.
//!
//! A process writes to pages of its own only, and never lowers what is there. So several may raise the floor at once:
//! whoever stops in the middle of it is in nobody's way, and does no harm when it goes on.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::chunks::PAGE;
use super::create::write_all;
use super::faults;
use super::format::{checksum, mix};
use super::place::{Dir, keep, refused};
use crate::error::{Error, Result};

const FLOOR: &str = "floor";
const MAGIC: u64 = u64::from_le_bytes(*b"floor\r\n\x01");
/// How far ahead of need the ceiling is raised: a minute of tokens.
const AHEAD: i64 = 60_000_000;

/// One copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    serial: u64,
    floor: i64,
}

/// Where a copy may be: in a page of its own, since a disk may tear what it writes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// Nothing was ever written here.
    Bare,
    /// A write that did not end.
    Torn,
    Holds(Entry),
}

/// The floor that is on disk; `None` where there never was one.
pub(super) fn read(dir: &Dir) -> Result<Option<i64>> {
    let Some(file) = dir.open_file(FLOOR, false)? else { return Ok(None) };
    let length = rustix::fs::fstat(&file).map_err(|e| unreadable(dir, e))?.st_size.unsigned_abs();
    let slots = u32::try_from(length.div_ceil(2 * PAGE as u64)).unwrap_or(u32::MAX);
    let mut best = None;
    for slot in 0..slots {
        best = best.max(newest(dir, file.as_fd(), slot)?.map(|(_, entry)| entry.floor));
    }
    best.map(Some).ok_or_else(|| damaged(dir))
}

/// Makes sure that the floor on disk is above `needed`, and returns it. One caller at a time for each slot.
pub(super) fn raise(dir: &Dir, slot: u32, needed: i64, wall_us: u64) -> Result<i64> {
    let io = |e: Errno| refused(e, "the token floor cannot be written", &dir.file(FLOOR));
    let now = i64::try_from(wall_us).unwrap_or(i64::MAX);
    let floor = needed.max(now).saturating_add(AHEAD);
    loop {
        let Some(file) = dir.open_file(FLOOR, false)? else {
            if make(dir, slot, floor).map_err(io)? {
                return Ok(floor);
            }
            continue; // somebody else was faster
        };
        let (page, next) = match newest(dir, file.as_fd(), slot)? {
            // The older copy is overwritten, so a torn write leaves the newer one.
            Some((page, before)) => {
                (1 - page, Entry { serial: before.serial + 1, floor: floor.max(before.floor) })
            }
            None => (0, Entry { serial: 1, floor }),
        };
        faults::point();
        next.write(file.as_fd(), at(slot, page)).map_err(io)?;
        faults::point();
        rustix::fs::fdatasync(&file).map_err(io)?;
        faults::point();
        return Ok(next.floor);
    }
}

/// Makes the file, under another name until it is whole. False: there is one by now.
fn make(dir: &Dir, slot: u32, floor: i64) -> Result<bool, Errno> {
    let new = format!("{FLOOR}.new.{slot}");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir.fd, &new, flags, Mode::RUSR | Mode::WUSR)?;
    keep(file.as_fd());
    faults::point();
    for (page, serial) in [(0, 1), (1, 2)] {
        Entry { serial, floor }.write(file.as_fd(), at(slot, page))?;
    }
    rustix::fs::fsync(&file)?;
    faults::point();
    // Not over one that somebody else has made meanwhile: it may be higher.
    match rustix::fs::renameat_with(&dir.fd, &new, &dir.fd, FLOOR, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(&dir.fd, &new, AtFlags::empty())?;
            return Ok(false);
        }
        // A file system that cannot do it at once.
        Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(&dir.fd, &new, &dir.fd, FLOOR)?,
        other => other?,
    }
    faults::point();
    rustix::fs::fsync(&dir.fd)?;
    Ok(true)
}

/// Where a slot has one of its two copies.
fn at(slot: u32, page: u32) -> u64 {
    (u64::from(slot) * 2 + u64::from(page)) * PAGE as u64
}

/// The newer copy of a slot, and in which of its pages it is.
fn newest(dir: &Dir, file: BorrowedFd<'_>, slot: u32) -> Result<Option<(u32, Entry)>> {
    let mut copies = [Page::Bare; 2];
    for (page, copy) in (0..).zip(&mut copies) {
        let mut bytes = [0; 32];
        rustix::io::pread(file, &mut bytes, at(slot, page)).map_err(|e| unreadable(dir, e))?;
        *copy = Page::read(&bytes);
    }
    let whole = |(page, copy): (u32, Page)| match copy {
        Page::Holds(entry) => Some((page, entry)),
        Page::Bare | Page::Torn => None,
    };
    match (0..).zip(copies).filter_map(whole).max_by_key(|(_, entry)| entry.serial) {
        // One torn write is a raise that did not end; before the second one the first would have been seen.
        None if copies == [Page::Torn; 2] => Err(damaged(dir)),
        newest => Ok(newest),
    }
}

fn unreadable(dir: &Dir, error: Errno) -> Error {
    refused(error, "the token floor cannot be read", &dir.file(FLOOR))
}

fn damaged(dir: &Dir) -> Error {
    Error::protocol(
        format!("{} is damaged: the highest token ever given is unknown", dir.file(FLOOR).display()),
        "if this machine's clock has never gone back, stop the processes that use the store and remove this file",
    )
}

impl Page {
    fn read(bytes: &[u8; 32]) -> Page {
        if bytes.iter().all(|byte| *byte == 0) {
            return Page::Bare;
        }
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        match i64::try_from(words[2]) {
            Ok(floor) if (Entry { serial: words[1], floor }).words() == words => {
                Page::Holds(Entry { serial: words[1], floor })
            }
            _ => Page::Torn,
        }
    }
}

impl Entry {
    fn words(self) -> [u64; 4] {
        let mut words = [MAGIC, self.serial, self.floor.unsigned_abs(), 0];
        words[3] = mix(checksum(&words[..3]));
        words
    }

    fn write(self, file: BorrowedFd<'_>, at: u64) -> Result<(), Errno> {
        let bytes: Vec<u8> = self.words().iter().flat_map(|w| w.to_le_bytes()).collect();
        write_all(file, &bytes, at)
    }
}
