//! Programs of this machine, and directories for them.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where a program is, if it is installed.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let debian = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    let admin = ["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(admin).chain(debian).map(|dir| dir.join(name)).find(|p| p.is_file())
}

/// A directory that goes with this value, and that a server may use which refuses to run as root.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Dir {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("tenure-fence-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Dir(path)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Somebody who is not root, where we are: user and group.
fn nobody(of: &str) -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |name: &str| {
        let line = users.lines().find(|l| l.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids(of).or_else(|| ids("nobody"))
}

/// A command that the kernel kills when the thread that starts it is gone, run by a user who is not root.
pub(crate) fn command(program: &str, user: &str, dir: &Dir) -> Command {
    let mut command = Command::new("setpriv");
    if let Some((uid, gid)) = nobody(user) {
        std::os::unix::fs::chown(&dir.0, Some(uid), Some(gid)).expect("root may");
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
    }
    command.args(["--pdeathsig", "KILL"]).arg(find(program).expect("installed"));
    command.current_dir(&dir.0).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn succeeds(command: &mut Command) {
    let output = command.output().expect("starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// A server that runs until this value is dropped.
pub(crate) struct Server {
    pub(crate) dir: Dir,
    child: Child,
}

impl Server {
    /// Starts a server in its directory, from a thread that stays, and waits until it answers.
    pub(crate) fn start(dir: Dir, mut command: Command, answers: impl Fn(&Dir) -> bool) -> Server {
        let (send, started) = std::sync::mpsc::channel();
        let log = std::fs::File::create(dir.0.join("log")).expect("a log");
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        std::thread::spawn(move || {
            let _ = send.send(command.spawn());
            loop {
                std::thread::park();
            }
        });
        let child = started.recv().expect("a thread").expect("a server");
        let mut server = Server { dir, child };
        let end = Instant::now() + Duration::from_secs(60);
        while !answers(&server.dir) {
            let ended = server.child.try_wait().expect("a child");
            let log = || std::fs::read_to_string(server.dir.0.join("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < end, "no server ({ended:?}): {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
