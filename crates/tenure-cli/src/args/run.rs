//! The command lines of `run`, `once` and `elect`: a command under a lock.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use tenure_lab::duration;

use crate::exit::{BUSY, Failure};

/// Which lock, or locks, and which command.
#[derive(Args, Debug)]
pub(crate) struct Words {
    /// The name of the lock; several names are acquired together
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

/// How long to wait, and what it means that the lock was not to be had.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Wait at most this long in line [default: forever]
    #[arg(short, long, value_name = "DUR", value_parser = duration::parse, conflicts_with = "no_wait")]
    wait: Option<Duration>,
    /// Do not wait: exit with 75 if the lock is not free
    #[arg(short, long)]
    no_wait: bool,
    /// Exit code to use instead of 75
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
    /// The lease: the lock expires this long after its last renewal. It is renewed while the command runs
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "30s")]
    pub(crate) ttl: Duration,
    /// Time between SIGTERM and SIGKILL if the lock is lost [default: a third of the ttl, at most 10s]
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) grace: Option<Duration>,
    /// Release when the command itself ends: what it leaves in the background runs on without the lock
    #[arg(short = 'o', long)]
    pub(crate) close: bool,
    /// Write the outcome as a JSON object to this file, if the lock was acquired
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) status_file: Option<PathBuf>,
}

/// Run a command while holding a lock
///
/// Waits in line for the lock, runs the command, and releases the lock when the command and all its descendants have ended.
/// Exits with the status of the command (128+n if signal n killed it). stdin, stdout, stderr, the terminal and signals
/// belong to the command. Its environment has TENURE_LOCK, TENURE_TOKEN, TENURE_DOMAIN, TENURE_PREVIOUS (how the previous hold
/// ended: released, expired, evicted or unknown), TENURE_URL, TENURE_NAMESPACE and TENURE_HELD.
///
/// Several names are acquired together, all or none. Every command acquires them in the same order, so two commands never
/// wait for each other. TENURE_LOCK, TENURE_TOKEN and TENURE_PREVIOUS then have one line for each name, in the order of the command line;
/// TENURE_TOKEN_1, TENURE_TOKEN_2 and so on have one token each.
///
/// If the lock is lost, because it could not be renewed or because an operator broke it, the command and all its descendants
/// get SIGTERM, and SIGKILL before the lock can be granted to another holder. The exit code is then 80. The same happens if
/// `tenure run` itself is killed. Processes that the command leaves in the background keep the lock until they end, as with
/// flock(1), although `tenure run` exits with the command.
///
/// A small guardian process between `tenure run` and the command does all this. If the guardian itself is killed by SIGKILL,
/// or is stopped for longer than the ttl, the hold ends: at once on host:, otherwise when the lease expires. `tenure run`,
/// if it is alive, then kills the command and its descendants.
///
/// A service manager sees `tenure run` as the main process. Messages of the command to NOTIFY_SOCKET (systemd's Type=notify) are
/// forwarded in its name, and LISTEN_PID and WATCHDOG_PID name the command. There is no --no-fork as in flock(1): a command
/// that replaces `tenure run` has no parent that could stop it if the lock is lost.
///
/// A name that begins with - stands between two --: `tenure run -- -name -- COMMAND`.
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
    /// Acquire the read side of a read-write lock, together with other readers
    #[arg(short, long, conflicts_with_all = ["exclusive", "permits"])]
    pub(crate) shared: bool,
    /// Acquire the write side of a read-write lock, alone
    #[arg(short = 'x', long, conflicts_with = "permits")]
    pub(crate) exclusive: bool,
    /// Acquire this many permits of a semaphore. Permits have no fencing token
    #[arg(long, value_name = "K", requires = "of")]
    pub(crate) permits: Option<u32>,
    /// The number of permits of the semaphore. While holders give different numbers, the least counts
    #[arg(long, value_name = "N", requires = "permits")]
    pub(crate) of: Option<u32>,
    /// If a parent of this command holds the lock, run under that hold
    #[arg(long)]
    pub(crate) reentrant: bool,
    /// Reason shown in listings [default: the name of the command]
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) how: How,
}

/// Run a scheduled job at most once per slot, on one of many machines
///
/// Put the same line into the crontab of every machine. One of them runs the job, as `tenure run` does, and exits with the
/// status of the command. If the slot was already run, here or elsewhere, nothing is run, a note on stderr says by whom, and
/// the exit code is 0. If another machine is running it, the exit code is 75 (or that of -E). With --wait, it waits for that
/// run to end, and takes over if that machine dies.
///
/// A run that exits with another status than 0 also counts as done, unless --retry-errors is given. If a machine dies before
/// the run ends, the next one that asks runs it again, unless --never-again is given. `tenure show NAME` lists the last runs.
///
/// The command sees the variables of `tenure run`, and the label of the slot in TENURE_SLOT. The lock is NAME/@LABEL.
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
    /// Run the job once for this label, for example a month or a version
    #[arg(long, value_name = "LABEL", group = "which")]
    pub(crate) slot: Option<String>,
    /// Run the job once in each period of this length, by the clock of this machine
    #[arg(long, value_name = "DUR", value_parser = duration::parse, group = "which")]
    pub(crate) every: Option<Duration>,
    /// When each period starts, counted from 1970-01-01T00:00Z: 3h with --every 1d means 03:00 UTC [default: 0s]
    #[arg(long, value_name = "DUR", value_parser = duration::parse, conflicts_with = "slot")]
    pub(crate) at: Option<Duration>,
    /// Keep the slot for at least this long after the job starts, even if the job ends earlier
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "0s", hide_default_value = true)]
    pub(crate) at_least: Duration,
    /// Never run a slot twice, even if the machine that ran it died
    #[arg(long, conflicts_with = "retry_errors")]
    pub(crate) never_again: bool,
    /// If the command fails, let the next machine that asks run the slot again
    #[arg(long)]
    pub(crate) retry_errors: bool,
    #[command(flatten)]
    pub(crate) how: How,
}

/// Run a command while this machine leads
///
/// Waits until no other candidate leads, then runs the command as `tenure run` does. If the leadership is lost, the command is
/// stopped and the exit code is 80. Let a supervisor restart `tenure elect` to become a candidate again.
///
/// Programs take part in the same election through the library's `Election`, under the same name.
#[derive(Args, Debug)]
#[command(
    override_usage = "tenure elect [OPTIONS] NAME -- COMMAND [ARG...]",
    before_help = "Examples:\n  tenure elect billing -- ./scheduler\n  \
                   tenure elect billing --value 10.0.0.5:8080 -- ./scheduler"
)]
pub(crate) struct ElectArgs {
    #[command(flatten)]
    pub(crate) words: Words,
    /// What others see of the leader, for example its address; at most 256 bytes [default: the name of this host]
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
                "give one: only run takes several, and not with --shared, --exclusive or --permits",
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
