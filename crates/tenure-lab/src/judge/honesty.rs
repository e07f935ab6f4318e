//! S5: no client says that it holds the lock after its deadline, after its loss, after its release, or after another
//! grant. S10: a renewal never brings a claim back.

use std::collections::HashMap;

use super::exclusion::Overlap;
use super::facts::{At, Facts, Hold};
use super::windows::Windows;
use super::{Breach, Tally, Verdict};
use crate::duration::roughly;
use crate::history::{Claim, Event, Op, Phase};

/// What the events of a claim have told so far.
#[derive(Clone, Copy, Default)]
struct Known {
    deadline: Option<At>,
    until: u64,
    lost: Option<At>,
    released: Option<At>,
    /// The answer to the release.
    answered: Option<At>,
    last_ok: Option<At>,
}

pub(super) fn check(facts: &Facts<'_>, windows: &Windows, overlaps: &[Overlap<'_>]) -> (Verdict, Verdict) {
    let (mut honest, mut create) = (Tally::default(), Tally::default());
    let mut known: HashMap<Claim, Known> = HashMap::new();
    // The deadlines told to overtaken holders, and when they were told.
    let mut told: HashMap<Claim, Vec<(u64, u64)>> = HashMap::new();
    told.extend(overlaps.iter().flat_map(|overlap| &overlap.early).map(|early| (early.claim, Vec::new())));
    for (index, event) in facts.history.events.iter().enumerate() {
        let (Some(claim), Some(hold)) = (event.claim, facts.of_event(event)) else { continue };
        let known = known.entry(claim).or_default();
        let at = At { t: event.t, event: index };
        match (event.op, event.phase) {
            (Op::Check, Phase::Ok) => {
                said_ok(facts, windows, &mut honest, hold, *known, at);
                known.last_ok = Some(at);
            }
            (Op::Acquire | Op::Renew, Phase::Ok) => {
                let (tally, rule) =
                    if event.op == Op::Renew { (&mut create, "S10") } else { (&mut honest, "S5") };
                tally.judge(!windows.excuse_for(rule, event.t, event.t, &[hold.p]));
                too_far(facts, windows, &mut honest, hold, at);
                revived(facts, windows, &mut create, hold, *known, at);
                after_release(facts, &mut create, hold, *known, at);
            }
            (Op::Release, Phase::Invoke) => {
                known.released.get_or_insert(at);
            }
            (Op::Release, _) => {
                known.answered.get_or_insert(at);
            }
            (Op::Lost, _) | (Op::Check | Op::Renew, Phase::Lost) => {
                if event.op == Op::Renew {
                    create.judge(!windows.excuse_for("S10", event.t, event.t, &[hold.p]));
                }
                known.lost.get_or_insert(at);
            }
            _ => {}
        }
        if let (Some(until), Phase::Ok, Some(told)) = (event.deadline, event.phase, told.get_mut(&claim)) {
            told.push((event.t, until));
        }
        if let Some(until) = event.deadline.filter(|until| event.phase == Phase::Ok && *until > known.until) {
            (known.until, known.deadline) = (until, Some(at));
        }
    }
    for overlap in overlaps {
        for early in &overlap.early {
            let last_ok = known.get(&early.claim).and_then(|known| known.last_ok);
            after_another(facts, windows, &mut honest, overlap.late, early, last_ok);
            let told = told.get(&early.claim).map_or(&[][..], Vec::as_slice);
            renewed_after_another(facts, windows, &mut create, overlap.late, early, told);
        }
    }
    (
        honest.verdict("S5", "honest deadlines", "beliefs told"),
        create.verdict("S10", "renewal never creates", "renewals"),
    )
}

/// A check said ok: its deadline must lie ahead, and no loss and no release behind.
fn said_ok(facts: &Facts<'_>, windows: &Windows, tally: &mut Tally, hold: &Hold, known: Known, at: At) {
    let excused = windows.excuse_for("S5", at.t, at.t, &[hold.p]);
    tally.judge(!excused);
    let event = &facts.history.events[at.event];
    let (until, told) = match (event.deadline, known.deadline) {
        (Some(until), _) => (Some(until), None),
        (None, Some(told)) => (Some(known.until), Some(told.event)),
        (None, None) => (None, None),
    };
    let mut tell = |what: String, also: Option<usize>| {
        let events = also.into_iter().chain([at.event]).collect();
        tally.breach(excused, || Breach { t: at.t, what, events: facts.events(events) });
    };
    // The stamp was taken before the guard was asked, so it answered at this time or later.
    if let Some(until) = until.filter(|until| *until <= at.t) {
        tell(format!("{} said ok {} after its deadline", hold.claim, roughly(at.t - until)), told);
    } else if let Some(lost) = known.lost.filter(|lost| lost.t < at.t) {
        tell(format!("{} said ok {} after its loss", hold.claim, roughly(at.t - lost.t)), Some(lost.event));
    } else if let Some(released) = known.released {
        // Its own doing, which no fault excuses.
        let what = format!("{} said ok {} after its release", hold.claim, roughly(at.t - released.t));
        tally.breach(false, || Breach {
            t: at.t,
            what,
            events: facts.events(vec![released.event, at.event]),
        });
    }
}

