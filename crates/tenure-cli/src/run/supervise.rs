//! While the command runs: hands on signals, waits for everybody below, and stops them all when they must not go on.

use std::cell::RefCell;
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getppid, wait};
use rustix::time::{ClockId, Itimerspec, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_settime};
use tenure::{Lost, Owner};

use super::bell::Bell;
use super::descendants::{self, Process};
use super::guardian::Guardian;
use super::hold::Hold;
use super::parent::raw;
use super::sys::{self, SignalFd};
use super::wire::{Link, Message};
use crate::who;

/// After this long the store is told whose work it is, and the loss is listened for: a command that ends at once
/// costs neither.
const SETTLE: Duration = Duration::from_millis(10);
/// How often new descendants are looked for while the others have time to end.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long before the deadline everybody is killed, at most: being scheduled and dying take their time on a busy
/// machine. With the longest grace, half of a ttl, it leaves renewals, made at a third, time to be late.
const MARGIN: Duration = Duration::from_millis(500);
/// When to say that something does not die.
const STUBBORN: Duration = Duration::from_secs(3);

/// Why the command was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The lock was lost, or could not be renewed in time.
    Lost(String),
    /// `tenure run` died.
    Orphaned,
}

/// How far stopping has come. Instants are on the boot clock, which counts suspended time as leases do.
enum Stage {
    Running,
    /// They were asked to end.
    Asked {
        kill_at: Duration,
        look_at: Duration,
        asked: HashSet<Process>,
    },
    /// They are being killed.
    Killing {
        pause: Duration,
        since: Duration,
        said: bool,
    },
}

/// One command and all its descendants.
pub(super) struct Supervision<'g> {
    link: Rc<Link>,
    bell: Rc<Bell>,
    hold: &'g Hold,
    lost: Option<Pin<Box<dyn Future<Output = Lost> + 'g>>>,
    children: Rc<RefCell<SignalFd>>,
    timer: Rc<OwnedFd>,
    parent: Pid,
    command: i32,
    /// Its name.
    program: String,
    /// Which process listings name.
    shown: i32,
    /// Its end is the end of the hold, whoever else goes on.
    close: bool,
    /// Who is to be shown as the holder, until the store was told.
    owner: Option<Owner>,
    settle_at: Duration,
    grace: Duration,
    /// How long before the deadline everybody must be dead.
    margin: Duration,
    /// The deadline as it was last seen.
    deadline: Duration,
    /// How the command ended.
    ended: Option<WaitStatus>,
    /// Whether the end of `tenure run` would be a surprise.
    attached: bool,
    /// Whether it is told that the command ended by itself while others go on.
    told: bool,
    /// Whether we have stopped it, since the command is stopped.
    stopped: bool,
    /// Whether the lock is lost.
    gone: bool,
    /// Which processes could not be killed, and why.
    refused: String,
    quiet: bool,
    cause: Option<Cause>,
    stage: Stage,
}

/// How long before the deadline everybody must be dead.
pub(super) fn margin(ttl: Duration) -> Duration {
    (ttl / 10).min(MARGIN)
}

/// The boot clock.
fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

