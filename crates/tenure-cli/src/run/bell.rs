//! Futures without an executor: the library's futures need none, so the guardian polls them from its own loop. A wake
//! is a number in an eventfd, which the loop waits for together with everything else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Wake, Waker};

use rustix::event::{EventfdFlags, eventfd};

/// Rings when a future wants to be polled.
#[derive(Debug)]
pub(super) struct Bell {
    ringer: Arc<Ringer>,
    waker: Waker,
}

#[derive(Debug)]
struct Ringer(OwnedFd);

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It cannot fail but by a full counter, and a full counter rings as well.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl Bell {
    /// A bell.
    ///
    /// # Errors
    /// Too many open files.
    pub(super) fn new() -> io::Result<Bell> {
        let ringer = Arc::new(Ringer(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        let waker = Waker::from(ringer.clone());
        Ok(Bell { ringer, waker })
    }

    /// The waker that rings it.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Forgets past rings: before a future is polled, never after.
    pub(super) fn hush(&self) {
        let _ = rustix::io::read(&self.ringer.0, &mut [0u8; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ringer.0.as_fd()
    }
}
