//! How trials run: one at a time on each store, and never for ever.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::{Ctx, Failed, Place, Report, Trial, mutex_trials, primitive_trials};
use crate::harness::{Harness, Verdict};

/// A trial that takes longer than this hangs.
const LONGEST: Duration = Duration::from_secs(240);

/// What came of one trial.
#[derive(Clone, Debug)]
pub enum Came {
    /// It held.
    Held(Report),
    /// It does not apply: this capability excludes it.
    Excluded(&'static str),
    /// It did not hold.
    Failed(Failed),
}

/// Runs a trial, on a thread of its own: one that hangs is given up.
#[must_use]
pub fn judge(trial: &'static Trial, ctx: Ctx) -> Came {
    if let Some(why) = (trial.why_not)(&ctx) {
        return Came::Excluded(why);
    }
    let (tell, told) = channel();
    let ran = thread::Builder::new().name(trial.name.into()).spawn(move || {
        let _ = tell.send((trial.run)(&ctx));
    });
    let broken = |why: String| Came::Failed(Failed::Broken(why));
    if let Err(error) = ran {
        return broken(format!("no thread for the trial: {error}"));
    }
    match told.recv_timeout(LONGEST) {
        Ok(Ok(report)) => Came::Held(report),
        Ok(Err(failed)) => Came::Failed(failed),
        Err(RecvTimeoutError::Timeout) => broken(format!("it hangs: no end after {LONGEST:?}")),
        Err(RecvTimeoutError::Disconnected) => broken("it panicked, see above".into()),
    }
}

/// Adds every trial on every place to a harness: one lane for each place.
pub fn harness(harness: &mut Harness<'_>, places: Vec<Place>) {
    for place in places {
        let place = Arc::new(place);
        let mutex = mutex_trials().map(|trial| (format!("{}::{}", place.name, trial.name), trial));
        let others =
            primitive_trials().map(|trial| (format!("primitives::{}::{}", place.name, trial.name), trial));
        for (number, (name, trial)) in mutex.chain(others).enumerate() {
            let at = place.clone();
            harness.test_in(&place.name, name, move || one(trial, &at, &format!("t{number}")));
        }
    }
}

fn one(trial: &'static Trial, place: &Place, namespace: &str) -> Verdict {
    if let Some(why) = place.absent() {
        return Verdict::Ignored(why.to_owned());
    }
    match Ctx::new(place, namespace).map(|ctx| judge(trial, ctx)) {
        Ok(Came::Held(report)) => Verdict::Passed(report.to_string()),
        Ok(Came::Excluded(why)) => Verdict::Ignored(why.to_owned()),
        Ok(Came::Failed(failed)) | Err(failed) => Verdict::Failed(failed.to_string()),
    }
}