impl<'g> Supervision<'g> {
    /// Watches over `command`, which has just been started.
    pub(super) fn new(guardian: &Guardian, hold: &'g Hold, command: i32) -> Supervision<'g> {
        let plan = &guardian.plan;
        let now = now();
        Supervision {
            link: guardian.link.clone(),
            bell: guardian.bell.clone(),
            hold,
            lost: None,
            children: guardian.children.clone(),
            timer: guardian.timer.clone(),
            parent: guardian.parent,
            command,
            program: plan.program.clone(),
            shown: command,
            close: plan.close,
            owner: Some(who::owner(command.unsigned_abs(), &plan.program)),
            settle_at: now + SETTLE,
            grace: plan.grace,
            margin: margin(plan.ttl),
            deadline: now.saturating_add(hold.remaining()),
            ended: None,
            attached: true,
            told: false,
            stopped: false,
            gone: false,
            refused: String::new(),
            quiet: plan.quiet,
            cause: None,
            stage: Stage::Running,
        }
    }

    /// Watches until everybody has ended (`None`), or until the command has ended by itself and others go on, the
    /// first time.
    pub(super) fn watch(&mut self) -> Option<WaitStatus> {
        if self.attached && self.link.is_gone() {
            self.orphaned(); // while the command was being started
        }
        loop {
            while self.children.borrow_mut().next().is_some() {}
            if self.reap() {
                self.wake_parent();
                return None;
            }
            if self.close && self.ended.is_some() && self.cause.is_none() {
                self.wake_parent();
                return None;
            }
            self.show_who_lingers();
            if let (Some(status), None, false) = (self.ended, &self.cause, self.told) {
                self.told = true;
                self.wake_parent();
                return Some(status);
            }
            self.judge();
            let wake = self.act();
            self.sleep(wake);
        }
    }

    /// How the command ended, what stopped it if it did not end by itself, and which processes could not be stopped.
    pub(super) fn verdict(self) -> (Option<WaitStatus>, Option<Cause>, String) {
        (self.ended, self.cause, self.refused)
    }

    /// Waits for whoever has changed. Says whether nobody is left: a descendant whose parents are all dead is our
    /// child, so without children there are no descendants.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED) {
                Ok(Some((pid, status))) if raw(pid) == self.command => {
                    if status.stopped() {
                        self.command_stopped();
                    } else if status.continued() {
                        self.wake_parent();
                    } else {
                        self.ended = Some(status);
                    }
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    /// The command was stopped, so its job is: the shell must see `tenure run` stop. Where no shell could continue the
    /// job (`ssh -t HOST tenure run ...`), the kernel ignores Ctrl-Z by itself.
    fn command_stopped(&mut self) {
        if self.attached && matches!(self.stage, Stage::Running) && getppid() == Some(self.parent) {
            self.stopped = sys::kill(raw(self.parent), libc::SIGSTOP).is_ok();
        }
    }

    fn wake_parent(&mut self) {
        if std::mem::take(&mut self.stopped) && getppid() == Some(self.parent) {
            let _ = sys::kill(raw(self.parent), libc::SIGCONT);
        }
    }

    /// Once the command has ended, listings name a process that still keeps the lock.
    fn show_who_lingers(&mut self) {
        if !self.told || !matches!(self.stage, Stage::Running) || sys::kill(self.shown, 0).is_ok() {
            return;
        }
        if let Some((pid, program)) = descendants::first() {
            (self.shown, self.owner) = (pid, None);
            self.hold.describe(who::owner(pid.unsigned_abs(), program.as_deref().unwrap_or(&self.program)));
        }
    }

    /// Is the lock still ours, and for long enough?
    fn judge(&mut self) {
        let now = now();
        if now >= self.settle_at && self.lost.is_none() {
            let ours = sys::kill(self.command, 0);
            if !self.quiet && ours.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM)) {
                let note = "tenure: the command runs as another user, so it cannot be stopped if the lock is lost.\n";
                self.link.send(&Message::Note(note.into()));
            }
            if let Some(owner) = self.owner.take() {
                self.hold.describe(owner);
            }
            let hold: &'g Hold = self.hold;
            self.lost = Some(hold.lost());
        }
        if self.gone {
            return;
        }
        self.bell.hush();
        let mut context = Context::from_waker(self.bell.waker());
        if let Some(lost) = &mut self.lost
            && let Poll::Ready(lost) = lost.as_mut().poll(&mut context)
        {
            // Whoever comes next may already be there, or comes at our deadline at the latest.
            let until = self.deadline.saturating_sub(self.margin);
            return self.stop(Cause::Lost(lost.why().to_string()), until);
        }
        let left = self.hold.remaining();
        self.deadline = now.saturating_add(left);
        if left <= self.grace + self.margin {
            let until = self.deadline.saturating_sub(self.margin);
            self.stop(Cause::Lost("it could not be renewed in time".into()), until);
        }
    }

