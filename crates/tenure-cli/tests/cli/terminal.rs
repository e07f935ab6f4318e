//! On a terminal: Ctrl-C, Ctrl-Z, `fg`, questions, notes, colours. A pseudo-terminal plays the user's.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::{Place, TENURE, kill, settled, state, until};

/// A command that leads a session on a terminal of its own.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<String>,
    seen: String,
}

/// Starts a command that leads a session on a terminal of its own; the terminal lasts as long as the file.
fn on_a_terminal(mut command: Command) -> (Child, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    // Not the terminal of the tests, if they lead a session that has none.
    let open = || {
        let mut options = File::options();
        options.read(true).write(true).custom_flags(libc::O_NOCTTY).open(name.to_str().unwrap()).unwrap()
    };
    command.stdin(Stdio::from(open())).stdout(Stdio::from(open())).stderr(Stdio::from(open()));
    // SAFETY: two system calls, both async-signal-safe; nothing is allocated.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            Ok(())
        });
    }
    let child = command.spawn().unwrap();
    (child, File::from(master))
}

impl Terminal {
    fn start(command: Command) -> Terminal {
        let (child, keyboard) = on_a_terminal(command);
        let mut reader = keyboard.try_clone().unwrap();
        let (send, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The end of the terminal's last user is an error here.
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                let _ = send.send(String::from_utf8_lossy(&bytes[..n]).into_owned());
            }
        });
        Terminal { child, keyboard, screen, seen: String::new() }
    }

    /// A script for a shell with job control.
    pub(crate) fn shell(place: &Place, script: &str) -> Terminal {
        let mut command = settled("sh");
        command.args(["-c", &format!("set -m; {script}")]);
        command
            .env("TENURE_URL", place.url())
            .env("T", TENURE)
            .env("TERM", "xterm")
            .current_dir(place.file("."));
        Terminal::start(command)
    }

    fn tenure(place: &Place, args: &[&str]) -> Terminal {
        let mut command = place.tenure(args);
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        Terminal::start(command)
    }

    /// Gives the terminal another size.
    fn resize(&self, width: u16, height: u16) {
        let size = rustix::termios::Winsize { ws_col: width, ws_row: height, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.keyboard, size).unwrap();
    }

    /// Waits until the screen shows `text` after what was seen before, and forgets what stands up to there.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            match self.screen.recv_timeout(Duration::from_secs(60)) {
                Ok(more) => self.seen += &more,
                Err(error) => panic!("{text:?} does not appear ({error}); the screen shows {:?}", self.seen),
            }
        }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Everything until the session ends, and its exit code.
    pub(crate) fn finish(mut self) -> (String, Option<i32>) {
        let code = self.child.wait().unwrap().code();
        while let Ok(more) = self.screen.recv_timeout(Duration::from_millis(500)) {
            self.seen += &more;
        }
        (std::mem::take(&mut self.seen), code)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn ctrl_c_reaches_the_command_once() {
    let place = Place::new();
    let script = "trap 'echo got INT' INT; trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let mut terminal = Terminal::shell(&place, &format!("$T run x -- sh -c \"{script}\"; echo status=$?"));
    terminal.expect("ready");
    terminal.press("\x03");
    terminal.expect("got INT");
    // Nothing comes twice: a second one would be before the answer to the next.
    terminal.press("\x1c"); // Ctrl-\ has its default action
    let seen = terminal.expect("status=131");
    assert!(!seen.contains("got INT"), "{seen}");
    assert_eq!(terminal.finish().1, Some(0));
}

#[test]
fn ctrl_c_ends_what_does_not_handle_it() {
    let place = Place::new();
    // A shell that is about to start something may lose the signal; one that becomes something does not.
    let mut terminal =
        Terminal::shell(&place, "$T run x -- sh -c 'echo ready; exec sleep 1000'; echo status=$?");
    terminal.expect("ready");
    terminal.press("\x03");
    terminal.expect("status=130");
    drop(terminal);
    assert_eq!(place.code(&["run", "-n", "x", "--", "true"]), Some(0));
}

