//! Which claims live, and when the keeper looks at each next.

use std::collections::{BTreeMap, HashMap, hash_map};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::hold::Hold;
use crate::backend::ClaimId;
use crate::core::moment::Moment;

/// Ids are random already: take half of one as its hash.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*b);
        }
    }

    #[allow(clippy::cast_possible_truncation)] // the low half is as random as the whole
    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }
}

type ById<T> = HashMap<ClaimId, T, BuildHasherDefault<IdHasher>>;

#[derive(Debug)]
struct Entry {
    hold: Arc<Hold>,
    due: (Moment, u64),
    /// It waits without a place in the store, and is asked about again and again.
    polls: bool,
}

/// Claims by id and by due time.
#[derive(Debug)]
pub(crate) struct Registry {
    claims: ById<Entry>,
    queue: BTreeMap<(Moment, u64), Arc<Hold>>,
    /// Claims that are being released, and by how many.
    leaving: ById<u32>,
    serial: u64,
    /// How many entries poll.
    polling: usize,
    /// Until when the keeper sleeps: only an earlier due time wakes it.
    pub(crate) planned: Moment,
    /// Whether the keeper's task runs.
    pub(crate) running: bool,
    pub(crate) closed: bool,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry {
            claims: HashMap::default(),
            queue: BTreeMap::new(),
            leaving: ById::default(),
            serial: 0,
            polling: 0,
            planned: Moment::NEVER,
            running: false,
            closed: false,
        }
    }
}

impl Registry {
    /// Puts a claim in before its first request leaves, so that no push can miss it; nothing is due for it yet. False
    /// after `close`, which could not see it any more.
    #[must_use]
    pub(crate) fn enter(&mut self, hold: &Arc<Hold>) -> bool {
        if !self.closed {
            let entry = Entry { hold: hold.clone(), due: (Moment::NEVER, 0), polls: false };
            self.claims.insert(hold.claim.id, entry);
        }
        !self.closed
    }

    /// Puts a claim in, or moves it. True: the keeper sleeps for too long and must be woken.
    pub(crate) fn schedule(&mut self, hold: &Arc<Hold>, at: Moment, polls: bool) -> bool {
        self.serial += 1;
        let due = (at, self.serial);
        self.polling += usize::from(polls);
        if let Some(old) = self.claims.insert(hold.claim.id, Entry { hold: hold.clone(), due, polls }) {
            self.queue.remove(&old.due);
            self.polling -= usize::from(old.polls);
        }
        self.queue.insert(due, hold.clone());
        at < self.planned
    }

    /// Moves a claim that is still in; a claim that has been removed stays out.
    pub(crate) fn reschedule(&mut self, hold: &Arc<Hold>, at: Moment, polls: bool) -> bool {
        self.claims.contains_key(&hold.claim.id) && self.schedule(hold, at, polls)
    }

    /// How many claims wait without a place in the store.
    pub(crate) fn polling(&self) -> usize {
        self.polling
    }

    pub(crate) fn remove(&mut self, id: ClaimId) -> Option<Arc<Hold>> {
        let entry = self.claims.remove(&id)?;
        self.queue.remove(&entry.due);
        self.polling -= usize::from(entry.polls);
        Some(entry.hold)
    }

    /// Takes a claim out because its release begins.
    pub(super) fn begin_leaving(&mut self, id: ClaimId) -> Option<Arc<Hold>> {
        *self.leaving.entry(id).or_default() += 1;
        self.remove(id)
    }

    pub(super) fn end_leaving(&mut self, id: ClaimId) {
        if let hash_map::Entry::Occupied(mut releases) = self.leaving.entry(id) {
            *releases.get_mut() -= 1;
            if *releases.get() == 0 {
                releases.remove();
            }
        }
    }

    /// How many claims are being released.
    pub(super) fn leaving(&self) -> usize {
        self.leaving.len()
    }

    /// Whether a claim lives, or is being released.
    pub(super) fn owns(&self, id: ClaimId) -> bool {
        self.claims.contains_key(&id) || self.leaving.contains_key(&id)
    }

    pub(crate) fn get(&self, id: ClaimId) -> Option<Arc<Hold>> {
        self.claims.get(&id).map(|e| e.hold.clone())
    }

    pub(crate) fn all(&self) -> Vec<Arc<Hold>> {
        self.claims.values().map(|e| e.hold.clone()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.claims.len()
    }

    /// Claims that are due, and with them those due within `along`, at most `most`; they stay in, out of the queue until
    /// rescheduled. Nothing is taken along unless something is due: a claim that has to wait for a moment within
    /// `along` would be taken again and again until then.
    pub(crate) fn take_due(&mut self, now: Moment, along: Duration, most: usize) -> Vec<Arc<Hold>> {
        let mut due = Vec::new();
        if self.next_due() > now {
            return due;
        }
        let until = now + along;
        while due.len() < most {
            match self.queue.first_key_value() {
                Some((&(at, _), _)) if at <= until => {
                    due.extend(self.queue.pop_first().map(|(_, hold)| hold))
                }
                _ => break,
            }
        }
        due
    }

    /// When the first claim is due.
    pub(crate) fn next_due(&self) -> Moment {
        self.queue.first_key_value().map_or(Moment::NEVER, |(&(at, _), _)| at)
    }
}
