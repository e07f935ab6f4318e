//! The process that becomes the command.
//!
//! The guardian must be the command's parent, and it must live in a session of its own: a parent in another process
//! group of the same session would decide whether the caller's group counts as orphaned, and the kernel sends SIGHUP to
//! a group with a stopped process when it becomes orphaned. A process cannot move into another session. Therefore the
//! launcher is forked before the guardian leaves: it stays in the session and group of `tenure run`, waits for the
//! grant, and then executes the command with what the guardian tells it.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::net::{SendFlags, send};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

use super::sys::{self, Inherited, Side};
use super::wire::Link;
use crate::exit::NOT_EXECUTABLE;

/// What stands at the end of an order: without it the guardian died while it wrote.
const END: &[u8] = b"go";

/// How the command's environment differs from that of `tenure run`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Order(Vec<(OsString, Option<OsString>)>);

impl Order {
    /// Sets a variable.
    pub(super) fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        self.0.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
    }

    /// Removes a variable.
    pub(super) fn env_remove(&mut self, name: impl AsRef<OsStr>) {
        self.0.push((name.as_ref().to_owned(), None));
    }

    /// `name=value` sets, `name` alone removes; NUL, which neither can hold, ends each.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in &self.0 {
            out.extend(name.as_bytes());
            if let Some(value) = value {
                out.push(b'=');
                out.extend(value.as_bytes());
            }
            out.push(0);
        }
        out.extend(END);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Order> {
        let owned = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let one = |entry: &[u8]| match entry.iter().position(|b| *b == b'=') {
            Some(at) => (owned(&entry[..at]), Some(owned(&entry[at + 1..]))),
            None => (owned(entry), None),
        };
        let entries = bytes.strip_suffix(END)?;
        Some(Order(entries.split(|b| *b == 0).filter(|entry| !entry.is_empty()).map(one).collect()))
    }
}

/// The guardian's side.
#[derive(Debug)]
pub(super) struct Launcher {
    pid: i32,
    orders: UnixStream,
    /// It has become the command, and is the supervision's to wait for.
    started: Cell<bool>,
}

impl Launcher {
    /// Forks it, in the session and the process group of the caller. `link` is the guardian's, which the new process
    /// must not keep open.
    ///
    /// # Errors
    /// No memory, too many processes, too many open files.
    pub(super) fn fork(
        link: Link,
        inherited: Inherited,
        words: &[OsString],
        run: Pid,
    ) -> (Link, io::Result<Launcher>) {
        let guardian = rustix::process::getpid();
        let forked = UnixStream::pair().and_then(|pair| Ok((pair, sys::fork()?)));
        match forked {
            Err(error) => (link, Err(error)),
            Ok(((ours, theirs), Side::Child)) => {
                drop((link, ours));
                inherited.restore();
                // Without the tie nobody would stop the command if the guardian were killed.
                let error = match sys::die_with(guardian) {
                    Ok(()) => become_command(&theirs, inherited, words, run),
                    Err(error) => error,
                };
                let number = error.raw_os_error().unwrap_or(libc::EINVAL);
                let _ = send(&theirs, &number.to_ne_bytes(), SendFlags::NOSIGNAL);
                sys::leave(NOT_EXECUTABLE.into())
            }
            Ok(((ours, _), Side::Parent(pid))) => {
                (link, Ok(Launcher { pid, orders: ours, started: Cell::new(false) }))
            }
        }
    }

    /// Its process id, which becomes the command's.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Tells it to become the command. It answers with an error, or with the end of its socket.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn order(&self, order: &Order) -> io::Result<()> {
        let bytes = order.encode();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match send(&self.orders, rest, SendFlags::NOSIGNAL) {
                Ok(sent) => rest = &rest[sent..],
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.orders.shutdown(Shutdown::Write)
    }

    /// Once it has the order it may be the command at any moment, with children of its own: from then on only the
    /// supervision can stop it.
    pub(super) fn let_go(self) -> i32 {
        self.started.set(true);
        self.pid
    }

    /// Reads its answer, once it is there. After success it belongs to the supervision: also if a signal killed it
    /// before it was the command, as that could happen to the command.
    ///
    /// # Errors
    /// The command cannot be executed.
    pub(super) fn answer(&mut self) -> io::Result<i32> {
        let mut number = [0; 4];
        match self.orders.read_exact(&mut number) {
            Ok(()) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number))),
            Err(_) => {
                self.started.set(true);
                Ok(self.pid)
            }
        }
    }

    /// How it ended before it was told anything.
    pub(super) fn ended(&self) -> Option<WaitStatus> {
        self.started.set(true); // there is nothing to wait for any more
        waitpid(Pid::from_raw(self.pid), WaitOptions::empty()).ok().flatten().map(|(_, status)| status)
    }
}

impl AsFd for Launcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.orders.as_fd()
    }
}

impl Drop for Launcher {
    /// A command that is not to run. It is our child and nobody else waits for it, so the id is its own. It ends by
    /// itself where nothing can be killed.
    fn drop(&mut self) {
        if !self.started.get()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            let _ = self.orders.shutdown(Shutdown::Both);
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// Waits for the order and executes the command. Returns what prevents it.
fn become_command(mut orders: &UnixStream, inherited: Inherited, words: &[OsString], run: Pid) -> io::Error {
    let mut bytes = Vec::new();
    let order = match orders.read_to_end(&mut bytes) {
        Ok(_) => Order::decode(&bytes),
        Err(error) => return error,
    };
    let (Some(Order(changes)), Some((program, arguments))) = (order, words.split_first()) else {
        sys::leave(0) // there is no grant
    };
    let mut command = Command::new(program);
    command.args(arguments);
    // A service manager means the process that it started, which would be the command without us.
    for name in ["LISTEN_PID", "WATCHDOG_PID"] {
        if std::env::var(name).is_ok_and(|pid| pid == run.to_string()) {
            command.env(name, std::process::id().to_string()).env_remove("LISTEN_PIDFDID");
        }
    }
    for (name, value) in changes {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    inherited.restore_in(&mut command);
    command.exec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_arrives_as_it_was_given_or_not_at_all() {
        let mut order = Order::default();
        order.env("A", "x=y\nz");
        order.env("EMPTY", "");
        order.env_remove("GONE");
        let bytes = order.encode();
        assert_eq!(Order::decode(&bytes), Some(order));
        assert_eq!(Order::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Order::decode(b""), None);
    }
}