    /// Nobody may go on: asks everybody to end, and kills them after the grace, at `latest` in any case.
    fn stop(&mut self, cause: Cause, latest: Duration) {
        let now = now();
        self.gone |= matches!(cause, Cause::Lost(_));
        let kill_at = latest.min(now + self.grace);
        match &mut self.stage {
            Stage::Running => self.stage = Stage::Asked { kill_at, look_at: now, asked: HashSet::new() },
            Stage::Asked { kill_at: earlier, .. } => *earlier = kill_at.min(*earlier),
            Stage::Killing { .. } => {}
        }
        self.cause.get_or_insert(cause);
    }

    /// Does what is due, and says when to come back.
    fn act(&mut self) -> Duration {
        let now = now();
        if let Stage::Asked { kill_at, asked, .. } = &self.stage
            && now >= *kill_at
        {
            // Whoever is known first: on a busy machine it takes time to look for others.
            for process in asked {
                let _ = descendants::signal(process, Signal::KILL);
            }
            self.stage = Stage::Killing { pause: Duration::from_millis(1), since: now, said: false };
        }
        match &mut self.stage {
            Stage::Running if self.lost.is_none() => self.settle_at,
            Stage::Running => self.deadline.saturating_sub(self.grace + self.margin),
            Stage::Asked { kill_at, look_at, asked } => {
                if now >= *look_at {
                    for process in descendants::of_this_process(&[]) {
                        if asked.insert(process) {
                            let _ = descendants::signal(&process, Signal::TERM);
                            // A stopped process acts on it only when it is continued.
                            let _ = descendants::signal(&process, Signal::CONT);
                        }
                    }
                    *look_at = now + LOOK_AGAIN;
                }
                (*look_at).min(*kill_at).min(self.deadline.saturating_sub(self.margin).max(now))
            }
            Stage::Killing { pause, since, said } => {
                let left = descendants::of_this_process(&[]);
                let refused = descendants::kill(&left);
                if !refused.is_empty() {
                    self.refused.clone_from(&refused);
                }
                if now > *since + STUBBORN && !std::mem::replace(said, true) {
                    let left: Vec<String> = left.iter().map(|p| p.pid.to_string()).collect();
                    let whom = if refused.is_empty() { left.join(", ") } else { refused };
                    self.link
                        .send(&Message::Note(format!("tenure: cannot kill process {whom}; trying on.\n")));
                }
                *pause = (*pause * 2).min(Duration::from_millis(250));
                now + *pause
            }
        }
    }

    /// Until a child changes, the loss rings, `tenure run` says something, or that instant.
    fn sleep(&mut self, wake: Duration) {
        // A timer at zero would be disarmed.
        let at = Timespec::try_from(wake.max(Duration::from_nanos(1)))
            .unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        let once = Itimerspec { it_interval: Timespec::default(), it_value: at };
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once);
        let children = self.children.borrow();
        let mut fds = vec![
            PollFd::new(&*self.timer, PollFlags::IN),
            PollFd::new(&*self.bell, PollFlags::IN),
            PollFd::new(&*children, PollFlags::IN),
        ];
        fds.extend(self.link.poll_fd());
        let ready = poll(&mut fds, None).is_ok() && fds.get(3).is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        drop(children);
        if ready {
            self.hear();
        }
    }

    /// A message from `tenure run`, or its end.
    fn hear(&mut self) {
        match self.link.receive() {
            Some(Message::Signal(signal)) if self.ended.is_none() => signal.forward(self.command),
            // It has heard of the command's end, and exits with its status.
            Some(Message::Go) if self.told => self.attached = false,
            None if self.attached => self.orphaned(),
            _ => {}
        }
    }

    /// `tenure run` was killed.
    fn orphaned(&mut self) {
        (self.attached, self.stopped) = (false, false);
        self.stop(Cause::Orphaned, Duration::MAX);
    }
}
