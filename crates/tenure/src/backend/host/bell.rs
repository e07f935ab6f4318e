//! Push: how a waiting claim learns of its turn.
//!
//! Whoever grants something to a claim of another process leaves a hint in that process's slot (a claim's id in a ring)
//! and rings its bell, a futex on which that process's bell thread sleeps. A hint is only a hint: the thread looks the
//! claim up under the shard's lock, since a grant that is peeked at may still be undone. A hint that was lost, because
//! the ring ran over or its writer was killed half-way, makes the thread look at every waiting claim, or costs
//! `look_again` at most.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::ThreadId;
use std::time::Duration;

use rustix::thread::futex;

use super::faults;
use super::format::{RING, SHARDS, slot};
use super::journal::Journal;
use super::patrol::Round;
use super::slots::Who;
use super::store::Inner;
use crate::backend::{ClaimId, News, Sink, Standing, local};
use crate::core::line::{Event, Lines, NO_SLOT, Now, Place};
use crate::error::{Error, Result};

/// How many claims are looked up under one hold of a shard's lock.
const LOOKUPS: usize = 64;
/// How long the last client waits for the store's thread to end. It may be in a callback that waits for this one.
const JOIN: Duration = Duration::from_millis(100);

/// The clients of a store in this process.
#[derive(Default)]
pub(super) struct Sinks {
    next: AtomicU64,
    all: RwLock<HashMap<u64, Arc<dyn Sink>>>,
}

impl Sinks {
    /// Adds a client, and gives it a number.
    pub(super) fn add(&self, sink: Arc<dyn Sink>) -> u64 {
        let number = self.next.fetch_add(1, Relaxed);
        self.all.write().unwrap_or_else(PoisonError::into_inner).insert(number, sink);
        number
    }

    /// Removes a client.
    pub(super) fn remove(&self, number: u64) {
        let gone = self.all.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
        drop(gone); // outside the lock: it may be the last handle to more
    }

    /// Tells one client, or all.
    pub(super) fn tell(&self, client: Option<u64>, news: &News) {
        let known = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let sinks: Vec<Arc<dyn Sink>> = match client {
            Some(number) => known.get(&number).into_iter().cloned().collect(),
            None => known.values().cloned().collect(),
        };
        drop(known);
        for sink in sinks {
            // A client that panics must not end the push of all others.
            if catch_unwind(AssertUnwindSafe(|| sink.news(news.clone()))).is_err() {
                tracing::error!("a client panicked on news");
            }
        }
    }
}

/// A claim of this process that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    /// The shard of its lock.
    pub(super) shard: usize,
    /// Its lease once granted, in ns.
    pub(super) ttl: u64,
    /// Its client's number.
    pub(super) client: u64,
}

/// The claims of this process that wait. Filled while the shard's lock is held, so that no grant can come before.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    claims: Mutex<HashMap<u128, Waiter>>,
    count: AtomicUsize,
}

impl Waiting {
    fn claims(&self) -> MutexGuard<'_, HashMap<u128, Waiter>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, id: u128, waiter: Waiter) {
        let mut claims = self.claims();
        claims.insert(id, waiter);
        self.count.store(claims.len(), Release);
    }

    pub(super) fn remove(&self, id: u128) {
        if self.is_empty() {
            return;
        }
        let mut claims = self.claims();
        claims.remove(&id);
        self.count.store(claims.len(), Release);
    }

    /// Forgets the claims of a client that is gone.
    pub(super) fn remove_client(&self, client: u64) {
        let mut claims = self.claims();
        claims.retain(|_, w| w.client != client);
        self.count.store(claims.len(), Release);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Acquire) == 0
    }

    fn get(&self, id: u128) -> Option<Waiter> {
        if self.is_empty() { None } else { self.claims().get(&id).copied() }
    }

    fn all(&self) -> Vec<(u128, Waiter)> {
        self.claims().iter().map(|(id, w)| (*id, *w)).collect()
    }
}

/// News for one client, or for all.
type Letter = (Option<u64>, News);

/// What one verb has to tell, collected under the shard's lock and sent after it.
#[derive(Default)]
pub(super) struct Pushes {
    own: Vec<Letter>,
    others: Vec<(u32, Hint)>,
}

/// What is left for another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hint {
    id: u128,
    shard: usize,
    evicted: bool,
}

impl Pushes {
    /// Takes the events of a verb. Own claims are looked up at once; the step is committed and the lock still held.
    #[inline]
    pub(super) fn collect(&mut self, store: &Inner, lines: &mut Lines<Journal<'_>>, shard: usize) {
        let events = lines.drain_events();
        if events.len() == 0 {
            return;
        }
        let events: Vec<Event> = events.collect();
        for event in events {
            let (id, slot, evicted) = match event {
                Event::Granted { id, slot } => (id, slot, false),
                Event::Evicted { id, slot } => (id, slot, true),
            };
            let hint = Hint { id, shard, evicted };
            match store.waiting.get(id) {
                Some(waiter) => self.own.extend(store.news(lines, id, &waiter)),
                None if evicted && slot == store.me.raw() => self.own.extend(eviction(lines, id)),
                None => self.others.push((slot, hint)),
            }
        }
    }

