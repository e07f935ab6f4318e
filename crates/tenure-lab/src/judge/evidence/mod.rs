//! Whether a history carries the evidence that its verdicts rest on. A rule whose evidence is missing or contradicts
//! itself is "not judged", unless a breach was found all the same.
//!
//! - `claims`: the life of each claim, from its invocation to its release.
//! - `access`: reads and writes of the resources, and their final values.
//! - `run`: the number of events, the faults, the kinds of locks, the residue.

mod access;
mod claims;
mod run;

use std::collections::BTreeMap;

use super::facts::Facts;
use super::{Breach, SHOWN, Status, Tally, Verdict};

/// The rules about claims that a hidden or invented grant can whitewash.
const GRANTS: &[&str] = &["S1", "S2", "S3", "S4", "S5", "L3"];

/// What a history lacks.
#[derive(Default)]
pub(super) struct Evidence {
    total: u64,
    shown: Vec<Breach>,
    /// By rule: how often, and the first time in words.
    rules: BTreeMap<&'static str, (u64, String)>,
}

impl Evidence {
    pub(super) fn of(facts: &Facts<'_>) -> Evidence {
        let mut evidence = Evidence::default();
        run::check(facts, &mut evidence);
        claims::check(facts, &mut evidence);
        access::check(facts, &mut evidence);
        evidence
    }

    /// Notes a flaw, the rules that cannot be judged because of it, and the events that show it.
    fn lack(&mut self, facts: &Facts<'_>, rules: &[&'static str], what: String, events: Vec<usize>) {
        self.total += 1;
        for rule in rules {
            let (count, _) = self.rules.entry(rule).or_insert_with(|| (0, what.clone()));
            *count += 1;
        }
        if self.shown.len() < SHOWN {
            let events = facts.events(events);
            let t = events.last().map_or(0, |event| event.t);
            self.shown.push(Breach { t, what, events });
        }
    }

    /// Withdraws a verdict whose evidence is flawed. A breach stays a breach.
    pub(super) fn weigh(&self, verdict: &mut Verdict) {
        let Some((count, first)) = self.rules.get(verdict.rule) else { return };
        if verdict.status == Status::Broken {
            return;
        }
        verdict.status = Status::NotJudged;
        let more = if *count > 1 { format!(" (and {} more like it)", count - 1) } else { String::new() };
        verdict.text = format!("{first}{more}; {}", verdict.text);
    }

    /// The verdict on the history itself.
    pub(super) fn verdict(self, events: usize) -> Verdict {
        let mut verdict = Tally::default().verdict("data", "the history is whole", "events");
        verdict.counts = vec![("events", events as u64), ("flaws", self.total)];
        verdict.text = format!("{events} events, {} flaws", self.total);
        verdict.status = if self.total == 0 { Status::Held } else { Status::NotJudged };
        verdict.breaches = self.shown;
        verdict
    }
}
