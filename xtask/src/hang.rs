//! Tests that hang under libtest, which waits for them for ever. With several threads it says after a minute that a test
//! still runs. With one thread (`RUST_TEST_THREADS=1`, or a machine with one core) it runs tests on its main thread and
//! says nothing, but it writes a test's name when the test starts, and the result behind it. Harnesses of our own limit
//! their tests themselves.

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::process::{Said, command, succeeds};

/// Sets the limit of every test, in seconds; 0 for none. The harnesses in `tenure-servers` and `tenure-lab` obey it too.
const VARIABLE: &str = "TENURE_TEST_LIMIT";
const DEFAULT: Duration = Duration::from_secs(600);

/// libtest says this of a test after a minute.
const STILL_RUNS: &str = " has been running for over 60 seconds";
const A_MINUTE: Duration = Duration::from_secs(60);
/// A test of which only the start was heard may take longer by this part of the limit: a harness of our own ends it before.
const LATER: u32 = 60;

/// The limit of every test, if there is one.
pub(crate) fn limit() -> Option<Duration> {
    let set = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok()).map(Duration::from_secs);
    Some(set.unwrap_or(DEFAULT)).filter(|limit| !limit.is_zero())
}

#[derive(Default)]
struct State {
    /// The process whose children are test binaries.
    cargo: u32,
    /// Tests that run for long, and since when.
    long: BTreeMap<String, Instant>,
    /// The test whose result is to come, and since when.
    begun: Option<(String, Instant)>,
    /// Those that took too long.
    hung: Vec<String>,
}

impl State {
    fn begin(&mut self, text: &str) {
        let name = text
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "))
            .map(|(name, _)| name.trim_end());
        if let Some(name) = name
            && self.begun.as_ref().is_none_or(|(begun, _)| begun != name)
        {
            self.begun = Some((name.to_owned(), Instant::now()));
        }
    }

    fn line(&mut self, line: &str) {
        // The result of a test that has written something itself stands on a line of its own.
        if is_result(line) {
            self.begun = None;
        }
        let Some(rest) = line.strip_prefix("test ") else { return };
        if let Some(name) = rest.strip_suffix(STILL_RUNS) {
            let since = Instant::now().checked_sub(A_MINUTE).unwrap_or_else(Instant::now);
            self.long.insert(name.to_owned(), since);
        } else if rest.starts_with("result: ") {
            self.long.clear();
            self.begun = None;
        } else if let Some((name, result)) = rest.split_once(" ... ") {
            if is_result(result) {
                self.long.remove(name.trim_end());
                self.begun = None;
            } else {
                self.begin(line);
            }
        }
    }
}

fn is_result(text: &str) -> bool {
    ["ok", "FAILED", "ignored", "bench:"].iter().any(|word| text.starts_with(word))
}

/// Reads what test binaries say, and kills one in which a test exceeds the limit. `cargo test` goes on with the next one.
pub(crate) struct Watchdog {
    state: Arc<Mutex<State>>,
    watch: Option<(Sender<()>, JoinHandle<()>)>,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchdog {
    pub(crate) fn new(limit: Option<Duration>) -> Watchdog {
        let state: Arc<Mutex<State>> = Arc::default();
        let watch = limit.map(|limit| {
            let (alive, over) = channel::<()>();
            let shared = state.clone();
            let watch = thread::spawn(move || {
                while over.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                    look(&mut locked(&shared), limit);
                }
            });
            (alive, watch)
        });
        Watchdog { state, watch }
    }

    /// Takes in what a test binary writes that the process `cargo` has started.
    pub(crate) fn hear(&self, cargo: u32, said: Said<'_>) {
        let mut state = locked(&self.state);
        state.cargo = cargo;
        match said {
            Said::Begun(text) => state.begin(text),
            Said::Line(line) => state.line(line),
        }
    }

    /// Ends it, and returns what is to be said of each test that took too long.
    pub(crate) fn end(mut self) -> Vec<String> {
        if let Some((alive, watch)) = self.watch.take() {
            drop(alive);
            let _ = watch.join();
        }
        std::mem::take(&mut locked(&self.state).hung)
    }
}

/// Kills the test binary if one of its tests has exceeded the limit.
fn look(state: &mut State, limit: Duration) {
    let over = state.long.iter().filter(|(_, since)| since.elapsed() >= limit);
    let mut over: Vec<String> = over.map(|(name, _)| name.clone()).collect();
    over.extend(
        state.begun.take_if(|(_, since)| since.elapsed() >= limit + limit / LATER).map(|(name, _)| name),
    );
    if over.is_empty() {
        return;
    }
    // All of them end with their process.
    (state.long, state.begun) = (BTreeMap::new(), None);
    let secs = limit.as_secs();
    let said =
        |name| format!("{name}: it did not end within {secs} s; {VARIABLE} sets the limit, in seconds");
    state.hung.extend(over.into_iter().map(said));
    for child in children(state.cargo) {
        let _ = succeeds(&mut command("kill", &["-KILL", &child]));
    }
}

