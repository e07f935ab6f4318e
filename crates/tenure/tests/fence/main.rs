//! Fences at their real resources: databases, Redis, an HTTP server, files, each with a holder that stalled.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use tenure_servers::limit;

mod broken;
mod files;
mod http;
mod mariadb;
mod postgres;
mod programs;
mod redis;
mod session;
mod sqlite;
mod table;
mod trials;

#[allow(clippy::print_stdout)] // a harness of its own says why it skips
fn main() -> ExitCode {
    if let Some(code) = files::child() {
        return code;
    }
    trials::quiet();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    let mut all = Vec::new();
    for suite in [
        files::SUITE,
        http::SUITE,
        sqlite::SUITE,
        redis::SUITE,
        postgres::SUITE,
        mariadb::SUITE,
        broken::SUITE,
    ] {
        let missing: Vec<&str> =
            suite.needs.iter().copied().filter(|name| programs::find(name).is_none()).collect();
        if !missing.is_empty() {
            println!("{}: ignored, since this machine lacks {}", suite.name, missing.join(", "));
        }
        all.extend((suite.trials)().into_iter().map(|t| t.with_ignored_flag(!missing.is_empty())));
    }
    let conclusion = libtest_mimic::run(&arguments, all);
    sqlite::stop();
    redis::stop();
    postgres::stop();
    mariadb::stop();
    conclusion.exit_code()
}

/// The trials of one kind of resource.
struct Suite {
    name: &'static str,
    /// Programs without which none of them can run.
    needs: &'static [&'static str],
    trials: fn() -> Vec<Trial>,
}

/// A trial of this name.
fn trial(name: String, body: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name.clone(), move || {
        limit::within(&name, body);
        Ok(())
    })
}
