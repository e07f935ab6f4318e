//! A job that runs at most once per slot, over a whole fleet.
//!
//! A slot is a mutex of its own, `name/@<label>`. Whoever is granted it runs the job; afterwards the hold stays, unrenewed,
//! for as long as anybody could ask for the slot. `slot`: which run is meant. - `record`: what is remembered of it. -
//! `started`: a run in two steps. - `every`: a run in every slot.

mod every;
mod record;
mod slot;
mod started;

use std::fmt;
use std::time::Duration;

use self::record::STARTED;
use self::slot::{Due, micros_of};
use crate::backend::Leave;
use crate::capability::{Needs, Visibility};
use crate::core::calendar;
use crate::core::lease::KEEP_MAX;
use crate::core::moment::Moment;
use crate::engine::Patience;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::Guard;
use crate::locks::Locks;
use crate::mutex::Mutex;
use crate::options::LockOptions;
use crate::runtime::{race, unless};
use crate::token::Token;

pub use every::JobError;
#[cfg(feature = "unstable")]
pub(crate) use record::FUZZ;
pub use record::{Run, RunState};
pub use slot::Slot;
pub use started::Started;

/// By how much clocks may be apart, unless said otherwise, and at most.
const TOLERANCE: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(24 * 60 * 60));
/// For how long the record of a named slot is kept.
const NAMED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// For how many slots more a record is kept.
const RECORDS: u32 = 3;
/// How often a slot is looked at that is neither free nor held.
const LOOKS: u32 = 10;

impl Locks {
    /// A job of this name that runs at most once per slot, on whichever machine asks first.
    ///
    /// # Errors
    /// `Config` for a bad name and an impossible slot. `Unsupported` if the store has no mutex or does not show holders.
    pub fn once(&self, name: impl AsRef<str>, slot: Slot) -> Result<Once> {
        let name = name.as_ref();
        slot.check()?;
        self.require(Needs::new().visibility(Visibility::Holders).keeps())?;
        let label = slot.due(self.engine.core.runtime.wall_us(), TOLERANCE.1);
        // The names of its locks are good ones: the name, its slot, and what is below that.
        self.mutex(name)?;
        if let Ok(due) = label {
            self.mutex(format!("{name}/@{}/{STARTED}", due.label))?;
        }
        Ok(Once {
            locks: self.clone(),
            name: name.to_owned(),
            slot,
            options: LockOptions::new(),
            at_least: Duration::ZERO,
            keep_for: None,
            tolerance: TOLERANCE.0,
            wait: Duration::ZERO,
            never_again: false,
            retry_errors: false,
        })
    }

    /// The recorded runs of the job of this name, oldest first: running, finished and abandoned ones.
    ///
    /// # Errors
    /// Those of [`list`](Locks::list).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    ///
    /// # On drop
    /// Nothing happens.
    ///
    /// # When the answer is lost
    /// Ask again.
    pub async fn runs(&self, name: &str) -> Result<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut begun, below) = (Vec::new(), format!("{name}/@"));
        for line in self.list(name).await? {
            let Some(rest) = line.key.name().strip_prefix(&below) else { continue };
            match rest.split_once('/') {
                None => runs.extend(Run::of(rest, &line)),
                Some((label, STARTED)) => begun.extend(Run::of(label, &line)),
                Some(_) => {}
            }
        }
        begun.retain(|b| runs.iter().all(|r| r.slot != b.slot));
        runs.append(&mut begun);
        runs.sort_by_key(|run| run.began);
        Ok(runs)
    }

    /// [`runs`](Locks::runs) for code without async.
    ///
    /// # Errors
    /// Those of [`runs`](Locks::runs).
    pub fn blocking_runs(&self, name: &str) -> Result<Vec<Run>> {
        pollster::block_on(self.runs(name))
    }
}

