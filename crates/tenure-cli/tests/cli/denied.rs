//! Machines that deny what newer ones give: process descriptors under old seccomp profiles, /proc that is hidden or
//! belongs to another pid namespace, no more threads. What cannot be promised is refused, and nothing is said to be
//! stopped that was not.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use tenure_servers::skip::ignored;

use crate::support::{Place, Running, TENURE, alive, kill, settled, until};

/// Lets the kernel answer these system calls with `errno`, in the command and everything below it.
fn deny(command: &mut Command, errno: i32, calls: &[i64]) {
    let jump = |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
    let (load, equal, answer) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET,
    );
    let mut filter = vec![jump(load, 0, 0, 0)]; // the number of the call
    for call in calls {
        filter.push(jump(equal, 0, 1, u32::try_from(*call).unwrap()));
        filter.push(jump(answer, 0, 0, libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap()));
    }
    filter.push(jump(answer, 0, 0, libc::SECCOMP_RET_ALLOW));
    let set = move || {
        let program = libc::sock_fprog {
            len: u16::try_from(filter.len()).unwrap(),
            filter: filter.as_ptr().cast_mut(),
        };
        // SAFETY: the program points to a filter that the closure owns; prctl(2) only reads it.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: system calls only; the filter was allocated before.
    unsafe { command.pre_exec(set) };
}

/// A command with a grandchild in another session, both deaf to SIGTERM.
const FAMILY: &str = "trap '' TERM; setsid sh -c 'echo $$ > other; while :; do sleep 0.01; done' & echo $$ > first; \
                      while :; do sleep 0.01; done";

/// A `tenure run` of the family under which these system calls are denied.
fn family(place: &Place, errno: i32, calls: &[i64]) -> (Running, Vec<i32>) {
    let mut command =
        place.tenure(&["run", "--ttl", "1h", "--grace", "100ms", "x", "--", "sh", "-c", FAMILY]);
    deny(&mut command, errno, calls);
    (Running::start(command), pids(place))
}

fn pids(place: &Place) -> Vec<i32> {
    ["first", "other"].map(|name| place.pid_of(name)).to_vec()
}

/// Each way in which the family can be left without a lock; nobody of it may live when the lock is free.
fn lose(place: &Place, how: usize, running: Running, pids: &[i32]) {
    place.until_held("x");
    match how {
        0 => assert_eq!(place.code(&["break", "--yes", "x"]), Some(0)),
        1 => kill(running.guardian(), Signal::KILL),
        _ => kill(running.pid(), Signal::KILL),
    }
    if how < 2 {
        let (code, said) = running.wait();
        assert!(code == Some(80) && said.contains("the command was stopped"), "{code:?} {said}");
    } else {
        // Whoever is granted finds nobody; the lock of a killed run is free at once.
        assert_eq!(place.code(&["run", "x", "--", "true"]), Some(0));
    }
    assert!(pids.iter().all(|pid| !alive(*pid)), "{how}: {pids:?}");
}

#[test]
fn without_process_descriptors_everybody_is_stopped() {
    for errno in [libc::EPERM, libc::EACCES, libc::ENOSYS, libc::EMFILE] {
        for calls in [&[libc::SYS_pidfd_open][..], &[libc::SYS_pidfd_send_signal]] {
            for how in 0..3 {
                let place = Place::new();
                let (running, pids) = family(&place, errno, calls);
                lose(&place, how, running, &pids);
            }
        }
    }
}

/// Runs `script` in a mount namespace of its own; `None` if this user may not.
fn apart(place: &Place, script: &str) -> Option<Child> {
    let allowed = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        ignored("this user may not make a mount namespace");
        return None;
    }
    let mut command = settled("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", script]);
    command
        .env("TENURE_URL", place.url())
        .env("T", TENURE)
        .env("FAMILY", FAMILY)
        .current_dir(place.file("."));
    Some(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
}

