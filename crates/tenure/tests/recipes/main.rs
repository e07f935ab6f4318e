//! The recipes of the manual, run: several programs of each at a time on real stores, stopped and killed where it hurts, and
//! what they leave must be right. Beside them, fleets that are broken, which must be seen: one whose programs do not exclude
//! each other, one whose fences forget.

use std::cell::Cell;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use tenure_servers::{limit, redis as server};

mod fleet;
mod pages;
#[path = "../../examples/recipes/main.rs"]
mod recipes;
mod trials;

use fleet::{Break, Fleet, Store};
use recipes::USAGE;

fn main() -> ExitCode {
    // This executable plays the programs too.
    if fleet::is_program() {
        return recipes::main();
    }
    quiet();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    let missing = server::missing().is_some();
    let mut all = pages::trials();
    for (name, run) in trials::ALL {
        for store in [Store::Host, Store::Redis] {
            let called = format!("{name}::{store}");
            let trial = Trial::test(called.clone(), move || {
                limit::within(&called, || run(&mut Fleet::new(store, Break::Nothing)));
                Ok(())
            });
            all.push(trial.with_ignored_flag(missing && store == Store::Redis));
        }
        let broken = match name.split("::").nth(1) {
            Some("together") => Some((Break::Locks, "without_locks")),
            Some(part) if part.starts_with("a_stalled_") => Some((Break::Fence, "with_a_fence_that_forgets")),
            _ => None,
        };
        if let Some((what, how)) = broken {
            let called = format!("broken::{name}::{how}");
            all.push(Trial::test(called.clone(), move || limit::within(&called, || caught(*run, what))));
        }
    }
    libtest_mimic::run(&arguments, all).exit_code()
}

/// A fleet that is broken must not pass: otherwise the trial proves nothing.
fn caught(run: fn(&mut Fleet), what: Break) -> Result<(), Failed> {
    EXPECTED.set(true);
    let told = std::panic::catch_unwind(move || run(&mut Fleet::new(Store::Host, what)));
    EXPECTED.set(false);
    let Err(told) = told else { return Err("it passed".into()) };
    let told = told.downcast_ref::<String>().map_or("", String::as_str);
    // Programs that do not even run would fail too.
    if told.contains(USAGE) { Err(told.into()) } else { Ok(()) }
}

thread_local! {
    /// Whether this thread is about to fail as it should.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Says nothing of panics that are expected.
fn quiet() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !EXPECTED.get() {
            loud(info);
        }
    }));
}
