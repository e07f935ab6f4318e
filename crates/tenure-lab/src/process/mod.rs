//! Worker processes: this executable started again with a role, spoken to in JSON lines.
//!
//! - `link`: the worker's own side.
//! - `apart`: workers in pid namespaces of their own.
//!
//! A worker reads its task and later orders from its standard input and writes events to its standard output. It never
//! outlives its runner: the kernel kills it when the runner dies, and the runner kills it when it lets go of it.

pub(crate) mod apart;
mod link;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde_json::Value;

pub(crate) use link::{Link, Role, host};

use self::apart::Inner;
use crate::failure::{Doing, Failure, Outcome};

/// The role that a started executable plays.
pub(crate) const ROLE: &str = "TENURE_LAB_WORKER";
/// The runner's process id.
pub(crate) const PARENT: &str = "TENURE_LAB_PARENT";

/// What a runner hears of its workers.
#[derive(Debug)]
pub(crate) struct Heard {
    /// Which worker, by the number that it was started with.
    pub(crate) from: usize,
    /// What it said; `None`: it closed its output, so it has ended or is about to.
    pub(crate) said: Option<Value>,
}

/// A worker process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Behind a mutex, since whoever signals it must first know that it has not been reaped: its id may be another's by
    /// then.
    child: Mutex<Child>,
    orders: Option<ChildStdin>,
    /// Where the child is not the worker itself.
    inner: Option<Inner>,
}

impl Worker {
    /// Starts a worker of a role with its task; what it says arrives at `sender` under `number`.
    ///
    /// Call it from a thread that lives as long as the worker shall: the kernel ties the worker to that thread.
    pub(crate) fn start(
        role: &str,
        number: usize,
        task: &impl Serialize,
        sender: Sender<Heard>,
    ) -> Outcome<Worker> {
        Worker::run(command(role)?, role, number, task, sender)
    }

    /// The same in a pid namespace of its own, where that is allowed ([`apart::missing`]).
    pub(crate) fn start_apart(
        role: &str,
        number: usize,
        task: &impl Serialize,
        sender: Sender<Heard>,
    ) -> Outcome<Worker> {
        let mut worker = Worker::run(apart::command(role)?, role, number, task, sender)?;
        worker.inner = Some(Inner::of(worker.pid())?);
        Ok(worker)
    }

    fn run(
        mut command: Command,
        role: &str,
        number: usize,
        task: &impl Serialize,
        sender: Sender<Heard>,
    ) -> Outcome<Worker> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().doing(|| format!("start a worker process ({role})"))?;
        let orders = child.stdin.take();
        let Some(output) = child.stdout.take() else {
            return Err(Failure::run(
                "a worker process has no output",
                "this is a fault of the lab; please report it",
            ));
        };
        let mut worker = Worker { child: Mutex::new(child), orders, inner: None };
        worker.order(task)?;
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let said = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(Heard { from: number, said: Some(said) }).is_err() {
                    return;
                }
            }
            let _ = sender.send(Heard { from: number, said: None });
        });
        Ok(worker)
    }

    /// Sends an order.
    pub(crate) fn order(&mut self, order: &impl Serialize) -> Outcome<()> {
        let mut line = serde_json::to_vec(order).doing(|| "write an order".into())?;
        line.push(b'\n');
        let Some(orders) = &mut self.orders else { return Ok(()) };
        orders.write_all(&line).doing(|| "send an order to a worker process".into())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.inner.as_ref().map_or_else(|| self.child().id(), |inner| inner.pid)
    }

    /// Sends it a signal. Nothing happens if it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(inner) = &self.inner {
            return inner.signal(signal);
        }
        let mut child = self.child();
        // Not reaped while we hold the mutex, so the id is still its own.
        if let (Ok(None), Ok(pid)) = (child.try_wait(), i32::try_from(child.id()))
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Option<ExitStatus> {
        if let Some(inner) = &self.inner {
            inner.kill();
        }
        let mut child = self.child();
        let _ = child.kill(); // does nothing to one that has been reaped
        child.wait().ok()
    }

    /// Tells it that no more orders come, and waits until it ends by itself.
    pub(crate) fn finish(&mut self) -> Outcome<()> {
        self.orders = None;
        let status = self.child().wait().doing(|| "wait for a worker process".into())?;
        match (status.success(), status.signal()) {
            (true, _) => Ok(()),
            (_, Some(n)) => {
                Err(Failure::run(format!("a worker process was killed by signal {n}"), "see above"))
            }
            _ => Err(Failure::run("a worker process failed", "see what it wrote above")),
        }
    }

    /// Whether the kernel says that it is stopped by a signal.
    pub(crate) fn is_stopped(&self) -> bool {
        state(self.pid()) == Some('T')
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// This executable as a worker of a role.
pub(crate) fn command(role: &str) -> Outcome<Command> {
    let program = std::env::current_exe().doing(|| "find this executable".into())?;
    let mut command = Command::new(program);
    command.env(ROLE, role).env(PARENT, std::process::id().to_string());
    Ok(command)
}

/// A process's state letter, as in ps(1).
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reaped_process_is_never_signalled() {
        let child = Command::new("true").spawn().expect("true(1)");
        let mut worker = Worker { child: Mutex::new(child), orders: None, inner: None };
        worker.finish().expect("ends by itself");
        assert!(worker.child().try_wait().is_ok_and(|status| status.is_some()));
        // The id may belong to anybody now: this must reach nobody.
        worker.signal(Signal::KILL);
        assert!(worker.kill().is_some_and(|status| status.success()), "its own end is what is remembered");
    }

    #[test]
    fn a_worker_that_is_dropped_is_gone() {
        let child = Command::new("sleep").arg("1000").spawn().expect("sleep(1)");
        let worker = Worker { child: Mutex::new(child), orders: None, inner: None };
        let pid = worker.pid();
        worker.signal(Signal::STOP);
        drop(worker);
        assert_eq!(state(pid), None, "killed though it was stopped, and reaped");
    }
}
