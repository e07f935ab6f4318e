//! S2: tokens grow in the order of the grants, and no token is given twice. Readers between two writers share one.
//!
//! Three facts tell that grant A came before grant B:
//! - A returned before B was invoked.
//! - Both were believed, and the belief of A ended before B returned. The holds cover the beliefs and exclude each other,
//!   so they have the order of the beliefs, whichever of the two waited first.
//! - A was never believed (its deadline had passed when it returned), and it returned before the belief of B ended.
//!
//! The last two rest on exclusion, so a fault that breaks S1 excuses them.

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
    /// When its belief ended.
    ended: Option<u64>,
    promised: bool,
}

impl Grant<'_> {
    fn reads(&self) -> bool {
        self.hold.kind == Kind::Read
    }

    /// Whether this grant surely came before another one.
    fn precedes(&self, other: &Grant<'_>) -> bool {
        self.returned < other.invoked
            || match (self.ended, other.ended) {
                (Some(ended), Some(_)) => ended <= other.returned,
                (None, Some(ended)) => self.returned < ended,
                _ => false,
            }
    }
}

/// The greatest tokens so far, of readers and of all others.
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

    /// An earlier grant whose token should be below the token of this one, and is not.
    fn above(&self, grant: &Grant<'_>) -> Option<Grant<'a>> {
        let over = self.other.filter(|earlier| earlier.token >= grant.token);
        let beside = self.read.filter(|earlier| {
            if grant.reads() { earlier.token > grant.token } else { earlier.token >= grant.token }
        });
        over.or(beside)
    }
}

/// One way to tell that a grant came before another: `early` is known to precede all with a greater `late`.
struct Sign<'a> {
    early: Vec<(u64, Grant<'a>)>,
    late: Vec<(u64, Grant<'a>)>,
    what: &'static str,
}

impl<'a> Sign<'a> {
    /// Tells of each `late` grant whose token is not above those of the grants before it.
    fn sweep(self, mut tell: impl FnMut(bool, &'static str, Grant<'a>, Grant<'a>)) {
        let Sign { mut early, mut late, what } = self;
        early.sort_by_key(|(at, _)| *at);
        late.sort_by_key(|(at, _)| *at);
        let mut early = early.into_iter().peekable();
        let (mut all, mut promised) = (Greatest::default(), Greatest::default());
        for (at, late) in late {
            while let Some((_, early)) = early.next_if(|(known, _)| *known < at) {
                all.add(early);
                if early.promised {
                    promised.add(early);
                }
            }
            let broken = promised.above(&late).filter(|_| late.promised);
            if let Some(early) = broken.or_else(|| all.above(&late)) {
                tell(broken.is_none(), what, early, late);
            }
        }
    }
}

pub(super) fn check(facts: &Facts<'_>, windows: &Windows) -> Verdict {
    let mut tally = Tally::default();
    for (lock, claims) in &facts.locks {
        let mut grants: Vec<Grant<'_>> =
            facts.granted(claims).filter_map(|hold| grant(hold, windows)).collect();
        joiners(&mut grants, windows);
        for one in &grants {
            tally.judge(one.promised);
        }
        for sign in signs(&grants, windows) {
            sign.sweep(|excused, how, early, late| {
                tally.breach(excused, || {
                    let what = format!(
                        "{lock}: {} with token {} {how} {}, which got {}",
                        early.hold.claim, early.token, late.hold.claim, late.token
                    );
                    show(facts, what, &early, &late)
                });
            });
        }
        unique(facts, *lock, &grants, &mut tally);
        together(facts, *lock, &grants, windows, &mut tally);
    }
    tally.verdict("S2", "token order", "tokens")
}

fn grant<'a>(hold: &'a Hold, windows: &Windows) -> Option<Grant<'a>> {
    // Permits have no token.
    let token = hold.token.filter(|_| hold.kind != Kind::Semaphore)?;
    let returned = hold.ok?.t;
    let invoked = hold.invoked().min(returned);
    // Without its invocation, a grant counts by its return.
    let from = if invoked == 0 { returned } else { invoked };
    let promised = !windows.excuse_for("S2", from, returned, &[hold.p]);
    let ended = hold.belief().map(|(_, ended)| ended);
    Some(Grant { hold, token, invoked, returned, ended, promised })
}

