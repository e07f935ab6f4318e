//! One run of a soak: a command of its own, its output kept if anything failed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{FUZZ, Stage};
use crate::Stop;
use crate::process::{cargo, command};

/// How many simulated runs are made in a second, roughly, so that a stage of them takes about as long as the others.
const SIMULATED: u64 = 3_000;
/// How many parsers are fuzzed, roughly, one after the other.
const PARSERS: u64 = 16;
/// A run ends by itself within four times its seconds. So long after that, it hangs.
const GRACE: u64 = 180;

/// One run.
pub(super) struct Run<'a> {
    pub(super) name: &'a str,
    pub(super) stage: &'a Stage,
    pub(super) seed: u64,
    pub(super) secs: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Every promise held.
    Held,
    /// These rules were broken.
    Broken(Vec<String>),
    /// Too little happened.
    Short,
    /// It did not come to a verdict.
    Died(String),
}

/// What a run came to.
#[derive(Clone, Debug)]
pub(super) struct Came {
    pub(super) end: End,
    pub(super) acquisitions: u64,
    pub(super) windows: u64,
    pub(super) simulated: u64,
    /// Inputs that the fuzzer made.
    pub(super) inputs: u64,
    pub(super) took: Duration,
    /// Where its history and its log are.
    pub(super) kept: Option<PathBuf>,
    /// The command that repeats it.
    pub(super) repeat: Option<String>,
}

impl Came {
    pub(super) fn of(end: End) -> Came {
        Came {
            end,
            acquisitions: 0,
            windows: 0,
            simulated: 0,
            inputs: 0,
            took: Duration::ZERO,
            kept: None,
            repeat: None,
        }
    }

    /// For people.
    pub(super) fn line(&self, run: &Run<'_>) -> String {
        let done = match run.stage {
            Stage::Sim => format!("{:>9} simulated runs", self.simulated),
            Stage::Fuzz => format!("{:>9} fuzzed inputs", self.inputs),
            _ => format!("{:>9} acquisitions, {:>4} fault windows", self.acquisitions, self.windows),
        };
        let end = match &self.end {
            End::Held => "held".to_owned(),
            End::Broken(rules) => format!("BROKEN: {}", rules.join(", ")),
            End::Short => "BELOW ITS FLOOR".to_owned(),
            End::Died(how) => format!("DIED: {how}"),
        };
        let mut line = format!(
            "{:<14} seed {:<11} {done}, {:>4} s: {end}",
            run.name,
            run.first_seed(),
            self.took.as_secs()
        );
        for (what, value) in [
            ("kept in", self.kept.as_ref().map(|kept| kept.display().to_string())),
            ("repeat with", self.repeat.clone()),
        ] {
            if let Some(value) = value {
                line += &format!("\n      {what} {value}");
            }
        }
        line
    }
}

impl Run<'_> {
    /// Simulated runs take a range of seeds, which no other run of the soak has.
    fn first_seed(&self) -> u64 {
        if *self.stage == Stage::Sim { self.seed % (1 << 40) * 1_000_000 } else { self.seed }
    }

    fn arguments(&self, dir: &Path) -> Vec<String> {
        let (secs, seed, out) = (self.secs.to_string(), self.first_seed().to_string(), dir.join("run"));
        let out = out.to_string_lossy().into_owned();
        let (store, kind) = match self.stage {
            Stage::Sim => {
                let runs = (SIMULATED * self.secs).to_string();
                return ["--json", "lab", "sim", "--runs", &runs, "--seed", &seed]
                    .map(str::to_owned)
                    .to_vec();
            }
            Stage::Fuzz => return Vec::new(),
            Stage::Store(url) => (vec!["--url", url], vec![]),
            Stage::Server(name, how) => (vec![], vec!["--server", name, "--durability", how]),
        };
        let chaos = ["--json", "lab", "chaos", "--secs", &secs, "--seed", &seed, "--out", &out];
        store.into_iter().chain(chaos).chain(kind).map(str::to_owned).collect()
    }

    /// Runs it. What it leaves in `out` is removed if nothing failed.
    pub(super) fn go(&self, tenure: &Path, out: &Path) -> Result<Came, Stop> {
        let dir = out.join(format!("{}-{}", self.name, self.first_seed()));
        fs::create_dir_all(&dir)?;
        let (told, said) = (dir.join("verdicts.jsonl"), dir.join("log"));
        let began = Instant::now();
        let each = (self.secs / PARSERS).max(1).to_string();
        let mut command = match self.stage {
            Stage::Fuzz => cargo(FUZZ),
            _ => command(&tenure.to_string_lossy(), &[]),
        };
        command.args(self.arguments(&dir));
        command.env("TENURE_LAB_FUZZ_SECS", &each).env("TENURE_LAB_SEED", self.seed.to_string());
        command.stdout(File::create(&told)?).stderr(File::create(&said)?);
        let mut child = command.spawn()?;
        let status = wait(&mut child, began + Duration::from_secs(4 * self.secs + GRACE))?;
        let told = fs::read_to_string(&told)?;
        let mut came = match self.stage {
            Stage::Fuzz => fuzzed(status, &told),
            _ => came(status, &told),
        };
        if *self.stage == Stage::Fuzz && came.end != End::Held {
            let seed = self.seed;
            came.repeat =
                Some(format!("TENURE_LAB_SEED={seed} TENURE_LAB_FUZZ_SECS={each} cargo {}", FUZZ.join(" ")));
        }
        came.took = began.elapsed();
        if came.end == End::Held {
            fs::remove_dir_all(&dir)?;
        } else {
            came.kept = Some(dir);
        }
        Ok(came)
    }
}

