//! `tenure fence`: the check at a resource, for shell jobs. The fence is a file beside the resource.

use std::ffi::OsString;
use std::io::{IsTerminal, stderr, stdin};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, Subcommand, ValueHint};
use rustix::io::FdFlags;
use serde::Serialize;
use tenure::Token;
use tenure::fence::{CheckError, Domain, Entry, FenceFile, Reason, Refusal, Stamp};

use crate::args::Globals;
use crate::exit::{BUSY, CONFIG, Failure, NOT_EXECUTABLE, NOT_FOUND, REFUSED, USAGE};
use crate::out;
use crate::store::{Store, variable};
use crate::text::{escape, json_line};

/// Check a fencing token at a resource, for shell jobs
///
/// A lock cannot stop a job that was paused past its lease and then writes. The resource can: it refuses tokens lower than the
/// highest that it has seen. FILE, beside the resource, keeps that token and its domain, which is the store that gave it.
/// Check the token before every access, including reads: the first check registers it.
///
/// Exit codes: 81 the token is refused; 69 another process stays inside the fence for too long; 77 the file cannot be opened,
/// or is a link or a device; 78 the file is damaged or cannot exist.
#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  tenure run report -- sh -c 'tenure fence check report.fence && ./build-report'\n  \
                   tenure fence check report.fence -- mv report.new report.csv",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct FenceArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Check(CheckArgs),
    Raise(RaiseArgs),
    Show(ShowArgs),
    Reset(ResetArgs),
}

/// Register the token, or exit with 81
///
/// Under `tenure run`, the token and its domain come from the environment. A command after -- runs inside the fence: no higher
/// token is accepted until the command and all processes that it leaves have ended. Without a command, the token is only
/// checked.
#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  tenure fence check report.fence && ./build-report\n  \
                         tenure fence check report.fence -- mv report.new report.csv")]
struct CheckArgs {
    /// The fence: a file beside the resource. The first check creates it
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// The fencing token of the grant [env: TENURE_TOKEN]
    #[arg(long, value_name = "T")]
    token: Option<Token>,
    /// The domain of the token: the store that gave it [env: TENURE_DOMAIN]
    #[arg(long, value_name = "D")]
    domain: Option<Domain>,
    /// The command to run inside the fence
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

/// Refuse lower tokens from now on
///
/// Shuts out an evicted holder before the next holder arrives. Without --token, refuses the highest token seen and all lower
/// ones. Never accepts a token that was refused before.
#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  tenure break --yes report && tenure fence raise report.fence\n  \
                         tenure fence raise --token 1795168537675202 report.fence")]
struct RaiseArgs {
    /// The fence
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Refuse tokens lower than this [default: the highest seen, plus one]
    #[arg(long, value_name = "T")]
    token: Option<Token>,
    /// The domain of the token [default: that of the tokens seen]
    #[arg(long, value_name = "D")]
    domain: Option<Domain>,
}

/// Show the highest token seen, and its domain
#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  tenure fence show report.fence\n  tenure fence show --json report.fence"
)]
struct ShowArgs {
    /// The fence
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

/// Forget the tokens seen, to move a resource to another store
///
/// From now on, only tokens of the new store's domain are accepted; those of the old store are refused. Also replaces a
/// damaged file.
#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  TENURE_URL=redis://cache.internal tenure fence reset report.fence\n  \
                         tenure fence reset --yes --domain redis:cache.internal:6379/0 report.fence")]
struct ResetArgs {
    /// The fence
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// The domain of the new store's tokens [default: that of the store at --url]
    #[arg(long, value_name = "D")]
    domain: Option<Domain>,
    /// Refuse tokens lower than this
    #[arg(long, value_name = "T", default_value = "1")]
    token: Token,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Seen<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    admitted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    domain: Option<&'a str>,
    token: Option<i64>,
}

impl<'a> Seen<'a> {
    fn new(file: &'a str, seen: Option<&'a Stamp>) -> Seen<'a> {
        let domain = seen.map(|s| s.domain().as_str());
        Seen { file, admitted: None, reason: None, domain, token: seen.map(|s| s.token().get()) }
    }
}

/// Does it.
///
/// # Errors
/// Wrong usage, a token that is refused, a file that cannot be read or written.
pub(crate) fn run(args: &FenceArgs, globals: &Globals) -> Result<(), Failure> {
    match &args.verb {
        Verb::Check(args) => check(args, globals),
        Verb::Raise(args) => {
            let raised =
                FenceFile::new(&args.file).raise(args.domain.as_ref(), args.token).map_err(failure)?;
            tell(&args.file, &raised, globals, "lower tokens are refused")
        }
        Verb::Show(args) => show(args, globals),
        Verb::Reset(args) => reset(args, globals),
    }
}

fn check(args: &CheckArgs, globals: &Globals) -> Result<(), Failure> {
    if globals.json && !args.command.is_empty() {
        let what = "fence check has no --json with a command, because stdout belongs to the command";
        return Err(Failure::usage(what, "leave out --json"));
    }
    let token = given(args.token, "TENURE_TOKEN", "--token")?;
    let shown = Stamp::new(given(args.domain.clone(), "TENURE_DOMAIN", "--domain")?, token);
    let entered = FenceFile::new(&args.file).enter(&shown);
    if globals.json {
        let file = args.file.to_string_lossy();
        let seen = match &entered {
            Ok(_) => Seen { admitted: Some(true), ..Seen::new(&file, Some(&shown)) },
            Err(CheckError::Refused(why)) => refused(&file, why),
            Err(CheckError::Failed(_)) => Seen::new(&file, None),
        };
        if !matches!(entered, Err(CheckError::Failed(_))) {
            out::print(&json_line(&seen))?;
        }
    }
    let entry = entered.map_err(failure)?;
    match args.command.split_first() {
        None => Ok(()),
        Some((program, rest)) => Err(become_command(program, rest, &entry)),
    }
}

