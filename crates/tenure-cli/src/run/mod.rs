//! `tenure run`, `once` and `elect`: a command under a lock.
//!
//! Three processes. *tenure run* is the shell's child: it forwards signals and exits with the command's status. Its
//! child, the *guardian*, holds the lock: it renews, waits for all descendants of the command, and stops them all when
//! the lock is lost or *tenure run* dies. The guardian's child is the *command*, in the process group of *tenure run*, so
//! the terminal treats it as if the others were not there.
//!
//! The guardian leads a session of its own. A signal to the group (`kill -9 -PGID`, `kill -STOP %1`, Ctrl-C) never hits
//! it, so it can always clean up. The kernel judges the caller's process group as it would without us: a parent in another
//! session does not count when a group becomes orphaned, so only *tenure run*, which the caller started, counts. The
//! command stays in the caller's session because it is forked before the guardian leaves (see `launcher`).
//!
//! A signal to the group reaches the command by itself, one to *tenure run* does not. A fourth process, the *witness*, is
//! how they are told apart (see `echo`).

mod acquire;
mod bell;
mod datagram;
mod descendants;
mod echo;
mod ended;
mod env;
mod guardian;
mod hold;
mod launcher;
mod notify;
mod parent;
mod start;
mod status;
mod supervise;
mod sys;
mod wire;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use tenure::{Key, Locks, Owner, Slot};

use crate::args::{ElectArgs, Globals, How, OnceArgs, RunArgs, Words};
use crate::exit::Failure;
use crate::store::Store;
use crate::who::shortened;
use env::Held;
use hold::Ask;
use status::StatusFile;
pub(crate) use sys::Endings;

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
    /// As the command line names them.
    keys: Vec<Key>,
    ask: Ask,
    /// A lock that a parent holds is not taken again.
    reentrant: bool,
    command: Vec<OsString>,
    /// The command's name, as listings show it.
    program: String,
    wait: Wait,
    /// The exit code for "busy".
    conflict: u8,
    ttl: Duration,
    grace: Duration,
    /// The hold ends with the command itself.
    close: bool,
    reason: String,
    status: Option<StatusFile>,
    /// What parents hold, as the environment says.
    held: Vec<Held>,
    /// Whether notes about the waiting go to a terminal: then they follow what happens.
    notes: bool,
    /// Where the command sends its messages to a service manager.
    notify: Option<OsString>,
    quiet: bool,
    verbose: bool,
}

