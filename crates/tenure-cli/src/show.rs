//! `tenure show`: one lock with its whole line.

use crate::args::{Globals, NameArgs};
use crate::exit::{Failure, USAGE};
use crate::store::Store;
use crate::view::Shown;
use crate::{out, text, view};

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
    match (line, globals.json) {
        (Some(line), true) => out::print(&Shown::line(&line, sees).json()),
        (None, true) => out::print(&Shown::free(&args.name, sees).json()),
        (Some(line), false) => {
            let free = if line.holders.is_empty() && line.waiters == 0 { "free\n" } else { "" };
            out::print(&format!("{free}{}", view::whole(&line, text::now_us(), sees)))
        }
        (None, false) => out::print("free\n"),
    }
}
