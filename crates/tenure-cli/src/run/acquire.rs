//! Getting the lock: opening the store, waiting in line, and telling the user about it.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use tenure::{Domain, Key, Line, LockOptions, Locks, Owner, Run};

use super::env::{Confirmed, Held};
use super::guardian::{Guardian, Step, Stop};
use super::hold::{Hold, Taken, Target};
use super::parent::raw;
use super::wire::Message;
use super::{Wait, env};
use crate::exit::{CONFIG, Failure, UNAVAILABLE, USAGE};
use crate::text::{escape, ordinal};
use crate::{store, view, who};

/// How often to look who holds the lock, for somebody who watches.
const LOOK: Duration = Duration::from_secs(1);
/// The first and the longest pause before a store that was not reached is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

impl Guardian {
    /// The lock, or why not. A store that is away is tried again for as long as the user said to wait; without a
    /// `--wait`, only if it has answered before.
    pub(super) fn acquire(&mut self) -> Result<(Locks, Hold), Stop> {
        let until = match self.plan.wait {
            Wait::For(wait) => self.began.checked_add(wait),
            _ => None,
        };
        let (mut pause, mut told) = (PAUSES.0, self.plan.quiet);
        // The wait limits the time in line: however short it is, the store has the time to answer once.
        let mut most = None;
        loop {
            let failure = match self.attempt(most) {
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
                self.note(format!("{}tenure: trying again.\n", failure.text(self.plan.verbose)));
            }
            let again = Instant::now() + pause;
            let again = until.map_or(again, |until| again.min(until));
            match self.until(pin!(std::future::pending::<()>()), Some(again)) {
                Step::Orphaned => return Err(Stop::Orphaned),
                Step::Launcher => return Err(self.launcher_ended()),
                Step::Ready(()) | Step::Time | Step::Message(_) => {}
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(failure.into());
            }
            (pause, most) = ((pause * 2).min(PAUSES.1), until);
        }
    }

    /// Asks once, and waits in line: until that instant, or else for as long as the user said.
    fn attempt(&mut self, until: Option<Instant>) -> Result<(Locks, Hold), Stop> {
        let locks = match &self.locks {
            Some(locks) => locks.clone(),
            None => {
                let locks = self.connect(until)?;
                let warnings = store::warnings(&locks);
                if !self.plan.quiet && !warnings.is_empty() {
                    self.note(warnings);
                }
                self.locks.insert(locks).clone()
            }
        };
        let keys = self.names_to_take(&locks)?;
        let me = who::owner(raw(self.parent).unsigned_abs(), &self.plan.program);
        let usage = |e: tenure::Error| Failure::from_library(&e, USAGE);
        let options = LockOptions::new().ttl(self.plan.ttl).owner(me.clone());
        let target = self.plan.ask.at(&locks, &keys, options, &self.plan.reason).map_err(usage)?;
        let keys = self.locks_of(&locks, &target, keys)?;
        // Never overtakes anybody, and nothing has to be set up for waiting if there is nothing to wait for.
        let mut taken = self.finish(pin!(target.take(Wait::No)))?.map_err(usage)?;
        if matches!(&taken, Taken::Not(run) if self.plan.wait != Wait::No && !over(run.as_ref())) {
            let wait = match until {
                Some(until) => Wait::For(until.saturating_duration_since(Instant::now())),
                None => self.plan.wait,
            };
            taken = self.wait(&locks, &keys, &me, pin!(target.take(wait)))?.map_err(usage)?;
        }
        match taken {
            Taken::Held(hold) => Ok((locks, hold)),
            Taken::Not(Some(run)) if over(Some(&run)) => Err(Stop::Done(Box::new(run))),
            Taken::Not(_) => Err(Stop::Busy(self.busy(&locks, &keys))),
        }
    }

