//! `tenure lab chaos`: many clients in several processes, real servers, and faults from a seed; then the judge.
//!
//! - `stage`: one run.
//! - `hunt`: a run with a wrong protocol.
//! - `client`: a client process.
//! - `clients`: all client processes.
//! - `holding`: the locks.
//! - `queue`: when a claim was put in line.
//! - `resource`: the counters that the locks protect.
//! - `faults`: the faults.
//!
//! What can be done to a store is in the registry of stores.

mod client;
mod clients;
mod faults;
mod holding;
#[cfg(feature = "proofs")]
mod hunt;
mod queue;
mod resource;
mod stage;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tenure::Scope;
use tokio::runtime::Runtime;

pub(crate) use client::CLIENT;
#[cfg(feature = "proofs")]
pub(crate) use hunt::{Caught, Hunt, hunt};

use self::stage::Stage;
use crate::failure::{Doing, Failure, Outcome};
use crate::globals::Globals;
use crate::history::Floors;
use crate::judge::check::{conclude, exit_status};
use crate::mutants::Mutant;
use crate::num::boot_ns;
use crate::servers::path::{self, shown};
use crate::servers::{self, StoreKind};

/// `tenure lab chaos`.
#[derive(Args, Clone, Debug)]
pub struct ChaosArgs {
    /// Starts a real server of this kind and breaks it too; `tenure lab list` names them. Without it, the store at --url
    /// is used, and only clients and the path to it are broken.
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
    /// How the lab's server keeps its data, for example always, everysec or none; from the seed if it is not given.
    #[arg(long, alias = "aof", value_name = "HOW")]
    durability: Option<String>,
}

/// The log of the server, in the directory of a run.
const LOG: &str = "server.log";

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
    /// The server that the lab starts, and how it keeps its data.
    server: Option<(&'static dyn StoreKind, &'static str)>,
    replay: String,
    /// Clients hold for longer: naps of up to this part of a ttl.
    naps: f64,
    /// What is wrong on purpose.
    mutant: Option<&'static Mutant>,
}

impl Plan {
    fn new(args: &ChaosArgs, globals: &Globals) -> Outcome<Plan> {
        let kind = args.server.as_deref().map(servers::server).transpose()?;
        let seed = args.seed.unwrap_or_else(|| boot_ns() % 1_000_000);
        let secs = args.secs.clamp(1, 24 * 3600);
        let server = kind.map(|kind| durability(kind, args, seed).map(|how| (kind, how))).transpose()?;
        let scope = if server.is_some() { Scope::Cluster } else { scope(&globals.url)? };
        let (local, private) = (scope == Scope::Host, scope == Scope::Process);
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
        let (url, store) = match server {
            Some((kind, how)) => (String::new(), format!(" --server {} --durability {how}", kind.scheme())),
            None => (format!(" --url {}", shown(&globals.url)), String::new()),
        };
        let replay = format!("tenure{url} lab chaos{store} --secs {secs} --seed {seed}");
        let (processes, tasks) = if private { (1, PROCESSES * TASKS) } else { (PROCESSES, TASKS) };
        let (gap, floors) = (Duration::from_millis(gap), Floors { acquisitions, windows });
        Ok(Plan { seed, secs, ttl, processes, tasks, gap, floors, server, replay, naps: 0.0, mutant: None })
    }
}

/// Who can share the store at a URL.
fn scope(url: &str) -> Outcome<Scope> {
    Ok(tenure::backend::find(path::scheme(url))?.capabilities.scope)
}

/// How the lab's server keeps its data: as it was asked for, else by the seed.
fn durability(kind: &dyn StoreKind, args: &ChaosArgs, seed: u64) -> Outcome<&'static str> {
    let all = kind.durabilities();
    let Some(wanted) = &args.durability else {
        return Ok(all[usize::try_from(seed % all.len() as u64).unwrap_or(0)]);
    };
    all.iter().copied().find(|how| how == wanted).ok_or_else(|| {
        let what = format!("{} has no durability {wanted:?}", kind.scheme());
        Failure::usage(what, format!("give one of {}", all.join(", ")))
    })
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
        let _ = fs::copy(home.path().join(LOG), out.join(LOG));
    }
    let page = args.out.as_ref().map(|dir| dir.join("report.html"));
    Ok(exit_status(&conclude(&merge_to, page.as_deref(), globals)?))
}
