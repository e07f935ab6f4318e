//! The only asynchronous control flow: how a claim is acquired, kept, lost and withdrawn.
//!
//! Acquiring, in the order in which a call passes through:
//! - `acquire`: asks the store, waits for the grant.
//! - `cohort`: tasks of this client that want one lock, in a queue behind one claim.
//! - `asker`: who asks the store, for itself or leading such a queue.
//! - `turn`: waiting in such a queue, and passing the hold on.
//! - `several`: tries several locks in one request.
//! - `claim`: what a face asks for, and the `Turn` that releases itself when dropped.
//! - `hold`: the state of one claim.
//! - `inner`: its fields, and the lock around them.
//! - `scope`: what one scope of work holds, so that it does not wait for itself.
//!
//! Afterwards:
//! - `registry`: which claims live, and when each is due.
//! - `keeper`: renews, asks again for waiters, ends beliefs at their deadlines.
//! - `hub`: where a store's pushes arrive.
//! - `janitor`: releases what was dropped.
//! - `transfer`: continues a hold under another claim.
//! - `restate`: changes what is shown of a hold.
//! - `detached`: renews and releases holds that no process keeps.
//! - `telling`: traces and metrics.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::backend::{Backend, Claim, ClaimId, News, Owner, Sink};
use crate::capability::Needs;
use crate::core::backoff;
use crate::core::moment::Moment;
use crate::error::{Error, Result};
use crate::runtime::fork::Birthplace;
use crate::runtime::{Runtime, race};
use crate::ttl::Ttl;

mod acquire;
mod asker;
mod claim;
mod cohort;
pub(crate) mod detached;
mod hold;
mod hub;
mod inner;
mod janitor;
mod keeper;
mod registry;
mod restate;
pub(crate) mod scope;
mod several;
mod sync;
pub(crate) mod telling;
#[cfg(test)]
mod tests;
mod transfer;
mod turn;

pub(crate) use acquire::{Patience, TRY_PATIENCE, acquire};
pub(crate) use claim::{Request, Turn};
pub(crate) use hub::{Hub, Watching};
pub(crate) use several::try_all;
pub(crate) use transfer::adopt;
pub(crate) use turn::acquire_in_turn;

use cohort::Cohorts;
use hold::{Hold, Next};
use janitor::Janitor;
use registry::Registry;

/// How long dropping the last handle waits for pending withdrawals: a program that drops its guard and returns from
/// `main` would otherwise leave it for the whole lease.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// What the tasks share. They must not keep the engine alive, so they hold this and not [`Engine`].
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) runtime: Arc<dyn Runtime>,
    registry: Mutex<Registry>,
    /// Which leases the backend can give.
    ttl: Ttl,
    nudge: Notify,
    janitor: Janitor,
    cohorts: Cohorts,
    reach: telling::Reach,
}

impl Core {
    /// The backend's name, for people.
    fn name(&self) -> &'static str {
        self.backend.capabilities().backend
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that the keeper looks at `hold` next time at the right moment. `polls`: it waits without a place in the store.
    fn plan(self: &Arc<Core>, hold: &Arc<Hold>, next: Next, polls: bool) {
        let Some(at) = self.when(hold, next) else { return self.forget(hold) };
        let mut registry = self.registry();
        let late = registry.schedule(hold, at, polls);
        self.after_planning(registry, late);
    }

    /// The same for a hold that may have been removed meanwhile: it stays out.
    fn replan(self: &Arc<Core>, hold: &Arc<Hold>, next: Next) {
        let Some(at) = self.when(hold, next) else { return self.forget(hold) };
        let polls = hold.inner().polls();
        let mut registry = self.registry();
        let late = registry.reschedule(hold, at, polls);
        self.after_planning(registry, late);
    }

    /// At which moment the keeper looks again; `None`: never, and `close` need not know of it either.
    fn when(&self, hold: &Hold, next: Next) -> Option<Moment> {
        match next {
            Next::At(at) => Some(at),
            Next::Poll(pause) => {
                let crowd = self.registry().polling();
                let mut dice = [0u8; 8];
                self.runtime.fill(&mut dice);
                let pause = backoff::poll(pause, crowd, u64::from_le_bytes(dice));
                Some(self.runtime.now() + pause)
            }
            Next::Never => hold.inner().awaits_withdrawal().then_some(Moment::NEVER),
        }
    }

    fn after_planning(self: &Arc<Core>, mut registry: MutexGuard<'_, Registry>, late: bool) {
        let start = !registry.running && !registry.closed;
        registry.running = true;
        drop(registry);
        if start {
            self.runtime.spawn(Box::pin(keeper::run(keeper::Office(self.clone()))));
        } else if late {
            self.nudge.notify_one();
        }
    }

    /// A hold's claim as a renewal says it.
    fn claim_now(&self, hold: &Hold) -> Claim {
        let mut claim = hold.claim_now();
        if claim.cohort.tokens > 1 {
            claim.cohort.behind = self.cohorts.behind(hold);
        }
        claim
    }

