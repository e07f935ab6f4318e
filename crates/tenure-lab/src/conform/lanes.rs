//! How trials run: one at a time on each store, and never for ever.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::{Ctx, Face, Failed, Place, Report, Trial, called, primitive_trials, table};
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
    if let Some(why) = ctx.face.why_not(ctx.caps).or_else(|| (trial.why_not)(&ctx)) {
        return Came::Excluded(why);
    }
    let (tell, told) = channel();
    let ran = thread::Builder::new().name(trial.name.into()).spawn(move || {
        let ran = (trial.run)(&ctx);
        let _ = tell.send(ran.and_then(|report| ctx.empty().map(|()| report)));
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
        for (number, (trial, face)) in table().enumerate() {
            let own = primitive_trials().any(|own| own.name == trial.name);
            let part = if own || face != Face::Mutex { "primitives::" } else { "" };
            let (name, at) = (format!("{part}{}::{}", place.name, called(trial, face)), place.clone());
            harness.test_in(&place.name, name, move || one(trial, face, &at, &format!("t{number}")));
        }
    }
}

fn one(trial: &'static Trial, face: Face, place: &Place, namespace: &str) -> Verdict {
    if let Some(why) = place.absent() {
        return Verdict::Ignored(why.to_owned());
    }
    match Ctx::new(place, namespace).map(|ctx| judge(trial, ctx.facing(face))) {
        Ok(Came::Held(report)) => Verdict::Passed(report.to_string()),
        Ok(Came::Excluded(why)) => Verdict::Ignored(why.to_owned()),
        Ok(Came::Failed(failed)) | Err(failed) => Verdict::Failed(failed.to_string()),
    }
}
