//! The deterministic simulation: the real engine, several clients at a time, against the product's own line of claims,
//! in virtual time and in every kind of weather.
//!
//! - `world`: virtual time and the order of things. - `machine`: a client's machine, which is the engine's runtime.
//! - `server`: the store. - `link`: the network between the two. - `clock`: clocks that drift and step.
//! - `faults`, `weather`: what goes wrong. - `worker`: what clients do. - `judge`: what must hold.
//! - `run`: one run. - `report`: what is printed. - `shrink`: the smallest run that still fails. - `mutants`: what must be noticed.
//!
//! A run is a function of its seed, so a failure is repeated by one command.

mod clock;
mod faults;
mod judge;
mod link;
mod machine;
mod mutants;
mod report;
mod run;
mod server;
mod shrink;
mod weather;
mod worker;
mod world;

use std::fmt::Write;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

pub use report::SimArgs;
pub(crate) use report::main;

use faults::{COUNT, FAULTS, Hits};
use judge::{Broken, RULES};
use mutants::{MUTANTS, Wrong};
use run::Case;
use world::locked;

/// What many runs came to.
#[derive(Debug)]
struct Sum {
    runs: u64,
    hits: Hits,
    polls: u64,
    grants: u64,
    /// How many holds were passed on from task to task.
    passed: u64,
    judged: [u64; RULES.len()],
    /// How many writes the unfenced twins lost, of how many.
    twins: [u64; 2],
    /// The first seed that failed, and how.
    failed: Option<(u64, Broken)>,
}

/// So many seeds at a time are taken by a thread.
const CHUNK: u64 = 64;

/// Runs all seeds, on as many threads as there are cores, until one fails.
fn sweep(seeds: Range<u64>, wrong: Option<&Wrong>) -> Sum {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Sum {
        runs: 0,
        hits: [0; COUNT],
        polls: 0,
        grants: 0,
        passed: 0,
        judged: [0; RULES.len()],
        twins: [0; 2],
        failed: None,
    });
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let start = next.fetch_add(CHUNK, Ordering::Relaxed);
                    if start >= seeds.end || locked(&sum).failed.is_some() {
                        return;
                    }
                    chunk(start..(start + CHUNK).min(seeds.end), wrong, &sum);
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn chunk(seeds: Range<u64>, wrong: Option<&Wrong>, sum: &Mutex<Sum>) {
    let (mut hits, mut runs, mut polls, mut grants, mut passed) = ([0; COUNT], 0, 0, 0, 0);
    let (mut judged, mut twins, mut failed) = ([0; RULES.len()], [0; 2], None);
    for seed in seeds {
        let came = run::run(&Case::new(seed), wrong, false, &mut hits);
        runs += 1;
        polls += came.polls;
        grants += came.grants;
        passed += came.passed;
        judged.iter_mut().zip(came.judged).for_each(|(sum, n)| *sum += n);
        twins = [twins[0] + came.twins[0], twins[1] + came.twins[1]];
        if let Some(broken) = came.broken {
            failed = Some((seed, broken));
            break;
        }
    }
    let mut sum = locked(sum);
    sum.hits.iter_mut().zip(hits).for_each(|(sum, n)| *sum += n);
    sum.judged.iter_mut().zip(judged).for_each(|(sum, n)| *sum += n);
    sum.twins = [sum.twins[0] + twins[0], sum.twins[1] + twins[1]];
    sum.runs += runs;
    sum.polls += polls;
    sum.grants += grants;
    sum.passed += passed;
    if let Some(failed) = failed {
        let first = sum.failed.as_ref().is_none_or(|(seed, _)| failed.0 < *seed);
        if first {
            sum.failed = Some(failed);
        }
    }
}

/// At least so often every point must have been hit, in a full number of runs.
const HITS: u64 = 1_000;

/// How many runs the full simulation has.
pub const FULL: u64 = 500_000;

/// The points that were hit too rarely in a full number of runs.
fn rare(sum: &Sum) -> Vec<&'static str> {
    let points = FAULTS.iter().zip(sum.hits).filter(|(_, hits)| sum.runs >= FULL && *hits < HITS);
    let full = sum.runs >= FULL;
    let twin = (full && sum.twins[0] == 0).then_some("a write lost without tokens");
    let passed = (full && sum.passed < HITS).then_some("a hold that was passed on");
    points.map(|((_, name, _), _)| *name).chain(twin).chain(passed).collect()
}

/// Runs `runs` seeds from `seed` on. Says what they came to, as a table.
///
/// # Errors
/// The broken rule, the smallest run that breaks it, and the command that repeats it; or the points that were hit too
/// rarely in a full number of runs.
pub fn simulate(seed: u64, runs: u64) -> Result<String, String> {
    let cpu = crate::num::cpu_ns();
    let sum = sweep(seed..seed.saturating_add(runs), None);
    if let Some((seed, broken)) = &sum.failed {
        return Err(report::failure(*seed, broken, None).to_string());
    }
    let table = report::table(&sum, crate::num::cpu_ns() - cpu);
    match rare(&sum).as_slice() {
        [] => Ok(table),
        rare => Err(format!("{table}\nhit less than {HITS} times: {}", rare.join(", "))),
    }
}

/// The names of the wrong protocols.
pub fn mutants() -> impl Iterator<Item = &'static str> {
    MUTANTS.iter().map(|wrong| wrong.name)
}

/// How many runs a wrong protocol may survive.
const SURVIVES: u64 = 50_000;

/// Runs a wrong protocol until it is noticed. Says after how many runs, and by which rule.
///
/// # Errors
/// If it is not noticed, or only by a rule that it does not break.
pub fn catch(name: &str) -> Result<String, String> {
    let wrong =
        MUTANTS.iter().find(|w| w.name == name).ok_or_else(|| format!("there is no mutant {name}"))?;
    let cpu = crate::num::cpu_ns();
    let sum = sweep(0..SURVIVES, Some(wrong));
    let Some((seed, broken)) = sum.failed else {
        return Err(format!("{name} survived {} runs", sum.runs));
    };
    let ms = (crate::num::cpu_ns() - cpu) / 1_000_000;
    let mut out = String::new();
    let _ = write!(out, "{} after {} runs, {ms} ms of CPU: {}", broken.rule, sum.runs, broken.what);
    if wrong.breaks.contains(&broken.rule) {
        Ok(out)
    } else {
        Err(format!("{out}\n{}", report::failure(seed, &broken, Some(wrong))))
    }
}
