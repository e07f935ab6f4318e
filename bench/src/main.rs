//! What Tenure's figures are compared with, measured the same way and printed in the same form as `tenure bench`.
//!
//! `peers flock --workload solo|spread|storm|fan|handoff`: the bare `flock` call. `peers futex`: waking another process
//! that sleeps. `peers dead`: a holder is killed; how long until the next in line has the lock, with Tenure on `host:`
//! and with flock.

mod dead;
mod flock;
mod futex;
mod report;

use std::process::ExitCode;
use std::time::Duration;

/// What went wrong, in a sentence.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// What to do.
struct Plan {
    what: String,
    workload: String,
    time: Duration,
    tasks: usize,
    rounds: usize,
    /// The file or lock that a child of this program works on.
    child: Option<String>,
}

fn main() -> ExitCode {
    match plan(std::env::args().skip(1)).and_then(|plan| run(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("peers: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: &Plan) -> Result<(), Fault> {
    match (plan.what.as_str(), &plan.child) {
        ("flock", None) => flock::run(plan),
        ("flock", Some(file)) => flock::child(plan, file),
        ("futex", None) => futex::run(plan),
        ("futex", Some(file)) => futex::child(plan, file),
        ("dead", None) => dead::run(plan),
        ("dead", Some(what)) => dead::child(what),
        (other, _) => Err(format!("there is no peer {other:?}: flock, futex or dead").into()),
    }
}

fn plan(mut args: impl Iterator<Item = String>) -> Result<Plan, Fault> {
    let mut plan = Plan {
        what: args.next().ok_or("which peer: flock, futex or dead?")?,
        workload: "solo".into(),
        time: Duration::from_secs(3),
        tasks: 100,
        rounds: 50,
        child: None,
    };
    while let Some(name) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--workload" => plan.workload = value()?,
            "--secs" => plan.time = Duration::try_from_secs_f64(value()?.parse()?)?,
            "--tasks" => plan.tasks = value()?.parse::<usize>()?.max(1),
            "--rounds" => plan.rounds = value()?.parse::<usize>()?.max(1),
            "--child" => plan.child = Some(value()?),
            _ => return Err(format!("unknown argument {name:?}").into()),
        }
    }
    Ok(plan)
}
