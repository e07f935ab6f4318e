//! How a run must end: every lock can be acquired again (L2), nothing is left behind (L4), enough happened (floors).

use std::collections::HashSet;

use super::facts::{End, Facts, Hold};
use super::windows::Windows;
use super::{Breach, Status, Tally, Verdict};
use crate::history::{Name, Op};

/// How long a lock may stay unavailable after the faults, beyond one ttl: the waiting lease of dead waiters.
const PATIENCE_NS: u64 = 10_000_000_000;

/// L2: after the last fault, every lock that a client asks for is granted within one ttl and 10 s.
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

/// How long the lock was free and asked for without a grant, if that is too long.
fn in_vain<'a>(facts: &Facts<'_>, asked: &Hold, holds: impl Iterator<Item = &'a Hold>) -> Option<u64> {
    // A holder that renews to the end breaks no promise.
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
    // The last event shows how long the client waited in vain.
    events.push(facts.history.events.len() - 1);
    let what = format!(
        "{lock}: free and asked for, but not granted for {} ms after the last fault",
        waited / 1_000_000
    );
    Breach { t: asked.invoked(), what, events: facts.events(events) }
}

/// L4: the run leaves nothing behind.
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

/// Whether enough happened for the verdicts to mean something: what the header asks for, and at least one acquisition.
/// Every lock and as many processes as the header names must have taken part.
pub(super) fn floor(facts: &Facts<'_>, windows: &Windows) -> Verdict {
    let header = &facts.history.header;
    let floors = header.floors.unwrap_or_default();
    let least = floors.acquisitions.max(1);
    let faults = windows.all.len() as u64;
    let granted = || facts.holds.iter().filter(|hold| hold.ok.is_some());
    let locks = granted().filter_map(|hold| hold.lock).collect::<HashSet<_>>().len() as u64;
    let processes = granted().map(|hold| hold.p).collect::<HashSet<_>>().len() as u64;
    let mut verdict = Tally::default().verdict("floor", "enough happened", "acquisitions");
    verdict.counts = vec![
        ("acquisitions", facts.acquisitions),
        ("at least", least),
        ("fault windows", faults),
        ("fault windows at least", floors.windows),
        ("locks", locks),
        ("locks at least", header.locks.into()),
        ("processes", processes),
        ("processes at least", header.processes.into()),
    ];
    verdict.text = format!(
        "{} acquisitions of at least {least}, {faults} fault windows of at least {}",
        facts.acquisitions, floors.windows
    );
    for (count, wanted, what) in [(locks, header.locks, "locks"), (processes, header.processes, "processes")]
    {
        if count < u64::from(wanted) {
            verdict.text += &format!(", {count} {what} of at least {wanted}");
        }
    }
    let met = facts.acquisitions >= least
        && faults >= floors.windows
        && locks >= header.locks.into()
        && processes >= header.processes.into();
    verdict.status = if met { Status::Held } else { Status::FloorMissed };
    verdict
}
