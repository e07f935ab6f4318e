//! redis-server: the only place that starts one.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::clock::Clock;
use crate::disk::Disk;
pub use crate::process::{Dir, free_port, program};
use crate::process::{Process, command, spawn};

/// What must be installed to start a server, and to ask it with [`Server::cli`].
pub const NEEDS: [&str; 3] = ["redis-server", "redis-cli", "setpriv"];

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says why no server can be started here, if so.
#[must_use]
pub fn missing() -> Option<String> {
    crate::process::missing(&NEEDS)
}

/// The version of the installed redis-server.
#[must_use]
pub fn version() -> String {
    let output = Command::new("redis-server").arg("--version").stdin(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_ascii_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("unknown").to_owned()
}

/// When a server writes its data to its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aof {
    /// Never: a restart loses everything.
    #[default]
    None,
    /// Once a second.
    Everysec,
    /// Before each answer.
    Always,
}

/// How a server is started.
#[derive(Debug, Default)]
pub struct Settings {
    /// When it writes its data.
    pub aof: Aof,
    /// More options of its command line.
    pub options: Vec<String>,
    /// Listens on a socket in its directory and on no port.
    pub socket: bool,
    /// Where its log, its data and its copies are; a temporary directory if it is not given.
    pub home: Option<PathBuf>,
    /// Its clock can be stepped: see [`Server::clock`].
    pub clock: bool,
    /// Its data is on a disk of its own, which can be filled, and its clock can be stepped, as far as this machine allows
    /// it: see [`Server::lacks`].
    pub breakable: bool,
}

/// A running server. Killed when this value is dropped, and by the kernel when this process is gone.
#[derive(Debug)]
pub struct Server {
    /// Where it listens; 0 if it has a socket only.
    pub port: u16,
    process: Process,
    settings: Settings,
    clock: Option<Clock>,
    disk: Option<Disk>,
    /// What this machine does not allow, and why.
    lacks: Vec<String>,
    sentinel: bool,
    home: PathBuf,
    _dir: Option<Dir>,
}

impl Server {
    /// Starts a server that keeps nothing. For tests: panics if that is not possible.
    #[must_use]
    pub fn start() -> Server {
        Server::with(&[])
    }

    /// Starts a server that keeps nothing, with these options. For tests: panics if that is not possible.
    #[must_use]
    pub fn with(options: &[&str]) -> Server {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Server::new(Settings { options, ..Settings::default() }).expect("redis-server starts")
    }

    /// Starts a server that keeps nothing and whose clock can be set. For tests: panics if that is not possible.
    #[must_use]
    pub fn with_clock() -> Server {
        let server =
            Server::new(Settings { clock: true, ..Settings::default() }).expect("redis-server starts");
        assert!(server.clock.is_some(), "{:?}", server.lacks);
        server
    }

    /// Sets its clock, by so many seconds from that of this machine.
    pub fn set_clock(&self, seconds: i64) {
        if let Some(clock) = &self.clock {
            clock.step(seconds * 1_000_000_000);
        }
    }

    /// Starts a server that watches over others. For tests: panics if that is not possible.
    #[must_use]
    pub fn sentinel() -> Server {
        let mut server = Server::prepare(Settings::default()).expect("a directory");
        server.sentinel = true;
        server.launch().expect("a sentinel starts");
        server
    }

    /// Starts a server.
    ///
    /// # Errors
    /// If it is not installed, or does not answer.
    pub fn new(settings: Settings) -> io::Result<Server> {
        let server = Server::prepare(settings)?;
        server.launch()?;
        Ok(server)
    }

    fn prepare(settings: Settings) -> io::Result<Server> {
        if let Some(lacks) = missing() {
            return Err(io::Error::new(io::ErrorKind::NotFound, lacks));
        }
        let dir = if settings.home.is_none() { Some(Dir::new("redis")?) } else { None };
        let home =
            settings.home.clone().or_else(|| dir.as_ref().map(|dir| dir.0.clone())).unwrap_or_default();
        fs::create_dir_all(home.join("server"))?;
        let port = if settings.socket { 0 } else { free_port()? };
        let (mut clock, mut disk, mut lacks) = (None, None, Vec::new());
        if settings.breakable {
            match Disk::mount(&home.join("server")) {
                Ok(mounted) => disk = Some(mounted),
                Err(why) => lacks.push(format!("no full disks: {why}")),
            }
        }
        if settings.breakable || settings.clock {
            match Clock::new(&home) {
                Ok(compiled) => clock = Some(compiled),
                Err(why) => lacks.push(format!("no clock steps: {why}")),
            }
        }
        let process = Process::default();
        Ok(Server { port, process, settings, clock, disk, lacks, sentinel: false, home, _dir: dir })
    }

