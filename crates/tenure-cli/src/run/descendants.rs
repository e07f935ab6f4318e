//! All processes below one: found by walking /proc, signalled so that no reused process id is hit.
//!
//! The guardian is a subreaper: whatever forks twice, changes its session or loses its parent becomes its child, so
//! every descendant is below it for as long as it lives.
//!
//! Neither /proc nor process descriptors are there everywhere: /proc may be missing, hide the processes of others, or
//! be that of another pid namespace, and old seccomp profiles deny `pidfd_open`. Without descriptors a process is
//! signalled by its id after its start time was checked. Without /proc its children are found by asking the kernel about
//! each process id; the children of a child become ours when it is killed.

use std::collections::HashMap;
use std::fs;
use std::io;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

/// The highest process id that Linux gives.
const HIGHEST: i32 = 1 << 22;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    /// Its id.
    pub(super) pid: i32,
    /// Its parent's.
    parent: i32,
    /// When it began, in clock ticks since boot: with the id, its identity. `None` of a child of ours that /proc does
    /// not show: its id is its own until we wait for it.
    start: Option<u64>,
}

/// The descendants of this process: all that /proc shows, parents first, or else its children. What is forked while it
/// looks may be missing: look again. The children in `spared` and what is below them are left out.
pub(super) fn of_this_process(spared: &[i32]) -> Vec<Process> {
    let me = super::parent::raw(rustix::process::getpid());
    let shown = if proc_is_ours() { of(me, spared).unwrap_or_default() } else { Vec::new() };
    if shown.is_empty() { unseen(me, spared) } else { shown }
}

/// One of them, with its name where /proc tells it.
pub(super) fn first() -> Option<(i32, Option<String>)> {
    let pid = of_this_process(&[]).first()?.pid;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok().filter(|_| proc_is_ours());
    Some((pid, name.map(|name| name.trim_end().to_owned())))
}

/// The children of this process that live now.
pub(super) fn children() -> Vec<i32> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::All, options) {
        Err(rustix::io::Errno::CHILD) => Vec::new(),
        _ => of_this_process(&[]).iter().map(|process| process.pid).collect(),
    }
}

/// Whether /proc is there and shows this process's own pid namespace.
fn proc_is_ours() -> bool {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return false };
    // One number for each namespace from that of /proc down to ours.
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    ids.split_whitespace().collect::<Vec<_>>() == [std::process::id().to_string()]
}

/// The children of this process without /proc. Those that ended are left out.
fn unseen(me: i32, spared: &[i32]) -> Vec<Process> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let is_child = |pid: i32| {
        let pid = Pid::from_raw(pid)?;
        matches!(waitid(WaitId::Pid(pid), options), Ok(None)).then_some(())
    };
    let seek = |from: i32, to: i32| {
        let one = |pid| is_child(pid).map(|()| Process { pid, parent: me, start: None });
        (from..=to).filter(|pid| !spared.contains(pid)).filter_map(one).collect::<Vec<_>>()
    };
    // Ids are given in turn, so those of processes that are younger than this one lie between its own and the newest.
    match super::sys::newest_pid().unwrap_or(me) {
        newest if newest > me => {
            let found = seek(me, newest);
            if found.is_empty() { [seek(1, me), seek(newest, HIGHEST)].concat() } else { found }
        }
        newest => {
            let found = [seek(me, HIGHEST), seek(1, newest)].concat();
            if found.is_empty() { seek(newest, me) } else { found }
        }
    }
}

/// The descendants of a process as /proc shows them.
fn of(root: i32, spared: &[i32]) -> io::Result<Vec<Process>> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse().ok()) else { continue };
        // A process that ended meanwhile is no error.
        if let Some(process) = look(pid) {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut found: Vec<Process> = children.remove(&root).unwrap_or_default();
    found.retain(|child| !spared.contains(&child.pid));
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let below = children.remove(&process.pid);
        found.extend(below.into_iter().flatten());
        next += 1;
    }
    Ok(found)
}

