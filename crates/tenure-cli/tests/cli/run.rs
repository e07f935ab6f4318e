//! `tenure run`: what the command gets, what comes back, and who is kept out.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tenure_servers::skip::ignored;

use crate::support::{Place, Running, alive, json_of, kill, lines, text, until};

#[test]
fn the_commands_status_is_passed_on() {
    let place = Place::new();
    let plain = place.file("plain");
    fs::write(&plain, "no program").unwrap();
    let cases: &[(&[&str], i32)] = &[
        (&["true"], 0),
        (&["false"], 1),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "exit 255"], 255),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&[plain.to_str().unwrap()], 126),
        (&["/"], 126),
        (&["no-such-command-anywhere"], 127),
        (&["/nowhere/at/all"], 127),
    ];
    for (command, code) in cases {
        assert_eq!(place.code(&[&["run", "x", "--"], *command].concat()), Some(*code), "{command:?}");
    }
    assert_eq!(place.json(&["ls"]), Vec::<serde_json::Value>::new(), "a lock was left behind");
}

#[test]
fn arguments_and_streams_are_the_commands() {
    let place = Place::new();
    let mut command =
        place.tenure(&["run", "x", "--", "sh", "-c", "cat; echo \"$1|$2\" >&2", "sh", "--", "a  b"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let input = vec![b'x'; 1 << 20];
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn({
        let input = input.clone();
        move || stdin.write_all(&input).unwrap()
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.stdout == input, "{} bytes came back", output.stdout.len());
    assert_eq!(text(&output.stderr), "--|a  b\n");
}

#[test]
fn the_command_knows_its_lock() {
    let place = Place::new();
    let show = "echo $TENURE_LOCK; echo $TENURE_TOKEN; echo $TENURE_URL; echo $TENURE_NAMESPACE; echo \"$TENURE_HELD\"";
    let args = ["--namespace", "ns", "run", "a/b c", "--", "sh", "-c", show];
    let output = text(&place.output(&args).stdout);
    let [lock, token, url, namespace, held] = output.lines().collect::<Vec<_>>()[..] else {
        panic!("{output}")
    };
    assert_eq!((lock, url, namespace), ("a/b c", place.url().as_str(), "ns"));
    assert!(token.parse::<i64>().unwrap() > 0);
    let store = fs::canonicalize(place.file("store")).unwrap();
    assert_eq!(held, format!("host://{} ns/a/b c", store.display()));
}

#[test]
fn tokens_grow() {
    let place = Place::new();
    let token = || -> i64 {
        let output = place.output(&["run", "x", "--", "sh", "-c", "echo $TENURE_TOKEN"]);
        text(&output.stdout).trim().parse().unwrap()
    };
    let all: Vec<i64> = (0..5).map(|_| token()).collect();
    assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
}

#[test]
fn nobody_waits_for_himself() {
    let place = Place::new();
    let tenure = crate::support::TENURE;
    let nested = |outer: &[&str], inner: &[&str]| {
        place.code(&[&["run"], outer, &["--", tenure, "run"], inner, &["--", "true"]].concat())
    };
    assert_eq!(nested(&["x"], &["x"]), Some(64));
    assert_eq!(nested(&["x"], &["y"]), Some(0));
    assert_eq!(nested(&["x"], &["--namespace", "other", "x"]), Some(0));
    let other = Place::new();
    assert_eq!(nested(&["x"], &["--url", &other.url(), "x"]), Some(0));
    // Two levels up, and under another spelling of the store's place.
    assert_eq!(nested(&["x", "--", tenure, "run", "y"], &["x"]), Some(64));
    assert_eq!(nested(&["x"], &["--url", &format!("{}/", place.url()), "x"]), Some(64));
}

#[test]
fn busy_is_75_or_what_was_asked_for() {
    let place = Place::new();
    let holder = place.hold("x");
    for args in [&["-n", "x"][..], &["--wait", "30ms", "x"], &["--wait", "0s", "x"]] {
        let output = place.output(&[&["run"], args, &["--", "false"]].concat());
        assert_eq!(output.status.code(), Some(75), "{args:?}");
        assert!(
            text(&output.stderr).contains("sleep"),
            "does not say who holds it: {}",
            text(&output.stderr)
        );
    }
    assert_eq!(place.code(&["run", "-n", "-E", "3", "x", "--", "false"]), Some(3));
    assert_eq!(place.code(&["run", "-n", "-E", "0", "x", "--", "false"]), Some(0));
    let quiet = place.output(&["run", "-q", "-n", "x", "--", "false"]);
    assert_eq!((quiet.status.code(), text(&quiet.stderr)), (Some(75), String::new()));
    assert_eq!(place.code(&["run", "-n", "y", "--", "true"]), Some(0));
    drop(holder);
}

#[test]
fn waiters_are_served_when_the_lock_becomes_free() {
    let place = Place::new();
    let go = place.file("go");
    let mut holder = place.tenure(&["run", "x", "--", "sh", "-c", "until [ -e go ]; do sleep 0.01; done"]);
    let mut holder = holder.spawn().unwrap();
    place.until_held("x");
    let waiter = place.run(&["--wait", "1h", "x", "--", "sh", "-c", "exit 9"]);
    let line = place.until_waiting("x", 1);
    // While it waits, people find `tenure run` itself, under the command's name.
    assert_eq!(line["waiting"][0]["pid"], waiter.pid());
    assert_eq!((&line["waiting"][0]["program"], &line["waiting"][0]["reason"]), (&"sh".into(), &"sh".into()));
    fs::write(go, "").unwrap();
    assert_eq!(waiter.wait().0, Some(9));
    assert!(holder.wait().unwrap().success());
}

#[test]
fn a_waiter_that_is_killed_leaves_the_line() {
    let place = Place::new();
    let _holder = place.hold("x");
    let waiter = place.run(&["x", "--", "true"]);
    place.until_waiting("x", 1);
    drop(waiter); // by SIGKILL
    place.until_waiting("x", 0);
}

#[test]
fn two_never_run_at_once() {
    let place = Place::new();
    // Reads, waits and writes: every overlap loses a count.
    let script = "n=$(cat counter 2>/dev/null || echo 0); sleep 0.002; echo $((n + 1)) > counter; \
                  mkdir inside && rmdir inside || echo overlap >> errors";
    let one = || {
        for _ in 0..25 {
            assert_eq!(place.code(&["run", "x", "--", "sh", "-c", script]), Some(0));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(one);
        }
    });
    assert_eq!(fs::read_to_string(place.file("counter")).unwrap(), "100\n");
    assert!(!place.file("errors").exists());
}

#[test]
fn what_goes_on_in_the_background_keeps_the_lock() {
    let place = Place::new();
    let script = "sh -c 'echo $$ > pid; until [ -e go ]; do sleep 0.01; done' > /dev/null 2>&1 & exit 6";
    // The command's own output ends with the command, although the guardian lives on.
    let output = place.output(&["run", "x", "--status-file", "status", "--", "sh", "-c", script]);
    assert_eq!(output.status.code(), Some(6));
    let pid = place.pid_of("pid");
    assert!(alive(pid));
    let status = json_of(&place.file("status"));
    assert_eq!((&status["exit"], &status["lingering"]), (&6.into(), &true.into()));
    assert_eq!(place.code(&["run", "-n", "x", "--", "true"]), Some(75));
    fs::write(place.file("go"), "").unwrap();
    assert_eq!(place.code(&["run", "x", "--", "true"]), Some(0));
    assert!(!alive(pid));
}

#[test]
fn the_status_file_tells_the_outcome() {
    let place = Place::new();
    let status = |args: &[&str]| {
        place.code(&[&["run", "--status-file", "status"], args].concat());
        json_of(&place.file("status"))
    };
    let ran = status(&["--namespace", "ns", "x", "--", "sh", "-c", "exit 3"]);
    assert_eq!(
        (&ran["outcome"], &ran["exit"], &ran["signal"]),
        (&"ran".into(), &3.into(), &serde_json::Value::Null)
    );
    assert_eq!(
        (&ran["lock"], &ran["namespace"], &ran["lingering"]),
        (&"x".into(), &"ns".into(), &false.into())
    );
    assert!(ran["token"].as_i64().unwrap() > 0 && ran["held_ms"].is_u64() && ran["waited_ms"].is_u64());
    let killed = status(&["x", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(
        (&killed["outcome"], &killed["exit"], &killed["signal"]),
        (&"ran".into(), &137.into(), &9.into())
    );
    let failed = status(&["x", "--", "/nowhere/at/all"]);
    assert_eq!((&failed["outcome"], &failed["exit"]), (&"failed".into(), &127.into()));
    // Only a run that held the lock writes it.
    let _holder = place.hold("x");
    assert_eq!(status(&["-n", "x", "--", "true"]), failed);
    assert_eq!(status(&["--wait", "20ms", "x", "--", "true"]), failed);
    assert_eq!(status(&["--url", "host:///nowhere/at/all", "y", "--", "true"]), failed);
}

/// Two that have the same file: each object is whole, and a reader never sees an empty file.
#[test]
fn a_second_run_leaves_the_status_file_of_the_first_alone() {
    let place = Place::new();
    fs::write(place.file("status"), "before\n").unwrap();
    let args = ["--status-file", "status", "x", "--", "sh", "-c", "until [ -e go ]; do sleep 0.01; done"];
    let first = place.run(&args);
    place.until_held("x");
    let waits = place.run(&["--status-file", "status", "x", "--", "true"]);
    place.until_waiting("x", 1);
    assert_eq!(place.code(&["run", "-n", "--status-file", "status", "x", "--", "true"]), Some(75));
    assert_eq!(fs::read_to_string(place.file("status")).unwrap(), "before\n");
    drop(waits);
    let long = format!("/nowhere/{}", "long/".repeat(200));
    assert_eq!(place.code(&["run", "--status-file", "status", "y", "--", &long]), Some(127));
    assert_eq!(json_of(&place.file("status"))["lock"], "y");
    fs::write(place.file("go"), "").unwrap();
    assert_eq!(first.wait().0, Some(0));
    assert_eq!((json_of(&place.file("status")))["lock"], "x");
    let left = fs::read_dir(place.file(".")).unwrap().map(|e| e.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
    // What is no file is written to as it is.
    let output = place.output(&["run", "--status-file", "/dev/stderr", "x", "--", "true"]);
    assert!(text(&output.stderr).starts_with(r#"{"outcome":"ran""#), "{output:?}");
}

/// A job that waits in a log without a word looks broken.
#[test]
fn a_waiter_whose_stderr_is_no_terminal_says_once_whom_it_waits_for() {
    let place = Place::new();
    let holder = place.hold("x");
    let say = |args: &[&str]| {
        let mut command = place.tenure(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut waiting = [say(&["run", "x", "--", "true"]), say(&["acquire", "x"])];
    let quiet = [say(&["run", "-q", "x", "--", "true"]), say(&["acquire", "-q", "x"])];
    let mut said = waiting.each_mut().map(|one| BufReader::new(one.stderr.take().unwrap()));
    for said in &mut said {
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.starts_with("tenure: waiting for x, held by ") && line.contains("sleep"), "{line}");
    }
    // Those that were told to be quiet have waited for at least as long: they came before the others had spoken.
    for mut one in quiet.into_iter().chain(waiting) {
        one.kill().unwrap();
        let mut more = String::new();
        if let Some(mut stderr) = one.stderr.take() {
            stderr.read_to_string(&mut more).unwrap();
        }
        one.wait().unwrap();
        assert_eq!(more, "");
    }
    drop(holder);
}

#[test]
fn the_command_inherits_what_it_would_without_us() {
    let place = Place::new();
    let run = |direct: bool, ignored: &str, what: &str| {
        let tenure = if direct { "".into() } else { format!("{} run x --", crate::support::TENURE) };
        let mut command = Command::new("sh");
        // Ignored signals of the caller's own, one more descriptor, and a group of its own.
        command.args(["-c", &format!("trap '' {ignored}; exec {tenure} {what} 7< /dev/null")]);
        command.env("TENURE_URL", place.url()).stdin(Stdio::null()).current_dir(place.file("."));
        let output = command.process_group(0).output().unwrap();
        assert_eq!(text(&output.stderr), "");
        // Pipes have numbers of their own.
        let lines = text(&output.stdout);
        let kept = |l: &&str| !l.contains("pipe:") && !l.contains("/proc/");
        lines.lines().filter(kept).map(without_glibc_signals).collect::<Vec<_>>()
    };
    let signals = "grep -E '^(SigPnd|ShdPnd|SigBlk|SigIgn|SigCgt|NSsid|Umask)' /proc/self/status";
    for ignored in ["HUP", "PIPE", "CHLD INT QUIT", "USR1 PIPE CHLD"] {
        let (without, with) = (run(true, ignored, signals), run(false, ignored, signals));
        assert_eq!((with.len(), &with), (7, &without), "ignored: {ignored}");
    }
    let place_and_files = "sh -c 'pwd; ls -l /proc/self/fd | sed \"s/.* \\([0-9]* ->\\)/\\1/\"'";
    let (without, with) = (run(true, "HUP", place_and_files), run(false, "HUP", place_and_files));
    assert!(with.iter().any(|l| l == "7 -> /dev/null"), "{with:?}");
    assert_eq!(with, without);
}

/// As in a container that somebody enters from outside: the leaders of our session and group have no number here.
#[test]
fn it_runs_where_its_session_began_outside_its_pid_namespace() {
    let place = Place::new();
    let user: &[&str] =
        if rustix::process::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let enter = |program: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(user).args(["--pid", "--fork", "--mount-proc"]).args(program);
        command.env("TENURE_URL", place.url()).stdin(Stdio::null()).output()
    };
    if !enter(&["true"]).is_ok_and(|output| output.status.success()) {
        return ignored("no pid namespace can be had here");
    }
    let output =
        enter(&["sh", "-c", &format!("{} run x -- sh -c 'exit 7'; exit $?", crate::support::TENURE)])
            .unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(7), String::new()));
}

/// Signals 32 and 33 belong to the C library, which lets nobody hand them on.
fn without_glibc_signals(line: &str) -> String {
    match line.split_once("SigIgn:\t") {
        Some((_, set)) => format!("SigIgn: {:x}", u64::from_str_radix(set, 16).unwrap() & !(3 << 31)),
        None => line.to_owned(),
    }
}

#[test]
fn a_pipe_ends_with_the_command() {
    let place = Place::new();
    // A third descriptor, as build tools hand it down: a lingering guardian must not keep it open either.
    let script = "sleep 1000 > /dev/null 2>&1 3>&- & echo $! > pid; echo out; echo third >&3";
    let inner = format!("{} run x -- sh -c \"$SCRIPT\" 3>&1 | cat", crate::support::TENURE);
    let mut command = Command::new("sh");
    command
        .args(["-c", &inner])
        .env("SCRIPT", script)
        .env("TENURE_URL", place.url())
        .current_dir(place.file("."));
    let output = command.output().unwrap();
    assert_eq!(text(&output.stdout), "out\nthird\n");
    let pid = place.pid_of("pid");
    assert!(alive(pid));
    assert_eq!(place.code(&["break", "--yes", "x"]), Some(0));
    until("the end of what lingered", || (!alive(pid)).then_some(()));
}

#[test]
fn a_store_that_cannot_be_used_is_reported() {
    let place = Place::new();
    let file = place.file("no-directory");
    fs::write(&file, "").unwrap();
    let url = format!("host://{}", file.display());
    let output = place.output(&["run", "--url", &url, "x", "--", "true"]);
    assert!(
        matches!(output.status.code(), Some(69 | 77 | 78)),
        "{:?}: {}",
        output.status,
        text(&output.stderr)
    );
    assert_eq!(text(&output.stderr).lines().count(), 1);
}

#[test]
fn listings_show_the_command_and_the_reason() {
    let place = Place::new();
    let running: Running = place.run(&["orders/42", "--reason", "order 42", "--", "sleep", "1000"]);
    let line = place.until_held("orders/42");
    let holder = &line["holders"][0];
    assert_eq!((&holder["program"], &holder["reason"]), (&"sleep".into(), &"order 42".into()));
    let pid = i32::try_from(holder["pid"].as_i64().unwrap()).unwrap();
    assert!(alive(pid) && pid != running.pid() && pid != running.guardian());
    let all = lines(&place.output(&["ls", "--json", "orders"]).stdout);
    assert_eq!(all.len(), 1);
}

/// Socket activation names the process that the service manager started.
#[test]
fn a_process_id_that_means_run_is_made_that_of_the_command() {
    let place = Place::new();
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1 WATCHDOG_PID=1; exec \"$T\" run x -- sh -c '[ $LISTEN_PID = $$ -a $WATCHDOG_PID = 1 ]'";
    let mut command = place.tenure(&[]);
    let run = command.get_program().to_owned();
    command = crate::support::settled("sh");
    command.args(["-c", script]).env("T", run).env("TENURE_URL", place.url());
    assert_eq!(command.status().unwrap().code(), Some(0));
}

#[test]
fn what_keeps_the_lock_is_shown_once_the_command_has_ended() {
    let place = Place::new();
    let script = "echo $$ > pid; exec sleep 1000";
    let leave = format!("sh -c '{script}' > /dev/null 2>&1 &");
    assert_eq!(place.code(&["run", "x", "--", "sh", "-c", &leave]), Some(0));
    let pid = place.pid_of("pid");
    let holder = until("it is shown", || {
        let line = place.json(&["show", "x"]).remove(0);
        (line["holders"][0]["pid"] == pid).then(|| line["holders"][0].clone())
    });
    // By the name that it had when it was looked at.
    assert!(["sh", "sleep"].iter().any(|name| holder["program"] == *name), "{holder}");
    kill(pid, Signal::KILL);
    assert_eq!(place.code(&["run", "x", "--", "true"]), Some(0));
}

#[test]
fn with_close_the_hold_ends_with_the_command() {
    let place = Place::new();
    let leave = "sh -c 'echo $$ > pid; exec sleep 1000' > /dev/null 2>&1 &";
    assert_eq!(place.code(&["run", "--close", "x", "--", "sh", "-c", leave]), Some(0));
    let pid = place.pid_of("pid");
    assert_eq!(place.code(&["run", "-n", "x", "--", "true"]), Some(0));
    assert!(alive(pid));
    kill(pid, Signal::KILL);
}

/// What is left behind may keep the lock, and nothing else: its guardian is in nobody's way.
#[test]
fn the_guardian_keeps_no_directory() {
    let place = Place::new();
    std::fs::create_dir(place.file("mount")).unwrap();
    let leave = "echo $PPID > ../guardian; sleep 1000 > /dev/null 2>&1 & echo $! > ../pid";
    let mut command = place.tenure(&["run", "x", "--", "sh", "-c", leave]);
    let status = command.current_dir(place.file("mount")).status().unwrap();
    assert_eq!(status.code(), Some(0));
    let guardian = place.pid_of("guardian");
    assert_eq!(std::fs::read_link(format!("/proc/{guardian}/cwd")).unwrap(), std::path::Path::new("/"));
    kill(place.pid_of("pid"), Signal::KILL);
    assert_eq!(place.code(&["run", "x", "--", "true"]), Some(0));
}
