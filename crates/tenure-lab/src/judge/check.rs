//! `tenure lab check`: judges a stored history again.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{Breach, Facts, Status, Verdict, Windows, judge_with};
use crate::failure::{Doing, Failure, Outcome};
use crate::globals::Globals;
use crate::history::History;

/// Arguments of `tenure lab check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The directory of a run (with its history.jsonl), or a history file.
    #[arg(value_name = "DIR")]
    place: PathBuf,
    /// Writes the report as a web page to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(crate) fn run(args: &CheckArgs, globals: &Globals) -> Outcome<ExitCode> {
    let path = if args.place.is_dir() { args.place.join("history.jsonl") } else { args.place.clone() };
    Ok(exit_status(&conclude(&path, args.report.as_deref(), globals)?))
}

/// Judges the history at `path`, prints the verdicts, and writes the report if one is asked for.
pub(crate) fn conclude(path: &Path, report: Option<&Path>, globals: &Globals) -> Outcome<Vec<Verdict>> {
    let verdicts = judged(path, report)?;
    tell(&verdicts, globals)?;
    Ok(verdicts)
}

/// The verdicts on the history at `path`. Writes the report if one is asked for.
pub(crate) fn judged(path: &Path, report: Option<&Path>) -> Outcome<Vec<Verdict>> {
    let history = History::read(path).map_err(|error| unreadable(path, &error))?;
    let facts = Facts::of(&history);
    let windows = Windows::of(&history);
    let verdicts = judge_with(&facts, &windows);
    if let Some(file) = report {
        let page = crate::report::page(&facts, &windows, &verdicts);
        std::fs::write(file, page).doing(|| format!("write {}", file.display()))?;
    }
    Ok(verdicts)
}

fn unreadable(path: &Path, error: &crate::history::ReadError) -> Failure {
    // An error about the file itself already names it.
    let what = if error.line == 0 { error.to_string() } else { format!("{}: {error}", path.display()) };
    Failure::usage(
        what,
        "a history is what `tenure lab chaos --out DIR` leaves as DIR/history.jsonl; \
         https://github.com/tenure-rs/tenure/blob/main/docs/wire/history.schema.json describes it",
    )
}

/// Prints the verdicts: one line each, with the breaches below it. With `--json`: one object each.
fn tell(verdicts: &[Verdict], globals: &Globals) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    for verdict in verdicts {
        let text = if globals.json {
            serde_json::to_string(verdict).doing(|| "write a verdict".into())?
        } else {
            in_words(verdict, globals.verbose)
        };
        writeln!(out, "{text}").doing(|| "write the verdicts".into())?;
    }
    Ok(())
}

fn in_words(verdict: &Verdict, verbose: u8) -> String {
    let mut text =
        format!("{:<5} {:<24} {:<13} {}", verdict.rule, verdict.title, verdict.status, verdict.text);
    for breach in &verdict.breaches {
        text += &breach_in_words(breach);
    }
    if verbose > 0 && !verdict.excused.is_empty() {
        text += "\n      where it was not promised:";
        for breach in &verdict.excused {
            text += &breach_in_words(breach);
        }
    }
    if matches!(verdict.status, Status::Broken | Status::FloorMissed) {
        text += &format!("\n      seed {}; repeat with: {}", verdict.seed, verdict.replay);
    }
    text
}

fn breach_in_words(breach: &Breach) -> String {
    let mut text = format!("\n      {}", breach.what);
    for event in &breach.events {
        text += &format!("\n        {}", serde_json::to_string(event).unwrap_or_default());
    }
    text
}

/// 1 if a promise was broken; 2 if too little happened, or a rule could not be judged or was never promised when it was
/// put to the test; 0 if every rule held.
pub(crate) fn exit_status(verdicts: &[Verdict]) -> ExitCode {
    let any = |status| verdicts.iter().any(|verdict| verdict.status == status);
    let unproved = any(Status::FloorMissed) || any(Status::NotJudged);
    match (any(Status::Broken), unproved || verdicts.iter().any(Verdict::never_promised)) {
        (true, _) => ExitCode::from(1),
        (_, true) => ExitCode::from(2),
        _ => ExitCode::SUCCESS,
    }
}
