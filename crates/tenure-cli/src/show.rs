//! `tenure show`: one lock with its whole line.

use crate::args::{Globals, NameArgs};
use crate::exit::{Failure, USAGE};
use crate::store::Store;
use crate::view::Shown;
use crate::{out, runs, text, view};

/// Shows it.
///
/// # Errors
/// A refused name, or what the store answers.
pub(crate) fn run(args: &NameArgs, globals: &Globals) -> Result<(), Failure> {
    let store = Store::new(globals)?;
    store.key(&args.name)?;
    let locks = store.open()?;
    let line = locks.blocking_inspect(&args.name).map_err(|e| Failure::from_library(&e, USAGE))?;
    let sees = locks.capabilities().visibility;
    // Of a job that runs once per slot. A store that cannot list has none to show.
    let runs = locks.blocking_runs(&args.name).unwrap_or_default();
    if globals.json {
        let shown = match &line {
            Some(line) => Shown::line(line, sees),
            None => Shown::free(&args.name, sees),
        };
        return out::print(&shown.runs(&runs).json());
    }
    let mut said = match line {
        Some(line) => {
            let free = if line.holders.is_empty() && line.waiters == 0 { "free\n" } else { "" };
            format!("{free}{}", view::whole(&line, text::now_us(), sees))
        }
        None => "free\n".to_owned(),
    };
    said += &runs::text(&runs);
    out::print(&said)
}
