//! One open store per process and directory.
//!
//! It must be so: closing *any* descriptor of the `live` file drops every lock that this process has on it, its slot
//! included, and the kernel never reports a process's own locks to it, so two stores on one file could neither keep
//! their slots nor see each other. All clients of one directory share one [`Store`], and a directory that is being
//! closed is not opened again before its files are closed.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant};

use super::bell::Thread;
use super::files::Files;
use super::place::{Dir, FileId};
use super::store::{Inner, Store};
use super::url::Place;
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::runtime::fork::Birthplace;

const PATIENCE: Duration = Duration::from_secs(10);

/// By device and inode of the directory. An entry whose store is gone belongs to one that is being opened or closed.
struct Registry {
    stores: HashMap<FileId, Weak<Store>>,
    born: Option<Birthplace>,
}

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();

/// Locks the registry. In a forked child the mutex may be locked for ever, by a thread that exists in the parent only:
/// so nobody waits for it without an end.
fn registry() -> Result<MutexGuard<'static, Option<Registry>>> {
    let until = Instant::now() + PATIENCE;
    loop {
        match REGISTRY.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(guard)) => return Ok(guard.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::yield_now(),
            Err(TryLockError::WouldBlock) => return Err(busy()),
        }
    }
}

fn busy() -> Error {
    Error::unavailable(
        "this process has been opening or closing the same store for ten seconds",
        "if it is a fork of one that used the store, start a new program instead",
    )
}

/// The store of a place: this process's, if it is open already. Made if there is none.
pub(super) fn open(place: &Place, runtime: &Arc<dyn Runtime>) -> Result<Arc<Store>> {
    let dir = Dir::make(place)?;
    let path = dir.path.clone();
    let store = find(dir, runtime, true)?;
    store.ok_or_else(|| {
        Error::protocol(format!("no store was made in {}", path.display()), "this is a bug: please report it")
    })
}

/// The store in a directory: this process's, if it is open already. `None`: there is none, and it is not to be made.
pub(super) fn find(dir: Dir, runtime: &Arc<dyn Runtime>, make: bool) -> Result<Option<Arc<Store>>> {
    let id = dir.id;
    let until = Instant::now() + PATIENCE;
    let mut guard = registry()?;
    let entry = loop {
        let known = guard.get_or_insert_with(|| Registry { stores: HashMap::new(), born: None });
        if known.born.is_none_or(Birthplace::left) {
            known.stores.clear(); // a fork: what the parent has open is not ours
            known.born = Some(Birthplace::here());
        }
        match known.stores.get(&id) {
            None => {
                known.stores.insert(id, Weak::new());
                break Entry { id, born: Birthplace::here() };
            }
            Some(store) => {
                if let Some(store) = store.upgrade() {
                    drop(guard);
                    store.0.check_place(runtime.now().nanos(), 0)?;
                    return Ok(Some(store));
                }
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(busy());
        }
        guard = CHANGED.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
    };
    drop(guard);
    // Whatever opens the files must close them before `entry` is dropped.
    if !make && !Files::present(&dir)? {
        return Ok(None);
    }
    let inner = Inner::open(dir, entry, runtime)?;
    let inner = Arc::new(inner);
    let thread = Thread::start(&inner)?;
    let store = Arc::new(Store(inner, thread));
    if let Some(known) = &mut *registry()? {
        known.stores.insert(id, Arc::downgrade(&store));
    }
    CHANGED.notify_all();
    Ok(Some(store))
}

/// A directory's place in the registry. Dropped when the files of its store are closed, not before.
#[derive(Debug)]
pub(super) struct Entry {
    id: FileId,
    born: Birthplace,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.born.left() {
            return;
        }
        let mut guard = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &mut *guard {
            known.stores.remove(&self.id);
        }
        CHANGED.notify_all();
    }
}
