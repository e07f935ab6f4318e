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

/// Run commands under a lock, and see who holds what.
///
/// One lock, one line of waiters, one fencing token per grant; on one machine without any server, or over the store
/// that you already run.
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
                  configuration; 80 the lock was lost while the command ran; 81 the token was refused by a fence; otherwise the command's own."
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
        help = "The store: host:, host:///dir, redis://[USER@]HOST[:PORT][/DB], rediss://, redis+setnx:// \
                [env: TENURE_URL] [default: host:]"
    )]
    pub(crate) url: Option<String>,
    /// The namespace of the locks [env: TENURE_NAMESPACE] [default: default]
    #[arg(long, global = true, value_name = "NS", help_heading = "Global options")]
    pub(crate) namespace: Option<String>,
    /// One JSON object per line on stdout
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Only errors on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// Say more: the sources of errors
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
    /// Find out what locks cost and what they lose
    #[command(
        before_help = "Examples:\n  tenure lab flash-sale\n  tenure lab chaos --url host: --secs 20\n  tenure lab sim --runs 20000\n  tenure lab list"
    )]
    Lab(LabArgs),
    /// Measure a store with lock workloads
    #[command(
        before_help = "Examples:\n  tenure bench --workload solo\n  tenure bench --workload storm --tasks 100 --json"
    )]
    Bench(BenchArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// List the locks that are held or waited for
///
/// One line for each holder. A slot of `tenure once` is among them as NAME/@LABEL for as long as the store remembers its
/// run; the reason says what became of it.
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
    /// Only names below this prefix, by whole levels
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// The locks of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Do not cut the table to fit the terminal
    #[arg(long)]
    pub(crate) wide: bool,
}

/// Show one lock: who holds it and the whole line behind it
#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  tenure show orders/42\n  tenure show --json orders/42")]
pub(crate) struct NameArgs {
    /// The lock's name
    pub(crate) name: String,
}

/// Watch locks: redraws on a terminal, prints what changed otherwise
#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  tenure watch\n  tenure watch orders --json")]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) list: Listed,
}

/// Take a lock away from its holder
///
/// The hold is removed, the next grant's token is greater, and the next in line is granted. The broken holder learns it
/// at its next heartbeat at the latest; `tenure run` then stops its command. Of a lock with several holders (readers,
/// permits of a semaphore), all are removed; with --token, all that have that token.
///
/// A resource that checks tokens refuses it from the next holder's first access on; `tenure fence raise` shuts it out at
/// once.
#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  tenure break orders/42\n  \
                   tenure break --yes --token 1795168537675201 --reason 'stuck since 3 am' orders/42")]
pub(crate) struct BreakArgs {
    /// The lock's name
    pub(crate) name: String,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Only the grant with this fencing token; exit 75 if it no longer holds
    #[arg(long, value_name = "T")]
    pub(crate) token: Option<Token>,
    /// Why: kept with the lock, and told to the holder
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
}

/// Print a shell's completion script
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
            let wait = "Wait this long at most for a run that is under way [default: not at all]";
            once.mut_args(|arg| help(help(arg, "names", "The job's name"), "wait", wait))
        })
        .mut_subcommand("elect", |elect| elect.mut_args(|arg| help(arg, "names", "The election's name")))
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
