//! Signals that are sent to `tenure run`, and deaths.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::support::{Place, Running, TENURE, alive, kill, settled, state, until};

/// A command that counts the signals it gets, and ends when it got USR2.
const COUNTING: &str = "for s in INT TERM HUP QUIT USR1 WINCH; do trap \"echo $s >> got\" $s; done; \
                        trap 'exit 5' USR2; echo $$ > pid; while :; do sleep 0.01; done";

fn got(place: &Place) -> String {
    fs::read_to_string(place.file("got")).unwrap_or_default()
}

#[test]
fn signals_sent_to_run_reach_the_command_once() {
    let place = Place::new();
    let running = place.run(&["x", "--", "sh", "-c", COUNTING]);
    place.pid_of("pid");
    let all = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::WINCH]
        .into_iter()
        .enumerate();
    for (n, signal) in all {
        kill(running.pid(), signal);
        until("the signal", || (got(&place).lines().count() > n).then_some(()));
    }
    kill(running.pid(), Signal::USR2);
    assert_eq!(running.wait().0, Some(5));
    assert_eq!(got(&place), "INT\nTERM\nHUP\nQUIT\nUSR1\nWINCH\n");
}

#[test]
fn a_command_that_ignores_sigterm_goes_on() {
    let place = Place::new();
    let running = place.run(&[
        "x",
        "--",
        "sh",
        "-c",
        "trap '' TERM; trap 'exit 5' USR2; echo $$ > pid; while :; do sleep 0.01; done",
    ]);
    let pid = place.pid_of("pid");
    kill(running.pid(), Signal::TERM);
    kill(running.pid(), Signal::USR2);
    assert_eq!(running.wait().0, Some(5));
    assert!(!alive(pid));
}

#[test]
fn a_signal_of_the_command_to_its_group_does_not_come_back() {
    let place = Place::new();
    // Without a check of the sender this would go round for ever.
    let script = "trap 'echo USR1 >> got' USR1; kill -USR1 0; sleep 0.2; exit 5";
    let mut command = place.tenure(&["run", "x", "--", "sh", "-c", script]);
    let status = command.process_group(0).status().unwrap();
    assert_eq!(status.code(), Some(5));
    assert_eq!(got(&place), "USR1\n");
}

/// A command that counts the SIGINTs it gets until it gets SIGUSR2, and exits with their number.
const INTS: &str = "n=0; trap 'n=$((n+1)); echo $n >> ints' INT; trap 'exit $n' USR2; echo $$ > pid; while :; do sleep 0.01; done";

