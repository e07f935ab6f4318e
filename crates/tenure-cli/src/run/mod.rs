//! `tenure run`: a command under a lock.
//!
//! Three processes. *tenure run* is the shell's child: it hands on signals and exits with the command's status. Its
//! child, the *guardian*, holds the lock: it renews, waits for all descendants of the command, and stops them all when
//! the lock is lost or *tenure run* dies. The guardian's child is the *command*, in the process group of *tenure run*, so
//! the terminal treats it as if the others were not there. The guardian is in a process group of its own: a signal
//! to the group (`kill -9 -PGID`, `kill -STOP %1`, Ctrl-C) never hits it, so it can always clean up.

mod acquire;
mod bell;
mod descendants;
mod env;
mod guardian;
mod parent;
mod status;
mod supervise;
mod sys;
mod wire;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use tenure::Key;

use crate::args::{Globals, RunArgs};
use crate::exit::{BUSY, Failure};
use crate::store::Store;
use crate::who::shortened;
use status::StatusFile;

/// The longest grace unless asked otherwise.
const GRACE: Duration = Duration::from_secs(10);
/// The longest reason that a store keeps, in bytes.
const REASON_MAX: usize = 256;

/// For how long to wait for the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    No,
    For(Duration),
    Forever,
}

/// Everything that the command line asks for, checked.
struct Plan {
    store: Store,
    key: Key,
    command: Vec<OsString>,
    /// The command's name, as listings show it.
    program: String,
    wait: Wait,
    /// The exit code for "busy".
    conflict: u8,
    ttl: Duration,
    grace: Duration,
    reason: String,
    status: Option<StatusFile>,
    /// What `TENURE_HELD` says.
    held: String,
    /// Whether somebody reads notes about the waiting.
    notes: bool,
    quiet: bool,
    verbose: bool,
}

/// Runs the command under the lock; returns the exit code.
///
/// # Errors
/// Wrong usage, or this process cannot be forked. What the guardian meets comes back as an exit code, already reported.
pub(crate) fn run(args: &RunArgs, globals: &Globals) -> Result<u8, Failure> {
    let plan = Plan::new(args, globals)?;
    parent::run(plan)
}

impl Plan {
    fn new(args: &RunArgs, globals: &Globals) -> Result<Plan, Failure> {
        if globals.json {
            return Err(Failure::usage(
                "run has no --json, since stdout is the command's",
                "use --status-file FILE",
            ));
        }
        let store = Store::new(globals)?;
        let key = store.key(&args.name)?;
        let wait = match (args.no_wait, args.wait) {
            (true, _) | (_, Some(Duration::ZERO)) => Wait::No,
            (_, Some(wait)) => Wait::For(wait),
            _ => Wait::Forever,
        };
        let grace = args.grace.unwrap_or_else(|| GRACE.min(args.ttl / 3));
        if grace > args.ttl / 2 {
            return Err(Failure::usage(
                format!("a grace of {grace:?} is more than half of the ttl of {:?}", args.ttl),
                "give a shorter --grace or a longer --ttl",
            ));
        }
        let typed = args.command.first().map(|c| c.to_string_lossy().into_owned()).unwrap_or_default();
        let program =
            Path::new(&typed).file_name().map_or_else(|| typed.clone(), |n| n.to_string_lossy().into_owned());
        Ok(Plan {
            store,
            key,
            command: args.command.clone(),
            program,
            wait,
            conflict: args.conflict_exit_code.unwrap_or(BUSY),
            ttl: args.ttl,
            grace,
            reason: args.reason.clone().unwrap_or_else(|| shortened(typed, REASON_MAX)),
            status: args.status_file.as_deref().map(StatusFile::open).transpose()?,
            held: std::env::var("TENURE_HELD").unwrap_or_default(),
            notes: !globals.quiet && std::io::stderr().is_terminal(),
            quiet: globals.quiet,
            verbose: globals.verbose > 0,
        })
    }
}