/// What the fence has seen, as far as the refusal tells.
fn refused<'a>(file: &'a str, why: &'a Refusal) -> Seen<'a> {
    let (domain, token, reason) = match why {
        Refusal::Stale { highest, .. } => (None, Some(highest.get()), "stale"),
        Refusal::OtherDomain { kept, .. } => (Some(kept.as_str()), None, "other-domain"),
    };
    Seen { file, admitted: Some(false), reason: Some(reason), domain, token }
}

/// Replaces this process by the command, which inherits the fence's lock: it lasts until the last that has it has ended.
fn become_command(program: &OsString, rest: &[OsString], entry: &Entry) -> Failure {
    let shown = program.to_string_lossy();
    if let Err(error) = rustix::io::fcntl_setfd(entry, FdFlags::empty()) {
        return Failure::new(CONFIG, "the fence cannot be handed to the command", "").because(&error);
    }
    let error = Command::new(program).args(rest).exec();
    let (code, advice) = match error.kind() {
        std::io::ErrorKind::NotFound => (NOT_FOUND, "check the name, and PATH"),
        _ => (NOT_EXECUTABLE, "check that it is a program and may be run"),
    };
    Failure::new(code, format!("{shown} cannot be run: {error}"), advice).because(&error)
}

fn show(args: &ShowArgs, globals: &Globals) -> Result<(), Failure> {
    let seen = FenceFile::new(&args.file).read().map_err(|e| Failure::from_library(&e, CONFIG))?;
    if globals.json {
        return out::print(&json_line(&Seen::new(&args.file.to_string_lossy(), seen.as_ref())));
    }
    out::print(&match seen {
        Some(seen) => format!("token {} of {}\n", seen.token(), seen.domain()),
        None => "no token seen\n".to_owned(),
    })
}

fn reset(args: &ResetArgs, globals: &Globals) -> Result<(), Failure> {
    let ask = !args.yes;
    if ask && !(stdin().is_terminal() && stderr().is_terminal()) {
        return Err(Failure::usage(
            "cannot ask for confirmation: not a terminal",
            "reset the fence with --yes",
        ));
    }
    let domain = match &args.domain {
        Some(domain) => domain.clone(),
        None => {
            let locks = Store::new(globals)?.open()?;
            locks.blocking_domain().map_err(|e| Failure::from_library(&e, CONFIG))?
        }
    };
    let to = Stamp::new(domain, args.token);
    let fence = FenceFile::new(&args.file);
    if ask {
        // A damaged one is what a reset is for.
        let seen = match fence.read() {
            Ok(Some(seen)) => format!("token {} of {}", seen.token(), seen.domain()),
            Ok(None) => "no token".to_owned(),
            Err(error) => error.to_string(),
        };
        let file = args.file.to_string_lossy();
        out::note(&format!("{} has seen {}.\n", escape(&file), escape(&seen)));
        out::note(&format!("Accept only tokens of {} from now on? [y/N] ", to.domain()));
        let mut answer = String::new();
        let unread = |e| Failure::usage("the answer cannot be read", "use --yes instead").because(&e);
        stdin().read_line(&mut answer).map_err(unread)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES") {
            return Err(Failure::new(BUSY, "nothing was changed", ""));
        }
    }
    fence.reset(&to).map_err(|e| Failure::from_library(&e, CONFIG))?;
    tell(&args.file, &to, globals, "only tokens of this store are accepted")
}

fn tell(file: &Path, now: &Stamp, globals: &Globals, what: &str) -> Result<(), Failure> {
    let file = file.to_string_lossy();
    if globals.json {
        return out::print(&json_line(&Seen::new(&file, Some(now))));
    }
    if !globals.quiet {
        let file = escape(&file);
        out::note(&format!("tenure: {file} is at token {} of {}: {what}.\n", now.token(), now.domain()));
    }
    Ok(())
}

/// What an option or a variable says.
fn given<T: std::str::FromStr<Err = tenure::Error>>(
    flag: Option<T>,
    name: &str,
    option: &str,
) -> Result<T, Failure> {
    if let Some(value) = flag {
        return Ok(value);
    }
    let missing = || {
        let what = format!("neither {option} nor {name} is given");
        Failure::usage(
            what,
            "run this under tenure run, which sets TENURE_TOKEN and TENURE_DOMAIN, or give both options",
        )
    };
    let text = variable(name)?.ok_or_else(missing)?;
    if text.contains('\n') {
        let what = format!("{name} has several lines, one for each lock");
        return Err(Failure::usage(
            what,
            "give the token of the lock that protects the resource: --token \"$TENURE_TOKEN_1\"",
        ));
    }
    text.parse().map_err(|e| Failure::from_library(&e, USAGE))
}

fn failure(error: CheckError) -> Failure {
    match error {
        CheckError::Failed(error) => Failure::from_library(&error, CONFIG),
        CheckError::Refused(why) => {
            let advice = match why.reason() {
                Reason::Stale => "another holder has the lock: stop the work",
                Reason::OtherDomain => {
                    "use one store for this resource, or move it to this one with: tenure fence reset"
                }
            };
            let what = match why {
                Refusal::Stale { shown, highest } => {
                    format!("token {shown} is stale: the resource has seen {highest}")
                }
                Refusal::OtherDomain { shown, kept } => {
                    format!("the token belongs to {shown}, but the resource has seen tokens of {kept}")
                }
            };
            Failure::new(REFUSED, what, advice)
        }
    }
}
