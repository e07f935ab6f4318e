//! Real servers of our own: in the foreground, on a free port of this machine, in a directory that goes with them.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::failure::{Doing, Failure, Outcome};

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a program is, if it is installed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

type Order = (Command, Sender<io::Result<Child>>);

/// Starts a program that the kernel kills when we are gone, however that comes. The kernel watches the thread that
/// starts it, so that is one that never ends.
pub(crate) fn spawn(program: &str) -> (Command, impl FnOnce(Command) -> io::Result<Child>) {
    static ORDERS: LazyLock<Sender<Order>> = LazyLock::new(|| {
        let (give, orders) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                let _ = answer.send(command.spawn());
            }
        });
        give
    });
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = |command| {
        let (answer, started) = channel();
        let gone = |_| io::Error::other("the thread that starts servers is gone");
        ORDERS.send((command, answer)).map_err(|_| io::Error::other("no thread starts servers"))?;
        started.recv().map_err(gone)?
    };
    (command, start)
}

/// Whether a Redis server of this machine answers at this port.
pub(crate) fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut start = [0u8; 5];
    stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut start).is_ok() && &start == b"+PONG"
}

/// A running redis-server that writes every change to its disk before it answers. Killed when it is dropped, and by the
/// kernel when we are gone.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    dir: TempDir,
    child: Mutex<Option<Child>>,
}

impl Redis {
    /// Why none can be started here, if so.
    #[must_use]
    pub fn missing() -> Option<String> {
        let lacks = ["redis-server", "setpriv"].into_iter().find(|name| program(name).is_none())?;
        Some(format!("{lacks} is not installed"))
    }

    /// Starts one, with nothing in it.
    ///
    /// # Errors
    /// Where it is not installed, or does not answer.
    pub fn start() -> Result<Redis, String> {
        let start = || -> Outcome<Redis> {
            let listener = TcpListener::bind(("127.0.0.1", 0)).doing(|| "find a free port".into())?;
            let port = listener.local_addr().doing(|| "find a free port".into())?.port();
            drop(listener);
            let dir = tempfile::Builder::new().prefix("tenure-redis-").tempdir();
            let dir = dir.doing(|| "make a directory for a server".into())?;
            let redis = Redis { port, dir, child: Mutex::default() };
            redis.launch()?;
            Ok(redis)
        };
        start().map_err(|failure| failure.to_string())
    }

    /// The address to put behind `redis://`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills it without a word, and starts it again on what is in its directory.
    pub(crate) fn restart(&self) -> Outcome<()> {
        self.kill();
        self.launch()
    }

    /// Kills it without a word, and starts it again with nothing.
    pub(crate) fn restart_empty(&self) -> Outcome<()> {
        self.kill();
        // A folder, or a file in older versions.
        let written = ["appendonlydir", "appendonly.aof"].map(|name| self.dir.path().join(name));
        for path in written.iter().filter(|path| path.exists()) {
            let removed =
                if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            removed.doing(|| "remove what the server has written".into())?;
        }
        self.launch()
    }

    fn launch(&self) -> Outcome<()> {
        let (mut command, start) = spawn("redis-server");
        command.args(["--bind", "127.0.0.1", "--daemonize", "no"]);
        command.args(["--port", &self.port.to_string(), "--logfile", "log", "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        command.arg("--dir").arg(self.dir.path());
        let child = start(command).doing(|| "start redis-server".into())?;
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        let end = Instant::now() + PATIENCE;
        while !answers(self.port) {
            if Instant::now() > end {
                return Err(Failure::run("redis-server does not answer", "see its log"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn kill(&self) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
