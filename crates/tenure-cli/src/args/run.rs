//! The command lines of `run`, `once` and `elect`: a command under a lock.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};

use crate::duration;
use crate::exit::{BUSY, Failure};

/// Which lock, or locks, and which command.
#[derive(Args, Debug)]
pub(crate) struct Words {
    /// The lock's name; of several, all are taken together
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

/// How long to wait, and what it means that the lock was not to be had.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Wait this long at most [default: for ever]
    #[arg(short, long, value_name = "DUR", value_parser = duration::parse, conflicts_with = "no_wait")]
    wait: Option<Duration>,
    /// Do not wait: exit if the lock is not free
    #[arg(short, long)]
    no_wait: bool,
    /// Exit code if the lock was not acquired in time [default: 75]
    #[arg(short = 'E', long, value_name = "N")]
    conflict_exit_code: Option<u8>,
}

impl Patience {
    /// The longest wait, which may be none at all; `None`: for ever.
    pub(crate) fn most(self) -> Option<Duration> {
        if self.no_wait { Some(Duration::ZERO) } else { self.wait }
    }

    /// The exit code if the lock was not acquired.
    pub(crate) fn conflict(self) -> u8 {
        self.conflict_exit_code.unwrap_or(BUSY)
    }
}

/// How long to wait and to hold.
#[derive(Args, Clone, Debug)]
pub(crate) struct How {
    #[command(flatten)]
    pub(crate) patience: Patience,
    /// The lease: how long the lock outlives its last renewal
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "30s")]
    pub(crate) ttl: Duration,
    /// Time between SIGTERM and SIGKILL when the lock is lost [default: the smaller of 10s and a third of the ttl]
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) grace: Option<Duration>,
    /// Write a JSON object about the outcome to this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) status_file: Option<PathBuf>,
}

/// Run a command while holding a lock
///
/// Waits in line for the lock, runs the command, releases the lock when the command and everything that it started has
/// ended, and exits with the command's status (128+n if signal n killed it). stdin, stdout, stderr, the terminal and
/// signals belong to the command. It sees TENURE_LOCK, TENURE_TOKEN, TENURE_DOMAIN, TENURE_URL, TENURE_NAMESPACE and
/// TENURE_HELD.
///
/// Several names are taken together, all or nothing, in one order everywhere, so that two such commands never wait for each
/// other. TENURE_LOCK and TENURE_TOKEN then have a line for each name, in the order of the command line, and the tokens are
/// also in TENURE_TOKEN_1, TENURE_TOKEN_2 and so on.
///
/// If the lock cannot be renewed, or somebody takes it away, the command and all its descendants get SIGTERM, and
/// SIGKILL before the lock can be granted to anybody else; the exit code is then 80. The same happens when `tenure run`
/// itself is killed. What the command leaves running in the background keeps the lock until it has ended, although
/// `tenure run` exits with the command, as with flock(1).
///
/// A small guardian process stands between `tenure run` and the command and does all this. Should the guardian itself
/// be killed by SIGKILL, or be stopped for longer than the ttl, it can protect nothing: the hold ends at once (host:)
/// or with its lease, and `tenure run`, if it lives, kills the command and its descendants.
#[derive(Args, Debug)]
#[command(
    override_usage = "tenure run [OPTIONS] NAME... -- COMMAND [ARG...]",
    before_help = "Examples:\n  tenure run nightly-report -- ./report.sh\n  \
                   tenure run --wait 30s -E 0 orders/42 -- sh -c 'charge --fence \"$TENURE_TOKEN\"'\n  \
                   tenure run --shared config -- ./read.sh; tenure run --exclusive config -- ./write.sh\n  \
                   tenure run --permits 1 --of 4 render -- ./render.sh\n  \
                   tenure run account/3 account/7 -- ./transfer.sh"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) words: Words,
    /// Together with others that share it: the reading side of a read-write lock
    #[arg(short, long, conflicts_with_all = ["exclusive", "permits"])]
    pub(crate) shared: bool,
    /// Alone, where others take it with --shared: the writing side of a read-write lock
    #[arg(short = 'x', long, conflicts_with = "permits")]
    pub(crate) exclusive: bool,
    /// So many permits of a semaphore; without a token
    #[arg(long, value_name = "K", requires = "of")]
    pub(crate) permits: Option<u32>,
    /// How many permits there are, the same for everybody who uses this name
    #[arg(long, value_name = "N", requires = "permits")]
    pub(crate) of: Option<u32>,
    /// A name that a parent of this command holds is not taken again: run under that hold
    #[arg(long)]
    pub(crate) reentrant: bool,
    /// Reason shown in listings [default: the command's name]
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) how: How,
}

