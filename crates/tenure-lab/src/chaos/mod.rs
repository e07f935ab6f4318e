//! `tenure lab chaos`: many clients in several processes, real servers, and faults from a seed; then the judge.
//!
//! - `stage`: one run.
//! - `hunt`: a run with a wrong protocol.
//! - `client`: a client process.
//! - `crew`: all client processes.
//! - `holding`: the locks.
//! - `queue`: when a claim was put in line.
//! - `resource`: the counters that the locks protect.
//! - `weather`: the faults.
//! - `proxy`: the path to the server.
//! - `server`: a server to break.
//! - `files`: the files of a store, to remove.

mod client;
mod crew;
mod files;
mod holding;
mod hunt;
mod proxy;
mod queue;
mod resource;
mod server;
mod stage;
mod weather;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tenure::StoreUrl;
use tokio::runtime::Runtime;

pub(crate) use client::CLIENT;
pub(crate) use hunt::{Caught, Hunt, hunt};

use self::stage::Stage;
use crate::cli::Globals;
use crate::failure::{Doing, Failure, Outcome};
use crate::history::Floors;
use crate::judge::check::{conclude, exit_status};
use crate::mutants::Mutant;
use crate::num::boot_ns;

/// How a Redis server of the lab keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Aof {
    /// Synced before each answer.
    Always,
    /// Synced once a second.
    Everysec,
    /// Not at all: a restart is a loss of data.
    None,
}

/// `tenure lab chaos`.
#[derive(Args, Clone, Debug)]
pub struct ChaosArgs {
    /// Starts a real server of this kind and breaks it too: redis. Without it, the store at --url is used, and only
    /// clients and the path to it are broken.
    #[arg(long, value_name = "KIND")]
    server: Option<String>,
    /// How long the faults last at least, in seconds; up to four times as long until enough has happened.
    #[arg(long, default_value_t = 45, value_name = "N")]
    secs: u64,
    /// Repeats the faults of a run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keeps history.jsonl, the server's log and report.html in this directory, which must be new or empty.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How the lab's redis-server keeps its data; from the seed if it is not said.
    #[arg(long, value_name = "WHEN")]
    aof: Option<Aof>,
}

/// Client processes, and tasks of each.
const PROCESSES: u32 = 8;
const TASKS: u32 = 4;
/// What a run is of.
struct Plan {
    seed: u64,
    secs: u64,
    ttl: Duration,
    processes: u32,
    tasks: u32,
    /// The mean pause between two faults.
    gap: Duration,
    floors: Floors,
    aof: Aof,
    server: bool,
    replay: String,
    /// Clients hold for longer: naps of up to this part of a ttl.
    naps: f64,
    /// What is wrong on purpose.
    mutant: Option<&'static Mutant>,
}

impl Plan {
    fn new(args: &ChaosArgs, globals: &Globals) -> Outcome<Plan> {
        let server = match args.server.as_deref() {
            None => false,
            Some("redis") => true,
            Some(other) => {
                let what = format!("the lab cannot start a server {other:?}");
                return Err(Failure::usage(what, "use --server redis, or --url with a store that runs"));
            }
        };
        let seed = args.seed.unwrap_or_else(|| boot_ns() % 1_000_000);
        let secs = args.secs.clamp(1, 24 * 3600);
        let scheme = globals.url.split(':').next().unwrap_or_default();
        let (local, private) = (!server && scheme == "host", !server && scheme == "memory");
        let ttl_ms = 300 + seed * 7919 % 500;
        let ttl = Duration::from_millis(ttl_ms);
        let per = |n: u64| n * secs / 45;
        let (acquisitions, windows, gap) = match (local, private) {
            (true, _) => (per(300_000), per(200), 280),
            (_, true) => (per(100_000), per(40), 500),
            // Faults of a server or the path last for 0.3 to 3 ttl, one of each kind at a time. If pauses between them did
            // not grow with the ttl, a run with a long ttl would be nothing but faults, and miss its floor.
            _ => {
                let gap = ttl_ms * 5 / 4;
                (per(40_000), per(60) * 380 / gap, gap)
            }
        };
        let aofs = [Aof::Always, Aof::Everysec, Aof::None];
        let aof = args.aof.unwrap_or(aofs[usize::try_from(seed % 3).unwrap_or(0)]);
        let kept = format!("{aof:?}").to_lowercase();
        let store = if server { format!(" --server redis --aof {kept}") } else { String::new() };
        let url = if server { String::new() } else { format!(" --url {}", shown(&globals.url)) };
        let replay = format!("tenure{url} lab chaos{store} --secs {secs} --seed {seed}");
        let (processes, tasks) = if private { (1, PROCESSES * TASKS) } else { (PROCESSES, TASKS) };
        let (gap, floors) = (Duration::from_millis(gap), Floors { acquisitions, windows });
        Ok(Plan {
            seed,
            secs,
            ttl,
            processes,
            tasks,
            gap,
            floors,
            aof,
            server,
            replay,
            naps: 0.0,
            mutant: None,
        })
    }
}

/// A URL without its password.
fn shown(url: &str) -> String {
    StoreUrl::parse(url).map_or_else(|_| url.to_owned(), |url| url.redacted())
}

/// Runs it.
pub(crate) fn run(args: &ChaosArgs, globals: &Globals) -> Outcome<ExitCode> {
    let plan = Plan::new(args, globals)?;
    let home =
        tempfile::Builder::new().prefix("tenure-chaos-").tempdir().doing(|| "make a directory".into())?;
    let out = match &args.out {
        Some(dir) => {
            fs::create_dir_all(dir).doing(|| format!("make {}", dir.display()))?;
            if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
                let what = format!("{} is not empty", dir.display());
                return Err(Failure::usage(what, "give a new directory"));
            }
            dir.clone()
        }
        None => home.path().to_owned(),
    };
    let runtime = Runtime::new().doing(|| "start a runtime".into())?;
    let merge_to = out.join("history.jsonl");
    let mut stage = Stage::set(&plan, globals, home.path(), &runtime)?;
    let note = |text: &str| {
        if !globals.quiet {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    };
    note(&format!("seed {}, ttl {} ms; repeat with: {}", plan.seed, plan.ttl.as_millis(), plan.replay));
    for text in &stage.notes {
        note(text);
    }
    stage.storm(&plan)?;
    stage.heal(&plan)?;
    let (merge, header) = stage.finish(&plan, &runtime)?;
    merge.write(&header, &merge_to).doing(|| "write the history".into())?;
    if args.out.is_some() {
        let _ = fs::copy(home.path().join("server.log"), out.join("server.log"));
    }
    let page = args.out.as_ref().map(|dir| dir.join("report.html"));
    Ok(exit_status(&conclude(&merge_to, page.as_deref(), globals)?))
}
