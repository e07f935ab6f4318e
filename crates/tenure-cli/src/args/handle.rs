//! The command lines of `acquire`, `renew` and `release`: a lock across the commands of a shell.

use std::time::Duration;

use clap::Args;

use super::run::Patience;
use crate::duration;

/// Take a lock and print its handle
///
/// For a lock that spans several commands of a shell, where `tenure run` does not fit. Nobody renews the lock: it ends --ttl
/// after it was taken or renewed, also while the script still works, and nothing stops the script then. So prefer `tenure
/// run`, which does both.
///
/// The handle is a secret: whoever has it can renew and release the lock. Keep it in a variable that is not exported, and
/// hand it on by stdin or by TENURE_HANDLE rather than as an argument, which everybody on the machine can see.
///
/// A script that is killed leaves the lock behind until its lease ends: `trap` the release.
#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  tenure acquire --ttl 10m --wait 1m deploy > handle\n  \
                         tenure acquire deploy --json | jq .token")]
pub(crate) struct AcquireArgs {
    /// The lock's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) patience: Patience,
    /// The lease: the lock ends so long after it was taken or renewed
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "5m")]
    pub(crate) ttl: Duration,
    /// Reason shown in listings
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
}

/// Renew a lock that `tenure acquire` took
///
/// The lease begins anew. Exit code 80: there is nothing to renew any more, since the lease was over, the lock was released
/// or somebody took it away; then what the lock protects may already be somebody else's.
#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  tenure renew < handle\n  tenure renew --json < handle")]
pub(crate) struct RenewArgs {
    #[command(flatten)]
    pub(crate) handle: HandleArg,
}

/// Give back a lock that `tenure acquire` took
///
/// The handle is used up by that. Exit code 80: the lock was no longer held by it.
#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  tenure release < handle\n  \
                         tenure release - < handle")]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    pub(crate) handle: HandleArg,
}

/// Which handle.
#[derive(Args)]
pub(crate) struct HandleArg {
    /// The handle that acquire printed; - is stdin [env: TENURE_HANDLE] [default: stdin]
    #[arg(value_name = "HANDLE")]
    pub(crate) text: Option<String>,
}

/// A handle is a secret.
impl std::fmt::Debug for HandleArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandleArg").finish_non_exhaustive()
    }
}
