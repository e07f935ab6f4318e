//! Byte locks of the `live` file. POSIX record locks: the only kind of lock that the kernel drops at the death of the
//! *process*, that another pid namespace sees, and that a forked child does not inherit.
//!
//! Their one trap: closing *any* descriptor of the file drops all locks that the process has on it. So the file is
//! opened once per process and directory (`registry`), and nothing else may open it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Locks one byte for this process. `false`: another process has it.
pub(super) fn lock_byte(file: BorrowedFd<'_>, at: u32) -> io::Result<bool> {
    let mut range = range(libc::F_WRLCK, at, 1);
    match control(file, libc::F_SETLK, &mut range) {
        Ok(()) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Unlocks one byte.
pub(super) fn unlock_byte(file: BorrowedFd<'_>, at: u32) -> io::Result<()> {
    control(file, libc::F_SETLK, &mut range(libc::F_UNLCK, at, 1))
}

/// Who, other than this process, has locked one of `len` bytes from `at` on: its pid as seen from here, 0 where it
/// cannot be seen. This process's own locks are never reported.
pub(super) fn locker(file: BorrowedFd<'_>, at: u32, len: u32) -> io::Result<Option<i32>> {
    let mut range = range(libc::F_WRLCK, at, len);
    control(file, libc::F_GETLK, &mut range)?;
    Ok((i32::from(range.l_type) != libc::F_UNLCK).then_some(range.l_pid.max(0)))
}

/// Stops this process, at this very instruction of this thread, until somebody lets it go on.
#[cfg(feature = "unstable")]
pub(super) fn stop_here() {
    // SAFETY: `raise` takes no pointer, and the default action of this signal runs no code of this program.
    let _ = unsafe { libc::raise(libc::SIGSTOP) };
}

#[allow(clippy::cast_possible_truncation)] // constants of a few bits, whose type differs between targets
fn range(kind: i32, at: u32, len: u32) -> libc::flock {
    // SAFETY: `flock` is a plain C structure of integers, for which zero is valid.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as _;
    range.l_whence = libc::SEEK_SET as _;
    range.l_start = libc::off_t::from(at);
    range.l_len = libc::off_t::from(len);
    range
}

fn control(file: BorrowedFd<'_>, verb: i32, range: &mut libc::flock) -> io::Result<()> {
    loop {
        // SAFETY: the descriptor is open for as long as it is borrowed; these verbs take a pointer to a `flock`,
        // which is valid for reading and writing during the call.
        if unsafe { libc::fcntl(file.as_raw_fd(), verb, ptr::from_mut(range)) } != -1 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
