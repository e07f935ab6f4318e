//! The conformance suite: the trials that every backend must pass, each naming the rules of the contract that it holds.
//!
//! - [`Trial`], [`trials`]: the table.
//! - `lanes`: how it runs, for tests.
//! - [`main`]: the test of another crate's backend.
//! - `ctx`: what a trial is given: clients, patience.
//! - `faces`: what a trial of the mutex takes as its lock; `fillers` take the permits that it must not get.
//! - `raw`: stores without an engine.
//! - `wire`, `sinks`, `skew`: a backend, a sink and a runtime that a trial can make faulty.
//! - `worker`: what child processes do.
//! - `check`: judges what they did.
//! - `promised`: capabilities that exclude trials.
//! - `primitives`: trials of read-write locks, semaphores, elections and so on.
//! - `print`: `tenure lab conform`.
//!
//! A trial never passes by waiting long enough: it waits for events, and gives up (fails) when nothing happens for a
//! long time. Where it compares clocks, it compares stamps of one clock whose order the contract fixes.

mod cancel;
mod check;
mod crash;
mod ctx;
mod deadlines;
mod ends;
mod errors;
mod exclusion;
mod faces;
mod fillers;
mod fork;
mod healing;
mod idem;
mod kinds;
mod lanes;
mod limits;
mod outside;
mod owners;
mod previous;
mod primitives;
mod print;
mod promised;
mod raw;
mod renewals;
mod seen;
mod sick;
mod sinks;
mod skew;
mod tokens;
mod waiting;
mod wire;
mod withdrawal;
mod worker;

use std::fmt;

pub use crate::servers::{Place, places};
pub use ctx::{Ctx, Hooks};
pub use faces::Face;
pub use lanes::{Came, harness, judge};
pub use outside::main;
pub use print::run;
pub(crate) use skew::SkewedRuntime;
pub(crate) use worker::WORKER;

/// The rules of the contract: safety, liveness, observability.
pub const RULES: &[(&str, &str)] = &[
    ("S1", "exclusion of belief"),
    ("S2", "token order"),
    ("S3", "fenced safety"),
    ("S4", "owner only"),
    ("S5", "honest deadlines"),
    ("S6", "no ghosts"),
    ("S7", "idempotence"),
    ("S8", "typed uncertainty"),
    ("S9", "withdrawal is final"),
    ("S10", "renewal never creates"),
    ("L1", "crash"),
    ("L2", "healing"),
    ("L3", "declared order"),
    ("L4", "no residue"),
    ("L5", "push"),
    ("L6", "one sick part does not starve others"),
    ("O1", "everything is visible"),
    ("O2", "how the hold before ended"),
];

/// One trial.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Its name; begins with the rule that it holds first.
    pub name: &'static str,
    /// The rules that it holds.
    pub rules: &'static [&'static str],
    /// The capability that excludes it, if one does.
    pub why_not: fn(&Ctx) -> Option<&'static str>,
    /// Runs it.
    pub run: fn(&Ctx) -> Verdict,
}

/// The table of trials.
pub fn trials() -> impl Iterator<Item = &'static Trial> {
    mutex_trials().chain(primitive_trials())
}

/// What runs: every trial, and those of the mutex with whatever else can act as one.
pub fn table() -> impl Iterator<Item = (&'static Trial, Face)> {
    let faces = Face::ALL.into_iter().flat_map(|face| mutex_trials().map(move |trial| (trial, face)));
    faces.chain(primitive_trials().map(|trial| (trial, Face::Mutex)))
}

/// The name of what runs.
#[must_use]
pub fn called(trial: &Trial, face: Face) -> String {
    if face == Face::Mutex { trial.name.to_owned() } else { format!("{}::{}", face.name(), trial.name) }
}

/// Those of the mutex.
fn mutex_trials() -> impl Iterator<Item = &'static Trial> {
    let all: &[&[Trial]] = &[
        exclusion::TRIALS,
        tokens::TRIALS,
        owners::TRIALS,
        deadlines::TRIALS,
        cancel::TRIALS,
        ends::TRIALS,
        idem::TRIALS,
        errors::TRIALS,
        limits::TRIALS,
        withdrawal::TRIALS,
        renewals::TRIALS,
        crash::TRIALS,
        healing::TRIALS,
        waiting::TRIALS,
        sick::TRIALS,
        seen::TRIALS,
        previous::TRIALS,
    ];
    all.iter().flat_map(|table| table.iter())
}

/// Those of the other primitives.
pub fn primitive_trials() -> impl Iterator<Item = &'static Trial> {
    kinds::TRIALS.iter().chain(primitives::TRIALS.iter().flat_map(|table| table.iter()))
}

/// What a trial did, in numbers.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was counted, and how many.
    pub counts: Vec<(&'static str, u64)>,
}

impl Report {
    /// Nothing counted.
    pub(crate) fn new() -> Report {
        Report::default()
    }

    /// Adds a count.
    pub(crate) fn count(mut self, what: &'static str, n: impl TryInto<u64>) -> Report {
        self.counts.push((what, n.try_into().unwrap_or(u64::MAX)));
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self.counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
        f.write_str(&counts.join(", "))
    }
}

/// Why a trial did not hold.
#[derive(Clone, Debug)]
pub enum Failed {
    /// The promise is broken, or could not be judged: this is what happened.
    Broken(String),
    /// Too little happened to judge it.
    Floor(String),
}

/// What comes of a trial, and of its steps.
pub type Verdict<T = Report> = Result<T, Failed>;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Broken(why) => f.write_str(why),
            Failed::Floor(why) => write!(f, "floor missed: {why}"),
        }
    }
}

macro_rules! broken_by {
    ($($error:ty),*) => {$(
        impl From<$error> for Failed {
            fn from(error: $error) -> Failed {
                Failed::Broken(error.to_string())
            }
        }
    )*};
}
broken_by!(String, &str, std::io::Error, tenure::Lost, crate::failure::Failure, tokio::task::JoinError);

impl From<tenure::Error> for Failed {
    fn from(error: tenure::Error) -> Failed {
        Failed::Broken(format!("unexpected error, {error:?}"))
    }
}

/// Ends a trial unless what must be is so.
macro_rules! ensure {
    ($cond:expr, $($arg:tt)+) => {
        if !$cond {
            return Err($crate::conform::Failed::Broken(format!($($arg)+)));
        }
    };
}
pub(crate) use ensure;
