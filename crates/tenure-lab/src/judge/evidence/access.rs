//! Reads and writes of the resources: each write adds one to what its claim has read, with the token of its grant, and
//! each resource that was written has one final value, taken after the last access.

use std::collections::{BTreeMap, HashMap};

use super::super::facts::Facts;
use super::Evidence;
use crate::history::{Claim, Event, Kind, Name, Op, Phase};

#[derive(Default)]
struct Resource {
    fenced: Option<bool>,
    /// What each claim has read or written last.
    seen: HashMap<Claim, i64>,
    written: Option<usize>,
    /// The last accepted access.
    last: Option<usize>,
    finals: Vec<usize>,
}

pub(super) fn check(facts: &Facts<'_>, evidence: &mut Evidence) {
    let mut resources: BTreeMap<Name, Resource> = BTreeMap::new();
    for (index, event) in facts.history.events.iter().enumerate() {
        let Some(name) = event.resource else { continue };
        let resource = resources.entry(name).or_default();
        let fenced = *resource.fenced.get_or_insert(event.fenced.unwrap_or(true));
        if event.fenced.is_some_and(|other| other != fenced) {
            let what = format!("{name} is fenced in one event and unfenced in another");
            evidence.lack(facts, &["S3", "twin"], what, vec![index]);
        }
        if event.op == Op::Final {
            resource.finals.push(index);
        } else if let Some(claim) = event.claim {
            access(facts, evidence, name, resource, index, event, claim);
        }
    }
    for (name, resource) in &resources {
        ending(facts, evidence, *name, resource);
    }
}

fn access(
    facts: &Facts<'_>,
    evidence: &mut Evidence,
    name: Name,
    resource: &mut Resource,
    index: usize,
    event: &Event,
    claim: Claim,
) {
    let rule = rule_of(resource);
    let fenced = rule == "S3";
    let hold = facts.hold(claim);
    let granted = hold.and_then(|hold| hold.ok).map(|at| at.event);
    let mut lack = |rules: &[&'static str], what: String| {
        evidence.lack(facts, rules, what, granted.into_iter().chain([index]).collect());
    };
    let its = hold.and_then(|hold| hold.token);
    if let (Some(used), Some(its)) = (event.token, its)
        && used != its
    {
        lack(&["S2", "S3"], format!("{claim} came to {name} with token {used}, and was granted {its}"));
    }
    if !fenced && event.phase == Phase::Refused {
        lack(&["S3", "twin"], format!("{name} is unfenced, and refused {claim}"));
    }
    let (Phase::Ok, Some(value)) = (event.phase, event.value) else { return };
    if fenced && event.token.or(its).is_none() {
        lack(&["S3"], format!("{name} is fenced, and accepted {claim} without a token"));
    }
    resource.last = Some(index);
    let before = resource.seen.insert(claim, value);
    if event.op != Op::Write {
        return;
    }
    resource.written = Some(index);
    if before.and_then(|read| read.checked_add(1)) != Some(value) {
        let read = before.map_or("nothing".to_owned(), |read| read.to_string());
        lack(&[rule], format!("{claim} read {read} from {name} and wrote {value}"));
    }
    if hold.is_some_and(|hold| hold.kind == Kind::Read) {
        lack(&["S1", "S3"], format!("{claim} is a reader, and wrote {name}"));
    }
}

/// The rule that a resource is evidence for.
fn rule_of(resource: &Resource) -> &'static str {
    if resource.fenced == Some(false) { "twin" } else { "S3" }
}

fn ending(facts: &Facts<'_>, evidence: &mut Evidence, name: Name, resource: &Resource) {
    let rule = rule_of(resource);
    match (resource.finals.as_slice(), resource.last) {
        ([], _) => {
            if let Some(written) = resource.written {
                let what = format!("{name} was written, and has no final value");
                evidence.lack(facts, &[rule], what, vec![written]);
            }
        }
        ([end], Some(last)) if last > *end => {
            let what = format!("{name} was used after its final value was taken");
            evidence.lack(facts, &[rule], what, vec![*end, last]);
        }
        ([_], _) => {}
        (several, _) => {
            let what = format!("{name} has {} final values", several.len());
            evidence.lack(facts, &[rule], what, several.to_vec());
        }
    }
}
