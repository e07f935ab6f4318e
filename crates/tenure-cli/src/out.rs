//! Where the command writes.

use std::io::{ErrorKind, IsTerminal, Write};

use crate::exit::Failure;

/// Writes to stdout.
///
/// # Errors
/// A failure of its own where stdout cannot be written. That the reader went away (`tenure ls | head -1`) is none: it
/// has what it wanted, and the command ends with 0.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::silent(0)),
        Err(error) => Err(Failure::new(1, "stdout cannot be written", "check where it goes").because(&error)),
    }
}

/// Whether stdout was closed when the process started. Rust's runtime opens `/dev/null` in its place then, for reading and
/// writing, so what is written there is lost without an error. A shell's `> /dev/null` opens it for writing alone.
pub(crate) fn is_closed() -> bool {
    use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, stat};
    let out = rustix::stdio::stdout();
    let (Ok(flags), Ok(here)) = (fcntl_getfl(out), fstat(out)) else { return true };
    let device = FileType::from_raw_mode(here.st_mode) == FileType::CharacterDevice;
    let null = device && stat("/dev/null").is_ok_and(|null| null.st_rdev == here.st_rdev);
    null && flags & OFlags::RWMODE == OFlags::RDWR
}

/// Writes to stderr. Nothing can be done where that fails, and nothing is.
pub(crate) fn note(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Whether to write colours there: a terminal that understands them, and nobody who asked for none.
pub(crate) fn colour(to: &impl IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    to.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}
