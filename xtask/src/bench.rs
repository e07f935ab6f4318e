//! `cargo xtask bench`: ratios of Tenure to what the kernel offers and to other people's crates, taken side by side in
//! one run. Asserts nothing: a figure belongs to the machine and the minute it was taken in.
//!
//! - here: one host. - `redis`: one Redis server. - `kinds`: the other locks beside a mutex.

mod kinds;
mod redis;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Stop;
use crate::args::Args;
use crate::process::{cargo, command, root, stdout, succeeds};

/// How often each pair is measured, A B A B A B; of the ratios the middle one counts.
const ROUNDS: usize = 3;

/// What a ratio should be.
#[derive(Clone, Copy)]
enum Floor {
    AtLeast(f64),
    AtMost(f64),
    None,
}

/// One pair to measure.
struct Pair {
    work: &'static str,
    /// The field of the output that is compared.
    field: &'static str,
    peer: &'static str,
    floor: Floor,
}

/// What the issue of the first part asks for has a floor; the rest is for the reader.
const PAIRS: &[Pair] = &[
    Pair { work: "solo", field: "cycles_s", peer: "flock", floor: Floor::AtLeast(0.25) },
    Pair { work: "spread", field: "cycles_s", peer: "flock", floor: Floor::None },
    Pair { work: "storm", field: "cycles_s", peer: "flock", floor: Floor::None },
    Pair { work: "fan", field: "cycles_s", peer: "flock", floor: Floor::None },
    Pair { work: "handoff", field: "p50_us", peer: "futex", floor: Floor::AtMost(20.0) },
    Pair { work: "handoff", field: "p50_us", peer: "flock", floor: Floor::None },
];

/// Where the two programs are.
#[derive(Clone)]
struct Programs {
    tenure: PathBuf,
    dead: PathBuf,
    peers: PathBuf,
    /// Options of every measurement.
    secs: f64,
    url: String,
}

/// Builds as packages are built, measures, prints a table.
pub(crate) fn run(args: &[String]) -> Result<bool, Stop> {
    let args = Args::parse(args, &[], &["--secs", "--only", "--store", "--url"])?.no_words()?;
    let secs = args.all("--secs").last().unwrap_or("3");
    let Some(secs) = secs.parse::<f64>().ok().filter(|s| *s > 0.0 && *s <= 600.0) else {
        return Err(Stop::Usage(format!("--secs {secs:?}: give a number of seconds, at most 600")));
    };
    let only: Vec<&str> = args.all("--only").collect();
    let wanted = |work: &str| only.is_empty() || only.contains(&work);
    let known: Vec<&str> =
        PAIRS.iter().map(|p| p.work).chain(["dead", "run", "kinds"]).chain(redis::NAMES).collect();
    if let Some(unknown) = only.iter().find(|o| !known.contains(o)) {
        return Err(Stop::Usage(format!(
            "no workload is called {unknown:?}; there are: {}",
            known.join(", ")
        )));
    }
    let stores: Vec<&str> = args.all("--store").collect();
    if let Some(unknown) = stores.iter().find(|s| !["host", "redis"].contains(s)) {
        return Err(Stop::Usage(format!("--store {unknown:?}: give host or redis")));
    }
    let chosen = |store: &str| stores.is_empty() || stores.contains(&store);
    let programs = build(secs, args.all("--url").last().unwrap_or("host:").to_owned())?;
    println!("{:<9} {:>34} {:>34} {:>8}", "workload", "tenure", "peer", "ratio");
    if chosen("host") {
        programs.host(wanted)?;
    }
    if chosen("redis") {
        redis::run(&programs, wanted)?;
    }
    Ok(true)
}

fn build(secs: f64, url: String) -> Result<Programs, Stop> {
    let target = root().join("target");
    let folder = target.to_string_lossy();
    let ours = [
        "build",
        "--profile",
        "dist",
        "--package",
        "tenure-cli",
        "--features",
        "tenure/redis",
        "--target-dir",
        &folder,
    ];
    let peers = ["build", "--release", "--manifest-path", "bench/Cargo.toml", "--target-dir", &folder];
    for what in [&ours[..], &peers[..]] {
        if !succeeds(&mut cargo(what))? {
            return Err(Stop::Broken("the build failed".into()));
        }
    }
    let program = |name: &str| target.join("release").join(name);
    let tenure = target.join("dist/tenure");
    Ok(Programs { tenure, dead: program("dead"), peers: program("peers"), secs, url })
}

impl Programs {
    /// How long a measurement takes, as an option says it.
    fn secs(&self) -> String {
        self.secs.to_string()
    }

