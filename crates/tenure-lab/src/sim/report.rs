//! What is printed: the table of hits, a failure and how to repeat it.

use std::fmt::Write;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::faults::{COUNT, FAULTS};
use super::judge::{Broken, RULES};
use super::mutants::{MUTANTS, Wrong};
use super::run::{Case, run};
use super::shrink::shrink;
use super::{FULL, Sum, simulate};
use crate::failure::{Doing, Failure, Outcome};

/// `tenure lab sim`.
#[derive(Args, Clone, Debug)]
pub struct SimArgs {
    /// How many runs.
    #[arg(long, value_name = "N", default_value_t = FULL)]
    runs: u64,
    /// The seed of the first run; alone, with --trace, or with what makes it smaller: this run only.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Prints everything that happens in the run.
    #[arg(long)]
    trace: bool,
    /// At most so many clients.
    #[arg(long, value_name = "N", default_value_t = Case::new(0).clients)]
    clients: u64,
    /// At most so many workers in each client.
    #[arg(long, value_name = "N", default_value_t = Case::new(0).workers)]
    workers: u64,
    /// At most so many locks taken by each worker.
    #[arg(long, value_name = "N", default_value_t = Case::new(0).rounds)]
    rounds: u64,
    /// Leaves these faults out, by their number in the run.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    skip: Vec<u32>,
    /// Runs a wrong protocol instead of the right one.
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

/// A failure: the rule, the smallest run that still breaks it, and how to repeat both.
pub(super) fn failure(seed: u64, broken: &Broken, wrong: Option<&Wrong>) -> String {
    let case = Case::new(seed);
    let small = shrink(&case, broken.rule, wrong);
    let came = run(&small, wrong, true, &mut [0; COUNT]);
    let what = came.broken.map_or_else(String::new, |b| format!("{}: {}", b.rule, b.what));
    format!(
        "{} is broken with seed {seed}: {}\nrepeat:  {}\nshrunk:  {}\n         {what}\n{}\n",
        broken.rule,
        broken.what,
        command(&case, wrong),
        command(&small, wrong),
        came.trace.join("\n")
    )
}

/// What the runs came to.
pub(super) fn table(sum: &Sum, cpu_ns: u64) -> String {
    let mut out = String::new();
    for ((_, name, what), hits) in FAULTS.iter().zip(sum.hits) {
        let _ = writeln!(out, "{hits:>9}  {name:<22} {what}");
    }
    let judged: Vec<String> = RULES.iter().zip(sum.judged).map(|(rule, n)| format!("{rule} {n}")).collect();
    let _ = writeln!(out, "judged: {}", judged.join(", "));
    let seconds = cpu_ns / 1_000_000_000;
    let _ = write!(
        out,
        "{} runs, {} polls of tasks, {} grants, no rule broken; {seconds} s of CPU",
        sum.runs, sum.polls, sum.grants
    );
    out
}

/// Runs `tenure lab sim`.
pub(crate) fn main(args: &SimArgs) -> Outcome<ExitCode> {
    let wrong = match &args.mutant {
        Some(name) => Some(MUTANTS.iter().find(|w| w.name == name).ok_or_else(|| {
            let names: Vec<&str> = MUTANTS.iter().map(|w| w.name).collect();
            Failure::usage(format!("no mutant is called {name:?}"), format!("one of {}", names.join(", ")))
        })?),
        None => None,
    };
    let seed = args.seed.unwrap_or(0);
    let skip = args.skip.iter().copied().collect();
    let case = Case { seed, clients: args.clients, workers: args.workers, rounds: args.rounds, skip };
    let (good, text) = if args.trace || case != Case::new(seed) || wrong.is_some() {
        let came = run(&case, wrong, args.trace, &mut [0; COUNT]);
        let end = came
            .broken
            .as_ref()
            .map_or_else(|| "no rule broken".to_owned(), |b| format!("{} is broken: {}", b.rule, b.what));
        (came.broken.is_none(), [came.trace.join("\n"), end].join("\n"))
    } else {
        let done = simulate(seed, args.runs);
        (done.is_ok(), done.unwrap_or_else(|why| why))
    };
    writeln!(std::io::stdout(), "{}", text.trim_start()).doing(|| "write the result".into())?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
