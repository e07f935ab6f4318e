//! Where connections run.
//!
//! The command connection runs on the caller's runtime if there is one: an answer then wakes the waiting task without a
//! hop to another thread. The keeper connection runs on a thread of its own, because a lease must not depend on the
//! user's runtime being awake, or being there at all.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::reactor::{self, Own};
use crate::error::{Error, Result};

/// A place where the tasks of a connection run. When it ends, it drops its tasks.
pub trait Place: Clone + fmt::Debug + Send + Sync + 'static {
    /// Runs a task there. A place that has ended drops the task.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// Whether the calling task runs there.
    fn is_here(&self) -> bool;
}

impl Place for Handle {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(Handle::spawn(self, task));
    }

    fn is_here(&self) -> bool {
        Handle::try_current().is_ok_and(|here| here.id() == self.id())
    }
}

/// The runtime of the calling task, as a place for the command connection. `None` if there is none, or none with an I/O
/// driver.
pub fn home() -> Option<Handle> {
    Handle::try_current().ok().filter(|_| reactor::others_may_have_one())
}

/// A thread that runs connections. It ends when this value is dropped.
#[derive(Debug)]
pub struct Thread {
    handle: Handle,
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

impl Thread {
    /// Starts a thread with this name.
    ///
    /// # Errors
    /// `Unavailable`: the system gives no thread, or no I/O driver for it.
    pub fn start(name: &str) -> Result<Thread> {
        let none =
            |e| Error::unavailable("the system gives no thread for the store's connection", "").because(e);
        let build = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (own, runtime) = Own::around(build);
        let runtime = runtime.map_err(none)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let body = move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
            drop(own);
        };
        std::thread::Builder::new().name(name.into()).spawn(body).map_err(none)?;
        Ok(Thread { handle, stop: Mutex::new(Some(stop)) })
    }

    /// The thread as a place.
    pub fn place(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
