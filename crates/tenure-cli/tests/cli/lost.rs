//! The lock goes while the command runs.

use rustix::process::Signal;

use crate::support::{Place, alive, json_of, kill, until};

/// A family that ignores SIGTERM, the grandchild in another session.
const STUBBORN: &str = "trap '' TERM; setsid sh -c 'echo $$ > other; while :; do sleep 0.01; done' & echo $$ > first; \
                        while :; do sleep 0.01; done";

#[test]
fn a_broken_lock_stops_the_command_and_says_why() {
    let place = Place::new();
    let script = "trap 'echo TERM > got; exit 0' TERM; echo $$ > first; while :; do sleep 0.01; done";
    let running = place.run(&["--status-file", "status", "--ttl", "1h", "x", "--", "sh", "-c", script]);
    let first = place.pid_of("first");
    place.until_held("x");
    assert_eq!(place.code(&["break", "--yes", "--reason", "stuck since 3 am", "x"]), Some(0));
    let (code, said) = running.wait();
    assert_eq!(code, Some(80), "{said}");
    assert!(said.contains("stuck since 3 am"), "{said}");
    assert!(!alive(first));
    assert_eq!(place.line_of("got"), "TERM");
    let status = json_of(&place.file("status"));
    assert_eq!((&status["outcome"], &status["exit"]), (&"lost".into(), &80.into()));
    assert!(status["lost"].as_str().unwrap().contains("stuck since 3 am"));
}

#[test]
fn whoever_ignores_sigterm_is_killed_after_the_grace() {
    let place = Place::new();
    let running = place.run(&["--ttl", "1h", "--grace", "100ms", "x", "--", "sh", "-c", STUBBORN]);
    let pids = ["first", "other"].map(|name| place.pid_of(name));
    place.until_held("x");
    assert_eq!(place.code(&["break", "--yes", "x"]), Some(0));
    assert_eq!(running.wait().0, Some(80));
    assert!(pids.iter().all(|pid| !alive(*pid)), "{pids:?}");
}

#[test]
fn what_lingers_is_stopped_as_well() {
    let place = Place::new();
    let script = "setsid sh -c 'echo $$ > other; while :; do sleep 0.01; done' > /dev/null 2>&1 & exit 0";
    assert_eq!(place.code(&["run", "--ttl", "1h", "x", "--", "sh", "-c", script]), Some(0));
    let other = place.pid_of("other");
    assert_eq!(place.code(&["break", "--yes", "x"]), Some(0));
    until("the end of what lingered", || (!alive(other)).then_some(()));
}

/// A stopped guardian can protect nothing: its lease ends, and the next is granted. Once it goes on it finds the lock
/// lost, and stops its command at once.
#[test]
fn a_guardian_that_was_stopped_for_too_long_stops_its_command() {
    let place = Place::new();
    let running = place.run(&["--ttl", "300ms", "x", "--", "sh", "-c", STUBBORN]);
    let pids = ["first", "other"].map(|name| place.pid_of(name));
    place.until_held("x");
    let guardian = running.guardian();
    kill(guardian, Signal::STOP);
    // Granted to another, since the lease ended.
    assert_eq!(place.code(&["run", "x", "--", "true"]), Some(0));
    kill(guardian, Signal::CONT);
    let (code, said) = running.wait();
    assert_eq!(code, Some(80), "{said}");
    assert!(pids.iter().all(|pid| !alive(*pid)), "{pids:?}");
}
