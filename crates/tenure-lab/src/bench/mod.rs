//! Workloads that measure a store: the same for every store, and for what it is compared with.
//!
//! - [`job`]: what is measured.
//! - [`part`]: does one process's part of it.
//! - [`lock`]: what is taken.
//! - [`peers`]: the bare calls of the host.
//! - [`server`]: a server's bare locks and round trips.
//! - [`measure`]: the loops.
//! - [`tally`]: what is counted.
//! - [`count`]: counts renewals.

mod count;
mod job;
mod lock;
mod measure;
mod part;
mod peers;
mod server;
mod tally;

use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use job::{Part, Peer, Work};
use lock::Kind;
use measure::Span;
pub(crate) use part::BENCH;

use tally::{Histogram, Tally, hand_overs};

use crate::failure::{Doing, Failure, Outcome};
use crate::globals::Globals;
use crate::num::{boot_ns, jain, rate, round};
use crate::process::{Heard, Worker};
use crate::sale::{needs_shared, reachable};
use crate::servers;

/// `tenure bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// What is done.
    #[arg(long, value_enum, default_value = "spread", value_name = "WORKLOAD")]
    workload: Work,
    /// What each task takes: mutex, write, read, permit or multi. Several are measured in turns, and the others compared with
    /// the first.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "mutex", value_name = "LIST")]
    lock: Vec<Kind>,
    /// How many permits there are, where it takes permits.
    #[arg(long, default_value_t = 10, value_name = "N")]
    permits: u32,
    /// For how many seconds.
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    secs: f64,
    /// How many tasks (holds: how many locks). solo has one, handoff two.
    #[arg(long, default_value_t = 100, value_name = "N")]
    tasks: u32,
    /// In how many processes the clients of fan and handoff run (1; handoff: 2 where the store can be shared).
    #[arg(long, value_name = "N")]
    processes: Option<u32>,
    /// How many clients share the tasks, each with connections of its own (1; fan: 10). handoff has two.
    #[arg(long, value_name = "N")]
    clients: Option<u32>,
    /// Every task is a claim of its own in the store's line. Otherwise, where the store shares turns, tasks of one client that
    /// wait for one mutex share a claim and pass the lock on among themselves.
    #[arg(long)]
    fair: bool,
    /// One line for each of these numbers of tasks.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    steps: Vec<u32>,
    /// Who is measured: tenure, or what it is compared with, a bare call of this host or of the server.
    #[arg(long, value_enum, default_value = "tenure", value_name = "PEER")]
    peer: Peer,
}

/// Limits that keep a slip of the finger from taking the machine down.
const TASKS_MAX: u32 = 1_000_000;
const THREADS_MAX: u32 = 2000;
const CLIENTS_MAX: u32 = 10_000;
const SECS_MAX: f64 = 86_400.0;
/// The clients of fan.
const FAN: u32 = 10;
/// What a part may take beyond its time before it counts as stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Several locks are measured in so many turns.
const TURNS: u32 = 9;

#[derive(Clone, Copy)]
struct Plan<'a> {
    args: &'a BenchArgs,
    globals: &'a Globals,
    tasks: u32,
    processes: u32,
    kind: Kind,
    secs: f64,
}

