//! `tenure man`.

use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::definition;
use crate::exit::Failure;
use crate::out;

/// Exit codes, as the manual lists them.
const EXITS: &[(&str, &str)] = &[
    ("0", "Success. run, once, elect: the command exited with 0. once also: the slot was already run."),
    (
        "1-255",
        "run, once, elect: the status of the command; 128+n if signal n killed it; 126 it cannot be executed; 127 it was not \
         found.",
    ),
    (
        "1",
        "lab: a promise was broken, or a strategy did not do what is expected of it. bench: a call failed. acquire: the handle \
         could not be written.",
    ),
    ("2", "lab: too little happened to judge."),
    (
        "64",
        "Wrong usage, bad name, bad duration; or a parent of this command holds the lock, so that it would wait for itself.",
    ),
    ("69", "The store cannot be reached. fence: another process stays inside the fence for too long."),
    ("70", "lab, bench: something on this machine prevents the run."),
    (
        "75",
        "Busy: not acquired in time (another code with -E). break: there is nothing to break. once: another machine is running \
         the slot.",
    ),
    (
        "77",
        "Denied by the store, for example because it needs a password and none was given; or denied by the file system.",
    ),
    (
        "78",
        "Bad URL or configuration, or the store cannot promise what was asked. fence: the file is damaged or cannot exist.",
    ),
    (
        "80",
        "The lock was lost while the command ran, and the command was stopped. renew, release: the lock is no longer held.",
    ),
    ("81", "fence: the token is refused, because it is stale or belongs to another domain."),
];

/// Variables of the environment, as the manual lists them.
const VARIABLES: &[(&str, &str)] = &[
    ("TENURE_URL", "The store, unless --url is given. run sets it for the command, without a password."),
    ("TENURE_NAMESPACE", "The namespace, unless --namespace is given. run sets it for the command."),
    (
        "TENURE_PASSWORD, TENURE_PASSWORD_FILE",
        "The password of the store, or a file that contains it. Set only one of them, and put no password into the URL.",
    ),
    (
        "TENURE_LOCK, TENURE_TOKEN",
        "Set by run for the command: the name of the lock, and the fencing token of the grant. If several names are given, \
         each variable has one line for each of them, in the order of the command line. Permits of a semaphore have no token: \
         then TENURE_TOKEN is not set.",
    ),
    (
        "TENURE_TOKEN_1, TENURE_TOKEN_2, ...",
        "Set by run for the command if several names are given: the token of each.",
    ),
    (
        "TENURE_PREVIOUS",
        "Set by run for the command: how the previous hold of the lock ended: released, expired, evicted or unknown. After \
         anything but released, work may be half done. If several names are given, it has one line for each.",
    ),
    ("TENURE_SLOT", "Set by once for the command: the label of the slot. TENURE_LOCK is then NAME/@LABEL."),
    (
        "TENURE_DOMAIN",
        "Set by run for the command, if the store tells it in time: the domain of the token, which fence check compares.",
    ),
    (
        "TENURE_HELD",
        "Set by run for the command: the locks that it and its parents hold, one per line: the URL of the store, a space, the \
         namespace, a slash, the name.",
    ),
    (
        "TENURE_HELD_AS",
        "One line for each line of TENURE_HELD: the fencing token (or -), how the lock is held (mutex, read, write, \
         permits=K/N or once), the claim as show prints it (or -), and the process id of the guardian. run and acquire ask the \
         store whether the claim still holds the lock: the variables alone prove nothing.",
    ),
    ("TENURE_HANDLE", "The handle for renew and release, unless one is given as an argument."),
    ("NO_COLOR", "If set and not empty: no colours."),
];

/// The manual page: one page for the command and all its subcommands.
///
/// # Errors
/// If stdout cannot be written, or the page cannot be rendered.
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
