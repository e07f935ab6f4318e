//! The deterministic simulation: the real engine, several clients at a time, against a store of one of several kinds, in
//! virtual time and in every kind of weather.
//!
//! - `world`: virtual time and the order of things.
//! - `machine`: a client's machine, which is the engine's runtime.
//! - `stores`: the kinds of store.
//! - `link`: the store as an engine sees it.
//! - `lanes`: client of the line over connections that the product's own supervision keeps up.
//! - `wire`: one of these connections.
//! - `room`: the places where they run.
//! - `home`: the runtime that a client connected in.
//! - `message`: what clients and servers say to each other.
//! - `net`: the network.
//! - `server`: a server, and the line that one may keep.
//! - `polling`, `objects`: client and server of a store that keeps one object per lock.
//! - `pinging`, `sessions`: client and server of a store whose holds end with sessions.
//! - `voting`, `voters`: client and servers of a store that is several, of which a quorum decides.
//! - `tally`: what the votes of several servers come to.
//! - `locks`: the locks of a run.
//! - `clock`: clocks that drift and step.
//! - `faults`, `weather`: what goes wrong.
//! - `worker`, `grip`: what clients do, and what they hold.
//! - `judge`: what must hold.
//! - `clients`: starts clients, and has them work.
//! - `plan`: what a run is, and what stays the same for all of it.
//! - `run`: one run.
//! - `handover`: what must be so at the end: a hold is kept, and handed over in time.
//! - `report`: what is printed.
//! - `shrink`: the smallest run that still fails.
//! - `mutants`: what must be noticed.
//!
//! A run is a function of its seed, so a failure is repeated by one command.

mod clients;
mod clock;
mod faults;
mod grip;
mod handover;
mod home;
mod judge;
mod lanes;
mod link;
mod locks;
mod machine;
mod message;
mod mutants;
mod net;
mod objects;
mod pinging;
mod plan;
mod polling;
mod report;
mod room;
mod run;
mod server;
mod sessions;
mod shrink;
mod stores;
mod tally;
mod voters;
mod voting;
mod weather;
mod wire;
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
use plan::Case;
use stores::STORES;
use world::locked;

/// What many runs came to.
#[derive(Debug)]
struct Sum {
    runs: u64,
    hits: Hits,
    polls: u64,
    /// How many runs each kind of store had, and how often each rule was judged in them.
    stores: [Share; STORES.len()],
    /// How many writes the unfenced twins lost, of how many.
    twins: [u64; 2],
    /// The first seed that failed, and how.
    failed: Option<(u64, Broken)>,
}

/// What one kind of store came to.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    runs: u64,
    grants: u64,
    passed: u64,
    judged: [u64; RULES.len()],
}

impl Share {
    fn add(&mut self, other: &Share) {
        self.runs += other.runs;
        self.grants += other.grants;
        self.passed += other.passed;
        self.judged.iter_mut().zip(other.judged).for_each(|(sum, n)| *sum += n);
    }
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
        stores: Default::default(),
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
    let (mut hits, mut runs, mut polls) = ([0; COUNT], 0, 0);
    let (mut stores, mut twins, mut failed) = ([Share::default(); STORES.len()], [0; 2], None);
    for seed in seeds {
        let came = run::run(&Case::new(seed), wrong, false, &mut hits);
        runs += 1;
        polls += came.polls;
        let share = Share { runs: 1, grants: came.grants, passed: came.passed, judged: came.judged };
        stores[came.store as usize].add(&share);
        twins = [twins[0] + came.twins[0], twins[1] + came.twins[1]];
        if let Some(broken) = came.broken {
            failed = Some((seed, broken));
            break;
        }
    }
    let mut sum = locked(sum);
    sum.hits.iter_mut().zip(hits).for_each(|(sum, n)| *sum += n);
    sum.stores.iter_mut().zip(&stores).for_each(|(sum, share)| sum.add(share));
    sum.twins = [sum.twins[0] + twins[0], sum.twins[1] + twins[1]];
    sum.runs += runs;
    sum.polls += polls;
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

impl Sum {
    /// What all kinds of store came to.
    fn total(&self) -> Share {
        let mut total = Share::default();
        self.stores.iter().for_each(|share| total.add(share));
        total
    }
}

/// What was hit, or judged in one kind of store, too rarely in a full number of runs.
fn rare(sum: &Sum) -> Vec<String> {
    if sum.runs < FULL {
        return Vec::new();
    }
    let mut rare: Vec<String> = FAULTS
        .iter()
        .zip(sum.hits)
        .filter(|(_, n)| *n < HITS)
        .map(|((_, name, _), _)| (*name).to_owned())
        .collect();
    if sum.twins[0] == 0 {
        rare.push("a write lost without tokens".to_owned());
    }
    for ((store, name, of_all), share) in STORES.iter().zip(&sum.stores) {
        if *of_all == 0 {
            continue;
        }
        let judged = RULES.iter().zip(share.judged);
        let slept = judged.filter(|(rule, n)| store.judges(rule) && *n < HITS);
        rare.extend(slept.map(|(rule, _)| format!("{rule} in {name}")));
        if store.passes() && share.passed < HITS {
            rare.push(format!("a hold that was passed on in {name}"));
        }
    }
    rare
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