    /// Sends them.
    pub(super) fn send(self, store: &Inner) {
        for (slot, hint) in self.others {
            match Who::from_raw(slot).filter(|_| slot != NO_SLOT) {
                Some(who) if who == store.me => {}
                Some(who) => store.ring(who, hint),
                // Anchored to time, and so nobody's: but somebody may wait for it.
                None => {
                    store.slots().all().filter(|who| *who != store.me).for_each(|who| store.ring(who, hint))
                }
            }
        }
        for (client, news) in self.own {
            store.sinks.tell(client, &news);
        }
    }
}

/// What there is to tell about a claim that was taken away.
fn eviction(lines: &Lines<Journal<'_>>, id: u128) -> Option<Letter> {
    match lines.peek(id) {
        Place::Gone { why } => Some((None, News::Gone(ClaimId(id), why))),
        _ => None,
    }
}

impl Inner {
    /// What there is to tell about a waiting claim. It waits no more if there is anything.
    fn news(&self, lines: &Lines<Journal<'_>>, id: u128, waiter: &Waiter) -> Option<Letter> {
        let place = lines.peek(id);
        if let Place::Held { token, .. } = place
            && !self.stands(self.runtime.now().nanos(), token)
        {
            self.waiting.remove(id);
            return Some((Some(waiter.client), News::Removed(ClaimId(id))));
        }
        // A grant was given a whole lease before the end of it.
        let at = if let Place::Held { end, .. } = place { end.saturating_sub(waiter.ttl) } else { 0 };
        let answer = local::answer(place, Now { ns: at, wall_us: 0, ceiling: 0 });
        let news = match answer.standing {
            Standing::Held(grant) => News::Granted(ClaimId(id), grant, at),
            Standing::Gone { why } => News::Gone(ClaimId(id), why),
            Standing::Removed => News::Removed(ClaimId(id)),
            Standing::Waiting { .. } | Standing::Busy => return None,
        };
        self.waiting.remove(id);
        Some((Some(waiter.client), news))
    }

    /// Leaves a hint for a process and wakes it.
    fn ring(&self, who: Who, hint: Hint) {
        let (words, slot) = (self.map.words(), who.slot());
        let n = words[slot::head_w(slot)].fetch_add(1, AcqRel);
        faults::point();
        let at = slot::hint_w(slot, n);
        #[allow(clippy::cast_possible_truncation)] // both halves
        let (low, high) = (hint.id as u64, (hint.id >> 64) as u64);
        words[at + 1].store(low, Relaxed);
        words[at + 2].store(high, Relaxed);
        words[at].store(tag(n, hint.shard, hint.evicted), Release);
        faults::point();
        self.wake(slot, false);
    }

    /// Wakes every process, and makes it look at all its waiting claims.
    pub(super) fn ring_all(&self) {
        for who in self.slots().all() {
            self.map.halves()[slot::all_h(who.slot())].store(1, Release);
            self.wake(who.slot(), true);
        }
    }

    /// Wakes this process's own bell thread.
    pub(super) fn ring_self(&self) {
        self.wake(self.me.slot(), true);
    }

    fn wake(&self, slot: u32, certainly: bool) {
        let halves = self.map.halves();
        let bell = &halves[slot::bell_h(slot)];
        bell.fetch_add(1, SeqCst);
        faults::point();
        // The sleeper says that it sleeps and then looks at the bell; we ring and then look whether it sleeps. Only the
        // sleeper takes that word back: were we to do it and be killed before the wake-up, nobody would wake it again.
        if certainly || halves[slot::asleep_h(slot)].load(SeqCst) != 0 {
            let _ = futex::wake(bell, futex::Flags::empty(), 1);
        }
    }

    /// The bell thread's hint number `n`; `None` where it is not what was written.
    fn hint(&self, n: u64) -> Option<Hint> {
        let words = self.map.words();
        let at = slot::hint_w(self.me.slot(), n);
        let before = words[at].load(Acquire);
        let id = u128::from(words[at + 1].load(Relaxed)) | u128::from(words[at + 2].load(Relaxed)) << 64;
        fence(Acquire);
        let after = words[at].load(Relaxed);
        let shard = usize::try_from(before >> 1 & SHARDS_MASK).unwrap_or(0);
        let hint = Hint { id, shard, evicted: before & 1 == 1 };
        (before == after && before == tag(n, hint.shard, hint.evicted)).then_some(hint)
    }

    /// Follows a hint.
    fn follow(&self, hint: Hint) {
        match self.waiting.get(hint.id) {
            Some(waiter) => self.look(vec![(hint.id, waiter)], false),
            None if hint.evicted => {
                let letter = self.lock(hint.shard).ok().and_then(|shard| {
                    let letter = eviction(&shard.lines().ok()?, hint.id);
                    letter.filter(|_| shard.let_go())
                });
                if let Some((client, news)) = letter {
                    self.sinks.tell(client, &news);
                }
            }
            None => {}
        }
    }