#[test]
fn without_proc_everybody_is_stopped() {
    for how in 0..3 {
        let place = Place::new();
        // /proc is hidden once the command runs: before, the store wants to know this boot.
        let script = "mkdir empty; $T run --ttl 1h --grace 100ms x -- sh -c \"$FAMILY\" & echo $! > run; \
                      until [ -s other ]; do sleep 0.01; done; G=$(cat /proc/$!/task/$!/children | cut -d ' ' -f 1); \
                      mount --bind empty /proc; echo $G > guardian; wait $!; exit $?";
        let Some(child) = apart(&place, script) else { return };
        let (pids, run, guardian) = (pids(&place), place.pid_of("run"), place.pid_of("guardian"));
        let (code, said) = match how {
            0 => {
                assert_eq!(place.code(&["break", "--yes", "x"]), Some(0));
                (80, "the command was stopped")
            }
            1 => {
                kill(guardian, Signal::KILL);
                (80, "the command was stopped")
            }
            _ => {
                kill(run, Signal::KILL);
                (137, "")
            }
        };
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(code) && text.contains(said),
            "{how}: {:?} {text}",
            output.status
        );
        assert_eq!(place.code(&["run", "x", "--", "true"]), Some(0));
        assert!(pids.iter().all(|pid| !alive(*pid)), "{how}: {pids:?}");
    }
}

/// In a pid namespace that was entered without its /proc, the numbers there mean other processes.
#[test]
fn under_the_proc_of_another_namespace_everybody_is_stopped() {
    for (how, code) in
        [("$T break --yes x; wait $R", 80), ("kill -KILL $G; wait $R", 80), ("kill -KILL $R", 0)]
    {
        let place = Place::new();
        // The witness is a kernel lock that all of the family hold.
        let script = format!(
            "exec unshare -p -f sh -c 'exec 9> witness; $T run --ttl 1h --grace 100ms x -- sh -c \"flock -n 9 || exit 9; \
             echo \\$PPID > guardian; $FAMILY\" & R=$!; exec 9>&-; until [ -s other ]; do sleep 0.01; done; G=$(cat guardian); \
             {how}; echo $? > code; $T run x -- sh -c \"exec 9> witness; flock -n 9\"; exit $?'"
        );
        let Some(child) = apart(&place, &script) else { return };
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), place.line_of("code")),
            (Some(0), code.to_string()),
            "{how}: {text}"
        );
    }
}

#[test]
fn where_nothing_can_be_killed_nothing_is_started() {
    let place = Place::new();
    let mut command = place.tenure(&["run", "x", "--", "touch", "started"]);
    deny(&mut command, libc::EPERM, &[libc::SYS_kill, libc::SYS_pidfd_send_signal]);
    let (code, said) = Running::start(command).wait();
    assert!(code == Some(78) && said.contains("nothing could stop the command"), "{code:?} {said}");
    assert!(!place.file("started").exists());
    assert_eq!(place.code(&["run", "-n", "x", "--", "true"]), Some(0));
}

/// A lease that nobody can renew must not be taken; a wait that nobody can be woken from must not begin.
#[test]
fn without_what_a_lease_needs_nothing_is_taken() {
    for (call, word) in [
        (libc::SYS_clone3, "thread"),
        (libc::SYS_futex, "futex"),
        (libc::SYS_getrandom, "random"),
        (libc::SYS_eventfd2, "eventfd2"),
        (libc::SYS_timerfd_create, "timerfd_create"),
        (libc::SYS_signalfd4, "signalfd4"),
        (libc::SYS_setsid, "setsid"),
    ] {
        for contended in [false, true] {
            let place = Place::new();
            let holder = contended.then(|| place.hold("x"));
            let mut command =
                place.tenure(&["run", "--ttl", "3s", "-w", "500ms", "x", "--", "touch", "started"]);
            deny(&mut command, libc::EPERM, &[call]);
            let (code, said) = Running::start(command).wait();
            assert!(code == Some(69) && said.contains(word), "{call} {contended}: {code:?} {said}");
            assert!(!said.contains("panicked") && !place.file("started").exists(), "{said}");
            drop(holder);
            until("the lock is free", || {
                (place.code(&["run", "-n", "x", "--", "true"]) == Some(0)).then_some(())
            });
        }
    }
}
