//! Every trial of the conformance suite on every backend of the table.

use std::process::ExitCode;

use tenure_lab::conform;
use tenure_lab::harness::{Harness, Verdict};

fn main() -> ExitCode {
    if let Some(status) = tenure_lab::worker_main() {
        return status;
    }
    let mut harness = Harness::new();
    match conform::places() {
        Ok(places) => conform::harness(&mut harness, places),
        Err(why) => harness.test("places", move || Verdict::Failed(why)),
    }
    harness.test_in("suite", "suite::every_rule_has_trials", || every_rule_has_trials().into());
    harness.test_in("suite", "suite::every_lock_runs_the_mutex_trials", || every_lock().into());
    harness.run()
}

/// Whatever can act as a mutex runs what the mutex runs; whatever runs has a name of its own.
fn every_lock() -> Result<String, String> {
    let of = |face| conform::table().filter(move |(_, of)| *of == face).map(|(trial, _)| trial.name);
    let own: Vec<&str> = conform::primitive_trials().map(|trial| trial.name).collect();
    let mutex: Vec<&str> = of(conform::Face::Mutex).filter(|name| !own.contains(name)).collect();
    if mutex.len() < 60 {
        return Err(format!("only {} trials of the mutex", mutex.len()));
    }
    for face in conform::Face::ALL.into_iter().filter(|face| *face != conform::Face::Mutex) {
        if !of(face).eq(mutex.iter().copied()) {
            return Err(format!("{face:?} runs other trials than the mutex"));
        }
    }
    let mut names: Vec<String> = conform::table().map(|(trial, face)| conform::called(trial, face)).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    if names.len() != all {
        return Err("two trials of the table have one name".into());
    }
    Ok(format!("{} trials, {} kinds of locks", mutex.len(), conform::Face::ALL.len()))
}

/// Every rule has a trial, every trial has rules that exist, and begins its name with the first of them.
fn every_rule_has_trials() -> Result<String, String> {
    let known: Vec<&str> = conform::RULES.iter().map(|(rule, _)| *rule).collect();
    for rule in &known {
        if !conform::trials().any(|trial| trial.rules.contains(rule)) {
            return Err(format!("no trial holds {rule}"));
        }
    }
    let mut names: Vec<&str> = conform::trials().map(|trial| trial.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    if names.len() != count {
        return Err("two trials have one name".into());
    }
    for trial in conform::trials() {
        let first = trial.name.split('_').next().unwrap_or_default().to_uppercase();
        let good =
            trial.rules.iter().all(|rule| known.contains(rule)) && trial.rules.first() == Some(&&*first);
        if !good {
            return Err(format!("{} names the rules {:?}", trial.name, trial.rules));
        }
    }
    Ok(format!("{count} trials"))
}
