//! A holder is killed: how long until the next in line has its lock?

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tenure::{Locks, Mutex};

use crate::flock::Scratch;
use crate::report::{Measured, now};
use crate::{Fault, Plan};

/// Rounds of both kinds, one after the other, so that the machine is the same for both.
pub(crate) fn run(plan: &Plan) -> Result<(), Fault> {
    let file = Scratch::new("dead")?;
    let path = file.0.to_string_lossy().into_owned();
    let locks = Locks::builder("host:").namespace(&format!("bench-{}", std::process::id())).blocking_connect()?;
    let mutex = locks.mutex("dead")?;
    let (mut ours, mut kernel) = (Vec::new(), Vec::new());
    let start = now();
    for _ in 0..plan.rounds {
        ours.push(one_of_ours(&locks, &mutex)?);
        kernel.push(one_of_flock(&path)?);
    }
    let time = Duration::from_nanos(now() - start);
    for (peer, latencies) in [("tenure", ours), ("flock(2)", kernel)] {
        let cycles = vec![latencies.len() as u64];
        Measured { peer, work: "dead".into(), cycles, time, latencies }.print();
    }
    locks.blocking_close()?;
    Ok(())
}

/// Holds what it is told to hold, says so, and waits to be killed.
pub(crate) fn child(what: &str) -> Result<(), Fault> {
    let (mut guard, mut open) = (None, None);
    match what.strip_prefix("tenure:") {
        Some(namespace) => {
            let locks = Locks::builder("host:").namespace(namespace).blocking_connect()?;
            guard = Some(locks.mutex("dead")?.blocking_lock()?);
        }
        None => {
            let file = open.insert(File::open(what)?);
            flock(&*file, FlockOperation::LockExclusive)?;
        }
    }
    println!("held");
    // Ends with its parent: its stdin is a pipe that the parent never writes to.
    std::io::stdin().lines().for_each(drop);
    drop((guard, open));
    Ok(())
}

fn one_of_ours(locks: &Locks, mutex: &Mutex) -> Result<u64, Fault> {
    let mut holder = holder(&format!("tenure:{}", locks.namespace()))?;
    let waiter = mutex.clone();
    let waiting = thread::spawn(move || waiter.blocking_lock().map(|guard| (now(), guard)));
    while locks.blocking_inspect("dead")?.is_none_or(|line| line.waiters == 0) {
        thread::sleep(Duration::from_millis(1));
    }
    let killed = kill(&mut holder)?;
    let (granted, guard) = waiting.join().map_err(|_| "the waiter panicked")??;
    guard.blocking_release()?;
    Ok(granted.saturating_sub(killed))
}

fn one_of_flock(path: &str) -> Result<u64, Fault> {
    let mut holder = holder(path)?;
    let file = File::open(Path::new(path))?;
    let waiting = thread::spawn(move || flock(&file, FlockOperation::LockExclusive).map(|()| now()));
    thread::sleep(Duration::from_millis(20)); // nothing shows who waits for a flock
    let killed = kill(&mut holder)?;
    Ok(waiting.join().map_err(|_| "the waiter panicked")??.saturating_sub(killed))
}

fn holder(what: &str) -> Result<Child, Fault> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.args(["dead", "--child", what]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut said)?;
    if said.trim() != "held" {
        return Err("the holder could not take the lock".into());
    }
    Ok(child)
}

/// Kills it, and says when.
fn kill(child: &mut Child) -> Result<u64, Fault> {
    let killed = now();
    child.kill()?;
    child.wait()?;
    Ok(killed)
}
