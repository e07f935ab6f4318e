//! Where a store's pushes arrive.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use tokio::sync::watch;

use super::hold::{Next, Phase};
use super::{Core, Hold};
use crate::backend::{News, Sink};

/// The sink that a backend is opened with. Exists before the engine does, since the backend must be given one.
#[derive(Debug)]
pub(crate) struct Hub {
    core: OnceLock<Weak<Core>>,
    changes: watch::Sender<u64>,
    watchers: AtomicUsize,
}

impl Hub {
    pub(crate) fn new() -> Arc<Hub> {
        Arc::new(Hub { core: OnceLock::new(), changes: watch::Sender::new(0), watchers: AtomicUsize::new(0) })
    }

    pub(super) fn serve(&self, core: &Arc<Core>) {
        let _ = self.core.set(Arc::downgrade(core));
    }

    /// Counts changes of lines from now on, until [`unwatch`](Hub::unwatch).
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        if self.watchers.fetch_add(1, Ordering::SeqCst) == 0
            && let Some(core) = self.core()
        {
            core.backend.watch(true);
        }
        self.changes.subscribe()
    }

    pub(crate) fn unwatch(&self) {
        if self.watchers.fetch_sub(1, Ordering::SeqCst) == 1
            && let Some(core) = self.core()
        {
            core.backend.watch(false);
        }
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
    fn news(&self, news: News) {
        match news {
            News::Granted(id, grant, at) => self.with(id, |core, hold| {
                let now = core.runtime.now();
                let next = hold.granted(grant, at, now);
                // A store that tells no time: the deadline counts from long ago, so renew at once.
                core.replan(hold, if at.is_none() && next != Next::Never { Next::At(now) } else { next });
            }),
            News::Gone(id, why) => self.with(id, |core, hold| {
                hold.gone(why);
                core.forget(hold);
            }),
            News::Look(id) => self.with(id, |core, hold| core.replan(hold, Next::At(core.runtime.now()))),
            News::Changed => self.changes.send_modify(|n| *n += 1),
            News::LinkDown => {
                let Some(core) = self.core() else { return };
                let now = core.runtime.now();
                let all = core.registry().all();
                for hold in all {
                    let waits = hold.inner().phase == Phase::Waiting;
                    if waits {
                        core.replan(&hold, Next::At(now));
                    }
                }
                self.changes.send_modify(|n| *n += 1);
            }
        }
    }
}
