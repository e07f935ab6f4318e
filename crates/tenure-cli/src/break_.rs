//! `tenure break`: takes a lock away from its holder.

use std::io::{IsTerminal, stderr, stdin};

use serde::Serialize;
use tenure::{Line, Locks, Released, Token, Visibility};

use crate::args::{BreakArgs, Globals};
use crate::exit::{BUSY, Failure, USAGE};
use crate::store::Store;
use crate::text::{escape, json_line};
use crate::{out, text, view};

/// What `--json` prints.
#[derive(Serialize)]
struct Done<'a> {
    lock: &'a str,
    broken: bool,
    token: Option<i64>,
}

/// Takes it away.
///
/// # Errors
/// Wrong usage, a lock that nobody holds (any more), or what the store answers.
pub(crate) fn run(args: &BreakArgs, globals: &Globals) -> Result<(), Failure> {
    let store = Store::new(globals)?;
    store.key(&args.name)?;
    let ask = !args.yes;
    if ask && !(stdin().is_terminal() && stderr().is_terminal()) {
        return Err(Failure::usage(
            "cannot ask for confirmation: not a terminal",
            "break the lock with --yes",
        ));
    }
    let locks = store.open()?;
    let line = locks.blocking_inspect(&args.name).map_err(|e| Failure::from_library(&e, USAGE))?;
    let Some(line) = line.filter(|l| !l.holders.is_empty()) else { return Err(not_held(args)) };
    if ask && !confirmed(&line, locks.capabilities().visibility)? {
        return Err(Failure::new(BUSY, "the lock was not broken", ""));
    }
    // Whoever was shown is whom the answer was about: another grant that came meanwhile is not broken by it.
    let token = args.token.or_else(|| if ask { only_token(&line) } else { None });
    evict(&locks, args, token)?;
    let taken = line.holders.iter().filter(|seen| token.is_none() || seen.token == token).count();
    let token = token.or_else(|| only_token(&line));
    if globals.json {
        return out::print(&json_line(&Done {
            lock: &args.name,
            broken: true,
            token: token.map(Token::get),
        }));
    }
    if !globals.quiet {
        let whom = holders(taken);
        out::note(&format!("tenure: {} was taken away from {whom}.\n", escape(&args.name)));
    }
    Ok(())
}

fn evict(locks: &Locks, args: &BreakArgs, token: Option<Token>) -> Result<(), Failure> {
    match locks
        .blocking_evict(&args.name, token, &args.reason)
        .map_err(|e| Failure::from_library(&e, USAGE))?
    {
        Released::Gone => Err(not_held(args)),
        _ => Ok(()),
    }
}

fn not_held(args: &BreakArgs) -> Failure {
    let name = &args.name;
    match args.token {
        Some(token) => Failure::new(
            BUSY,
            format!("lock {name}: the holder with token {token} no longer has it"),
            "nothing was changed",
        ),
        None => Failure::new(BUSY, format!("lock {name}: it is free"), "nothing was changed"),
    }
}

/// Readers and permits have several.
fn holders(n: usize) -> String {
    if n > 1 { format!("its {n} holders") } else { "its holder".to_owned() }
}

/// The token of the only holder.
fn only_token(line: &Line) -> Option<Token> {
    match &line.holders[..] {
        [one] => one.token,
        _ => None,
    }
}

/// Shows who holds the lock, and asks.
fn confirmed(line: &Line, sees: Visibility) -> Result<bool, Failure> {
    out::note(&view::whole(line, text::now_us(), sees));
    out::note(&format!("Take it away from {}? [y/N] ", holders(line.holders.len())));
    let mut answer = String::new();
    stdin()
        .read_line(&mut answer)
        .map_err(|e| Failure::usage("the answer cannot be read", "use --yes instead").because(&e))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES"))
}
