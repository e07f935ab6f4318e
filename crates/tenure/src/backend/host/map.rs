//! The mapping of the store file: the only place that holds pointers.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::runtime::fork::Birthplace;

/// A file mapped shared, seen as words that change under us: other processes write them, so they are only ever
/// accessed as atomics.
#[derive(Debug)]
pub(super) struct Map {
    at: NonNull<u8>,
    len: usize,
    born: Birthplace,
}

// SAFETY: the mapping belongs to the process, not to a thread, and lives until `Map` is dropped; the only access is
// through atomics.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the first `len` bytes of a file. `len` is a multiple of the page size.
    pub(super) fn new(file: BorrowedFd<'_>, len: usize) -> io::Result<Map> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses aliases no memory of this program.
        let at =
            unsafe { mmap(ptr::null_mut(), len, access, MapFlags::SHARED | MapFlags::NORESERVE, file, 0) }?;
        // A child of a fork must never touch the store, so it does not even get the mapping. Gigabytes of address space
        // would only bloat a core dump. And reading ahead would fill memory with what was never allocated (8 MiB at
        // each first touch of a shard, measured on a disk). All hints: without them nothing goes wrong.
        for advice in [Advice::LinuxDontFork, Advice::LinuxDontDump, Advice::Random] {
            // SAFETY: `at` and `len` are the whole mapping made above.
            let _ = unsafe { madvise(at, len, advice) };
        }
        let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Map { at, len, born: Birthplace::here() })
    }

    /// The file as 64-bit words. A word of a page that was never allocated must not be touched.
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is `len` bytes long, aligned to a page, readable and writable, and lives as long as
        // `self`. `AtomicU64` has the layout of `u64`, every bit pattern is valid, and changes by other threads and
        // processes are atomic because all of them use this type or `halves` for disjoint fields.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().cast(), self.len / 8) }
    }

    /// The file as 32-bit words, for fields that the kernel waits on.
    pub(super) fn halves(&self) -> &[AtomicU32] {
        // SAFETY: as in `words`; `layout` gives no field both sizes.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().cast(), self.len / 4) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if self.born.left() {
            return; // a forked child has nothing mapped there, or something else by now
        }
        // SAFETY: this is the mapping made in `new`, and every slice handed out borrowed `self`.
        let _ = unsafe { munmap(self.at.as_ptr().cast(), self.len) };
    }
}
