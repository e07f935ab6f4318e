//! The two loops that are measured, the same for Tenure and for what it is compared with.

use std::future::{self, Future};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure::{Guard, Mutex};

use super::lock::{Hold, Lock};
use super::tally::Tally;
use crate::failure::{Failure, Outcome};
use crate::num::boot_ns;

/// The pause after an error: a store that is gone is not asked in a hot loop.
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// How long a hand-over's holder holds.
pub(super) const HOLD: Duration = Duration::from_millis(20);

/// When a loop begins and ends, on the boot clock.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) until: u64,
}

impl Span {
    /// From a moment on.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a time
    pub(super) fn from(from: u64, secs: f64) -> Span {
        Span { from, until: from + (secs * 1e9) as u64 }
    }
}

/// What a loop takes and releases.
pub(super) trait Subject: Send {
    /// What it has in hand meanwhile.
    type Held: Send;
    /// Waits until it is taken.
    fn take(&mut self) -> impl Future<Output = Outcome<Self::Held>> + Send;
    /// Releases it.
    fn release(&mut self, held: Self::Held) -> impl Future<Output = Outcome<()>> + Send;
}

/// Acquires and releases until the end. The futures are awaited right here: each function between would copy them, and that
/// would be measured too.
pub(super) async fn cycle(mut subject: impl Subject, span: Span) -> Tally {
    let (mut tally, mut cycles) = (Tally::default(), 0);
    wait_until(span.from).await;
    loop {
        let before = boot_ns();
        if before >= span.until {
            break;
        }
        let held = match subject.take().await {
            Ok(held) => held,
            Err(error) => {
                failed(&mut tally, error).await;
                continue;
            }
        };
        tally.acquire.add(boot_ns() - before);
        match subject.release(held).await {
            Ok(()) => cycles += 1,
            Err(error) => tally.failed(error),
        }
    }
    tally.cycles = vec![cycles];
    tally
}

/// One side of a hand-over: holds for 20 ms, releases, and asks again at once.
pub(super) async fn alternate(mut subject: impl Subject, span: Span) -> Tally {
    let (mut tally, mut cycles) = (Tally::default(), 0);
    wait_until(span.from).await;
    while boot_ns() < span.until {
        let held = match subject.take().await {
            Ok(held) => held,
            Err(error) => {
                failed(&mut tally, error).await;
                continue;
            }
        };
        let acquired = boot_ns();
        tokio::time::sleep(HOLD).await;
        let releasing = boot_ns();
        match subject.release(held).await {
            Ok(()) => cycles += 1,
            Err(error) => tally.failed(error),
        }
        tally.stamps.push((acquired, releasing));
    }
    tally.cycles = vec![cycles];
    tally
}

/// Counts it, and pauses.
async fn failed(tally: &mut Tally, error: Failure) {
    tally.failed(error);
    tokio::time::sleep(AFTER_ERROR).await;
}

async fn wait_until(at: u64) {
    tokio::time::sleep(Duration::from_nanos(at.saturating_sub(boot_ns()))).await;
}

impl Subject for Lock {
    type Held = Hold;

    async fn take(&mut self) -> Outcome<Hold> {
        Ok(match self {
            Lock::Mutex(mutex) => Hold::Guard(mutex.lock().await?),
            Lock::Write(lock) => Hold::Guard(lock.write().await?),
            Lock::Read(lock) => Hold::Read(lock.read().await?),
            Lock::Permit(semaphore) => Hold::Permit(semaphore.acquire().await?),
            // Its future is the largest by far, and would make those of the others as large.
            Lock::Multi(multi) => Hold::Multi(Box::pin(multi.lock()).await?),
        })
    }

    async fn release(&mut self, held: Hold) -> Outcome<()> {
        match held {
            Hold::Guard(guard) => guard.release().await?,
            Hold::Read(guard) => guard.release().await?,
            Hold::Permit(permit) => permit.release().await?,
            Hold::Multi(guard) => Box::pin(guard.release()).await?,
        }
        Ok(())
    }
}

impl Subject for Mutex {
    type Held = Guard;

    async fn take(&mut self) -> Outcome<Guard> {
        self.lock().await.map_err(Failure::from)
    }

    async fn release(&mut self, guard: Guard) -> Outcome<()> {
        guard.release().await.map_err(Failure::from)
    }
}

/// A request and its answer, the floor under everything: there is nothing to release.
pub(super) struct Ping(pub(super) Box<dyn crate::servers::Bare>);

impl Subject for Ping {
    type Held = ();

    async fn take(&mut self) -> Outcome<()> {
        self.0.ping().await
    }

    fn release(&mut self, (): ()) -> impl Future<Output = Outcome<()>> + Send {
        future::ready(Ok(()))
    }
}
