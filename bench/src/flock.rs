//! The bare `flock` call: the kernel's lock on an open file. No token, no order, no lease.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::report::{Measured, now};
use crate::{Fault, Plan};

/// How many processes `fan` spreads its tasks over, and how long a holder of `handoff` holds.
const FAN: usize = 10;
pub(crate) const HOLD: Duration = Duration::from_millis(20);
/// Every so many cycles one is timed: reading the clock must not be what is measured.
const SAMPLE: u64 = 64;

/// A file below the system's directory for temporary files, gone when this is dropped.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Result<Scratch, Fault> {
        let path = std::env::temp_dir().join(format!("tenure-bench-{}-{name}", std::process::id()));
        File::create(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Measures one workload.
pub(crate) fn run(plan: &Plan) -> Result<(), Fault> {
    let files = |n: usize| (0..n).map(|i| Scratch::new(&i.to_string())).collect::<Result<Vec<_>, _>>();
    let (cycles, latencies) = match plan.workload.as_str() {
        "solo" => tasks(&files(1)?, 1, plan.time)?,
        "spread" => tasks(&files(plan.tasks)?, plan.tasks, plan.time)?,
        "storm" => tasks(&files(1)?, plan.tasks, plan.time)?,
        "fan" => fan(plan, &files(1)?[0].0)?,
        "handoff" => handoff(plan, &files(1)?[0].0)?,
        other => return Err(format!("there is no workload {other:?} for flock").into()),
    };
    Measured { peer: "flock(2)", work: plan.workload.clone(), cycles, time: plan.time, latencies }.print();
    Ok(())
}

/// A process of `fan`, which prints its tasks' cycles and latencies; or the other side of `handoff`.
pub(crate) fn child(plan: &Plan, file: &str) -> Result<(), Fault> {
    if plan.workload == "handoff" {
        return alternate(Path::new(file), plan.time).map(|released| print_numbers(&released));
    }
    let open = (0..plan.tasks).map(|_| File::open(file)).collect::<Result<Vec<_>, _>>()?;
    let (cycles, latencies) = loops(&open, plan.time)?;
    print_numbers(&cycles);
    print_numbers(&latencies);
    Ok(())
}

fn tasks(files: &[Scratch], tasks: usize, time: Duration) -> Result<(Vec<u64>, Vec<u64>), Fault> {
    let open = (0..tasks).map(|i| File::open(&files[i % files.len()].0)).collect::<Result<Vec<_>, _>>()?;
    loops(&open, time)
}

/// A thread per open file, each taking and giving back its lock in a loop.
fn loops(open: &[File], time: Duration) -> Result<(Vec<u64>, Vec<u64>), Fault> {
    let end = now() + u64::try_from(time.as_nanos())?;
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = open.iter().map(|file| scope.spawn(move || one(file, end))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    let (mut cycles, mut latencies) = (Vec::new(), Vec::new());
    for result in results {
        let (count, times) = result?;
        cycles.push(count);
        latencies.extend(times);
    }
    Ok((cycles, latencies))
}

fn one(file: &File, end: u64) -> Result<(u64, Vec<u64>), Fault> {
    let (mut cycles, mut latencies) = (0, Vec::new());
    loop {
        let before = now();
        if before >= end {
            return Ok((cycles, latencies));
        }
        flock(file, FlockOperation::LockExclusive)?;
        latencies.push(now() - before);
        flock(file, FlockOperation::Unlock)?;
        cycles += 1;
        // A cycle that had to wait is long enough to be timed every time; one that had not is not.
        if latencies.last().is_some_and(|ns| *ns < 20_000) {
            for _ in 1..SAMPLE {
                flock(file, FlockOperation::LockExclusive)?;
                flock(file, FlockOperation::Unlock)?;
            }
            cycles += SAMPLE - 1;
        }
    }
}

fn fan(plan: &Plan, file: &Path) -> Result<(Vec<u64>, Vec<u64>), Fault> {
    let tasks = plan.tasks.div_ceil(FAN).to_string();
    let start = || spawn(&["flock", "--workload", "fan", "--tasks", &tasks], plan.time, file);
    let children = (0..FAN).map(|_| start()).collect::<Result<Vec<_>, _>>()?;
    let (mut cycles, mut latencies) = (Vec::new(), Vec::new());
    for child in children {
        let said = String::from_utf8(child.wait_with_output()?.stdout)?;
        let mut lines = said.lines().map(numbers);
        cycles.extend(lines.next().ok_or("a child said nothing")??);
        latencies.extend(lines.next().ok_or("a child said too little")??);
    }
    Ok((cycles, latencies))
}

/// Two processes take turns; the latency is from just before the unlock until the other's lock call has returned.
fn handoff(plan: &Plan, file: &Path) -> Result<(Vec<u64>, Vec<u64>), Fault> {
    let child = spawn(&["flock", "--workload", "handoff"], plan.time, file)?;
    let mut moments = alternate(file, plan.time)?;
    let said = String::from_utf8(child.wait_with_output()?.stdout)?;
    moments.extend(numbers(said.trim())?);
    // Pairs of (taken, released), of both processes, in order of time: each release is followed by the other's taking.
    let mut pairs: Vec<(u64, u64)> = moments.chunks_exact(2).map(|p| (p[0], p[1])).collect();
    pairs.sort_unstable();
    let latencies: Vec<u64> = pairs.windows(2).map(|w| w[1].0.saturating_sub(w[0].1)).collect();
    Ok((vec![pairs.len() as u64], latencies))
}

/// Takes the lock, holds it, gives it back and leaves it to the other for a moment.
fn alternate(file: &Path, time: Duration) -> Result<Vec<u64>, Fault> {
    let open = File::open(file)?;
    let end = now() + u64::try_from(time.as_nanos())?;
    let mut moments = Vec::new();
    while now() < end {
        flock(&open, FlockOperation::LockExclusive)?;
        let taken = now();
        thread::sleep(HOLD);
        moments.extend([taken, now()]);
        flock(&open, FlockOperation::Unlock)?;
        thread::sleep(HOLD / 4); // the kernel's lock is not fair: without this the same process would take it again
    }
    Ok(moments)
}

pub(crate) fn spawn(args: &[&str], time: Duration, file: &Path) -> Result<std::process::Child, Fault> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args).args(["--secs", &time.as_secs_f64().to_string(), "--child"]).arg(file);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
}

fn print_numbers(numbers: &[u64]) {
    println!("{}", numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" "));
}

fn numbers(line: &str) -> Result<Vec<u64>, Fault> {
    line.split_whitespace().map(|n| Ok(n.parse()?)).collect()
}
