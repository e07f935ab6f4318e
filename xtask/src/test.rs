//! `cargo xtask test`: every test of the workspace, counted.

use crate::Stop;
use crate::args::Args;
use crate::counts::Counts;
use crate::process::{cargo, watch};
use crate::{select, servers};

/// The one profile and the one set of features that clippy and the tests share, so that nothing is built twice.
pub(crate) const WHOLE: &[&str] = &["--workspace", "--all-features"];

/// The simulation has so many runs, the model check so many states, and chaos so many clients, that they need an optimised
/// build of their own.
/// A debug build only has a few of them.
const OPTIMISED: &[&str] = &["sim", "model", "chaos"];

/// The arguments of `cargo test` for one of those.
fn optimised(name: &str) -> Vec<String> {
    ["--profile", "sim", "--package", "tenure-lab", "--test", name].map(str::to_owned).to_vec()
}

/// Runs the tests and closes with the line that counts them.
pub(crate) fn run(args: &[String]) -> Result<bool, Stop> {
    let args = Args::parse(args, &["--no-install"], &["--only"])?.no_words()?;
    let only: Vec<&str> = args.all("--only").collect();
    let (fast, slow): (Vec<&str>, Vec<&str>) = only.iter().partition(|name| !OPTIMISED.contains(name));
    let mut suites = if only.is_empty() { vec![Vec::new()] } else { select::suites(&fast)? };
    let slow = if only.is_empty() { OPTIMISED } else { &slow };
    suites.extend(slow.iter().map(|name| optimised(name)));
    servers::prepare(args.has("--no-install"))?;
    let mut counts = Counts::default();
    for suite in suites {
        counts += one(&suite)?;
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
