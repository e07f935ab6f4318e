//! Wrong usage, in the form of every failure: what is wrong, what to do.

use std::error::Error as _;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use tenure::url::closest;

use crate::exit::Failure;

/// What is wrong with the command line, with a guess where there is one.
pub(super) fn usage(argv: &[OsString], error: &clap::Error) -> Failure {
    let told = match error.kind() {
        ErrorKind::InvalidSubcommand => unknown_subcommand(argv, error),
        ErrorKind::UnknownArgument => unknown_argument(argv, error),
        ErrorKind::ValueValidation => bad_value(error),
        ErrorKind::InvalidValue => no_such_value(error),
        ErrorKind::MissingRequiredArgument => missing(error),
        ErrorKind::ArgumentConflict => conflict(error),
        ErrorKind::InvalidUtf8 => Some(Failure::usage(
            "an argument is not UTF-8",
            "write names, reasons and URLs in UTF-8; only the command after -- may have other bytes",
        )),
        _ => None,
    };
    told.unwrap_or_else(|| {
        let text = error.render().to_string();
        let first = text.lines().next().unwrap_or_default();
        Failure::usage(first.strip_prefix("error: ").unwrap_or(first), HELP)
    })
}

const HELP: &str = "see tenure --help";

/// The strings of that part of an error; none where it has no such part.
fn parts(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(all)) => all.clone(),
        _ => Vec::new(),
    }
}

fn part(error: &clap::Error, kind: ContextKind) -> Option<String> {
    parts(error, kind).into_iter().next()
}

/// An argument as people type it: `--wait` of `--wait <DUR>`, `NAME` of `<NAME>`.
fn typed(argument: &str) -> String {
    let option = argument.split(' ').next().unwrap_or(argument);
    let word = if option.starts_with('-') { option } else { argument };
    word.trim_end_matches("...").trim_matches(['<', '>', '[', ']']).to_owned()
}

/// The subcommand that the words name, as far as there are such subcommands.
fn subcommand(argv: &[OsString]) -> clap::Command {
    let mut at = super::definition();
    at.build();
    for word in argv.iter().skip(1).take_while(|word| *word != "--") {
        if let Some(below) = at.find_subcommand(word) {
            at = below.clone();
        }
    }
    at
}

/// `did you mean show? `, or nothing.
fn guess(word: &str, candidates: &[&str], before: &str) -> String {
    closest(word, candidates).map(|meant| format!("did you mean {before}{meant}? ")).unwrap_or_default()
}

fn unknown_subcommand(argv: &[OsString], error: &clap::Error) -> Option<Failure> {
    let word = part(error, ContextKind::InvalidSubcommand)?;
    let at = subcommand(argv);
    let known: Vec<&str> =
        at.get_subcommands().filter(|s| !s.is_hide_set()).map(clap::Command::get_name).collect();
    let guess = guess(&word, &known, "");
    let see = if guess.is_empty() { HELP } else { "See tenure --help" };
    Some(Failure::usage(format!("there is no subcommand {word:?}"), format!("{guess}{see}")))
}

fn unknown_argument(argv: &[OsString], error: &clap::Error) -> Option<Failure> {
    let word = part(error, ContextKind::InvalidArg)?;
    if !word.starts_with('-') {
        return Some(Failure::usage(format!("unexpected argument {word:?}"), HELP));
    }
    if word[1..].starts_with(|c: char| c.is_ascii_digit()) {
        let what = format!("{word:?} begins with a dash, but is not an option");
        return Some(Failure::usage(what, "give a number or a duration that is not negative"));
    }
    let what = format!("there is no option {word:?} here");
    if word == "--no-fork" || word == "-F" && argv.iter().any(|a| a == "run") {
        let advice = "leave it out: tenure must stay the command's parent to stop it if the lock is lost. Messages to \
                      NOTIFY_SOCKET and LISTEN_PID work without it";
        return Some(Failure::usage(what, advice));
    }
    let typed = word.trim_start_matches('-').split('=').next().unwrap_or_default();
    let at = subcommand(argv);
    let known: Vec<&str> = at.get_arguments().filter_map(clap::Arg::get_long).collect();
    let guess = if word.starts_with("--") { guess(typed, &known, "--") } else { String::new() };
    if !guess.is_empty() {
        return Some(Failure::usage(what, format!("{guess}See tenure --help")));
    }
    // An option that is the command's, since somebody forgot the dashes before it.
    let runs = argv.iter().any(|a| ["run", "once", "elect"].iter().any(|name| a == name));
    let forgotten = runs && argv.iter().all(|a| a != "--");
    Some(Failure::usage(what, if forgotten { "put the command after --" } else { HELP }))
}

