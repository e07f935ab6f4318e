//! The mapping of the store file: the only place that holds pointers.
//!
//! The front of the file (header, slots, heads of areas, first chunks) is mapped when the store is opened. What shards grow
//! by is mapped later, window by window, when this process first needs it. A window that was mapped stays where it is
//! until the store is closed, so a reference into it never dangles. It may reach beyond the end of the file: only chunks
//! that lie within the file are handed out.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use super::chunks::{self, CELLS_FIRST, CHUNKS, PAGE, WINDOW};
use super::format::{self, AREAS, FRONT, SHARDS};
use crate::core::line::arena::CELL;
use crate::runtime::fork::Birthplace;

/// A file mapped shared, seen as words that change under us: other processes write them, so they are only ever
/// accessed as atomics.
#[derive(Debug)]
pub(super) struct Map {
    front: NonNull<u8>,
    /// By number: window `n` begins at byte `n * WINDOW`.
    windows: Mutex<HashMap<u64, Window>>,
    /// The first word of each chunk, by area and chunk; null: not mapped yet.
    chunks: Box<[AtomicPtr<AtomicU64>]>,
    /// How many cells of each area are mapped.
    followed: Box<[AtomicUsize]>,
    born: Birthplace,
}

/// A window that is mapped until the [`Map`] is dropped.
#[derive(Clone, Copy, Debug)]
struct Window(NonNull<u8>);

/// Why the cells of an area cannot be reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unmapped {
    /// The area's table of chunks is not what it must be.
    Damaged,
    /// The system refused.
    Refused(Errno),
}

// SAFETY: a mapping belongs to the process, not to a thread, and lives until `Map` is dropped; the only access is
// through atomics. The same for the pointers into it.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}
// SAFETY: as above: a window is a mapping of the process.
unsafe impl Send for Window {}

impl Map {
    /// Maps the front of a file that is at least that long.
    pub(super) fn new(file: BorrowedFd<'_>) -> io::Result<Map> {
        let front = map(file, 0, FRONT)?;
        // SAFETY: a null pointer in `AtomicPtr`, and zero in `AtomicUsize`, are all bits zero.
        let (chunks, followed) = unsafe {
            let chunks = Box::<[AtomicPtr<AtomicU64>]>::new_zeroed_slice(AREAS * SHARDS * CHUNKS);
            let followed = Box::<[AtomicUsize]>::new_zeroed_slice(AREAS * SHARDS);
            (chunks.assume_init(), followed.assume_init())
        };
        let windows = Mutex::default();
        Ok(Map { front, windows, chunks, followed, born: Birthplace::here() })
    }

