//! What the recipes share: files as a small database, what the programs say, and where tests stop them.
#![allow(clippy::print_stdout)] // a program says what it does

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Says what was done, at once.
pub(crate) fn tell(what: impl Display) {
    println!("{what}");
}

/// A point at which a test may stop this program, to kill it there or to let it sleep for longer than its lease. It is the
/// one that the variable RECIPE_STOP names; the program says so and waits for a line.
pub(crate) fn reach(point: &str) -> io::Result<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    let meant = std::env::var("RECIPE_STOP").is_ok_and(|stop| stop == point);
    if meant && !DONE.swap(true, Ordering::Relaxed) {
        tell(format_args!("at {point}"));
        io::stdin().read_line(&mut String::new())?;
    }
    Ok(())
}

/// The lines of a file; none if it is not there.
pub(crate) fn lines(path: &Path) -> io::Result<Vec<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Adds a line to a file, in one step: a process that is killed leaves the whole line or nothing.
pub(crate) fn append(path: &Path, line: impl Display) -> io::Result<()> {
    File::options().append(true).create(true).open(path)?.write_all(format!("{line}\n").as_bytes())
}

/// Puts a file in the place of another one, in one step.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&new, text)?;
    fs::rename(new, path)
}