#[test]
fn a_signal_to_the_group_reaches_the_command_once() {
    for (how, times) in [
        // To the group, to `tenure run` alone, and as timeout(1) does it: to its child and then to the group.
        ("kill -INT -$RUN", 1),
        ("kill -INT $RUN", 1),
        ("kill -INT $RUN -$RUN", 1),
        ("kill -INT -$RUN; counted 1; kill -INT -$RUN", 2),
        ("kill -INT -$RUN; counted 1; kill -INT $RUN", 2),
        // To every process of it, as a service manager does; by name, where the command has another.
        ("kill -INT $(pgrep -g $RUN)", 1),
        ("pkill -INT -g $RUN -f 'tenure run'", 1),
        ("pkill -INT -g $RUN -x tenure", 1),
    ] {
        let place = Place::new();
        let mut command = place.tenure(&["run", "x", "--", "sh", "-c", INTS]);
        let mut child = command.process_group(0).spawn().unwrap();
        let pid = place.pid_of("pid");
        place.until_held("x");
        // Once it has counted them, there is some time for one too many.
        let script = format!(
            "counted() {{ until [ \"$(tail -n 1 ints 2> /dev/null)\" = $1 ] || ! kill -0 {pid}; do sleep 0.01; done; sleep 0.3; }}
             {how}; counted {times}; kill -USR2 {pid}"
        );
        let mut bash = settled("bash");
        bash.args(["-c", &script]).env("RUN", child.id().to_string()).current_dir(place.file("."));
        let sent = bash.status();
        assert!(sent.unwrap().success(), "{how}");
        let status = until("run ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(times), "{how}");
    }
}

/// As `./program` would, a command gets what sigqueue(3) sends with a signal, and any signal that somebody sends.
#[test]
fn a_signal_arrives_whole() {
    let place = Place::new();
    let script = "import os, signal\nmine = {signal.SIGRTMIN + 3, signal.SIGUSR1}\nsignal.pthread_sigmask(signal.SIG_BLOCK, mine)\n\
                  open('pid', 'w').write('%d\\n' % os.getpid())\nwith open('got', 'w') as out:\n\
                  \x20 for _ in range(3):\n    i = signal.sigwaitinfo(mine)\n    print(i.si_signo - signal.SIGRTMIN, i.si_code, i.si_pid, file=out)\n";
    let running = place.run(&["x", "--", "python3", "-c", script]);
    place.pid_of("pid");
    for value in 1..=3 {
        let sent = Command::new("/bin/kill")
            .args(["-q", &value.to_string(), "-s", "RTMIN+3", &running.pid().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }
    assert_eq!(running.wait().0, Some(0));
    let got = got(&place);
    // SI_QUEUE, from the process that sent it.
    assert!(got.lines().count() == 3 && got.lines().all(|line| line.starts_with("3 -1 ")), "{got}");
    for (signal, code) in [(Signal::SEGV, 139), (Signal::BUS, 135), (Signal::ABORT, 134), (Signal::TRAP, 133)]
    {
        let running = place.run(&["x", "--", "sleep", "1000"]);
        place.until_held("x");
        kill(running.pid(), signal);
        assert_eq!(running.wait().0, Some(code));
    }
}

/// As the first process of a container it is the parent of whatever others leave behind there.
#[test]
fn the_first_process_of_a_container_waits_for_orphans() {
    let place = Place::new();
    let mut command = settled("unshare");
    command.args([
        "-p",
        "-f",
        "--mount-proc",
        TENURE,
        "run",
        "box",
        "--",
        "sh",
        "-c",
        "echo > up; sleep 1000",
    ]);
    command.env("TENURE_URL", place.url()).current_dir(place.file("."));
    let mut unshare = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let first = until("the first process", || {
        let pid = unshare.id();
        let below = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        assert!(unshare.try_wait().unwrap().is_none(), "this user may not make a pid namespace");
        below.split_whitespace().next().map(str::to_owned)
    });
    place.line_of("up");
    for _ in 0..3 {
        let mut probe = Command::new("nsenter");
        probe.args(["-t", &first, "-p", "-m", "sh", "-c", "sleep 0.1 & exit 0"]);
        assert!(probe.status().unwrap().success());
    }
    let zombies = || {
        let list = Command::new("ps").args(["--ppid", &first, "-o", "stat="]).output().unwrap().stdout;
        String::from_utf8_lossy(&list).lines().filter(|stat| stat.starts_with('Z')).count()
    };
    let probes = || Command::new("pgrep").args(["-P", &first, "-x", "sleep"]).output().unwrap().stdout;
    until("the probes have ended", || (probes().is_empty() && zombies() == 0).then_some(()));
    kill(first.parse().unwrap(), Signal::TERM);
    assert_eq!(until("the end", || unshare.try_wait().unwrap()).code(), Some(143));
}

#[test]
fn while_it_waits_a_signal_ends_run_itself() {
    use std::os::unix::process::ExitStatusExt;
    let place = Place::new();
    let _holder = place.hold("x");
    let mut waiter = place.tenure(&["run", "x", "--", "true"]).spawn().unwrap();
    place.until_waiting("x", 1);
    kill(i32::try_from(waiter.id()).unwrap(), Signal::INT);
    assert_eq!(waiter.wait().unwrap().signal(), Some(2));
    place.until_waiting("x", 0);
}

/// A command with a grandchild in another session, both of which ignore SIGTERM if they are told so.
fn family(place: &Place, args: &[&str], stubborn: bool) -> (Running, Vec<i32>) {
    let trap = if stubborn { "trap '' TERM;" } else { "" };
    let script = format!(
        "{trap} setsid sh -c 'echo $$ > other; exec 9>&-; sleep 1000 & echo $! > third; wait' & echo $$ > first; \
         while :; do sleep 0.01; done"
    );
    let running = place.run(&[args, &["x", "--", "sh", "-c", &script]].concat());
    let pids = ["first", "other", "third"].map(|name| place.pid_of(name)).to_vec();
    assert!(pids.iter().all(|pid| alive(*pid)));
    (running, pids)
}

/// Takes the lock as soon as it is free, and counts who of `pids` is alive then.
fn left_when_free(place: &Place, pids: &[i32]) -> String {
    let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
    // A zombie that nobody has waited for yet is dead.
    let script = format!(
        "n=0; for p in {}; do case $(cut -d ' ' -f 3 /proc/$p/stat 2>/dev/null) in ''|Z) ;; *) n=$((n+1));; esac; done; echo $n",
        pids.join(" ")
    );
    let output = place.output(&["run", "x", "--", "sh", "-c", &script]);
    crate::support::text(&output.stdout).trim().to_owned()
}

#[test]
fn sigkill_of_run_stops_everybody_before_the_lock_is_free() {
    for stubborn in [false, true] {
        let place = Place::new();
        // A lease much longer than the test: the lock must not wait for its end.
        let (running, pids) = family(&place, &["--ttl", "1h", "--grace", "300ms"], stubborn);
        kill(running.pid(), Signal::KILL);
        assert_eq!(left_when_free(&place, &pids), "0", "stubborn: {stubborn}");
        drop(running);
    }
}

#[test]
fn sigkill_of_the_whole_group_does_not_spare_another_session() {
    let place = Place::new();
    let mut command = place.tenure(&[
        "run",
        "--ttl",
        "1h",
        "x",
        "--",
        "sh",
        "-c",
        "setsid sh -c 'echo $$ > other; while :; do sleep 0.01; done' & echo $$ > first; wait",
    ]);
    let mut child = command.process_group(0).spawn().unwrap();
    let pids = ["first", "other"].map(|name| place.pid_of(name)).to_vec();
    kill_process_group(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(left_when_free(&place, &pids), "0");
    child.wait().unwrap();
}

#[test]
fn sigkill_of_the_guardian_stops_everybody() {
    let place = Place::new();
    let (running, pids) = family(&place, &["--ttl", "1h"], true);
    kill(running.guardian(), Signal::KILL);
    let (code, said) = running.wait();
    assert_eq!(code, Some(80), "{said}");
    assert!(pids.iter().all(|pid| !alive(*pid)), "{pids:?}");
    assert_eq!(place.code(&["run", "x", "--", "true"]), Some(0));
}

#[test]
fn a_stopped_command_stops_run_and_goes_on_with_it() {
    let place = Place::new();
    let script = "trap 'exit 5' USR2; echo $$ > pid; while :; do sleep 0.01; done";
    let running = place.run(&["--ttl", "2s", "x", "--", "sh", "-c", script]);
    let pid = place.pid_of("pid");
    let token = place.until_held("x")["token"].clone();
    for by in [pid, running.pid()] {
        kill(pid, Signal::STOP);
        until("run is stopped", || (state(running.pid()) == Some('T')).then_some(()));
        // Whether the command or the job is continued: both go on.
        kill(by, Signal::CONT);
        until("both go on", || [pid, running.pid()].into_iter().all(|p| state(p) != Some('T')).then_some(()));
    }
    // Stopped for several leases: the guardian goes on renewing.
    kill(pid, Signal::STOP);
    let stopped = std::time::Instant::now();
    until("two leases", || (stopped.elapsed().as_secs() >= 5).then_some(()));
    let line = place.json(&["show", "x"]).remove(0);
    assert_eq!((&line["token"], line["holders"].as_array().map(Vec::len)), (&token, Some(1)));
    kill(running.pid(), Signal::CONT);
    kill(running.pid(), Signal::USR2);
    assert_eq!(running.wait().0, Some(5));
}

#[test]
fn a_stopped_command_that_is_killed_ends_run() {
    let place = Place::new();
    let running = place.run(&["x", "--", "sh", "-c", "echo $$ > pid; while :; do sleep 0.01; done"]);
    let pid = place.pid_of("pid");
    kill(pid, Signal::STOP);
    until("run is stopped", || (state(running.pid()) == Some('T')).then_some(()));
    kill(pid, Signal::KILL);
    assert_eq!(running.wait().0, Some(137));
}

/// SIGKILL of `tenure run`, or of its whole group, at any instant of its life. The witness is a kernel lock that the
/// command and all its descendants hold as long as any of them lives: whoever is granted must find it free.
#[test]
fn death_at_any_instant_never_lets_two_in() {
    const ROUNDS: u64 = 120;
    const ENTERED: usize = 20;
    let place = Place::new();
    let script = "exec 9>> witness; flock -n 9 || echo overlap >> errors; setsid sh -c 'trap \"\" TERM; sleep 1000 & wait' & \
                  echo >> entered; sleep 1000";
    let mut dice = 0x9E37_79B9_7F4A_7C15_u64;
    let entered = || fs::read_to_string(place.file("entered")).unwrap_or_default().lines().count();
    let mut round = 0;
    while round < ROUNDS || entered() < ENTERED {
        assert!(round < 100 * ROUNDS, "all kills come too early: only {} commands began", entered());
        round += 1;
        let mut command =
            place.tenure(&["run", "--ttl", "1h", "--grace", "1ms", "x", "--", "sh", "-c", script]);
        let mut child = command.process_group(0).spawn().unwrap();
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
        std::thread::sleep(std::time::Duration::from_micros((dice >> 33) % (30_000 + 100 * round)));
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        if round % 3 == 0 {
            kill_process_group(pid, Signal::KILL).unwrap();
        } else {
            kill(pid.as_raw_nonzero().get(), Signal::KILL);
        }
        child.wait().unwrap();
    }
    assert_eq!(place.code(&["run", "x", "--", "sh", "-c", "exec 9>> witness; flock -n 9"]), Some(0));
    assert!(!place.file("errors").exists(), "{:?}", fs::read_to_string(place.file("errors")));
    place.until_waiting("x", 0);
}