    /// The names that are to be taken: all but those that a parent holds, with `--reentrant`.
    fn names_to_take(&mut self, locks: &Locks) -> Result<Vec<Key>, Stop> {
        let mut keys = Vec::new();
        for key in self.plan.keys.clone() {
            match self.held_above(locks, &key)? {
                None => keys.push(key),
                Some(Confirmed { held, .. }) if !self.plan.reentrant => return Err(own(&key, &held).into()),
                Some(Confirmed { below: false, .. }) => {
                    let what = format!(
                        "lock {key}: it is held, but not by a parent of this command, so the hold could end while the \
                         command runs"
                    );
                    let advice = "start this below the `tenure run` that holds it, or unset TENURE_HELD to wait in line";
                    return Err(Failure::usage(what, advice).into());
                }
                Some(Confirmed { held, .. }) if self.plan.ask.is_covered_by(&held.way) => {}
                Some(Confirmed { held, .. }) => {
                    let what = format!(
                        "lock {key}: a parent of this command holds it as {}, which is less than {}",
                        held.way,
                        self.plan.ask.word()
                    );
                    let advice = "let the parent take it in the way that is needed here";
                    return Err(Failure::usage(what, advice).into());
                }
            }
        }
        Ok(keys)
    }

    /// The hold of that lock by a parent. The environment says so, and the store confirms it: what it does not confirm is
    /// forgotten, for the command as well.
    fn held_above(&mut self, locks: &Locks, key: &Key) -> Result<Option<Confirmed>, Stop> {
        let answer = self.finish(pin!(env::confirmed(&self.plan.held, locks, key)))?;
        let confirmed = answer.map_err(|e| Failure::from_library(&e, CONFIG))?;
        let (line, kept) = (env::line(locks.url(), key), confirmed.as_ref().map(|c| &c.held));
        self.plan.held.retain(|held| held.line != line || Some(held) == kept);
        Ok(confirmed)
    }

    /// The locks behind what is asked for: of a job, that of its slot.
    fn locks_of(&mut self, locks: &Locks, target: &Target, keys: Vec<Key>) -> Result<Vec<Key>, Stop> {
        let (Target::Once(once), [key]) = (target, &keys[..]) else { return Ok(keys) };
        let label = once.label().map_err(|e| Failure::from_library(&e, USAGE))?;
        let slot = self.plan.store.key(&format!("{}/@{label}", key.name()))?;
        match self.held_above(locks, &slot)? {
            Some(Confirmed { held, .. }) => Err(own(&slot, &held).into()),
            None => Ok(vec![slot]),
        }
    }

    /// Opens the store: until that instant at the latest, or else for as long as the library tries.
    fn connect(&self, until: Option<Instant>) -> Result<Locks, Stop> {
        let mut connect = pin!(self.plan.store.builder().connect());
        loop {
            match self.until(connect.as_mut(), until) {
                Step::Ready(locks) => return Ok(locks.map_err(|e| Failure::from_library(&e, CONFIG))?),
                Step::Orphaned => return Err(Stop::Orphaned),
                Step::Launcher => return Err(self.launcher_ended()),
                Step::Time => {
                    let what = "the store did not answer within --wait";
                    return Err(Failure::new(UNAVAILABLE, what, "check that it runs and the address").into());
                }
                Step::Message(_) => {}
            }
        }
    }

    /// The token's domain. Without it the command runs all the same: only a fence needs it.
    pub(super) fn domain(&self, locks: &Locks) -> Result<Option<Domain>, Stop> {
        match self.until(pin!(locks.domain()), Some(Instant::now() + LOOK)) {
            Step::Ready(domain) => Ok(domain.ok()),
            Step::Orphaned => Err(Stop::Orphaned),
            Step::Launcher => Err(self.launcher_ended()),
            Step::Time | Step::Message(_) => Ok(None),
        }
    }

    /// Drives a future to its end, unless `tenure run` ends before.
    fn finish<F: Future>(&self, mut future: Pin<&mut F>) -> Result<F::Output, Stop> {
        loop {
            match self.until(future.as_mut(), None) {
                Step::Ready(value) => return Ok(value),
                Step::Orphaned => return Err(Stop::Orphaned),
                Step::Launcher => return Err(self.launcher_ended()),
                Step::Time | Step::Message(_) => {}
            }
        }
    }

