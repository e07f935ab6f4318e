//! S4: a release affects its own grant only.

use std::collections::HashMap;

use super::facts::{Facts, Hold};
use super::windows::Windows;
use super::{Breach, Tally, Verdict};
use crate::history::{Claim, Kind, Name, Op, Phase};

pub(super) fn check(facts: &Facts<'_>, windows: &Windows) -> Verdict {
    let mut tally = Tally::default();
    let mut released: HashMap<Claim, usize> = HashMap::new();
    let followers = Followers::of(facts);
    for (index, event) in facts.history.events.iter().enumerate() {
        let (Op::Release, Phase::Ok | Phase::Gone, Some(claim)) = (event.op, event.phase, event.claim) else {
            continue;
        };
        let Some(hold) = facts.hold(claim) else { continue };
        let from = hold.release.map_or(event.t, |at| at.t);
        let promised = !windows.excuse_for("S4", from, event.t, &[hold.p]);
        tally.judge(promised);
        if event.phase == Phase::Gone {
            continue;
        }
        let excused = !promised || windows.excuse_for("S1", from, event.t, &[hold.p]);
        let mut tell = |what: String, also: Vec<usize>| {
            let mut events = hold.proof();
            events.extend(also);
            events.push(index);
            tally.breach(excused, || Breach { t: event.t, what, events: facts.events(events) });
        };
        if let Some(before) = released.insert(claim, index) {
            tell(format!("{claim} was released twice, and was ours both times"), vec![before]);
        } else if hold.ok.is_some() && hold.p != event.p {
            tell(format!("process {} released {claim}, which process {} holds", event.p, hold.p), vec![]);
        } else if let Some(next) = followers.granted_between(hold) {
            let what =
                format!("{claim} was released as ours, after {} had been granted in its place", next.claim);
            tell(what, next.grant());
        }
    }
    tally.verdict("S4", "owner only", "releases")
}

/// The exclusive grants of each lock, by their return.
struct Followers<'a>(HashMap<Name, Vec<&'a Hold>>);

impl<'a> Followers<'a> {
    fn of(facts: &'a Facts<'a>) -> Followers<'a> {
        let of = |claims: &'a Vec<usize>| {
            let alone = |hold: &&Hold| matches!(hold.kind, Kind::Mutex | Kind::Write);
            let mut holds: Vec<&Hold> = facts.granted(claims).filter(alone).collect();
            holds.sort_by_key(|hold| hold.ok.map(|at| at.t));
            holds
        };
        Followers(facts.locks.iter().map(|(lock, claims)| (*lock, of(claims))).collect())
    }

    /// A grant after the belief of `hold` had ended by itself, and before its release was invoked: by then the store had
    /// passed the lock on, and nothing was left to release. Overlapping beliefs are a matter of S1.
    fn granted_between(&self, hold: &Hold) -> Option<&'a Hold> {
        let (granted, asked) = (hold.ok?.t, hold.release?.t);
        let end = hold.belief().map_or(granted, |(_, to)| to);
        let holds = self.0.get(&hold.lock?)?;
        let at = |hold: &Hold| hold.ok.map_or(0, |at| at.t);
        let first = holds.partition_point(|other| at(other) < end.max(granted + 1));
        holds[first..]
            .iter()
            .take_while(|other| at(other) < asked)
            .find(|other| other.claim != hold.claim)
            .copied()
    }
}
