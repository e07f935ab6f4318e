//! What the kernel thinks of the caller's session and process group must not depend on us: a group that becomes
//! orphaned while one of its processes is stopped gets SIGHUP, and a script would die of that.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{Place, TENURE, kill, lines_of, settled, until};
use crate::terminal::Terminal;

/// A script that leads a session without a terminal, as under cron, setsid(1) or a CI runner. A member of its group is
/// stopped (`$S`) from before the first run until after the last.
fn script(place: &Place, body: &str) -> Command {
    let mut command = settled("sh");
    let body = format!("sleep 1000 & S=$!; kill -STOP $S; {body}; echo $? >> after; kill -KILL $S");
    command.args(["-c", &body]).env("TENURE_URL", place.url()).env("T", TENURE);
    command.current_dir(place.file(".")).stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: one system call, async-signal-safe.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
    command
}

/// The exit codes that the script has seen.
fn after(place: &Place) -> Vec<String> {
    lines_of(&place.file("after"))
}

#[test]
fn a_script_with_a_stopped_process_survives_each_way_that_a_run_ends() {
    for (body, code) in [
        ("$T run x -- true", 0),
        ("$T run x -- sh -c 'exit 3'", 3),
        ("$T run x -- sh -c 'kill -KILL $$'", 137),
        ("$T run x -- /no/such/command", 127),
        ("$T run x -- sh -c 'sleep 1 > /dev/null 2>&1 &'", 0),
        ("$T run x -- sh -c '(sleep 0.1; exit) & (sh -c \"sleep 0.2 &\") & exit 4'", 4),
        ("$T run x -- $T run -n x -- true", 64),
        ("$T run x -- $T run y -- true", 0),
        (
            "$T run x -- sh -c 'echo $PPID > guardian; sleep 1000' & until [ -s guardian ]; do sleep 0.01; done; \
          kill -KILL $(cat guardian); wait $!",
            80,
        ),
        ("trap '' INT QUIT; $T run x -- true", 0),
        ("set -m; $T run x -- true; set +m", 0),
    ] {
        let place = Place::new();
        let status = script(&place, body).status().unwrap();
        assert_eq!((status.code(), after(&place)), (Some(0), vec![code.to_string()]), "{body}");
    }
}

#[test]
fn a_script_with_a_stopped_process_survives_a_wait_in_vain() {
    let place = Place::new();
    let _holder = place.hold("x");
    let status = script(&place, "$T run -n x -- true; echo $? >> after; $T run -w 100ms x -- true").status();
    assert_eq!((status.unwrap().code(), after(&place)), (Some(0), vec!["75".into(), "75".into()]));
}

#[test]
fn a_script_with_a_stopped_process_survives_the_loss_of_the_lock_and_the_death_of_run() {
    let place = Place::new();
    let body = "$T run x -- sleep 1000 & echo $! > run; wait $!";
    let mut child = script(&place, body).spawn().unwrap();
    place.until_held("x");
    assert_eq!(place.code(&["break", "--yes", "x"]), Some(0));
    assert_eq!(until("the script", || child.try_wait().unwrap()).code(), Some(0));
    std::fs::remove_file(place.file("run")).unwrap();
    let mut child = script(&place, body).spawn().unwrap();
    let run = place.pid_of("run");
    place.until_held("x");
    kill(run, Signal::KILL);
    assert_eq!(until("the script", || child.try_wait().unwrap()).code(), Some(0));
    assert_eq!(after(&place), ["80", "137"]);
}

/// The same on a terminal, as a foreground and as a background job of a shell with job control.
#[test]
fn a_job_with_a_stopped_process_survives_the_end_of_a_run() {
    let place = Place::new();
    let job = "sh -c 'sleep 1000 & kill -STOP $!; $T run x -- true; echo status=$?; kill -KILL $!'";
    for how in ["", "& wait"] {
        let mut terminal = Terminal::shell(&place, &format!("{job} {how}; echo job=$?"));
        terminal.expect("status=0");
        terminal.expect("job=0");
        assert_eq!(terminal.finish().1, Some(0));
    }
}

/// What the kernel tells of a process that hangs on its parents.
const VIEW: &str = "cut -d ' ' -f 5-8,19,41 /proc/$$/stat; \
    readlink /proc/$$/cwd; cd /proc/$$ && cat oom_score_adj cgroup limits coredump_filter timerslack_ns; \
    grep -E '^(Sig(Blk|Ign|Cgt)|Umask|NoNewPrivs|Seccomp|Cap|Groups|Cpus_allowed)' /proc/self/status; ls fd; readlink ns/*";

#[test]
fn the_kernel_sees_the_command_as_it_would_without_us() {
    let place = Place::new();
    std::fs::write(place.file("view"), VIEW).unwrap();
    let both = "sh ./view > direct; $T run x -- sh ./view > under";
    for set in ["", "trap '' INT QUIT PIPE CHLD;", "umask 077; ulimit -n 100; ulimit -c 0;", "exec 7< view;"]
    {
        let status = script(&place, &format!("{set} {both}")).status().unwrap();
        assert_eq!(status.code(), Some(0));
        let read = |name| std::fs::read_to_string(place.file(name)).unwrap();
        assert!(read("direct").lines().count() > 20);
        assert_eq!(read("direct"), read("under"), "{set}");
    }
    for how in ["", "& wait"] {
        let job = format!("sh -c 'sh ./view > direct; $T run x -- sh ./view > under; echo done' {how}");
        let mut terminal = Terminal::shell(&place, &job);
        terminal.expect("done");
        assert_eq!(terminal.finish().1, Some(0));
        let read = |name| std::fs::read_to_string(place.file(name)).unwrap();
        assert_eq!(read("direct"), read("under"), "on a terminal {how}");
    }
}
