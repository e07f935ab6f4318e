//! Two connections to one server, and which of them a request takes.
//!
//! - `command`: attempts, releases, looks, and the pushes of this client. Runs on the caller's runtime if there is one.
//! - `keeper`: renewals and background releases. Runs on a thread of its own.
//!
//! A request that changes something is never sent twice behind the engine's back: if its answer is lost, the engine
//! learns it. Only requests that have provably not left move from one connection to the other.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::fault::REACH;
use super::thread::Place;
use super::{Fault, Link, Why};
use crate::backend::{Errand, Sink};
use crate::error::ErrorKind;
use crate::runtime::Runtime;

/// One of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// For attempts, releases, looks and pushes.
    Command,
    /// For renewals and background releases.
    Keeper,
}

impl Lane {
    /// Both connections.
    pub const BOTH: [Lane; 2] = [Lane::Command, Lane::Keeper];

    /// As metrics call it.
    #[cfg(feature = "metrics")]
    pub(super) fn name(self) -> &'static str {
        match self {
            Lane::Command => "command",
            Lane::Keeper => "keeper",
        }
    }
}

/// The place of a connection. Its link is replaced when it breaks.
#[derive(Debug)]
pub(super) struct Slot<L> {
    state: Mutex<State<L>>,
}

#[derive(Debug)]
struct State<L> {
    link: Option<Arc<L>>,
    /// Why there is no link.
    why: Why,
    /// The link's runtime is blocked: answers would not be read.
    stalled: bool,
}

impl<L> Slot<L> {
    fn new() -> Slot<L> {
        let why = Why::new(ErrorKind::Unavailable, "not connected yet", "");
        Slot { state: Mutex::new(State { link: None, why, stalled: false }) }
    }

    fn state(&self) -> MutexGuard<'_, State<L>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn up(&self, link: &Arc<L>) {
        let mut state = self.state();
        (state.link, state.stalled) = (Some(link.clone()), false);
    }

    pub(super) fn down(&self, why: Why) {
        let old = {
            let mut state = self.state();
            state.why = why;
            state.link.take()
        };
        drop(old);
    }

    /// That link is dead. Whether it was the one here.
    fn lose(&self, link: &Arc<L>) -> bool {
        let mut state = self.state();
        let was_here = state.link.as_ref().is_some_and(|here| Arc::ptr_eq(here, link));
        if was_here {
            state.link = None;
            state.why = Why::new(ErrorKind::Unavailable, "the connection ended", REACH);
        }
        was_here
    }

    /// The link, dead or alive.
    pub(super) fn link(&self) -> Option<Arc<L>> {
        self.state().link.clone()
    }

    pub(super) fn set_stalled(&self, stalled: bool) {
        self.state().stalled = stalled;
    }

    fn live(&self) -> Option<Arc<L>> {
        let state = self.state();
        state.link.clone().filter(|_| !state.stalled)
    }

    fn why(&self) -> Why {
        self.state().why.clone()
    }
}

/// The connections of one client to one server.
pub struct Lanes<L, P> {
    runtime: Arc<dyn Runtime>,
    sink: Arc<dyn Sink>,
    /// The caller's runtime, if it connected in one.
    home: Option<P>,
    /// The thread of our own.
    own: P,
    command: Slot<L>,
    keeper: Slot<L>,
    closed: AtomicBool,
    /// Tells supervisors that pause.
    pub(super) closing: Notify,
    /// The caller's runtime is gone: the keeper connection does everything.
    pub(super) homeless: AtomicBool,
    /// A connection came or went: pushes may have to come to the other one.
    pub(super) moved: Notify,
    /// The watchdog is awake, or about to wake.
    pub(super) guarded: AtomicBool,
    /// Wakes the watchdog.
    pub(super) guard: Notify,
}

impl<L: fmt::Debug, P: fmt::Debug> fmt::Debug for Lanes<L, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (command, keeper) = (&self.command, &self.keeper);
        f.debug_struct("Lanes").field("command", command).field("keeper", keeper).finish_non_exhaustive()
    }
}