    /// The front as 64-bit words.
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is `FRONT` bytes long, aligned to a page, readable and writable, and lives as long as
        // `self`. `AtomicU64` has the layout of `u64`, every bit pattern is valid, and changes by other threads and
        // processes are atomic because all of them use this type or `halves` for disjoint fields.
        unsafe { std::slice::from_raw_parts(self.front.as_ptr().cast(), FRONT / 8) }
    }

    /// The front as 32-bit words, for fields that the kernel waits on.
    pub(super) fn halves(&self) -> &[AtomicU32] {
        // SAFETY: as in `words`; `format` gives no field both sizes.
        unsafe { std::slice::from_raw_parts(self.front.as_ptr().cast(), FRONT / 4) }
    }

    /// Maps the first `cells` cells of an area, which must have chunks for them.
    #[inline]
    pub(super) fn follow(&self, file: BorrowedFd<'_>, area: usize, cells: usize) -> Result<(), Unmapped> {
        if self.followed[area].load(Acquire) >= cells {
            return Ok(());
        }
        self.follow_on(file, area, cells)
    }

    #[cold]
    fn follow_on(&self, file: BorrowedFd<'_>, area: usize, cells: usize) -> Result<(), Unmapped> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in 0..=chunks::of(cells.max(1) - 1) {
            let slot = self.chunks.get(area * CHUNKS + chunk).ok_or(Unmapped::Damaged)?;
            if slot.load(Relaxed).is_null() {
                let at = self.words()[format::shard::chunk_w(area, chunk)].load(Acquire);
                let word = self.place(file, &mut windows, area, chunk, at)?;
                slot.store(word.as_ptr(), Release);
            }
        }
        self.followed[area].fetch_max(cells, Release);
        Ok(())
    }

    /// The address of a chunk that begins at byte `at` of the file, if one can.
    fn place(
        &self,
        file: BorrowedFd<'_>,
        windows: &mut HashMap<u64, Window>,
        area: usize,
        chunk: usize,
        at: u64,
    ) -> Result<NonNull<AtomicU64>, Unmapped> {
        let len = chunks::bytes(chunk);
        if let Some(first) = format::first_chunk(area).filter(|_| chunk == 0) {
            let offset = usize::try_from(first).ok().filter(|_| at == first).ok_or(Unmapped::Damaged)?;
            // SAFETY: `format` puts the first chunk of such an area, whole and aligned, within the front.
            return Ok(unsafe { self.front.add(offset) }.cast());
        }
        let end = at.checked_add(len).filter(|_| at >= FRONT as u64 && at.is_multiple_of(len));
        let end = end.ok_or(Unmapped::Damaged)?;
        // A chunk beyond the end of the file would end its user by SIGBUS.
        if rustix::fs::fstat(file).map_err(Unmapped::Refused)?.st_size.unsigned_abs() < end {
            return Err(Unmapped::Damaged);
        }
        let number = at / WINDOW as u64;
        let window = match windows.get(&number) {
            Some(window) => *window,
            None => {
                let made = map(file, number * WINDOW as u64, WINDOW)
                    .map_err(|e| Unmapped::Refused(Errno::from_io_error(&e).unwrap_or(Errno::NOMEM)))?;
                *windows.entry(number).or_insert(Window(made))
            }
        };
        let offset = usize::try_from(at % WINDOW as u64).map_err(|_| Unmapped::Damaged)?;
        // SAFETY: a chunk is aligned to its length, a power of two that divides that of a window; so it lies within the
        // one that it begins in, and `offset` is below `WINDOW`. It is a multiple of a page, so the word is aligned.
        Ok(unsafe { window.0.add(offset) }.cast())
    }

    /// The words of a chunk; none unless it was mapped by [`follow`](Map::follow).
    #[inline]
    pub(super) fn chunk(&self, area: usize, chunk: usize) -> &[AtomicU64] {
        let at = self.chunks[area * CHUNKS + chunk].load(Acquire);
        if at.is_null() {
            return &[];
        }
        let len = (chunks::start(chunk + 1) - chunks::start(chunk)) * CELL;
        // SAFETY: `place` gave this address to this chunk: so many words from it on are mapped, lie within the file, and
        // stay so for as long as `self` lives. As in `words`, they are accessed as atomics only, here and elsewhere; a
        // damaged file may give two chunks the same words, which is a race of atomics and no more.
        unsafe { std::slice::from_raw_parts(at, len) }
    }

    /// A word of an area, counted from its first cell on. `None`: not mapped.
    #[inline]
    pub(super) fn word(&self, area: usize, at: usize) -> Option<&AtomicU64> {
        if at < CELLS_FIRST * CELL {
            return self.chunk(area, 0).get(at);
        }
        let chunk = chunks::of(at / CELL);
        if chunk >= CHUNKS {
            return None;
        }
        self.chunk(area, chunk).get(at - chunks::start(chunk) * CELL)
    }
}

/// Maps `len` bytes of a file from `at` on, both multiples of a page.
fn map(file: BorrowedFd<'_>, at: u64, len: usize) -> io::Result<NonNull<u8>> {
    debug_assert!(at.is_multiple_of(PAGE as u64) && len.is_multiple_of(PAGE));
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses aliases no memory of this program.
    let mapped =
        unsafe { mmap(ptr::null_mut(), len, access, MapFlags::SHARED | MapFlags::NORESERVE, file, at) }?;
    // A child of a fork must never touch the store, so it does not even get the mapping. It would only bloat a core
    // dump. And reading ahead would fill memory with what was never allocated. All hints: without them nothing goes
    // wrong.
    for advice in [Advice::LinuxDontFork, Advice::LinuxDontDump, Advice::Random] {
        // SAFETY: `mapped` and `len` are the whole mapping made above.
        let _ = unsafe { madvise(mapped, len, advice) };
    }
    NonNull::new(mapped.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))
}

impl Drop for Map {
    fn drop(&mut self) {
        if self.born.left() {
            return; // a forked child has nothing mapped there, or something else by now
        }
        let windows = self.windows.get_mut().unwrap_or_else(PoisonError::into_inner);
        let windows = windows.drain().map(|(_, window)| (window.0, WINDOW));
        for (at, len) in windows.chain([(self.front, FRONT)]) {
            // SAFETY: this is a mapping made by `map`, and every reference handed out borrowed `self`.
            let _ = unsafe { munmap(at.as_ptr().cast(), len) };
        }
    }
}
