//! Getting the lock: opening the store, waiting in line, and telling the user about it.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use tenure::{Domain, Guard, Line, LockOptions, Locks, Mutex, Owner};

use super::guardian::{Guardian, Step, Stop};
use super::parent::raw;
use super::wire::Message;
use super::{Wait, env};
use crate::exit::{CONFIG, Failure, UNAVAILABLE, USAGE};
use crate::text::{ago, escape, now_us, ordinal, rfc3339, short};
use crate::{view, who};

/// How often to look who holds the lock, for somebody who watches.
const LOOK: Duration = Duration::from_secs(1);
/// The first and the longest pause before a store that was not reached is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

impl Guardian {
    /// The lock, or why not. A store that is away is tried again for as long as the user said to wait; without a
    /// `--wait` of his, only once it has answered before.
    pub(super) fn acquire(&mut self) -> Result<(Locks, Guard), Stop> {
        let until = match self.plan.wait {
            Wait::For(wait) => self.began.checked_add(wait),
            _ => None,
        };
        let (mut pause, mut told) = (PAUSES.0, self.plan.quiet);
        loop {
            let failure = match self.attempt(until) {
                Err(Stop::Failed(failure)) if failure.code == UNAVAILABLE => failure,
                other => return other,
            };
            let patient = match self.plan.wait {
                Wait::No => false,
                Wait::For(_) => until.is_none_or(|until| Instant::now() < until),
                Wait::Forever => self.locks.is_some(),
            };
            if !patient {
                return Err(failure.into());
            }
            if !std::mem::replace(&mut told, true) {
                self.note(format!("{}tenure: trying on.\n", failure.text(self.plan.verbose)));
            }
            let again = Instant::now() + pause;
            let again = until.map_or(again, |until| again.min(until));
            if let Step::Orphaned = self.until(pin!(std::future::pending::<()>()), Some(again)) {
                return Err(Stop::Orphaned);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(failure.into());
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn attempt(&mut self, until: Option<Instant>) -> Result<(Locks, Guard), Stop> {
        let locks = match &self.locks {
            Some(locks) => locks.clone(),
            None => {
                let locks = self.connect(until)?;
                self.locks.insert(locks).clone()
            }
        };
        self.refuse_own_lock(&locks)?;
        let me = who::owner(raw(self.parent).unsigned_abs(), &self.plan.program);
        let usage = |e: tenure::Error| Failure::from_library(&e, USAGE);
        let options = LockOptions::new().ttl(self.plan.ttl).reason(&self.plan.reason).owner(me.clone());
        let mutex = locks.mutex(self.plan.key.name()).and_then(|m| m.with(options)).map_err(usage)?;
        // Never overtakes anybody, and nothing has to be set up for waiting where there is nothing to wait for.
        if let Some(guard) = self.finish(pin!(mutex.try_lock()))?.map_err(usage)? {
            return Ok((locks, guard));
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let granted = match (self.plan.wait, left) {
            (Wait::No, _) => None,
            (_, Some(left)) => self.wait(&locks, &me, pin!(mutex.try_lock_for(left)))?.map_err(usage)?,
            (_, None) => Some(self.wait(&locks, &me, pin!(mutex.lock()))?.map_err(usage)?),
        };
        match granted {
            Some(guard) => Ok((locks, guard)),
            None => Err(Stop::Busy(self.busy(&locks, &mutex))),
        }
    }

    /// Opens the store, for no longer than the user said to wait for the lock.
    fn connect(&self, until: Option<Instant>) -> Result<Locks, Stop> {
        let mut connect = pin!(self.plan.store.builder().connect());
        loop {
            match self.until(connect.as_mut(), until) {
                Step::Ready(locks) => return Ok(locks.map_err(|e| Failure::from_library(&e, CONFIG))?),
                Step::Orphaned => return Err(Stop::Orphaned),
                Step::Time => {
                    let what = "the store did not answer in the time that --wait gives";
                    return Err(Failure::new(UNAVAILABLE, what, "check that it runs and the address").into());
                }
                Step::Message(_) => {}
            }
        }
    }

    /// Which order the token belongs to. Without it the command runs all the same: only a fence asks for it.
    pub(super) fn domain(&self, locks: &Locks) -> Result<Option<Domain>, Stop> {
        match self.until(pin!(locks.domain()), Some(Instant::now() + LOOK)) {
            Step::Ready(domain) => Ok(domain.ok()),
            Step::Orphaned => Err(Stop::Orphaned),
            Step::Time | Step::Message(_) => Ok(None),
        }
    }

    /// A lock that a parent of ours holds will not become free while we wait.
    fn refuse_own_lock(&self, locks: &Locks) -> Result<(), Failure> {
        if !env::holds(&self.plan.held, &env::line(locks.url(), &self.plan.key)) {
            return Ok(());
        }
        Err(Failure::usage(
            format!(
                "lock {}: this command is already run under it, so it would wait for itself",
                self.plan.key
            ),
            "take another lock here, or unset TENURE_HELD if that is no longer so",
        ))
    }

    /// Drives a future to its end, unless `tenure run` ends before.
    fn finish<F: Future>(&self, mut future: Pin<&mut F>) -> Result<F::Output, Stop> {
        loop {
            match self.until(future.as_mut(), None) {
                Step::Ready(value) => return Ok(value),
                Step::Orphaned => return Err(Stop::Orphaned),
                Step::Time | Step::Message(_) => {}
            }
        }
    }

    /// The same, while the user is told what is being waited for.
    fn wait<F: Future>(&self, locks: &Locks, me: &Owner, mut future: Pin<&mut F>) -> Result<F::Output, Stop> {
        if !self.plan.notes {
            return self.finish(future);
        }
        let mut said = String::new();
        let mut look = Instant::now();
        loop {
            match self.until(future.as_mut(), Some(look)) {
                Step::Ready(value) => return Ok(value),
                Step::Orphaned => return Err(Stop::Orphaned),
                Step::Message(_) => continue,
                Step::Time => {}
            }
            look = Instant::now() + LOOK;
            let Step::Ready(Ok(Some(line))) =
                self.until(pin!(locks.inspect(self.plan.key.name())), Some(look))
            else {
                continue;
            };
            let place = line.waiting.iter().position(|seen| seen.owner == *me);
            let place = place.map(|at| format!("; {} in line", ordinal(at + 1))).unwrap_or_default();
            let text = format!("tenure: waiting for {}{place}.\n", self.held_by(&line, false));
            if text != said && !line.holders.is_empty() {
                said.clone_from(&text);
                self.note(text);
            }
        }
    }

    /// `orders/42, held by app@web-1 (pid 4711, charge) since 2026-11-21T08:00:00.123Z`.
    fn held_by(&self, line: &Line, elapsed: bool) -> String {
        let lock = escape(self.plan.key.name());
        let Some(first) = line.holders.first() else { return lock };
        let more = match line.holders.len() - 1 {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let time = match (first.since_us, elapsed) {
            (0, _) => String::new(), // by a program that left no word
            (since, true) => format!(" for {}", short(ago(since, now_us()))),
            (since, false) => format!(" since {}", rfc3339(since)),
        };
        let why =
            if first.reason.is_empty() { String::new() } else { format!(" ({})", escape(&first.reason)) };
        format!("{lock}, held by {}{more}{time}{why}", view::name(&first.owner))
    }

    /// Not acquired in time: with the holder's name, where the store tells it soon.
    fn busy(&self, locks: &Locks, mutex: &Mutex) -> Failure {
        let soon = Instant::now() + LOOK;
        let what = match self.until(pin!(locks.inspect(mutex.key().name())), Some(soon)) {
            Step::Ready(Ok(Some(line))) if !self.plan.quiet => self.held_by(&line, true),
            _ => self.plan.key.to_string(),
        };
        Failure::new(self.plan.conflict, format!("not acquired: {what}"), "")
    }

    fn note(&self, text: String) {
        self.link.send(&Message::Note(text));
    }
}
