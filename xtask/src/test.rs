//! `cargo xtask test`: every test of the workspace, counted.

use crate::Stop;
use crate::args::Args;
use crate::counts::Counts;
use crate::process::{cargo, watch};
use crate::{select, servers};

/// The one profile and the one set of features that clippy and the tests share, so that nothing is built twice.
pub(crate) const WHOLE: &[&str] = &["--workspace", "--all-features"];

/// The simulation has so many runs that it needs an optimised build of its own. A debug build only has a few of them.
const SIMULATION: &[&str] = &["--profile", "sim", "--package", "tenure-lab", "--test", "sim"];

/// Runs the tests and closes with the line that counts them.
pub(crate) fn run(args: &[String]) -> Result<bool, Stop> {
    let args = Args::parse(args, &["--no-install"], &["--only"])?.no_words()?;
    let only: Vec<&str> = args.all("--only").collect();
    let suites = if only.is_empty() { vec![Vec::new()] } else { select::suites(&only)? };
    servers::prepare(args.has("--no-install"))?;
    let mut counts = Counts::default();
    for suite in suites {
        counts += one(&suite)?;
    }
    if only.is_empty() || only.contains(&"sim") {
        counts += one(&SIMULATION.iter().map(|&a| a.to_owned()).collect::<Vec<_>>())?;
    }
    println!("\n{counts}");
    Ok(counts.failed == 0)
}

/// Runs `cargo test` with some more arguments.
fn one(suite: &[String]) -> Result<Counts, Stop> {
    let mut command = cargo(&["test", "--no-fail-fast"]);
    if !suite.iter().any(|a| a == "--package") {
        command.arg(WHOLE[0]);
    }
    command.args(&WHOLE[1..]).args(suite);
    let mut counts = Counts::default();
    let status = watch(&mut command, |line| counts += Counts::of_line(line).unwrap_or_default())?;
    if !status.success() && counts.failed == 0 {
        // It did not compile, or a test binary died before it could close.
        counts.failed = 1;
    }
    if status.success() && counts.is_empty() {
        return Err(Stop::Broken("that selects no test".into()));
    }
    Ok(counts)
}
