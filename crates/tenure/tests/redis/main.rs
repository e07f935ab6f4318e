//! The Redis backend against real servers.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use tenure_servers::{limit, redis as server};

mod absent;
mod access;
mod basics;
mod clock;
mod cohort;
mod cohort_histories;
mod compose;
mod contract;
mod cuts;
mod damaged;
mod faces;
mod faults;
mod full;
mod golden;
mod histories;
mod moves;
mod observers;
mod people;
mod raw;
#[cfg(feature = "redlock")]
mod redlock;
mod runtimes;
mod scripts;
mod shown;
mod tls;
mod together;

#[allow(clippy::print_stdout)] // a harness of its own says why it skips
fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Servers and clients share two cores with the rest of the machine.
    arguments.test_threads.get_or_insert(4);
    let missing = server::missing();
    if let Some(why) = &missing {
        println!("ignored: {why}");
    }
    if server::program("cc").is_none() {
        println!("clock::: ignored where they set a real server's clock, since this machine lacks cc");
    }
    let ignored = |trial: Trial| if missing.is_none() { trial } else { trial.with_ignored_flag(true) };
    let trials = all().into_iter().map(ignored).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn all() -> Vec<Trial> {
    [
        absent::trials(),
        access::trials(),
        basics::trials(),
        clock::trials(),
        cohort::trials(),
        cohort_histories::trials(),
        compose::trials(),
        cuts::trials(),
        damaged::trials(),
        faces::trials(),
        faults::trials(),
        runtimes::trials(),
        full::trials(),
        golden::trials(),
        histories::trials(),
        tls::trials(),
        together::trials(),
        moves::trials(),
        observers::trials(),
        #[cfg(feature = "redlock")]
        redlock::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A trial of this name.
fn trial(name: &str, body: fn()) -> Trial {
    let own = name.to_owned();
    Trial::test(name, move || {
        limit::within(&own, body);
        Ok(())
    })
}

/// A runtime of two threads.
fn multi() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// A runtime of this thread alone.
fn single() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Waits until it is so; for a minute at most.
async fn soon(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !so().await {
        assert!(std::time::Instant::now() < end, "never {what}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
