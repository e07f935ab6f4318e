//! Is this process a fork of the one that made a value?
//!
//! A forked child has copies of our guards, but neither our threads nor our slot in a store. It must neither believe
//! that it holds nor release what its parent holds. The kernel tells us for the price of one load: a page advised
//! `MADV_WIPEONFORK` reads as zero in a child.
#![allow(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Page(*const AtomicU64);

// SAFETY: the page is never unmapped, and it is only accessed through an atomic.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

static PAGE: OnceLock<Option<Page>> = OnceLock::new();

/// Proof of the process that something was made in.
#[derive(Clone, Copy, Debug)]
pub struct Birthplace {
    /// Only used where the kernel cannot wipe a page.
    pid: u32,
}

impl Birthplace {
    /// This process.
    #[must_use]
    pub fn here() -> Birthplace {
        let wiped = PAGE.get_or_init(map).as_ref().is_some_and(|p| word(p).load(Ordering::Relaxed) == 0);
        // A child that makes values of its own: compare process ids there, since its page stays wiped.
        let by_pid = wiped || matches!(PAGE.get(), Some(None));
        Birthplace { pid: if by_pid { std::process::id() } else { 0 } }
    }

    /// Whether this process is a fork of that one.
    #[must_use]
    pub fn left(self) -> bool {
        if self.pid != 0 {
            return self.pid != std::process::id();
        }
        match PAGE.get() {
            Some(Some(page)) => word(page).load(Ordering::Relaxed) == 0,
            _ => false,
        }
    }
}

fn word(page: &Page) -> &AtomicU64 {
    // SAFETY: `map` returned a mapping of at least eight bytes, aligned to a page, readable and writable, that is
    // never unmapped; all access is atomic.
    unsafe { &*page.0 }
}

#[cfg(target_os = "linux")]
fn map() -> Option<Page> {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    let size = rustix::param::page_size();
    // SAFETY: a new private anonymous mapping at an address that the kernel chooses aliases nothing.
    let at = unsafe {
        mmap_anonymous(std::ptr::null_mut(), size, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
            .ok()?
    };
    // SAFETY: `at` is the mapping made above, whole, and nothing else refers to it yet.
    if unsafe { madvise(at, size, Advice::LinuxWipeOnFork) }.is_err() {
        // SAFETY: as above.
        let _ = unsafe { munmap(at, size) };
        return None;
    }
    let page = Page(at.cast());
    word(&page).store(1, Ordering::Relaxed);
    Some(page)
}

#[cfg(not(target_os = "linux"))]
fn map() -> Option<Page> {
    None
}