/// `None`: it had to be killed.
fn wait(child: &mut Child, until: Instant) -> Result<Option<ExitStatus>, Stop> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Reads what the fuzzer said: a line for each parser.
fn fuzzed(status: Option<ExitStatus>, told: &str) -> Came {
    let of = |end: &'static str| move |line: &&str| line.starts_with("test ") && line.contains(end);
    let number = |line: &str| line.split_once(" inputs")?.0.rsplit_once('(')?.1.parse::<u64>().ok();
    let broken: Vec<String> = told
        .lines()
        .filter(of(" ... FAILED"))
        .filter_map(|line| line.split(' ').nth(1).map(str::to_owned))
        .collect();
    let inputs = told.lines().filter(of(" ... ok")).filter_map(number).sum();
    let end = match status {
        None => End::Died("it hung, and was killed".into()),
        Some(status) if status.success() && inputs > 0 => End::Held,
        Some(_) if !broken.is_empty() => End::Broken(broken),
        Some(status) => End::Died(status.to_string()),
    };
    Came { inputs, ..Came::of(end) }
}

/// Reads the verdicts of a run, or the object of a simulation.
fn came(status: Option<ExitStatus>, told: &str) -> Came {
    let lines: Vec<Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut broken = Vec::new();
    let mut came = Came::of(End::Held);
    for line in &lines {
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        if line["status"] == "broken" {
            broken.push(text("rule"));
        }
        if line["rule"] == "floor" {
            let count = |field: &str| line["counts"][field].as_u64().unwrap_or(0);
            (came.acquisitions, came.windows) = (count("acquisitions"), count("fault windows"));
        }
        came.simulated += if line["sim"].is_null() { 0 } else { line["runs"].as_u64().unwrap_or(0) };
        if let Some(wrong) = line.get("broken").filter(|wrong| !wrong.is_null()) {
            broken.push(wrong["rule"].as_str().unwrap_or("?").to_owned());
            came.repeat = wrong["repeat"].as_str().map(str::to_owned);
        }
        if came.repeat.is_none() && !text("replay").is_empty() {
            came.repeat = Some(text("replay"));
        }
    }
    came.end = match status.map(|status| (status, status.code())) {
        None => End::Died("it hung, and was killed".into()),
        Some((_, Some(0))) if !lines.is_empty() => return Came { repeat: None, ..came },
        Some((_, Some(1))) if !broken.is_empty() => End::Broken(broken),
        Some((_, Some(2))) if !lines.is_empty() => End::Short,
        Some((status, _)) => End::Died(status.to_string()),
    };
    came
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn after(code: i32, told: &str) -> Came {
        came(Some(ExitStatus::from_raw(code << 8)), told)
    }

    const FLOOR: &str = r#"{"rule":"floor","status":"held","counts":{"acquisitions":7,"fault windows":3},"replay":"tenure x"}"#;

    #[test]
    fn verdicts_are_read() {
        let held = after(0, FLOOR);
        assert_eq!((held.end, held.acquisitions, held.windows, held.repeat), (End::Held, 7, 3, None));
        let wrong = format!("{{\"rule\":\"S1\",\"status\":\"broken\",\"replay\":\"tenure x\"}}\n{FLOOR}");
        let broken = after(1, &wrong);
        assert_eq!((broken.end, broken.acquisitions), (End::Broken(vec!["S1".into()]), 7));
        assert_eq!(broken.repeat.as_deref(), Some("tenure x"));
        assert_eq!(after(2, FLOOR).end, End::Short);
    }

    #[test]
    fn simulations_are_read() {
        let held = after(0, r#"{"sim":1,"runs":12,"broken":null}"#);
        assert_eq!((held.end, held.simulated), (End::Held, 12));
        let broken = after(1, r#"{"sim":1,"runs":2,"broken":{"rule":"S9","repeat":"tenure lab sim"}}"#);
        assert_eq!(
            (broken.end, broken.repeat.as_deref()),
            (End::Broken(vec!["S9".into()]), Some("tenure lab sim"))
        );
    }

    #[test]
    fn fuzzed_inputs_are_counted_and_wrong_parsers_are_named() {
        let told = "test RESP ... ok (12362 inputs, 3467 kinds of outcomes; it asserts)\ntest URLs ... ok (8 inputs, 1)\n";
        let held = fuzzed(Some(ExitStatus::from_raw(0)), told);
        assert_eq!((held.end, held.inputs), (End::Held, 12_370));
        let wrong = fuzzed(Some(ExitStatus::from_raw(101 << 8)), &format!("{told}test handles ... FAILED\n"));
        assert_eq!(wrong.end, End::Broken(vec!["handles".into()]));
        assert!(matches!(fuzzed(Some(ExitStatus::from_raw(0)), "").end, End::Died(_)), "nothing ran");
        assert!(matches!(fuzzed(None, told).end, End::Died(_)), "hung");
    }

    #[test]
    fn what_comes_to_no_verdict_has_died() {
        for (status, told) in
            [(0, ""), (1, ""), (1, FLOOR), (2, ""), (70, FLOOR)].map(|(code, told)| (code << 8, told))
        {
            let came = came(Some(ExitStatus::from_raw(status)), told);
            assert!(matches!(came.end, End::Died(_)), "{status}: {:?}", came.end);
        }
        assert!(matches!(came(Some(ExitStatus::from_raw(9)), FLOOR).end, End::Died(_)), "killed");
        assert!(matches!(came(None, FLOOR).end, End::Died(_)), "hung");
    }
}
