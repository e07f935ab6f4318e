//! The command on real Redis servers, as scripts and people use it.
#![allow(clippy::unwrap_used, clippy::print_stderr)] // a test ends where it finds what it does not expect, and tells
#![cfg(target_os = "linux")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use tenure_servers::{limit, redis as server};

mod credentials;
mod dialect;
mod faults;
mod kinds;
mod looking;
mod running;
#[allow(dead_code)] // shared with the command's other tests
#[path = "../cli/support.rs"]
mod support;

#[allow(clippy::print_stdout)] // a harness of its own says why it skips
fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Servers and commands share two cores with the rest of the machine.
    arguments.test_threads.get_or_insert(4);
    let missing = server::missing();
    if let Some(why) = &missing {
        println!("ignored: {why}");
    }
    let all = [
        credentials::TRIALS,
        dialect::TRIALS,
        faults::TRIALS,
        kinds::TRIALS,
        looking::TRIALS,
        running::TRIALS,
    ];
    let trial = |(name, body): &(&'static str, fn())| {
        let (name, body) = (*name, *body);
        let trial = Trial::test(name, move || {
            limit::within(name, body);
            Ok(())
        });
        trial.with_ignored_flag(missing.is_some())
    };
    let trials = all.iter().flat_map(|table| table.iter()).map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The trials of a module: name and body.
type Trials = &'static [(&'static str, fn())];
