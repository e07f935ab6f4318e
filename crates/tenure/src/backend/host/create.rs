//! Makes the store file, or finds a good one.
//!
//! A store is built under another name and renamed when it is whole, so `store` is absent or complete: a builder that
//! is killed leaves a `store.new`, which the next one removes. Builders exclude each other by a byte of `live` beyond
//! the slots. A file of an earlier boot is replaced (everyone in it is dead); a damaged one, or one of another version,
//! is refused, since somebody may use it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use super::chunks;
use super::files::AHEAD_US;
use super::format::{self, Broken, FRONT, Header, STATIC_WORDS};
use super::place::{Dir, keep, refused};
use super::{faults, floor, sys};
use crate::error::{Error, Result};
use crate::runtime::Runtime;

pub(super) const STORE: &str = "store";
pub(super) const LIVE: &str = "live";
const NEW: &str = "store.new";

/// The byte of `live` that builders lock.
const BUILDER: u32 = 1 << 20;
const BUILDER_WAIT: Duration = Duration::from_secs(10);

/// What there is in a directory.
pub(super) enum Found {
    Good(OwnedFd, Header),
    Missing,
    EarlierBoot,
}

/// The store of a directory, built if need be.
pub(super) fn open(dir: &Dir, live: BorrowedFd<'_>, runtime: &dyn Runtime) -> Result<(OwnedFd, Header)> {
    let boot = boot_id()?;
    if let Found::Good(file, header) = find(dir, boot)? {
        return Ok((file, header));
    }
    lock_builders(dir, live)?;
    let result = match find(dir, boot) {
        Ok(Found::Good(file, header)) => Ok((file, header)),
        Ok(Found::Missing | Found::EarlierBoot) => build(dir, live, boot, runtime),
        Err(e) => Err(e),
    };
    unlock_builders(live);
    result
}

/// Looks for the store. This opens and closes its file, so this process must have no locks on it.
pub(super) fn find(dir: &Dir, boot: u128) -> Result<Found> {
    let Some(file) = dir.open_file(STORE, false)? else { return Ok(Found::Missing) };
    let path = dir.file(STORE);
    let io = |e: Errno| refused(e, "the store cannot be read", &path);
    let size = rustix::fs::fstat(&file).map_err(io)?.st_size.unsigned_abs();
    let mut bytes = [0; STATIC_WORDS * 8];
    let got = rustix::io::pread(&file, &mut bytes, 0).map_err(io)?;
    if got < bytes.len() {
        return Err(damaged(&path, &format!("is cut off: it has {size} bytes")));
    }
    let mut words = [0; STATIC_WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_ne_bytes(*chunk);
    }
    match Header::read(&words) {
        Ok(header) if header.boot != boot => Ok(Found::EarlierBoot),
        Ok(_) if size < FRONT as u64 => {
            Err(damaged(&path, &format!("is cut off: it has {size} bytes instead of at least {FRONT}")))
        }
        Ok(header) => Ok(Found::Good(file, header)),
        Err(Broken::Foreign) => Err(damaged(&path, "is not a store of Tenure")),
        Err(Broken::Layout(other)) => Err(Error::protocol(
            format!(
                "{} has layout {other}, and this program knows layout {}",
                path.display(),
                format::LAYOUT
            ),
            "run the same version everywhere; or stop the processes that use it and remove it",
        )),
        Err(Broken::Damaged) => Err(damaged(&path, "has a damaged header")),
    }
}

/// A store file that cannot be used.
pub(super) fn damaged(path: &Path, how: &str) -> Error {
    Error::protocol(format!("{} {how}", path.display()), "stop the processes that use it, then remove it")
}

/// Lets the next builder go on.
pub(super) fn unlock_builders(live: BorrowedFd<'_>) {
    let _ = sys::unlock_byte(live, BUILDER);
}

/// Waits until no other process builds anything in the directory.
pub(super) fn lock_builders(dir: &Dir, live: BorrowedFd<'_>) -> Result<()> {
    let until = Instant::now() + BUILDER_WAIT;
    loop {
        match sys::lock_byte(live, BUILDER) {
            Ok(true) => return Ok(()),
            Ok(false) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            Ok(false) => {
                let pid = sys::locker(live, BUILDER, 1).ok().flatten().unwrap_or(0);
                return Err(Error::unavailable(
                    format!("process {pid} has been making the store in {} for seconds", dir.path.display()),
                    "it may be stopped: let it go on, or kill it",
                ));
            }
            Err(e) => {
                return Err(Error::unavailable(
                    format!("{} cannot be locked", dir.file(LIVE).display()),
                    "use a file system that has POSIX record locks",
                )
                .because(e));
            }
        }
    }
}