/// Run a scheduled job at most once per slot, over all machines
///
/// Every machine asks for the same job at the same time, from cron for instance: one of them runs it, as `tenure run` does.
/// The exit code is the command's status. Where the slot was done before, here or elsewhere, nothing is run, a note on stderr
/// says who did it, and the exit code is 0. Where somebody else runs it just now, the exit code is 75 (or -E); with --wait
/// it waits for that run, and takes over if its machine dies.
///
/// A status other than 0 counts as done too, unless --retry-errors is given. A run whose machine died before it had finished
/// is run again by the next one who asks, unless --never-again is given. `tenure show NAME` lists the last runs.
///
/// The command sees what `tenure run` sets, and the slot's label in TENURE_SLOT. The lock is NAME/@LABEL.
#[derive(Args, Debug)]
#[command(
    group = clap::ArgGroup::new("which").required(true),
    override_usage = "tenure once [OPTIONS] <--slot LABEL|--every DUR> NAME -- COMMAND [ARG...]",
    before_help = "Examples:\n  tenure once report --every 1d --at 3h -- ./report.sh\n  \
                   tenure once invoices --slot 2026-11 --never-again -- ./invoices.sh"
)]
pub(crate) struct OnceArgs {
    #[command(flatten)]
    pub(crate) words: Words,
    /// The slot of this label: a month, a version
    #[arg(long, value_name = "LABEL", group = "which")]
    pub(crate) slot: Option<String>,
    /// The slot that this machine's clock is in, of slots of this length
    #[arg(long, value_name = "DUR", value_parser = duration::parse, group = "which")]
    pub(crate) every: Option<Duration>,
    /// When slots begin, counted from 1970-01-01T00:00Z: 3h with --every 1d is 03:00 UTC [default: 0s]
    #[arg(long, value_name = "DUR", value_parser = duration::parse, conflicts_with = "slot")]
    pub(crate) at: Option<Duration>,
    /// Keep others from the slot for at least this long after the job starts
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "0s", hide_default_value = true)]
    pub(crate) at_least: Duration,
    /// Never run a slot again that was begun, also if its machine died
    #[arg(long, conflicts_with = "retry_errors")]
    pub(crate) never_again: bool,
    /// Give the slot back when the command fails, so that the next one who asks runs it again
    #[arg(long)]
    pub(crate) retry_errors: bool,
    #[command(flatten)]
    pub(crate) how: How,
}

/// Run a command while this machine leads
///
/// Waits until nobody else leads, and runs the command as `tenure run` does. When the leadership is lost, the command is
/// stopped, and the exit code is 80: a supervisor that starts `tenure elect` again makes it a candidate again.
///
/// Candidates of other programs use the library's Election of the same name.
#[derive(Args, Debug)]
#[command(
    override_usage = "tenure elect [OPTIONS] NAME -- COMMAND [ARG...]",
    before_help = "Examples:\n  tenure elect billing -- ./scheduler\n  \
                   tenure elect billing --value 10.0.0.5:8080 -- ./scheduler"
)]
pub(crate) struct ElectArgs {
    #[command(flatten)]
    pub(crate) words: Words,
    /// What others are told of the leader, an address for instance; at most 256 bytes [default: this host's name]
    #[arg(long, value_name = "TEXT")]
    pub(crate) value: Option<String>,
    #[command(flatten)]
    pub(crate) how: How,
}

impl Words {
    /// Names stand before `--`, the command after it. A name that begins with `-` stands between two `--`.
    ///
    /// # Errors
    /// No name, no command, or a command without the dashes.
    pub(super) fn settle(&mut self, verb: &str) -> Result<(), Failure> {
        if self.names.is_empty() && !self.command.is_empty() {
            self.names = self.names_between_dashes(verb)?;
        }
        match (self.names.get(1), self.names.is_empty(), self.command.is_empty()) {
            (_, false, false) => Ok(()),
            (Some(second), _, true) => Err(without_dashes(verb, second)),
            (_, true, _) => Err(Failure::usage("the name of the lock is missing", usage(verb))),
            _ => Err(Failure::usage("there is no command to run", "put the command after --")),
        }
    }

    /// The names of `-- -NAME... -- COMMAND`. Anything else behind `--` is a command, and its first word no name: `run --
    /// sudo ls` must not run `ls` without sudo.
    fn names_between_dashes(&mut self, verb: &str) -> Result<Vec<String>, Failure> {
        let dashed = |word: &OsString| word.as_encoded_bytes().starts_with(b"-");
        let second = self.command.iter().position(|word| word == "--");
        let (Some(second @ 1..), true) = (second, self.command.first().is_some_and(dashed)) else {
            let shown: Vec<_> = self.command.iter().map(|word| word.to_string_lossy()).collect();
            let what = "the name of the lock is missing: everything after -- is the command";
            return Err(Failure::usage(
                what,
                format!("write it as: tenure {verb} NAME -- {}", shown.join(" ")),
            ));
        };
        let behind = self.command.split_off(second + 1);
        let names = std::mem::replace(&mut self.command, behind).into_iter().take(second);
        let utf8 = |name: OsString| {
            name.into_string()
                .map_err(|name| Failure::usage(format!("the name {name:?} is not UTF-8"), "use another name"))
        };
        names.map(utf8).collect()
    }

    /// The only name.
    ///
    /// # Errors
    /// There are more.
    pub(crate) fn name(&self) -> Result<&str, Failure> {
        match &self.names[..] {
            [name] => Ok(name),
            _ => Err(Failure::usage(
                format!("{} names are given", self.names.len()),
                "only run takes several, without --shared, --exclusive and --permits",
            )),
        }
    }
}

/// How such a command line is written.
fn usage(verb: &str) -> String {
    format!("write it as: tenure {verb} NAME [OPTIONS] -- COMMAND [ARG...]")
}

/// The command stands where names stand.
fn without_dashes(verb: &str, word: &str) -> Failure {
    Failure::usage(format!("there is no -- before the command {word:?}"), usage(verb))
}
