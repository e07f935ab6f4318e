//! All processes below one: found by walking /proc, signalled so that no reused process id is hit.
//!
//! The guardian is a subreaper: whatever forks twice, changes its session or loses its parent becomes its child, so
//! every descendant is below it for as long as it lives.

use std::collections::HashMap;
use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    /// Its id.
    pub(super) pid: i32,
    /// Its parent's.
    parent: i32,
    /// When it began, in clock ticks since boot: with the id, its identity.
    start: u64,
}

/// The descendants of a process, parents first. What is forked while it looks may be missing: look again.
///
/// # Errors
/// /proc cannot be read.
pub(super) fn of(root: i32) -> io::Result<Vec<Process>> {
    since(root, 0)
}

/// The same, without the children that are older than `start` and what is below them.
///
/// # Errors
/// /proc cannot be read.
pub(super) fn since(root: i32, start: u64) -> io::Result<Vec<Process>> {
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
    found.retain(|child| child.start >= start);
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
    let sent = pidfd_open(pid, PidfdFlags::empty()).and_then(|fd| {
        // The descriptor holds on to one process; only now is it certain which.
        match look(process.pid) {
            Some(now) if now.start == process.start => pidfd_send_signal(&fd, signal),
            _ => Ok(()),
        }
    });
    match sent {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        // Before Linux 5.3 there are no such descriptors.
        Err(rustix::io::Errno::NOSYS) => super::sys::kill(process.pid, signal.as_raw()),
        Err(error) => Err(error.into()),
    }
}

/// When a process began, in clock ticks since boot; also of one that has ended and that nobody waited for yet.
pub(super) fn start_of(pid: i32) -> Option<u64> {
    look(pid).map(|process| process.start)
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
    Some(Process { pid: pid.parse().ok()?, parent, start })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "42 (a) R 1 (b)) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 8192 1 18446744073709551615\n";
        assert_eq!(parse(stat), Some(Process { pid: 42, parent: 7, start: 98765 }));
        assert_eq!(parse("42 (x"), None);
    }

    #[test]
    fn children_of_children_are_found_and_end_by_a_signal() {
        let me = i32::try_from(std::process::id()).expect("small");
        // The shell waits for a child of its own.
        let mut shell = Command::new("sh").args(["-c", "sleep 1000 & wait"]).spawn().expect("sh");
        let pid = i32::try_from(shell.id()).expect("small");
        let sleeper = loop {
            let below = of(pid).expect("/proc");
            if let [one] = below[..] {
                break one;
            }
            std::thread::yield_now();
        };
        assert!(of(me).expect("/proc").contains(&sleeper));
        assert!(is_below(sleeper.pid, me) && is_below(sleeper.pid, pid) && !is_below(pid, sleeper.pid));
        signal(&sleeper, Signal::KILL).expect("ours");
        assert!(shell.wait().expect("sh ends").success());
        assert_eq!(of(pid).expect("/proc"), []);
    }
}
