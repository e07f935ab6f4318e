//! Programs of one shop: started together, stopped, killed, and heard.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::server::{Dir, Server};

/// How long to wait for what must come: only a hang takes that long.
const PATIENCE: Duration = Duration::from_secs(120);
/// Says that this process is to play a program.
const ROLE: &str = "RECIPE_PROGRAM";

/// Whether this process is a program of a fleet; then it dies with the thread that started it.
pub(crate) fn is_program() -> bool {
    let is = std::env::var_os(ROLE).is_some();
    if is {
        set_parent_process_death_signal(Some(Signal::KILL)).expect("a signal");
    }
    is
}

/// Where the locks are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Host,
    Redis,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Store::Host { "host" } else { "redis" })
    }
}

/// What is broken in a fleet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    Nothing,
    /// Each program has locks of its own.
    Locks,
    /// Fences are removed, which nobody should do.
    Fence,
}

/// A shop with its store.
pub(crate) struct Fleet {
    dir: Dir,
    server: Option<Server>,
    broken: Break,
    started: usize,
}

impl Fleet {
    pub(crate) fn new(store: Store, broken: Break) -> Fleet {
        let dir = Dir::new("recipes").expect("a directory");
        std::fs::create_dir(dir.0.join("store")).expect("a directory");
        std::fs::create_dir(dir.0.join("shop")).expect("a directory");
        let server = (store == Store::Redis).then(Server::start);
        Fleet { dir, server, broken, started: 0 }
    }

    pub(crate) fn url(&self) -> String {
        let here = || format!("host://{}", self.dir.0.join("store").display());
        self.server.as_ref().map_or_else(here, Server::url)
    }

    /// A file of the shop.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.0.join("shop").join(name)
    }

    /// Its lines; none if it is not there.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.file(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Starts a program that waits at a point.
    pub(crate) fn start(&mut self, point: &str, ttl: Duration, recipe: &str, words: &[String]) -> Program {
        let own = format!("own-{}", self.started);
        self.started += 1;
        let mut command = Command::new(std::env::current_exe().expect("this executable"));
        command.args(["--ttl", &ttl.as_millis().to_string(), "--namespace"]);
        command.args([if self.broken == Break::Locks { &own } else { "default" }, recipe, &self.url()]);
        command.arg(self.dir.0.join("shop")).args(words).env(ROLE, "1").env("RECIPE_STOP", point);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a program");
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (say, heard) = channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = say.send(line);
            }
        });
        let errors = thread::spawn(move || {
            let mut text = String::new();
            let _ = BufReader::new(err).read_to_string(&mut text);
            text
        });
        let stdin = child.stdin.take().expect("piped");
        Program { child, stdin, heard, said: Vec::new(), errors: Some(errors) }
    }

    /// Lets a program that was stopped go on, as if nothing had happened.
    pub(crate) fn wake(&self, program: &mut Program) {
        if self.broken == Break::Fence {
            for entry in std::fs::read_dir(self.dir.0.join("shop")).expect("the shop") {
                let path = entry.expect("a file").path();
                if path.extension().is_some_and(|e| e == "fence") {
                    std::fs::remove_file(path).expect("removed");
                }
            }
        }
        program.go();
        program.signal(Signal::CONT);
    }

    /// Starts one for each of these words, all of them at the same instant, and waits for their ends.
    pub(crate) fn together(&mut self, recipe: &str, words: &[Vec<String>]) -> Vec<Ended> {
        let long = Duration::from_secs(60);
        let mut all: Vec<Program> =
            words.iter().map(|words| self.start("begin", long, recipe, words)).collect();
        all.iter_mut().for_each(|program| program.until("at begin"));
        all.iter_mut().for_each(Program::go);
        all.into_iter().map(Program::end).collect()
    }
}

/// Words, owned.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A program that runs. Killed with this value.
pub(crate) struct Program {
    child: Child,
    stdin: ChildStdin,
    heard: Receiver<String>,
    said: Vec<String>,
    errors: Option<thread::JoinHandle<String>>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) success: bool,
    pub(crate) said: Vec<String>,
}

impl Ended {
    /// It did what it should.
    #[track_caller]
    pub(crate) fn well(self) -> Vec<String> {
        assert!(self.success, "{:?}", self.said);
        self.said
    }

    /// It was refused, by the fence or since its lock was lost.
    #[track_caller]
    pub(crate) fn refused(&self, by: &str) {
        let last = self.said.last().map_or("", String::as_str);
        assert!(!self.success && last.starts_with("failed: ") && last.contains(by), "{:?}", self.said);
    }
}

impl Program {
    /// Waits until it says a line.
    #[track_caller]
    pub(crate) fn until(&mut self, line: &str) {
        let end = Instant::now() + PATIENCE;
        while self.said.last().is_none_or(|last| last != line) {
            match self.heard.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("never said {line:?}, but {:?}", self.said),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without {line:?}: {:?}", self.said),
            }
        }
    }

    /// Lets it go on from the point where it waits.
    pub(crate) fn go(&mut self) {
        self.stdin.write_all(b"\n").expect("it listens");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it lives");
    }

    /// Stops all of it, the thread that renews too.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited for");
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.heard.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("does not end: {:?}", self.said),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let success = self.child.wait().expect("waited for").success();
        let mut said = std::mem::take(&mut self.said);
        let errors = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        said.extend(errors.lines().map(str::to_owned));
        Ended { success, said }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
