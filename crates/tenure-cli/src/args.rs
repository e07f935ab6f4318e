//! The command line.

mod handle;
mod run;
mod wrong;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint};
use tenure::Token;
use tenure_lab::cli::{BenchArgs, LabArgs};

use crate::exit::Failure;
use crate::fence::FenceArgs;

pub(crate) use handle::{AcquireArgs, HandleArg, ReleaseArgs, RenewArgs};
pub(crate) use run::{ElectArgs, How, OnceArgs, RunArgs, Words};

/// Run commands under a lock, and see who holds which lock.
///
/// Waiters are served in order of arrival, and each grant has a fencing token that is greater than the last. Works on one
/// machine without a server, and on many machines with a store that you already run.
#[derive(Debug, Parser)]
#[command(
    name = "tenure",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    before_help = "Examples:\n  tenure run nightly-report -- ./report.sh\n  tenure ls",
    after_help = "Exit codes: 0 done; 64 wrong usage; 69 the store cannot be reached; 75 busy; 77 denied; 78 bad URL or \
                  configuration; 80 the lock was lost while the command ran; 81 a fence refused the token. Other codes are those of the \
                  command that was run."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every subcommand.
#[derive(Args, Clone, Debug)]
pub(crate) struct Globals {
    // No doc comment: rustdoc would take the brackets for links.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        value_hint = ValueHint::Url,
        help_heading = "Global options",
        help = "The store: host:, host:///dir, redis://[USER@]HOST[:PORT][/DB], rediss://, redis+setnx://, \
                redlock://A,B,C \
                [env: TENURE_URL] [default: host:]"
    )]
    pub(crate) url: Option<String>,
    /// The namespace of the locks [env: TENURE_NAMESPACE] [default: default]
    #[arg(long, global = true, value_name = "NS", help_heading = "Global options")]
    pub(crate) namespace: Option<String>,
    /// Print one JSON object per line on stdout
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Print only errors on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// Print the causes of errors as well
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<RunArgs>),
    Once(Box<OnceArgs>),
    Elect(Box<ElectArgs>),
    Acquire(AcquireArgs),
    Renew(RenewArgs),
    Release(ReleaseArgs),
    Ls(PrefixArgs),
    Show(NameArgs),
    Watch(WatchArgs),
    Break(BreakArgs),
    Fence(FenceArgs),
    /// Test stores and locks: under load, under faults, and against the contract
    #[command(
        before_help = "Examples:\n  tenure lab flash-sale\n  tenure lab chaos --url host: --secs 20\n  tenure lab conform --url host:\n  tenure lab list"
    )]
    Lab(LabArgs),
    /// Measure the speed of a store
    #[command(
        before_help = "Examples:\n  tenure bench --workload solo\n  tenure bench --workload storm --tasks 100 --json"
    )]
    Bench(BenchArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// List the locks that are held or waited for
///
/// Prints one line for each holder. On a terminal the table fits the window. A slot of `tenure once` is listed as NAME/@LABEL
/// while the store keeps the record of its run; the reason tells how the run ended.
#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  tenure ls\n  tenure ls orders --json")]
pub(crate) struct PrefixArgs {
    #[command(flatten)]
    pub(crate) list: Listed,
}

impl Listed {
    /// One namespace or all of them.
    ///
    /// # Errors
    /// Both are asked for.
    fn settle(&self, globals: &Globals) -> Result<(), Failure> {
        // clap does not see the conflict if the global option stands before the subcommand.
        if self.all_namespaces && globals.namespace.is_some() {
            let what = "--all-namespaces cannot be used together with --namespace";
            return Err(Failure::usage(what, "leave one of them out"));
        }
        Ok(())
    }
}

/// Which locks are listed, and how.
#[derive(Args, Debug)]
pub(crate) struct Listed {
    /// List only this name and the names below it: `orders` matches orders/42, not orders2
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// List the locks of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Do not cut the table to fit the terminal
    #[arg(long)]
    pub(crate) wide: bool,
}

/// Show one lock: its holders, and everyone who waits for it
#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  tenure show orders/42\n  tenure show --json orders/42")]
pub(crate) struct NameArgs {
    /// The name of the lock
    pub(crate) name: String,
}

/// Watch locks as they change
///
/// Redraws the table on a terminal. Otherwise it prints each change, with --json as one object per line: `present` for each
/// lock at the start, then `changed` and `free`.
#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  tenure watch\n  tenure watch orders --json")]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) list: Listed,
}

/// Take a lock away from its holder
///
/// Removes the hold and grants the lock to the next waiter, with a greater token. The evicted holder is notified at its next
/// renewal at the latest; `tenure run` then stops its command. If a lock has several holders (readers, or permits of a
/// semaphore), all of them are evicted; with --token, those that have this token.
///
/// A resource that checks tokens refuses the evicted holder from the next holder's first access. `tenure fence raise` refuses
/// it at once.
#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  tenure break orders/42\n  \
                   tenure break --yes --token 1795168537675201 --reason 'stuck since 3 am' orders/42")]
pub(crate) struct BreakArgs {
    /// The name of the lock
    pub(crate) name: String,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Evict only the holder with this fencing token; exit with 75 if it no longer holds the lock
    #[arg(long, value_name = "T")]
    pub(crate) token: Option<Token>,
    /// Reason shown in listings and to the evicted holder
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
}

