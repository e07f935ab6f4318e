//! Tells watchers that some line changed.
//!
//! Verbs count changes in the header, but only while somebody watches: the counter is one word that every process
//! would otherwise fight for. That somebody watches is a point in time in the header which watchers keep pushing ahead,
//! so a watcher that was killed costs the others a few seconds of counting.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::time::Duration;

use rustix::thread::futex;

use super::format::header;
use super::store::Inner;
use crate::backend::News;

/// How far ahead a watcher says that it watches, in ns, and how often it says so.
const AHEAD: u64 = 5_000_000_000;
const AGAIN: futex::Timespec = futex::Timespec { tv_sec: 1, tv_nsec: 0 };
/// Changes within this time are one piece of news.
const TOGETHER: Duration = Duration::from_millis(10);

/// The watching clients of this process.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    count: AtomicUsize,
    /// Which thread is the present one: an older one ends.
    round: AtomicU32,
}

impl Inner {
    /// Counts a change, if somebody watches.
    #[inline]
    pub(super) fn changed(&self, now: u64) {
        if self.map.words()[header::WATCHED_W].load(Relaxed) > now {
            self.tell_watchers();
        }
    }

    #[cold]
    fn tell_watchers(&self) {
        let halves = self.map.halves();
        halves[header::CHANGES_H].fetch_add(1, SeqCst);
        if halves[header::ASLEEP_H].swap(0, SeqCst) != 0 {
            let all = u32::MAX >> 1;
            let _ = futex::wake(&halves[header::CHANGES_H], futex::Flags::empty(), all);
        }
    }

    /// One client more, or one less, wants news of changes.
    pub(super) fn watch(self: &Arc<Inner>, on: bool) {
        if !on {
            if self.watchers.count.fetch_sub(1, AcqRel) == 1 {
                self.watchers.round.fetch_add(1, AcqRel);
                self.tell_watchers();
            }
            return;
        }
        self.push_ahead();
        if self.watchers.count.fetch_add(1, AcqRel) == 0 {
            let round = self.watchers.round.fetch_add(1, AcqRel) + 1;
            let store = self.clone();
            let thread = std::thread::Builder::new().name("tenure-watch".into());
            if let Err(e) = thread.spawn(move || run(&store, round)) {
                tracing::warn!(error = %e, "no thread for news of changes");
            }
        }
    }

    /// Ends the watching thread of a store that is being closed.
    pub(super) fn stop_watching(&self) {
        self.watchers.round.fetch_add(1, AcqRel);
        self.tell_watchers();
    }

    fn push_ahead(&self) {
        let until = self.runtime.now().nanos().saturating_add(AHEAD);
        self.map.words()[header::WATCHED_W].fetch_max(until, AcqRel);
    }
}

fn run(store: &Inner, round: u32) {
    let halves = store.map.halves();
    let changes = &halves[header::CHANGES_H];
    let mut seen = changes.load(SeqCst);
    // Whatever changed before this thread began to count.
    store.sinks.tell(None, &News::Changed);
    while store.watchers.round.load(Acquire) == round {
        store.push_ahead();
        halves[header::ASLEEP_H].store(1, SeqCst);
        if changes.load(SeqCst) == seen {
            let _ = futex::wait(changes, futex::Flags::empty(), seen, Some(&AGAIN));
        }
        let now = changes.load(SeqCst);
        if now != seen && store.watchers.round.load(Acquire) == round {
            seen = now;
            store.sinks.tell(None, &News::Changed);
            std::thread::sleep(TOGETHER);
        }
    }
}