/// The processes that a process has started.
fn children(parent: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::watch;

    #[test]
    fn a_test_that_hangs_is_killed_and_named() {
        // Plays cargo: its first test binary hangs, and the next one does not.
        let script = "echo 'test a::b has been running for over 60 seconds'; echo 'test c has been running for over 60 seconds'; \
                      echo 'test c ... ok'; sleep 3600; echo 'test d ... ok'";
        let watchdog = Watchdog::new(Some(A_MINUTE));
        let mut lines = Vec::new();
        let status = watch(&mut command("sh", &["-c", script]), |cargo, said| {
            watchdog.hear(cargo, said);
            if let Said::Line(line) = said {
                lines.push(line.to_owned());
            }
        });
        assert!(status.expect("it runs").success());
        assert_eq!(lines.last().map(String::as_str), Some("test d ... ok"), "the next one ran");
        let hung = watchdog.end();
        assert!(hung.len() == 1 && hung[0].starts_with("a::b: it did not end within 60 s"), "{hung:?}");
    }

    #[test]
    fn a_test_that_ends_is_not() {
        let watchdog = Watchdog::new(Some(Duration::from_secs(1)));
        for line in ["test a has been running for over 60 seconds", "test result: ok. 1 passed"] {
            watchdog.hear(u32::MAX, Said::Line(line));
        }
        look(&mut locked(&watchdog.state), Duration::ZERO);
        assert!(watchdog.end().is_empty());
    }

    /// With one thread libtest never says that a test still runs.
    #[test]
    fn a_test_that_hangs_on_the_only_thread_is_killed_and_named() {
        let script = "echo 'test a ... ok'; printf 'test b::c ... '; echo 'written by the test'; sleep 3600; echo 'test d ... ok'";
        let watchdog = Watchdog::new(Some(Duration::ZERO));
        let mut last = String::new();
        let status = watch(&mut command("sh", &["-c", script]), |cargo, said| {
            watchdog.hear(cargo, said);
            if let Said::Line(line) = said {
                line.clone_into(&mut last);
            }
        });
        assert!(status.expect("it runs").success());
        assert_eq!(last, "test d ... ok", "the next one ran");
        let hung = watchdog.end();
        assert!(hung.len() == 1 && hung[0].starts_with("b::c: it did not end"), "{hung:?}");
    }

    /// What libtest really writes with one thread.
    #[test]
    fn libtest_writes_a_name_before_it_runs_the_test() {
        const HELPER: &str = "TENURE_XTASK_HANGS";
        if std::env::var_os(HELPER).is_some() {
            loop {
                std::thread::park();
            }
        }
        let me = std::env::current_exe().expect("this binary");
        let name = "hang::tests::libtest_writes_a_name_before_it_runs_the_test";
        let script = format!("'{}' --exact {name} --test-threads=1; echo over", me.display());
        let watchdog = Watchdog::new(Some(Duration::ZERO));
        let mut shell = command("sh", &["-c", &script]);
        let status = watch(shell.env(HELPER, "1"), |cargo, said| watchdog.hear(cargo, said));
        assert!(status.expect("it runs").success());
        let hung = watchdog.end();
        assert!(hung.len() == 1 && hung[0].starts_with(name), "{hung:?}");
    }

    #[test]
    fn a_result_ends_a_test_wherever_it_stands() {
        let begun = |all: &[Said<'_>]| {
            let mut state = State::default();
            for said in all {
                match said {
                    Said::Line(line) => state.line(line),
                    Said::Begun(text) => state.begin(text),
                }
            }
            state.begun.map(|(name, _)| name)
        };
        use Said::{Begun, Line};
        let start = Begun("test a ... ");
        assert_eq!(begun(&[start]).as_deref(), Some("a"));
        assert_eq!(begun(&[start, Line("test a ... ok")]), None);
        assert_eq!(begun(&[start, Line("test a ... hello")]).as_deref(), Some("a"));
        assert_eq!(begun(&[start, Line("test a ... hello"), Line("FAILED")]), None);
        assert_eq!(
            begun(&[start, Line("test a ... ok"), Begun("test b - should panic ... ")]).as_deref(),
            Some("b - should panic")
        );
        assert_eq!(begun(&[start, Line("test result: ok. 1 passed")]), None);
        assert_eq!(begun(&[Begun("test resu"), Begun("     Running")]), None);
    }
}
