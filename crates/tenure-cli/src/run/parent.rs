//! `tenure run` itself, the shell's child: it hands on signals and exits with the command's status. All else is the
//! guardian's work.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, set_child_subreaper, wait, waitpid};

use super::echo::{Due, Echo, Witness};
use super::notify::Relay;
use super::sys::{self, Arrived, Inherited, Side, SignalFd};
use super::wire::{Link, Message};
use super::{Plan, descendants, ended, guardian};
use crate::exit::{Failure, UNAVAILABLE};
use crate::out;

/// For how long `tenure run` waits for the guardian to end after its last word.
const FAREWELL: Duration = Duration::from_millis(250);

/// When to say that something does not die.
const STUBBORN: Duration = Duration::from_secs(3);

/// Forks the guardian and waits for its verdict.
///
/// # Errors
/// This process cannot be forked, or the guardian was killed.
pub(super) fn run(mut plan: Plan) -> Result<u8, Failure> {
    let failed = |error: std::io::Error| {
        let what = format!("the guardian process cannot be started: {error}");
        let advice = "allow more processes and open files, or fork, socketpair and signalfd4 in the sandbox";
        Failure::new(UNAVAILABLE, what, advice).because(&error)
    };
    let (ours, theirs) = Link::pair().map_err(failed)?;
    let me = rustix::process::getpid();
    // If the guardian is killed, the command's processes become ours, and we can still stop them.
    let _ = set_child_subreaper(Some(me));
    // A shell that became us by exec may have left us children of its own.
    let spared = descendants::children();
    let inherited = Inherited::now();
    // Before the lock is taken: the kernel may refuse it.
    let signals = SignalFd::new(false).map_err(failed)?;
    let first = std::process::id() == 1;
    let children = first.then(|| SignalFd::new(true)).transpose().map_err(failed)?;
    sys::plain_faults();
    let relay = Relay::from_environment();
    plan.notify = relay.as_ref().map(|relay| relay.name().to_owned());
    match sys::fork().map_err(failed)? {
        Side::Child => {
            // Messages to a socket that nobody reads must fail, not fill it.
            drop((ours, relay));
            guardian::run(plan, theirs, inherited, me);
            // Never back into the parent's code: buffers and exit handlers are the parent's.
            std::process::exit(0)
        }
        Side::Parent(guardian) => {
            drop(theirs);
            let (witness, echo) = (None, Echo::default());
            let (handles, may_run, started) = (false, false, false);
            Parent {
                link: ours,
                guardian,
                spared,
                signals,
                children,
                relay,
                handles,
                witness,
                echo,
                may_run,
                started,
            }
            .serve()
        }
    }
}

struct Parent {
    link: Link,
    guardian: i32,
    /// Children that this process had before.
    spared: Vec<i32>,
    /// While it waits for the lock, signals do to it what they do to anybody; afterwards they are the command's.
    signals: SignalFd,
    handles: bool,
    /// Tells of children that ended, for the first process of a container: orphans of everybody become its children.
    children: Option<SignalFd>,
    /// Between the command and a service manager.
    relay: Option<Relay>,
    witness: Option<Witness>,
    echo: Echo,
    /// The command may have been started.
    may_run: bool,
    started: bool,
}

impl Parent {
    fn serve(mut self) -> Result<u8, Failure> {
        if self.children.is_some() {
            // The first process of a container dies of no signal that it does not handle.
            self.handle_signals();
        }
        loop {
            self.sleep();
            if let Some(code) = self.hand_on_signals() {
                return Ok(code);
            }
            self.reap();
            if let Some(relay) = &mut self.relay {
                relay.pass_on();
            }
            if !Self::readable(&self.link) {
                continue;
            }
            match self.link.receive() {
                Some(Message::Granted) => {
                    self.handle_signals();
                    self.may_run = true;
                    self.link.send(&Message::Go);
                }
                Some(Message::Started(_)) => self.started = true,
                Some(Message::Note(text)) => out::note(&text),
                Some(Message::End { code, lingers, text }) => {
                    out::note(&text);
                    if let Some(relay) = self.relay.take() {
                        relay.finish();
                    }
                    if lingers {
                        // Without this word our end is taken for a violent one.
                        self.link.send(&Message::Go);
                    } else {
                        self.see_off();
                    }
                    return Ok(code);
                }
                Some(_) => {}
                None => return Err(self.orphaned()),
            }
        }
    }

    fn handle_signals(&mut self) {
        if !std::mem::replace(&mut self.handles, true) {
            sys::block_all();
            // Without a witness each signal counts as sent to us alone.
            self.witness = Witness::fork(&mut self.link).ok();
        }
    }

