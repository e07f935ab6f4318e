//! `tenure man`.

use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::definition;
use crate::exit::Failure;
use crate::out;

/// Exit codes, as the manual lists them.
const EXITS: &[(&str, &str)] = &[
    (
        "0",
        "Done. For run, once and elect: the command's own status was 0. For once also: the slot was run before.",
    ),
    (
        "1-255",
        "run, once, elect: the command's own status; 128+n if signal n killed it; 126 not executable; 127 not found.",
    ),
    (
        "1",
        "lab: a promise was broken, or a strategy did not do what is expected of it; bench: a call failed.",
    ),
    ("2", "lab: too little happened to judge."),
    (
        "64",
        "Wrong usage, bad name, bad duration; or the lock is held by a parent, so that run would wait for itself.",
    ),
    ("69", "The store cannot be reached; fence: others stay inside for too long."),
    ("70", "lab, bench: something on this machine is in the way of the run itself."),
    (
        "75",
        "Busy: not acquired in time (another number with -E), or nothing to break; once: somebody else runs it just now.",
    ),
    ("77", "Denied by the store, also since it wants a password and none was given; or by the file system."),
    (
        "78",
        "Bad URL or configuration, or the backend cannot promise what was asked; fence: the file is damaged.",
    ),
    (
        "80",
        "The lock was lost while the command ran, and the command was stopped; renew and release: the hold \
              of the handle is over.",
    ),
    ("81", "fence: the token is refused, since it is stale or of another domain."),
];

/// Variables of the environment, as the manual lists them.
const VARIABLES: &[(&str, &str)] = &[
    ("TENURE_URL", "The store, unless --url is given. run sets it for the command, without a password."),
    ("TENURE_NAMESPACE", "The namespace, unless --namespace is given. run sets it for the command."),
    (
        "TENURE_PASSWORD, TENURE_PASSWORD_FILE",
        "The store's password, or a file that holds it. Only one, and none in the URL.",
    ),
    (
        "TENURE_LOCK, TENURE_TOKEN",
        "Set by run for the command: the lock's name, and the fencing token of the grant. Of several names: one per line, in \
         the order of the command line. Permits of a semaphore have no token: the variable is not set then.",
    ),
    (
        "TENURE_TOKEN_1, TENURE_TOKEN_2, ...",
        "Set by run for the command where several names are given: the token of each.",
    ),
    ("TENURE_SLOT", "Set by once for the command: the label of the slot. TENURE_LOCK is NAME/@LABEL then."),
    (
        "TENURE_DOMAIN",
        "Set by run for the command, where the store tells it in time: the order that the token belongs to. What fence \
         check compares.",
    ),
    (
        "TENURE_HELD",
        "Set by run for the command: the locks held by it and its parents, one line each: the store's URL, a space, the \
         namespace, a slash, the name.",
    ),
    (
        "TENURE_HELD_AS",
        "A line for each of TENURE_HELD: the fencing token (or -), how the lock is held (mutex, read, write, permits=K/N \
         or once), the claim as show prints it (or -), and the process id of the guardian. run and acquire ask the store \
         whether the claim still holds: the variables alone prove nothing.",
    ),
    ("TENURE_HANDLE", "The handle for renew and release, where none is given as an argument."),
    ("NO_COLOR", "No colours, if set and not empty."),
];

/// The manual page: one page for the command and all its subcommands.
///
/// # Errors
/// Where stdout cannot be written, or the page cannot be rendered.
pub(crate) fn man() -> Result<(), Failure> {
    let page = render().map_err(|e| Failure::new(1, "the manual page cannot be rendered", "").because(&e))?;
    out::print(&String::from_utf8_lossy(&page))
}

/// The subcommands, each followed by its own, with what people type.
fn below(command: &Command) -> Vec<(String, &Command)> {
    let mut all = Vec::new();
    for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
        all.push((sub.get_name().to_owned(), sub));
        all.extend(below(sub).into_iter().map(|(name, each)| (format!("{} {name}", sub.get_name()), each)));
    }
    all
}

fn render() -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let mut command = definition();
    command.build();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for (name, sub) in below(&command) {
        let mut roff = Roff::new();
        roff.control("SH", [format!("tenure {name}").to_uppercase().as_str()]);
        roff.to_writer(&mut page)?;
        // What every subcommand has was told above.
        let told = |arg: &Arg| arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str());
        let of_it = Man::new(sub.clone().mut_args(|arg| {
            let hide = told(&arg);
            arg.hide(hide)
        }));
        for part in
            [Man::render_synopsis_section, Man::render_description_section, Man::render_options_section]
        {
            let mut section = Vec::new();
            part(&of_it, &mut section)?;
            // Sections of a subcommand stand below its own heading.
            page.extend(String::from_utf8_lossy(&section).replace("\n.SH ", "\n.SS ").into_bytes());
        }
    }
    for (title, entries) in [("EXIT STATUS", EXITS), ("ENVIRONMENT", VARIABLES)] {
        let mut roff = Roff::new();
        roff.control("SH", [title]);
        for (term, text) in entries {
            roff.control("TP", []);
            roff.text([bold(*term)]);
            roff.text([roman(*text)]);
        }
        roff.to_writer(&mut page)?;
    }
    Ok(page)
}
