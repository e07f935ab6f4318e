//! What the engine and the backends take from their surroundings: a clock, randomness, timers and a place to run.
//!
//! - [`Runtime`]: the trait. The lab implements it in virtual time.
//! - [`thread`]: the real one, on a thread of its own.
//! - [`clock`]: the clocks of this machine.
//! - [`fork`]: notices that this process is a fork of the one that connected.
//! - `timing`: futures that run out of time.
//! - `virtual_time`: a runtime for tests, whose clock they move.

use std::fmt;
use std::pin::Pin;

use crate::core::moment::Moment;

pub mod clock;
pub mod fork;
pub mod thread;
mod timing;
#[cfg(test)]
pub(crate) mod virtual_time;

pub(crate) use timing::{LazyTimer, join_all, race, unless, yield_now};

/// A boxed future: traits that are used as objects need one.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

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
    /// The same for what nothing depends on, such as a look at an idle connection: it may come later after a suspension, and
    /// wakes nobody in between.
    fn idle_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        self.sleep_until(at)
    }
    /// Runs a task, independently of the user's executor.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}