/// Print a completion script for your shell
///
/// The script completes subcommands, options, and the names of locks that are held or waited for.
#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  tenure completions bash > ~/.local/share/bash-completion/completions/tenure\n  \
                   tenure completions fish > ~/.config/fish/completions/tenure.fish"
)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    pub(crate) shell: String,
}

/// Print the manual page, as roff
#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  tenure man | man -l -\n  tenure man > ~/.local/share/man/man1/tenure.1"
)]
pub(crate) struct ManArgs {}

/// What the command line asks for.
pub(crate) enum Parsed {
    /// A subcommand.
    Run(Box<Cli>),
    /// A text for stdout: help or the version.
    Text(String),
    /// Help for stderr, since a subcommand or an argument is missing.
    Help(String),
}

/// Parses the command line.
///
/// # Errors
/// Wrong usage, with a guess where there is one.
pub(crate) fn parse(argv: &[OsString]) -> Result<Parsed, Failure> {
    let mut definition = definition();
    let parsed = definition.try_get_matches_from_mut(argv);
    let mut cli = match parsed.and_then(|m| Cli::from_arg_matches(&m)) {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return Ok(Parsed::Help(styled(&error, &std::io::stderr())));
        }
        Err(error) if error.use_stderr() => {
            return Err(wrong::usage(argv, &error));
        }
        Err(error) => return Ok(Parsed::Text(styled(&error, &std::io::stdout()))),
    };
    match &mut cli.command {
        Command::Run(args) => args.words.settle("run")?,
        Command::Once(args) => args.words.settle("once")?,
        Command::Elect(args) => args.words.settle("elect")?,
        Command::Ls(PrefixArgs { list }) | Command::Watch(WatchArgs { list }) => list.settle(&cli.globals)?,
        _ => {}
    }
    Ok(Parsed::Run(Box::new(cli)))
}

/// Help, with colours where it goes to a terminal that wants them.
fn styled(error: &clap::Error, to: &impl std::io::IsTerminal) -> String {
    let text = error.render();
    let text = if crate::out::colour(to) { text.ansi().to_string() } else { text.to_string() };
    format!("{}\n", text.trim_end())
}

/// The definition of the command line, for completions and the manual.
pub(crate) fn definition() -> clap::Command {
    // Arguments that these share with run, and that mean something else there.
    fn help(arg: clap::Arg, of: &str, text: &'static str) -> clap::Arg {
        if arg.get_id() == of { arg.help(text) } else { arg }
    }
    Cli::command()
        .mut_subcommand("once", |once| {
            let wait = "Wait at most this long for a run that is in progress [default: do not wait]";
            once.mut_args(|arg| help(help(arg, "names", "The name of the job"), "wait", wait))
        })
        .mut_subcommand("elect", |elect| elect.mut_args(|arg| help(arg, "names", "The name of the election")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::USAGE;

    fn run(args: &[&str]) -> Result<(String, Vec<OsString>), Failure> {
        let argv: Vec<OsString> = ["tenure", "run"].iter().chain(args).map(Into::into).collect();
        match parse(&argv)? {
            Parsed::Run(cli) => match cli.command {
                Command::Run(run) => Ok((run.words.names.join("+"), run.words.command)),
                other => unreachable!("{other:?}"),
            },
            Parsed::Text(text) | Parsed::Help(text) => unreachable!("{text}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn the_command_stands_behind_dashes() {
        let command = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        for args in [
            &["x", "--", "a", "-n"][..],
            &["--wait", "1s", "x", "--", "a", "-n"],
            &["x", "-n", "--", "a", "-n"],
        ] {
            assert_eq!(run(args), Ok(("x".into(), command(&["a", "-n"]))), "{args:?}");
        }
        assert_eq!(run(&["--", "-rf", "--", "a", "b"]), Ok(("-rf".into(), command(&["a", "b"]))));
        assert_eq!(
            run(&["--", "--help", "x", "--", "a", "--"]),
            Ok(("--help+x".into(), command(&["a", "--"])))
        );
        assert_eq!(run(&["x", "--", "a", "--", "b"]), Ok(("x".into(), command(&["a", "--", "b"]))));
        assert_eq!(run(&["x", "-n", "y", "--", "b"]), Ok(("x+y".into(), command(&["b"]))));
        for args in [
            &["x"][..],
            &["x", "a"],
            &["x", "--"],
            &["x", "a", "-c"],
            &["--", "x", "--"],
            &["--", "sudo", "echo", "x"],
            &["--", "sudo", "--", "echo", "x"],
            &["-n", "--", "sudo", "echo"],
            &["--", "-rf", "a"],
            &["--", "--", "a"],
            &["--", "-rf", "--"],
            &["x", "-rf", "--", "a"],
        ] {
            assert_eq!(run(args).map_err(|f| f.code), Err(USAGE), "{args:?}");
        }
    }

    #[test]
    fn mistyped_words_get_a_guess() {
        for (words, guess) in
            [(&["tenure", "shwo", "x"][..], "show"), (&["tenure", "ls", "--jsno"], "--json")]
        {
            let argv: Vec<OsString> = words.iter().map(Into::into).collect();
            let Err(failure) = parse(&argv) else { unreachable!("taken") };
            assert_eq!(failure.code, USAGE);
            assert!(
                failure.text(false).contains(&format!("id you mean {guess}?")),
                "{}",
                failure.text(false)
            );
        }
    }
}
