//! Tests that hang under libtest, which says after a minute that a test still runs, and then waits for ever. Harnesses of
//! our own limit their tests themselves.

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::process::{command, succeeds};

/// Sets the limit of every test, in seconds; 0 for none. The harnesses in `tenure-servers` and `tenure-lab` obey it too.
const VARIABLE: &str = "TENURE_TEST_LIMIT";
const DEFAULT: Duration = Duration::from_secs(600);

/// libtest says this of a test after a minute.
const STILL_RUNS: &str = " has been running for over 60 seconds";
const A_MINUTE: Duration = Duration::from_secs(60);

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
    /// Those that took too long.
    hung: Vec<String>,
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

    /// Takes in a line of a test binary that the process `cargo` has started.
    pub(crate) fn line(&self, cargo: u32, line: &str) {
        let mut state = locked(&self.state);
        state.cargo = cargo;
        let Some(rest) = line.strip_prefix("test ") else { return };
        if let Some(name) = rest.strip_suffix(STILL_RUNS) {
            let since = Instant::now().checked_sub(A_MINUTE).unwrap_or_else(Instant::now);
            state.long.insert(name.to_owned(), since);
        } else if rest.starts_with("result: ") {
            state.long.clear();
        } else if let Some((name, _)) = rest.split_once(" ... ") {
            state.long.remove(name.trim_end());
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
    let over: Vec<String> = over.map(|(name, _)| name.clone()).collect();
    if over.is_empty() {
        return;
    }
    // All of them end with their process.
    state.long.clear();
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
        let status = watch(&mut command("sh", &["-c", script]), |cargo, line| {
            watchdog.line(cargo, line);
            lines.push(line.to_owned());
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
            watchdog.line(u32::MAX, line);
        }
        look(&mut locked(&watchdog.state), Duration::ZERO);
        assert!(watchdog.end().is_empty());
    }
}
