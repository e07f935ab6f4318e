//! Where a store's pushes arrive.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::watch;

use super::{Core, Hold};
use crate::backend::{ClaimId, News, Sink};

/// The sink that a backend is opened with. Exists before the engine does, since the backend must be given one.
#[derive(Debug)]
pub(crate) struct Hub {
    core: OnceLock<Weak<Core>>,
    changes: watch::Sender<u64>,
    /// How many watch. Locked while the backend is told, so that it hears of the last change last.
    watchers: Mutex<usize>,
}

impl Hub {
    pub(crate) fn new() -> Arc<Hub> {
        Arc::new(Hub { core: OnceLock::new(), changes: watch::Sender::new(0), watchers: Mutex::new(0) })
    }

    pub(super) fn serve(&self, core: &Arc<Core>) {
        let _ = self.core.set(Arc::downgrade(core));
    }

    /// Counts changes of lines from now on, until [`unwatch`](Hub::unwatch).
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        let mut watchers = self.watchers();
        *watchers += 1;
        if *watchers == 1
            && let Some(core) = self.core()
        {
            core.backend.watch(true);
        }
        self.changes.subscribe()
    }

    pub(crate) fn unwatch(&self) {
        let mut watchers = self.watchers();
        *watchers -= 1;
        if *watchers == 0
            && let Some(core) = self.core()
        {
            core.backend.watch(false);
        }
    }

    fn watchers(&self) -> MutexGuard<'_, usize> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn core(&self) -> Option<Arc<Core>> {
        self.core.get().and_then(Weak::upgrade)
    }

    fn with(&self, id: crate::backend::ClaimId, then: impl FnOnce(&Arc<Core>, &Arc<Hold>)) {
        let Some(core) = self.core() else { return };
        let hold = core.registry().get(id);
        if let Some(hold) = hold {
            then(&core, &hold);
        }
    }
}

impl Sink for Hub {
    fn knows(&self, id: ClaimId) -> bool {
        self.core().is_none_or(|core| core.registry().get(id).is_some())
    }

    fn news(&self, news: News) {
        match news {
            News::Granted(id, grant, at) => self.with(id, |core, hold| {
                let now = core.runtime.now();
                core.replan(hold, hold.granted(grant, at, now));
            }),
            News::Gone(id, why) => self.with(id, |core, hold| {
                hold.gone(why);
                core.forget(hold);
            }),
            News::Look(id) => self.with(id, |core, hold| core.replan(hold, hold.look(core.runtime.now()))),
            News::Changed => self.changes.send_modify(|n| *n += 1),
            News::LinkDown(part) => {
                let Some(core) = self.core() else { return };
                let now = core.runtime.now();
                let all = core.registry().all();
                for hold in all.into_iter().filter(|hold| core.backend.part(&hold.claim.key) == part) {
                    // Claims without a place are asked about at a pace of their own, push or no push.
                    if hold.inner().awaits_push() {
                        core.replan(&hold, hold.look(now));
                    }
                }
                self.changes.send_modify(|n| *n += 1);
            }
        }
    }
}
