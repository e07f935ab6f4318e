//! Whether the caller's runtime can have an I/O driver.
//!
//! A runtime that was built without `enable_io` panics when a connection is made in it, and tokio offers no way to ask
//! before. On Linux every I/O driver has an epoll descriptor. If all of them belong to threads of our own, the caller's
//! runtime has no driver. If there are others, we cannot tell: they may belong to another runtime.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The epoll descriptors of our own threads.
static OURS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn ours() -> MutexGuard<'static, BTreeSet<i32>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The epoll descriptors of a thread of our own, until it ends.
#[derive(Debug)]
pub(super) struct Own(Vec<i32>);

impl Own {
    /// Makes a runtime for a thread of our own. A descriptor that another thread opens meanwhile counts as ours: a runtime
    /// that has it does not carry connections then, and they are on our thread, where they work as well.
    pub(super) fn around<T>(make: impl FnOnce() -> T) -> (Own, T) {
        // One at a time, so that each counts its own.
        let mut ours = ours();
        let before: BTreeSet<i32> = all().into_iter().flatten().collect();
        let made = make();
        let own: Vec<i32> = all().into_iter().flatten().filter(|fd| !before.contains(fd)).collect();
        ours.extend(&own);
        (Own(own), made)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let mut ours = ours();
        for fd in &self.0 {
            ours.remove(fd);
        }
    }
}

/// Whether any runtime but our own may have an I/O driver. Also true if the system does not list descriptors.
pub(super) fn others_may_have_one() -> bool {
    let ours = ours();
    all().is_none_or(|mut all| all.any(|fd| !ours.contains(&fd)))
}

/// All epoll descriptors of this process. `None`: the system does not list them.
fn all() -> Option<impl Iterator<Item = i32>> {
    let listed = std::fs::read_dir("/proc/self/fd").ok().filter(|_| cfg!(target_os = "linux"))?;
    let is_epoll = |entry: &std::fs::DirEntry| {
        std::fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == "anon_inode:[eventpoll]")
    };
    Some(listed.flatten().filter(is_epoll).filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}
