//! The open files of a store, and whether others find them where we did.
//!
//! Files that are removed or moved away while they are used leave two groups: those who have the old ones open, and
//! those who find others, or none, in their place. A store that has only lost its `store` file is not built anew while
//! anybody of the old group lives. Where the whole directory went, the newcomers cannot know of the old group, so both
//! may grant the same lock until the old group notices. What is kept even then is the order of tokens:
//!
//! - the old group gives nothing more than a second after its last good look at the files;
//! - a new store starts two seconds ahead of the clock, so above every token that the old group can still give;
//! - a token that is further ahead of the clock than a second (as in the first moments of a store) is given only
//!   after a look that was made for it, so before the files went.
//!
//! So whatever checks tokens lets in the one group or the other, and never both in turn.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW};

use super::create::{self, Found};
use super::format::Header;
use super::place::{Dir, FileId, refused};
use crate::error::{Error, Result};
use crate::runtime::Runtime;

/// For how long a look is good, in ns of the boot clock.
const GOOD_NS: u64 = 1_000_000_000;
/// For how long a release may rely on a look, if the files still exist.
const RECENT_NS: u64 = 500_000_000;
/// For how long a release may rely on a look, or on the files having existed, without asking again.
const BRAND_NEW_NS: u64 = 1_000_000;
/// The same in µs, of which tokens are made.
const GOOD_US: i64 = 1_000_000;
/// How far ahead of the clock a new store starts, in µs.
pub(super) const AHEAD_US: i64 = 2 * GOOD_US;

/// The open files.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) dir: Dir,
    live: OwnedFd,
    store: OwnedFd,
    /// Which files these are, for as long as they are open.
    live_id: FileId,
    store_id: FileId,
}

impl Files {
    /// Whether a directory has a store of this boot; its files are as they must be then.
    pub(super) fn present(dir: &Dir) -> Result<bool> {
        dir.open_file(create::LIVE, false)?;
        Ok(matches!(create::find(dir, create::boot_id()?)?, Found::Good(..)))
    }

    /// Opens the directory's files, and makes the store if there is none. They are the ones that other processes find.
    pub(super) fn open(mut dir: Dir, runtime: &dyn Runtime) -> Result<(Files, Header)> {
        for _ in 0..100 {
            let Some(live) = dir.open_file(create::LIVE, true)? else { continue };
            let (store, header) = create::open(&dir, live.as_fd(), runtime)?;
            let id = |file: &OwnedFd| {
                FileId::of(file.as_fd())
                    .map_err(|e| refused(e, "the store's files cannot be looked at", &dir.path))
            };
            let (live_id, store_id) = (id(&live)?, id(&store)?);
            let files = Files { dir, live, store, live_id, store_id };
            if files.in_place() {
                return Ok((files, header));
            }
            dir = files.dir;
        }
        Err(Error::unavailable(
            format!("the store in {} is being removed all the time", dir.path.display()),
            "find out by whom",
        ))
    }

    /// The file on whose bytes every process of the directory has its locks.
    pub(super) fn live(&self) -> BorrowedFd<'_> {
        self.live.as_fd()
    }

    /// The mapped file.
    pub(super) fn store(&self) -> BorrowedFd<'_> {
        self.store.as_fd()
    }

    /// Sets their times to now.
    pub(super) fn touch(&self) {
        let now = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        for file in [self.live.as_fd(), self.store.as_fd(), self.dir.fd.as_fd()] {
            // A file system that cannot do it has no ages to judge by.
            let _ = rustix::fs::futimens(file, &now);
        }
    }

    fn in_place(&self) -> bool {
        self.dir.is_here()
            && self.dir.is_still(create::STORE, self.store_id)
            && self.dir.is_still(create::LIVE, self.live_id)
    }
}

/// When this process last saw its files in their place.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Until when that is good enough, in ns of the boot clock.
    until: AtomicU64,
    /// Up to which token.
    tokens: AtomicI64,
    /// Until when a release need not ask again whether the files were removed.
    linked: AtomicU64,
}

impl Looks {
    /// Whether the last look is good enough for a grant of this token.
    #[inline]
    pub(super) fn fresh(&self, now: u64, token: i64) -> bool {
        // Each of the two is by itself what a look has shown: it does not matter if they are of different looks.
        now < self.until.load(Relaxed) && token <= self.tokens.load(Relaxed)
    }

    /// Whether a release counts without a look, which costs three lookups of paths: more than the rest of a hand-over. Removing
    /// a store removes its files, and one of them is open here: asking about that costs little. That the store was moved is
    /// noticed by the next look, within half a second.
    #[inline]
    pub(super) fn good_for_release(&self, files: &Files, now: u64) -> bool {
        let looked = self.until.load(Relaxed);
        let since_look = now.saturating_add(GOOD_NS).saturating_sub(looked);
        since_look < BRAND_NEW_NS
            || now < self.linked.load(Relaxed)
            || (since_look < RECENT_NS && self.linked(files, now))
    }

    #[cold]
    fn linked(&self, files: &Files, now: u64) -> bool {
        let linked = rustix::fs::fstat(&files.live).is_ok_and(|stat| stat.st_nlink > 0);
        if linked {
            self.linked.store(now.saturating_add(BRAND_NEW_NS), Relaxed);
        }
        linked
    }

    /// Looks. Also good for what was done before.
    #[cold]
    pub(super) fn look(&self, files: &Files, runtime: &dyn Runtime) -> bool {
        // Read before the look: a store that is built after it begins later than this.
        let (now, wall) = (runtime.now().nanos(), runtime.wall_us());
        let there = files.in_place();
        let tokens = i64::try_from(wall).unwrap_or(i64::MAX).saturating_add(GOOD_US);
        self.until.store(if there { now.saturating_add(GOOD_NS) } else { 0 }, Relaxed);
        self.tokens.store(if there { tokens } else { i64::MIN }, Relaxed);
        there
    }
}
