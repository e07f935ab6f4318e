//! What concerns the run as a whole: the number of events, faults that end, locks of one kind, residue at the end.

use std::collections::HashMap;

use super::super::facts::Facts;
use super::{Evidence, GRANTS};
use crate::history::{Kind, Name, Op, Phase};

/// Every rule: what is missing may concern any of them.
const ALL: &[&str] = &["S1", "S2", "S3", "S4", "S5", "S10", "L2", "L3", "L4", "twin"];

pub(super) fn check(facts: &Facts<'_>, evidence: &mut Evidence) {
    number(facts, evidence);
    faults(facts, evidence);
    kinds(facts, evidence);
    residue(facts, evidence);
}

/// The header tells how many events there are.
fn number(facts: &Facts<'_>, evidence: &mut Evidence) {
    let there = facts.history.events.len() as u64;
    if let Some(told) = facts.history.header.events.filter(|told| *told != there) {
        let last = facts.history.events.len().checked_sub(1);
        let what = format!("the header tells of {told} events, and there are {there}");
        evidence.lack(facts, ALL, what, last.into_iter().collect());
    }
}

/// A fault that never ends would excuse everything after it.
fn faults(facts: &Facts<'_>, evidence: &mut Evidence) {
    let mut open: HashMap<(Name, u64), usize> = HashMap::new();
    for (index, event) in facts.history.events.iter().enumerate() {
        let Some(fault) = event.fault.as_ref().filter(|_| event.op == Op::Fault) else { continue };
        let key = (fault.name, fault.id);
        if event.phase != Phase::Begin {
            open.remove(&key);
        } else if let Some(before) = open.insert(key, index) {
            endless(facts, evidence, before);
        }
    }
    let mut left: Vec<usize> = open.into_values().collect();
    left.sort_unstable();
    for index in left {
        endless(facts, evidence, index);
    }
}

fn endless(facts: &Facts<'_>, evidence: &mut Evidence, index: usize) {
    let Some(fault) = &facts.history.events[index].fault else { return };
    let excused = |rule: &&&str| fault.breaks.iter().any(|broken| broken.as_str() == **rule);
    let rules: Vec<&'static str> = ALL.iter().filter(excused).copied().collect();
    if !rules.is_empty() {
        let what = format!("the fault {} never ends, and would excuse all that follows", fault.name);
        evidence.lack(facts, &rules, what, vec![index]);
    }
}

/// A lock is a mutex, a read-write lock or a semaphore, and stays one.
fn kinds(facts: &Facts<'_>, evidence: &mut Evidence) {
    let family = |kind: Kind| if kind == Kind::Write { Kind::Read } else { kind };
    for (lock, claims) in &facts.locks {
        let mut asked = claims.iter().map(|index| &facts.holds[*index]).filter_map(|hold| {
            let invoke = hold.invoke?;
            Some((family(hold.kind), invoke.event))
        });
        let Some((first, event)) = asked.next() else { continue };
        if let Some((other, also)) = asked.find(|(kind, _)| *kind != first) {
            let what = format!("{lock} is asked for as {} and as {}", first.word(), other.word());
            evidence.lack(facts, GRANTS, what, vec![event, also]);
        }
    }
}

/// What was left is counted last, and counted in full.
fn residue(facts: &Facts<'_>, evidence: &mut Evidence) {
    let events = &facts.history.events;
    let Some(index) = events.iter().rposition(|event| event.op == Op::Residue) else { return };
    if let Some(after) = events[index..].iter().position(|event| event.claim.is_some()) {
        let what = "clients went on after the residue was counted".to_owned();
        evidence.lack(facts, &["L4"], what, vec![index, index + after]);
    }
    let capabilities = &facts.history.header.capabilities;
    if capabilities["scope"] == "process" || capabilities["visibility"] == "none" {
        return; // Nobody can look.
    }
    let counted = |kind: &str| events[index].detail.as_ref().is_some_and(|detail| detail.get(kind).is_some());
    if !(counted("waiters") && (counted("holders") || counted("keys"))) {
        let what = "the residue counts no waiters, or neither holders nor keys".to_owned();
        evidence.lack(facts, &["L4"], what, vec![index]);
    }
}
