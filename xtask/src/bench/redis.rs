//! The Redis half of `cargo xtask bench`: Tenure beside other crates' locks, all on one server of our own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{Floor, Programs, ROUNDS, median, parse, row, short, verdict};
use crate::Stop;
use crate::process::{command, stdout};

/// The crates that are measured beside ours.
const CRATES: [&str; 2] = ["rslock", "async-redis-lock"];
/// How many turns a round of a workload has where nobody waits for another.
const TURNS: u32 = 6;
/// How many tasks compete.
const TASKS: &str = "100";

/// One workload, and what the issue of the second part asks of it.
struct Work {
    name: &'static str,
    /// Our cycles against those of which crates: of several, the better one.
    against: &'static [&'static str],
    floor: f64,
    /// First come, so everybody gets as much: the least fairness that is acceptable.
    jain: Option<f64>,
    /// Our 99th percentile in units of rslock's.
    p99: Option<f64>,
}

const WORKS: &[Work] = &[
    Work { name: "solo", against: &CRATES, floor: 0.9, jain: None, p99: None },
    Work { name: "spread", against: &CRATES, floor: 0.9, jain: None, p99: None },
    Work { name: "storm", against: &["rslock"], floor: 1.2, jain: Some(0.98), p99: Some(0.1) },
    Work { name: "fan", against: &["rslock"], floor: 1.2, jain: Some(0.98), p99: None },
];

/// What can be chosen with `--only`, beside the host's.
pub(super) const NAMES: [&str; 6] = ["solo", "spread", "storm", "fan", "handoff", "steps"];

/// Measures what is wanted, everything on one server that is started for it.
pub(super) fn run(programs: &Programs, wanted: impl Fn(&str) -> bool) -> Result<(), Stop> {
    let listed = stdout(&mut command(&programs.tenure.to_string_lossy(), &["--json", "lab", "list"]))?;
    let stores = listed.lines().map(parse).collect::<Result<Vec<Value>, Stop>>()?;
    let missing = stores.iter().find(|store| store["name"] == "redis").map(|store| &store["missing"]);
    if let Some(why) = missing.and_then(Value::as_str) {
        println!("redis: skipped: {why}");
        return Ok(());
    }
    let server = Server::start(&programs.tenure)?;
    println!("redis: one redis-server that keeps nothing on disk, {TASKS} tasks, medians of {ROUNDS} rounds");
    println!("  rslock: retries after up to 200 ms, its default; lease 30 s as ours");
    println!("  async-redis-lock: retries every 100 ms, lease 3 s, its defaults; waits without its timeout");
    for work in WORKS.iter().filter(|w| wanted(w.name)) {
        programs.side_by_side(work, &server)?;
        if work.jain.is_some() {
            programs.strict(work, &server)?;
        }
    }
    if wanted("handoff") {
        programs.against_ping(&server)?;
    }
    if wanted("steps") {
        programs.steps(&server)?;
    }
    if wanted("kinds") {
        programs.kinds(&server.url())?;
        programs.multi(server.port())?;
    }
    Ok(())
}

