//! The flash sale: a hundred clients in several processes fight for stock: with no lock, with locks that people write
//! themselves, and with Tenure.
//!
//! - [`stock`]: the stock's own process; it checks tokens and keeps the log.
//! - [`ledger`]: what the log says. [`presence`]: how many clients were inside at a time.
//! - [`buyers`]: a process of clients. [`door`]: the strategies. [`homemade`]: the locks that people write themselves.
//! - [`faults`]: real signals, in the worst place.
//! - [`stage`]: one strategy from start to end.
//! - [`table`]: what a terminal and scripts see. [`html`]: the page. [`charts`]: its pictures. [`scene`]: where and how
//!   it ran.

mod buyers;
mod charts;
mod door;
mod faults;
mod homemade;
mod html;
mod ledger;
mod presence;
mod scene;
mod stage;
mod stock;
mod table;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tenure::url::{StoreUrl, closest};
use tenure::{Locks, Scope};

pub(crate) use buyers::BUYERS;
pub(crate) use stock::STOCK;

use crate::duration;
use crate::failure::{Doing, Failure, Outcome};
use crate::globals::Globals;
use crate::num::boot_ns;
use crate::servers;
use door::Strategy;
use faults::TTL;

/// `tenure lab flash-sale`.
#[derive(Args, Clone, Debug)]
pub struct SaleArgs {
    /// How many clients buy.
    #[arg(long, default_value_t = DEFAULTS.clients, value_name = "N")]
    clients: u32,
    /// In how many processes they run.
    #[arg(long, default_value_t = DEFAULTS.processes, value_name = "P")]
    processes: u32,
    /// How many items there are.
    #[arg(long, default_value_t = DEFAULTS.stock, value_name = "N")]
    stock: u32,
    /// The mean of the random pause while a client holds the lock.
    #[arg(long, default_value = "1ms", value_name = "DUR", value_parser = duration::parse)]
    work: Duration,
    /// Which strategies to compare: none, naive, careful, tenure, tenure+fence.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    strategies: Vec<String>,
    /// Some clients pause for longer than their lease, and one process is killed.
    #[arg(long)]
    faults: bool,
    /// Repeats the random choices of an earlier run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Also write a report with charts.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

/// A checked plan of a run.
#[derive(Debug)]
struct Plan {
    url: String,
    /// The same without a password.
    shown_url: String,
    namespace: String,
    clients: u32,
    processes: u32,
    stock: u32,
    work: Duration,
    strategies: Vec<Strategy>,
    faults: bool,
    seed: u64,
    report: Option<PathBuf>,
}

/// What the command line leaves out.
struct Defaults {
    url: &'static str,
    namespace: &'static str,
    clients: u32,
    processes: u32,
    stock: u32,
    work: Duration,
}

const DEFAULTS: Defaults = Defaults {
    url: crate::servers::USUAL,
    namespace: "default",
    clients: 100,
    processes: 4,
    stock: 1000,
    work: Duration::from_millis(1),
};

/// Limits that keep a slip of the finger from taking the machine down.
const CLIENTS_MAX: u32 = 10_000;
const PROCESSES_MAX: u32 = 256;
const STOCK_MAX: u32 = 10_000_000;
const WORK_MAX: Duration = Duration::from_secs(1);
/// What most advice says.
const CAREFUL_TTL: Duration = Duration::from_secs(30);

impl Plan {
    fn check(args: SaleArgs, globals: &Globals) -> Outcome<Plan> {
        let within = |what: &str, n: u32, max: u32| match n {
            0 => Err(Failure::usage(format!("--{what} is 0"), format!("give at least 1 (up to {max})"))),
            _ if n > max => {
                Err(Failure::usage(format!("--{what} {n} is too many"), format!("give at most {max}")))
            }
            _ => Ok(()),
        };
        within("clients", args.clients, CLIENTS_MAX)?;
        within("processes", args.processes, PROCESSES_MAX)?;
        within("stock", args.stock, STOCK_MAX)?;
        if args.processes > args.clients {
            return Err(Failure::usage(
                format!("{} processes for {} clients: some would have none", args.processes, args.clients),
                "give --processes at most as many as --clients",
            ));
        }
        if args.faults && args.processes < 2 {
            return Err(Failure::usage(
                "with --faults one process is killed, and nobody would be left to buy",
                "give --processes 2 or more",
            ));
        }
        if args.work > WORK_MAX {
            let most = duration::show(WORK_MAX);
            return Err(Failure::usage("--work is too long", format!("give at most {most}")));
        }
        let strategies = strategies(&args.strategies)?;
        let scope = needs_shared(&globals.url)?;
        // A homemade lock must be one of the same kind of store: a server that only Tenure can reach has none.
        let homemade = strategies.iter().any(|s| s.homemade());
        if homemade && scope == Scope::Cluster && !servers::reaches(&globals.url) {
            return Err(Failure::config(
                "the naive and the careful lock cannot reach this server without Tenure",
                "name the URL of one without TLS, or choose --strategies none,tenure,tenure+fence",
            ));
        }
        reachable(globals)?;
        if let Some(file) = &args.report {
            writable(file)?;
        }
        Ok(Plan {
            url: globals.url.clone(),
            shown_url: StoreUrl::parse(&globals.url)?.redacted(),
            namespace: globals.namespace.clone(),
            clients: args.clients,
            processes: args.processes,
            stock: args.stock,
            work: args.work,
            strategies,
            faults: args.faults,
            seed: args.seed.unwrap_or_else(|| boot_ns() % 1_000_000),
            report: args.report,
        })
    }

