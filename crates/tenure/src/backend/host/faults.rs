//! A hook for kill tests: dies by SIGKILL at the n-th store of a verb.
//!
//! `point` stands before and after every store that another process can see. It is nothing at all unless the crate
//! is built with the feature `unstable`.

#[cfg(feature = "unstable")]
mod hook {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    static PASSED: AtomicU64 = AtomicU64::new(0);
    static LAST: AtomicU64 = AtomicU64::new(u64::MAX);

    /// From now on, counts points from 0, and dies at point number `n`.
    pub fn kill_after(n: u64) {
        PASSED.store(0, SeqCst);
        LAST.store(n, SeqCst);
    }

    /// How many points were passed since [`kill_after`].
    #[must_use]
    pub fn passed() -> u64 {
        PASSED.load(SeqCst)
    }

    #[inline]
    pub(crate) fn point() {
        if LAST.load(std::sync::atomic::Ordering::Relaxed) != u64::MAX {
            count();
        }
    }

    #[cold]
    fn count() {
        if PASSED.fetch_add(1, SeqCst) != LAST.load(SeqCst) {
            return;
        }
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

#[cfg(feature = "unstable")]
pub(super) use hook::point;
#[cfg(feature = "unstable")]
pub use hook::{kill_after, passed};

/// Nothing.
#[cfg(not(feature = "unstable"))]
#[inline(always)]
pub(super) fn point() {}