/// Whether `pid` is below `root`.
pub(super) fn is_below(pid: i32, root: i32) -> bool {
    let mut at = pid;
    // A chain of parents has no end only if it changes while it is walked.
    for _ in 0..4096 {
        match look(at) {
            Some(process) if process.parent == root => return true,
            Some(process) if process.parent > 1 => at = process.parent,
            _ => return false,
        }
    }
    false
}

/// Sends a signal to exactly this process.
///
/// # Errors
/// It belongs to somebody else. That it has ended is none.
pub(super) fn signal(process: &Process, signal: Signal) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(process.pid) else { return Ok(()) };
    let same = || match process.start {
        None => true,
        start => look(process.pid).is_some_and(|now| now.start == start),
    };
    let by_id = || if same() { super::sys::kill(process.pid, signal.as_raw()) } else { Ok(()) };
    let sent = match pidfd_open(pid, PidfdFlags::empty()) {
        // The descriptor holds on to one process; only now is it certain which.
        Ok(fd) if same() => match pidfd_send_signal(&fd, signal) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(_) => by_id(),
        },
        Ok(_) | Err(rustix::io::Errno::SRCH) => Ok(()),
        // The kernel is too old, or a seccomp profile denies it, or too many files are open.
        Err(_) => by_id(),
    };
    sent.or_else(|error| if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) })
}

/// Kills them. Returns which could not be killed, and why.
pub(super) fn kill(processes: &[Process]) -> String {
    let refused = processes.iter().filter_map(|p| Some((p.pid, signal(p, Signal::KILL).err()?)));
    refused.map(|(pid, error)| format!("{pid} ({error})")).collect::<Vec<_>>().join(", ")
}

/// Whether a child of ours can be signalled at all here.
///
/// # Errors
/// It cannot.
pub(super) fn try_to_signal(child: i32) -> io::Result<()> {
    super::sys::kill(child, 0).or_else(|error| {
        let pid = Pid::from_raw(child).ok_or(rustix::io::Errno::SRCH)?;
        let sent = pidfd_open(pid, PidfdFlags::empty()).and_then(|fd| pidfd_send_signal(fd, Signal::CONT));
        sent.map_err(|_| error)
    })
}

fn look(pid: i32) -> Option<Process> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (name) state ppid ... starttime ...`, where the name may hold anything, parentheses too.
fn parse(stat: &str) -> Option<Process> {
    let (pid, _) = stat.split_once(' ')?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(Process { pid: pid.parse().ok()?, parent, start: Some(start) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "42 (a) R 1 (b)) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 8192 1 18446744073709551615\n";
        assert_eq!(parse(stat), Some(Process { pid: 42, parent: 7, start: Some(98765) }));
        assert_eq!(parse("42 (x"), None);
    }

    #[test]
    fn children_of_children_are_found_and_end_by_a_signal() {
        let me = i32::try_from(std::process::id()).expect("small");
        // The shell waits for a child of its own.
        let mut shell = Command::new("sh").args(["-c", "sleep 1000 & wait"]).spawn().expect("sh");
        let pid = i32::try_from(shell.id()).expect("small");
        let sleeper = loop {
            let below = of(pid, &[]).expect("/proc");
            if let [one] = below[..] {
                break one;
            }
            std::thread::yield_now();
        };
        assert!(of(me, &[]).expect("/proc").contains(&sleeper));
        assert!(is_below(sleeper.pid, me) && is_below(sleeper.pid, pid) && !is_below(pid, sleeper.pid));
        assert_eq!(of(me, &[pid]).expect("/proc").iter().find(|p| p.pid == sleeper.pid), None);
        // Without /proc only children are seen. Other tests of this process have some, too.
        let unseen = unseen(me, &[]);
        assert!(unseen.contains(&Process { pid, parent: me, start: None }) && proc_is_ours());
        assert!(!unseen.iter().any(|process| process.pid == sleeper.pid));
        signal(&sleeper, Signal::KILL).expect("ours");
        assert!(shell.wait().expect("sh ends").success());
        assert_eq!(of(pid, &[]).expect("/proc"), []);
    }
}