    /// Whether a claim is ours: it lives, or its release is under way.
    fn owns(&self, id: ClaimId) -> bool {
        self.registry().owns(id)
    }

    fn forget(&self, hold: &Hold) {
        let removed = self.registry().remove(hold.claim.id);
        drop(removed); // outside the mutex: it may be the last handle to wakers
    }
}

/// While it lives, a release of this claim is under way, and the keeper knows of the claim no more. A grant that is pushed
/// meanwhile belongs to it: the store must not be told to take it back as one that nobody knows, or the release would find
/// nothing. `close` waits for it.
#[derive(Debug)]
pub(crate) struct Leaving(Arc<Core>, ClaimId);

impl Leaving {
    fn begin(core: &Arc<Core>, id: ClaimId) -> Leaving {
        let removed = core.registry().begin_leaving(id);
        drop(removed); // outside the mutex: it may be the last handle to wakers
        Leaving(core.clone(), id)
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let awaited = {
            let mut registry = self.0.registry();
            registry.end_leaving(self.1);
            registry.closed && registry.leaving() == 0
        };
        if awaited {
            self.0.janitor.look_again();
        }
    }
}

/// One client of one store. The last handle to it ends it.
pub(crate) struct Engine {
    pub(crate) core: Arc<Core>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) owner: Arc<Owner>,
    born: Birthplace,
    ids: Mutex<Vec<u128>>,
}

/// Shows no claim ids, not even those that are still to be used.
impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("backend", &self.core.backend).finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        runtime: Arc<dyn Runtime>,
        hub: Arc<Hub>,
        owner: Arc<Owner>,
    ) -> Arc<Engine> {
        let ttl = backend.capabilities().ttl;
        let core = Arc::new(Core {
            backend,
            runtime,
            registry: Mutex::default(),
            ttl,
            nudge: Notify::new(),
            janitor: Janitor::default(),
            cohorts: Cohorts::default(),
            reach: telling::Reach::default(),
        });
        hub.serve(&core);
        Arc::new(Engine { core, hub, owner, born: Birthplace::here(), ids: Mutex::default() })
    }

    /// Whether this process is a fork of the one that made this client.
    pub(crate) fn forked(&self) -> bool {
        self.born.left()
    }

    /// Refuses to work in a forked child and after `close`.
    pub(crate) fn usable(&self) -> Result<()> {
        if self.forked() {
            return Err(Error::config(
                "this process is a fork of the one that connected",
                "connect again in the child",
            ));
        }
        if self.core.registry().closed {
            return Err(closed());
        }
        Ok(())
    }

    /// Refuses what this store cannot do, before anything is sent.
    pub(crate) fn able(&self, needs: Needs) -> Result<()> {
        needs.check(&self.core.backend.capabilities())
    }

    /// A fresh claim id. Drawn sixty-four at a time: one system call for many claims.
    fn fresh_id(&self) -> ClaimId {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(id) = ids.pop() {
                return ClaimId(id);
            }
            let mut bytes = [0u8; 1024];
            self.core.runtime.fill(&mut bytes);
            ids.extend(bytes.as_chunks().0.iter().map(|b| u128::from_le_bytes(*b)).filter(|id| *id != 0));
        }
    }

    /// How many claims live: held and waiting.
    pub(crate) fn live(&self) -> usize {
        // A forked child lives without any, and its mutexes may be locked for ever.
        if self.forked() { 0 } else { self.core.registry().len() }
    }

    /// Releases everything and ends the connection. Guards that are alive are lost.
    pub(crate) async fn close(&self) -> Result<()> {
        self.usable()?;
        let holds = {
            let mut registry = self.core.registry();
            registry.closed = true;
            registry.all()
        };
        self.core.nudge.notify_one();
        for hold in holds {
            janitor::close(&self.core, &hold);
        }
        // Not counted once more below: a wait that has just ended is looked at by its task then, which has nothing to send.
        let left = janitor::idle(&self.core, self.core.runtime.now() + janitor::CLOSE_WAIT).await;
        // The last words to a store that does not answer are not waited for either.
        let end = self.core.runtime.now() + janitor::CLOSE_WAIT;
        race(&*self.core.runtime, end, self.core.backend.close()).await;
        // Whoever watches learns that there is nothing more to see.
        self.hub.news(News::Changed);
        match left {
            0 => Ok(()),
            n => Err(Error::uncertain(
                format!("{n} locks could not be released before the client was closed"),
                "they end with their leases",
            )),
        }
    }
}

fn closed() -> Error {
    Error::config("this client was closed", "connect again").closed()
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.forked() {
            // Our threads are not here, and their mutexes may be locked for ever: touch nothing.
            std::mem::forget((self.core.clone(), self.hub.clone()));
            return;
        }
        self.core.registry().closed = true;
        self.core.nudge.notify_one();
        self.core.janitor.idle_blocking(LAST_WAIT);
    }
}