impl<L: Link, P: Place> Lanes<L, P> {
    /// Two connections that are not made yet. `home`: the caller's runtime, if there is one. `own`: the thread of our own.
    pub fn new(runtime: Arc<dyn Runtime>, sink: Arc<dyn Sink>, home: Option<P>, own: P) -> Lanes<L, P> {
        Lanes {
            runtime,
            sink,
            home,
            own,
            command: Slot::new(),
            keeper: Slot::new(),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
            homeless: AtomicBool::new(false),
            moved: Notify::new(),
            guarded: AtomicBool::new(false),
            guard: Notify::new(),
        }
    }

    /// The clock, randomness and timers that everything here takes.
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }

    /// Where news goes.
    pub fn sink(&self) -> &dyn Sink {
        &*self.sink
    }

    /// Where background tasks run.
    pub fn own(&self) -> &P {
        &self.own
    }

    /// Whether the command connection runs on the caller's runtime.
    pub(super) fn has_home(&self) -> bool {
        self.home.is_some()
    }

    /// Where a connection runs.
    pub(super) fn place(&self, lane: Lane) -> &P {
        match lane {
            Lane::Command => self.home.as_ref().unwrap_or(&self.own),
            Lane::Keeper => &self.own,
        }
    }

    pub(super) fn slot(&self, lane: Lane) -> &Slot<L> {
        match lane {
            Lane::Command => &self.command,
            Lane::Keeper => &self.keeper,
        }
    }

    /// A connection, dead or alive.
    pub fn link(&self, lane: Lane) -> Option<Arc<L>> {
        self.slot(lane).link()
    }

    /// The connection for a request. An awaited request takes the command connection if the caller runs where that does;
    /// the keeper connection takes all others. If that one is down or blocked, the request takes the other one.
    ///
    /// # Errors
    /// Both are down or blocked. The request is unsent.
    pub fn pick(&self, errand: Errand) -> Result<Arc<L>, Why> {
        let at_home = || self.home.as_ref().is_none_or(Place::is_here);
        let (first, second) = match errand {
            Errand::Awaited if at_home() => (&self.command, &self.keeper),
            _ => (&self.keeper, &self.command),
        };
        first.live().or_else(|| second.live()).ok_or_else(|| Why { unsent: true, ..first.why() })
    }

    /// A request is under way: the watchdog must watch it.
    pub fn wake_guard(&self) {
        if !self.guarded.load(Ordering::Relaxed) && !self.guarded.swap(true, Ordering::SeqCst) {
            self.guard.notify_one();
        }
    }

    /// Whether the client was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends both connections and all tasks that keep them.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.closing.notify_waiters();
        for slot in [&self.command, &self.keeper] {
            if let Some(link) = slot.link() {
                link.fail(&closed());
            }
            slot.down(Why::new(ErrorKind::Unavailable, CLOSED, "connect again"));
        }
        self.moved.notify_one();
        self.guard.notify_one();
    }

    /// A connection was made. If the client was closed meanwhile, the connection ends.
    pub(super) fn up(&self, lane: Lane, link: &Arc<L>) {
        self.slot(lane).up(link);
        if self.is_closed() {
            link.fail(&closed());
        }
        self.moved.notify_one();
    }

    /// A connection is dead, and its supervisor may not see it: no request takes it any more.
    pub(super) fn lose(&self, lane: Lane, link: &Arc<L>) {
        if self.slot(lane).lose(link) {
            self.moved.notify_one();
        }
    }

    /// A connection is gone, or another try to make it failed.
    pub(super) fn down(&self, lane: Lane, why: Why) {
        self.slot(lane).down(why);
        self.moved.notify_one();
    }
}

pub(super) const CLOSED: &str = "the client was closed";

fn closed() -> Fault {
    Fault::Lost(CLOSED.into())
}
