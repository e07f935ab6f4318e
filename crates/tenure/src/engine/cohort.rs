//! Cohorts: tasks of one client that want one lock stand behind one claim and pass its hold on among themselves (lock
//! cohorting: Dice, Marathe and Shavit, 2012).
//!
//! Of each lock that tasks of this client ask for in turn there is a queue of cohorts, in the order in which their tasks
//! came; their claims stand in the store's line in the same order, but for those who had to ask anew. One task leads a
//! cohort: it asks the store. The others have seats behind it, first come first served. A cohort is closed once its claim
//! is granted, so those who come later stand behind whoever waits in the store by then. A claim that nobody else of this
//! client waited beside is closed from the beginning, and asks for one token only: alone, a task costs the store what it
//! costs without all this.
//!
//! What a seat is given, and to whom a cohort goes whose leader leaves, is decided under one mutex, which is never held
//! while a hold's is taken, and never while somebody is woken.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, Weak};
use std::task::{Poll, Waker};

use super::Request;
use super::hold::Hold;
use super::inner::unharmed;
use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use crate::error::Error;
use crate::key::Key;

/// The most tasks that one claim serves: so many tokens are reserved with its grant.
const MOST: u32 = 256;

/// Which cohort, of all that this client ever had.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Number(u64);

/// The lead of a cohort: whoever has it asks the store for its claim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lead {
    pub(super) number: Number,
    /// How many tokens its claim asks for.
    pub(super) tokens: u32,
}

/// What a task that waits in a cohort is given.
#[derive(Debug)]
pub(super) enum Given {
    /// The hold, and how many of its tokens others have used.
    Hold(Arc<Hold>, u32, Number),
    /// The lead, with the claim that waits for the lock, if there is one.
    Lead(Lead, Option<Arc<Hold>>),
    /// What the store refused the leader refuses them all.
    Refusal(Error),
}

/// Where a task waits in a cohort.
#[derive(Debug)]
pub(super) struct Seat {
    /// In which cohort. Changed under the cohorts' mutex only.
    number: AtomicU64,
    state: Mutex<SeatState>,
}

#[derive(Debug, Default)]
struct SeatState {
    given: Option<Given>,
    waker: Option<Waker>,
}

impl Seat {
    fn of(number: Number) -> Arc<Seat> {
        Arc::new(Seat { number: AtomicU64::new(number.0), state: Mutex::default() })
    }

    fn number(&self) -> Number {
        Number(self.number.load(Ordering::Relaxed))
    }