    /// Everything on one host.
    fn host(&self, wanted: impl Fn(&str) -> bool) -> Result<(), Stop> {
        for pair in PAIRS.iter().filter(|p| wanted(p.work)) {
            self.pair(pair)?;
        }
        if wanted("dead") {
            self.dead()?;
        }
        if wanted("run") {
            self.whole_process()?;
        }
        if wanted("kinds") {
            self.kinds(&self.url)?;
        }
        Ok(())
    }

    /// Measures one pair and prints its row.
    fn pair(&self, pair: &Pair) -> Result<(), Stop> {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push((self.measure(pair.work, "tenure")?, self.measure(pair.work, pair.peer)?));
        }
        let value = |v: &Value| v[pair.field].as_f64().unwrap_or(f64::NAN);
        let ratio = median(rounds.iter().map(|(a, b)| value(a) / value(b)));
        let a = median(rounds.iter().map(|(a, _)| value(a)));
        let b = median(rounds.iter().map(|(_, b)| value(b)));
        let peer = pair.peer;
        let unit = if pair.field == "cycles_s" { "cycles/s" } else { "µs p50" };
        row(
            pair.work,
            &format!("{} {unit}", short(a)),
            &format!("{peer} {} {unit}", short(b)),
            ratio,
            pair.floor,
        );
        Ok(())
    }

    /// A holder is killed: how long until the next in line has it.
    fn dead(&self) -> Result<(), Stop> {
        let told = stdout(&mut command(&self.dead.to_string_lossy(), &[]))?;
        let lines = told.lines().map(parse).collect::<Result<Vec<_>, _>>()?;
        let [ours, theirs] = &lines[..] else {
            return Err(Stop::Broken("bench dead: two lines expected".into()));
        };
        let p50 = |v: &Value| v["p50_us"].as_f64().unwrap_or(f64::NAN);
        let (a, b) = (p50(ours), p50(theirs));
        row(
            "dead",
            &format!("{} µs p50", short(a)),
            &format!("flock(2) {} µs p50", short(b)),
            a / b,
            Floor::None,
        );
        println!("{:>9} at most 2000 µs wanted: {}", "", verdict(a <= 2000.0));
        Ok(())
    }

    /// `tenure run NAME -- true` beside `flock FILE true`.
    fn whole_process(&self) -> Result<(), Stop> {
        let file = std::env::temp_dir().join(format!("tenure-bench-{}", std::process::id()));
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            let mut run = Command::new(&self.tenure);
            run.args(["--url", &self.url, "--namespace", "bench", "run", "whole-process", "--", "true"]);
            ours.push(timed(&mut run)?);
            theirs.push(timed(Command::new("flock").arg(&file).arg("true"))?);
        }
        fs::remove_file(&file)?;
        let (a, b) = (median(ours), median(theirs));
        row("run", &format!("{a:.2} ms"), &format!("flock(1) {b:.2} ms"), a / b, Floor::None);
        println!(
            "{:>9} at most 2 x flock + 3 ms = {:.2} ms wanted: {}",
            "",
            2.0 * b + 3.0,
            verdict(a <= 2.0 * b + 3.0)
        );
        Ok(())
    }

    /// One run of `tenure bench`.
    fn measure(&self, work: &str, peer: &str) -> Result<Value, Stop> {
        let what = [
            "bench",
            "--workload",
            work,
            "--peer",
            peer,
            "--secs",
            &self.secs(),
            "--json",
            "--url",
            &self.url,
        ];
        let processes = if ["fan", "handoff"].contains(&work) { &["--processes", "2"][..] } else { &[] };
        parse(&stdout(&mut command(&self.tenure.to_string_lossy(), &[&what[..], processes].concat()))?)
    }
}

fn parse(told: &str) -> Result<Value, Stop> {
    serde_json::from_str(told.trim()).map_err(|e| Stop::Broken(format!("not one JSON object: {told:?}: {e}")))
}

/// How long a command takes, in ms.
fn timed(command: &mut Command) -> Result<f64, Stop> {
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    let took: Duration = start.elapsed();
    if status.success() {
        Ok(took.as_secs_f64() * 1000.0)
    } else {
        Err(Stop::Broken(format!("{command:?}: {status}")))
    }
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn row(work: &str, ours: &str, theirs: &str, ratio: f64, floor: Floor) {
    let wanted = match floor {
        Floor::AtLeast(floor) => format!("at least {floor} wanted: {}", verdict(ratio >= floor)),
        Floor::AtMost(floor) => format!("at most {floor} wanted: {}", verdict(ratio <= floor)),
        Floor::None => String::new(),
    };
    println!("{work:<9} {ours:>34} {theirs:>34} {ratio:>8.2}  {wanted}");
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "NOT MET" }
}

/// A figure as people read it.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e4 => format!("{:.1} k", v / 1e3),
        v => format!("{v:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_one_counts() {
        assert!((median([3.0, 1.0, 100.0]) - 3.0).abs() < f64::EPSILON);
        assert!(median([]).is_nan());
    }
}
