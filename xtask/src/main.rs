//! The chores of this repository, in Rust: `cargo xtask test | lint | docs | asan | bench | soak | servers`.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a command talks to its user

mod args;
mod asan;
mod bench;
mod counts;
mod docs;
mod hang;
mod lint;
mod policy;
mod process;
mod select;
mod servers;
mod soak;
mod spelling;
mod test;

use std::process::ExitCode;

const USAGE: &str = "\
The chores of this repository.

Usage: cargo xtask <COMMAND>

Commands:
  test [--no-install] [--only NAME]...   install the servers that are missing, run every test, count. A test that takes
                                         longer than TENURE_TEST_LIMIT seconds (600; 0: no limit) fails by its name
         --no-install   leave missing servers alone; what needs them is counted as skipped
         --only NAME    only the test binary, module or package of that name (may be repeated)
  lint                                   format, clippy, features, docs, spelling, licences and bans
  docs [--no-api]                        the manual as a web site in target/site; every link is checked
         --no-api       without the documentation of the Rust items; links to them lead to docs.rs
  asan                                   the host backend's tests under the address sanitizer (needs nightly)
  bench [--secs N] [--only WORKLOAD]... [--store host|redis]... [--url URL]
                                         ratios against flock, a futex and other crates' locks on Redis, side by
                                         side; asserts nothing
  soak [--hours N] [--only STAGE]... [--secs N] [--seed N] [--out DIR]
                                         the long run: chaos over memory, host and Redis (aof always, everysec, none)
                                         and simulated runs in turn, with ever new seeds. A line per run, and a sum;
                                         exit status 1 if anything broke or missed its floor
         --hours N      how long; fractions are fine (8)
         --only STAGE   memory, host, redis-always, redis-everysec, redis-none or sim (may be repeated)
         --secs N       how long the faults of each run last at least (45; less where a round would not fit)
         --seed N       the first seed; the time of day without it
         --out DIR      where the histories of failed runs are kept (target/soak)
  servers [--install [NAME]...]          which servers the tests know, and which of them are here
";

/// Why a chore could not be done at all.
enum Stop {
    /// The command line is wrong.
    Usage(String),
    /// Something that the chore needs went wrong.
    Broken(String),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Stop {
        Stop::Broken(error.to_string())
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Stop::Usage(why)) => {
            eprint!("xtask: {why}\n\n{USAGE}");
            ExitCode::from(64)
        }
        Err(Stop::Broken(why)) => {
            eprintln!("xtask: {why}");
            ExitCode::from(70)
        }
    }
}

/// Does the chore; `false` when something in it failed.
fn run(args: &[String]) -> Result<bool, Stop> {
    let Some((command, rest)) = args.split_first() else {
        return Err(Stop::Usage("which chore?".into()));
    };
    if ["--help", "-h", "help"].contains(&command.as_str()) || rest.iter().any(|a| a == "--help") {
        print!("{USAGE}");
        return Ok(true);
    }
    match command.as_str() {
        "test" => test::run(rest),
        "lint" => lint::run(rest),
        "docs" => docs::run(rest),
        "asan" => asan::run(rest),
        "bench" => bench::run(rest),
        "soak" => soak::run(rest),
        "servers" => servers::run(rest),
        other => Err(Stop::Usage(format!("there is no chore {other:?}"))),
    }
}