    /// Starts it again with the data that its directory holds.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn launch(&self) -> io::Result<()> {
        let mut command = command("redis-server");
        if self.sentinel {
            let file = self.home.join("sentinel.conf");
            fs::write(&file, format!("port {}\nbind 127.0.0.1\n", self.port))?;
            command.arg(&file).arg("--sentinel");
        } else {
            self.arguments(&mut command);
        }
        if let Some(clock) = &self.clock {
            clock.give(&mut command);
        }
        self.process.put(spawn(command)?);
        let end = Instant::now() + PATIENCE;
        while !self.answers() {
            if Instant::now() > end {
                let log = self.log();
                return Err(io::Error::other(format!("redis-server does not answer; see {}", log.display())));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn arguments(&self, command: &mut Command) {
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"]);
        command.args(["--save", "", "--dir"]).arg(self.data()).arg("--logfile").arg(self.log());
        if self.settings.socket {
            command.arg("--unixsocket").arg(self.socket());
        }
        let (on, sync) = match self.settings.aof {
            Aof::None => ("no", "no"),
            Aof::Everysec => ("yes", "everysec"),
            Aof::Always => ("yes", "always"),
        };
        command.args(["--appendonly", on, "--appendfsync", sync]).args(&self.settings.options);
    }

    /// Whether it answers now; also if it asks for a password.
    #[must_use]
    pub fn answers(&self) -> bool {
        fn asked(mut stream: impl Read + Write) -> bool {
            let mut start = [0u8; 5];
            stream.write_all(b"PING\r\n").is_ok()
                && stream.read_exact(&mut start).is_ok()
                && &start != b"-LOAD"
        }
        let patience = Some(Duration::from_secs(1));
        if self.settings.socket {
            let stream = UnixStream::connect(self.socket());
            return stream.is_ok_and(|stream| stream.set_read_timeout(patience).is_ok() && asked(stream));
        }
        let stream = TcpStream::connect(("127.0.0.1", self.port));
        stream.is_ok_and(|stream| stream.set_read_timeout(patience).is_ok() && asked(stream))
    }

    /// Kills it with SIGKILL.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Stops it with SIGSTOP: it keeps its connections and answers nothing.
    pub fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it continue after [`Server::freeze`].
    pub fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Kills it, and starts it again with the data that it has written.
    ///
    /// # Errors
    /// As [`Server::launch`].
    pub fn restart(&self) -> io::Result<()> {
        self.kill();
        self.launch()
    }

    /// Kills it, and starts it again without data.
    ///
    /// # Errors
    /// As [`Server::launch`].
    pub fn restart_empty(&self) -> io::Result<()> {
        self.kill();
        self.forget()?;
        self.launch()
    }

    /// Copies the data that it has written by now, for [`Server::restart_older`].
    ///
    /// # Errors
    /// If the copy cannot be written.
    pub fn copy(&self) -> io::Result<()> {
        let copy = self.home.join("copy");
        remove(&copy)?;
        if self.written().is_dir() {
            fs::create_dir(&copy)?;
            for entry in fs::read_dir(self.written())?.flatten() {
                // A file that a rewrite has just removed is no loss: its successor is there.
                let _ = fs::copy(entry.path(), copy.join(entry.file_name()));
            }
        }
        Ok(())
    }

    /// Kills it, and starts it again with the last copy of its data.
    ///
    /// # Errors
    /// As [`Server::launch`].
    pub fn restart_older(&self) -> io::Result<()> {
        self.kill();
        self.forget()?;
        let copy = self.home.join("copy");
        if copy.is_dir() {
            fs::create_dir(self.written())?;
            for entry in fs::read_dir(&copy)?.flatten() {
                fs::copy(entry.path(), self.written().join(entry.file_name()))?;
            }
        }
        self.launch()
    }

    fn forget(&self) -> io::Result<()> {
        remove(&self.written())?;
        // Older versions write one file; SAVE writes another.
        remove(&self.data().join("appendonly.aof"))?;
        remove(&self.data().join("dump.rdb"))
    }

    /// Whether a kill loses its data.
    #[must_use]
    pub fn forgets(&self) -> bool {
        self.settings.aof == Aof::None
    }

    /// Its clock, if a trial can step it.
    #[must_use]
    pub fn clock(&self) -> Option<&Clock> {
        self.clock.as_ref()
    }

    /// Its disk, if a trial can fill it.
    #[must_use]
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Makes room on its disk, and starts it again if it gave up.
    ///
    /// # Errors
    /// As [`Server::launch`].
    pub fn free_disk(&self) -> io::Result<()> {
        if let Some(disk) = &self.disk {
            disk.free();
        }
        if self.process.ended() || !self.answers() { self.restart() } else { Ok(()) }
    }

    /// What cannot be broken on this machine, and why.
    #[must_use]
    pub fn lacks(&self) -> &[String] {
        &self.lacks
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.home.join("server.log")
    }

    fn data(&self) -> PathBuf {
        self.home.join("server")
    }

    fn written(&self) -> PathBuf {
        self.data().join("appendonlydir")
    }

    fn socket(&self) -> PathBuf {
        self.home.join("socket")
    }

    /// The URL of the server, for Tenure.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns what redis-cli prints for these words. For tests: panics if redis-cli cannot be run.
    pub fn cli(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        if self.settings.socket {
            command.arg("-s").arg(self.socket());
        } else {
            command.args(["-p", &self.port.to_string()]);
        }
        let output = command.args(words).stdin(Stdio::null()).output().expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// All keys, sorted. For tests, as [`Server::cli`].
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.cli(&["KEYS", "*"]).lines().map(str::to_owned).collect();
        keys.retain(|key| !key.is_empty());
        keys.sort();
        keys
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Before its disk and its directory go.
        self.process.kill();
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
