//! `tenure lab conform`: the trials on one store, told promise by promise.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use tenure::Locks;

use super::{Came, Ctx, Face, Failed, Place, RULES, Trial, called, judge, table};
use crate::failure::{Failure, Outcome};

/// One trial, with what was taken as the lock, and what came of it.
struct Told {
    trial: &'static Trial,
    face: Face,
    came: Came,
    took: Duration,
}

impl Told {
    fn name(&self) -> String {
        called(self.trial, self.face)
    }
}

/// What the trials say about one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promise {
    Held,
    Broken,
    /// Too little happened to judge it.
    Unjudged,
    NotPromised,
    /// Those of its trials that were asked for do not apply to this store, and the others were not asked for.
    NotAsked,
}

impl Promise {
    fn word(self) -> &'static str {
        match self {
            Promise::Held => "held",
            Promise::Broken => "broken",
            Promise::Unjudged => "floor missed",
            Promise::NotPromised => "not promised",
            Promise::NotAsked => "not judged",
        }
    }
}

/// So many trials that a capability excludes are named; all of them are where they were judged, above.
const NAMED: usize = 6;

/// Runs the trials whose names contain `filter` (all without one) on the store at `url`, in namespaces that begin with
/// `namespace`, and prints promise by promise. Exit status 0: all hold; 1: one is broken; 2: too little happened to
/// judge one.
#[must_use]
pub fn run(url: Option<&str>, namespace: &str, json: bool, filter: Option<&str>) -> ExitCode {
    match told(url.unwrap_or(crate::servers::USUAL), namespace, json, filter) {
        Ok(status) => status,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{}", failure.text(1));
            failure.exit()
        }
    }
}

fn told(url: &str, namespace: &str, json: bool, filter: Option<&str>) -> Outcome<ExitCode> {
    // Errors of the URL, the credentials and the namespace are the user's, not a broken promise.
    let locks = Locks::builder(url).namespace(namespace).blocking_connect()?;
    let shown = locks.url().to_owned();
    locks.blocking_close()?;
    let named = |trial, face| filter.is_none_or(|f| called(trial, face).contains(f));
    let chosen: Vec<_> = table().filter(|(trial, face)| named(trial, *face)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = table().map(|(trial, face)| called(trial, face)).collect();
        return Err(Failure::usage("no trial has such a name", format!("there are: {}", names.join(", "))));
    }
    let place = Place::given("given", url);
    let run = std::process::id();
    let mut all = Vec::new();
    for (number, (trial, face)) in chosen.into_iter().enumerate() {
        let began = Instant::now();
        let came = match Ctx::new(&place, &format!("{namespace}-{run}-{number}")) {
            Ok(ctx) => judge(trial, ctx.facing(face)),
            Err(failed) => Came::Failed(failed),
        };
        let told = Told { trial, face, came, took: began.elapsed() };
        let _ = writeln!(std::io::stderr(), "{}", line(&told));
        all.push(told);
    }
    let mut out = std::io::stdout().lock();
    for (rule, title) in RULES {
        let about: Vec<&Told> = all.iter().filter(|t| t.trial.rules.contains(rule)).collect();
        if !about.is_empty() {
            let text = if json {
                as_json(&shown, rule, title, &about).to_string()
            } else {
                as_text(rule, title, &about)
            };
            let _ = writeln!(out, "{text}");
        }
    }
    Ok(status(&all))
}

fn status(all: &[Told]) -> ExitCode {
    let about: Vec<&Told> = all.iter().collect();
    match promise(&about) {
        Promise::Broken => ExitCode::from(1),
        Promise::Unjudged => ExitCode::from(2),
        Promise::Held | Promise::NotPromised | Promise::NotAsked => ExitCode::SUCCESS,
    }
}

fn promise(about: &[&Told]) -> Promise {
    let any = |is: fn(&Came) -> bool| about.iter().any(|told| is(&told.came));
    if any(|came| matches!(came, Came::Failed(Failed::Broken(_)))) {
        Promise::Broken
    } else if any(|came| matches!(came, Came::Failed(Failed::Floor(_)))) {
        Promise::Unjudged
    } else if any(|came| matches!(came, Came::Held(_))) {
        Promise::Held
    } else {
        Promise::NotPromised
    }
}

