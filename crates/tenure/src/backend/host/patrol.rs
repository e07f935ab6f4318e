//! Notices that the store's files were removed while this process holds or waits for something, and tells its clients.
//!
//! Verbs check the files by themselves, but an idle holder calls no verb until its next renewal. So the store's thread
//! looks at the files a few times a second for as long as a lease of this process may be running. When they are gone,
//! it reports every claim of this process as lost. It also keeps the files young, because cleaners of temporary files
//! judge by age.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use rustix::thread::futex;

use super::format::SHARDS;
use super::store::Inner;
use crate::backend::{ClaimId, News};
use crate::core::moment::{Moment, nanos};

/// How often to look.
const EVERY: Duration = Duration::from_millis(250);
const EVERY_FUTEX: futex::Timespec = futex::Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
/// A lease moves the end of the patrol in steps of this size, so that most verbs write nothing.
const STEP_NS: u64 = 1_000_000_000;
/// How often the files' times are set. The shortest age limits of cleaners are hours.
const TOUCH: Duration = Duration::from_mins(30);

/// Whether anything of this process needs the files to be there.
#[derive(Debug, Default)]
pub(super) struct Patrol {
    /// When the last lease ends that this process knows of, in ns of the boot clock.
    until: AtomicU64,
    /// The store's thread sleeps without a timeout.
    dozing: AtomicBool,
}

/// What the store's thread remembers between two looks.
#[derive(Debug)]
pub(super) struct Round {
    looked: Moment,
    touched: Moment,
    told: bool,
}

impl Round {
    pub(super) fn new(now: Moment) -> Round {
        Round { looked: now, touched: now, told: false }
    }
}

impl Inner {
    /// A claim of this process holds or waits, with a lease of this length.
    #[inline]
    pub(super) fn keep_patrol(&self, now: u64, lease: Duration) {
        let end = now.saturating_add(nanos(lease));
        if end > self.patrol.until.load(SeqCst) {
            self.extend_patrol(end);
        }
    }

    #[cold]
    fn extend_patrol(&self, end: u64) {
        self.patrol.until.fetch_max(end.saturating_add(STEP_NS), SeqCst);
        // The thread says that it dozes and then looks at `until`; here it is the other way round.
        if self.patrol.dozing.load(SeqCst) {
            self.ring_self();
        }
    }

    /// For how long the store's thread may sleep: `None` is without an end. Followed by [`awake`](Inner::awake).
    pub(super) fn doze(&self) -> Option<&'static futex::Timespec> {
        self.patrol.dozing.store(true, SeqCst);
        let needed = self.patrol.until.load(SeqCst) > self.runtime.now().nanos();
        needed.then_some(&EVERY_FUTEX)
    }

    /// Does what is due after a sleep.
    pub(super) fn awake(&self, round: &mut Round) {
        self.patrol.dozing.store(false, SeqCst);
        let now = self.runtime.now();
        let needed = self.patrol.until.load(SeqCst) > now.nanos();
        if !needed || now.since(round.looked) < EVERY {
            return;
        }
        round.looked = now;
        if self.look_now() {
            round.told = false;
            if now.since(round.touched) >= TOUCH {
                round.touched = now;
                self.touch();
            }
        } else if !round.told {
            round.told = self.tell_removed();
        }
    }

    /// Tells this process's clients that all their claims are lost. False: some could not be looked up yet.
    fn tell_removed(&self) -> bool {
        tracing::error!(path = %self.path().display(), "the store was removed: every lock in it is lost");
        let mut all = true;
        for number in (0..SHARDS).filter(|&number| self.used(number)) {
            let found = self.lock(number).ok().and_then(|shard| {
                let ids = shard.lines().ok()?.anchored(self.me.raw());
                shard.let_go().then_some(ids)
            });
            all &= found.is_some();
            for id in found.into_iter().flatten() {
                self.waiting.remove(id);
                self.sinks.tell(None, &News::Removed(ClaimId(id)));
            }
        }
        all
    }
}
