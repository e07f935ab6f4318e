//! A holder is killed: how long until the next in line has its lock, with Tenure on `host:` and with the kernel's
//! `flock`? Prints a line of JSON for each, in the form of `tenure bench`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::time::{ClockId, clock_gettime};
use tenure::{Locks, Mutex};

/// What went wrong.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// How often each holder dies.
const ROUNDS: usize = 50;
/// The lock's name.
const LOCK: &str = "dead";
/// Begins the argument of a child that holds a lock of Tenure: the namespace follows.
const OURS: &str = "tenure:";

fn main() -> ExitCode {
    let result = match std::env::args().nth(1) {
        None => measure(),
        Some(what) => hold(&what),
    };
    if let Err(fault) = result {
        eprintln!("dead: {fault}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// One of ours and one of the kernel's in turn, so that the machine is the same for both.
fn measure() -> Result<(), Fault> {
    let file = Scratch::new()?;
    let locks =
        Locks::builder("host:").namespace(&format!("bench-{}", std::process::id())).blocking_connect()?;
    let mutex = locks.mutex(LOCK)?;
    let (mut ours, mut kernel) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(one_of_ours(&locks, &mutex)?);
        kernel.push(one_of_flock(&file.0)?);
    }
    print("tenure", ours);
    print("flock", kernel);
    Ok(locks.blocking_close()?)
}

fn one_of_ours(locks: &Locks, mutex: &Mutex) -> Result<u64, Fault> {
    let mut holder = holder(&format!("{OURS}{}", locks.namespace()))?;
    let waiter = mutex.clone();
    let waiting = thread::spawn(move || waiter.blocking_lock().map(|guard| (now(), guard)));
    while locks.blocking_inspect(LOCK)?.is_none_or(|line| line.waiters == 0) {
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(20)); // as below
    let killed = kill(&mut holder)?;
    let (granted, guard) = waiting.join().map_err(|_| "the waiter panicked")??;
    guard.blocking_release()?;
    Ok(granted.saturating_sub(killed))
}

fn one_of_flock(path: &Path) -> Result<u64, Fault> {
    let mut holder = holder(&path.to_string_lossy())?;
    let file = File::open(path)?;
    let waiting = thread::spawn(move || flock(&file, FlockOperation::LockExclusive).map(|()| now()));
    thread::sleep(Duration::from_millis(20)); // nothing shows who waits for a flock
    let killed = kill(&mut holder)?;
    Ok(waiting.join().map_err(|_| "the waiter panicked")??.saturating_sub(killed))
}

/// The child: holds what it is told to hold, says so, and waits to be killed.
fn hold(what: &str) -> Result<(), Fault> {
    let (mut guard, mut open) = (None, None);
    match what.strip_prefix(OURS) {
        Some(namespace) => {
            let locks = Locks::builder("host:").namespace(namespace).blocking_connect()?;
            guard = Some(locks.mutex(LOCK)?.blocking_lock()?);
        }
        None => flock(&*open.insert(File::open(what)?), FlockOperation::LockExclusive)?,
    }
    println!("held");
    // Its stdin is a pipe that its parent never writes to: should the parent die, so does the child.
    std::io::stdin().lines().for_each(drop);
    drop((guard, open));
    Ok(())
}

fn holder(what: &str) -> Result<Child, Fault> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.arg(what).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut said)?;
    if said.trim() == "held" { Ok(child) } else { Err("the holder could not take the lock".into()) }
}

/// Kills it, and says when.
fn kill(child: &mut Child) -> Result<u64, Fault> {
    let killed = now();
    child.kill()?;
    child.wait()?;
    Ok(killed)
}

/// A clock that all threads share, in ns.
fn now() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    u64::try_from(t.tv_sec).unwrap_or_default() * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap_or_default()
}

fn print(peer: &str, mut latencies: Vec<u64>) {
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100] as f64 / 1000.0;
    let (cycles, p50, p99, max) = (latencies.len(), at(50), at(99), at(100));
    println!(
        "{{\"peer\":\"{peer}\",\"work\":\"dead\",\"cycles\":{cycles},\"p50_us\":{p50:.1},\"p99_us\":{p99:.1},\
         \"max_us\":{max:.1},\"errors\":0}}"
    );
}

/// A file of our own, gone when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, Fault> {
        let path = std::env::temp_dir().join(format!("tenure-bench-dead-{}", std::process::id()));
        File::create_new(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
