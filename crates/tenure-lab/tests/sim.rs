//! The simulation, and the wrong protocols that it must notice.
//!
//! `cargo test --profile sim --package tenure-lab --test sim` has the full number of runs; a debug build has a few, so
//! that the simulation is at least known to work. `tenure lab sim` is the same for people.

use std::process::ExitCode;
use std::time::Duration;

use tenure_lab::harness::Harness;
use tenure_lab::sim;

fn main() -> ExitCode {
    // All runs are one test.
    let mut harness = Harness::new().limit(Duration::from_secs(3600));
    let runs = if cfg!(debug_assertions) { 1_000 } else { sim::FULL };
    harness.test("sim::every_rule_holds_in_every_weather", move || {
        sim::simulate(0, runs).map(|table| format!("\n{table}\n")).into()
    });
    for name in sim::mutants() {
        harness.test(format!("sim::mutant::{name}"), move || sim::catch(name).into());
    }
    harness.run()
}
