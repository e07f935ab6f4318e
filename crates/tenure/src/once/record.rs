//! What is remembered of a run: it lies in the reason of the hold that stands for it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::backend::{Line, Owner, Seen};
use crate::options::REASON_MAX;
use crate::token::Token;

/// One run of a job, as anybody can see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// The label of its slot.
    pub slot: String,
    /// Who ran it, or runs it.
    pub owner: Owner,
    /// The fencing token that it had.
    pub token: Option<Token>,
    /// When it began, on the store's clock.
    pub began: SystemTime,
    /// How far it got.
    pub state: RunState,
    /// How much longer this record is kept; while the job runs, how long its lease lasts.
    pub kept_for: Option<Duration>,
}

/// How far a run got.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunState {
    /// It runs.
    Running,
    /// It ran to its end.
    Done {
        /// How long.
        took: Duration,
    },
    /// It ran and returned an error. The slot is used.
    Failed {
        /// How long.
        took: Duration,
        /// The error, or as much of it as there is room for.
        error: String,
    },
    /// It returned an error and may be retried, once its least time is over.
    ToRunAgain {
        /// How long it took.
        took: Duration,
        /// The error, or as much of it as there is room for.
        error: String,
    },
    /// It was begun and never finished, and must not run again ([`Once::never_again`](crate::Once::never_again)).
    Abandoned,
}

const RUNNING: &str = "running";
pub(super) const STARTED: &str = "started";

impl RunState {
    /// Whether the slot is used: the job will not run again.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !matches!(self, RunState::Running | RunState::ToRunAgain { .. })
    }

    /// As it is written into the reason.
    pub(super) fn text(&self) -> String {
        let seconds = |d: &Duration| format!("{}.{:03} s", d.as_secs(), d.subsec_millis());
        let mut text = match self {
            RunState::Running => RUNNING.to_owned(),
            RunState::Abandoned => STARTED.to_owned(),
            RunState::Done { took } => format!("done in {}", seconds(took)),
            RunState::Failed { took, error } => format!("failed in {}: {error}", seconds(took)),
            RunState::ToRunAgain { took, error } => {
                format!("to run again, failed in {}: {error}", seconds(took))
            }
        };
        text.truncate(text.floor_char_boundary(REASON_MAX));
        text
    }

    /// What a reason says. One that is none of ours stands for something that runs.
    fn read(text: &str) -> RunState {
        let failed = |rest: &str| {
            let (took, error) = rest.split_once(": ").unwrap_or((rest, ""));
            Some((seconds(took)?, error.to_owned()))
        };
        let known = || {
            if text == STARTED {
                return Some(RunState::Abandoned);
            }
            if let Some(rest) = text.strip_prefix("done in ") {
                return Some(RunState::Done { took: seconds(rest)? });
            }
            if let Some(rest) = text.strip_prefix("failed in ") {
                return failed(rest).map(|(took, error)| RunState::Failed { took, error });
            }
            let rest = text.strip_prefix("to run again, failed in ")?;
            failed(rest).map(|(took, error)| RunState::ToRunAgain { took, error })
        };
        known().unwrap_or(RunState::Running)
    }
}

/// Reads `12.345 s`.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, rest) = text.split_once('.')?;
    let millis = rest.strip_suffix(" s").filter(|m| m.len() == 3)?;
    Some(Duration::from_secs(whole.parse().ok()?) + Duration::from_millis(millis.parse().ok()?))
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl Run {
    /// What a line says of the slot of this label; `None`: nobody holds it.
    pub(super) fn of(label: &str, line: &Line) -> Option<Run> {
        let Seen { owner, reason, since_us, expires_in, token, .. } = line.holders.first()?.clone();
        Some(Run {
            slot: label.to_owned(),
            owner,
            token,
            began: UNIX_EPOCH + Duration::from_micros(since_us),
            state: RunState::read(&reason),
            kept_for: expires_in,
        })
    }
}

/// Target for fuzzing: the reason of a hold, which another program may have written.
#[cfg(feature = "unstable")]
pub(crate) const FUZZ: crate::fuzz::Target = crate::fuzz::Target {
    name: "records of runs",
    asserts: "what a run came to is written as it was read, as far as there is room",
    seeds: || {
        crate::fuzz::texts(&[
            "running",
            "started",
            "done in 3605.042 s",
            "failed in 0.001 s: disk full: /var",
            "to run again, failed in 12.000 s: no route",
        ])
    },
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else { return 99 };
        let state = RunState::read(text);
        let written = state.text();
        assert!(written.len() <= REASON_MAX);
        if text.len() <= REASON_MAX {
            assert_eq!(RunState::read(&written), state);
        }
        crate::fuzz::outcome(std::mem::discriminant(&state))
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let took = Duration::from_millis(3_605_042);
        let error = "disk full: /var".to_owned();
        for (state, text, over) in [
            (RunState::Running, "running", false),
            (RunState::Abandoned, "started", true),
            (RunState::Done { took }, "done in 3605.042 s", true),
            (RunState::Failed { took, error: error.clone() }, "failed in 3605.042 s: disk full: /var", true),
            (
                RunState::ToRunAgain { took, error },
                "to run again, failed in 3605.042 s: disk full: /var",
                false,
            ),
        ] {
            assert_eq!((state.text().as_str(), state.is_over()), (text, over));
            assert_eq!(RunState::read(text), state);
        }
        let long = RunState::Failed { took, error: "é".repeat(999) };
        assert!(long.text().len() <= REASON_MAX);
        assert!(matches!(RunState::read(&long.text()), RunState::Failed { .. }));
        for text in ["", "done", "done in 1 s", "done in x.123 s", "failed in ", "something else"] {
            assert_eq!(RunState::read(text), RunState::Running, "{text:?}");
        }
    }
}
