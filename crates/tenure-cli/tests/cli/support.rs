//! A store of its own for each test, and ways to wait for what can be seen.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const TENURE: &str = env!("CARGO_BIN_EXE_tenure");

/// How long a test waits for what must come: only a hang takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store, in a directory unless it has a URL, and a place for files.
pub(crate) struct Place {
    dir: TempDir,
    url: Option<String>,
}

impl Place {
    pub(crate) fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("store")).unwrap();
        Place { dir, url: None }
    }

    /// The same for a store elsewhere.
    #[allow(dead_code)] // not every binary with this module has one
    pub(crate) fn at(url: String) -> Place {
        Place { url: Some(url), ..Place::new() }
    }

    /// A file beside the store.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The store's URL.
    pub(crate) fn url(&self) -> String {
        let here = || format!("host://{}", self.dir.path().join("store").display());
        self.url.clone().unwrap_or_else(here)
    }

    /// `tenure` on this store, in an environment without our own variables.
    pub(crate) fn tenure(&self, args: &[&str]) -> Command {
        let mut command = bare(args);
        command.env("TENURE_URL", self.url()).current_dir(self.dir.path());
        command
    }

    /// Its result.
    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.tenure(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Its exit code.
    pub(crate) fn code(&self, args: &[&str]) -> Option<i32> {
        let output = self.output(args);
        eprintln!("{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.status.code()
    }

    /// What it prints with `--json`, one value per line.
    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        let output = self.output(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        lines(&output.stdout)
    }

    /// A `tenure run` of its own; its output is not read.
    pub(crate) fn run(&self, args: &[&str]) -> Running {
        Running::start(self.tenure(&[&["run"], args].concat()))
    }

    /// A `tenure run` that holds `lock` until the test lets go of it.
    pub(crate) fn hold(&self, lock: &str) -> Running {
        let running = self.run(&[lock, "--", "sleep", "1000"]);
        // Not by somebody before, who is still on the way out.
        until("this one holds", || {
            (parent(self.until_held(lock)["holders"][0]["pid"].as_i64()?)? == running.guardian())
                .then_some(())
        });
        running
    }

    /// Waits until the command of a `tenure run` holds the lock, and is shown as the holder.
    pub(crate) fn until_held(&self, lock: &str) -> Value {
        until(&format!("{lock} is held"), || {
            let line = self.json(&["show", lock]).remove(0);
            let program = line["holders"][0]["program"].as_str().map(str::to_owned)?;
            // While it waits, `tenure run` itself stands in line under the command's name.
            let pid = line["holders"][0]["pid"].as_u64()?;
            (comm(pid)? == program[..program.len().min(15)]).then_some(line)
        })
    }

    /// Waits until so many stand in line.
    pub(crate) fn until_waiting(&self, lock: &str, n: usize) -> Value {
        until(&format!("{n} wait for {lock}"), || {
            let line = self.json(&["show", lock]).remove(0);
            (line["waiting"].as_array()?.len() == n).then_some(line)
        })
    }

    /// Waits for a file to hold a whole line, and returns it.
    pub(crate) fn line_of(&self, name: &str) -> String {
        let path = self.file(name);
        until(&format!("{name} has a line"), || {
            let text = fs::read_to_string(&path).ok()?;
            text.ends_with('\n').then(|| text.trim().to_owned())
        })
    }

    /// Waits for a file to hold a whole line with a process id.
    pub(crate) fn pid_of(&self, name: &str) -> i32 {
        self.line_of(name).parse().unwrap()
    }
}

/// A child that does not outlive its test.
pub(crate) struct Running {
    child: Option<Child>,
}

impl Running {
    /// Starts a command; only its stderr is kept.
    pub(crate) fn start(mut command: Command) -> Running {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Running { child: Some(command.spawn().unwrap()) }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().unwrap().id()).unwrap()
    }

    /// Its only child: of a `tenure run`, the guardian.
    pub(crate) fn guardian(&self) -> i32 {
        let pid = self.pid();
        until("the guardian", || {
            let below = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            below.split_whitespace().next().map(|p| p.parse().unwrap())
        })
    }

    /// Its exit code (`None`: killed by a signal) and what it said on stderr.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        until("the end of a child", || self.child.as_mut().unwrap().try_wait().unwrap());
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        (output.status.code(), text(&output.stderr))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A process that does not outlive its test.
#[allow(dead_code)] // not every binary with this module has one
pub(crate) struct Guarded(pub(crate) Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `tenure` without a store.
pub(crate) fn bare(args: &[&str]) -> Command {
    let mut command = settled(TENURE);
    command.args(args);
    command
}

/// A program in surroundings that do not depend on who runs the tests: default signals, which a script's background job
/// or a CI runner may have set to be ignored, and a usual umask; without variables of our own.
#[allow(unsafe_code)]
pub(crate) fn settled(program: &str) -> Command {
    let mut command = Command::new(program);
    // SAFETY: system calls only, all async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            for signal in (1..32).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
                libc::signal(signal, libc::SIG_DFL);
            }
            libc::umask(0o022);
            Ok(())
        });
    }
    for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("TENURE_")) {
        command.env_remove(name);
    }
    command
}

/// Waits for something to be seen.
pub(crate) fn until<T>(what: &str, mut see: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = see() {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process lives; a zombie does not.
pub(crate) fn alive(pid: i32) -> bool {
    state(pid).is_some_and(|s| s != 'Z')
}

/// The state of a process, as /proc tells it.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The parent of a process.
fn parent(pid: i64) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn comm(pid: u64) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

/// Sends a signal.
pub(crate) fn kill(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// JSON Lines.
pub(crate) fn lines(bytes: &[u8]) -> Vec<Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The lines of a file, which may be missing.
#[allow(dead_code)] // not every binary with this module reads one
pub(crate) fn lines_of(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// What a file holds, as JSON.
pub(crate) fn json_of(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}