impl Programs {
    /// Ours and each crate's in turn, so that the machine is the same for all.
    fn side_by_side(&self, work: &Work, server: &Server) -> Result<(), Stop> {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(self.round(work, server)?);
        }
        let mut ratio = f64::INFINITY;
        for (i, peer) in CRATES.iter().enumerate() {
            let against = compare(work.name, "", peer, rounds.iter().map(|(a, b)| (a, &b[i])));
            if work.against.contains(peer) {
                ratio = ratio.min(against);
            }
        }
        let whom = if work.against.len() > 1 { "the better one" } else { "rslock" };
        wanted(&format!("cycles {ratio:.2} of {whom}, at least {}", work.floor), ratio >= work.floor);
        let field = |v: &Value, name: &str| v[name].as_f64().unwrap_or(f64::NAN);
        if let Some(least) = work.jain {
            let ours = median(rounds.iter().map(|(a, _)| field(a, "jain")));
            let theirs = median(rounds.iter().map(|(_, b)| field(&b[0], "jain")));
            wanted(&format!("jain {ours:.3} (rslock {theirs:.3}), at least {least}"), ours >= least);
        }
        if let Some(most) = work.p99 {
            let ratio = median(rounds.iter().map(|(a, b)| field(a, "p99_us") / field(&b[0], "p99_us")));
            wanted(&format!("p99 {ratio:.3} of rslock's, at most {most}"), ratio <= most);
        }
        let errors: f64 = rounds.iter().map(|(a, _)| field(a, "errors")).sum();
        if errors > 0.0 {
            wanted(&format!("{errors} errors of ours, none"), false);
        }
        Ok(())
    }

    /// One round of ours and of each crate's. Where nobody waits for another, in many short turns: the machine's speed
    /// varies by a third within seconds, and the same must befall all.
    fn round(&self, work: &Work, server: &Server) -> Result<(Value, [Value; 2]), Stop> {
        let turns = if work.jain.is_none() { TURNS } else { 1 };
        let brief = Programs { secs: self.secs / f64::from(turns), ..self.clone() };
        let (mut ours, mut peers) = (Vec::new(), CRATES.map(|_| Vec::new()));
        for _ in 0..turns {
            ours.push(brief.ours(work.name, &[], server)?);
            for (peer, told) in CRATES.iter().zip(&mut peers) {
                told.push(brief.peer(peer, work.name, server)?);
            }
        }
        Ok((as_one(&ours), peers.map(|told| as_one(&told))))
    }

    /// Every task in the store's line by itself, in units of rslock's cycles.
    fn strict(&self, work: &Work, server: &Server) -> Result<(), Stop> {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds
                .push((self.ours(work.name, &["--fair"], server)?, self.peer(CRATES[0], work.name, server)?));
        }
        compare(work.name, "--fair ", CRATES[0], rounds.iter().map(|(a, b)| (a, b)));
        Ok(())
    }

    /// How long a hand-over takes, in units of a PING on a connection that was idle as long.
    fn against_ping(&self, server: &Server) -> Result<(), Stop> {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push((self.ours("handoff", &[], server)?, self.peer("ping", "handoff", server)?));
        }
        let p50 = |v: &Value| v["p50_us"].as_f64().unwrap_or(f64::NAN);
        let ratio = median(rounds.iter().map(|(a, b)| p50(a) / p50(b)));
        let (a, b) = (median(rounds.iter().map(|(a, _)| p50(a))), median(rounds.iter().map(|(_, b)| p50(b))));
        let (ours, theirs) = (format!("{} µs p50", short(a)), format!("idle PING {} µs p50", short(b)));
        row("handoff", &ours, &theirs, ratio, Floor::AtMost(3.0));
        Ok(())
    }

    /// A hundred clients and more and more tasks, each with a lock of its own.
    fn steps(&self, server: &Server) -> Result<(), Stop> {
        let url = server.url();
        let what =
            ["--url", &url, "bench", "--workload", "spread", "--clients", "100", "--steps", "50,100,200"];
        let program = self.tenure.to_string_lossy();
        let told =
            stdout(&mut command(&program, &[&what[..], &["--secs", &self.secs(), "--json"]].concat()))?;
        for line in told.lines() {
            let step = parse(line)?;
            let (mean, errors) = (step["mean_us"].as_f64().unwrap_or(f64::NAN), &step["errors"]);
            let (tasks, cycles) = (&step["tasks"], short(cycles(&step)));
            println!("{:<9} {:>34}", "steps", format!("{tasks} tasks {cycles} cycles/s"));
            let met = mean < 5000.0 && errors.as_u64() == Some(0);
            wanted(&format!("mean acquire {mean:.0} µs, below 5000; {errors} errors, none"), met);
        }
        Ok(())
    }

    fn ours(&self, work: &str, more: &[&str], server: &Server) -> Result<Value, Stop> {
        let url = server.url();
        let what =
            ["--url", &url, "bench", "--workload", work, "--tasks", TASKS, "--processes", "1", "--json"];
        let program = self.tenure.to_string_lossy();
        parse(&stdout(&mut command(&program, &[&what[..], &["--secs", &self.secs()], more].concat()))?)
    }

    fn peer(&self, peer: &str, work: &str, server: &Server) -> Result<Value, Stop> {
        let program = self.peers.to_string_lossy();
        parse(&stdout(&mut command(&program, &[peer, work, &server.url(), &self.secs(), TASKS]))?)
    }
}

/// Turns of the same length as one: the cycles of all, and the errors; of the rest, what the last one says.
fn as_one(turns: &[Value]) -> Value {
    let mut all = turns.last().cloned().unwrap_or_default();
    all["cycles_s"] = (turns.iter().map(cycles).sum::<f64>() / turns.len() as f64).into();
    all["errors"] = turns.iter().filter_map(|turn| turn["errors"].as_u64()).sum::<u64>().into();
    all
}

/// A row: our cycles beside a crate's, and the median of the ratios of the rounds, which it returns.
fn compare<'a>(
    work: &str,
    how: &str,
    peer: &str,
    rounds: impl Iterator<Item = (&'a Value, &'a Value)> + Clone,
) -> f64 {
    let ratio = median(rounds.clone().map(|(a, b)| cycles(a) / cycles(b)));
    let ours = short(median(rounds.clone().map(|(a, _)| cycles(a))));
    let theirs = short(median(rounds.map(|(_, b)| cycles(b))));
    row(work, &format!("{how}{ours} cycles/s"), &format!("{peer} {theirs} cycles/s"), ratio, Floor::None);
    ratio
}

fn cycles(result: &Value) -> f64 {
    result["cycles_s"].as_f64().unwrap_or(f64::NAN)
}

fn wanted(what: &str, met: bool) {
    println!("{:>9} {what} wanted: {}", "", verdict(met));
}

/// A server of the lab's own, which lives as long as the command that started it.
struct Server {
    url: String,
    child: Child,
}

impl Server {
    fn start(tenure: &Path) -> Result<Server, Stop> {
        let mut command = Command::new(tenure);
        command.args(["lab", "start", "redis", "--durability", "none"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut url = String::new();
        if let Some(told) = child.stdout.take() {
            BufReader::new(told).read_line(&mut url)?;
        }
        let server = Server { url: url.trim().to_owned(), child };
        if server.url.is_empty() {
            return Err(Stop::Broken("the lab could not start a redis-server; see above".into()));
        }
        Ok(server)
    }

    fn url(&self) -> String {
        self.url.clone()
    }

    fn port(&self) -> u16 {
        self.url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input ends it, and its server with it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
