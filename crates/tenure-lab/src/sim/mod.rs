//! The deterministic simulation: the real engine, several clients at a time, against the product's own line of claims,
//! in virtual time and in every kind of weather.
//!
//! - [`world`]: virtual time and the order of things. - [`machine`]: a client's machine, which is the engine's runtime.
//! - [`server`]: the store. - [`link`]: the network between the two. - [`clock`]: clocks that drift and step.
//! - [`faults`], [`weather`]: what goes wrong. - [`worker`]: what clients do. - [`judge`]: what must hold.
//! - [`run`]: one run. - [`shrink`]: the smallest run that still fails. - [`mutants`]: what must be noticed.
//!
//! A run is a function of its seed, so a failure is repeated by one command.

mod clock;
mod faults;
mod judge;
mod link;
mod machine;
mod mutants;
mod run;
mod server;
mod weather;
mod worker;
mod world;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use faults::{COUNT, Hits};
use judge::{Broken, RULES};
use mutants::Wrong;
use run::Case;
use world::locked;

/// What many runs came to.
#[derive(Debug)]
struct Sum {
    runs: u64,
    hits: Hits,
    polls: u64,
    grants: u64,
    judged: [u64; RULES.len()],
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
        judged: [0; RULES.len()],
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
    let (mut hits, mut runs, mut polls, mut grants) = ([0; COUNT], 0, 0, 0);
    let (mut judged, mut failed) = ([0; RULES.len()], None);
    for seed in seeds {
        let came = run::run(&Case::new(seed), wrong, false, &mut hits);
        runs += 1;
        polls += came.polls;
        grants += came.grants;
        judged.iter_mut().zip(came.judged).for_each(|(sum, n)| *sum += n);
        if let Some(broken) = came.broken {
            failed = Some((seed, broken));
            break;
        }
    }
    let mut sum = locked(sum);
    sum.hits.iter_mut().zip(hits).for_each(|(sum, n)| *sum += n);
    sum.judged.iter_mut().zip(judged).for_each(|(sum, n)| *sum += n);
    sum.runs += runs;
    sum.polls += polls;
    sum.grants += grants;
    if let Some(failed) = failed {
        let first = sum.failed.as_ref().is_none_or(|(seed, _)| failed.0 < *seed);
        if first {
            sum.failed = Some(failed);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn quick() {
        let start = std::time::Instant::now();
        let n = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
        if let Some(seed) = std::env::var("SEED").ok().and_then(|n| n.parse().ok()) {
            let mut hits = [0; super::COUNT];
            let came = super::run::run(&super::Case::new(seed), None, true, &mut hits);
            for line in &came.trace { println!("{line}"); }
            println!("{:?}", came.broken);
            return;
        }
        let sum = super::sweep(0..n, None);
        for (n, (_, name, _)) in super::faults::FAULTS.iter().enumerate() { println!("{name:<22} {}", sum.hits[n]); }
        println!("{:?} {sum:?}", start.elapsed());
    }
}
