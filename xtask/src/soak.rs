//! `cargo xtask soak`: the long run. Chaos over one store after the other, the engine in virtual time, and fuzzing of the
//! parsers, with new seeds each time, until the time is up. A run in which nothing broke leaves a line; any other run
//! leaves everything.
//!
//! - here: what is run, and the sums.
//! - `run`: one run.

mod run;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::run::{Came, End, Run};
use crate::Stop;
use crate::args::Args;
use crate::process::{cargo, find, root, succeeds};

/// What a run can be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Memory,
    Host,
    /// A redis-server that keeps its data like this.
    Redis(&'static str),
    /// The engine in virtual time.
    Sim,
    /// Parsers, from mutated inputs.
    Fuzz,
}

/// What builds and runs the fuzzer: a test binary of the lab, which counts the memory that a parser takes.
const FUZZ: &[&str] = &["test", "--release", "--package", "tenure-lab", "--all-features", "--test", "fuzz"];

/// A round: each of them once.
const ROUND: &[(&str, Stage)] = &[
    ("memory", Stage::Memory),
    ("host", Stage::Host),
    ("redis-always", Stage::Redis("always")),
    ("redis-everysec", Stage::Redis("everysec")),
    ("redis-none", Stage::Redis("none")),
    ("sim", Stage::Sim),
    ("fuzz", Stage::Fuzz),
];

/// How long the faults of a run last at least, in seconds. More is no better: a new seed finds more than an old one.
const SECS: u64 = 45;
/// What a run takes beyond that: it heals, and what is left behind ends.
const AROUND: u64 = 15;

/// What all runs came to.
#[derive(Debug, Default)]
struct Sum {
    runs: u64,
    acquisitions: u64,
    windows: u64,
    simulated: u64,
    inputs: u64,
    broken: u64,
    short: u64,
    died: u64,
}

impl Sum {
    fn add(&mut self, came: &Came) {
        self.runs += 1;
        self.acquisitions += came.acquisitions;
        self.windows += came.windows;
        self.simulated += came.simulated;
        self.inputs += came.inputs;
        match came.end {
            End::Held => {}
            End::Broken(_) => self.broken += 1,
            End::Short => self.short += 1,
            End::Died(_) => self.died += 1,
        }
    }

    fn good(&self) -> bool {
        self.broken + self.short + self.died == 0
    }

    fn line(&self) -> String {
        format!(
            "{} runs, {} acquisitions, {} fault windows, {} simulated runs, {} fuzzed inputs: {} broken, {} below their \
             floor, {} died",
            self.runs,
            self.acquisitions,
            self.windows,
            self.simulated,
            self.inputs,
            self.broken,
            self.short,
            self.died
        )
    }
}

