//! `tenure ls`: the locks that are held or waited for.

use crate::args::{Globals, Listed, PrefixArgs};
use crate::exit::{Failure, USAGE};
use crate::store::Store;
use crate::table::{self, Look, Size};
use crate::view::Shown;
use crate::{out, text, view};

/// Lists them.
///
/// # Errors
/// What the store answers.
pub(crate) fn run(PrefixArgs { list: args }: &PrefixArgs, globals: &Globals) -> Result<(), Failure> {
    let locks = Store::new(globals)?.open()?;
    let all = args.all_namespaces;
    let listed = match all {
        true => locks.blocking_list_all(&args.prefix),
        false => locks.blocking_list(&args.prefix),
    };
    let lines = listed.map_err(|e| Failure::from_library(&e, USAGE))?;
    let sees = locks.capabilities().visibility;
    if let Some(note) = view::blind(&locks).filter(|_| !globals.quiet) {
        out::note(&note);
    }
    if globals.json {
        return lines.iter().try_for_each(|line| {
            let namespace = all.then(|| line.key.namespace());
            out::print(&Shown::line(line, sees).namespace(namespace).json())
        });
    }
    if lines.is_empty() {
        if !globals.quiet {
            out::note(&format!("tenure: {}.\n", nothing(args, &locks)));
        }
        return Ok(());
    }
    let size = Size::of_stdout().filter(|_| !args.wide);
    let look = Look { sees, namespaces: all, leases: true, bold: out::colour(&std::io::stdout()) };
    let mut table = table::draw(&lines, text::now_us(), look, size.map(|size| size.width));
    if let Some(size) = size {
        // The shell's next prompt needs a line as well.
        table = table::clip(table, size.height.saturating_sub(1), " (all with --wide)");
    }
    out::print(&(table.join("\n") + "\n"))
}

/// Where nothing was found: often the store or the namespace is not the one that was meant.
fn nothing(args: &Listed, locks: &tenure::Locks) -> String {
    let below = match args.prefix.as_str() {
        "" => String::new(),
        prefix => format!(" below {}", text::escape(prefix)),
    };
    let namespace = match args.all_namespaces {
        true => "any namespace".to_owned(),
        false => format!("namespace {}", text::escape(locks.namespace())),
    };
    format!("no lock{below} is held or waited for in {namespace} of {}", text::escape(locks.url()))
}