/// A value that its parser refuses: the parsers of durations, tokens and domains say what to do after a semicolon.
fn bad_value(error: &clap::Error) -> Option<Failure> {
    let argument = typed(&part(error, ContextKind::InvalidArg)?);
    let value = part(error, ContextKind::InvalidValue).unwrap_or_default();
    let source = error.source()?;
    if source.is::<std::num::ParseIntError>() {
        return Some(Failure::usage(
            format!("{argument}: {value:?} is not a number in range"),
            "give a whole number",
        ));
    }
    let why = source.to_string();
    // The words of the parser for numbers with bounds.
    if let Some((least, most)) =
        why.strip_prefix(&format!("{value} is not in ")).and_then(|r| r.split_once("..="))
    {
        return Some(Failure::usage(
            format!("{argument}: {value} is out of range"),
            format!("give {least} to {most}"),
        ));
    }
    let (what, advice) = why.split_once("; ").unwrap_or((&why, HELP));
    let told = what.contains(&format!("{value:?}"));
    let whole = if told {
        format!("{argument}: {what}")
    } else {
        format!("{argument}: {value:?} is refused: {what}")
    };
    Some(Failure::usage(whole, advice))
}

fn no_such_value(error: &clap::Error) -> Option<Failure> {
    let argument = typed(&part(error, ContextKind::InvalidArg)?);
    let value = part(error, ContextKind::InvalidValue).unwrap_or_default();
    let known = parts(error, ContextKind::ValidValue);
    if value.is_empty() {
        return Some(Failure::usage(format!("{argument} has no value"), "give one"));
    }
    let guess = guess(&value, &known.iter().map(String::as_str).collect::<Vec<_>>(), "");
    let take = if guess.is_empty() { "give" } else { "Give" };
    let what = format!("{argument}: {value:?} is not possible");
    Some(Failure::usage(what, format!("{guess}{take} one of: {}", known.join(", "))))
}

fn missing(error: &clap::Error) -> Option<Failure> {
    let all: Vec<String> = parts(error, ContextKind::InvalidArg).iter().map(|a| missing_name(a)).collect();
    let verb = if all.len() == 1 { "is" } else { "are" };
    let what = format!("{} {verb} missing", all.join(", "));
    let advice = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => {
            let usage = usage.to_string();
            format!("write it as: {}", usage.trim().strip_prefix("Usage: ").unwrap_or(&usage))
        }
        _ => HELP.to_owned(),
    };
    Some(Failure::usage(what, advice))
}

/// One of a group is missing: `<--slot <LABEL>|--every <DUR>>`.
fn missing_name(argument: &str) -> String {
    let alternatives = argument.strip_prefix("<--").and_then(|rest| rest.strip_suffix('>'));
    alternatives.map_or_else(
        || typed(argument),
        |rest| format!("--{rest}").split('|').map(typed).collect::<Vec<_>>().join(" or "),
    )
}

fn conflict(error: &clap::Error) -> Option<Failure> {
    let one = typed(&part(error, ContextKind::InvalidArg)?);
    let others: Vec<String> = parts(error, ContextKind::PriorArg).iter().map(|a| typed(a)).collect();
    if others.is_empty() || others.contains(&one) {
        return Some(Failure::usage(format!("{one} is given twice"), "give it once"));
    }
    let what = format!("{one} cannot be used together with {}", others.join(", "));
    Some(Failure::usage(what, "leave one of them out"))
}
