//! Judges a history: which promises held. Exact, by sorting and sweeping.
//!
//! - `facts`: the life of each claim.
//! - `windows`: which fault excuses which rule, and when.
//! - `evidence`: what the history lacks, and which rules cannot be judged because of it.
//! - `exclusion`: S1.
//! - `tokens`: S2.
//! - `fence`: S3 and the unfenced twin.
//! - `owner`: S4.
//! - `honesty`: S5 and S10.
//! - `order`: L3.
//! - `ending`: L2, L4 and the floors.
//! - `check`: `tenure lab check`.
//!
//! A belief is the interval from the return of an acquire to the first of these: the invocation of its release, the
//! report of its loss, its latest deadline. A history of a lock is linearizable exactly if the beliefs never outweigh the
//! capacity. Necessary: a grant takes effect at or before the return of its acquire, and ends at or after the end of its
//! belief, so the holds cover the beliefs. Sufficient: if the beliefs fit, then granting at the return and ending at the
//! end of the belief explains everything. An unknown outcome (a lost answer, a dropped future) claims nothing.
//!
//! A breach inside the window of a fault that breaks the rule, or up to one ttl later, counts separately as not promised.
//! A fault with the target `client N` excuses only breaches that involve process N. S3 is never excused.

pub(crate) mod check;
mod ending;
mod evidence;
mod exclusion;
mod facts;
mod fence;
mod honesty;
mod order;
mod owner;
mod tokens;
mod windows;

use std::fmt;

use serde::{Serialize, Serializer};

use crate::history::{Event, History};
pub use check::CheckArgs;
pub(crate) use facts::{Facts, Hold};
pub(crate) use windows::Windows;

/// What a history says about a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It held whenever it was promised.
    Held,
    /// It did not.
    Broken,
    /// It was not promised: by the store, or at any time when it was put to the test.
    NotPromised,
    /// The history has no evidence for it: nothing happened that it is about, or what happened is not recorded.
    NotJudged,
    /// Too little happened.
    FloorMissed,
}

impl Status {
    /// The word in tables and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Status::Held => "held",
            Status::Broken => "broken",
            Status::NotPromised => "not promised",
            Status::NotJudged => "not judged",
            Status::FloorMissed => "floor missed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.word())
    }
}

/// One way in which a rule was broken, and the fewest events that show it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Breach {
    /// When: the instant that decides whether a fault excuses it.
    pub t: u64,
    /// What happened, in a sentence.
    pub what: String,
    /// The events that show it, by time.
    pub events: Vec<Event>,
}

/// What a history says about one rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The rule: `S1` ..., or `twin`, `floor` and `data`, which judge the run itself.
    pub rule: &'static str,
    /// Its title.
    pub title: &'static str,
    /// Whether it held.
    pub status: Status,
    /// One line for people.
    pub text: String,
    /// What was counted.
    #[serde(serialize_with = "as_map")]
    pub counts: Vec<(&'static str, u64)>,
    /// The first breaches.
    pub breaches: Vec<Breach>,
    /// The first breaches that a fault excuses.
    pub excused: Vec<Breach>,
    /// The seed of the run.
    pub seed: u64,
    /// The command that repeats the run.
    pub replay: String,
}

impl Verdict {
    /// Whether the rule was put to the test, but never while it was promised.
    #[must_use]
    pub fn never_promised(&self) -> bool {
        self.status == Status::NotPromised && self.counts.first().is_some_and(|(_, judged)| *judged > 0)
    }
}

fn as_map<S: Serializer>(counts: &[(&'static str, u64)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(counts.iter().copied())
}

/// How many breaches of a rule are kept to be shown; all are counted.
const SHOWN: usize = 5;

/// Counts for one rule while its check runs.
#[derive(Debug, Default)]
struct Tally {
    /// How often the rule was put to the test, and how often while it was promised.
    judged: u64,
    promised: u64,
    broken: u64,
    excused: u64,
    shown: Vec<Breach>,
    shown_excused: Vec<Breach>,
}

impl Tally {
    /// The rule was put to the test.
    fn judge(&mut self, promised: bool) {
        self.judged += 1;
        self.promised += u64::from(promised);
    }

    /// It did not hold. `show` is asked only for the first ones.
    fn breach(&mut self, excused: bool, show: impl FnOnce() -> Breach) {
        let (count, shown) = if excused {
            (&mut self.excused, &mut self.shown_excused)
        } else {
            (&mut self.broken, &mut self.shown)
        };
        *count += 1;
        if shown.len() < SHOWN {
            shown.push(show());
        }
    }

    fn status(&self) -> Status {
        match (self.broken, self.judged, self.promised) {
            (1.., ..) => Status::Broken,
            (_, 0, _) => Status::NotJudged,
            (_, _, 0) => Status::NotPromised,
            _ => Status::Held,
        }
    }

    /// The verdict; `unit` is what was judged, in plural.
    fn verdict(self, rule: &'static str, title: &'static str, unit: &'static str) -> Verdict {
        let mut text = format!("{} {unit}", self.judged);
        if self.promised < self.judged {
            text += &format!(", {} of them while promised", self.promised);
        }
        if self.broken > 0 {
            text += &format!("; breaches: {}", self.broken);
        }
        if self.excused > 0 {
            text += &format!("; where it was not promised: {}", self.excused);
        }
        let counts = vec![
            (unit, self.judged),
            ("while promised", self.promised),
            ("breaches", self.broken),
            ("not promised", self.excused),
        ];
        Verdict {
            rule,
            title,
            status: self.status(),
            text,
            counts,
            breaches: self.shown,
            excused: self.shown_excused,
            seed: 0,
            replay: String::new(),
        }
    }
}

/// Judges a history: one verdict for each rule.
#[must_use]
pub fn judge(history: &History) -> Vec<Verdict> {
    let facts = Facts::of(history);
    let windows = Windows::of(history);
    judge_with(&facts, &windows)
}

/// Like [`judge`], for callers that need the facts as well.
pub(crate) fn judge_with(facts: &Facts<'_>, windows: &Windows) -> Vec<Verdict> {
    let (exclusion, overlaps) = exclusion::check(facts, windows);
    let (fence, twin) = fence::check(facts, windows);
    let (honesty, creation) = honesty::check(facts, windows, &overlaps);
    let mut verdicts = vec![
        exclusion,
        tokens::check(facts, windows),
        fence,
        owner::check(facts, windows),
        honesty,
        creation,
        ending::healing(facts, windows),
        order::check(facts, windows),
        ending::residue(facts),
        twin,
        ending::floor(facts, windows),
    ];
    let evidence = evidence::Evidence::of(facts);
    for verdict in &mut verdicts {
        evidence.weigh(verdict);
    }
    verdicts.push(evidence.verdict(facts.history.events.len()));
    let header = &facts.history.header;
    for verdict in &mut verdicts {
        verdict.seed = header.seed;
        verdict.replay = header
            .replay
            .clone()
            .unwrap_or_else(|| format!("tenure --url {} lab chaos --seed {}", header.url, header.seed));
    }
    verdicts
}
