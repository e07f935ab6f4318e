//! Programs of this machine, directories and ports for them, and children that never outlive their parent.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

/// Returns where a program is, if it is installed.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Says which of these programs is not installed, if one is not.
#[must_use]
pub fn missing(programs: &[&str]) -> Option<String> {
    let lacks = programs.iter().find(|name| program(name).is_none())?;
    Some(format!("{lacks} is not installed; install it, for instance with `cargo xtask servers --install`"))
}

/// Returns a port of the loopback address that nobody listened on a moment ago.
///
/// # Errors
/// If the machine has no free port.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A temporary directory, removed when this value is dropped.
#[derive(Debug)]
pub struct Dir(pub PathBuf);

impl Dir {
    /// Makes one whose name begins with `tenure-` and `what`.
    ///
    /// # Errors
    /// If the directory for temporary files cannot be written to.
    pub fn new(what: &str) -> io::Result<Dir> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tenure-{what}-{}-{number}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Dir(path))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Returns a command that runs `program` without input and output, and that the kernel kills when the thread that starts
/// it is gone. Start it with [`spawn`].
#[must_use]
pub fn command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

type Order = (Command, Sender<io::Result<Child>>);

/// Starts a command from a thread that never ends, so that only the end of the whole process kills the child.
///
/// # Errors
/// As [`Command::spawn`].
pub fn spawn(command: Command) -> io::Result<Child> {
    static ORDERS: LazyLock<Sender<Order>> = LazyLock::new(|| {
        let (send, orders) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                let _ = answer.send(command.spawn());
            }
        });
        send
    });
    let (answer, started) = channel();
    let gone = || io::Error::other("the thread that starts servers is gone");
    ORDERS.send((command, answer)).map_err(|_| gone())?;
    started.recv().map_err(|_| gone())?
}

/// Runs a program to its end.
///
/// # Errors
/// What the program wrote to standard error, if it failed.
pub fn run(name: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(name).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// The process of a server, if it runs. Killed when this value is dropped.
#[derive(Debug, Default)]
pub(crate) struct Process(Mutex<Option<Child>>);

impl Process {
    /// Takes the place of the one before, which is killed.
    pub(crate) fn put(&self, child: Child) {
        self.kill();
        *self.child() = Some(child);
    }

    /// Kills it with SIGKILL and waits for its end.
    pub(crate) fn kill(&self) {
        let child = self.child().take();
        if let Some(mut child) = child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal, if it runs.
    pub(crate) fn signal(&self, signal: Signal) {
        // It has not been reaped, so its id is still its own.
        if let Some(child) = &*self.child() {
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    /// Whether it has ended, or never ran.
    pub(crate) fn ended(&self) -> bool {
        self.child().as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