fn build(dir: &Dir, live: BorrowedFd<'_>, boot: u128, runtime: &dyn Runtime) -> Result<(OwnedFd, Header)> {
    if let Ok(Some(pid)) = sys::locker(live, 1, BUILDER - 1) {
        return Err(Error::unavailable(
            format!(
                "{} was removed while process {pid} and perhaps others use it",
                dir.file(STORE).display()
            ),
            "stop them first: they believe that they hold locks which a new store would give to others",
        ));
    }
    let path = dir.file(NEW);
    let io = |what: &'static str| {
        let path = &path;
        move |e: Errno| refused(e, what, path)
    };
    let known = if dir.durable { floor::read(dir)?.unwrap_or(0) } else { 0 };
    // There may have been another store here, which somebody uses still.
    let now = i64::try_from(runtime.wall_us()).unwrap_or(i64::MAX);
    let floor = known.max(now.saturating_add(AHEAD_US));
    let mut seed = [0; 8];
    runtime.fill(&mut seed);
    let header = Header { boot, seed: u64::from_ne_bytes(seed), floor };

    match rustix::fs::unlinkat(&dir.fd, NEW, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(refused(e, "the remains of an unfinished store cannot be removed", &path)),
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = rustix::fs::openat(&dir.fd, NEW, flags, mode).map_err(io("the store cannot be made"))?;
    keep(file.as_fd());
    faults::point();
    let filled = fill(file.as_fd(), &header, dir.durable);
    if let Err(e) = filled {
        let _ = rustix::fs::unlinkat(&dir.fd, NEW, AtFlags::empty());
        return Err(refused(e, "the store cannot be made", &path));
    }
    faults::point();
    rustix::fs::renameat(&dir.fd, NEW, &dir.fd, STORE).map_err(io("the store cannot be put in its place"))?;
    faults::point();
    Ok((file, header))
}

fn fill(file: BorrowedFd<'_>, header: &Header, durable: bool) -> Result<(), Errno> {
    let len = FRONT as u64;
    if file_limit() < len {
        return Err(Errno::FBIG); // asking anyway would end in SIGXFSZ
    }
    rustix::fs::ftruncate(file, len)?;
    for (at, len) in format::front_bytes() {
        allocate(file, at, len)?;
        faults::point();
    }
    for area in 0..format::AREAS * format::SHARDS {
        let Some(at) = format::first_chunk(area) else { break };
        put(file, format::shard::cells_w(area), &[chunks::CELLS_FIRST as u64])?;
        put(file, format::shard::chunk_w(area, 0), &[at])?;
    }
    put(file, format::header::END_W, &[len])?;
    put(
        file,
        format::header::CEILING_W,
        &[if durable { header.floor.unsigned_abs() } else { i64::MAX as u64 }],
    )?;
    put(file, 0, &header.words())
}

/// Writes words at an index of words.
fn put(file: BorrowedFd<'_>, at: usize, words: &[u64]) -> Result<(), Errno> {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    write_all(file, &bytes, (at * 8) as u64)
}

/// Writes all of `bytes`.
pub(super) fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8], mut at: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, at) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(n) => {
                bytes = &bytes[n..];
                at += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Makes room for a range of the file that nobody has touched yet, so that storing into the mapping cannot run out of
/// disk.
pub(super) fn allocate(file: BorrowedFd<'_>, at: u64, len: u64) -> Result<(), Errno> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, at, len) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return write_zeros(file, at, len),
            other => return other,
        }
    }
}

/// Adds a range of `len` bytes, a power of two, to the file, aligned to its length; says where. `end` is the word that says
/// how much of the file is in use. Others may do the same at the same time, or be killed or stopped in the middle of it.
pub(super) fn append(file: BorrowedFd<'_>, end: &AtomicU64, len: u64) -> Result<u64, Errno> {
    loop {
        let used = end.load(Acquire);
        let at = used.checked_next_multiple_of(len).ok_or(Errno::FBIG)?;
        let next = at.checked_add(len).ok_or(Errno::FBIG)?;
        if file_limit() < next {
            return Err(Errno::FBIG); // asking anyway would end in SIGXFSZ
        }
        let take = || end.compare_exchange(used, next, AcqRel, Relaxed).is_ok();
        // First the room and then the claim to it: a refusal needs no undoing, and several may allocate the same range.
        match rustix::fs::fallocate(file, FallocateFlags::empty(), at, len) {
            Ok(()) => {
                faults::point();
                if take() {
                    return Ok(at);
                }
            }
            Err(Errno::INTR) => {}
            // A file system that cannot do it. What others use by now must not be written, so the claim comes first.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                if take() {
                    return write_zeros(file, at, len).map(|()| at).inspect_err(|_| {
                        let _ = end.compare_exchange(next, used, AcqRel, Relaxed);
                    });
                }
            }
            Err(e) => return Err(e),
        }
    }
}

fn write_zeros(file: BorrowedFd<'_>, at: u64, len: u64) -> Result<(), Errno> {
    if file_limit() < at + len {
        return Err(Errno::FBIG);
    }
    let zeros = vec![0; 64 << 10];
    let mut done = 0;
    while done < len {
        let n = usize::try_from(len - done).map_or(zeros.len(), |n| n.min(zeros.len()));
        write_all(file, &zeros[..n], at + done)?;
        done += n as u64;
    }
    Ok(())
}

/// The longest file that this process may make.
fn file_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current.unwrap_or(u64::MAX)
}

/// The running kernel's boot id.
pub(super) fn boot_id() -> Result<u128> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(PATH).map_err(|e| {
        let full =
            [Errno::MFILE, Errno::NFILE].iter().any(|full| e.raw_os_error() == Some(full.raw_os_error()));
        let advice = match full {
            true => "allow more open files (ulimit -n)",
            false => "host: needs /proc, to know a reboot",
        };
        Error::unavailable(format!("{PATH} cannot be read: {e}"), advice).because(e)
    })?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&digits, 16).map_err(|e| {
        Error::unavailable(format!("{PATH} holds no boot id"), "host: needs it, to know a reboot").because(e)
    })
}
