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

use serde_json::Value;

use self::run::{Came, End, Run};
use crate::Stop;
use crate::args::Args;
use crate::process::{cargo, command, root, stdout, succeeds};

/// What a run can be of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Chaos over a store that is made when it is opened, by its URL.
    Store(String),
    /// Chaos over a server that the lab starts, by its kind and how it keeps its data.
    Server(String, String),
    /// The engine in virtual time.
    Sim,
    /// Parsers, from mutated inputs.
    Fuzz,
}

/// What builds and runs the fuzzer: a test binary of the lab, which counts the memory that a parser takes.
const FUZZ: &[&str] = &["test", "--release", "--package", "tenure-lab", "--all-features", "--test", "fuzz"];

/// The stages of a round by name, and what is missing here and why.
type Round = (Vec<(String, Stage)>, Vec<String>);

/// A round, as the command's list of stores tells it: each store once, each way in which a server keeps its data, the
/// simulation and the fuzzer. Says which are missing here, and why.
fn round(listed: &str) -> Result<Round, Stop> {
    let (mut stages, mut missing) = (Vec::new(), Vec::new());
    for line in listed.lines() {
        let told: Value = serde_json::from_str(line).map_err(|e| Stop::Broken(format!("{line:?}: {e}")))?;
        let name = told["name"].as_str().unwrap_or_default();
        if let Some(why) = told["missing"].as_str() {
            missing.push(format!("{name}: {why}"));
        } else if let Some(url) = told["url"].as_str() {
            stages.push((name.to_owned(), Stage::Store(url.to_owned())));
        } else {
            let ways = told["durabilities"].as_array().into_iter().flatten().filter_map(Value::as_str);
            stages.extend(ways.map(|how| (format!("{name}-{how}"), Stage::Server(name.into(), how.into()))));
        }
    }
    if stages.is_empty() {
        return Err(Stop::Broken("the command lists no store that chaos can break".into()));
    }
    stages.push(("sim".to_owned(), Stage::Sim));
    stages.push(("fuzz".to_owned(), Stage::Fuzz));
    Ok((stages, missing))
}

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
    /// How long each run is; from the time and the number of stages if it is not given.
    secs: Option<u64>,
    seed: u64,
    /// Only these stages, if any are named.
    only: Vec<String>,
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
        let whole = |name| match last(name) {
            None => Ok(None),
            Some(text) => {
                let number = text.parse::<u64>().map(Some);
                number.map_err(|_| Stop::Usage(format!("{name} {text:?}: give a whole number")))
            }
        };
        let time = Duration::from_secs_f64(hours * 3600.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Plan {
            time,
            secs: whole("--secs")?,
            seed: whole("--seed")?.unwrap_or(now),
            only: args.all("--only").map(str::to_owned).collect(),
            out: last("--out").map_or_else(|| root().join("target/soak"), PathBuf::from),
        })
    }

    /// The stages that were asked for.
    fn choose(&self, mut stages: Vec<(String, Stage)>) -> Result<Vec<(String, Stage)>, Stop> {
        if let Some(unknown) = self.only.iter().find(|only| stages.iter().all(|(name, _)| name != *only)) {
            let names: Vec<&str> = stages.iter().map(|(name, _)| name.as_str()).collect();
            return Err(Stop::Usage(format!("--only {unknown:?}: there are {}", names.join(", "))));
        }
        stages.retain(|(name, _)| self.only.is_empty() || self.only.contains(name));
        Ok(stages)
    }
}

/// How long each run is, so that a short soak is one whole round.
fn secs(time: Duration, stages: usize) -> u64 {
    let share = time.as_secs() / stages.max(1) as u64;
    share.saturating_sub(AROUND).clamp(5, SECS)
}

/// Runs it; `false` if anything broke.
pub(crate) fn run(args: &[String]) -> Result<bool, Stop> {
    let plan = Plan::of(args)?;
    let build = ["build", "--release", "--package", "tenure-cli", "--features", "proofs", "--target-dir"];
    let target = root().join("target");
    if !succeeds(cargo(&build).arg(&target))? {
        return Err(Stop::Broken("the build failed".into()));
    }
    let tenure = target.join("release/tenure");
    let listed = stdout(&mut command(&tenure.to_string_lossy(), &["--json", "lab", "list"]))?;
    let (stages, missing) = round(&listed)?;
    for why in missing {
        println!("left out: {why}");
    }
    let stages = plan.choose(stages)?;
    let fuzz = stages.iter().any(|(_, stage)| *stage == Stage::Fuzz);
    if fuzz && !succeeds(cargo(FUZZ).arg("--no-run"))? {
        return Err(Stop::Broken("the build of the fuzzer failed".into()));
    }
    fs::create_dir_all(&plan.out)?;
    let hours = plan.time.as_secs_f64() / 3600.0;
    println!("{hours} h from seed {}; what fails is kept in {}", plan.seed, plan.out.display());
    let sum = alternate(&plan, &stages, &tenure)?;
    println!("\n{}", sum.line());
    Ok(sum.good())
}

/// One run after the other until the time is up; the one that is under way then comes to its end.
fn alternate(plan: &Plan, stages: &[(String, Stage)], tenure: &Path) -> Result<Sum, Stop> {
    let began = Instant::now();
    let mut sum = Sum::default();
    let secs = plan.secs.unwrap_or_else(|| secs(plan.time, stages.len())).max(1);
    for ((name, stage), n) in stages.iter().cycle().zip(0..) {
        if began.elapsed() >= plan.time {
            break;
        }
        let run = Run { name, stage, seed: plan.seed + n, secs };
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

    const LISTED: &str = r#"{"name":"sale","what":"a scenario"}
{"name":"here","what":"","url":"here:","durabilities":[],"missing":null}
{"name":"far","what":"","url":null,"durabilities":["always","none"],"missing":null}
{"name":"away","what":"","url":null,"durabilities":["always"],"missing":"away-server is not installed"}"#;

    #[test]
    fn a_round_is_what_the_command_lists() {
        let Ok((stages, missing)) = round(LISTED) else { panic!("refused") };
        let names: Vec<&str> = stages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["here", "far-always", "far-none", "sim", "fuzz"]);
        assert_eq!(stages[2].1, Stage::Server("far".into(), "none".into()));
        assert_eq!(missing, ["away: away-server is not installed"]);
        assert!(matches!(round(r#"{"name":"sale"}"#), Err(Stop::Broken(_))), "nothing to break");
    }

    #[test]
    fn a_short_soak_is_a_whole_round_of_shorter_runs() {
        assert_eq!(secs(Duration::from_secs(180), 6), 15);
        let Ok(long) = plan(&["--hours=8", "--only", "far-none", "--only", "sim", "--seed", "7"]) else {
            panic!("refused")
        };
        assert_eq!((long.secs, secs(long.time, 2), long.seed), (None, SECS, 7));
        let Ok((stages, _)) = round(LISTED) else { panic!("refused") };
        let Ok(chosen) = long.choose(stages.clone()) else { panic!("refused") };
        assert_eq!(chosen, stages[2..4]);
        let Ok(floppy) = plan(&["--only", "floppy"]) else { panic!("refused") };
        assert!(matches!(floppy.choose(stages), Err(Stop::Usage(_))));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in
            [&["--hours", "0"][..], &["--hours", "long"], &["--hours", "NaN"], &["--secs", "-1"], &["now"]]
        {
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
