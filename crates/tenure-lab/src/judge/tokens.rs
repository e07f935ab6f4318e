//! S2: a grant that was invoked after another returned has the greater token, and no token is given twice. Readers
//! between two writers may share one.

use std::collections::HashMap;

use super::facts::{Facts, Hold};
use super::windows::Windows;
use super::{Breach, Tally, Verdict};
use crate::history::{Kind, Name};

/// A granted claim with a token.
#[derive(Clone, Copy)]
struct Grant<'a> {
    hold: &'a Hold,
    token: i64,
    invoked: u64,
    returned: u64,
    promised: bool,
}

impl Grant<'_> {
    fn reads(&self) -> bool {
        self.hold.kind == Kind::Read
    }
}

/// The greatest tokens so far, of readers and of the others.
#[derive(Clone, Copy, Default)]
struct Greatest<'a> {
    read: Option<Grant<'a>>,
    other: Option<Grant<'a>>,
}

impl<'a> Greatest<'a> {
    fn add(&mut self, grant: Grant<'a>) {
        let place = if grant.reads() { &mut self.read } else { &mut self.other };
        if place.is_none_or(|best| best.token < grant.token) {
            *place = Some(grant);
        }
    }

    /// An earlier grant that the token of this one does not exceed as it must.
    fn above(&self, grant: &Grant<'_>) -> Option<Grant<'a>> {
        let over = self.other.filter(|earlier| earlier.token >= grant.token);
        let beside = self.read.filter(|earlier| {
            if grant.reads() { earlier.token > grant.token } else { earlier.token >= grant.token }
        });
        over.or(beside)
    }
}

pub(super) fn check(facts: &Facts<'_>, windows: &Windows) -> Verdict {
    let mut tally = Tally::default();
    for (lock, claims) in &facts.locks {
        let grants: Vec<Grant<'_>> = facts.granted(claims).filter_map(|hold| grant(hold, windows)).collect();
        for one in &grants {
            tally.judge(one.promised);
        }
        order(facts, *lock, &grants, &mut tally);
        unique(facts, *lock, &grants, &mut tally);
    }
    tally.verdict("S2", "token order", "tokens")
}

fn grant<'a>(hold: &'a Hold, windows: &Windows) -> Option<Grant<'a>> {
    // Permits have no token.
    let token = hold.token.filter(|_| hold.kind != Kind::Semaphore)?;
    let (invoked, returned) = (hold.invoked(), hold.ok?.t);
    // Without a line about its invocation, a grant counts by its return.
    let from = if invoked == 0 { returned } else { invoked };
    let promised = !windows.excuse_for("S2", from, returned, &[hold.p]);
    Some(Grant { hold, token, invoked, returned, promised })
}

fn order(facts: &Facts<'_>, lock: Name, grants: &[Grant<'_>], tally: &mut Tally) {
    let mut by_return: Vec<&Grant<'_>> = grants.iter().collect();
    by_return.sort_by_key(|grant| grant.returned);
    let mut by_invoke: Vec<&Grant<'_>> = grants.iter().collect();
    by_invoke.sort_by_key(|grant| grant.invoked);
    let mut earlier = by_return.into_iter().peekable();
    let (mut all, mut promised) = (Greatest::default(), Greatest::default());
    for late in by_invoke {
        while let Some(early) = earlier.next_if(|early| early.returned < late.invoked) {
            all.add(*early);
            if early.promised {
                promised.add(*early);
            }
        }
        let broken = promised.above(late).filter(|_| late.promised);
        if let Some(early) = broken.or_else(|| all.above(late)) {
            tally.breach(broken.is_none(), || {
                let what = format!(
                    "{lock}: {} returned with token {} before {} was invoked, which got {}",
                    early.hold.claim, early.token, late.hold.claim, late.token
                );
                show(facts, what, &early, late)
            });
        }
    }
}

fn unique(facts: &Facts<'_>, lock: Name, grants: &[Grant<'_>], tally: &mut Tally) {
    let mut owners: HashMap<i64, Grant<'_>> = HashMap::new();
    for late in grants {
        let Some(early) = owners.get(&late.token).copied() else {
            owners.insert(late.token, *late);
            continue;
        };
        let in_order = early.returned < late.invoked || late.returned < early.invoked;
        let readers = early.reads() && late.reads();
        // One after the other is a matter of order, and told there.
        if !(readers || in_order) {
            tally.breach(!(early.promised && late.promised), || {
                let what = format!(
                    "{lock}: {} and {} got the same token {}",
                    early.hold.claim, late.hold.claim, late.token
                );
                show(facts, what, &early, late)
            });
        }
    }
}

fn show(facts: &Facts<'_>, what: String, early: &Grant<'_>, late: &Grant<'_>) -> Breach {
    let events = [early.hold.grant(), late.hold.grant()].concat();
    Breach { t: late.returned, what, events: facts.events(events) }
}