#[test]
fn ctrl_z_stops_the_job_and_fg_continues_it() {
    let place = Place::new();
    let script = "$T run --ttl 2s x -- sh -c 'echo ready; read word; echo read $word; exit 4'; echo first=$?; \
                  while [ ! -e go ]; do sleep 0.01; done; fg; echo second=$?";
    let mut terminal = Terminal::shell(&place, script);
    terminal.expect("ready");
    terminal.press("\x1a");
    let seen = terminal.expect("first=");
    assert!(!seen.contains("second"));
    // A job that is stopped for longer than its lease keeps its lock.
    let stopped = std::time::Instant::now();
    until("two leases", || (stopped.elapsed().as_secs() >= 5).then_some(()));
    assert_eq!(place.code(&["run", "-n", "x", "--", "true"]), Some(75));
    std::fs::write(place.file("go"), "").unwrap();
    terminal.expect("run --ttl"); // fg names the job
    terminal.press("hello\n");
    terminal.expect("read hello");
    terminal.expect("second=4");
}

#[test]
fn a_hangup_ends_everybody() {
    let place = Place::new();
    let mut terminal =
        Terminal::shell(&place, "$T run --ttl 1h x -- sh -c 'echo $$ > pid; echo ready; sleep 1000; echo'");
    terminal.expect("ready");
    let pid = place.pid_of("pid");
    drop(terminal);
    assert_eq!(place.code(&["run", "x", "--", "true"]), Some(0));
    assert!(!crate::support::alive(pid));
}

#[test]
fn whoever_waits_is_told_for_whom() {
    let place = Place::new();
    let holder = place.hold("x");
    let mut first = Terminal::tenure(&place, &["run", "x", "--", "sleep", "1000"]);
    let seen = first.expect("1st in line");
    assert!(
        seen.contains("waiting for x, held by") && seen.contains("sleep") && seen.contains("since 20"),
        "{seen}"
    );
    let mut second = Terminal::tenure(&place, &["run", "x", "--", "true"]);
    second.expect("2nd in line");
    drop(holder);
    let seen = second.expect("1st in line");
    assert!(seen.contains("held by"), "{seen}");
    // While it waits, Ctrl-C is for `tenure run`.
    second.press("\x03");
    assert_eq!(second.finish().1, None);
}

/// `ssh -t HOST tenure run ...`: no shell stands between the terminal and `tenure run`, which leads the session.
#[test]
fn ctrl_z_where_nobody_could_continue_has_no_effect() {
    let place = Place::new();
    let script = "echo ready; read word; echo got $word; exit 4";
    let mut leads = Terminal::tenure(&place, &["run", "x", "--", "sh", "-c", script]);
    let mut below_a_shell =
        Terminal::shell(&place, &format!("set +m; $T run y -- sh -c '{script}'; exit $?"));
    for terminal in [&mut leads, &mut below_a_shell] {
        terminal.expect("ready");
        terminal.press("\x1a");
        terminal.expect("^Z");
        terminal.press("word\n");
        terminal.expect("got word");
    }
    assert_eq!((leads.finish().1, below_a_shell.finish().1), (Some(4), Some(4)));
}

/// The kernel sends SIGHUP to the leader of the session alone, and that is `tenure run`.
#[test]
fn a_terminal_that_goes_away_ends_the_command() {
    let place = Place::new();
    for stopped in [false, true] {
        let script = "trap 'echo hung up >> hups; exit 7' HUP; echo $$ > pid; while :; do sleep 0.01; done";
        let (mut child, terminal) = on_a_terminal(place.tenure(&["run", "x", "--", "sh", "-c", script]));
        let command = place.pid_of("pid");
        std::fs::remove_file(place.file("pid")).unwrap();
        if stopped {
            let run = i32::try_from(child.id()).unwrap();
            kill(command, Signal::STOP);
            until("it is stopped", || (state(run) == Some('T')).then_some(()));
        }
        drop(terminal);
        let status = until("run ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(7));
    }
    assert_eq!(std::fs::read_to_string(place.file("hups")).unwrap(), "hung up\nhung up\n");
}

#[test]
fn a_job_that_is_stopped_while_it_waits_does_not_start() {
    let place = Place::new();
    let holder = place.hold("x");
    let script = "$T run x -- sh -c 'echo > started; exit 4'; echo first=$?; while [ ! -e go ]; do sleep 0.01; done; fg; echo second=$?";
    let mut terminal = Terminal::shell(&place, script);
    terminal.expect("1st in line");
    terminal.press("\x1a");
    terminal.expect("first=");
    drop(holder);
    // It is granted, and kept.
    until("the grant", || {
        let line = place.json(&["show", "x"]).remove(0);
        (line["holders"].as_array()?.len() == 1 && line["waiting"].as_array()?.is_empty()).then_some(())
    });
    assert!(!place.file("started").exists());
    std::fs::write(place.file("go"), "").unwrap();
    terminal.expect("second=4");
    assert!(place.file("started").exists());
}

#[test]
fn break_asks_on_a_terminal() {
    let place = Place::new();
    let running = place.run(&["--ttl", "1h", "x", "--", "sleep", "1000"]);
    place.until_held("x");
    let mut no = Terminal::tenure(&place, &["break", "x"]);
    no.expect("[y/N]");
    no.press("n\n");
    assert_eq!(no.finish().1, Some(75));
    assert_eq!(place.code(&["run", "-n", "x", "--", "true"]), Some(75));
    let mut yes = Terminal::tenure(&place, &["break", "x"]);
    let shown = yes.expect("[y/N]");
    assert!(shown.contains("held by"), "{shown}");
    yes.press("y\n");
    assert_eq!(yes.finish().1, Some(0));
    assert_eq!(running.wait().0, Some(80));
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let place = Place::new();
    let _holder = place.hold("x");
    let (screen, code) = Terminal::tenure(&place, &["ls"]).finish();
    assert!(code == Some(0) && screen.contains("\x1b["), "{screen:?}");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut command = place.tenure(&["ls"]);
        command.env("TERM", "xterm").env_remove("NO_COLOR").env(name, value);
        let (screen, code) = Terminal::start(command).finish();
        assert!(code == Some(0) && screen.contains("LOCK") && !screen.contains('\x1b'), "{screen:?}");
    }
}

