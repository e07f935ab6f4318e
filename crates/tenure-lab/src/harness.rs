//! A small test harness for test binaries with a `main` of their own: they must be able to be worker processes, and
//! what does not apply is listed as ignored with its reason, never as passed.
//!
//! Speaks libtest's language as far as people and tools use it: name filters, `--exact`, `--skip`, `--list`,
//! `--ignored` lines, a final `test result:` line. One test of a lane runs at a time, and four lanes at most.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Condvar, Mutex, PoisonError};
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

type Run<'a> = Box<dyn FnOnce() -> Verdict + Send + 'a>;

/// Tests that must not run side by side share a lane.
struct Test<'a> {
    lane: String,
    name: String,
    run: Run<'a>,
}

/// How many tests run at a time: most of what they do is to wait for something.
const AT_ONCE: usize = 4;

/// The tests of a binary.
#[derive(Default)]
pub struct Harness<'a> {
    tests: Vec<Test<'a>>,
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

    /// Adds a test, to the lane in which all such tests run one after the other.
    pub fn test(&mut self, name: impl Into<String>, run: impl FnOnce() -> Verdict + Send + 'a) {
        self.test_in("", name, run);
    }

    /// Adds a test to a lane of its own name.
    pub fn test_in(
        &mut self,
        lane: &str,
        name: impl Into<String>,
        run: impl FnOnce() -> Verdict + Send + 'a,
    ) {
        self.tests.push(Test { lane: lane.to_owned(), name: name.into(), run: Box::new(run) });
    }

    /// Runs what the command line asks for, each lane in the order in which it was added.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let choice = Choice::parse(std::env::args().skip(1));
        let all = self.tests.len();
        let chosen: Vec<_> = self.tests.into_iter().filter(|test| choice.takes(&test.name)).collect();
        if choice.list {
            for test in &chosen {
                say(&format!("{}: test\n", test.name));
            }
            return ExitCode::SUCCESS;
        }
        let out = all - chosen.len();
        say(&format!("\nrunning {} tests\n", chosen.len()));
        let start = Instant::now();
        let done = run_all(chosen);
        if !done.failed.is_empty() {
            say("\nfailures:\n");
            for (name, why) in &done.failed {
                say(&format!("\n---- {name} ----\n{why}\n"));
            }
        }
        let word = if done.failed.is_empty() { "ok" } else { "FAILED" };
        say(&format!(
            "\ntest result: {word}. {} passed; {} failed; {} ignored; 0 measured; {out} filtered out; finished in {:.2}s\n\n",
            done.passed,
            done.failed.len(),
            done.ignored,
            start.elapsed().as_secs_f64()
        ));
        if done.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
    }
}

/// What came of all of them.
#[derive(Default)]
struct Done {
    passed: u64,
    ignored: u64,
    failed: Vec<(String, String)>,
}

/// What is left to do, and which lanes are taken.
struct Left<'a> {
    tests: Vec<Test<'a>>,
    busy: Vec<String>,
    done: Done,
}

fn run_all(tests: Vec<Test<'_>>) -> Done {
    let first = tests.first().map(|test| test.lane.clone());
    let alone = tests.iter().all(|test| Some(&test.lane) == first.as_ref());
    let left = Mutex::new(Left { tests, busy: Vec::new(), done: Done::default() });
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 0..if alone { 1 } else { AT_ONCE } {
            scope.spawn(|| work(&left, &changed, alone));
        }
    });
    left.into_inner().unwrap_or_else(PoisonError::into_inner).done
}

/// Takes the first test of a free lane, again and again.
fn work(left: &Mutex<Left<'_>>, changed: &Condvar, alone: bool) {
    let mut state = left.lock().unwrap_or_else(PoisonError::into_inner);
    while !state.tests.is_empty() {
        let free = state.tests.iter().position(|test| !state.busy.contains(&test.lane));
        let Some(next) = free else {
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let Test { lane, name, run } = state.tests.remove(next);
        state.busy.push(lane.clone());
        drop(state);
        let head = format!("test {name} ... ");
        if alone {
            say(&head);
        }
        let verdict = catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|panic| Verdict::Failed(format!("panicked: {}", text(&*panic))));
        let tail = match &verdict {
            Verdict::Passed(text) if text.is_empty() => "ok\n".into(),
            Verdict::Passed(text) => format!("ok ({text})\n"),
            Verdict::Ignored(why) => format!("ignored, {why}\n"),
            Verdict::Failed(_) => "FAILED\n".into(),
        };
        say(&if alone { tail } else { head + &tail });
        state = left.lock().unwrap_or_else(PoisonError::into_inner);
        match verdict {
            Verdict::Passed(_) => state.done.passed += 1,
            Verdict::Ignored(_) => state.done.ignored += 1,
            Verdict::Failed(why) => state.done.failed.push((name, why)),
        }
        state.busy.retain(|busy| *busy != lane);
        changed.notify_all();
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
