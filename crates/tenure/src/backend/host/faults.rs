//! Hooks for tests: SIGKILL or SIGSTOP at the n-th store of a verb, another boot, a look at the structure.
//!
//! `point` stands before and after every store that another process can see. All of this is nothing unless the crate
//! is built with the feature `unstable`.

#[cfg(feature = "unstable")]
mod hook {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

    use rustix::process::{Signal, getpid, kill_process};

    static PASSED: AtomicU64 = AtomicU64::new(0);
    static LAST: AtomicU64 = AtomicU64::new(u64::MAX);
    static STOP: AtomicBool = AtomicBool::new(false);

    /// From now on, counts points from 0, and dies at point number `n`.
    pub fn kill_after(n: u64) {
        PASSED.store(0, SeqCst);
        STOP.store(false, SeqCst);
        LAST.store(n, SeqCst);
    }

    /// The same with SIGSTOP: whoever lets the process go on finds it in the middle of its verb.
    pub fn stop_after(n: u64) {
        kill_after(n);
        STOP.store(true, SeqCst);
    }

    /// Stops this process here and now: the thread that calls this does nothing more until somebody lets the process go on.
    pub fn stop_now() {
        super::super::sys::stop_here();
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
        if STOP.load(SeqCst) {
            return super::super::sys::stop_here();
        }
        let _ = kill_process(getpid(), Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

#[cfg(feature = "unstable")]
pub(super) use hook::point;
#[cfg(feature = "unstable")]
mod inspection {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    use super::super::create::STORE;
    use super::super::floor;
    use super::super::format::{self, Header, SHARDS, STATIC_WORDS};
    use super::super::place::Dir;
    use super::super::registry;
    use super::super::store::Store;
    use super::super::url::Place;
    use crate::core::line::NEXT_WORD;
    use crate::error::Result;
    use crate::runtime::Runtime;
    use crate::runtime::thread::ThreadRuntime;

    fn open(dir: &Path) -> Result<Arc<Store>> {
        let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new());
        registry::open(&Place { path: dir.to_owned(), durable: true }, &runtime)
    }

    /// The shard of a lock, by its full name.
    ///
    /// # Errors
    /// As opening the store.
    pub fn shard(dir: &Path, name: &str) -> Result<usize> {
        Ok(open(dir)?.0.shard_of(name.as_bytes()))
    }

    /// How many cells are allocated in the shard of a lock, and how many of them were used.
    ///
    /// # Errors
    /// As opening the store.
    pub fn cells(dir: &Path, name: &str) -> Result<(u64, u64)> {
        let store = open(dir)?;
        let shard = store.0.shard_of(name.as_bytes());
        let words = store.0.map.words();
        let area = format::area(shard, store.0.generation(shard));
        let used = store.0.map.word(area, NEXT_WORD).map_or(0, |word| word.load(Relaxed));
        Ok((words[format::shard::cells_w(area)].load(Relaxed), used))
    }

    /// How often lines were taken from a process that stayed inside.
    ///
    /// # Errors
    /// As opening the store.
    pub fn rescues(dir: &Path) -> Result<u64> {
        let store = open(dir)?;
        Ok((0..SHARDS).map(|shard| store.0.generation(shard)).sum())
    }

    /// Checks the structure of every shard of the store in `dir`.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn check(dir: &Path) -> Result<(), String> {
        let store = open(dir).map_err(|e| e.to_string())?;
        for number in (0..SHARDS).filter(|&n| store.0.used(n)) {
            let shard = store.0.lock(number).map_err(|halt| crate::Error::from(halt).to_string())?;
            let lines = shard.lines().map_err(|refusal| format!("shard {number}: {refusal:?}"))?;
            lines.check().map_err(|e| format!("shard {number}: {e}"))?;
        }
        Ok(())
    }

    /// Makes the durable floor of tokens in `dir` greater than `token`.
    ///
    /// # Errors
    /// Whatever keeps it from being written.
    pub fn raise_floor(dir: &Path, token: i64) -> Result<()> {
        let dir = Dir::make(&Place { path: dir.to_owned(), durable: true })?;
        floor::raise(&dir, 0, token, 0).map(drop)
    }

    /// Makes the store in `dir` look as if an earlier boot had left it. Nobody may have it open.
    ///
    /// # Errors
    /// What the system says, or that there is no good header.
    pub fn reboot(dir: &Path) -> std::io::Result<()> {
        let file = File::options().read(true).write(true).open(dir.join(STORE))?;
        let mut bytes = [0; STATIC_WORDS * 8];
        file.read_exact_at(&mut bytes, 0)?;
        let mut words = [0; STATIC_WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_ne_bytes(*chunk);
        }
        let mut header = Header::read(&words).map_err(|e| std::io::Error::other(format!("{e:?}")))?;
        header.boot = header.boot.wrapping_add(1);
        let bytes: Vec<u8> = header.words().iter().flat_map(|w| w.to_ne_bytes()).collect();
        file.write_all_at(&bytes, 0)
    }
}

#[cfg(feature = "unstable")]
pub use hook::{kill_after, passed, stop_after, stop_now};
#[cfg(feature = "unstable")]
pub use inspection::{cells, check, raise_floor, reboot, rescues, shard};

/// Nothing.
#[cfg(not(feature = "unstable"))]
#[inline(always)]
pub(super) fn point() {}
