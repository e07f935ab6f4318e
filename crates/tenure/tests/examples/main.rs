//! The examples, run on the stores that they are for.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use tenure_servers::{limit, redis as server};

#[allow(dead_code)] // its `main` is for people
#[path = "../../examples/contract.rs"]
mod contract;

fn main() -> ExitCode {
    let mut trials = vec![
        trial("contract::memory", || contract("memory:")),
        trial("contract::host", || {
            let dir = server::Dir::new("examples")?;
            contract(&format!("host://{}", dir.0.display()))
        }),
    ];
    let redis = |name: &str, run: fn(&str) -> Result<(), Failed>, scheme: &'static str| {
        let missing = server::missing().is_some();
        let trial = trial(name, move || {
            let server = server::Server::start();
            run(&server.url().replace("redis://", scheme))
        });
        trial.with_ignored_flag(missing)
    };
    trials.push(redis("contract::redis", contract, "redis://"));
    trials.push(redis("contract::redis_setnx_says_what_it_lacks", refused, "redis+setnx://"));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A trial that must end in time.
fn trial(name: &str, body: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    let own = name.to_owned();
    Trial::test(name, move || limit::within(&own, body))
}

fn run(url: &str) -> contract::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(contract::run(url))
}

fn contract(url: &str) -> Result<(), Failed> {
    run(url).map_err(|error| Failed::from(error.to_string()))
}

/// The dialect has no line, which the program needs: it does not start there.
fn refused(url: &str) -> Result<(), Failed> {
    match run(url) {
        Err(error) if error.to_string().contains("needs order fifo") => Ok(()),
        other => Err(Failed::from(format!("not refused as it must be: {other:?}"))),
    }
}
