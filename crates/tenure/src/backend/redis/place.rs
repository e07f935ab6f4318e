//! Where connections live.
//!
//! A connection belongs to a tokio runtime. The connection that carries commands and pushes lives in the caller's, where
//! there is one: an answer then wakes the task that waits for it, without one more thread in between. The connection that
//! renews and withdraws lives in a runtime on a thread of our own, since a lease must not depend on the user's runtime
//! being awake, or there at all.

use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// A thread with a runtime.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) handle: Handle,
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

impl Thread {
    /// Starts one. It ends with this value.
    pub(super) fn start() -> Result<Thread> {
        let none =
            |e| Error::unavailable("the system gives no thread for the store's connection", "").because(e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(none)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let body = move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("tenure-redis".into()).spawn(body).map_err(none)?;
        Ok(Thread { handle, stop: Mutex::new(Some(stop)) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
