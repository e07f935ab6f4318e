//! `tenure watch`: locks as they change.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tenure::{Line, Seen, Visibility};

use crate::args::{Globals, WatchArgs};
use crate::exit::{Failure, UNAVAILABLE, USAGE};
use crate::store::Store;
use crate::table::{self, Look, Size};
use crate::text::rfc3339;
use crate::view::Shown;
use crate::{out, text, view};

/// How often the times on a screen move on.
const TICK: Duration = Duration::from_secs(1);
/// How often to look whether the terminal has another size.
const RESIZED: Duration = Duration::from_millis(200);

/// Locks by `namespace/name`.
type Locks = BTreeMap<String, Line>;

/// Watches until the reader or the user has had enough.
///
/// # Errors
/// What the store answers.
pub(crate) fn run(args: &WatchArgs, globals: &Globals) -> Result<(), Failure> {
    let locks = Store::new(globals)?.open()?;
    let from_library = |e: tenure::Error| Failure::from_library(&e, USAGE);
    let all = args.list.all_namespaces;
    let watch = match all {
        true => locks.watch_all(&args.list.prefix),
        false => locks.watch(&args.list.prefix),
    };
    let mut watch = watch.map_err(from_library)?;
    let sees = locks.capabilities().visibility;
    if let Some(note) = view::blind(&locks).filter(|_| !globals.quiet) {
        out::note(&note);
    }
    let mut next = move || {
        let lines = watch.blocking_next().map_err(from_library)?;
        Ok(lines.into_iter().map(|l| (l.key.full().to_owned(), l)).collect())
    };
    if stdout().is_terminal() && !globals.json {
        let (send, looks) = channel();
        let looking = move || {
            loop {
                let look: Result<Locks, Failure> = next();
                let over = look.is_err();
                if send.send(look).is_err() || over {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("watch".into()).spawn(looking);
        thread.map_err(|e| Failure::new(UNAVAILABLE, "no thread can be started", "try again").because(&e))?;
        let look = Look { sees, namespaces: all, leases: false, bold: out::colour(&stdout()) };
        return redraw(&looks, look, args.list.wide);
    }
    let mut before = Locks::new();
    let mut first = true;
    loop {
        let now = next()?;
        out::print(&match globals.json {
            true => events(&before, &now, first, sees, all),
            false => changes(&before, &now, sees, all),
        })?;
        (before, first) = (now, false);
    }
}

/// Draws what there is: at every change, every second, and when the terminal has another size.
fn redraw(looks: &Receiver<Result<Locks, Failure>>, look: Look, wide: bool) -> Result<(), Failure> {
    let mut lines = None;
    let mut drawn = (None, Instant::now());
    loop {
        let size = Size::of_stdout();
        match looks.recv_timeout(RESIZED) {
            Ok(new) => lines = Some(new?),
            Err(RecvTimeoutError::Timeout) if drawn.0 == size && drawn.1.elapsed() < TICK => continue,
            Err(RecvTimeoutError::Timeout) => {}
            // It ends with an error, which was received before.
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if let Some(lines) = &lines {
            out::print(&screen(lines, look, size, wide))?;
            drawn = (size, Instant::now());
        }
    }
}

/// The whole screen: cursor home, each line cleared and written, the rest cleared.
fn screen(lines: &Locks, look: Look, size: Option<Size>, wide: bool) -> String {
    let now = text::now_us();
    let width = size.map(|size| size.width);
    let mut table = table::draw(lines.values(), now, look, width.filter(|_| !wide));
    if let Some(size) = size {
        // The time, an empty line, and the line of the cursor.
        table = table::clip(table, size.height.saturating_sub(3), "");
    }
    let head = format!("{}  {}", rfc3339(now), view::many(lines.len(), "lock"));
    let head = width.map_or(head.clone(), |width| text::cut_end(&head, width));
    let table: String = table.iter().map(|line| format!("\x1b[K{line}\n")).collect();
    format!("\x1b[H\x1b[K{head}\n\x1b[K\n{table}\x1b[J")
}

/// What makes two looks at a lock differ: who holds and who waits, not how much of a lease is left.
fn gist(line: &Line) -> impl PartialEq + '_ {
    let one = |s: &'_ Seen| (s.claim.clone(), s.owner.clone(), s.reason.clone(), s.token, s.weight, s.behind);
    let all = |seen: &[Seen]| seen.iter().map(one).collect::<Vec<_>>();
    (line.capacity, line.token, all(&line.holders), all(&line.waiting), line.waiters, line.broken.clone())
}

/// What changed: names, and the lock as it is now; `None` once nobody stands in line any more.
fn differences<'a>(before: &'a Locks, now: &'a Locks) -> impl Iterator<Item = (&'a str, Option<&'a Line>)> {
    let gone = before.keys().filter(|name| !now.contains_key(*name)).map(|name| (name.as_str(), None));
    let differs =
        |(name, line): &(&String, &Line)| before.get(*name).is_none_or(|old| gist(old) != gist(line));
    gone.chain(now.iter().filter(differs).map(|(name, line)| (name.as_str(), Some(line))))
}

/// One object per lock: `present` for what was there at first, then `changed` and `free`.
fn events(before: &Locks, now: &Locks, first: bool, sees: Visibility, all: bool) -> String {
    let event = |(full, line): (&str, Option<&Line>)| {
        let (namespace, name) = full.split_once('/').unwrap_or(("", full));
        let shown = match line {
            Some(line) => Shown::line(line, sees).event(if first { "present" } else { "changed" }),
            None => Shown::free(name, sees).event("free"),
        };
        shown.namespace(all.then_some(namespace)).json()
    };
    differences(before, now).map(event).collect()
}

/// The same for people whose stdout is no terminal.
fn changes(before: &Locks, now: &Locks, sees: Visibility, all: bool) -> String {
    let at = text::now_us();
    let change = |(full, line): (&str, Option<&Line>)| {
        let (namespace, name) = full.split_once('/').unwrap_or(("", full));
        let within = if all { format!("{}: ", text::escape(namespace)) } else { String::new() };
        match line {
            Some(line) => format!("{} {within}{}", rfc3339(at), view::whole(line, at, sees)),
            None => format!("{} {within}{}: free\n", rfc3339(at), text::escape(name)),
        }
    };
    differences(before, now).map(change).collect()
}
