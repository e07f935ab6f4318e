//! A time limit for tests: one that hangs fails with its name, and does not hold up whatever waits for it.

use std::io::Write;
use std::process::exit;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// The environment variable that sets the limit of every test, in seconds; 0 for none.
pub const VARIABLE: &str = "TENURE_TEST_LIMIT";
/// The default limit: many times what a test takes on a busy machine.
pub const DEFAULT: Duration = Duration::from_secs(600);

/// Returns the limit: that of the environment, else this one. `None`: there is none.
#[must_use]
pub fn or(usual: Duration) -> Option<Duration> {
    let set = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok()).map(Duration::from_secs);
    Some(set.unwrap_or(usual)).filter(|limit| !limit.is_zero())
}

/// Says that a test took too long, and how to allow it more.
#[must_use]
pub fn overdue(limit: Duration) -> String {
    format!("it did not end within {} s; {VARIABLE} sets the limit, in seconds", limit.as_secs())
}

/// Prints a text at once. Unlike what `print!` prints, libtest does not capture it.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Runs a test of any harness. If it exceeds the limit, its name is printed as that of a failed test, and the process exits:
/// a thread that hangs cannot be stopped.
pub fn within<T>(name: &str, test: impl FnOnce() -> T) -> T {
    let _watch = or(DEFAULT).map(|limit| Watch::new(name.to_owned(), limit));
    test()
}

/// Ends the process unless it is dropped in time.
struct Watch(#[allow(dead_code)] Sender<()>); // dropping it ends the wait

impl Watch {
    fn new(name: String, limit: Duration) -> Watch {
        let (alive, over) = channel();
        thread::spawn(move || {
            if over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                let why = overdue(limit);
                say(&format!(
                    "test {name} ... FAILED\n\nfailures:\n\n---- {name} ----\n{why}\n\ntest result: FAILED. 0 passed; 1 failed; \
                     0 ignored; 0 measured; 0 filtered out\n"
                ));
                exit(101);
            }
        });
        Watch(alive)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// In the child, what hangs; here, what is seen of it.
    #[test]
    fn a_test_that_hangs_fails_by_its_name() {
        const CHILD: &str = "TENURE_TEST_HANGS";
        if std::env::var_os(CHILD).is_some() {
            assert_eq!(within("brief", || 1), 1);
            within("endless", || thread::sleep(Duration::from_secs(3600)));
            unreachable!("the process has exited");
        }
        let mut child = Command::new(std::env::current_exe().expect("this binary"));
        child.args(["--exact", "limit::tests::a_test_that_hangs_fails_by_its_name", "--nocapture"]);
        let output = child.env(CHILD, "1").env(VARIABLE, "1").output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(101), "{said}");
        assert!(
            said.contains("test endless ... FAILED") && said.contains("did not end within 1 s"),
            "{said}"
        );
        assert!(
            said.contains("test result: FAILED. 0 passed; 1 failed") && !said.contains("brief"),
            "{said}"
        );
    }
}
