//! What is printed: the table of hits, a failure and how to repeat it.

use std::fmt::{self, Write};
use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};

use super::faults::{COUNT, FAULTS};
use super::judge::{Broken, RULES};
use super::mutants::{MUTANTS, Wrong};
use super::plan::Case;
use super::run::run;
use super::shrink::shrink;
use super::stores::STORES;
use super::{FULL, Share, Sum, rare, sweep};
use crate::failure::{Doing, Failure, Outcome};
use crate::globals::Globals;
use crate::num::cpu_ns;

/// `tenure lab sim`.
#[derive(Args, Clone, Debug)]
pub struct SimArgs {
    /// How many runs; 500000 without --seed, which takes about two minutes of two cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    runs: Option<u64>,
    /// The seed of the first run. Without --runs: of the only one.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Prints everything that happens, in one run.
    #[arg(long, conflicts_with = "runs")]
    trace: bool,
    /// One run with at most so many clients.
    #[arg(long, value_name = "N", conflicts_with = "runs", default_value_t = Case::new(0).clients)]
    clients: u64,
    /// One run with at most so many workers in each client.
    #[arg(long, value_name = "N", conflicts_with = "runs", default_value_t = Case::new(0).workers)]
    workers: u64,
    /// One run with at most so many locks taken by each worker.
    #[arg(long, value_name = "N", conflicts_with = "runs", default_value_t = Case::new(0).rounds)]
    rounds: u64,
    /// One run without these faults, by their number in it.
    #[arg(long, value_name = "LIST", conflicts_with = "runs", value_delimiter = ',')]
    skip: Vec<u32>,
    /// Runs a wrong protocol instead of the right one. "list" names them.
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
}

/// The command that repeats a case.
fn command(case: &Case, wrong: Option<&Wrong>) -> String {
    let whole = Case::new(case.seed);
    let mut out = format!("tenure lab sim --seed {} --trace", case.seed);
    for (name, is, was) in [
        ("clients", case.clients, whole.clients),
        ("workers", case.workers, whole.workers),
        ("rounds", case.rounds, whole.rounds),
    ] {
        if is != was {
            let _ = write!(out, " --{name} {is}");
        }
    }
    if !case.skip.is_empty() {
        let skip: Vec<String> = case.skip.iter().map(u32::to_string).collect();
        let _ = write!(out, " --skip {}", skip.join(","));
    }
    if let Some(wrong) = wrong {
        let _ = write!(out, " --mutant {}", wrong.name);
    }
    out
}

/// A broken rule, the smallest run that still breaks it, and how to repeat both.
pub(super) struct Failed {
    seed: u64,
    broken: Broken,
    repeat: String,
    shrunk: String,
    /// What the smallest run breaks, and everything that happens in it.
    end: String,
    trace: Vec<String>,
}

pub(super) fn failure(seed: u64, broken: &Broken, wrong: Option<&Wrong>) -> Failed {
    let case = Case::new(seed);
    let small = shrink(&case, broken.rule, wrong);
    let came = run(&small, wrong, true, &mut [0; COUNT]);
    Failed {
        seed,
        broken: broken.clone(),
        repeat: command(&case, wrong),
        shrunk: command(&small, wrong),
        end: came.broken.map_or_else(String::new, |b| format!("{}: {}", b.rule, b.what)),
        trace: came.trace,
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed { seed, broken, repeat, shrunk, end, trace } = self;
        writeln!(f, "{} is broken with seed {seed}: {}", broken.rule, broken.what)?;
        writeln!(f, "repeat:  {repeat}\nshrunk:  {shrunk}\n         {end}\n{}", trace.join("\n"))
    }
}

/// What the runs came to.
pub(super) fn table(sum: &Sum, cpu_ns: u64) -> String {
    let mut out = String::new();
    for ((_, name, what), hits) in FAULTS.iter().zip(sum.hits) {
        let _ = writeln!(out, "{hits:>9}  {name:<22} {what}");
    }
    for ((_, name, _), share) in STORES.iter().zip(&sum.stores) {
        let judged = RULES.iter().zip(share.judged).filter(|(_, n)| *n > 0);
        let judged: Vec<String> = judged.map(|(rule, n)| format!("{rule} {n}")).collect();
        let (runs, grants, passed) = (share.runs, share.grants, share.passed);
        let _ = writeln!(
            out,
            "{name}: {runs} runs, {grants} grants, {passed} holds passed on; judged: {}",
            judged.join(", ")
        );
    }
    let total = sum.total();
    let [lost, written] = sum.twins;
    let _ = writeln!(out, "without a look at tokens, {lost} of {written} writes would have been lost");
    let seconds = cpu_ns / 1_000_000_000;
    let _ = write!(
        out,
        "{} runs, {} polls of tasks, {} grants and {} holds passed on, no rule broken; {seconds} s of CPU",
        sum.runs, sum.polls, total.grants, total.passed
    );
    out
}

