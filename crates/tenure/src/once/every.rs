//! A job in every slot, and jobs that end in any error.

use std::time::Duration;

use super::{Once, Outcome, RunState};
use crate::core::backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::token::Token;

/// Any error of a job: `?` turns every error into it.
pub type JobError = Box<dyn std::error::Error + Send + Sync>;

/// How soon a slot is asked for again that another machine is running.
const AGAIN: Duration = Duration::from_secs(5);
/// The longest sleep before the wall clock is looked at again: it may be set.
const NAP: Duration = Duration::from_secs(30);

impl Once {
    /// [`run`](Once::run) for a job that may end in any error. Closures that end in `Ok(())` need no type here:
    ///
    /// ```
    /// # pollster::block_on(async {
    /// # use tenure::{Locks, Outcome, Slot};
    /// let locks = Locks::memory();
    /// let invoices = locks.once("invoices", Slot::named("2026-11"))?;
    /// let outcome = invoices
    ///     .run_any(async |_token| {
    ///         "42".parse::<u32>()?; // an error of any type
    ///         Ok(())
    ///     })
    ///     .await?;
    /// assert!(matches!(outcome, Outcome::Ran(_)));
    /// # Ok::<(), tenure::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`run`](Once::run).
    ///
    /// # Cancel safety
    /// Dropping the future drops the job and releases the slot, as [`run`](Once::run) does.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// Each request is repeated until it is answered or the lease expires. A lost answer never leads to a second run.
    pub async fn run_any<T, F: Future<Output = Result<T, JobError>>>(
        &self,
        job: impl FnOnce(Token) -> F,
    ) -> Result<Outcome<T, JobError>> {
        self.run(job).await
    }

    /// Runs the job in every slot from now on, once over the whole fleet: the loop of a scheduler. Every machine calls it; in
    /// each slot one of them runs the job, and another takes over if that one dies. It sleeps until the next slot starts.
    ///
    /// It continues after an error of the job (recorded, see [`Locks::runs`](crate::Locks::runs); retried in the same slot with
    /// [`retry_errors`](Once::retry_errors)), after a lost lock, and while the store cannot be reached. Each is logged as a
    /// warning. To stop it, drop the future.
    ///
    /// ```no_run
    /// # async fn example() -> tenure::Result<()> {
    /// use std::time::Duration;
    /// use tenure::{Locks, Slot};
    ///
    /// let locks = Locks::from_env().await?;
    /// let (day, three) = (Duration::from_secs(86_400), Duration::from_secs(3 * 3600));
    /// let nightly = locks.once("report", Slot::every(day, three))?; // at 03:00 UTC
    /// let error = nightly
    ///     .every(async |_token| {
    ///         std::fs::write("report.new", "42 pages")?;
    ///         Ok(())
    ///     })
    ///     .await;
    /// # Err(error) }
    /// ```
    ///
    /// # Errors
    /// It returns only when no retry can help: `Config` (also for a slot that does not repeat, and after `Locks::close`), `Denied`,
    /// `Unsupported`, `Protocol`.
    ///
    /// # Cancel safety
    /// Dropping the future drops a job that runs, as [`run`](Once::run) does.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// As in [`run`](Once::run), a lost answer never leads to a second run of a slot.
    pub async fn every<F: Future<Output = Result<(), JobError>>>(
        &self,
        mut job: impl FnMut(Token) -> F,
    ) -> Error {
        if !self.slot.repeats() {
            let advice = "use Slot::every, or run it once with Once::run";
            return Error::config("there is no next slot after this one", advice);
        }
        let mut failures = 0;
        loop {
            let due = match self.due() {
                Ok(due) => due,
                Err(error) => return error,
            };
            let asked = self.run(&mut job).await;
            let pause = match asked {
                Ok(outcome) => {
                    failures = 0;
                    self.tell(&due.label, &outcome);
                    if self.is_over(&outcome) { None } else { Some(AGAIN) }
                }
                Err(error) if error.kind().may_pass() || error.kind() == ErrorKind::Lost => {
                    tracing::warn!(target: "tenure", job = self.name, slot = due.label, %error, "the job is asked for again");
                    failures += 1;
                    Some(self.pause(failures))
                }
                Err(error) => return error,
            };
            match (pause, due.end_us) {
                (Some(pause), _) => self.sleep(pause).await,
                (None, Some(end)) => self.sleep_until_wall(end).await,
                (None, None) => self.sleep(AGAIN).await,
            }
        }
    }

    /// Whether this slot needs no more asking.
    fn is_over(&self, outcome: &Outcome<(), JobError>) -> bool {
        match outcome {
            Outcome::Ran(ran) => ran.recorded.is_ok() && (ran.result.is_ok() || !self.retry_errors),
            Outcome::AlreadyDone(_) => true,
            Outcome::Running(_) => false,
        }
    }

    fn tell(&self, slot: &str, outcome: &Outcome<(), JobError>) {
        let job = &self.name;
        match outcome {
            Outcome::Ran(ran) => match (&ran.result, &ran.recorded) {
                (Err(error), _) => tracing::warn!(target: "tenure", job, slot, %error, "the job failed"),
                (Ok(()), Err(error)) => {
                    tracing::warn!(target: "tenure", job, slot, %error, "the run is not confirmed, and may happen again");
                }
                (Ok(()), Ok(())) => tracing::debug!(target: "tenure", job, slot, "the job is done"),
            },
            Outcome::AlreadyDone(run) | Outcome::Running(run) => {
                let running = run.state == RunState::Running;
                tracing::debug!(target: "tenure", job, slot, host = run.owner.host, running, "another machine has the slot");
            }
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        let mut dice = [0u8; 8];
        self.locks.engine.core.runtime.fill(&mut dice);
        backoff::pause(failures, u64::from_le_bytes(dice))
    }

    async fn sleep(&self, pause: Duration) {
        let runtime = &self.locks.engine.core.runtime;
        runtime.sleep_until(runtime.now() + pause).await;
    }

    /// Sleeps until the wall clock says so, however it is set meanwhile.
    async fn sleep_until_wall(&self, end_us: u64) {
        let runtime = &self.locks.engine.core.runtime;
        loop {
            let left = Duration::from_micros(end_us.saturating_sub(runtime.wall_us()));
            if left.is_zero() {
                return;
            }
            runtime.sleep_until(runtime.now() + left.min(NAP)).await;
        }
    }
}