    /// The first client of a process: as evenly as possible, process p has those from p * n / processes on.
    fn first_of(&self, process: u32) -> u32 {
        self.clients * process / self.processes
    }

    /// The process of a client.
    fn process_of(&self, client: u32) -> usize {
        let after = (0..self.processes).find(|p| self.first_of(p + 1) > client);
        usize::try_from(after.unwrap_or(0)).unwrap_or(0)
    }

    /// The ttl of a homemade lock, which is never renewed. Naive: ten times the usual work. Careful: 30 s, but with
    /// faults Tenure's shorter lease, so that a pause beyond it need not take half a minute.
    fn homemade_ttl(&self, strategy: Strategy) -> Duration {
        match strategy {
            Strategy::Careful if self.faults => TTL,
            Strategy::Careful => CAREFUL_TTL,
            _ => (self.work * 10).max(Duration::from_millis(10)),
        }
    }
}

fn strategies(names: &[String]) -> Outcome<Vec<Strategy>> {
    if names.is_empty() {
        return Ok(Strategy::ALL.to_vec());
    }
    let mut chosen = Vec::new();
    for name in names.iter().map(|n| n.trim()) {
        let Some(strategy) = Strategy::ALL.into_iter().find(|s| s.name() == name) else {
            let all = Strategy::ALL.map(Strategy::name);
            let guess = closest(name, &all).map(|s| format!("did you mean {s}? ")).unwrap_or_default();
            return Err(Failure::usage(
                format!("there is no strategy {name:?}"),
                format!("{guess}There are: {}", all.join(", ")),
            ));
        };
        if !chosen.contains(&strategy) {
            chosen.push(strategy);
        }
    }
    Ok(chosen)
}

/// A scenario of several processes needs a store that they can share; says no before anything is started.
pub(crate) fn needs_shared(url: &str) -> Outcome<Scope> {
    let scheme = url.split(':').next().unwrap_or_default();
    let entry = tenure::backend::find(scheme)?;
    let scope = entry.capabilities.scope;
    if scope == Scope::Process {
        return Err(Failure::config(
            format!("{scheme}: cannot be shared by several processes"),
            "use host: (this machine, no server) or a server's URL",
        ));
    }
    Ok(scope)
}

/// Opens the store once, so that a bad URL, a wrong password or a server that is away is told once, and not by every
/// worker.
pub(crate) fn reachable(globals: &Globals) -> Outcome<()> {
    Ok(Locks::builder(&globals.url).namespace(&globals.namespace).blocking_connect()?.blocking_close()?)
}

/// Finds out before the run whether the report can be written after it.
fn writable(file: &PathBuf) -> Outcome<()> {
    let existed = file.exists();
    match OpenOptions::new().append(true).create(true).open(file) {
        Ok(_) => {
            if !existed {
                let _ = std::fs::remove_file(file);
            }
            Ok(())
        }
        Err(e) => Err(Failure::usage(
            format!("the report {} cannot be written: {e}", file.display()),
            "give --report a file in a directory that exists and that you may write to",
        )),
    }
}

/// Runs the scenario and prints what came of it.
pub(crate) fn run(args: SaleArgs, globals: &Globals) -> Outcome<ExitCode> {
    let plan = Plan::check(args, globals)?;
    let bar = table::progress(&plan, globals);
    let mut results = Vec::new();
    let mut out = std::io::stdout().lock();
    for strategy in plan.strategies.clone() {
        table::begin(&bar, strategy);
        let result = stage::run(&plan, strategy, &bar)?;
        if globals.json {
            writeln!(out, "{}", table::json(&plan, &result)).doing(|| "write the results".into())?;
        }
        results.push(result);
    }
    bar.finish_and_clear();
    if !globals.json {
        write!(out, "{}", table::text(&plan, &results)).doing(|| "write the results".into())?;
    }
    if let Some(file) = &plan.report {
        std::fs::write(file, html::page(&plan, &results)).doing(|| format!("write {}", file.display()))?;
    }
    Ok(ExitCode::from(u8::from(!results.iter().all(|r| r.expected))))
}