/// A renewal that was sent after the release was invoked, or succeeded after the release was answered. One that was
/// under way meanwhile proves nothing.
fn after_release(facts: &Facts<'_>, tally: &mut Tally, hold: &Hold, known: Known, at: At) {
    let event = &facts.history.events[at.event];
    let (Op::Renew, Some(released)) = (event.op, known.released) else { return };
    let late = event.deadline.is_none_or(|until| sent(facts, until) > released.t);
    if late || known.answered.is_some() {
        let also = known.answered.map(|answer| answer.event);
        tally.breach(false, || Breach {
            t: at.t,
            what: format!("{} was renewed {} after its release", hold.claim, roughly(at.t - released.t)),
            events: facts.events([released.event, at.event].into_iter().chain(also).collect()),
        });
    }
}

/// The request for a lease was sent at or before `at`, so the lease ends within one ttl of that.
fn too_far(facts: &Facts<'_>, windows: &Windows, tally: &mut Tally, hold: &Hold, at: At) {
    let latest = at.t.saturating_add(facts.history.header.ttl_ns());
    if let Some(until) = facts.history.events[at.event].deadline.filter(|until| *until > latest) {
        let excused = windows.excuse_for("S5", at.t, at.t, &[hold.p]);
        tally.breach(excused, || Breach {
            t: at.t,
            what: format!("{} believes {} longer than one ttl", hold.claim, roughly(until - latest)),
            events: facts.events(vec![at.event]),
        });
    }
}

/// The request behind a deadline was sent no earlier than one ttl before it.
fn sent(facts: &Facts<'_>, until: u64) -> u64 {
    until.saturating_sub(facts.history.header.ttl_ns())
}

/// A renewal that was sent after the loss was told.
fn revived(facts: &Facts<'_>, windows: &Windows, tally: &mut Tally, hold: &Hold, known: Known, at: At) {
    let event: &Event = &facts.history.events[at.event];
    let (Op::Renew, Some(lost), Some(until)) = (event.op, known.lost, event.deadline) else { return };
    if sent(facts, until) > lost.t {
        let excused = windows.excuse_for("S10", lost.t, at.t, &[hold.p]);
        tally.breach(excused, || Breach {
            t: at.t,
            what: format!("{} was lost, and a later renewal brought it back", hold.claim),
            events: facts.events(vec![lost.event, at.event]),
        });
    }
}

/// The earlier of two holders that exclude each other said ok after the later one had been granted.
fn after_another(
    facts: &Facts<'_>,
    windows: &Windows,
    tally: &mut Tally,
    late: &Hold,
    early: &Hold,
    last_ok: Option<At>,
) {
    let (Some(granted), Some(said)) = (late.ok, last_ok) else { return };
    if said.t > granted.t {
        let clients = [late.p, early.p];
        let excused =
            ["S1", "S5"].iter().any(|rule| windows.excuse_for(rule, granted.t, granted.t, &clients));
        tally.breach(excused, || {
            let mut events = [early.proof(), late.grant()].concat();
            events.push(said.event);
            Breach {
                t: said.t,
                what: format!(
                    "{} said ok {} after {} was granted",
                    early.claim,
                    roughly(said.t - granted.t),
                    late.claim
                ),
                events: facts.events(events),
            }
        });
    }
}

/// The lease of the earlier one had ended before the later one was granted, and was renewed after that.
fn renewed_after_another(
    facts: &Facts<'_>,
    windows: &Windows,
    tally: &mut Tally,
    late: &Hold,
    early: &Hold,
    told: &[(u64, u64)],
) {
    let (Some(granted), Some((until, last))) = (late.ok, early.deadline) else { return };
    let before = told.iter().filter(|(t, _)| *t <= granted.t).map(|(_, until)| *until).max();
    if before.is_some_and(|known| known <= granted.t) && sent(facts, until) > granted.t {
        let clients = [late.p, early.p];
        let excused =
            ["S1", "S10"].iter().any(|rule| windows.excuse_for(rule, granted.t, granted.t, &clients));
        tally.breach(excused, || Breach {
            t: last.t,
            what: format!(
                "the lease of {} had ended, {} was granted, and then it was renewed",
                early.claim, late.claim
            ),
            events: facts.events([early.proof(), late.grant()].concat()),
        });
    }
}
