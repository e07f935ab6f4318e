//! The guardian: takes the lock, starts the command, and gives the lock back when nothing of the command is left.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitStatus, set_child_subreaper, setsid};
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
use tenure::{ErrorKind, Key, Locks, Previous, Run, RunState};

use super::Plan;
use super::bell::Bell;
use super::ended::{code_of, ending, stopped};
use super::hold::{Ending, Hold};
use super::launcher::Launcher;
use super::start::lost_too_early;
use super::status::{One, Status};
use super::supervise::{self, Cause, Supervision};
use super::sys::{self, Inherited, SignalFd};
use super::wire::{Link, Message};
use crate::exit::{Failure, LOST, UNAVAILABLE};
use crate::text::escape;
use crate::view;

/// How long a release may take before the command's status is passed on all the same.
const RELEASE: Duration = Duration::from_secs(5);

/// Why the command does not run.
pub(super) enum Stop {
    /// The lock was not acquired in time.
    Busy(Failure),
    /// The slot of the job is used.
    Done(Box<Run>),
    /// Something failed.
    Failed(Failure),
    /// `tenure run` is gone.
    Orphaned,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

/// What came first.
pub(super) enum Step<T> {
    /// The future.
    Ready(T),
    /// The end of the time.
    Time,
    /// A message from `tenure run`.
    Message(Message),
    /// The launcher has answered, or has ended.
    Launcher,
    /// Its end.
    Orphaned,
}

impl<T> Step<T> {
    /// The future's value, if it came first.
    pub(super) fn ready(self) -> Option<T> {
        match self {
            Step::Ready(value) => Some(value),
            _ => None,
        }
    }
}

/// The guardian's state.
pub(super) struct Guardian {
    pub(super) plan: Plan,
    pub(super) link: Rc<Link>,
    pub(super) bell: Rc<Bell>,
    /// `tenure run`.
    pub(super) parent: Pid,
    pub(super) began: Instant,
    pub(super) locks: Option<Locks>,
    /// What becomes the command, until it does.
    pub(super) launcher: Option<Launcher>,
    /// What the supervision needs: made before the lock is taken, since it may be refused.
    pub(super) timer: Rc<OwnedFd>,
    pub(super) children: Rc<RefCell<SignalFd>>,
    granted: Option<Instant>,
    status: Status,
}

/// Everything that the forked process does.
pub(super) fn run(plan: Plan, link: Link, inherited: Inherited, parent: Pid) {
    let (link, launcher) = Launcher::fork(link, inherited, &plan.command, parent);
    let guardian = match launcher {
        Ok(launcher) => Guardian::new(plan, link, launcher, parent),
        Err(error) => Err((link, error)),
    };
    match guardian {
        Ok(mut guardian) => guardian.serve(),
        Err((link, error)) => {
            let what = format!("the guardian process cannot be set up: {error}");
            let advice = "allow more processes and open files, or fork, setsid, prctl, eventfd2, timerfd_create and \
                          signalfd4 in the sandbox";
            let failure = Failure::new(UNAVAILABLE, what, advice).because(&error);
            link.send(&Message::End { code: failure.code, lingers: false, text: failure.text(false) });
        }
    }
}

/// A session of its own: no signal of a terminal or to the command's group reaches it, and the kernel does not count it
/// as a connection of the caller's process group to the outside. All signals are blocked, and whatever loses its parent
/// below becomes our child.
fn settle() -> io::Result<()> {
    setsid()?;
    set_child_subreaper(Some(rustix::process::getpid()))?;
    sys::block_all();
    sys::keep_children();
    let _ = rustix::thread::set_name(c"tenure-guardian");
    Ok(())
}

impl Guardian {
    fn new(plan: Plan, link: Link, launcher: Launcher, parent: Pid) -> Result<Guardian, (Link, io::Error)> {
        let means = || {
            settle()?;
            let timer =
                timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
            Ok((Rc::new(Bell::new()?), Rc::new(timer), Rc::new(RefCell::new(SignalFd::new(true)?))))
        };
        let (bell, timer, children) = match means() {
            Ok(means) => means,
            Err(error) => return Err((link, error)),
        };
        let status = Status {
            outcome: "failed",
            lock: plan.keys.iter().map(Key::name).collect::<Vec<_>>().join("\n"),
            namespace: plan.store.namespace.clone(),
            ..Status::default()
        };
        let (began, locks, granted) = (Instant::now(), None, None);
        let (link, launcher) = (Rc::new(link), Some(launcher));
        Ok(Guardian { plan, link, bell, parent, began, locks, launcher, timer, children, granted, status })
    }

