//! The faults of a sale: real signals, in the worst place.
//!
//! Three times a client stops its whole process (SIGSTOP) between its last check and its write, and is continued when
//! its lease has long ended and others have bought; then one process is killed (SIGKILL) while a client of it is inside.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::buyers::Order;
use crate::failure::Outcome;
use crate::num::boot_ns;
use crate::process::Worker;

/// The lease in a sale with faults.
pub(super) const TTL: Duration = Duration::from_millis(400);
/// How long a stopped process stays stopped, at least: well beyond its lease.
const STOPPED: Duration = Duration::from_millis(1000);
/// How many others must have bought meanwhile: a stop that nobody used proves nothing.
const OTHERS: u64 = 3;
/// How long it stays stopped at most, if nobody does.
const STOPPED_MAX: Duration = Duration::from_secs(10);
/// How long after it said so a process has surely stopped itself, in ns.
const SURELY: u64 = 100_000_000;
/// How many times a process is stopped.
const STOPS: u64 = 3;

/// What was done, for the report: seconds since the start, how long, what.
#[derive(Clone, Debug)]
pub(super) struct Band {
    pub(super) at: f64,
    pub(super) lasted: f64,
    pub(super) what: &'static str,
}

#[derive(Debug)]
enum State {
    /// Until this much has been sold.
    Idle,
    /// A process was asked to stop itself.
    Asked(usize),
    /// It is about to stop, or has: since when on both clocks, and how much had been sold when it surely had.
    Stopping { who: usize, since: Instant, at: u64, then: Option<u64> },
    /// A process was asked to have a client stay inside.
    Doomed(usize),
    /// Nothing is left to do.
    Over,
}

/// What the stock told last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub(super) sold: u64,
    /// On the boot clock.
    pub(super) at: u64,
    /// The process that bought last. A fault hits this one: a lock that is not fair may not let another one in.
    pub(super) buyer: usize,
}

/// The faults of one run.
#[derive(Debug)]
pub(super) struct Faults {
    state: State,
    stops: u64,
    stock: u64,
    start: Instant,
    pub(super) bands: Vec<Band>,
    /// The process that was killed.
    pub(super) killed: Option<usize>,
}

impl Faults {
    /// The plan for a stock; none without `wanted`.
    pub(super) fn new(wanted: bool, stock: u64) -> Faults {
        let state = if wanted { State::Idle } else { State::Over };
        Faults { state, stops: 0, stock, start: Instant::now(), bands: Vec::new(), killed: None }
    }

    /// The clients start now: the times of the report count from here.
    pub(super) fn begin(&mut self) {
        self.start = Instant::now();
    }

    /// How many times a process was stopped.
    pub(super) fn stops(&self) -> u64 {
        self.stops
    }

    /// A worker says that it stops itself now.
    pub(super) fn stopping(&mut self, who: usize) {
        self.state = State::Stopping { who, since: Instant::now(), at: boot_ns(), then: None };
    }

    /// A worker says that a client stays inside: kill it.
    pub(super) fn staying(&mut self, who: usize, workers: &mut [Worker]) {
        workers[who].kill();
        self.killed = Some(who);
        self.state = State::Over;
        self.bands.push(Band { at: self.start.elapsed().as_secs_f64(), lasted: 0.0, what: "SIGKILL" });
    }

    /// Takes the next step. `done` are the workers that have finished.
    pub(super) fn step(
        &mut self,
        Told { sold, at: told, buyer }: Told,
        done: &[bool],
        workers: &mut [Worker],
    ) -> Outcome<()> {
        let due = self.stock * (self.stops + 1) / (STOPS + 2);
        match self.state {
            State::Idle if sold >= due && self.stops < STOPS => {
                self.state = if done[buyer] { State::Over } else { State::Asked(buyer) };
                if !done[buyer] {
                    workers[buyer].order(&Order::Stop)?;
                }
            }
            State::Idle if sold >= due => {
                self.state = if done[buyer] { State::Over } else { State::Doomed(buyer) };
                if !done[buyer] {
                    workers[buyer].order(&Order::Stay)?;
                }
            }
            State::Asked(who) | State::Doomed(who) if done[who] => self.state = State::Over,
            State::Stopping { who, since, at, then: None } if told >= at + SURELY => {
                self.state = State::Stopping { who, since, at, then: Some(sold) };
            }
            State::Stopping { who, since, then, .. }
                if since.elapsed() >= STOPPED_MAX
                    || since.elapsed() >= STOPPED && then.is_some_and(|then| sold >= then + OTHERS) =>
            {
                workers[who].signal(Signal::CONT);
                let lasted = since.elapsed().as_secs_f64();
                let at = self.start.elapsed().as_secs_f64() - lasted;
                self.bands.push(Band { at, lasted, what: "SIGSTOP" });
                self.stops += 1;
                self.state = State::Idle;
            }
            _ => {}
        }
        Ok(())
    }
}
