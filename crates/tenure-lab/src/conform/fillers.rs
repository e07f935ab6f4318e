//! Takes all permits of a semaphore but one, so that a trial of the mutex finds one that acts like it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenure::Locks;
use tenure::backend::{Claim, Leave};

use super::faces::{FILLER, Face, Lock, PERMITS};
use super::raw::{Store, owner};
use super::{Ctx, Verdict};

/// The claims that hold all permits but one, by the names of their semaphores, and the store that they are in.
#[derive(Default)]
pub(crate) struct Fillers(Mutex<Filled>);

#[derive(Default)]
struct Filled {
    store: Option<Arc<Store>>,
    claims: HashMap<String, Claim>,
}

impl Ctx {
    /// The same store with another kind of lock. Other kinds than the mutex run fewer rounds, since most of the code is shared.
    #[must_use]
    pub fn facing(mut self, face: Face) -> Ctx {
        self.face = face;
        if face != Face::Mutex {
            self.percent = self.percent.min(25);
        }
        self
    }

    /// The lock of that name that the trial is about.
    pub(crate) fn lock(&self, locks: &Locks, name: &str) -> Verdict<Lock> {
        self.fill(name)?;
        Ok(self.face.lock(locks, name)?)
    }

    /// Sees to it that only one permit of a semaphore is left.
    pub(crate) fn fill(&self, name: &str) -> Verdict<()> {
        let mut fillers = self.fillers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.face != Face::Permit || fillers.claims.contains_key(name) {
            return Ok(());
        }
        let store = match &fillers.store {
            Some(store) => store.clone(),
            None => Arc::new(pollster::block_on(self.store())?),
        };
        fillers.store = Some(store.clone());
        let claim = Claim {
            weight: PERMITS - 1,
            ttl: Duration::from_secs(3600),
            owner: Arc::new(owner(FILLER)),
            ..store.claim(name)?
        };
        pollster::block_on(store.take(&claim))?;
        fillers.claims.insert(name.to_owned(), claim);
        Ok(())
    }

    /// Gives the other permits back.
    pub(super) fn empty(&self) -> Verdict<()> {
        let mut fillers = self.fillers.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(store) = fillers.store.take() else { return Ok(()) };
        for (_, claim) in fillers.claims.drain() {
            pollster::block_on(store.release(&claim, Leave::Nothing))?;
        }
        Ok(())
    }
}
