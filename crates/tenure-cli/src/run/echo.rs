//! Tells signals that were sent to `tenure run` alone, which are to be forwarded, from those that were sent to its whole
//! process group or to everybody here, which have reached the command already. The kernel does not say which it was.
//!
//! The *witness* is one more process in the group, which does nothing but report the signals that it gets. A signal
//! that the witness gets from the same sender at the same time was not for `tenure run` alone.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::sys::{self, Arrived, Side, SignalFd};
use super::wire::{Link, Message};

/// How long a signal waits for the report that it went to everybody. timeout(1), for one, signals its child first and
/// the whole group next.
const TOGETHER: Duration = Duration::from_millis(20);
/// How long to wait for the witness to say that it has no more reports: it may be stopped.
const PATIENCE: Duration = Duration::from_millis(500);

/// The witness, seen from `tenure run`. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) pid: i32,
    pub(super) link: Link,
}

impl Witness {
    /// Forks it, all signals being blocked. `guardian` is the link to the guardian, which the witness must not keep open.
    ///
    /// # Errors
    /// No memory, too many processes, too many open files.
    pub(super) fn fork(guardian: &mut Link) -> std::io::Result<Witness> {
        let (ours, theirs) = Link::pair()?;
        let parent = rustix::process::getpid();
        match sys::fork()? {
            Side::Parent(pid) => Ok(Witness { pid, link: ours }),
            Side::Child => {
                *guardian = theirs;
                drop(ours);
                if let (Ok(()), Ok(signals)) = (sys::die_with(parent), SignalFd::new(false)) {
                    sys::become_nobody(c"signal-witness");
                    report(guardian, signals);
                }
                sys::leave(0)
            }
        }
    }
}

/// Reports until the other end is gone. A message from there asks whether anything is left to report.
fn report(link: &Link, mut signals: SignalFd) {
    loop {
        let asked = {
            let mut fds = [PollFd::new(&signals, PollFlags::IN), PollFd::new(link, PollFlags::IN)];
            poll(&mut fds, None).is_ok() && !fds[1].revents().is_empty()
        };
        if asked && link.receive().is_none() {
            return;
        }
        while let Some(arrived) = signals.next() {
            link.send(&Message::Signal(arrived));
        }
        if asked {
            link.send(&Message::Go);
        }
    }
}

/// Signals of `tenure run`, and what the witness has seen of them.
#[derive(Debug, Default)]
pub(super) struct Echo {
    /// Those that may have gone to `tenure run` alone, with the instant when they came, in order.
    waiting: VecDeque<(Instant, Arrived)>,
    /// Reports of signals that have not arrived here.
    seen: Vec<(Instant, Arrived)>,
    /// When the witness was asked.
    asked: Option<Instant>,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// Ask the witness whether it has more to report.
    Ask,
    /// These were for `tenure run` alone.
    Forward(Vec<Arrived>),
}

impl Echo {
    /// A signal came.
    pub(super) fn arrived(&mut self, signal: Arrived, now: Instant) {
        self.seen.retain(|(at, _)| now.saturating_duration_since(*at) < TOGETHER);
        match self.seen.iter().position(|(_, seen)| *seen == signal) {
            Some(at) => drop(self.seen.remove(at)),
            None => self.waiting.push_back((now, signal)),
        }
    }

    /// The witness got one. Ordinary signals do not queue, so several here may be one there.
    pub(super) fn reported(&mut self, signal: Arrived, now: Instant) {
        let before = self.waiting.len();
        if signal.queues() {
            if let Some(at) = self.waiting.iter().position(|(_, waiting)| *waiting == signal) {
                self.waiting.remove(at);
            }
        } else {
            self.waiting.retain(|(_, waiting)| *waiting != signal);
        }
        if self.waiting.len() == before {
            self.seen.push((now, signal));
        }
    }

    /// The witness has no more to report: what had waited for long enough when it was asked was for us alone.
    pub(super) fn answered(&mut self) -> Vec<Arrived> {
        let Some(asked) = self.asked.take() else { return Vec::new() };
        let mut alone = Vec::new();
        while let Some((at, signal)) = self.waiting.front()
            && asked.saturating_duration_since(*at) >= TOGETHER
        {
            alone.push(*signal);
            self.waiting.pop_front();
        }
        alone
    }

    /// What is due. Without a witness, or if it does not answer, every signal counts as sent to us alone.
    pub(super) fn due(&mut self, witness: bool, now: Instant) -> Due {
        match (self.asked, self.waiting.front()) {
            (Some(asked), _) if !witness || now.saturating_duration_since(asked) >= PATIENCE => {
                Due::Forward(self.answered())
            }
            (None, Some((at, _))) if now.saturating_duration_since(*at) >= TOGETHER => {
                self.asked = Some(now);
                if witness { Due::Ask } else { Due::Forward(self.answered()) }
            }
            _ => Due::Nothing,
        }
    }

    /// How long until something is due.
    pub(super) fn wake(&self, now: Instant) -> Option<Timespec> {
        let at = match (self.asked, self.waiting.front()) {
            (Some(asked), _) => asked + PATIENCE,
            (None, Some((at, _))) => *at + TOGETHER,
            (None, None) => return None,
        };
        // Rounded up, so that it is due then.
        Timespec::try_from(at.saturating_duration_since(now) + Duration::from_micros(100)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(number: i32, pid: i32) -> Arrived {
        Arrived { signal: number, code: 0, pid, uid: 0, value: 0 }
    }

    #[test]
    fn what_the_witness_saw_is_not_forwarded() {
        let (mut echo, start) = (Echo::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        let (int, term) = (signal(2, 7), signal(15, 8));
        echo.arrived(int, start);
        echo.arrived(term, after(1));
        echo.reported(int, after(2));
        assert_eq!(echo.due(true, after(10)), Due::Nothing);
        assert_eq!(echo.due(true, after(30)), Due::Ask);
        assert_eq!(echo.due(true, after(31)), Due::Nothing);
        assert_eq!(echo.answered(), [term]);
        assert_eq!(echo.due(true, after(60)), Due::Nothing);
        // The report may come first, and is forgotten after a while.
        echo.reported(int, after(100));
        echo.arrived(int, after(101));
        assert_eq!(echo.wake(after(101)), None);
        echo.reported(int, after(200));
        echo.arrived(int, after(300));
        assert_eq!(echo.due(false, after(330)), Due::Forward(vec![int]));
    }

    #[test]
    fn one_report_answers_for_ordinary_signals_that_came_twice_but_for_one_that_queues() {
        let (mut echo, start) = (Echo::default(), Instant::now());
        let later = start + Duration::from_millis(30);
        let (int, real) = (signal(2, 7), signal(libc::SIGRTMIN(), 7));
        for signal in [int, int, real, real] {
            echo.arrived(signal, start);
        }
        echo.reported(int, start);
        echo.reported(real, start);
        assert_eq!(echo.due(false, later), Due::Forward(vec![real]));
    }

    #[test]
    fn a_witness_that_does_not_answer_is_not_waited_for() {
        let (mut echo, start) = (Echo::default(), Instant::now());
        echo.arrived(signal(2, 7), start);
        assert_eq!(echo.due(true, start + Duration::from_millis(30)), Due::Ask);
        assert_eq!(echo.due(true, start + Duration::from_secs(1)), Due::Forward(vec![signal(2, 7)]));
    }
}