/// What was asked for.
struct Plan {
    time: Duration,
    secs: u64,
    seed: u64,
    stages: Vec<(&'static str, Stage)>,
    out: PathBuf,
}

impl Plan {
    fn of(args: &[String]) -> Result<Plan, Stop> {
        let options = ["--hours", "--secs", "--seed", "--only", "--out"];
        let args = Args::parse(args, &[], &options)?.no_words()?;
        let last = |name| args.all(name).last();
        let hours = last("--hours").unwrap_or("8");
        let hours = match hours.parse::<f64>() {
            Ok(n) if n > 0.0 && n <= 10_000.0 => n,
            _ => {
                return Err(Stop::Usage(format!("--hours {hours:?}: give a number of hours, like 8 or 0.5")));
            }
        };
        let whole = |name, otherwise: u64| match last(name) {
            None => Ok(otherwise),
            Some(text) => {
                text.parse().map_err(|_| Stop::Usage(format!("{name} {text:?}: give a whole number")))
            }
        };
        let only: Vec<&str> = args.all("--only").collect();
        let names = || ROUND.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        if let Some(unknown) = only.iter().find(|only| ROUND.iter().all(|(name, _)| name != *only)) {
            return Err(Stop::Usage(format!("--only {unknown:?}: there are {}", names())));
        }
        let stages: Vec<_> =
            ROUND.iter().filter(|(name, _)| only.is_empty() || only.contains(name)).copied().collect();
        let time = Duration::from_secs_f64(hours * 3600.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Plan {
            time,
            secs: whole("--secs", secs(time, stages.len()))?.max(1),
            seed: whole("--seed", now)?,
            stages,
            out: last("--out").map_or_else(|| root().join("target/soak"), PathBuf::from),
        })
    }
}

/// How long each run is, so that a short soak is one whole round.
fn secs(time: Duration, stages: usize) -> u64 {
    let share = time.as_secs() / stages.max(1) as u64;
    share.saturating_sub(AROUND).clamp(5, SECS)
}

/// Runs it; `false` if anything broke.
pub(crate) fn run(args: &[String]) -> Result<bool, Stop> {
    let mut plan = Plan::of(args)?;
    if find("redis-server").is_none() && plan.stages.iter().any(|(_, stage)| matches!(stage, Stage::Redis(_)))
    {
        println!("no redis-server here (`cargo xtask servers --install redis`): its runs are left out");
        plan.stages.retain(|(_, stage)| !matches!(stage, Stage::Redis(_)));
    }
    if plan.stages.is_empty() {
        return Err(Stop::Broken("nothing is left to run".into()));
    }
    let build = ["build", "--release", "--package", "tenure-cli", "--target-dir"];
    let target = root().join("target");
    if !succeeds(cargo(&build).arg(&target))? {
        return Err(Stop::Broken("the build failed".into()));
    }
    let fuzz = plan.stages.iter().any(|(_, stage)| *stage == Stage::Fuzz);
    if fuzz && !succeeds(cargo(FUZZ).arg("--no-run"))? {
        return Err(Stop::Broken("the build of the fuzzer failed".into()));
    }
    let tenure = target.join("release/tenure");
    fs::create_dir_all(&plan.out)?;
    let hours = plan.time.as_secs_f64() / 3600.0;
    println!("{hours} h from seed {}; what fails is kept in {}", plan.seed, plan.out.display());
    let sum = alternate(&plan, &tenure)?;
    println!("\n{}", sum.line());
    Ok(sum.good())
}

/// One run after the other until the time is up; the one that is under way then comes to its end.
fn alternate(plan: &Plan, tenure: &Path) -> Result<Sum, Stop> {
    let began = Instant::now();
    let mut sum = Sum::default();
    for ((name, stage), n) in plan.stages.iter().cycle().zip(0..) {
        if began.elapsed() >= plan.time {
            break;
        }
        let run = Run { name, stage: *stage, seed: plan.seed + n, secs: plan.secs };
        let came = run.go(tenure, &plan.out)?;
        sum.add(&came);
        println!("{:>5} {} {}", sum.runs, clock(began.elapsed()), came.line(&run));
    }
    Ok(sum)
}

fn clock(time: Duration) -> String {
    let secs = time.as_secs();
    format!("{:02}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &[&str]) -> Result<Plan, Stop> {
        Plan::of(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_short_soak_is_a_whole_round_of_shorter_runs() {
        let Ok(short) = plan(&["--hours", "0.05"]) else { panic!("refused") };
        assert_eq!((short.time, short.secs, short.stages.len()), (Duration::from_secs(180), 10, ROUND.len()));
        let Ok(long) = plan(&["--hours=8", "--only", "host", "--only", "sim", "--seed", "7"]) else {
            panic!("refused")
        };
        assert_eq!((long.secs, long.seed), (SECS, 7));
        assert_eq!(long.stages, [("host", Stage::Host), ("sim", Stage::Sim)]);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            &["--hours", "0"][..],
            &["--hours", "long"],
            &["--hours", "NaN"],
            &["--only", "floppy"],
            &["--secs", "-1"],
            &["now"],
        ] {
            assert!(matches!(plan(bad), Err(Stop::Usage(_))), "{bad:?}");
        }
    }

    #[test]
    fn whatever_is_not_held_fails_the_soak() {
        for end in [End::Broken(vec!["S1".into()]), End::Short, End::Died("exit status: 70".into())] {
            let mut sum = Sum::default();
            sum.add(&Came { acquisitions: 5, ..Came::of(End::Held) });
            assert!(sum.good());
            sum.add(&Came::of(end));
            assert!(!sum.good() && sum.runs == 2 && sum.acquisitions == 5);
        }
    }
}
