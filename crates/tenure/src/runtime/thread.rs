//! The runtime of real life: the machine's clocks, the operating system's randomness, and one thread of our own.
//!
//! The thread makes every executor and the blocking calls work alike, and renewals, withdrawals and loss signals go on
//! while the user's runtime is blocked or gone. A client starts it when it connects; elsewhere the first task or timer does.

use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::{BoxFuture, Runtime, clock};
use crate::core::moment::Moment;

/// The longest sleep before the boot clock is looked at again: tokio's timers do not count suspended time.
const NAP: Duration = Duration::from_millis(250);

/// Runs tasks and timers on a thread of its own.
#[derive(Debug, Default)]
pub struct ThreadRuntime {
    started: OnceLock<Started>,
    /// One starts it at a time.
    starting: Mutex<()>,
}

#[derive(Debug)]
struct Started {
    handle: Handle,
    /// Dropped to end the thread.
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

impl ThreadRuntime {
    /// A runtime whose thread is not started yet.
    #[must_use]
    pub fn new() -> ThreadRuntime {
        ThreadRuntime::default()
    }

    /// A runtime whose thread runs: a program that cannot renew a lease must not take one.
    ///
    /// # Errors
    /// The system gives no thread, no randomness or no futex: which, and why.
    pub fn started() -> Result<ThreadRuntime, (&'static str, io::Error)> {
        let word = AtomicU32::new(0);
        // Without it every lock of the standard library would spin or abort.
        futex::wake(&word, futex::Flags::PRIVATE, 1)
            .map_err(|e| ("the operating system gives no futex", e.into()))?;
        random(&mut [0]).map_err(|e| ("the operating system gives no randomness", e.into()))?;
        let started = start().map_err(|e| ("no thread can be started to renew locks", e))?;
        Ok(ThreadRuntime { started: OnceLock::from(started), starting: Mutex::default() })
    }

    /// Sleeps until `at`, for `longest` at a time.
    fn sleep(&self, at: Moment, longest: Duration) -> BoxFuture<'static, ()> {
        let Some(handle) = self.handle().cloned() else { return Box::pin(std::future::pending()) };
        Box::pin(async move {
            loop {
                let left = at.since(clock::boot_now());
                if left.is_zero() {
                    return;
                }
                let nap = {
                    let _inside = handle.enter();
                    tokio::time::sleep(left.min(longest))
                };
                nap.await;
            }
        })
    }

    /// `None` where the system gives no thread: then nothing is renewed, and holds end at their deadlines. The next task
    /// tries again.
    fn handle(&self) -> Option<&Handle> {
        if self.started.get().is_none() {
            let _alone = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
            if self.started.get().is_none() {
                match start() {
                    Ok(started) => drop(self.started.set(started)),
                    Err(error) => {
                        tracing::error!(%error, "no thread for renewals: locks will be lost at their deadlines");
                    }
                }
            }
        }
        self.started.get().map(|s| &s.handle)
    }
}

fn start() -> io::Result<Started> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("tenure".into());
    // The runtime is made in its thread: where there is none, dropping it here might panic, inside another runtime.
    let spawned = thread.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let _ = tell.send(runtime.handle().clone());
        let _ = runtime.block_on(stopped);
        runtime.shutdown_background();
        io::Result::Ok(())
    });
    spawned?;
    let handle = told.recv().map_err(|_| io::Error::other("its timers cannot be set up"))?;
    Ok(Started { handle, stop: Mutex::new(Some(stop)) })
}

/// Fills `bytes` with randomness from the operating system.
fn random(bytes: &mut [u8]) -> Result<(), Errno> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Drop for ThreadRuntime {
    fn drop(&mut self) {
        if let Some(started) = self.started.get() {
            drop(started.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl Runtime for ThreadRuntime {
    fn now(&self) -> Moment {
        clock::boot_now()
    }

    fn wall_us(&self) -> u64 {
        clock::wall_us()
    }

    fn fill(&self, bytes: &mut [u8]) {
        if let Err(error) = random(bytes) {
            // Ids from a weak source could be guessed, and would let a stranger release a lock.
            panic!("the operating system gives no randomness: {error}");
        }
    }

    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        self.sleep(at, NAP)
    }

    fn idle_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        self.sleep(at, Duration::MAX)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if let Some(handle) = self.handle() {
            handle.spawn(task);
        }
    }
}
