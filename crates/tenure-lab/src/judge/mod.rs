//! Judging a history: which promises held, exactly, by sorting and sweeping.
//!
//! - `facts`: what became of each claim. - `windows`: when a fault excuses what.
//! - `exclusion` (S1), `tokens` (S2), `fence` (S3 and the unfenced twin), `owner` (S4), `honesty` (S5, S10),
//!   `order` (L3), `ending` (L2, L4, floors): one check each.
//! - `check`: `tenure lab check`.
//!
//! A belief is the interval from the return of an acquire to the first of: its release was invoked, its loss was told,
//! its latest deadline. A history of a lock can be explained by one that excludes (it is linearizable) exactly if at no
//! instant the beliefs outweigh the capacity: a grant lies at or before the acquire's return and its end at or after the
//! end of the belief, so the holds cover the beliefs; and if the beliefs fit, granting at the return and ending at the
//! end explains everything. What is unknown (a lost answer, a dropped future) claims nothing.
//!
//! A breach whose instant lies in the window of a fault that breaks the rule, or up to one ttl later, is counted apart as
//! not promised. A fault whose target is `client N` excuses only breaches in which process N takes part. S3 is never
//! excused.

pub(crate) mod check;
mod ending;
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
    /// It was promised at no time when it mattered.
    NotPromised,
    /// Nothing happened that it speaks of.
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
    /// The rule: `S1` ..., or `twin` and `floor`, which speak of the run itself.
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
    /// What the run is repeated by.
    pub seed: u64,
    /// The command that repeats it.
    pub replay: String,
}

fn as_map<S: Serializer>(counts: &[(&'static str, u64)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(counts.iter().copied())
}

/// How many breaches of a rule are kept to be shown; all are counted.
const SHOWN: usize = 5;

/// Judges one rule while its check runs.
#[derive(Debug, Default)]
struct Tally {
    /// How often the rule was put to the test, and how often of these while it was promised.
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

/// The same, for whoever needs the facts as well.
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