/// The same for one rule, of which some trials may not have been asked for.
fn promise_of(rule: &str, about: &[&Told]) -> Promise {
    let all = table().filter(|(trial, _)| trial.rules.contains(&rule)).count();
    match promise(about) {
        Promise::NotPromised if about.len() < all => Promise::NotAsked,
        other => other,
    }
}

/// What a trial says: `ok`, or the reason.
fn says(came: &Came) -> (&'static str, String) {
    match came {
        Came::Held(report) => ("ok", report.to_string()),
        Came::Excluded(why) => ("not applicable", (*why).to_owned()),
        Came::Failed(Failed::Broken(why)) => ("broken", why.clone()),
        Came::Failed(Failed::Floor(why)) => ("floor missed", why.clone()),
    }
}

fn line(told: &Told) -> String {
    let (word, text) = says(&told.came);
    format!("  {:<52} {:>6.1} s  {word}: {text}", told.name(), told.took.as_secs_f64())
}

fn as_text(rule: &str, title: &str, about: &[&Told]) -> String {
    let verdict = promise_of(rule, about);
    let mut text = format!("{rule:<4} {title:<38} {}", verdict.word());
    // Of all that there are, so that a rule of which only some were asked for shows it.
    let counts = Face::ALL.into_iter().filter_map(|face| {
        let held = about.iter().filter(|told| told.face == face && matches!(told.came, Came::Held(_)));
        let (held, all) = (held.count(), table().filter(|(t, f)| *f == face && t.rules.contains(&rule)));
        (held > 0).then(|| format!("{held} of {}{}", all.count(), face.suffix()))
    });
    let counts: Vec<String> = counts.collect();
    if !counts.is_empty() {
        text += &format!(" ({})", counts.join(", "));
    }
    for told in about.iter().filter(|told| matches!(told.came, Came::Failed(_))) {
        let (word, why) = says(&told.came);
        text += &format!("\n     {}: {word}: {why}", told.name());
    }
    // Also of a rule that holds otherwise: of which part there is no promise, and why.
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for told in about {
        let Came::Excluded(why) = &told.came else { continue };
        match reasons.iter_mut().find(|(known, _)| known == why) {
            Some((_, trials)) => trials.push(told.name()),
            None => reasons.push((why, vec![told.name()])),
        }
    }
    for (why, trials) in reasons {
        let (named, more) = trials.split_at(trials.len().min(NAMED));
        text += &format!("\n     not promised, since {why}: {}", named.join(", "));
        if !more.is_empty() {
            text += &format!(" and {} more", more.len());
        }
    }
    text
}

fn as_json(url: &str, rule: &str, title: &str, about: &[&Told]) -> serde_json::Value {
    let trials: Vec<_> = about
        .iter()
        .map(|told| {
            let (word, text) = says(&told.came);
            let counts: serde_json::Map<_, _> = match &told.came {
                Came::Held(report) => report.counts.iter().map(|(what, n)| ((*what).to_owned(), (*n).into())).collect(),
                _ => serde_json::Map::new(),
            };
            let seconds = crate::num::round(told.took.as_secs_f64(), 3);
            json!({ "trial": told.trial.name, "as": told.face.name(), "outcome": word, "text": text, "counts": counts, "seconds": seconds })
        })
        .collect();
    json!({ "url": url, "rule": rule, "title": title, "verdict": promise_of(rule, about).word(), "trials": trials })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_not_promised_only_if_all_its_trials_were_asked_for() {
        let excluded = |(trial, face)| Told { trial, face, came: Came::Excluded("so"), took: Duration::ZERO };
        let all: Vec<Told> = table().filter(|(trial, _)| trial.rules.contains(&"O1")).map(excluded).collect();
        let all: Vec<&Told> = all.iter().collect();
        assert_eq!(promise_of("O1", &all), Promise::NotPromised);
        assert_eq!(promise_of("O1", &all[1..]), Promise::NotAsked);
        assert!(as_text("O1", "all is seen", &all[1..]).contains("not judged"));
    }
}
