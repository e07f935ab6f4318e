//! The only asynchronous control flow: how a claim is acquired, kept, lost and withdrawn.

use std::fmt;

use crate::backend::BoxFuture;
use crate::core::moment::Moment;

/// What the engine and the backends take from their surroundings: a clock, randomness, timers and a place to run.
/// Given to them, so that a lab can run the real engine in virtual time.
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// The boot clock (`CLOCK_BOOTTIME`).
    fn now(&self) -> Moment;
    /// The wall clock, in µs since the epoch. May be wrong and may jump.
    fn wall_us(&self) -> u64;
    /// Fills `bytes` with randomness from the operating system.
    fn fill(&self, bytes: &mut [u8]);
    /// Resolves once the boot clock has reached `at`. Counts suspended time, needs no particular executor.
    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()>;
    /// Runs a task, independently of the user's executor.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}