    fn serve(&mut self) {
        let result = self.hold_and_run();
        match result {
            Ok(()) | Err(Stop::Orphaned) => {}
            Err(Stop::Busy(failure)) => {
                self.status.outcome = "busy";
                let text = if self.plan.quiet { String::new() } else { failure.text(self.plan.verbose) };
                self.end(failure.code, text);
            }
            Err(Stop::Done(run)) => {
                self.status.outcome = "done";
                let text = if self.plan.quiet { String::new() } else { self.done_before(&run) };
                self.status.slot = Some(run.slot);
                self.end(0, text);
            }
            Err(Stop::Failed(failure)) => {
                self.status.error = Some(failure.what.clone());
                let text = failure.text(self.plan.verbose);
                self.end(failure.code, text);
            }
        }
        if let Some(locks) = self.locks.take() {
            let _ = locks.blocking_close();
        }
    }

    fn hold_and_run(&mut self) -> Result<(), Stop> {
        let (locks, hold) = self.acquire()?;
        self.granted = Some(Instant::now());
        self.status.waited_ms = millis(self.began.elapsed());
        self.status.slot = hold.slot().map(str::to_owned);
        let tokens = self.tokens(&locks, &hold);
        let previous = |key: &Key| hold.previous(key).map(Previous::as_str);
        match &tokens[..] {
            [(key, token)] => (self.status.token, self.status.previous) = (*token, previous(key)),
            _ => {
                let one = |(key, token): &(Key, _)| One {
                    lock: key.name().to_owned(),
                    token: *token,
                    previous: previous(key),
                };
                self.status.locks = tokens.iter().map(one).collect();
            }
        }
        let domain = self.domain(&locks)?;
        let started = match self.ask_to_start(&hold) {
            Ok(()) => self.start(&locks, &hold, &tokens, domain.as_ref()),
            Err(stop) => Err(stop),
        };
        match started {
            Ok(command) => {
                self.supervise(hold, command);
                Ok(())
            }
            Err(stop) => {
                // Nothing may become the command any more once the lock is another's.
                self.launcher = None;
                self.release(hold, Ending::NotRun);
                Err(stop)
            }
        }
    }

    /// What is said of a job whose slot is used.
    fn done_before(&self, run: &Run) -> String {
        let (job, slot) = (self.plan.named(), escape(&run.slot));
        let (who, state) = (view::name(&run.owner), escape(&run.state.to_string()));
        if run.state == RunState::Abandoned {
            return format!(
                "tenure: job {job}: slot {slot} was begun, by {who}, and not finished; it is never run again, so \
                 nothing to do.\n"
            );
        }
        format!("tenure: job {job}: slot {slot} was run before, by {who}: {state}; nothing to do.\n")
    }

    /// Drives a future until it is ready, the time is over, or `tenure run` says something or is gone.
    pub(super) fn until<F: Future + ?Sized>(
        &self,
        mut future: Pin<&mut F>,
        end: Option<Instant>,
    ) -> Step<F::Output> {
        let mut context = Context::from_waker(self.bell.waker());
        loop {
            self.bell.hush();
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return Step::Ready(value);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Step::Time;
            }
            // Rounded up, so that a wait of less than a millisecond does not spin.
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds = vec![PollFd::new(&*self.bell, PollFlags::IN)];
            fds.extend(self.launcher.as_ref().map(|launcher| PollFd::new(launcher, PollFlags::IN)));
            let launcher = fds.len() > 1;
            fds.extend(self.link.poll_fd());
            if poll(&mut fds, timeout.as_ref()).is_err() {
                continue;
            }
            let mut ready = fds[1..].iter().map(|fd| !fd.revents().is_empty());
            let (launcher, link) = (launcher && ready.next() == Some(true), ready.next() == Some(true));
            if link {
                return match self.link.receive() {
                    Some(message) => Step::Message(message),
                    None => Step::Orphaned,
                };
            }
            if launcher {
                return Step::Launcher;
            }
        }
    }

    /// The lock is ours; the command starts once `tenure run` hands on signals. While it is stopped by its terminal it
    /// does not answer: then nothing starts, and the lock is kept.
    fn ask_to_start(&self, hold: &Hold) -> Result<(), Stop> {
        self.link.send(&Message::Granted);
        let mut lost = hold.lost();
        // A grant that was pushed may be good for a short time until it is renewed, which happens at once. With less than
        // this left, the command would be stopped as soon as it began.
        let enough = self.plan.grace + supervise::margin(self.plan.ttl);
        let mut go = false;
        loop {
            if go && hold.remaining() > enough {
                return Ok(());
            }
            let look = go.then(|| Instant::now() + Duration::from_millis(1));
            match self.until(lost.as_mut(), look) {
                Step::Message(Message::Go) => go = true,
                Step::Ready(lost) => return Err(lost_too_early(&lost)),
                Step::Orphaned => return Err(Stop::Orphaned),
                Step::Launcher => return Err(self.launcher_ended()),
                Step::Time | Step::Message(_) => {}
            }
        }
    }