fn check(args: &BenchArgs, globals: &Globals) -> Outcome<u32> {
    if !(args.secs > 0.0 && args.secs <= SECS_MAX) {
        return Err(Failure::usage(
            format!("--secs {} is out of range", args.secs),
            "give more than 0, at most a day",
        ));
    }
    for n in args.steps.iter().copied().chain([args.tasks]) {
        let most = if args.peer == Peer::Tenure { TASKS_MAX } else { THREADS_MAX }; // or connections
        if n == 0 || n > most {
            return Err(Failure::usage(format!("{n} tasks are out of range"), format!("give 1 to {most}")));
        }
    }
    if !args.steps.is_empty() && matches!(args.workload, Work::Solo | Work::Handoff) {
        return Err(Failure::usage(
            format!("{} has a fixed number of tasks", args.workload.name()),
            "leave out --steps, or choose spread, storm, fan or holds",
        ));
    }
    if let Some(n) = args.clients {
        if !matches!(args.workload, Work::Spread | Work::Storm | Work::Fan) {
            return Err(Failure::usage(
                format!("{} has a fixed number of clients", args.workload.name()),
                "leave out --clients, or choose spread, storm or fan",
            ));
        }
        if n == 0 || n > CLIENTS_MAX {
            return Err(Failure::usage(
                format!("{n} clients are out of range"),
                format!("give 1 to {CLIENTS_MAX}"),
            ));
        }
    }
    let others = args.lock.iter().any(|kind| *kind != Kind::Mutex);
    if others && (args.peer != Peer::Tenure || matches!(args.workload, Work::Handoff | Work::Holds)) {
        return Err(Failure::usage(
            "only mutexes are measured like this",
            "leave out --lock, or choose solo, spread, storm or fan and no --peer",
        ));
    }
    if matches!(args.peer, Peer::Setnx | Peer::Ping) && !servers::reaches(&globals.url) {
        return Err(Failure::config(
            format!("the peer {} needs a server that it can reach without Tenure", args.peer.name()),
            format!("name one with --url, without TLS: {}://HOST", servers::usual_server()),
        ));
    }
    let shared = args.peer != Peer::Tenure || needs_shared(&globals.url).is_ok();
    let default = if args.workload == Work::Handoff && shared { 2 } else { 1 };
    let processes = args.processes.unwrap_or(default);
    let most = match args.workload {
        Work::Fan => args.clients.unwrap_or(FAN),
        Work::Handoff => 2,
        _ => 1,
    };
    if processes == 0 || processes > most {
        return Err(Failure::usage(
            format!("--processes {processes} is out of range for {}", args.workload.name()),
            format!("give 1 to {most}"),
        ));
    }
    if processes > 1 && args.peer == Peer::Tenure {
        needs_shared(&globals.url)?;
        reachable(globals)?;
    }
    Ok(processes)
}

