//! A small test harness for test binaries with a `main` of their own: they must be able to be worker processes, and
//! what does not apply is listed as ignored with its reason, never as passed.
//!
//! Speaks libtest's language as far as people and tools use it: name filters, `--exact`, `--skip`, `--list`,
//! `--ignored` lines, a final `test result:` line. One test of a lane runs at a time, and four lanes at most. A test that
//! exceeds its limit fails by its name, and the process exits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tenure_servers::limit::{self, say};

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
pub struct Harness<'a> {
    tests: Vec<Test<'a>>,
    limit: Duration,
}

impl Default for Harness<'_> {
    fn default() -> Self {
        Harness { tests: Vec::new(), limit: limit::DEFAULT }
    }
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
    /// Only tests marked `#[ignore]`. These tests have no such mark, so none runs.
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

    /// Sets how long each test may take (10 minutes). `TENURE_TEST_LIMIT` in the environment, in seconds, replaces it; 0
    /// stands for no limit.
    #[must_use]
    pub fn limit(self, limit: Duration) -> Harness<'a> {
        Harness { limit, ..self }
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

    /// Runs what the command line asks for, each lane in the order in which it was added. Exits the process if a test
    /// exceeds the limit.
    #[must_use]
    pub fn run(self) -> ExitCode {
        self.run_chosen(&Choice::parse(std::env::args().skip(1)))
    }

    fn run_chosen(self, choice: &Choice) -> ExitCode {
        let all = self.tests.len();
        let chosen: Vec<_> = self.tests.into_iter().filter(|test| choice.takes(&test.name)).collect();
        if choice.list {
            for test in &chosen {
                say(&format!("{}: test\n", test.name));
            }
            return ExitCode::SUCCESS;
        }
        say(&format!("\nrunning {} tests\n", chosen.len()));
        let run = Running { out: all - chosen.len(), start: Instant::now(), limit: limit::or(self.limit) };
        let done = run_all(chosen, &run);
        run.close(&done);
        if done.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
    }
}

/// The status of libtest where a test failed.
const FAILED: u8 = 101;

/// A run of tests.
struct Running {
    /// How many were filtered out.
    out: usize,
    start: Instant,
    limit: Option<Duration>,
}

impl Running {
    /// Says what failed and how many there were.
    fn close(&self, done: &Done) {
        if !done.failed.is_empty() {
            say("\nfailures:\n");
            for (name, why) in &done.failed {
                say(&format!("\n---- {name} ----\n{why}\n"));
            }
        }
        say(&format!(
            "\ntest result: {}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out; finished in {:.2}s\n\n",
            if done.failed.is_empty() { "ok" } else { "FAILED" },
            done.passed,
            done.failed.len(),
            done.ignored,
            self.out,
            self.start.elapsed().as_secs_f64()
        ));
    }

    /// Exits the process when a test exceeds the limit: a thread that hangs cannot be stopped.
    fn watch(&self, limit: Duration, left: &Mutex<Left<'_>>, changed: &Condvar) {
        let mut state = left.lock().unwrap_or_else(PoisonError::into_inner);
        while !(state.tests.is_empty() && state.busy.is_empty()) {
            let since = state.busy.iter().map(|busy| busy.since).min().unwrap_or_else(Instant::now);
            let rest = limit.saturating_sub(since.elapsed());
            if !rest.is_zero() {
                state = changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let over: Vec<String> = {
                let late = state.busy.iter().filter(|busy| busy.since.elapsed() >= limit);
                late.map(|busy| busy.name.clone()).collect()
            };
            for name in over {
                say(&format!("test {name} ... FAILED\n"));
                state.done.failed.push((name, limit::overdue(limit)));
            }
            say(&format!("{} more tests were not run\n", state.tests.len()));
            self.close(&state.done);
            std::process::exit(FAILED.into());
        }
    }
}

/// What came of all of them.
#[derive(Default)]
struct Done {
    passed: u64,
    ignored: u64,
    failed: Vec<(String, String)>,
}

/// What is left to do, and what is being done.
struct Left<'a> {
    tests: Vec<Test<'a>>,
    busy: Vec<Busy>,
    done: Done,
}

/// A test that runs.
struct Busy {
    lane: String,
    name: String,
    since: Instant,
}

fn run_all(tests: Vec<Test<'_>>, run: &Running) -> Done {
    let first = tests.first().map(|test| test.lane.clone());
    let alone = tests.iter().all(|test| Some(&test.lane) == first.as_ref());
    let left = Mutex::new(Left { tests, busy: Vec::new(), done: Done::default() });
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        if let Some(limit) = run.limit {
            let (left, changed) = (&left, &changed);
            scope.spawn(move || run.watch(limit, left, changed));
        }
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
        let free = state.tests.iter().position(|test| state.busy.iter().all(|busy| busy.lane != test.lane));
        let Some(next) = free else {
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let Test { lane, name, run } = state.tests.remove(next);
        state.busy.push(Busy { lane: lane.clone(), name: name.clone(), since: Instant::now() });
        changed.notify_all();
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
        state.busy.retain(|busy| busy.lane != lane);
        changed.notify_all();
    }
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
    use std::process::Command;

    use super::*;

    /// In the child, a harness with a test that hangs; here, what is seen of it.
    #[test]
    fn a_test_that_hangs_fails_by_its_name() {
        const CHILD: &str = "TENURE_LAB_TEST_HANGS";
        if std::env::var_os(CHILD).is_some() {
            let mut harness = Harness::new();
            harness.test_in("a", "brief", || Verdict::Passed(String::new()));
            harness.test_in("b", "endless", || {
                std::thread::sleep(Duration::from_secs(3600));
                Verdict::Passed(String::new())
            });
            harness.test_in("b", "behind_it", || Verdict::Passed(String::new()));
            let _ = harness.run_chosen(&Choice::default());
            unreachable!("the process has exited");
        }
        let mut child = Command::new(std::env::current_exe().expect("this binary"));
        child.args(["--exact", "harness::tests::a_test_that_hangs_fails_by_its_name", "--nocapture"]);
        let output = child.env(CHILD, "1").env(limit::VARIABLE, "1").output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(101), "{said}");
        for line in [
            "test brief ... ok",
            "test endless ... FAILED",
            "---- endless ----\nit did not end within 1 s",
            "1 more tests were not run",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
    }

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
