//! Opening a store, once or until it is there.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Backend, BoxFuture, Entry, Opening};
use crate::core::backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::{Runtime, race};

/// How long one attempt may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Connects without async. A runtime whose thread waits here could not drive what is opened, so that is done on a thread
/// which belongs to no runtime.
pub(crate) fn blocking<T: Send>(connecting: impl Future<Output = Result<T>> + Send) -> Result<T> {
    if tokio::runtime::Handle::try_current().is_err() {
        return pollster::block_on(connecting);
    }
    std::thread::scope(|scope| {
        let name = std::thread::Builder::new().name("tenure-connect".into());
        let thread = name.spawn_scoped(scope, || pollster::block_on(connecting)).map_err(|error| {
            let what = format!("no thread can be started: {error}");
            Error::unavailable(what, "raise the limit of processes or threads, and try again")
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Opens a store. A store that cannot be reached is tried again, with growing pauses, for as long as `patience`; an error
/// that a retry cannot cure is told at once.
pub(crate) async fn open(
    entry: &Entry,
    opening: impl Fn() -> Opening,
    shown: &str,
    runtime: &Arc<dyn Runtime>,
    patience: Duration,
) -> Result<Arc<dyn Backend>> {
    let until = runtime.now() + patience;
    let mut tries = 0;
    loop {
        let opened: BoxFuture<'_, Result<Arc<dyn Backend>>> = (entry.open)(opening());
        let answer = race(&**runtime, runtime.now() + CONNECT, opened).await.unwrap_or_else(|| {
            Err(Error::unavailable(
                format!("{shown} did not answer within 5 s"),
                "check that it runs and the address",
            ))
        });
        let error = match answer {
            Err(error) if error.kind() == ErrorKind::Unavailable && runtime.now() < until => error,
            done => return done,
        };
        tries += 1;
        tracing::debug!(target: "tenure", store = shown, tries, %error, "not connected yet");
        let mut dice = [0u8; 8];
        runtime.fill(&mut dice);
        let pause = backoff::pause(tries, u64::from_le_bytes(dice));
        runtime.sleep_until((runtime.now() + pause).min(until)).await;
    }
}