#[test]
fn watch_redraws() {
    let place = Place::new();
    let mut watch = Terminal::tenure(&place, &["watch"]);
    watch.expect("0 locks");
    let holder = place.hold("orders/42");
    watch.expect("orders/42");
    drop(holder);
    watch.expect("0 locks");
}

/// What a screen of `watch` shows: without what moves the cursor.
fn plain(screen: &str) -> Vec<String> {
    let lines = screen.replace("\r\n", "\n");
    let lines = lines.lines().map(|line| {
        let mut out = String::new();
        let mut rest = line;
        while let Some(at) = rest.find("\x1b[") {
            out += &rest[..at];
            let after = &rest[at + 2..];
            rest = &after[after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |at| at + 1)..];
        }
        out + rest
    });
    lines.collect()
}

#[test]
fn tables_fit_the_terminal() {
    let place = Place::new();
    let long = "l".repeat(135);
    let mut names = vec![long];
    names.extend((0..11).map(|n| format!("orders/{n:02}")));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let _holder = place.run(
        &[&names[..], &["--reason", "one that takes some words to tell", "--", "sleep", "1000"]].concat(),
    );
    place.until_held("orders/10");
    let size = |args: &str| format!("stty cols 70 rows 8; $T {args}; echo END");
    let mut ls = Terminal::shell(&place, &size("ls"));
    let screen = plain(&ls.expect("END"));
    assert!(screen.len() <= 9 && screen.iter().all(|l| l.chars().count() <= 70), "{screen:#?}");
    assert!(screen.iter().any(|l| l.starts_with("+7 more")), "{screen:#?}");
    assert!(screen.iter().any(|l| l.contains("mutex") && l.contains("…")), "{screen:#?}");
    let mut wide = Terminal::shell(&place, &size("ls --wide"));
    let screen = plain(&wide.expect("END"));
    assert!(screen.len() == 14 && screen.iter().any(|l| l.contains(names[0])), "{screen:#?}");
    // A screen follows the window.
    let mut watch = Terminal::shell(&place, "stty cols 70 rows 9; exec $T watch");
    let screen = plain(&watch.expect("more"));
    assert!(screen.iter().any(|l| l.starts_with("+8 more") || l.starts_with('+')), "{screen:#?}");
    assert!(screen.iter().all(|l| l.chars().count() <= 70), "{screen:#?}");
    watch.resize(200, 30);
    let screen = watch.expect("orders/10");
    assert!(screen.contains(names[0]) || plain(&screen).iter().any(|l| l.contains("…")), "{screen}");
    watch.resize(50, 7);
    until("the small screen", || {
        let screen = watch.expect("\x1b[J");
        let last = plain(screen.rsplit("\x1b[H").next()?);
        (last.len() <= 7 && last.iter().all(|l| l.chars().count() <= 50)).then_some(())
    });
}