    /// Looks claims up under their shards' locks, and tells their clients. With `ask`, those that are first in line
    /// and still wait are told to ask again: a process that was killed between the steps of a verb may have made room
    /// and granted it to nobody.
    fn look(&self, mut claims: Vec<(u128, Waiter)>, ask: bool) {
        claims.sort_unstable_by_key(|(_, waiter)| waiter.shard);
        for chunk in claims.chunk_by(|a, b| a.1.shard == b.1.shard).flat_map(|same| same.chunks(LOOKUPS)) {
            let Some((_, first)) = chunk.first() else { continue };
            let found: Option<Vec<Letter>> = self.lock(first.shard).ok().and_then(|shard| {
                let lines = shard.lines().ok()?;
                let letter = |(id, waiter): &(u128, Waiter)| {
                    self.news(&lines, *id, waiter).or_else(|| {
                        let first = ask && matches!(lines.peek(*id), Place::Waiting { ahead: 0, .. });
                        first.then_some((Some(waiter.client), News::Look(ClaimId(*id))))
                    })
                };
                let letters = chunk.iter().filter_map(letter).collect();
                drop(lines);
                shard.let_go().then_some(letters)
            });
            // A shard that cannot be locked now, or was taken from us: its claims ask again by themselves.
            for (client, news) in found.unwrap_or_default() {
                self.sinks.tell(client, &news);
            }
        }
    }
}

const SHARDS_MASK: u64 = SHARDS as u64 - 1;

/// The word that makes hint `n` valid: its number, the shard, and whether it is about an eviction.
fn tag(n: u64, shard: usize, evicted: bool) -> u64 {
    (n + 1) << (1 + SHARDS.trailing_zeros()) | (shard as u64) << 1 | u64::from(evicted)
}

/// A thread of the store that is started by the first who needs it: most processes never wait.
#[derive(Debug, Default)]
pub(super) struct Lazy(AtomicBool);

impl Lazy {
    /// Starts the thread, if it does not run yet.
    pub(super) fn start(&self, store: &Arc<Inner>, name: &str, run: fn(&Arc<Inner>)) {
        if self.0.load(Relaxed) || self.0.swap(true, AcqRel) {
            return;
        }
        let own = store.clone();
        if let Err(e) = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&own)) {
            self.0.store(false, Release);
            tracing::warn!(error = %e, name, "no thread: waiting claims look again by themselves");
        }
    }
}

/// The store's thread, seen from outside.
#[derive(Debug)]
pub(super) struct Thread {
    id: ThreadId,
    /// Disconnected once the thread has let go of the store.
    ended: Mutex<Receiver<()>>,
}

impl Thread {
    /// Starts it: it receives pushes for this process, and watches over the files (`patrol.rs`).
    ///
    /// # Errors
    /// No thread can be started. Then nobody would notice that a lock is lost, so the store cannot be used.
    pub(super) fn start(store: &Arc<Inner>) -> Result<Thread> {
        let own = store.clone();
        let (end, ended) = channel::<()>();
        let run = move || {
            run(&own);
            drop(own);
            drop(end);
        };
        match std::thread::Builder::new().name("tenure-bell".to_owned()).spawn(run) {
            Ok(handle) => Ok(Thread { id: handle.thread().id(), ended: Mutex::new(ended) }),
            Err(e) => Err(Error::unavailable(
                "the store's thread cannot be started",
                "allow this process more threads (ulimit -u, pids.max, a seccomp profile that forbids clone3)",
            )
            .because(e)),
        }
    }

    /// Waits for a moment until it has ended, so that the store is closed when its last client is dropped.
    pub(super) fn join(&self) {
        if std::thread::current().id() != self.id {
            let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = ended.recv_timeout(JOIN);
        }
    }
}

/// The store's thread.
fn run(store: &Arc<Inner>) {
    let (words, halves, slot) = (store.map.words(), store.map.halves(), store.me.slot());
    let (bell, asleep, all) =
        (&halves[slot::bell_h(slot)], &halves[slot::asleep_h(slot)], &halves[slot::all_h(slot)]);
    let head = &words[slot::head_w(slot)];
    let (mut tail, mut round) = (store.heard, Round::new(store.runtime.now()));
    while !store.stopped() {
        let rung = bell.load(SeqCst);
        let mut everything = all.swap(0, AcqRel) != 0;
        loop {
            let written = head.load(Acquire);
            if written == tail {
                break;
            }
            match store.hint(tail).filter(|_| written.wrapping_sub(tail) <= RING) {
                Some(hint) => store.follow(hint),
                None => {
                    everything = true;
                    tail = written;
                    continue;
                }
            }
            tail += 1;
        }
        if everything {
            store.look(store.waiting.all(), true);
        }
        asleep.store(1, SeqCst);
        if bell.load(SeqCst) == rung && !store.stopped() {
            let _ = futex::wait(bell, futex::Flags::empty(), rung, store.doze());
        }
        asleep.store(0, SeqCst);
        store.awake(&mut round);
    }
}
