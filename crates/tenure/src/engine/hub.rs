//! Where a store's pushes arrive.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::watch;

use super::hold::{Next, gone};
use super::{Core, Hold};
use crate::backend::{Changed, ClaimId, News, Sink, Standing, Watched};
use crate::error::LostReason;

/// The sink that a backend is opened with. Exists before the engine does, since the backend must be given one.
#[derive(Debug)]
pub(crate) struct Hub {
    core: OnceLock<Weak<Core>>,
    changes: watch::Sender<u64>,
    /// What each watcher watches. Locked while the backend is told, so that it hears of the last change last.
    watchers: Mutex<Vec<Watched>>,
    /// What changed since each watcher looked last. Not under the mutex above: a backend may report changes while it is told
    /// what to watch.
    told: Mutex<Vec<Arc<Mutex<Changed>>>>,
}

/// News of changes, until it is given to [`unwatch`](Hub::unwatch).
#[derive(Debug)]
pub(crate) struct Watching {
    pub(crate) wake: watch::Receiver<u64>,
    what: Watched,
    changed: Arc<Mutex<Changed>>,
}

impl Watching {
    /// What changed since the last call.
    pub(crate) fn take(&mut self) -> Changed {
        // First this: a change that comes now wakes.
        self.wake.mark_unchanged();
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Hub {
    pub(crate) fn new() -> Arc<Hub> {
        Arc::new(Hub {
            core: OnceLock::new(),
            changes: watch::Sender::new(0),
            watchers: Mutex::default(),
            told: Mutex::default(),
        })
    }

    pub(super) fn serve(&self, core: &Arc<Core>) {
        let _ = self.core.set(Arc::downgrade(core));
    }

    /// Collects changes of lines from now on, until [`unwatch`](Hub::unwatch).
    pub(crate) fn watch(&self, what: Watched) -> Watching {
        let (wake, changed) = (self.changes.subscribe(), Arc::default());
        self.told().push(Arc::clone(&changed));
        self.change_watchers(|watchers| watchers.push(what.clone()));
        Watching { wake, what, changed }
    }

    pub(crate) fn unwatch(&self, watching: &Watching) {
        self.told().retain(|changed| !Arc::ptr_eq(changed, &watching.changed));
        self.change_watchers(|watchers| {
            if let Some(at) = watchers.iter().position(|watched| *watched == watching.what) {
                watchers.swap_remove(at);
            }
        });
    }

    /// Tells all watchers.
    fn changed(&self, what: &Changed) {
        for changed in &*self.told() {
            changed.lock().unwrap_or_else(PoisonError::into_inner).add(what.clone());
        }
        self.changes.send_modify(|n| *n += 1);
    }

    fn told(&self) -> MutexGuard<'_, Vec<Arc<Mutex<Changed>>>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_watchers(&self, change: impl FnOnce(&mut Vec<Watched>)) {
        let mut watchers = self.watchers();
        let before = all(&watchers);
        change(&mut watchers);
        let after = all(&watchers);
        if after != before
            && let Some(core) = self.core()
        {
            core.backend.watch(&after);
        }
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Watched>> {
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

    fn gone(&self, id: ClaimId, why: LostReason) {
        self.with(id, |core, hold| {
            hold.gone(why);
            core.replan(hold, Next::Never);
        });
    }
}

/// What all of them watch, in as few words as the contract has: it may be more than each of them asked for.
fn all(watchers: &[Watched]) -> Watched {
    let (mut names, mut namespaces) = (Vec::new(), Vec::new());
    for watched in watchers {
        match watched {
            Watched::Nothing => {}
            Watched::Names(keys) => names.extend_from_slice(keys),
            Watched::Namespace(namespace) => namespaces.push(namespace),
            Watched::Everything => return Watched::Everything,
        }
    }
    names.sort();
    names.dedup();
    match namespaces.first() {
        None if names.is_empty() => Watched::Nothing,
        None => Watched::Names(names),
        Some(one)
            if namespaces.iter().all(|n| n == one) && names.iter().all(|key| key.namespace() == *one) =>
        {
            Watched::Namespace((*one).clone())
        }
        Some(_) => Watched::Everything,
    }
}

impl Sink for Hub {
    fn knows(&self, id: ClaimId) -> bool {
        self.core().is_none_or(|core| core.owns(id))
    }

    fn news(&self, news: News) {
        match news {
            News::Granted(id, grant, at) => self.with(id, |core, hold| {
                let now = core.runtime.now();
                core.replan(hold, hold.granted(grant, at, now));
            }),
            News::Gone(id, why) => self.gone(id, gone(Standing::Gone { why })),
            News::Removed(id) => self.gone(id, LostReason::StoreRemoved),
            News::Look(id) => self.with(id, |core, hold| core.replan(hold, hold.look(core.runtime.now()))),
            News::Changed => self.changed(&Changed::Anything),
            News::LinesChanged(keys) => self.changed(&Changed::Lines(keys.into_iter().collect())),
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
                self.changed(&Changed::Anything);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::changed::NAMES_MAX;
    use crate::key::Key;

    #[test]
    fn each_watcher_is_told_what_changed_since_it_looked() {
        let hub = Hub::new();
        let key = |name: &str| Key::new("one", name).expect("a name");
        let (mut one, mut other) =
            (hub.watch(Watched::Everything), hub.watch(Watched::Names(vec![key("a")])));
        hub.news(News::LinesChanged(vec![key("a")]));
        assert!(one.wake.has_changed().expect("it is there"));
        let both = |names: &[&str]| Changed::Lines(names.iter().map(|name| key(name)).collect());
        assert_eq!(one.take(), both(&["a"]));
        assert!(!one.wake.has_changed().expect("it is there"));
        hub.news(News::LinesChanged(vec![key("b"), key("a")]));
        assert_eq!((one.take(), other.take()), (both(&["a", "b"]), both(&["a", "b"])));
        hub.news(News::LinesChanged(vec![key("a")]));
        hub.news(News::Changed);
        assert_eq!((one.take(), one.take()), (Changed::Anything, both(&[])));
        hub.unwatch(&one);
        let many = (0..=NAMES_MAX).map(|n| key(&n.to_string())).collect();
        hub.news(News::LinesChanged(many));
        assert_eq!((one.take(), other.take()), (both(&[]), Changed::Anything));
    }

    #[test]
    fn what_all_watch_is_no_more_than_it_must_be() {
        let name =
            |namespace: &str, name: &str| Watched::Names(vec![Key::new(namespace, name).expect("a name")]);
        let (a, b, other) = (name("one", "a"), name("one", "b"), name("two", "a"));
        let one = Watched::Namespace("one".into());
        assert_eq!(all(&[]), Watched::Nothing);
        assert_eq!(all(&[a.clone(), a.clone()]), a);
        assert!(
            matches!(all(&[b.clone(), a.clone(), other.clone()]), Watched::Names(keys) if keys.len() == 3)
        );
        assert_eq!(all(&[a.clone(), one.clone()]), one);
        assert_eq!(all(&[other, one.clone()]), Watched::Everything);
        assert_eq!(all(&[one.clone(), one.clone()]), one);
        assert_eq!(all(&[one, Watched::Namespace("two".into())]), Watched::Everything);
        assert_eq!(all(&[b, Watched::Everything]), Watched::Everything);
    }
}