/// The same as one object.
fn object(seed: u64, sum: &Sum, failed: Option<&Failed>) -> Value {
    let faults: Map<String, Value> =
        FAULTS.iter().zip(sum.hits).map(|((_, name, _), hits)| ((*name).to_owned(), hits.into())).collect();
    let judged = |share: &Share| -> Map<String, Value> {
        RULES.iter().zip(share.judged).map(|(rule, n)| ((*rule).to_owned(), n.into())).collect()
    };
    let stores: Map<String, Value> = STORES
        .iter()
        .zip(&sum.stores)
        .map(|((_, name, _), share)| {
            let one = json!({ "runs": share.runs, "grants": share.grants, "passed": share.passed,
                "judged": judged(share) });
            ((*name).to_owned(), one)
        })
        .collect();
    let total = sum.total();
    let broken = failed.map(|f| {
        json!({ "rule": f.broken.rule, "seed": f.seed, "what": f.broken.what, "repeat": f.repeat,
            "shrunk": f.shrunk, "trace": f.trace })
    });
    json!({ "sim": 1, "version": env!("CARGO_PKG_VERSION"), "seed": seed, "runs": sum.runs, "polls": sum.polls,
        "grants": total.grants, "passed": total.passed, "faults": faults, "judged": judged(&total),
        "stores": stores,
        "unfenced": { "lost": sum.twins[0], "writes": sum.twins[1] }, "rare": rare(sum), "broken": broken })
}

/// Runs `tenure lab sim`. 1 if a rule was broken, else 2 if a fault struck too rarely in a full number of runs.
pub(crate) fn main(args: &SimArgs, globals: &Globals) -> Outcome<ExitCode> {
    if args.mutant.as_deref() == Some("list") {
        return say(&names().join("\n"), 0);
    }
    let wrong = match &args.mutant {
        Some(name) => Some(MUTANTS.iter().find(|w| w.name == name).ok_or_else(|| {
            Failure::usage(format!("no mutant is called {name:?}"), format!("one of {}", names().join(", ")))
        })?),
        None => None,
    };
    let seed = args.seed.unwrap_or(0);
    let skip = args.skip.iter().copied().collect();
    let case = Case { seed, clients: args.clients, workers: args.workers, rounds: args.rounds, skip };
    if args.trace || case != Case::new(seed) {
        return one(&case, wrong, args.trace, globals.json);
    }
    let runs = args.runs.unwrap_or(if args.seed.is_some() { 1 } else { FULL });
    let cpu = cpu_ns();
    let sum = sweep(seed..seed.saturating_add(runs), wrong);
    let took = cpu_ns() - cpu;
    let failed = sum.failed.as_ref().map(|(seed, broken)| failure(*seed, broken, wrong));
    let rare = rare(&sum);
    let text = match &failed {
        _ if globals.json => object(seed, &sum, failed.as_ref()).to_string(),
        Some(failed) => failed.to_string(),
        None if rare.is_empty() => table(&sum, took),
        None => format!("{}\nhit too rarely: {}", table(&sum, took), rare.join(", ")),
    };
    say(&text, if failed.is_some() { 1 } else { u8::from(!rare.is_empty()) * 2 })
}

/// One case, and how it ends.
fn one(case: &Case, wrong: Option<&Wrong>, trace: bool, object: bool) -> Outcome<ExitCode> {
    let came = run(case, wrong, trace, &mut [0; COUNT]);
    let code = u8::from(came.broken.is_some());
    if object {
        let broken = came.broken.map(|b| json!({ "rule": b.rule, "what": b.what }));
        let told = json!({ "sim": 1, "version": env!("CARGO_PKG_VERSION"), "seed": case.seed, "runs": 1,
            "polls": came.polls, "grants": came.grants, "trace": came.trace, "broken": broken });
        return say(&told.to_string(), code);
    }
    let end = came
        .broken
        .as_ref()
        .map_or_else(|| "no rule broken".to_owned(), |b| format!("{} is broken: {}", b.rule, b.what));
    say(&[came.trace.join("\n"), end].join("\n"), code)
}

fn names() -> Vec<&'static str> {
    MUTANTS.iter().map(|wrong| wrong.name).collect()
}

fn say(text: &str, code: u8) -> Outcome<ExitCode> {
    writeln!(std::io::stdout(), "{}", text.trim_matches('\n')).doing(|| "write the result".into())?;
    Ok(ExitCode::from(code))
}
