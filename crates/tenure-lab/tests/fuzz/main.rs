//! Fuzzing: everything that parses bytes of others, from real inputs and seeded mutations of them.
//!
//! - `mutate`: how an input is changed.
//! - `meter`: how much memory a target takes.
//! - `histories`: the target of this crate; the others are `tenure::fuzz`.
//!
//! Each target asserts its own rules, and these: no panic, at most [`BASE`] + [`EACH`] bytes of memory for each byte of
//! input, and at most [`LIMIT`] for one input. An input with a new kind of outcome joins the corpus. An input that fails
//! is made smaller and printed, with the seed.
//!
//! `cargo xtask test` runs each target for a few seconds, with the same seed every time. `TENURE_LAB_FUZZ_SECS` and
//! `TENURE_LAB_SEED` set others, as `cargo xtask soak` does. `TENURE_LAB_FUZZ_INPUT` is a file with one input to run.

#![allow(clippy::print_stdout)] // a harness of its own

mod histories;
mod meter;
mod mutate;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tenure::fuzz::{Target, targets};
use tenure_lab::harness::Harness;

use crate::mutate::Mutator;

#[global_allocator]
static METER: meter::Meter = meter::Meter;

/// How long each target runs, in seconds, unless the environment says otherwise.
const SECS: f64 = 2.0;
/// The longest input, in bytes.
const LONGEST: usize = 16 << 10;
/// Memory that every target may take, and memory for each byte of input.
const BASE: usize = 256 << 10;
const EACH: usize = 256;
/// How long one input may take. The machine may be busy.
const LIMIT: Duration = Duration::from_secs(5);
/// The most inputs that are kept.
const CORPUS: usize = 2_000;

fn main() -> ExitCode {
    // Failures are told with their input, not by the hook.
    std::panic::set_hook(Box::new(|_| {}));
    // Soak runs fuzz for hours.
    let mut harness = Harness::new().limit(Duration::from_secs_f64(600.0 + secs()));
    for target in targets().into_iter().chain([histories::HISTORIES]) {
        harness.test(target.name.replace(' ', "_"), move || fuzz(&target).into());
    }
    harness.test("the_fuzzer_finds_what_is_wrong", || finds().into());
    harness.run()
}

fn number(name: &str) -> Option<f64> {
    std::env::var(name).ok()?.parse().ok()
}

/// How long each target runs.
fn secs() -> f64 {
    number("TENURE_LAB_FUZZ_SECS").filter(|secs| *secs > 0.0).unwrap_or(SECS)
}

/// Runs a target for its time.
fn fuzz(target: &Target) -> Result<String, String> {
    let secs = secs();
    let seed = std::env::var("TENURE_LAB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    if let Some(file) = std::env::var_os("TENURE_LAB_FUZZ_INPUT") {
        let input = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        return one(target, &input).map(|outcome| format!("outcome {outcome:x}"));
    }
    let ran = hunt(target, seed, Duration::from_secs_f64(secs))?;
    Ok(format!("{} inputs, {} kinds of outcomes; {}", ran.inputs, ran.outcomes, target.asserts))
}

#[derive(Debug)]
struct Ran {
    inputs: u64,
    outcomes: usize,
}

/// Mutates until the time is up, or something fails.
fn hunt(target: &Target, seed: u64, time: Duration) -> Result<Ran, String> {
    let mut corpus = (target.seeds)();
    let mut seen = HashSet::new();
    let failed = |input: &[u8], why: String| {
        let small = shrink(target, input);
        let why = one(target, &small).err().unwrap_or(why);
        let asserts = target.asserts;
        Err(format!("seed {seed}: {why}\n  it asserts: {asserts}\n  input: b\"{}\"", small.escape_ascii()))
    };
    for input in &corpus {
        match one(target, input) {
            Ok(outcome) => drop(seen.insert(outcome)),
            Err(why) => return failed(input, why),
        }
    }
    let mut mutator = Mutator::new(seed ^ tenure::fuzz::outcome(target.name));
    let (until, mut inputs) = (Instant::now() + time, corpus.len() as u64);
    while Instant::now() < until {
        for _ in 0..64 {
            let mut input = mutator.mutate(&corpus);
            input.truncate(LONGEST);
            inputs += 1;
            match one(target, &input) {
                Ok(outcome) if seen.insert(outcome) && corpus.len() < CORPUS => corpus.push(input),
                Ok(_) => {}
                Err(why) => return failed(&input, why),
            }
        }
    }
    Ok(Ran { inputs, outcomes: seen.len() })
}

/// Runs a target on one input, and watches what it takes.
fn one(target: &Target, input: &[u8]) -> Result<u64, String> {
    let began = Instant::now();
    let (result, peak) = meter::peak(|| catch_unwind(AssertUnwindSafe(|| target.run(input))));
    let outcome = result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        format!("it panics: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a text"))
    })?;
    let most = BASE + EACH * input.len();
    if peak > most {
        return Err(format!("it takes {peak} bytes of memory for {} bytes, more than {most}", input.len()));
    }
    if began.elapsed() > LIMIT {
        return Err(format!("it takes {:?} for {} bytes", began.elapsed(), input.len()));
    }
    Ok(outcome)
}

/// The same failure by less: leaves out pieces for as long as it still fails.
fn shrink(target: &Target, input: &[u8]) -> Vec<u8> {
    let mut small = input.to_vec();
    let mut piece = small.len().div_ceil(2);
    while piece > 0 {
        let mut from = 0;
        while from < small.len() {
            let mut less = small.clone();
            less.drain(from..(from + piece).min(small.len()));
            if one(target, &less).is_err() {
                small = less;
            } else {
                from += piece;
            }
        }
        piece /= 2;
    }
    small
}

/// A parser that is wrong on purpose, by the name of its fault.
type Wrong = (&'static str, fn(&[u8]) -> u64);

/// A fuzzer that finds nothing proves nothing: it must find each of these within its usual time.
fn finds() -> Result<String, String> {
    let wrong: [Wrong; 4] = [
        ("panics", |input| {
            let text = String::from_utf8_lossy(input);
            let number: i64 = text.split(':').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
            u64::try_from(number.checked_add(1).expect("room")).unwrap_or(0)
        }),
        ("memory", |input| {
            let text = String::from_utf8_lossy(input);
            let length = text.split(':').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0usize);
            Vec::<u8>::with_capacity(length.min(1 << 28)).capacity() as u64 / (1 << 27)
        }),
        ("leading zeros", |input| {
            let text = std::str::from_utf8(input).unwrap_or_default();
            if let Ok(number) = text.parse::<i64>() {
                assert_eq!(number.to_string(), text);
            }
            0
        }),
        ("index", |input| {
            let end = input.iter().position(|byte| *byte == b':').map_or(0, |at| at + 2);
            input.get(..end).map_or(0, |_| u64::from(input[end.saturating_sub(1)]))
                + u64::from(input[input.len() - 1])
        }),
    ];
    for (name, run) in wrong {
        let target = Target {
            name,
            asserts: "it is wrong on purpose",
            seeds: || vec![b"7".to_vec(), b"a:12:b".to_vec()],
            run,
        };
        if let Ok(ran) = hunt(&target, 1, Duration::from_secs(20)) {
            return Err(format!("{name}: nothing was found: {ran:?}"));
        }
    }
    Ok(String::new())
}
