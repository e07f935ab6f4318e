//! What one scope of work holds, so that it does not wait for itself.
//!
//! A scope is a list of weak handles to holds. The current one lies in a thread-local that is set while its future is
//! polled, so it needs no particular executor. A scope within another one knows what the outer one holds: the outer one
//! waits for the inner one, so nothing that it holds will come free.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::hold::Hold;
use super::{Engine, Request, Turn};
use crate::error::{Error, Result};
use crate::key::Key;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Scope>>> = const { RefCell::new(None) };
}

/// From so many names on, those that are no longer held are looked for and forgotten.
const MANY: usize = 64;

/// Where work acquires.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    outer: Option<Arc<Scope>>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// With each hold, the client that it was taken by: another client's hold is another matter; and how many of its
    /// tokens were used then: it may have been passed on since.
    by_name: HashMap<Key, Vec<(Client, Weak<Hold>, u32)>>,
    crowded: usize,
}

/// Which client: an address, only compared, of an engine that its holds keep alive.
type Client = usize;

fn client(engine: &Arc<Engine>) -> Client {
    Arc::as_ptr(engine).addr()
}

/// While it lives, this thread works in a scope. Afterwards in the one before.
#[must_use]
pub(crate) struct Entered(Option<Arc<Scope>>);

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.0.take();
        // A thread that ends has none.
        let _ = CURRENT.try_with(|current| current.replace(before));
    }
}

impl Scope {
    /// A scope within the current one.
    pub(crate) fn within() -> Arc<Scope> {
        Arc::new(Scope { outer: current(), held: Mutex::default() })
    }

    pub(crate) fn enter(self: &Arc<Scope>) -> Entered {
        Entered(CURRENT.with(|current| current.replace(Some(self.clone()))))
    }

    /// How much of the lock this scope and those around it hold, and the least capacity that these holds name.
    fn weight(&self, engine: &Arc<Engine>, key: &Key) -> (u64, u32) {
        let now = engine.core.runtime.now();
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = |(of, hold, used): &(Client, Weak<Hold>, u32)| {
            let hold = hold.upgrade().filter(|_| *of == client(engine))?;
            // What is being given back, or is lost, comes free without our doing.
            let ours = hold.used() == *used && hold.inner().leaving.is_none() && hold.check(now).is_ok();
            ours.then(|| (u64::from(hold.claim.weight), hold.claim.capacity))
        };
        let both = |(sum, least): (u64, u32), (weight, capacity)| (sum + weight, least.min(capacity));
        let here =
            held.by_name.get(key).into_iter().flatten().filter_map(of_client).fold((0, u32::MAX), both);
        drop(held);
        self.outer.as_ref().map_or(here, |outer| both(here, outer.weight(engine, key)))
    }

    fn add(&self, turn: &Turn) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let list = held.by_name.entry(turn.hold.claim.key.clone()).or_default();
        list.retain(|(_, hold, _)| hold.strong_count() > 0);
        list.push((client(&turn.engine), Arc::downgrade(&turn.hold), turn.used));
        if held.by_name.len() > held.crowded.max(MANY) {
            held.by_name.retain(|_, list| {
                list.retain(|(_, hold, _)| hold.strong_count() > 0);
                !list.is_empty()
            });
            held.crowded = held.by_name.len() * 2;
        }
    }
}

fn current() -> Option<Arc<Scope>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Refuses to wait for what the current scope holds itself.
pub(super) fn refuse(engine: &Arc<Engine>, request: &Request) -> Result<()> {
    let Some(scope) = current() else { return Ok(()) };
    let (held, least) = scope.weight(engine, &request.key);
    if held == 0 || held + u64::from(request.weight) <= u64::from(request.capacity.min(least)) {
        return Ok(());
    }
    let advice = "release it first, pass the guard on, or re-enter with an owner (Locks::owner)";
    Err(Error::config("this work holds the lock itself, and would wait for itself", advice).of(&request.key))
}

/// Notes what the current scope holds from now on.
pub(super) fn note(turn: &Turn) {
    if let Some(scope) = current() {
        scope.add(turn);
    }
}
