//! `tenure lab mutants`: whether the lab notices each of them, and how long it takes.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Mutant, all};
use crate::chaos::{Caught, Hunt, hunt};
use crate::failure::{Doing, Failure, Outcome};
use crate::globals::Globals;
use crate::num::boot_ns;
use crate::sim;

/// `tenure lab mutants`.
#[derive(Args, Clone, Debug)]
pub struct MutantsArgs {
    /// Only those whose names contain this.
    #[arg(value_name = "NAME")]
    filter: Option<String>,
    /// How long each has to be noticed, in seconds of faults; most are in the first few.
    #[arg(long, default_value_t = 60, value_name = "N")]
    secs: u64,
    /// Repeats the faults of a run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keeps the history and the report of each in this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// How long what is shipped is judged in the same way, as a control.
const CONTROL: Duration = Duration::from_secs(6);

/// Runs them, one after the other.
pub(crate) fn run(args: &MutantsArgs, globals: &Globals) -> Outcome<ExitCode> {
    let filter = args.filter.as_deref().unwrap_or_default();
    let chosen: Vec<&Mutant> = all().filter(|mutant| mutant.name.contains(filter)).collect();
    let simulated: Vec<&str> = sim::mutants().filter(|name| name.contains(filter)).collect();
    if chosen.is_empty() && simulated.is_empty() {
        let names: Vec<&str> = all().map(|mutant| mutant.name).chain(sim::mutants()).collect();
        let what = format!("no wrong protocol has {filter:?} in its name");
        return Err(Failure::usage(what, format!("there are {}", names.join(", "))));
    }
    if let Some(dir) = &args.out {
        fs::create_dir_all(dir).doing(|| format!("make {}", dir.display()))?;
    }
    let seed = args.seed.unwrap_or_else(|| boot_ns() % 1_000_000);
    let span = Duration::from_secs(args.secs.clamp(1, 3600));
    let out = args.out.as_deref();
    let mut well = true;
    if !chosen.is_empty() {
        let control = hunt(&Hunt { mutant: None, seed, span: CONTROL.min(span), out }, globals)?;
        well &= tell(None, control.as_ref(), globals)?;
    }
    for mutant in chosen.iter().copied() {
        let caught = hunt(&Hunt { mutant: Some(mutant), seed, span, out }, globals)?;
        well &= tell(Some(mutant), caught.as_ref(), globals)?;
    }
    for name in simulated {
        well &= simulate(name, globals)?;
    }
    if !globals.json && !chosen.is_empty() {
        say(&format!(
            "seed {seed}; repeat one with: tenure lab mutants NAME --seed {seed} --secs {}",
            span.as_secs()
        ))?;
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one of those that need a machine which no lab has: clocks that stand still, networks that repeat themselves.
fn simulate(name: &str, globals: &Globals) -> Outcome<bool> {
    let came = sim::catch(name);
    let status = if came.is_ok() { "caught" } else { "survived" };
    let what = came.as_ref().unwrap_or_else(|why| why);
    if globals.json {
        let line = json!({ "mutant": name, "in": "simulation", "status": status, "what": what });
        say(&line.to_string())?;
    } else {
        let rule = what.split_once(',').map_or(what.as_str(), |(runs, _)| runs);
        say(&format!("{name:<42} {status:<9} {rule} of the simulation"))?;
    }
    Ok(came.is_ok())
}

/// Prints what came of one, and whether that is as it must be.
fn tell(mutant: Option<&Mutant>, caught: Option<&Caught>, globals: &Globals) -> Outcome<bool> {
    let name = mutant.map_or("as shipped", |mutant| mutant.name);
    let expected = mutant.is_none_or(|m| caught.is_some_and(|caught| m.breaks.contains(&caught.rule)));
    let well = mutant.is_some() == caught.is_some();
    let status = match (mutant, caught) {
        (None, None) => "held",
        (None, Some(_)) => "broken",
        (Some(_), Some(_)) => "caught",
        (Some(_), None) => "survived",
    };
    if globals.json {
        let line = json!({
            "mutant": mutant.map(|mutant| mutant.name),
            "in": "chaos",
            "stands_for": mutant.map(|mutant| mutant.stands_for),
            "status": status,
            "rule": caught.map(|caught| caught.rule),
            "expected": expected,
            "after_ms": caught.map(|caught| caught.after.as_millis()),
            "acquisitions": caught.map(|caught| caught.acquisitions),
            "what": caught.map(|caught| &caught.what),
        });
        say(&line.to_string())?;
        return Ok(well);
    }
    let found = caught.map_or_else(String::new, |caught| {
        let after = caught.after.as_secs_f64();
        format!("{:<3} after {after:>6.2} s", caught.rule)
    });
    say(&format!("{name:<42} {status:<9} {found}"))?;
    if let Some(mutant) = mutant {
        say(&format!("    {}", mutant.stands_for))?;
    }
    if let Some(caught) = caught.filter(|_| globals.verbose > 0 || !well || !expected) {
        say(&format!("    {}", caught.what))?;
    }
    Ok(well)
}

fn say(line: &str) -> Outcome<()> {
    writeln!(std::io::stdout().lock(), "{line}").doing(|| "write what was found".into())
}
