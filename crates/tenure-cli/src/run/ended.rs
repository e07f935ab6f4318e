//! What is said of a command that has ended.

use rustix::process::WaitStatus;

use super::hold::Ending;
use crate::exit::{LOST, UNAVAILABLE};

/// The exit code after a loss, and what became of the command: said to be stopped only if it was.
pub(super) fn stopped(refused: &str) -> (u8, String) {
    match refused {
        "" => (LOST, "the command was stopped".into()),
        _ => (UNAVAILABLE, format!("process {refused} could not be stopped and ended by itself")),
    }
}

/// The command's status as an exit code.
pub(super) fn code_of(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, signal) => 128 + signal.unwrap_or(0),
    }
}

/// The command's status as the record of a job has it.
pub(super) fn ending(status: WaitStatus) -> Ending {
    Ending::Ended(match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(format!("exit {code}")),
        (None, signal) => Err(format!("signal {}", signal.unwrap_or(0))),
    })
}