    /// The same, while the user is told what is being waited for: at once and whenever it changes on a terminal, once
    /// after a second elsewhere.
    fn wait<F: Future>(
        &self,
        locks: &Locks,
        keys: &[Key],
        me: &Owner,
        mut future: Pin<&mut F>,
    ) -> Result<F::Output, Stop> {
        if self.plan.quiet {
            return self.finish(future);
        }
        let moves = self.plan.notes;
        let mut said = String::new();
        let mut look = if moves { Instant::now() } else { Instant::now() + LOOK };
        loop {
            match self.until(future.as_mut(), Some(look)) {
                Step::Ready(value) => return Ok(value),
                Step::Orphaned => return Err(Stop::Orphaned),
                Step::Launcher => return Err(self.launcher_ended()),
                Step::Message(_) => continue,
                Step::Time => {}
            }
            look = Instant::now() + LOOK;
            let seen = self.until(pin!(in_the_way(locks, keys, Some(me))), Some(look)).ready().flatten();
            if !moves {
                // Whether or not it can be seen who holds: a job that hangs without a word looks broken.
                let what = seen.map_or_else(|| self.plan.named(), |line| view::held_by(&line, false));
                self.note(format!("tenure: waiting for {what}.\n"));
                return self.finish(future);
            }
            let Some(line) = seen else { continue };
            let place = line.waiting.iter().position(|seen| seen.owner == *me);
            let place = place.map(|at| format!("; {} in line", ordinal(at + 1))).unwrap_or_default();
            let text = format!("tenure: waiting for {}{place}.\n", view::held_by(&line, false));
            if text != said && !line.holders.is_empty() {
                said.clone_from(&text);
                self.note(text);
            }
        }
    }

    /// Not acquired in time: with the holder's name, where the store tells it soon.
    fn busy(&self, locks: &Locks, keys: &[Key]) -> Failure {
        let soon = Instant::now() + LOOK;
        let seen = self.until(pin!(in_the_way(locks, keys, None)), Some(soon)).ready().flatten();
        let seen = seen.filter(|line| !line.holders.is_empty());
        let key = seen.as_ref().map_or_else(|| self.plan.keys.first(), |line| Some(&line.key));
        let name = key.map(|key| escape(key.name())).unwrap_or_default();
        let more = if self.plan.wait == Wait::No { "wait for it with --wait" } else { "wait longer" };
        let advice = format!("{more}, or see who is in line with: tenure show {name}");
        let what = seen.as_ref().map_or_else(|| self.plan.named(), |line| view::held_by(line, true));
        Failure::new(self.plan.conflict, format!("not acquired: {what}"), advice)
    }

    fn note(&self, text: String) {
        self.link.send(&Message::Note(text));
    }
}

/// Whether a run leaves nothing to be run.
fn over(run: Option<&Run>) -> bool {
    run.is_some_and(|run| run.state.is_over())
}

/// A lock that a parent holds does not become free while its child waits.
fn own(key: &Key, held: &Held) -> Failure {
    Failure::usage(
        format!("lock {key}: this command already runs under it, so it would wait for itself"),
        match held.way.as_str() {
            "unknown" | "once" => "take another lock here",
            _ => "take another lock here, or use run --reentrant",
        },
    )
}

/// The lock that is waited for: where `me` stands in line, or else the first that somebody holds.
async fn in_the_way(locks: &Locks, keys: &[Key], me: Option<&Owner>) -> Option<Line> {
    let mut first = None;
    for key in keys {
        let Ok(Some(line)) = locks.inspect(key.name()).await else { continue };
        if me.is_some_and(|me| line.waiting.iter().any(|seen| seen.owner == *me)) {
            return Some(line);
        }
        if !line.holders.is_empty() {
            first.get_or_insert(line);
        }
    }
    first
}
