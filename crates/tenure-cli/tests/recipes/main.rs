//! The scripts of the manual's page for shells, run as they stand there, on `host:` and on a real Redis.
#![allow(clippy::unwrap_used, clippy::print_stderr)] // a test ends where it finds what it does not expect, and tells
#![cfg(target_os = "linux")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use tenure_servers::{limit, redis as server};

mod scripts;
#[allow(dead_code)] // shared with the command's other tests
#[path = "../cli/support.rs"]
mod support;

use scripts::Shop;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    let lacks = |names: &[&str]| names.iter().any(|name| server::program(name).is_none());
    let mut trials = Vec::new();
    for (name, needs, run) in scripts::ALL {
        for (store, more) in [("host", &[][..]), ("redis", &server::NEEDS[..])] {
            let missing = lacks(needs) || lacks(more);
            let called = format!("shell::{name}::{store}");
            let trial = Trial::test(called.clone(), move || {
                limit::within(&called, || {
                    let server = (store == "redis").then(server::Server::start);
                    run(&Shop::new(server.as_ref().map(server::Server::url)));
                });
                Ok(())
            });
            trials.push(trial.with_ignored_flag(missing));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
