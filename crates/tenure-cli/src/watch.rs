//! `tenure watch`: locks as they change.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};

use tenure::{Line, Seen, Visibility};

use crate::args::{Globals, WatchArgs};
use crate::exit::{Failure, USAGE};
use crate::store::Store;
use crate::text::rfc3339;
use crate::view::Shown;
use crate::{out, text, view};

/// Watches until the reader or the user has had enough.
///
/// # Errors
/// What the store answers.
pub(crate) fn run(args: &WatchArgs, globals: &Globals) -> Result<(), Failure> {
    let locks = Store::new(globals)?.open()?;
    let from_library = |e: tenure::Error| Failure::from_library(&e, USAGE);
    let mut watch = locks.watch(&args.prefix).map_err(from_library)?;
    let sees = locks.capabilities().visibility;
    if let Some(note) = view::blind(&locks).filter(|_| !globals.quiet) {
        out::note(&note);
    }
    let redraw = stdout().is_terminal() && !globals.json;
    let mut before = BTreeMap::new();
    let mut first = true;
    loop {
        let lines = watch.blocking_next().map_err(from_library)?;
        let now: BTreeMap<String, Line> = lines.into_iter().map(|l| (l.key.name().to_owned(), l)).collect();
        let text = match (redraw, globals.json) {
            (true, _) => screen(&now, sees),
            (_, true) => events(&before, &now, first, sees),
            _ => changes(&before, &now, sees),
        };
        out::print(&text)?;
        (before, first) = (now, false);
    }
}

/// The whole screen: cursor home, the table, the rest cleared.
fn screen(lines: &BTreeMap<String, Line>, sees: Visibility) -> String {
    let now = text::now_us();
    let mut rows = vec![view::head()];
    rows.extend(lines.values().flat_map(|line| view::rows(line, now, sees)));
    let table = text::table(&rows, out::colour(&stdout())).replace('\n', "\x1b[K\n");
    format!("\x1b[H{}  {}\x1b[K\n\n{table}\x1b[J", rfc3339(now), view::many(lines.len(), "lock"))
}

/// What makes two looks at a lock differ: who holds and who waits, not how much of a lease is left.
fn gist(line: &Line) -> impl PartialEq + '_ {
    let one = |s: &'_ Seen| (s.claim.clone(), s.owner.clone(), s.reason.clone(), s.token, s.weight, s.behind);
    let all = |seen: &[Seen]| seen.iter().map(one).collect::<Vec<_>>();
    (line.capacity, line.token, all(&line.holders), all(&line.waiting), line.waiters, line.broken.clone())
}

/// What changed: names, and the lock as it is now; `None` once nobody stands in line any more.
fn differences<'a>(
    before: &'a BTreeMap<String, Line>,
    now: &'a BTreeMap<String, Line>,
) -> impl Iterator<Item = (&'a str, Option<&'a Line>)> {
    let gone = before.keys().filter(|name| !now.contains_key(*name)).map(|name| (name.as_str(), None));
    let differs =
        |(name, line): &(&String, &Line)| before.get(*name).is_none_or(|old| gist(old) != gist(line));
    gone.chain(now.iter().filter(differs).map(|(name, line)| (name.as_str(), Some(line))))
}

/// One object per lock: `present` for what was there at first, then `changed` and `free`.
fn events(
    before: &BTreeMap<String, Line>,
    now: &BTreeMap<String, Line>,
    first: bool,
    sees: Visibility,
) -> String {
    let event = |(name, line): (&str, Option<&Line>)| match line {
        Some(line) => Shown::line(line, sees).event(if first { "present" } else { "changed" }).json(),
        None => Shown::free(name, sees).event("free").json(),
    };
    differences(before, now).map(event).collect()
}

/// The same for people whose stdout is no terminal.
fn changes(before: &BTreeMap<String, Line>, now: &BTreeMap<String, Line>, sees: Visibility) -> String {
    let at = text::now_us();
    let change = |(name, line): (&str, Option<&Line>)| match line {
        Some(line) => format!("{} {}", rfc3339(at), view::whole(line, at, sees)),
        None => format!("{} {}: free\n", rfc3339(at), text::escape(name)),
    };
    differences(before, now).map(change).collect()
}
