//! The contract in the manual against the suite: each rule names the trials that hold it, each trial its rules.
//!
//! `TENURE_UPDATE_DOCS=1 cargo test --package tenure-lab --test contract` writes the lists of trials anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use tenure_lab::conform::{RULES, trials};

/// Begins the line that lists a rule's trials.
const HELD_BY: &str = "*Held by* ";

fn path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tenure/src/manual/contract.md"))
}

/// The trials of each rule, as the suite has them.
fn coded() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut rules: BTreeMap<_, BTreeSet<_>> =
        RULES.iter().map(|(rule, _)| (*rule, BTreeSet::new())).collect();
    for trial in trials() {
        for rule in trial.rules {
            let known = rules.get_mut(rule).unwrap_or_else(|| panic!("{} names no rule: {rule}", trial.name));
            known.insert(trial.name);
        }
    }
    rules
}

/// The rule's own trials first, then those that hold it beside another.
fn list(rule: &str, trials: &BTreeSet<&str>) -> String {
    let own = format!("{}_", rule.to_lowercase());
    let (mut all, others): (Vec<_>, Vec<_>) =
        trials.iter().map(|t| format!("`{t}`")).partition(|t| t[1..].starts_with(&own));
    all.extend(others);
    format!("{HELD_BY}{}.", all.join(", "))
}

/// The document with the suite's lists in it: under each rule's heading, as its last paragraph.
fn with_lists(document: &str) -> String {
    let coded = coded();
    let mut out = String::new();
    let mut rule: Option<&str> = None;
    let mut kept = document.lines().filter(|l| !l.starts_with(HELD_BY)).peekable();
    while let Some(line) = kept.next() {
        if let Some((id, _)) = line.strip_prefix("### ").and_then(|l| l.split_once(". ")) {
            rule = Some(id);
        }
        out += line;
        out.push('\n');
        let ends = kept.peek().is_none_or(|next| next.starts_with('#'));
        if let Some((rule, trials)) = rule.take_if(|_| ends).and_then(|r| coded.get_key_value(r)) {
            out = format!("{}\n\n{}\n", out.trim_end(), list(rule, trials));
            if kept.peek().is_some() {
                out.push('\n');
            }
        }
    }
    out
}

#[test]
fn the_contract_and_the_suite_agree() {
    let document = fs::read_to_string(path()).expect("the contract");
    if std::env::var_os("TENURE_UPDATE_DOCS").is_some() {
        fs::write(path(), with_lists(&document)).expect("written");
        return;
    }
    let headings: Vec<(&str, &str)> =
        document.lines().filter_map(|l| l.strip_prefix("### ")?.split_once(". ")).collect();
    let lower = |(rule, name): (&str, &str)| (rule.to_owned(), name.to_lowercase());
    let written: BTreeSet<_> = headings.into_iter().map(lower).collect();
    let ruled: BTreeSet<_> = RULES.iter().copied().map(lower).collect();
    assert_eq!(written, ruled, "the rules of manual/contract.md and of the suite");
    for (rule, trials) in coded() {
        assert!(!trials.is_empty(), "no trial holds {rule}");
    }
    let expected = with_lists(&document);
    let stale = document.lines().zip(expected.lines()).find(|(is, should)| is != should);
    assert!(
        stale.is_none() && document == expected,
        "run with TENURE_UPDATE_DOCS=1: is and should be: {stale:#?}"
    );
}

#[test]
fn a_trial_is_named_for_its_first_rule() {
    let mut names = BTreeSet::new();
    for trial in trials() {
        let first = trial.rules.first().expect("a trial holds a rule").to_lowercase();
        assert!(trial.name.starts_with(&format!("{first}_")), "{} holds {first} first", trial.name);
        assert!(names.insert(trial.name), "two trials are called {}", trial.name);
    }
    assert!(!names.is_empty());
}