    fn supervise(&mut self, hold: Hold, command: i32) {
        let mut supervision = Supervision::new(self, &hold, command);
        let mut told = false;
        // A command that ends by itself and leaves others behind: `tenure run` exits with it, and the lock is kept.
        if let Some(status) = supervision.watch() {
            (self.status.outcome, self.status.lingering, told) = ("ran", true, true);
            self.end_of_command(status);
            let _ = supervision.watch();
        }
        let (ended, cause, refused) = supervision.verdict();
        match cause {
            _ if told => drop(self.release(hold, ended.map_or(Ending::NotRun, ending))),
            None => self.conclude(hold, ended),
            Some(Cause::Orphaned) => {
                self.status.outcome = "abandoned";
                self.release(hold, Ending::NotRun);
                self.end(LOST, String::new());
            }
            Some(Cause::Lost(why)) => {
                let (code, then) = stopped(&refused);
                let failure = Failure::new(code, self.was_lost(&why, &then), "check what it had done");
                (self.status.outcome, self.status.lost) = ("lost", Some(why));
                self.end(code, failure.text(self.plan.verbose));
            }
        }
    }

    fn was_lost(&self, why: &str, then: &str) -> String {
        let (one, was) = if self.plan.keys.len() > 1 { ("locks", "were") } else { ("lock", "was") };
        format!("{one} {} {was} lost: {why}; {then}", self.plan.named())
    }

    /// The command and all its descendants ended by themselves.
    fn conclude(&mut self, hold: Hold, ended: Option<WaitStatus>) {
        let lost = match hold.check() {
            Err(lost) => Some(lost.why().to_string()),
            Ok(_) => self.release(hold, ended.map_or(Ending::NotRun, ending)),
        };
        match (lost, ended) {
            (Some(why), _) => {
                let what = self.was_lost(&why, "the command had not ended by then, or just");
                (self.status.outcome, self.status.lost) = ("lost", Some(why));
                self.end(LOST, Failure::new(LOST, what, "check what it had done").text(self.plan.verbose));
            }
            (None, Some(status)) => {
                self.status.outcome = "ran";
                self.end_of_command(status);
            }
            (None, None) => self.end(LOST, String::new()), // cannot be: all ended, the command among them
        }
    }

    /// Gives the lock back. Returns why, if it was no longer ours.
    fn release(&mut self, hold: Hold, ending: Ending) -> Option<String> {
        let mut release = pin!(hold.release(ending));
        let end = Instant::now() + RELEASE;
        let failure = loop {
            match self.until(release.as_mut(), Some(end)) {
                Step::Ready(Ok(())) => return None,
                Step::Ready(Err(error)) if error.kind() == ErrorKind::Lost => {
                    return Some(error.lost().map_or_else(String::new, |lost| lost.why().to_string()));
                }
                Step::Ready(Err(error)) => break Failure::from_library(&error, UNAVAILABLE),
                Step::Time => {
                    let what = format!("lock {}: the store does not confirm the release", self.plan.named());
                    break Failure::new(UNAVAILABLE, what, "the lock ends with its lease at the latest");
                }
                // Whoever is or is not there to be told: the release goes on.
                Step::Orphaned | Step::Message(_) | Step::Launcher => {}
            }
        };
        self.status.error = Some(failure.what.clone());
        if !self.plan.quiet {
            self.link.send(&Message::Note(failure.text(self.plan.verbose)));
        }
        None
    }

    /// Passes the command's status on: as an exit code, never as a signal of our own.
    fn end_of_command(&mut self, status: WaitStatus) {
        self.status.signal = status.terminating_signal();
        self.end(u8::try_from(code_of(status)).unwrap_or(u8::MAX), String::new());
    }

    /// Writes the status file, if the lock was held, and lets `tenure run` exit.
    fn end(&mut self, code: u8, mut text: String) {
        self.status.exit = code;
        match self.granted {
            Some(at) => self.status.held_ms = Some(millis(at.elapsed())),
            None => self.status.waited_ms = millis(self.began.elapsed()),
        }
        if self.granted.is_some()
            && let Some(file) = &mut self.plan.status
            && let Err(error) = file.write(&self.status)
        {
            text +=
                &Failure::new(code, format!("the status file cannot be written: {error}"), "").text(false);
        }
        self.link.send(&Message::End { code, lingers: self.status.lingering, text });
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