/// A job that runs at most once per [slot](Slot), over the whole fleet. Made by [`Locks::once`]; cheap to clone.
///
/// While the job runs, its slot is held like any lock: it has a fencing token, and the job is stopped as soon as the lock is
/// lost. Afterwards the slot stays used until nobody can ask for it any more, even if clocks differ
/// ([`clocks_apart`](Once::clocks_apart)). A record of the run is kept longer ([`keep_for`](Once::keep_for)).
///
/// "At most once" means: no two runs of a slot overlap, and none begins after one has finished and the store has confirmed it
/// ([`Ran::recorded`]). If a machine dies before its run has finished, the next one to ask runs the job again, unless
/// [`never_again`](Once::never_again) forbids it. So the job should be one that can be restarted. If its effects must not happen
/// twice, pass them the token and let them refuse a lower one.
///
/// ```
/// # use std::time::Duration;
/// # pollster::block_on(async {
/// use tenure::{Locks, Outcome, Slot};
///
/// let locks = Locks::memory();
/// let (day, three) = (Duration::from_secs(86_400), Duration::from_secs(3 * 3600));
/// let nightly = locks.once("report", Slot::every(day, three))?; // at 03:00 UTC, on every machine
/// let outcome = nightly.run(async |_token| Ok::<_, std::io::Error>("42 pages")).await?;
/// let Outcome::Ran(ran) = outcome else { panic!("nobody else is here") };
/// assert_eq!(ran.result?, "42 pages");
/// let again = nightly.run(async |_token| Ok::<_, std::io::Error>("43 pages")).await?;
/// assert!(matches!(again, Outcome::AlreadyDone(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Once {
    locks: Locks,
    name: String,
    slot: Slot,
    options: LockOptions,
    at_least: Duration,
    keep_for: Option<Duration>,
    tolerance: Duration,
    wait: Duration,
    never_again: bool,
    retry_errors: bool,
}

/// The result of asking for a job to run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome<T, E> {
    /// It ran here.
    Ran(Ran<T, E>),
    /// The slot is used: by whom, when, and how it ended.
    AlreadyDone(Run),
    /// Another run is under way, or has the slot until the job may be retried.
    Running(Run),
}

/// A run that happened here.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ran<T, E> {
    /// What the job returned.
    pub result: Result<T, E>,
    /// The fencing token that it had.
    pub token: Token,
    /// How long it took.
    pub took: Duration,
    /// Whether the store has confirmed that the slot is used (or released, if the error is to be retried). `Lost`: it was no
    /// longer ours when the job finished. `Uncertain`: the store did not answer. In both cases the job may run again.
    pub recorded: Result<()>,
}

/// The slot is ours. Where the job panics or is dropped, the slot is released, but not before its least time is over.
struct Mine {
    /// `None` only once it was taken out.
    guard: Option<Guard>,
    due: Due,
    began: Moment,
    least: Duration,
}

impl Mine {
    fn guard(&self) -> &Guard {
        self.guard.as_ref().expect("whoever takes the guard out consumes this")
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        if guard.turn.engine.forked() {
            return;
        }
        let took = guard.turn.engine.core.runtime.now().since(self.began);
        let left = self.least.saturating_sub(took);
        if !left.is_zero() {
            guard.turn.hold.leave(Leave::For(left));
        }
    }
}

/// A job that has finished: from now on the slot stays used, even if nobody waits for the end of this.
struct Finishing {
    guard: Option<Guard>,
    leave: Leave,
}

impl Drop for Finishing {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take()
            && !guard.turn.engine.forked()
        {
            guard.turn.hold.leave(self.leave);
        }
    }
}

impl Once {
    /// The lease of the slot while the job runs, and who is shown as its holder.
    ///
    /// # Errors
    /// Those of [`Mutex::with`]; `Config` for a reason, since the record lies there.
    pub fn with(mut self, options: LockOptions) -> Result<Once> {
        options.check()?;
        if options.reason.is_some() {
            return Err(Error::config("a job has no reason of its own", "the record of its run lies there"));
        }
        self.options = options;
        Ok(self)
    }

    /// Keeps others from the slot for at least this long after the job starts, also if the job fails, panics or is dropped. If
    /// the process is killed, the lease is the limit. Use it for a job that must not be retried immediately, or that is shorter
    /// than the difference between clocks. At most 400 days.
    ///
    /// # Errors
    /// `Config` for a longer time.
    pub fn at_least(mut self, least: Duration) -> Result<Once> {
        self.at_least = kept(least)?;
        Ok(self)
    }

    /// How long the record of a run is kept after its slot is over. For a named slot, how long the slot counts as used. The
    /// default is three times the length of the slot, and 30 days for a named one. At most 400 days in all.
    ///
    /// # Errors
    /// `Config` for a longer time.
    pub fn keep_for(mut self, more: Duration) -> Result<Once> {
        self.keep_for = Some(kept(more)?);
        Ok(self)
    }

    /// How much the clocks of machines may differ: 10 minutes by default, at most 24 hours. A used slot stays used for twice as
    /// long after its end. A slot that has been over for longer is refused.
    ///
    /// # Errors
    /// `Config` for a longer time.
    pub fn clocks_apart(mut self, tolerance: Duration) -> Result<Once> {
        if tolerance > TOLERANCE.1 {
            let what = format!("clocks that are apart by {} cannot tell slots", calendar::span(tolerance));
            return Err(Error::config(what, "use at most 24 h, and set the clocks"));
        }
        self.tolerance = tolerance;
        Ok(self)
    }

