//! A real redis-server of our own: in the foreground, on a free port of this machine, in a directory that goes with it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Where the program is, if it is installed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// A port that nobody listened on a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).expect("a free port").port()
}

/// A directory for one server, removed with this value.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Dir {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("tenure-redis-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running server. Killed with this value, and by the kernel with the thread that started it.
pub(crate) struct Server {
    pub(crate) port: u16,
    child: Option<Child>,
    pub(crate) dir: Dir,
    options: Vec<String>,
    /// Loaded into it, and the file that this reads.
    clock: Option<(PathBuf, PathBuf)>,
}

impl Server {
    /// Starts one that keeps nothing.
    pub(crate) fn start() -> Server {
        Server::with(&[])
    }

    /// Starts one with these options of its configuration.
    pub(crate) fn with(options: &[&str]) -> Server {
        let options = options.iter().map(|o| (*o).to_owned()).collect();
        let mut server = Server { port: free_port(), child: None, dir: Dir::new(), options, clock: None };
        server.launch();
        server
    }

    /// Starts one that keeps nothing, and whose clock can be set: see [`set_clock`](Server::set_clock).
    pub(crate) fn with_clock() -> Server {
        let dir = Dir::new();
        let (source, object, step) = (dir.0.join("clock.c"), dir.0.join("clock.so"), dir.0.join("step"));
        std::fs::write(&source, include_str!("clock.c")).expect("written");
        std::fs::write(&step, [0; 8]).expect("written");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&object).arg(&source);
        assert!(cc.status().expect("cc runs").success(), "clock.c compiles");
        let mut server =
            Server { port: free_port(), child: None, dir, options: Vec::new(), clock: Some((object, step)) };
        server.launch();
        server
    }

    /// Sets its clock, by so many seconds from that of this machine.
    pub(crate) fn set_clock(&self, seconds: i64) {
        let (_, step) = self.clock.as_ref().expect("started with a clock");
        // Never shorter meanwhile: it is mapped.
        let file = std::fs::OpenOptions::new().write(true).open(step).expect("there");
        std::os::unix::fs::FileExt::write_all_at(&file, &seconds.to_ne_bytes(), 0).expect("written");
    }

    /// Starts one that watches over others, and keeps nothing itself.
    pub(crate) fn sentinel() -> Server {
        let (port, dir) = (free_port(), Dir::new());
        let file = dir.0.join("sentinel.conf");
        std::fs::write(&file, format!("port {port}\nbind 127.0.0.1\n")).expect("written");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "redis-server"]).arg(&file).arg("--sentinel");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Server { port, child: None, dir, options: Vec::new(), clock: None };
        server.begin(command);
        server
    }

    /// Starts it again, with whatever is in its directory.
    pub(crate) fn launch(&mut self) {
        let (dir, port) = (self.dir.0.display().to_string(), self.port.to_string());
        // The kernel kills it when we are gone, however that comes.
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "redis-server",
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--dir",
            &dir,
        ]);
        command.args(["--save", "", "--daemonize", "no", "--logfile", "log"]);
        command.args(&self.options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((object, step)) = &self.clock {
            command.env("LD_PRELOAD", object).env("CLOCK_STEP", step);
        }
        self.begin(command);
    }

    fn begin(&mut self, mut command: Command) {
        self.child = Some(command.spawn().expect("redis-server starts"));
        let end = Instant::now() + Duration::from_secs(20);
        while !self.answers() {
            assert!(Instant::now() < end, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let mut byte = [0u8; 5];
        // One that wants a password answers too.
        stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut byte).is_ok() && &byte != b"-LOAD"
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("a server that runs"))
    }

    /// Kills it without a word.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops its clockwork: it keeps its connections and answers nothing.
    pub(crate) fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).expect("stopped");
    }

    /// The opposite.
    pub(crate) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).expect("continued");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What redis-cli answers to these words.
    pub(crate) fn cli(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).args(words).stdin(Stdio::null());
        let output = command.output().expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// All keys.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.cli(&["KEYS", "*"]).lines().map(str::to_owned).collect();
        keys.retain(|k| !k.is_empty());
        keys.sort();
        keys
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
