//! The last runs of a job, as `tenure show` prints them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tenure::{Run, RunState};

use crate::text::{escape, rfc3339, short};
use crate::view;

/// One run, as `--json` prints it. The fields are a public interface.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    slot: &'a str,
    user: &'a str,
    host: &'a str,
    pid: Option<u32>,
    program: &'a str,
    token: Option<i64>,
    began: String,
    /// `running`, `done`, `failed`, `to_run_again` or `abandoned`.
    result: &'static str,
    took_ms: Option<u64>,
    error: Option<&'a str>,
    /// For how long the store remembers it.
    kept_for_ms: Option<u64>,
}

/// The runs as `--json` prints them.
pub(crate) fn shown(runs: &[Run]) -> Vec<Shown<'_>> {
    fn one(run: &Run) -> Shown<'_> {
        let Run { slot, owner, token, began, state, kept_for, .. } = run;
        let (result, took, error) = parts(state);
        Shown {
            slot,
            user: &owner.user,
            host: &owner.host,
            pid: Some(owner.pid).filter(|pid| *pid > 0),
            program: &owner.program,
            token: token.map(|t| t.get()),
            began: rfc3339(micros(*began)),
            result,
            took_ms: took.map(millis),
            error,
            kept_for_ms: kept_for.map(millis),
        }
    }
    runs.iter().map(one).collect()
}

/// The runs for people, a line each.
pub(crate) fn text(runs: &[Run]) -> String {
    let line = |run: &Run| {
        let (result, took, error) = parts(&run.state);
        let took = took.map(|d| format!(" in {}", short(d))).unwrap_or_default();
        let error = error.map(|e| format!(": {}", escape(e))).unwrap_or_default();
        let (slot, who) = (escape(&run.slot), view::name(&run.owner));
        let result = result.replace('_', " ");
        format!("  slot {slot}: {result}{took}, by {who}, began {}{error}\n", rfc3339(micros(run.began)))
    };
    runs.iter().map(line).collect()
}

/// The word for it, how long it took, and why it failed.
fn parts(state: &RunState) -> (&'static str, Option<Duration>, Option<&str>) {
    match state {
        RunState::Done { took } => ("done", Some(*took), None),
        RunState::Failed { took, error } => ("failed", Some(*took), Some(error)),
        RunState::ToRunAgain { took, error } => ("to_run_again", Some(*took), Some(error)),
        RunState::Abandoned => ("abandoned", None, None),
        _ => ("running", None, None),
    }
}

fn micros(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
