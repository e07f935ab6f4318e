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
    harness.run()
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