/// Measures, and prints what came of it.
pub(crate) fn run(args: &BenchArgs, globals: &Globals) -> Outcome<ExitCode> {
    let processes = check(args, globals)?;
    let steps = if args.steps.is_empty() { vec![args.tasks] } else { args.steps.clone() };
    let mut out = std::io::stdout().lock();
    let (mut errors, mut head) = (0, true);
    for tasks in steps {
        let plan = Plan { args, globals, tasks, processes, kind: args.lock[0], secs: args.secs };
        for result in plan.results()? {
            errors += result.errors;
            let text = if globals.json {
                serde_json::to_string(&result).unwrap_or_default() + "\n"
            } else {
                result.text(head)
            };
            head = false;
            out.write_all(text.as_bytes()).and_then(|()| out.flush()).doing(|| "write the results".into())?;
        }
    }
    Ok(ExitCode::from(u8::from(errors > 0)))
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Plan<'_> {
    /// One for each lock.
    fn results(&self) -> Outcome<Vec<Result>> {
        let kinds = &self.args.lock;
        if kinds.len() == 1 {
            return Ok(vec![Result::new(self, self.measure()?)]);
        }
        let mut turns = vec![Vec::new(); kinds.len()];
        for turn in 0..TURNS {
            // To and fro, so that whatever changes meanwhile does so for all.
            let mut order: Vec<usize> = (0..kinds.len()).collect();
            if turn % 2 == 1 {
                order.reverse();
            }
            for i in order {
                let plan = Plan { kind: kinds[i], secs: self.secs / f64::from(TURNS), ..*self };
                turns[i].push(plan.measure()?);
            }
        }
        let all = |i: usize| turns[i].concat();
        let each = |i: usize| {
            turns[i].iter().map(move |t| Result::new(&Plan { kind: kinds[i], ..*self }, t.clone()))
        };
        let first: Vec<Result> = each(0).collect();
        let ratio = |i: usize, of: fn(&Result, &Result) -> f64| {
            round(median(each(i).zip(&first).map(|(a, b)| of(&a, b)).collect()), 3)
        };
        let with_ratios = |i: usize| Result {
            against: (i > 0).then(|| Against {
                against: kinds[0].name(),
                cycle_ratio: ratio(i, |a, b| b.cycles_s / a.cycles_s),
                p50_ratio: ratio(i, |a, b| a.p50_us / b.p50_us),
            }),
            ..Result::new(&Plan { kind: kinds[i], ..*self }, all(i))
        };
        Ok((0..kinds.len()).map(with_ratios).collect())
    }

    /// How many clients and tasks there are.
    fn shape(&self) -> (u32, u32) {
        match self.args.workload {
            Work::Solo => (1, 1),
            Work::Fan => (self.args.clients.unwrap_or(FAN).min(self.tasks), self.tasks),
            Work::Handoff => (2, 2),
            Work::Holds => (1, self.tasks),
            _ => (self.args.clients.unwrap_or(1), self.tasks),
        }
    }

    fn part(&self, dir: &std::path::Path) -> Part {
        let (work, (clients, tasks)) = (self.args.workload, self.shape());
        Part {
            work,
            peer: self.args.peer,
            url: self.globals.url.clone(),
            namespace: self.globals.namespace.clone(),
            lock: format!("bench/{}-{:x}", std::process::id(), boot_ns()),
            dir: dir.to_owned(),
            sides: if work == Work::Handoff { vec![0, 1] } else { Vec::new() },
            clients,
            tasks,
            kind: self.kind,
            permits: self.args.permits,
            fair: self.args.fair,
            secs: self.secs,
        }
    }

    fn measure(&self) -> Outcome<Vec<Tally>> {
        let dir =
            tempfile::Builder::new().prefix("tenure-bench-").tempdir().doing(|| "make a directory".into())?;
        let whole = self.part(dir.path());
        if self.processes == 1 {
            whole.run(&mut || Ok(Span::from(boot_ns(), self.secs)))
        } else {
            self.spread_out(&whole)
        }
    }

    /// Deals the clients and their tasks to worker processes.
    fn spread_out(&self, whole: &Part) -> Outcome<Vec<Tally>> {
        let (sender, receiver) = channel();
        let mut workers = Vec::new();
        let share = |n: u32, p: u32| n * (p + 1) / self.processes - n * p / self.processes;
        for p in 0..self.processes {
            let mut part = whole.clone();
            part.clients = share(whole.clients, p);
            part.tasks = share(whole.tasks, p);
            part.sides = whole.sides.iter().copied().filter(|s| s % self.processes == p).collect();
            workers.push(Worker::start(BENCH.0, p as usize, &part, sender.clone())?);
        }
        let late = || Failure::run("a worker process does not answer", "see what it wrote above");
        let hear =
            |receiver: &std::sync::mpsc::Receiver<Heard>, most: Duration| match receiver.recv_timeout(most) {
                Ok(Heard { said: Some(said), .. }) => Ok(said),
                _ => Err(late()),
            };
        for _ in &workers {
            if hear(&receiver, STUCK)? != Value::String("ready".into()) {
                return Err(late());
            }
        }
        let span = Span::from(boot_ns() + 20_000_000, self.secs);
        for worker in &mut workers {
            worker.order(&span)?;
        }
        let mut tallies = Vec::new();
        let mut left = workers.len();
        while left > 0 {
            // A worker that has told its tally closes its output: that is not the end of another.
            let heard =
                receiver.recv_timeout(Duration::from_secs_f64(self.secs) + STUCK).map_err(|_| late())?;
            let Some(said) = heard.said else { continue };
            tallies
                .extend(serde_json::from_value::<Vec<Tally>>(said).doing(|| "understand a worker".into())?);
            left -= 1;
        }
        for mut worker in workers {
            worker.finish()?;
        }
        Ok(tallies)
    }
}

