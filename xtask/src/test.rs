//! `cargo xtask test`: every test of the workspace, counted.

use std::collections::BTreeSet;
use std::process::Command;

use crate::Stop;
use crate::args::Args;
use crate::counts::Counts;
use crate::hang::{self, Watchdog};
use crate::process::{Said, cargo, watch};
use crate::{select, servers};

/// The one profile and the one set of features that clippy and the tests share, so that nothing is built twice.
pub(crate) const WHOLE: &[&str] = &["--workspace", "--all-features"];

/// The simulation has so many runs, the model check so many states, and chaos so many clients, that they need an optimised
/// build of their own.
/// A debug build only has a few of them.
const OPTIMISED: &[&str] = &["sim", "model", "chaos"];

/// The arguments of `cargo test` for one of those.
fn optimised(name: &str) -> Vec<String> {
    ["--profile", "sim", "--package", "tenure-lab", "--test", name].map(str::to_owned).to_vec()
}

/// Runs the tests and closes with the line that counts them.
pub(crate) fn run(args: &[String]) -> Result<bool, Stop> {
    let args = Args::parse(args, &["--no-install"], &["--only"])?.no_words()?;
    let only: Vec<&str> = args.all("--only").collect();
    let (fast, slow): (Vec<&str>, Vec<&str>) = only.iter().partition(|name| !OPTIMISED.contains(name));
    let mut suites = if only.is_empty() { vec![Vec::new()] } else { select::suites(&fast)? };
    let slow = if only.is_empty() { OPTIMISED } else { &slow };
    suites.extend(slow.iter().map(|name| optimised(name)));
    servers::prepare(args.has("--no-install"))?;
    let (mut counts, mut failed) = (Counts::default(), Vec::new());
    for suite in suites {
        counts += one(&suite, &mut failed)?;
    }
    if only.is_empty() {
        counts += apart(&mut failed)?;
    }
    // Once more at the end: what was said above is many lines away.
    println!();
    for failed in failed {
        println!("failed: {}", failed.name);
        for line in failed.why {
            println!("    {line}");
        }
    }
    println!("{counts}");
    Ok(counts.failed == 0)
}

/// Runs `cargo test` with some more arguments, and adds what failed.
fn one(suite: &[String], failed: &mut Vec<Failed>) -> Result<Counts, Stop> {
    let mut command = cargo(&["test", "--no-fail-fast"]);
    if !suite.iter().any(|a| a == "--package") {
        command.arg(WHOLE[0]);
    }
    command.args(&WHOLE[1..]).args(suite);
    counted(command, &suite.join(" "), failed)
}

/// The programs that use the library with other crates, which are not in the workspace.
fn apart(failed: &mut Vec<Failed>) -> Result<Counts, Stop> {
    let manifest = ["--manifest-path", "integrations/Cargo.toml", "--target-dir", "target"];
    counted(cargo(&[&["test", "--no-fail-fast"], &manifest[..]].concat()), "integrations", failed)
}

fn counted(mut command: Command, what: &str, failed: &mut Vec<Failed>) -> Result<Counts, Stop> {
    let mut counts = Counts::default();
    let (watchdog, mut ignored) = (Watchdog::new(hang::limit()), BTreeSet::new());
    let mut section: Option<String> = None;
    let status = watch(&mut command, |cargo, said| {
        watchdog.hear(cargo, said);
        let Said::Line(line) = said else { return };
        ignored.extend(Counts::ignored_at_run_time(line).map(str::to_owned));
        counts += Counts::of_line(line).unwrap_or_default();
        failed.extend(failed_test(line).map(|name| Failed::new(name.to_owned())));
        section = match section_of(line) {
            Some(Section::Of(name)) => Some(name.to_owned()),
            Some(Section::End) => None,
            None => {
                let of = failed.iter_mut().rfind(|failed| section.as_ref() == Some(&failed.name));
                of.into_iter().for_each(|failed| failed.add(line));
                section.take() // it goes on
            }
        };
    })?;
    counts.skip(ignored.len());
    let hung = watchdog.end();
    counts.failed += hung.len() as u64;
    failed.extend(hung.into_iter().map(Failed::new));
    if !status.success() && counts.failed == 0 {
        // It did not compile, or a test binary died before it could close.
        counts.failed = 1;
        failed.push(Failed::new(format!("cargo test {what}: {status} before everything was judged")));
    }
    if status.success() && counts.is_empty() {
        return Err(Stop::Broken("that selects no test".into()));
    }
    Ok(counts)
}

/// A test that failed.
struct Failed {
    name: String,
    /// The beginning of what it wrote.
    why: Vec<String>,
}

impl Failed {
    /// So many lines are kept: the rest is in the log.
    const LINES: usize = 24;

    fn new(name: String) -> Failed {
        Failed { name, why: Vec::new() }
    }

    fn add(&mut self, line: &str) {
        if self.why.len() < Failed::LINES && !line.is_empty() {
            self.why.push(line.to_owned());
        }
    }
}

/// Where a test binary says why its tests failed: a section for each.
#[derive(Debug, PartialEq, Eq)]
enum Section<'a> {
    Of(&'a str),
    End,
}

/// What this line begins, if anything. A harness of ours leaves out the word `stdout`.
fn section_of(line: &str) -> Option<Section<'_>> {
    if line == "failures:" || line.starts_with("test result: ") {
        return Some(Section::End);
    }
    let name = line.strip_prefix("---- ")?.strip_suffix(" ----")?;
    Some(Section::Of(name.strip_suffix(" stdout").unwrap_or(name)))
}

/// The name of the test that this line says has failed, if it is such a line.
fn failed_test(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("test ")?.split_once(" ... FAILED")?;
    Some(name.trim_end())
}

#[cfg(test)]
mod tests {
    use super::{Section, failed_test, section_of};

    #[test]
    fn sections_of_failures_are_found() {
        assert_eq!(section_of("---- a::b stdout ----"), Some(Section::Of("a::b")));
        assert_eq!(section_of("---- a::b ----"), Some(Section::Of("a::b")));
        assert_eq!(section_of("test result: FAILED. 1 passed; 1 failed"), Some(Section::End));
        assert_eq!(section_of("failures:"), Some(Section::End));
        assert_eq!(section_of("panicked at a.rs:1:1:"), None);
    }

    #[test]
    fn failed_tests_are_named() {
        assert_eq!(failed_test("test a::b ... FAILED"), Some("a::b"));
        assert_eq!(failed_test("test a::b    ... FAILED (3.2s)"), Some("a::b"));
        for line in
            ["test a::b ... ok", "test result: FAILED. 1 passed; 1 failed", "it said: test a ... FAILED"]
        {
            assert_eq!(failed_test(line), None, "{line}");
        }
    }
}