/// Which of the subcommands.
#[derive(Clone, Copy)]
pub(crate) enum Job<'a> {
    Run(&'a RunArgs),
    Once(&'a OnceArgs),
    Elect(&'a ElectArgs),
}

/// Runs the command under the lock; returns the exit code.
///
/// # Errors
/// Wrong usage, or this process cannot be forked. What the guardian meets comes back as an exit code, already reported.
pub(crate) fn run(job: Job<'_>, globals: &Globals) -> Result<u8, Failure> {
    if globals.json {
        let name = match job {
            Job::Run(_) => "run",
            Job::Once(_) => "once",
            Job::Elect(_) => "elect",
        };
        return Err(Failure::usage(
            format!("{name} has no --json, because stdout belongs to the command"),
            "use --status-file FILE",
        ));
    }
    let plan = match job {
        Job::Run(args) => {
            let ask = asked(args)?;
            let mut plan = Plan::new(&args.words, &args.how, ask, globals)?;
            plan.reentrant = args.reentrant;
            if let Some(reason) = &args.reason {
                plan.reason.clone_from(reason);
            }
            plan
        }
        Job::Once(args) => once(args, globals)?,
        Job::Elect(args) => {
            args.words.name()?;
            if let Some(value) = args.value.as_ref().filter(|value| value.len() > REASON_MAX) {
                let what = format!("--value is {} bytes long", value.len());
                return Err(Failure::usage(what, format!("use at most {REASON_MAX}")));
            }
            // An election is a mutex whose reason is the value.
            let mut plan = Plan::new(&args.words, &args.how, Ask::Mutex, globals)?;
            plan.reason = args.value.clone().unwrap_or_else(|| Owner::this_process().host);
            plan
        }
    };
    parent::run(plan)
}

/// Whether this process runs under that lock: the environment says so, and the store confirms it.
///
/// # Errors
/// Whatever the store answers.
pub(crate) fn is_held_by_a_parent(locks: &Locks, key: &Key) -> tenure::Result<bool> {
    Ok(env::blocking_confirmed(&held_by_parents(), locks, key)?.is_some())
}

fn held_by_parents() -> Vec<Held> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    env::read(&variable("TENURE_HELD"), &variable("TENURE_HELD_AS"))
}

/// What `run` asks for.
fn asked(args: &RunArgs) -> Result<Ask, Failure> {
    let ask = match (args.shared, args.exclusive, args.permits, args.of) {
        (true, ..) => Ask::Read,
        (_, true, ..) => Ask::Write,
        (_, _, Some(permits), Some(of)) => Ask::Permits { permits, of },
        _ => return Ok(Ask::Mutex),
    };
    args.words.name()?;
    Ok(ask)
}

fn once(args: &OnceArgs, globals: &Globals) -> Result<Plan, Failure> {
    let name = args.words.name()?;
    let slot = match (&args.slot, args.every) {
        (Some(label), _) => Slot::named(label),
        (None, every) => Slot::every(every.unwrap_or_default(), args.at.unwrap_or_default()),
    };
    let OnceArgs { at_least, never_again, retry_errors, .. } = *args;
    let job = hold::Job { slot, at_least, never_again, retry_errors };
    let mut plan = Plan::new(&args.words, &args.how, Ask::Once(job), globals)?;
    // What lies below the name is the library's.
    plan.store.key(&format!("{name}/@any"))?;
    if plan.wait == Wait::Forever {
        plan.wait = Wait::No;
    }
    Ok(plan)
}

impl Plan {
    fn new(words: &Words, how: &How, ask: Ask, globals: &Globals) -> Result<Plan, Failure> {
        let store = Store::new(globals)?;
        let keys = words.names.iter().map(|name| store.key(name)).collect::<Result<Vec<Key>, _>>()?;
        let wait = match how.patience.most() {
            Some(Duration::ZERO) => Wait::No,
            Some(wait) => Wait::For(wait),
            None => Wait::Forever,
        };
        let grace = how.grace.unwrap_or_else(|| GRACE.min(how.ttl / 3));
        if grace > how.ttl / 2 {
            return Err(Failure::usage(
                format!("--grace {grace:?} is more than half of --ttl {:?}", how.ttl),
                "give a shorter --grace or a longer --ttl",
            ));
        }
        let typed = words.command.first().map(|c| c.to_string_lossy().into_owned()).unwrap_or_default();
        let program =
            Path::new(&typed).file_name().map_or_else(|| typed.clone(), |n| n.to_string_lossy().into_owned());
        Ok(Plan {
            store,
            keys,
            ask,
            reentrant: false,
            command: words.command.clone(),
            program,
            wait,
            conflict: how.patience.conflict(),
            ttl: how.ttl,
            grace,
            close: how.close,
            reason: shortened(typed, REASON_MAX),
            status: how.status_file.as_deref().map(StatusFile::open).transpose()?,
            held: held_by_parents(),
            notes: !globals.quiet && std::io::stderr().is_terminal(),
            notify: None,
            quiet: globals.quiet,
            verbose: globals.verbose > 0,
        })
    }

    /// The names, for a message.
    fn named(&self) -> String {
        let names: Vec<String> = self.keys.iter().take(3).map(Key::to_string).collect();
        match self.keys.len() {
            n if n > 3 => format!("{} and {} more", names.join(", "), n - 3),
            _ => names.join(", "),
        }
    }
}