/// A reader shares the token of the readers that it joins. If a fault brought these back, as a restored copy of the data
/// does, the token may be older than one that was used since: nothing tells the store, and the fence refuses it.
fn joiners(grants: &mut [Grant<'_>], windows: &Windows) {
    let mut first: HashMap<i64, u64> = HashMap::new();
    for reader in grants.iter().filter(|grant| grant.reads()) {
        let invoked = first.entry(reader.token).or_insert(reader.invoked);
        *invoked = reader.invoked.min(*invoked);
    }
    for reader in grants.iter_mut().filter(|grant| grant.reads()) {
        let with = first.get(&reader.token).copied().filter(|invoked| *invoked < reader.invoked);
        let back = with.is_some_and(|from| windows.excuse_for("S1", from, reader.returned, &[reader.hold.p]));
        reader.promised &= !back;
    }
}

fn signs<'a>(grants: &[Grant<'a>], windows: &Windows) -> [Sign<'a>; 3] {
    // A hold that a fault has broken off tells nothing about the order.
    let whole = |grant: &Grant<'a>, until: u64| {
        let excused = windows.excuse_for("S1", grant.invoked, until, &[grant.hold.p]);
        Grant { promised: grant.promised && !excused, ..*grant }
    };
    let believed = || grants.iter().filter_map(|grant| Some((grant.ended?, grant)));
    let unbelieved = || grants.iter().filter(|grant| grant.ended.is_none());
    [
        Sign {
            early: grants.iter().map(|grant| (grant.returned, *grant)).collect(),
            late: grants.iter().map(|grant| (grant.invoked, *grant)).collect(),
            what: "returned before the invocation of",
        },
        Sign {
            early: believed().map(|(ended, grant)| (ended, *grant)).collect(),
            // One later: a belief may begin at the very instant at which another ends.
            late: believed().map(|(_, g)| (g.returned.saturating_add(1), whole(g, g.returned))).collect(),
            what: "was no longer believed at the grant of",
        },
        Sign {
            early: unbelieved().map(|grant| (grant.returned, *grant)).collect(),
            late: believed().map(|(ended, grant)| (ended, whole(grant, ended))).collect(),
            what: "returned too late to be believed, during the hold of",
        },
    ]
}

fn unique(facts: &Facts<'_>, lock: Name, grants: &[Grant<'_>], tally: &mut Tally) {
    let mut owners: HashMap<i64, Grant<'_>> = HashMap::new();
    for late in grants {
        let Some(early) = owners.get(&late.token).copied() else {
            owners.insert(late.token, *late);
            continue;
        };
        // One after the other is a matter of order, and is told there.
        let in_order = early.precedes(late) || late.precedes(&early);
        let readers = early.reads() && late.reads();
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

/// No writer comes between readers that hold at the same time, so they have the same token.
fn together(facts: &Facts<'_>, lock: Name, grants: &[Grant<'_>], windows: &Windows, tally: &mut Tally) {
    let mut readers: Vec<(u64, Grant<'_>)> = grants
        .iter()
        .filter(|grant| grant.reads())
        .filter_map(|grant| Some((grant.ended?, *grant)))
        .collect();
    readers.sort_by_key(|(_, reader)| reader.returned);
    let mut longest: Option<(u64, Grant<'_>)> = None;
    for (ended, late) in readers {
        if let Some((until, early)) = longest
            && until > late.returned
            && early.token != late.token
        {
            let clients = [early.hold.p, late.hold.p];
            let from = early.invoked.min(late.invoked);
            let excused =
                !(early.promised && late.promised) || windows.excuse_for("S1", from, late.returned, &clients);
            tally.breach(excused, || {
                let what = format!(
                    "{lock}: the readers {} and {} held at the same time, with tokens {} and {}",
                    early.hold.claim, late.hold.claim, early.token, late.token
                );
                show(facts, what, &early, &late)
            });
        }
        if longest.is_none_or(|(until, _)| until < ended) {
            longest = Some((ended, late));
        }
    }
}

fn show(facts: &Facts<'_>, what: String, early: &Grant<'_>, late: &Grant<'_>) -> Breach {
    let events = [early.hold.proof(), late.hold.proof()].concat();
    Breach { t: late.returned, what, events: facts.events(events) }
}
