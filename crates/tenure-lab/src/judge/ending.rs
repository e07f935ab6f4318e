//! What a run must come to: locks that can be had again (L2), nothing left behind (L4), enough of everything (floors).

use super::facts::{End, Facts, Hold};
use super::windows::Windows;
use super::{Breach, Status, Tally, Verdict};
use crate::history::{Name, Op};

/// How long a lock may take, beyond one ttl, to be had again: the waiting lease of those who went before.
const PATIENCE_NS: u64 = 10_000_000_000;

/// L2: after the last fault is over, every lock that somebody asks for is granted within one ttl and 10 s.
pub(super) fn healing(facts: &Facts<'_>, windows: &Windows) -> Verdict {
    let mut tally = Tally::default();
    let healed = windows.healed().max(facts.first());
    let mut slowest = 0;
    for (lock, claims) in &facts.locks {
        let holds = || claims.iter().map(|index| &facts.holds[*index]);
        let Some(asked) =
            holds().filter(|hold| hold.invoke.is_some_and(|at| at.t >= healed)).min_by_key(|h| h.invoked())
        else {
            continue;
        };
        let granted = holds().filter_map(|hold| hold.ok).filter(|ok| ok.t >= healed).map(|ok| ok.t).min();
        if let Some(t) = granted {
            tally.judge(true);
            slowest = slowest.max(t.saturating_sub(asked.invoked()));
        } else if let Some(waited) = in_vain(facts, asked, holds()) {
            tally.judge(true);
            tally.breach(false, || never(facts, *lock, asked, waited));
        }
    }
    let mut verdict = tally.verdict("L2", "healing", "locks after the last fault");
    verdict.counts.push(("slowest first grant, ns", slowest));
    verdict
}

/// For how long nobody was granted the lock although somebody asked and nobody believed to hold it, if that is too long.
fn in_vain<'a>(facts: &Facts<'_>, asked: &Hold, holds: impl Iterator<Item = &'a Hold>) -> Option<u64> {
    // Somebody who renews to the end is in nobody's wrong.
    let free = holds.filter_map(Hold::belief).map(|(_, to)| to).filter(|to| *to > asked.invoked()).max();
    let from = free.unwrap_or(0).max(asked.invoked());
    let waited = facts.last().saturating_sub(from);
    (waited > facts.history.header.ttl_ns().saturating_add(PATIENCE_NS)).then_some(waited)
}

fn never(facts: &Facts<'_>, lock: Name, asked: &Hold, waited: u64) -> Breach {
    let mut events = asked.grant();
    if let End::Failed(at) = asked.end() {
        events.push(at.event);
    }
    // The last event shows how long it was in vain.
    events.push(facts.history.events.len() - 1);
    let what = format!(
        "{lock}: free, asked for, and granted to nobody for {} ms after the last fault",
        waited / 1_000_000
    );
    Breach { t: asked.invoked(), what, events: facts.events(events) }
}

/// L4: nothing is left behind.
pub(super) fn residue(facts: &Facts<'_>) -> Verdict {
    let mut tally = Tally::default();
    let last = facts.history.events.iter().enumerate().rfind(|(_, event)| event.op == Op::Residue);
    let (mut left, mut none) = (Vec::new(), Vec::new());
    if let Some((index, event)) = last {
        let detail = event.detail.as_ref().and_then(|detail| detail.as_object());
        for (what, count) in detail.into_iter().flatten() {
            tally.judge(true);
            match count.as_f64() {
                Some(0.0) => none.push(what.as_str()),
                _ => left.push(format!("{count} {what}")),
            }
        }
        if !left.is_empty() {
            let what = format!("left behind: {}", left.join(", "));
            tally.breach(false, || Breach { t: event.t, what, events: facts.events(vec![index]) });
        }
    }
    let mut verdict = tally.verdict("L4", "no residue", "kinds of residue");
    if left.is_empty() && !none.is_empty() {
        verdict.text = format!("no {} left", none.join(", no "));
    }
    verdict
}

/// Whether enough happened for the verdicts to mean something; what the header asks for, and one acquisition at least.
pub(super) fn floor(facts: &Facts<'_>, windows: &Windows) -> Verdict {
    let floors = facts.history.header.floors.unwrap_or_default();
    let least = floors.acquisitions.max(1);
    let faults = windows.all.len() as u64;
    let mut verdict = Tally::default().verdict("floor", "enough happened", "acquisitions");
    verdict.counts = vec![
        ("acquisitions", facts.acquisitions),
        ("at least", least),
        ("fault windows", faults),
        ("fault windows at least", floors.windows),
    ];
    verdict.text = format!(
        "{} acquisitions of at least {least}, {faults} fault windows of at least {}",
        facts.acquisitions, floors.windows
    );
    let met = facts.acquisitions >= least && faults >= floors.windows;
    verdict.status = if met { Status::Held } else { Status::FloorMissed };
    verdict
}
