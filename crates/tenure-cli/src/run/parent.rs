//! `tenure run` itself, the shell's child: it hands on signals and exits with the command's status. All else is the
//! guardian's work.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, set_child_subreaper, wait, waitpid};

use super::sys::{self, Inherited, Side, SignalFd};
use super::wire::{Link, Message};
use super::{Plan, descendants, guardian};
use crate::exit::{Failure, LOST, UNAVAILABLE};
use crate::out;

/// For how long `tenure run` waits for the guardian to end after its last word.
const FAREWELL: Duration = Duration::from_millis(250);

/// Forks the guardian and waits for its verdict.
///
/// # Errors
/// This process cannot be forked, or the guardian was killed.
pub(super) fn run(plan: Plan) -> Result<u8, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(UNAVAILABLE, "the guardian process cannot be started", "free some memory or processes")
            .because(&error)
    };
    let (ours, theirs) = Link::pair().map_err(failed)?;
    let me = rustix::process::getpid();
    // If the guardian is killed, the command's processes become ours, and we can still stop them.
    let _ = set_child_subreaper(Some(me));
    let inherited = Inherited::now();
    match sys::fork().map_err(failed)? {
        Side::Child => {
            drop(ours);
            guardian::run(plan, theirs, inherited, me);
            // Never back into the parent's code: buffers and exit handlers are the parent's.
            std::process::exit(0)
        }
        Side::Parent(guardian) => {
            drop(theirs);
            let leads = sys::group_and_session(raw(me)).is_some_and(|(_, session)| session == raw(me));
            Parent { link: ours, guardian, leads, signals: None, may_run: false, started: false }
                .serve()
                .map_err(failed)?
        }
    }
}

struct Parent {
    link: Link,
    guardian: i32,
    /// There is no shell between us and the terminal: we lead its session.
    leads: bool,
    /// While it waits for the lock, signals do to it what they do to anybody; afterwards they are the command's.
    signals: Option<SignalFd>,
    /// The command may have been started.
    may_run: bool,
    started: bool,
}

impl Parent {
    fn serve(mut self) -> std::io::Result<Result<u8, Failure>> {
        if std::process::id() == 1 {
            // The first process of a container dies of no signal that it does not handle.
            self.handle_signals()?;
        }
        loop {
            self.sleep();
            if let Some(code) = self.hand_on_signals() {
                return Ok(Ok(code));
            }
            if !self.readable() {
                continue;
            }
            match self.link.receive() {
                Some(Message::Granted) => {
                    self.handle_signals()?;
                    self.may_run = true;
                    self.link.send(&Message::Go);
                }
                Some(Message::Started(_)) => self.started = true,
                Some(Message::Note(text)) => out::note(&text),
                Some(Message::End { code, lingers, text }) => {
                    out::note(&text);
                    if lingers {
                        // Without this word our end is taken for a violent one.
                        self.link.send(&Message::Go);
                    } else {
                        self.see_off();
                    }
                    return Ok(Ok(code));
                }
                Some(_) => {}
                None => return Ok(Err(self.orphaned())),
            }
        }
    }

    fn handle_signals(&mut self) -> std::io::Result<()> {
        if self.signals.is_none() {
            sys::block_all();
            self.signals = Some(SignalFd::new(false)?);
        }
        Ok(())
    }

    /// Until a message or a signal is there.
    fn sleep(&self) {
        let mut fds = vec![PollFd::new(&self.link, PollFlags::IN)];
        fds.extend(self.signals.as_ref().map(|s| PollFd::new(s, PollFlags::IN)));
        let _ = poll(&mut fds, None);
    }

    fn readable(&self) -> bool {
        let mut fds = [PollFd::new(&self.link, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|n| n > 0)
    }

    /// Signals that somebody sent to us are the command's. Those that the kernel sends to the terminal's foreground
    /// group have reached the command already; but when the terminal goes away, it tells the leader of the session alone.
    /// Returns an exit code where there is nothing but us to end.
    fn hand_on_signals(&mut self) -> Option<u8> {
        while let Some(arrived) = self.signals.as_mut().and_then(SignalFd::next) {
            let number = arrived.signal;
            match arrived.sender {
                // Our own guardian continues us when the command is continued.
                Some(sender) if sender == self.guardian => {}
                _ if !self.started && std::process::id() == 1 && ends_a_process(number) => {
                    return u8::try_from(128 + number).ok();
                }
                Some(sender) => self.link.send(&Message::Signal { number, sender }),
                None if self.leads && [libc::SIGHUP, libc::SIGCONT].contains(&number) => {
                    self.link.send(&Message::Signal { number, sender: 0 });
                }
                None => {}
            }
        }
        None
    }

    /// Waits for the guardian's end, so that nobody else has to: where the first process of a container waits for
    /// nobody, it would stay as a zombie. A store that is slow to say goodbye is not worth the wait.
    fn see_off(&self) {
        let Some(guardian) = Pid::from_raw(self.guardian) else { return };
        let left = Timespec::try_from(FAREWELL).unwrap_or_default();
        if let Ok(fd) = pidfd_open(guardian, PidfdFlags::empty()) {
            let _ = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&left));
        }
        let _ = waitpid(Some(guardian), WaitOptions::NOHANG);
    }

    /// The guardian was killed, and with it the command, which is tied to it. Whatever the command had started is now
    /// ours: nobody may go on working without a lock.
    fn orphaned(&self) -> Failure {
        let me = raw(rustix::process::getpid());
        let pause = rustix::time::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        // A shell that became us by exec may have left us children of its own: they are older than the guardian.
        let start = descendants::start_of(self.guardian).unwrap_or(u64::MAX);
        loop {
            while matches!(wait(WaitOptions::NOHANG), Ok(Some(_)) | Err(rustix::io::Errno::INTR)) {}
            let left = descendants::since(me, start).unwrap_or_default();
            if left.is_empty() {
                break;
            }
            for process in left {
                let _ = descendants::signal(&process, Signal::KILL);
            }
            let _ = rustix::thread::nanosleep(&pause);
        }
        let what = "the guardian process was killed, and the lock ended with it";
        if self.may_run {
            let what = format!("{what}; the command was stopped");
            Failure::new(LOST, what, "look for who kills processes here")
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