    fn move_to(&self, number: Number) {
        self.number.store(number.0, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, SeatState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready once there is something; the waker is called then.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<Given> {
        let mut state = self.state();
        if let Some(given) = state.given.take() {
            return Poll::Ready(given);
        }
        let replaced = match &state.waker {
            Some(known) if known.will_wake(waker) => None,
            _ => state.waker.replace(waker.clone()),
        };
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    pub(super) fn take(&self) -> Option<Given> {
        self.state().given.take()
    }

    fn give(&self, given: Given) -> Option<Waker> {
        let mut state = self.state();
        state.given = Some(given);
        state.waker.take()
    }
}

/// What becomes of a task that asks in turn.
pub(super) enum Entered {
    /// It leads a cohort of its own.
    Leads(Lead),
    /// It waits in one.
    Sits(Arc<Seat>),
}

#[derive(Debug)]
struct Cohort {
    number: Number,
    /// What each of them asks for.
    request: Request,
    tokens: u32,
    claim: Option<Weak<Hold>>,
    granted: bool,
    members: VecDeque<Arc<Seat>>,
}

impl Cohort {
    fn takes(&self, request: &Request) -> bool {
        !self.granted && self.tokens > 1 && self.request.same_claim(request)
    }
}

#[derive(Debug, Default)]
struct Queues {
    by_key: HashMap<Key, VecDeque<Cohort>>,
    last: u64,
}

impl Queues {
    /// A cohort that is to be asked for; its place in the queue is the caller's to choose.
    fn made(&mut self, request: &Request, tokens: u32, members: VecDeque<Arc<Seat>>) -> (Lead, Cohort) {
        self.last += 1;
        let number = Number(self.last);
        members.iter().for_each(|seat| seat.move_to(number));
        let request = request.clone();
        let cohort = Cohort { number, request, tokens, claim: None, granted: false, members };
        (Lead { number, tokens }, cohort)
    }

    fn find(&mut self, key: &Key, number: Number) -> Option<&mut Cohort> {
        self.by_key.get_mut(key)?.iter_mut().find(|cohort| cohort.number == number)
    }

    fn remove(&mut self, key: &Key, number: Number) -> Option<Cohort> {
        let queue = self.by_key.get_mut(key)?;
        let at = queue.iter().position(|cohort| cohort.number == number)?;
        let cohort = queue.remove(at);
        if queue.is_empty() {
            self.by_key.remove(key);
        }
        cohort
    }
}

/// All cohorts of a client.
#[derive(Debug, Default)]
pub(crate) struct Cohorts {
    queues: Mutex<Queues>,
}

impl Cohorts {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.queues().by_key.is_empty()
    }

    /// A task wants a lock.
    pub(super) fn enter(&self, request: &Request) -> Entered {
        let mut queues = self.queues();
        let tokens = match queues.by_key.get_mut(&request.key).and_then(VecDeque::back_mut) {
            Some(last) if last.takes(request) && last.members.len() + 1 < MOST as usize => {
                let seat = Seat::of(last.number);
                last.members.push_back(seat.clone());
                return Entered::Sits(seat);
            }
            Some(_) => MOST,
            None => 1,
        };
        let (lead, cohort) = queues.made(request, tokens, VecDeque::new());
        queues.by_key.entry(request.key.clone()).or_default().push_back(cohort);
        Entered::Leads(lead)
    }

    /// The claim that the leader asks with.
    pub(super) fn asks(&self, key: &Key, number: Number, hold: &Arc<Hold>) {
        if let Some(cohort) = self.queues().find(key, number) {
            cohort.claim = Some(Arc::downgrade(hold));
        }
    }

    /// The claim behind which a task has its seat, if there is one by now.
    pub(super) fn claim(&self, key: &Key, seat: &Arc<Seat>) -> Option<Weak<Hold>> {
        let mut queues = self.queues();
        queues.find(key, seat.number())?.claim.clone()
    }

    /// How many tasks wait behind a claim.
    pub(super) fn behind(&self, hold: &Hold) -> u32 {
        let queues = self.queues();
        let mut of_lock = queues.by_key.get(&hold.claim.key).into_iter().flatten();
        let its = |claim: &Weak<Hold>| std::ptr::eq(claim.as_ptr(), hold);
        let found = of_lock.find(|cohort| cohort.claim.as_ref().is_some_and(its));
        found.map_or(0, |cohort| u32::try_from(cohort.members.len()).unwrap_or(u32::MAX))
    }

    /// The leader's claim was granted: nobody joins any more. Says whether anybody waits.
    pub(super) fn close(&self, key: &Key, number: Number) -> bool {
        let mut queues = self.queues();
        let Some(cohort) = queues.find(key, number) else { return false };
        cohort.granted = true;
        if !cohort.members.is_empty() {
            return true;
        }
        queues.remove(key, number);
        false
    }

    /// Gives the hold to the next task, as the one that uses the token after `used` others. Says whether there was one.
    pub(super) fn pass(&self, key: &Key, number: Number, hold: &Arc<Hold>, used: u32) -> bool {
        let mut queues = self.queues();
        let Some(cohort) = queues.find(key, number) else { return false };
        let next = cohort.members.pop_front();
        if cohort.members.is_empty() {
            queues.remove(key, number);
        }
        let Some(next) = next else { return false };
        hold.use_tokens(used);
        let waker = next.give(Given::Hold(hold.clone(), used, number));
        drop(queues);
        wake(waker);
        true
    }

    /// The leader leaves, and leaves its claim if that is worth something. Says whether somebody took the lead.
    pub(super) fn succeed(&self, key: &Key, lead: Lead, hold: Option<Arc<Hold>>) -> bool {
        let mut queues = self.queues();
        let Some(cohort) = queues.find(key, lead.number) else { return false };
        let Some(next) = cohort.members.pop_front() else {
            queues.remove(key, lead.number);
            return false;
        };
        let waker = next.give(Given::Lead(lead, hold));
        drop(queues);
        wake(waker);
        true
    }

    /// The hold cannot be passed on, or is lost: its cohort goes before those that wait in the next one, or asks anew.
    pub(super) fn dissolve(&self, key: &Key, number: Number) {
        let mut queues = self.queues();
        let Some(Cohort { request, mut members, .. }) = queues.remove(key, number) else { return };
        let open = queues.by_key.get_mut(key).into_iter().flatten().find(|other| other.takes(&request));
        if let Some(open) = open {
            members.iter().for_each(|seat| seat.move_to(open.number));
            members.append(&mut open.members);
            open.members = members;
            return;
        }
        let Some(first) = members.pop_front() else { return };
        let (lead, cohort) = queues.made(&request, MOST, members);
        queues.by_key.entry(key.clone()).or_default().push_front(cohort);
        let waker = first.give(Given::Lead(lead, None));
        drop(queues);
        wake(waker);
    }

    /// The store refused the leader: all who asked the same are told the same.
    pub(super) fn refuse(&self, key: &Key, number: Number, error: &Error) {
        let Some(cohort) = self.queues().remove(key, number) else { return };
        for seat in cohort.members {
            wake(seat.give(Given::Refusal(error.again())));
        }
    }

    /// A task that waits does so no more. What it was given meanwhile is still with its seat.
    pub(super) fn leave(&self, key: &Key, seat: &Arc<Seat>) {
        let mut queues = self.queues();
        let Some(cohort) = queues.find(key, seat.number()) else { return };
        if let Some(at) = cohort.members.iter().position(|other| Arc::ptr_eq(other, seat)) {
            cohort.members.remove(at);
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        unharmed(|| waker.wake());
    }
}
