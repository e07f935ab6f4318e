//! The recipes of the manual, run: several programs of each at a time on real stores, stopped and killed where it hurts, and
//! what they leave must be right. Beside them, each in a fleet whose programs do not exclude each other, which must be
//! seen.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

mod fleet;
mod pages;
#[path = "../../examples/recipes/main.rs"]
mod recipes;
#[allow(dead_code)] // shared with the backend's own tests
#[path = "../redis/server.rs"]
mod server;
mod trials;

use fleet::{Fleet, Store};

fn main() -> ExitCode {
    // This executable plays the programs too.
    if fleet::is_program() {
        return recipes::main();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    let missing = ["redis-server", "redis-cli", "setpriv"].iter().any(|name| server::program(name).is_none());
    let mut all = pages::trials();
    for (name, run) in trials::ALL {
        for store in [Store::Host, Store::Redis] {
            let trial = Trial::test(format!("{name}::{store}"), move || {
                run(&mut Fleet::new(store, true));
                Ok(())
            });
            all.push(trial.with_ignored_flag(missing && store == Store::Redis));
        }
    }
    for (name, run) in trials::ALL.iter().filter(|(name, _)| name.ends_with("::together")) {
        all.push(Trial::test(format!("broken::{name}::without_locks"), move || without_locks(*run)));
    }
    libtest_mimic::run(&arguments, all).exit_code()
}

/// A fleet in which nobody is excluded must not pass: otherwise the trial proves nothing.
fn without_locks(run: fn(&mut Fleet)) -> Result<(), libtest_mimic::Failed> {
    let passed = std::panic::catch_unwind(move || run(&mut Fleet::new(Store::Host, false))).is_ok();
    if passed { Err("it passed although the programs did not exclude each other".into()) } else { Ok(()) }
}
