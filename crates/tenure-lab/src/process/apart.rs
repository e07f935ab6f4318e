//! Workers in a pid namespace of their own.
//!
//! `unshare` makes the namespace and stays outside, as our child. Process 1 inside is a shell, since a process 1 ignores
//! what it sends to itself; the worker is its child. So a signal for the worker goes to another process than the one
//! that we wait for.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{PARENT, ROLE};
use crate::failure::{Doing, Failure, Outcome};
use tenure_servers::process::program;

const FLAGS: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];
/// A shell gives what it starts in the background no input, so it is handed on; and it tells of those that are killed,
/// which nobody wants to read.
const SHELL: &str = r#"exec 3<&0 4>&2 2>/dev/null; "$0" <&3 2>&4 3<&- 4>&- & exec 3<&- 4>&-; wait $!"#;
/// How long a worker may take to appear, or to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there are no pid namespaces here, if so.
pub(crate) fn missing() -> Option<String> {
    if let Some(lacks) = ["unshare", "setpriv"].into_iter().find(|name| program(name).is_none()) {
        return Some(format!("{lacks} is not installed"));
    }
    if !Path::new("/proc/thread-self/children").exists() {
        return Some("the kernel does not tell the children of a process".into());
    }
    let mut command = Command::new("unshare");
    match command.args(FLAGS).arg("true").stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// This executable as a worker of a role, in a namespace of its own.
pub(super) fn command(role: &str) -> Outcome<Command> {
    let program = std::env::current_exe().doing(|| "find this executable".into())?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]).args(FLAGS).args(["sh", "-c", SHELL]).arg(program);
    // Its parent is the shell, which is process 1 there.
    command.env(ROLE, role).env(PARENT, "1");
    Ok(command)
}

/// The worker itself, seen from here.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) pid: u32,
    /// Means this process and no other, also when its id is another's.
    handle: OwnedFd,
}

impl Inner {
    /// The worker that this `unshare` leads to.
    pub(super) fn of(outer: u32) -> Outcome<Inner> {
        let until = Instant::now() + PATIENCE;
        loop {
            let pid = only_child(outer).and_then(only_child);
            let handle = pid.and_then(|pid| pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok());
            if let (Some(pid), Some(handle)) = (pid.and_then(|pid| u32::try_from(pid).ok()), handle) {
                return Ok(Inner { pid, handle });
            }
            if Instant::now() > until {
                return Err(Failure::run(
                    "a worker process in a pid namespace of its own did not start",
                    "see what it wrote above",
                ));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.handle, signal); // it may have ended
    }

    /// Kills it and waits until it is gone.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
        let patience = Timespec { tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap_or(1), tv_nsec: 0 };
        let _ = poll(&mut [PollFd::new(&self.handle, PollFlags::IN)], Some(&patience));
    }
}

fn only_child(pid: impl TryInto<i32>) -> Option<i32> {
    let pid: i32 = pid.try_into().ok()?;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_ascii_whitespace().next()?.parse().ok()
}