/// What scripts read: fields are added at the end only.
#[derive(Debug, Serialize)]
struct Result {
    peer: &'static str,
    work: &'static str,
    cycles: u64,
    cycles_s: f64,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
    jain: f64,
    errors: u64,
    mean_us: f64,
    tasks: u32,
    processes: u32,
    secs: f64,
    #[serde(flatten)]
    cost: Option<tally::Cost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    lock: &'static str,
    #[serde(flatten)]
    against: Option<Against>,
}

/// What a lock costs in units of another: medians of the ratios of each turn.
#[derive(Debug, Serialize)]
struct Against {
    against: &'static str,
    /// The time of a cycle.
    cycle_ratio: f64,
    /// The middle acquire call.
    p50_ratio: f64,
}

impl Result {
    fn new(plan: &Plan<'_>, tallies: Vec<Tally>) -> Result {
        let (work, secs) = (plan.args.workload, plan.secs);
        let sides: Vec<_> = tallies.iter().map(|t| t.stamps.clone()).collect();
        let mut total = Tally::default();
        tallies.into_iter().for_each(|t| total.merge(t));
        let times: Histogram = if work == Work::Handoff { hand_overs(&sides) } else { total.acquire };
        let cycles = total.cycles.iter().sum();
        Result {
            peer: plan.args.peer.name(),
            work: work.name(),
            cycles,
            cycles_s: round(rate(cycles, secs), 1),
            p50_us: round(times.quantile_us(0.5), 2),
            p99_us: round(times.quantile_us(0.99), 2),
            max_us: round(times.max_us(), 2),
            jain: round(jain(total.cycles.iter().copied()), 4),
            errors: total.errors,
            mean_us: round(times.mean_us(), 2),
            tasks: plan.shape().1,
            processes: plan.processes,
            secs,
            cost: total.cost,
            error: total.error,
            lock: plan.kind.name(),
            against: None,
        }
    }

    fn text(&self, head: bool) -> String {
        let mut out = String::new();
        if head {
            out += &format!(
                "{:<8} {:<13} {:>8} {:>12} {:>10} {:>10} {:>10} {:>10} {:>7} {:>7}\n",
                "peer",
                "work",
                "tasks",
                "cycles/s",
                "mean us",
                "p50 us",
                "p99 us",
                "max us",
                "jain",
                "errors"
            );
        }
        let work = match self.lock {
            "mutex" => self.work.to_owned(),
            other => format!("{}/{other}", self.work),
        };
        out += &format!(
            "{:<8} {:<13} {:>8} {:>12.1} {:>10.2} {:>10.2} {:>10.2} {:>10.1} {:>7.3} {:>7}\n",
            self.peer,
            work,
            self.tasks,
            self.cycles_s,
            self.mean_us,
            self.p50_us,
            self.p99_us,
            self.max_us,
            self.jain,
            self.errors
        );
        if let Some(cost) = self.cost {
            out += &format!(
                "  {} held, {} renewals, {:.1} % of a core, {} kB\n",
                cost.held, cost.renewals, cost.cpu_percent, cost.memory_kb
            );
            if let (Some(cpu), Some(memory)) = (cost.server_cpu_percent, cost.server_memory_kb) {
                out += &format!("  the server: {cpu:.1} % of a core, {memory:.0} kB\n");
            }
        }
        if let Some(Against { against, cycle_ratio, p50_ratio }) = &self.against {
            out += &format!(
                "  {cycle_ratio:.2} times the {against} in time per cycle, {p50_ratio:.2} times in the p50 of taking it\n"
            );
        }
        if let Some(error) = &self.error {
            out += &format!("  first error: {error}\n");
        }
        out
    }
}
