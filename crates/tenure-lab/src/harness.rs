//! A small test harness for test binaries with a `main` of their own: they must be able to be worker processes, and
//! what does not apply is listed as ignored with its reason, never as passed.
//!
//! Speaks libtest's language as far as people and tools use it: name filters, `--exact`, `--skip`, `--list`,
//! `--ignored` lines, a final `test result:` line. One test runs at a time.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// What came of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It held; the text, if any, is shown behind it.
    Passed(String),
    /// It does not apply, for this reason.
    Ignored(String),
    /// It did not hold.
    Failed(String),
}

impl From<Result<String, String>> for Verdict {
    fn from(result: Result<String, String>) -> Verdict {
        match result {
            Ok(text) => Verdict::Passed(text),
            Err(text) => Verdict::Failed(text),
        }
    }
}

type Run<'a> = Box<dyn FnOnce() -> Verdict + 'a>;

/// The tests of a binary.
#[derive(Default)]
pub struct Harness<'a> {
    tests: Vec<(String, Run<'a>)>,
}

impl std::fmt::Debug for Harness<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harness").field("tests", &self.tests.len()).finish()
    }
}

/// What the command line asks for.
#[derive(Debug, Default)]
struct Choice {
    filters: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    list: bool,
    /// Only those that the attribute `#[ignore]` would mark: there are none.
    only_ignored: bool,
}

impl Choice {
    fn parse(mut args: impl Iterator<Item = String>) -> Choice {
        let mut choice = Choice::default();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--exact" => choice.exact = true,
                "--list" => choice.list = true,
                "--ignored" => choice.only_ignored = true,
                "--skip" => choice.skip.extend(args.next()),
                // Options of libtest that take a value and change nothing here.
                "--test-threads" | "--color" | "--format" | "--logfile" | "-Z" => drop(args.next()),
                _ if arg.starts_with('-') => {}
                _ => choice.filters.push(arg),
            }
        }
        choice
    }

    fn takes(&self, name: &str) -> bool {
        let meets = |f: &String| if self.exact { name == f } else { name.contains(f.as_str()) };
        !self.only_ignored
            && (self.filters.is_empty() || self.filters.iter().any(meets))
            && !self.skip.iter().any(meets)
    }
}

impl<'a> Harness<'a> {
    /// No tests yet.
    #[must_use]
    pub fn new() -> Harness<'a> {
        Harness::default()
    }

    /// Adds a test.
    pub fn test(&mut self, name: impl Into<String>, run: impl FnOnce() -> Verdict + 'a) {
        self.tests.push((name.into(), Box::new(run)));
    }

    /// Runs what the command line asks for, in the order in which it was added.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let choice = Choice::parse(std::env::args().skip(1));
        let all = self.tests.len();
        let chosen: Vec<_> = self.tests.into_iter().filter(|(name, _)| choice.takes(name)).collect();
        if choice.list {
            for (name, _) in &chosen {
                say(&format!("{name}: test\n"));
            }
            return ExitCode::SUCCESS;
        }
        let out = all - chosen.len();
        say(&format!("\nrunning {} tests\n", chosen.len()));
        let (start, mut passed, mut ignored, mut failed) = (Instant::now(), 0, 0, Vec::new());
        for (name, run) in chosen {
            say(&format!("test {name} ... "));
            let verdict = catch_unwind(AssertUnwindSafe(run))
                .unwrap_or_else(|panic| Verdict::Failed(format!("panicked: {}", text(&*panic))));
            match verdict {
                Verdict::Passed(text) => {
                    passed += 1;
                    say(&if text.is_empty() { "ok\n".into() } else { format!("ok ({text})\n") });
                }
                Verdict::Ignored(why) => {
                    ignored += 1;
                    say(&format!("ignored, {why}\n"));
                }
                Verdict::Failed(why) => {
                    say("FAILED\n");
                    failed.push((name, why));
                }
            }
        }
        if !failed.is_empty() {
            say("\nfailures:\n");
            for (name, why) in &failed {
                say(&format!("\n---- {name} ----\n{why}\n"));
            }
        }
        let word = if failed.is_empty() { "ok" } else { "FAILED" };
        say(&format!(
            "\ntest result: {word}. {passed} passed; {} failed; {ignored} ignored; 0 measured; {out} filtered out; finished in {:.2}s\n\n",
            failed.len(),
            start.elapsed().as_secs_f64()
        ));
        if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The message of a panic.
pub(crate) fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let known = panic.downcast_ref::<String>().cloned();
    known
        .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "(no message)".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose_as_libtest_does() {
        let choice = |args: &[&str]| Choice::parse(args.iter().map(|a| (*a).to_owned()));
        assert!(choice(&[]).takes("memory::s1_x"));
        assert!(choice(&["s1"]).takes("memory::s1_x") && !choice(&["s2"]).takes("memory::s1_x"));
        assert!(!choice(&["s1", "--exact"]).takes("memory::s1_x"));
        assert!(!choice(&["--skip", "memory"]).takes("memory::s1_x"));
        assert!(choice(&["--test-threads", "1", "--nocapture"]).takes("memory::s1_x"));
        assert!(!choice(&["--ignored"]).takes("memory::s1_x"));
    }
}