    /// How long to wait for another machine that runs the job, ready to take over if it dies. The default is not to wait.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Once {
        self.wait = wait;
        self
    }

    /// Never runs a slot again once it was begun, even if its machine died. For jobs that do more harm when done twice than when
    /// not done. A lock of its own, `name/@<label>/started`, records that the slot was begun; the store confirms it before the job
    /// starts.
    #[must_use]
    pub fn never_again(mut self) -> Once {
        self.never_again = true;
        self
    }

    /// Releases the slot if the job returns an error, so that the next one to ask runs it again. By default an error counts as
    /// done.
    #[must_use]
    pub fn retry_errors(mut self) -> Once {
        self.retry_errors = true;
        self
    }

    /// Runs the job, unless its slot has been run or is running. The job gets the fencing token.
    ///
    /// # Errors
    /// `Config` for a slot that is over or has not begun, and for [`never_again`](Once::never_again) together with
    /// [`retry_errors`](Once::retry_errors); `Lost` if the lock was lost while the job ran, which was stopped then; otherwise
    /// as [`Mutex::try_lock`]. What the job returned, an error too, is in the [`Outcome`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the job and releases the slot, after [`at_least`](Once::at_least), so that it may run again,
    /// unless [`never_again`](Once::never_again) is set. Once the job has finished, its slot stays used.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// Each request is repeated until it is answered or the lease expires. A lost answer never leads to a second run. If the store
    /// does not answer at all, [`Ran::recorded`] says so.
    pub async fn run<T, E: fmt::Display, F: Future<Output = Result<T, E>>>(
        &self,
        job: impl FnOnce(Token) -> F,
    ) -> Result<Outcome<T, E>> {
        let mine = match self.claim().await? {
            Ok(mine) => mine,
            Err(other) => return Ok(other.into()),
        };
        let result = mine.guard().while_held(job(mine.guard().token())).await?;
        Ok(Outcome::Ran(self.finish(mine, result).await))
    }

    /// [`run`](Once::run) for code without async. The job gets the guard and should [check](Guard::check) it before each side
    /// effect, because nothing can stop it when the lock is lost.
    ///
    /// # Errors
    /// Those of [`run`](Once::run), but a loss while the job runs is told by [`Ran::recorded`].
    pub fn blocking_run<T, E: fmt::Display>(
        &self,
        job: impl FnOnce(&Guard) -> Result<T, E>,
    ) -> Result<Outcome<T, E>> {
        let mine = match pollster::block_on(self.claim())? {
            Ok(mine) => mine,
            Err(other) => return Ok(other.into()),
        };
        let result = job(mine.guard());
        Ok(Outcome::Ran(pollster::block_on(self.finish(mine, result))))
    }

    fn due(&self) -> Result<Due> {
        self.slot.due(self.locks.engine.core.runtime.wall_us(), self.tolerance)
    }

    /// Takes the slot, or says who has it.
    async fn claim(&self) -> Result<Result<Mine, Run>> {
        if self.never_again && self.retry_errors {
            let advice = "leave out one of never_again and retry_errors";
            return Err(Error::config("a job cannot be both retried and never run again", advice));
        }
        let due = self.due()?;
        let name = format!("{}/@{}", self.name, due.label);
        let options = self.options.clone().reason(&RunState::Running.text());
        let mutex = self.locks.mutex(&name)?.with(options.clone())?;
        let guard = match self.take(&mutex, &due.label).await? {
            Ok(guard) => guard,
            Err(run) => return Ok(Err(run)),
        };
        // It may have waited for long: past the time for which a used slot is kept, nobody knows whether it was run.
        if due.end_us.is_some_and(|end| self.over(end)) {
            guard.release().await?;
            let what = format!("the slot {} was over before its lock was free", due.label);
            return Err(Error::config(what, "wait for less than the slot is long"));
        }
        if self.never_again
            && let Some(before) = self.begun(&due, &format!("{name}/{STARTED}"), options).await?
        {
            guard.release().await?;
            return Ok(Err(before));
        }
        let began = self.locks.engine.core.runtime.now();
        Ok(Ok(Mine { guard: Some(guard), due, began, least: self.at_least }))
    }

    fn over(&self, end_us: u64) -> bool {
        self.locks.engine.core.runtime.wall_us() > end_us.saturating_add(micros_of(self.tolerance))
    }

    /// The slot's lock, or whoever has it once the patience is over.
    async fn take(&self, mutex: &Mutex, label: &str) -> Result<Result<Guard, Run>> {
        let runtime = &*self.locks.engine.core.runtime;
        let until = runtime.now() + self.wait;
        for _ in 0..LOOKS {
            let left = until.since(runtime.now());
            let taken = match Patience::lasting(left, runtime) {
                Patience::None => mutex.take(Patience::None).await?,
                patience => match unless(self.finished(mutex, label), mutex.take(patience)).await {
                    Ok(taken) => taken?,
                    Err(finished) => return Ok(Err(finished?)),
                },
            };
            if let Some(guard) = taken {
                return Ok(Ok(guard));
            }
            let line = self.locks.inspect(mutex.key().name()).await?;
            if let Some(run) = line.and_then(|line| Run::of(label, &line)) {
                return Ok(Err(run));
            }
        }
        let what = "the slot changes hands faster than it can be looked at";
        Err(Error::unavailable(what, "ask again later").of(mutex.key()))
    }

    /// Resolves when somebody else has finished.
    async fn finished(&self, mutex: &Mutex, label: &str) -> Result<Run> {
        let mut watch = self.locks.watch_one(mutex.key().name())?;
        loop {
            let seen = watch.next().await?.pop().and_then(|line| Run::of(label, &line));
            if let Some(run) = seen.filter(|run| run.state.is_over()) {
                return Ok(run);
            }
        }
    }

    /// Notes that the slot was begun, for ever; or says who has begun it before.
    async fn begun(&self, due: &Due, name: &str, options: LockOptions) -> Result<Option<Run>> {
        let mutex = self.locks.mutex(name)?.with(options.reason(STARTED))?;
        for _ in 0..LOOKS {
            if let Some(guard) = mutex.try_lock().await? {
                // Not confirmed, the job is not run: it might be run again.
                let keep = self.keep(due, Duration::ZERO);
                return guard.release_after(keep).await.map(|()| None);
            }
            let line = self.locks.inspect(name).await?;
            if let Some(run) = line.and_then(|line| Run::of(&due.label, &line)) {
                return Ok(Some(run));
            }
        }
        Err(Error::unavailable("the slot changes hands faster than it can be looked at", "ask again later")
            .of(mutex.key()))
    }

    /// For how long a slot stays used from now on, if the job took so long.
    fn keep(&self, due: &Due, took: Duration) -> Duration {
        let more = self.keep_for.or(due.span.map(|span| span * RECORDS)).unwrap_or(NAMED);
        let used = match due.end_us {
            // Whoever's clock is behind ours by the tolerance may ask until the tolerance after the end is over there.
            Some(end) => {
                let now = self.locks.engine.core.runtime.wall_us();
                Duration::from_micros(end.saturating_sub(now)) + self.tolerance * 2
            }
            None => Duration::ZERO,
        };
        (used + more).max(self.at_least.saturating_sub(took)).min(KEEP_MAX)
    }

    /// Writes the record, and leaves the slot used or releases it.
    async fn finish<T, E: fmt::Display>(&self, mut mine: Mine, result: Result<T, E>) -> Ran<T, E> {
        let runtime = &*self.locks.engine.core.runtime;
        let (took, token) = (runtime.now().since(mine.began), mine.guard().token());
        let least = self.at_least.saturating_sub(took);
        let (state, leave) = match &result {
            Ok(_) => (RunState::Done { took }, Leave::For(self.keep(&mine.due, took))),
            Err(e) if !self.retry_errors => {
                (RunState::Failed { took, error: e.to_string() }, Leave::For(self.keep(&mine.due, took)))
            }
            Err(e) => {
                let leave = if least.is_zero() { Leave::Nothing } else { Leave::For(least) };
                (RunState::ToRunAgain { took, error: e.to_string() }, leave)
            }
        };
        let finishing = Finishing { guard: mine.guard.take(), leave };
        Ran { recorded: finishing.end(state).await, result, token, took }
    }
}

impl Finishing {
    async fn end(mut self, state: RunState) -> Result<()> {
        let Some(guard) = &self.guard else { return Ok(()) };
        if self.leave != Leave::Nothing {
            // The record is for those who look; that the slot is used is the hold itself, and half of the time is for that.
            let runtime = &*guard.turn.engine.core.runtime;
            let half = runtime.now() + guard.check()? / 2;
            match race(runtime, half, guard.set_reason(&state.text())).await {
                Some(Err(error)) if error.kind() == ErrorKind::Lost => return Err(error),
                Some(Err(error)) => tracing::warn!(lock = %guard.key(), %error, "the record was not taken"),
                _ => {}
            }
        }
        guard.turn.release(self.leave).await?;
        self.guard = None;
        Ok(())
    }
}

impl<T, E> From<Run> for Outcome<T, E> {
    fn from(run: Run) -> Outcome<T, E> {
        if run.state.is_over() { Outcome::AlreadyDone(run) } else { Outcome::Running(run) }
    }
}

fn kept(time: Duration) -> Result<Duration> {
    if time > KEEP_MAX {
        return Err(Error::config(
            format!("a slot cannot be kept for {}", calendar::span(time)),
            "use at most 400 days",
        ));
    }
    Ok(time)
}
