//! The lock goes while the command runs.

use std::fs;

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

/// As at logout, or by a cleaner of temporary files. The next renewal of this lock would come after 20 minutes.
#[test]
fn a_removed_store_stops_the_command() {
    let place = Place::new();
    let running = place.run(&["--ttl", "1h", "x", "--", "sh", "-c", "echo $$ > first; exec sleep 600"]);
    let first = place.pid_of("first");
    fs::remove_dir_all(place.file("store")).unwrap();
    let (code, said) = running.wait();
    assert_eq!(code, Some(80), "{said}");
    assert!(said.contains("the store was removed while it was held"), "{said}");
    assert!(!alive(first));
}

#[test]
fn a_short_job_in_a_removed_store_does_not_succeed() {
    let place = Place::new();
    let script = "rm -r store; sleep 0.1";
    let output = place.output(&["run", "--ttl", "1h", "x", "--", "sh", "-c", script]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(80), "{said}");
    assert!(said.contains("lost"), "{said}");
}

/// A stopped guardian can protect nothing: its lease ends, and the next is granted. Once it goes on it finds the lock
/// lost, and stops its command at once.
#[test]
fn a_guardian_that_was_stopped_for_too_long_stops_its_command() {
    let place = Place::new();
    let running = place.run(&["--ttl", "3s", "x", "--", "sh", "-c", STUBBORN]);
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

/// Stops one thread of a process and no other, as a debugger does. It goes on when the calling thread ends.
#[allow(unsafe_code)]
fn freeze(pid: i32, name: &str) {
    let thread = until("the thread", || {
        fs::read_dir(format!("/proc/{pid}/task")).unwrap().find_map(|entry| {
            let tid = entry.ok()?.file_name().to_str()?.parse::<i32>().ok()?;
            let comm = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
            (comm.trim_end() == name).then_some(tid)
        })
    });
    for request in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
        // SAFETY: neither request reads or writes this process's memory.
        let done = unsafe { libc::ptrace(request, thread, 0, 0) };
        assert_eq!(done, 0, "ptrace: {}", std::io::Error::last_os_error());
    }
}

/// The promise at the heart of `tenure run`: nothing is renewed any more, nobody tells the guardian, and still nobody
/// of the command is alive when the lock is granted to another. The witness is a kernel lock that all of them hold.
#[test]
fn without_renewals_everybody_is_gone_before_the_next_is_granted() {
    let place = Place::new();
    let script = "exec 9>> witness; flock -n 9 || exit 99; trap 'echo TERM >> got' TERM; \
                  setsid sh -c 'trap \"\" TERM; echo $$ > other; while :; do sleep 0.01; done' & \
                  echo $$ > first; while :; do sleep 0.01; done";
    let args = ["--ttl", "6s", "--grace", "1s", "--status-file", "status", "x", "--", "sh", "-c", script];
    let running = place.run(&args);
    let pids = ["first", "other"].map(|name| place.pid_of(name));
    place.until_held("x");
    freeze(running.guardian(), "tenure");
    let next = place.run(&["x", "--", "sh", "-c", "exec 9>> witness; flock -n 9"]);
    assert_eq!(next.wait().0, Some(0), "the next was granted while somebody of the first was alive");
    let (code, said) = running.wait();
    assert_eq!(code, Some(80), "{said}");
    assert!(said.contains("could not be renewed"), "{said}");
    assert!(pids.iter().all(|pid| !alive(*pid)), "{pids:?}");
    // There was time to end in good order.
    assert_eq!(place.line_of("got"), "TERM");
    assert_eq!(json_of(&place.file("status"))["outcome"], "lost");
}

#[test]
fn a_store_that_is_removed_stops_the_command() {
    let place = Place::new();
    let running = place.run(&["--ttl", "3s", "x", "--", "sh", "-c", STUBBORN]);
    let pids = ["first", "other"].map(|name| place.pid_of(name));
    place.until_held("x");
    fs::remove_dir_all(place.file("store")).unwrap();
    let (code, said) = running.wait();
    assert_eq!(code, Some(80), "{said}");
    assert!(pids.iter().all(|pid| !alive(*pid)), "{pids:?}");
}

/// Whoever takes over work that may be half done is told so: by a variable, in the status file, in JSON.
#[test]
fn the_next_command_is_told_how_the_hold_before_ended() {
    let place = Place::new();
    let told = |args: &[&str]| {
        let script = ["sh", "-c", "printf '%s' \"$TENURE_PREVIOUS\" > told"];
        let run = ["run", "--status-file", "status"];
        assert_eq!(place.code(&[&run, args, &["--"], &script].concat()), Some(0));
        (fs::read_to_string(place.file("told")).unwrap(), json_of(&place.file("status")))
    };
    for expected in ["unknown", "released"] {
        let (variable, status) = told(&["x"]);
        assert_eq!((variable.as_str(), &status["previous"]), (expected, &expected.into()));
    }
    let killed = place.run(&["--ttl", "1h", "x", "--", "sleep", "60"]);
    place.until_held("x");
    kill(killed.guardian(), Signal::KILL);
    killed.wait();
    let (variable, status) = told(&["x", "y"]);
    assert_eq!(variable, "expired\nunknown");
    assert_eq!(status["locks"][0]["previous"], "expired");
    let broken = place.run(&["x", "--", "sleep", "60"]);
    place.until_held("x");
    assert_eq!(place.code(&["break", "--yes", "x"]), Some(0));
    broken.wait();
    let output = place.output(&["--json", "acquire", "x"]);
    let handle: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(handle["previous"], "evicted");
    let shown: serde_json::Value =
        serde_json::from_slice(&place.output(&["--json", "show", "x"]).stdout).unwrap();
    assert_eq!(shown["previous"], "evicted");
    let text = String::from_utf8(place.output(&["show", "x"]).stdout).unwrap();
    assert!(text.contains("the hold before was taken away"), "{text}");
}