    /// Until a message or a signal is there, or a signal has waited for long enough.
    fn sleep(&self) {
        let mut fds = vec![PollFd::new(&self.link, PollFlags::IN)];
        fds.extend(self.handles.then(|| PollFd::new(&self.signals, PollFlags::IN)));
        fds.extend(self.witness.as_ref().and_then(|witness| witness.link.poll_fd()));
        fds.extend(self.children.as_ref().map(|children| PollFd::new(children, PollFlags::IN)));
        fds.extend(self.relay.as_ref().map(Relay::poll_fd));
        let _ = poll(&mut fds, self.echo.wake(Instant::now()).as_ref());
    }

    /// Whether a message is there.
    fn readable(link: &Link) -> bool {
        let mut fds = [PollFd::new(link, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|n| n > 0)
    }

    /// Forwards what was sent to us alone: by a process, by a timer, or by a terminal that goes away, of which the kernel
    /// tells the leader of the session. Returns an exit code where there is nothing but us to end.
    fn hand_on_signals(&mut self) -> Option<u8> {
        while let Some(arrived) = self.handles.then(|| self.signals.next()).flatten() {
            let number = arrived.signal;
            if number == libc::SIGCONT
                && let Some(witness) = &self.witness
            {
                let _ = sys::kill(witness.pid, number); // it was stopped with us
            }
            // Our own guardian continues us when the command is continued, and a write to a closed pipe is our own.
            if arrived.code <= 0 && [self.guardian, raw(rustix::process::getpid())].contains(&arrived.pid) {
                continue;
            }
            if !self.started && self.children.is_some() && ends_a_process(number) {
                return u8::try_from(128 + number).ok();
            }
            self.echo.arrived(arrived, Instant::now());
        }
        while let Some(witness) = self.witness.as_ref().filter(|witness| Self::readable(&witness.link)) {
            match witness.link.receive() {
                Some(Message::Signal(signal)) => self.echo.reported(signal, Instant::now()),
                Some(_) => {
                    let alone = self.echo.answered();
                    self.forward(alone);
                }
                None => self.witness = None,
            }
        }
        match (self.echo.due(self.witness.is_some(), Instant::now()), &self.witness) {
            (Due::Ask, Some(witness)) => witness.link.send(&Message::Go),
            (Due::Forward(signals), _) => self.forward(signals),
            _ => {}
        }
        None
    }

    fn forward(&self, signals: Vec<Arrived>) {
        for signal in signals {
            self.link.send(&Message::Signal(signal));
        }
    }

    /// Waits for orphans that became ours.
    fn reap(&mut self) {
        let Some(children) = &mut self.children else { return };
        while children.next().is_some() {}
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
    }

    /// Waits for the guardian's end, so that nobody else has to: where the first process of a container waits for
    /// nobody, it would stay as a zombie. A store that is slow to say goodbye is not worth the wait.
    fn see_off(&self) {
        let guardian = Pid::from_raw(self.guardian);
        let end = Instant::now() + FAREWELL;
        let mut pause = Duration::from_micros(50);
        while matches!(waitpid(guardian, WaitOptions::NOHANG), Ok(None)) && Instant::now() < end {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    }

    /// Waits for whatever has ended. Says whether only those are left that this process had before.
    fn is_alone(&self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return true,
                Ok(None) if self.spared.is_empty() => return false,
                Ok(None) => return descendants::of_this_process(&self.spared).is_empty(),
            }
        }
    }

    /// The guardian was killed, and with it the command, which is tied to it. Whatever the command had started is now
    /// ours: nobody may go on working without a lock.
    fn orphaned(&mut self) -> Failure {
        self.witness = None; // it ends with its link
        let (began, mut pause, mut said) = (Instant::now(), Duration::from_millis(1), false);
        let mut refused = String::new();
        while !self.is_alone() {
            let now = descendants::kill(&descendants::of_this_process(&self.spared));
            if !now.is_empty() {
                refused = now;
            }
            if began.elapsed() > STUBBORN && !refused.is_empty() && !std::mem::replace(&mut said, true) {
                out::note(&format!(
                    "tenure: the guardian process was killed, the lock ended with it, and process {refused} cannot be \
                     killed; trying on.\n"
                ));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(250));
        }
        let what = "the guardian process was killed, and the lock ended with it";
        if self.may_run {
            let (code, then) = ended::stopped(&refused);
            Failure::new(code, format!("{what}; {then}"), "look for who kills processes here")
        } else {
            Failure::new(UNAVAILABLE, what, "the command did not run; try again")
        }
    }
}

/// Whether the default action of a signal that people send is to end the process.
fn ends_a_process(signal: i32) -> bool {
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT].contains(&signal)
}

/// The process id as a number.
pub(super) fn raw(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}
