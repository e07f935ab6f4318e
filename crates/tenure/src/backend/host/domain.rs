//! Which order of tokens a store gives.
//!
//! In a directory: a random name in a file of its own, which lives as long as the floor of tokens beside it. In shared
//! memory, which is empty after each boot while the tokens go on growing with the clock: this machine and this user. The
//! machine is its name and a digest of its id, since machines made from one image may share either.

use std::fmt::Write;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::create::{lock_builders, unlock_builders, write_all};
use super::format::{checksum, mix};
use super::place::{Dir, keep, refused};
use crate::domain::Domain;
use crate::error::{Error, Result};
use crate::runtime::Runtime;

const FILE: &str = "domain";
const NEW: &str = "domain.new";
/// What the file begins with: the version of its format.
const VERSION: &str = "1 ";
/// More than any file of ours has.
const LONG: usize = 256;

/// The domain of the store in shared memory.
pub(super) fn of_machine() -> Result<Domain> {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let words: Vec<u64> = id.trim().bytes().map(u64::from).collect();
    let digest = mix(checksum(&words)) >> 32;
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Domain::of("host", &format!("{node}.{digest:08x}/{}", rustix::process::geteuid().as_raw()))
}

/// The domain of the store in a directory, named now if nobody ever asked. `live` is its file of byte locks.
pub(super) fn of_directory(dir: &Dir, live: impl AsFd, runtime: &dyn Runtime) -> Result<Domain> {
    if let Some(domain) = read(dir)? {
        return Ok(domain);
    }
    lock_builders(dir, live.as_fd())?;
    let made = match read(dir) {
        Ok(None) => make(dir, runtime),
        Ok(Some(domain)) => Ok(domain),
        Err(error) => Err(error),
    };
    unlock_builders(live.as_fd());
    made
}

fn read(dir: &Dir) -> Result<Option<Domain>> {
    let Some(file) = dir.open_file(FILE, false)? else { return Ok(None) };
    let mut bytes = [0; LONG];
    let n = rustix::io::pread(&file, &mut bytes, 0)
        .map_err(|e| refused(e, "the domain of its tokens cannot be read", &dir.file(FILE)))?;
    let text = std::str::from_utf8(&bytes[..n]).ok().and_then(|t| t.strip_suffix('\n'));
    let domain = text.and_then(|t| t.strip_prefix(VERSION)).and_then(|t| Domain::new(t).ok());
    match domain {
        Some(domain) => Ok(Some(domain)),
        None => Err(Error::protocol(
            format!("{} is damaged, or of another version", dir.file(FILE).display()),
            "remove it, and reset the fences of what its locks protect",
        )),
    }
}

/// Makes the file, under another name until it is whole.
fn make(dir: &Dir, runtime: &dyn Runtime) -> Result<Domain> {
    let mut id = [0; 16];
    runtime.fill(&mut id);
    let name = id.iter().fold(String::new(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    });
    let domain = Domain::of("host", &name)?;
    let write = || -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir.fd, NEW, flags, Mode::RUSR | Mode::WUSR)?;
        keep(file.as_fd());
        write_all(file.as_fd(), format!("{VERSION}{domain}\n").as_bytes(), 0)?;
        rustix::fs::fsync(&file)?;
        rustix::fs::renameat(&dir.fd, NEW, &dir.fd, FILE)?;
        rustix::fs::fsync(&dir.fd)
    };
    write().map_err(|e| refused(e, "the domain of its tokens cannot be written", &dir.file(FILE)))?;
    Ok(domain)
}
