//! The server that a run breaks: a redis-server of its own, with a clock that can be stepped and a disk that can fill.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Aof;
use crate::failure::{Doing, Failure, Outcome};
use crate::server::{answers, program, spawn};

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How large its disk is.
const DISK: &str = "size=256m,mode=0700";

/// The server.
pub(super) struct Server {
    port: u16,
    aof: Aof,
    /// Everything of a run; the server's own directory is below.
    home: PathBuf,
    disk: bool,
    clock: Option<File>,
    child: Option<Child>,
}

impl Server {
    /// Starts one in `home`, and says what could not be had.
    pub(super) fn start(home: &Path, aof: Aof) -> Outcome<(Server, Vec<String>)> {
        if let Some(lacks) = ["redis-server", "setpriv"].into_iter().find(|name| program(name).is_none()) {
            return Err(Failure::run(
                format!("{lacks} is not installed"),
                "install it, for instance with `cargo xtask servers`",
            ));
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).doing(|| "find a free port".into())?;
        let port = listener.local_addr().doing(|| "find a free port".into())?.port();
        drop(listener);
        let dir = home.join("server");
        fs::create_dir_all(&dir).doing(|| "make a directory for the server".into())?;
        let mut notes = Vec::new();
        let disk = run("mount", &["-t", "tmpfs", "-o", DISK, "tenure-lab", &dir.to_string_lossy()]);
        if let Err(why) = &disk {
            notes.push(format!("no full disks: {why}"));
        }
        let clock = shim(home);
        if let Err(why) = &clock {
            notes.push(format!("no clock steps: {why}"));
        }
        let home = home.to_owned();
        let mut server = Server { port, aof, home, disk: disk.is_ok(), clock: clock.ok(), child: None };
        server.launch()?;
        Ok((server, notes))
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn has_disk(&self) -> bool {
        self.disk
    }

    pub(super) fn has_clock(&self) -> bool {
        self.clock.is_some()
    }

    fn dir(&self) -> PathBuf {
        self.home.join("server")
    }

    fn launch(&mut self) -> Outcome<()> {
        let (mut command, start) = spawn("redis-server");
        command.args(["--bind", "127.0.0.1", "--daemonize", "no", "--save", ""]);
        command.args(["--port", &self.port.to_string()]);
        command.arg("--logfile").arg(self.home.join("server.log"));
        command.arg("--dir").arg(self.dir());
        match self.aof {
            Aof::None => command.args(["--appendonly", "no"]),
            Aof::Everysec => command.args(["--appendonly", "yes", "--appendfsync", "everysec"]),
            Aof::Always => command.args(["--appendonly", "yes", "--appendfsync", "always"]),
        };
        if self.clock.is_some() {
            command.env("LD_PRELOAD", self.home.join("clock.so"));
            command.env("CHAOS_CLOCK", self.home.join("clock"));
        }
        self.child = Some(start(command).doing(|| "start redis-server".into())?);
        let end = Instant::now() + PATIENCE;
        while !answers(self.port) {
            if Instant::now() > end {
                let log = self.home.join("server.log");
                return Err(Failure::run(
                    "redis-server does not answer",
                    format!("see its log, {}", log.display()),
                ));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it, or has it go on.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    /// SIGKILL, and started again on what it has written.
    pub(super) fn restart(&mut self) -> Outcome<()> {
        self.kill();
        self.launch()
    }

    /// Whether a kill loses what it had.
    pub(super) fn forgets(&self) -> bool {
        self.aof == Aof::None
    }

    fn written(&self) -> PathBuf {
        self.dir().join("appendonlydir")
    }

    /// SIGKILL, and started again with nothing.
    pub(super) fn restart_empty(&mut self) -> Outcome<()> {
        self.kill();
        remove(&self.written())?;
        self.launch()
    }

    /// Keeps a copy of what it has written by now.
    pub(super) fn copy(&self) -> Outcome<()> {
        let (from, to) = (self.written(), self.home.join("copy"));
        remove(&to)?;
        if !from.is_dir() {
            return Ok(());
        }
        fs::create_dir(&to).doing(|| "copy the server's data".into())?;
        for entry in fs::read_dir(&from).doing(|| "copy the server's data".into())?.flatten() {
            // A file that a rewrite has just removed is no loss: its successor is there.
            let _ = fs::copy(entry.path(), to.join(entry.file_name()));
        }
        Ok(())
    }

    /// SIGKILL, and started again with the copy.
    pub(super) fn restart_older(&mut self) -> Outcome<()> {
        self.kill();
        remove(&self.written())?;
        let copy = self.home.join("copy");
        if copy.is_dir() {
            fs::create_dir(self.written()).doing(|| "put an older copy in place".into())?;
            for entry in fs::read_dir(&copy).doing(|| "put an older copy in place".into())?.flatten() {
                fs::copy(entry.path(), self.written().join(entry.file_name()))
                    .doing(|| "put an older copy in place".into())?;
            }
        }
        self.launch()
    }

    /// By how many ns its wall clock is off.
    pub(super) fn step_clock(&self, ns: i64) {
        if let Some(clock) = &self.clock {
            let _ = clock.write_all_at(&ns.to_ne_bytes(), 0);
        }
    }

    /// Fills its disk.
    pub(super) fn fill_disk(&self) {
        let Ok(mut file) = File::create(self.dir().join("filler")) else { return };
        let block = vec![1u8; 1 << 20];
        while file.write_all(&block).is_ok() {}
        while file.write_all(&block[..512]).is_ok() {}
    }

    /// Makes room again, and starts it if it gave up.
    pub(super) fn free_disk(&mut self) -> Outcome<()> {
        let _ = fs::remove_file(self.dir().join("filler"));
        let ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        if ended || !answers(self.port) {
            return self.restart();
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if self.disk {
            let _ = run("umount", &[&self.dir().to_string_lossy()]);
        }
    }
}

fn remove(dir: &Path) -> Outcome<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).doing(|| format!("remove {}", dir.display())),
        _ => Ok(()),
    }
}

/// Runs a program of the system; what it said if it failed.
fn run(name: &str, args: &[&str]) -> Result<(), String> {
    let mut command = Command::new(name);
    let output = command.args(args).stdin(Stdio::null()).output().map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Compiles the clock that can be stepped, and makes the file that steps it.
fn shim(home: &Path) -> Result<File, String> {
    let source = home.join("clock.c");
    fs::write(&source, include_str!("clock.c")).map_err(|e| e.to_string())?;
    let (source, library) = (source.to_string_lossy().into_owned(), home.join("clock.so"));
    run("cc", &["-shared", "-fPIC", "-O2", "-o", &library.to_string_lossy(), &source])?;
    let file = File::create(home.join("clock")).map_err(|e| e.to_string())?;
    file.write_all_at(&[0; 4096], 0).map_err(|e| e.to_string())?;
    Ok(file)
}

/// The version of the installed redis-server.
pub(super) fn version() -> String {
    let output = Command::new("redis-server").arg("--version").stdin(Stdio::null()).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.split_ascii_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("unknown").to_owned()
}
