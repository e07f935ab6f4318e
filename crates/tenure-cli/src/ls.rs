//! `tenure ls`: the locks that are held or waited for.

use std::io::IsTerminal;

use crate::args::{Globals, PrefixArgs};
use crate::exit::{Failure, USAGE};
use crate::store::Store;
use crate::view::Shown;
use crate::{out, text, view};

/// Lists them.
///
/// # Errors
/// What the store answers.
pub(crate) fn run(args: &PrefixArgs, globals: &Globals) -> Result<(), Failure> {
    let locks = Store::new(globals)?.open()?;
    let lines = locks.blocking_list(&args.prefix).map_err(|e| Failure::from_library(&e, USAGE))?;
    let sees = locks.capabilities().visibility;
    if let Some(note) = view::blind(&locks).filter(|_| !globals.quiet) {
        out::note(&note);
    }
    if globals.json {
        return lines.iter().try_for_each(|line| out::print(&Shown::line(line, sees).json()));
    }
    if lines.is_empty() {
        if !globals.quiet && std::io::stderr().is_terminal() {
            out::note("tenure: no lock is held or waited for.\n");
        }
        return Ok(());
    }
    let now = text::now_us();
    let mut rows = vec![view::head()];
    rows.extend(lines.iter().flat_map(|line| view::rows(line, now, sees)));
    out::print(&text::table(&rows, out::colour(&std::io::stdout())))
}
