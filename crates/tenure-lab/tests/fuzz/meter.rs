//! An allocator that counts what the current thread has taken at most.

#![allow(unsafe_code)] // it passes every call on to the system's allocator, unchanged

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

pub(crate) struct Meter;

/// Adds to what the thread has. A thread that is ending has no counters left, and nobody asks for them.
fn count(bytes: isize) {
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(now.get())));
    });
}

fn size(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

// SAFETY: memory comes from `System` alone, with the layouts that the caller gave; counting touches two cells of the
// thread that are made without allocating, so it does not come back here.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout.size()));
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-size(layout.size()));
        // SAFETY: `at` came from `alloc` or `realloc` above, so from `System`, with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        // While it is moved, both may be there.
        count(size(new));
        count(-size(layout.size()));
        // SAFETY: as for `dealloc`; `new` is the caller's promise.
        unsafe { System.realloc(at, layout, new) }
    }
}

/// Runs it, and tells by how many bytes the memory of this thread had grown at most.
pub(crate) fn peak<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.get();
    MOST.set(before);
    let result = run();
    (result, usize::try_from(MOST.get() - before).unwrap_or(0))
}
