//! The command lines of `acquire`, `renew` and `release`: a lock across the commands of a shell.

use std::time::Duration;

use clap::Args;
use tenure_lab::duration;

use super::run::Patience;

/// Acquire a lock and print its handle
///
/// For a lock that spans several commands of a script. Prefer `tenure run` if you can: it renews the lock and stops the
/// command if the lock is lost. Here neither happens. The lock expires --ttl after it was acquired or last renewed, even if
/// the script is still working.
///
/// The handle is a secret: it is all that is needed to renew or release the lock. Keep it in a variable that is not exported.
/// Pass it by stdin or TENURE_HANDLE, not as an argument, which every user of the machine can see.
///
/// If the script is killed, the lock stays until it expires. Release it in a `trap`.
#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  tenure acquire --ttl 10m --wait 1m deploy > handle\n  \
                         tenure acquire deploy --json | jq .token")]
pub(crate) struct AcquireArgs {
    /// The name of the lock
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) patience: Patience,
    /// The lease: the lock expires this long after it was acquired or last renewed
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "5m")]
    pub(crate) ttl: Duration,
    /// Reason shown in listings
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
}

/// Renew a lock that `tenure acquire` acquired
///
/// Restarts the lease. Exit code 80 means that the lock is no longer held: it expired, was released, or was broken by an
/// operator. Another holder may already have it.
#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  tenure renew < handle\n  tenure renew --json < handle")]
pub(crate) struct RenewArgs {
    #[command(flatten)]
    pub(crate) handle: HandleArg,
}

/// Release a lock that `tenure acquire` acquired
///
/// The handle cannot be used again. Exit code 80 means that the lock was no longer held.
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
    /// The handle that `tenure acquire` printed; - reads it from stdin [env: TENURE_HANDLE] [default: stdin]
    #[arg(value_name = "HANDLE")]
    pub(crate) text: Option<String>,
}

/// A handle is a secret.
impl std::fmt::Debug for HandleArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandleArg").finish_non_exhaustive()
    }
}
