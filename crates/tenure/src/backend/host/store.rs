//! An open store: the mapping, this process's slot, and the locks of its shards.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use rustix::io::Errno;

use super::alarm::Alarm;
use super::bell::{Pushes, Sinks, Thread, Waiting};
use super::files::{Files, Looks};
use super::format::{self, Header, SHARDS, header};
use super::journal::{self, Journal, Room};
use super::lock::{Got, Lock, NotGot};
use super::map::{Map, Unmapped};
use super::patrol::Patrol;
use super::place::{Dir, refused};
use super::registry::Entry;
use super::shard::Shard;
use super::slots::{Slots, Who};
use super::watch::Watchers;
use super::{chunks, create, domain, faults, floor, lock, place};
use crate::core::line::{Lines, Now, Refusal};
use crate::domain::Domain;
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::runtime::fork::Birthplace;

/// How long a thread is blocked for an owner that lives and stays inside. Then it takes the lines elsewhere
/// (`rescue.rs`), so a stopped process delays nobody for longer; where that cannot be done, whoever is asynchronous
/// waits on without blocking ([`Halt`]).
pub(super) const BLOCKED: Duration = Duration::from_millis(10);
/// How long an owner that lives may stay inside a shard before others give up.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same for the ceiling, whose owner waits for the disk.
const PATIENCE_DISK: Duration = Duration::from_secs(10);
/// How often a verb raises the ceiling before it gives up. Each raise is a minute of tokens.
const RAISES: u32 = 8;
/// How often a verb begins anew because it was taken for stopped. Each time it was inside for [`BLOCKED`].
const MOVES: u32 = 100;

/// What clients hold. Dropping the last one ends the store's threads, and the last thread ends the store.
#[derive(Debug)]
pub(super) struct Store(pub(super) Arc<Inner>, pub(super) Thread);

impl Drop for Store {
    fn drop(&mut self) {
        if !self.0.born.left() {
            // What is still anchored to this process ends now, as it would with the process itself. Not later, when the
            // last thread drops the rest.
            if let Err(e) = self.0.reap(self.0.me) {
                tracing::warn!(error = %e, "claims of this process stay until their leases end");
            }
            self.0.stop.store(true, Release);
            self.0.ring_self();
            self.0.alarm.nudge();
            self.0.stop_watching();
            self.1.join();
        }
    }
}

/// Why a verb did not come to an end.
#[derive(Debug)]
pub(super) enum Halt {
    /// An owner that lives stays inside: nothing happened. Try again for as long as this, then the error.
    Stuck(Duration, Error),
    /// An error.
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Halt {
        Halt::Failed(error)
    }
}

impl From<Halt> for Error {
    fn from(halt: Halt) -> Error {
        let (Halt::Stuck(_, error) | Halt::Failed(error)) = halt;
        error
    }
}

/// Refuses a forked child.
pub(super) fn forked() -> Error {
    Error::config("this process is a fork of the one that opened the store", "connect again in the child")
}

/// The lines of a shard whose lock is held.
pub(super) type ShardLines<'a> = Lines<Journal<'a>>;

/// What a verb on the store gives.
pub(super) type Outcome<T> = Result<T, Halt>;

/// The store as its threads see it. Fields are dropped in this order: the files are closed before the registry lets
/// the directory be opened again.
pub(super) struct Inner {
    pub(super) map: Map,
    files: Arc<Files>,
    pub(super) header: Header,
    pub(super) me: Who,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) sinks: Sinks,
    pub(super) waiting: Waiting,
    /// Hints of this process's slot that were for earlier owners.
    pub(super) heard: u64,
    pub(super) alarm: Alarm,
    pub(super) watchers: Watchers,
    pub(super) patrol: Patrol,
    stop: AtomicBool,
    looks: Looks,
    /// Held by the thread that writes this process's floor.
    raising: Mutex<()>,
    pub(super) born: Birthplace,
    _entry: Entry,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.files.dir.path)
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Opens the store in `dir`, makes it where there is none, and takes a slot.
    pub(super) fn open(dir: Dir, entry: Entry, runtime: &Arc<dyn Runtime>) -> Result<Inner> {
        let (files, header) = Files::open(dir, &**runtime)?;
        let map = Map::new(files.store()).map_err(|e| {
            let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
            if matches!(errno, Errno::PERM | Errno::ACCESS | Errno::NOSYS) {
                return place::denied("mmap", errno);
            }
            refused(errno, "the store cannot be mapped", &files.dir.file(create::STORE))
        })?;
        lock::check_futex().map_err(|e| place::denied("futex", e))?;
        let (me, left) = Slots { map: &map, live: files.live(), store: files.store() }.take()?;
        let heard = map.words()[format::slot::head_w(me.slot())].load(Acquire);
        let inner = Inner {
            map,
            files: Arc::new(files),
            header,
            me,
            runtime: runtime.clone(),
            sinks: Sinks::default(),
            waiting: Waiting::default(),
            heard,
            alarm: Alarm::new()?,
            watchers: Watchers::default(),
            patrol: Patrol::default(),
            stop: AtomicBool::new(false),
            looks: Looks::default(),
            raising: Mutex::new(()),
            born: Birthplace::here(),
            _entry: entry,
        };
        if let Some(left) = left
            && let Err(e) = inner.reap(left)
        {
            tracing::warn!(error = %e, "claims that a dead process left behind stay until their leases end");
        }
        Ok(inner)
    }

    /// The table of process slots.
    pub(super) fn slots(&self) -> Slots<'_> {
        Slots { map: &self.map, live: self.files.live(), store: self.files.store() }
    }

    /// The directory, to show.
    pub(super) fn path(&self) -> &Path {
        &self.files.dir.path
    }

    /// Whether it outlives a reboot.
    pub(super) fn durable(&self) -> bool {
        self.files.dir.durable
    }

    /// Which order its tokens belong to.
    pub(super) fn domain(&self) -> Result<Domain> {
        if !self.durable() {
            return domain::of_machine();
        }
        self.check_place(self.runtime.now().nanos(), 0)?;
        domain::of_directory(&self.files.dir, self.files.live(), &*self.runtime)
    }

    /// Whether the last client is gone.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Acquire)
    }

    /// False once the store's files were removed or replaced: then no answer counts. Cached for a second. A grant with a
    /// token that a newer store could also give is never judged by the cache (0: no token).
    #[inline]
    pub(super) fn stands(&self, now: u64, token: i64) -> bool {
        self.looks.fresh(now, token) || self.look_now()
    }

    /// The same for a release. A removed store is noticed within a millisecond, so even a short hold learns that it was lost.
    #[inline]
    pub(super) fn stands_at_release(&self, now: u64) -> bool {
        self.looks.good_for_release(&self.files, now) || self.look_now()
    }

    /// The same, without a cache.
    pub(super) fn look_now(&self) -> bool {
        self.looks.look(&self.files, &*self.runtime)
    }

    /// Sets the times of the files, for cleaners that judge by age.
    pub(super) fn touch(&self) {
        self.files.touch();
    }

    /// Refuses a store whose files were removed or replaced under us.
    #[inline]
    pub(super) fn check_place(&self, now: u64, token: i64) -> Result<()> {
        if self.stands(now, token) {
            return Ok(());
        }
        Err(self.removed())
    }

    #[cold]
    fn removed(&self) -> Error {
        Error::unavailable(
            format!("the store in {} was removed while this process uses it", self.path().display()),
            "its locks exclude nobody any more: stop all programs that use it, and start them again",
        )
    }

    /// The clocks and the ceiling, for one step.
    fn now(&self) -> Now {
        Now {
            ns: self.runtime.now().nanos(),
            wall_us: self.runtime.wall_us(),
            ceiling: self.map.words()[header::CEILING_W].load(Acquire).cast_signed(),
        }
    }

    /// The shard of a key.
    pub(super) fn shard_of(&self, key: &[u8]) -> usize {
        format::shard_of(self.header.seed, key)
    }

    /// Locks a shard, undoes what a dead owner had begun in it, and takes it from an owner that lives and stays inside.
    #[inline]
    pub(super) fn lock(&self, number: usize) -> Outcome<Shard<'_>> {
        loop {
            let generation = self.generation(number);
            let mut shard = Shard::new(self, number, generation);
            match shard.lock().take(self.me, BLOCKED, |who| self.slots().alive(who, self.me)) {
                Ok(got) => shard.inherited = got != Got::Free,
                Err(not_got) => {
                    shard.left = true; // it was never ours
                    if not_got == NotGot::Moved {
                        self.advance(number, generation);
                    } else if self.rescue(number, generation) {
                        let generation = generation.wrapping_add(1);
                        let mut shard = Shard::new(self, number, generation);
                        shard.inherited = true;
                        return Ok(shard);
                    }
                    match not_got {
                        NotGot::Stuck(owner) if self.generation(number) == generation => {
                            return Err(Halt::Stuck(PATIENCE, self.stuck(owner)));
                        }
                        _ => continue,
                    }
                }
            }
            // The lines may have moved between the two looks: then nobody is to touch what is here.
            if self.generation(number) == generation {
                let cells = journal::limit(&self.map.words()[format::shard::cells_w(shard.area())]);
                self.reach(shard.area(), cells)?;
                journal::undo(&self.map, shard.area());
                return Ok(shard);
            }
            shard.let_go();
        }
    }

    pub(super) fn lock_of(&self, area: usize) -> Lock<'_> {
        Lock {
            word: &self.map.halves()[format::shard::lock_h(area)],
            turns: &self.map.words()[format::shard::turns_w(area)],
        }
    }

    fn stuck(&self, owner: Option<Who>) -> Error {
        let who = match owner {
            Some(who) if who == self.me => "another thread of this process".to_owned(),
            Some(who) => format!("process {}", self.slots().pid(who)),
            None => "somebody unknown".to_owned(),
        };
        Error::unavailable(
            format!("{who} stays inside the store in {} and lets nobody else in", self.path().display()),
            "it may be stopped: let it go on (kill -CONT), or kill it",
        )
    }

    /// Runs one verb on one shard, and passes on what it tells others. The clock is read under the lock, so that a
    /// shard's time never goes back. `run` is run again where a ceiling had to be raised, and
    /// where the lines were taken elsewhere meanwhile: what it did then may have happened or not.
    #[inline]
    pub(super) fn verb<T>(
        &self,
        shard: usize,
        mut run: impl FnMut(&mut Lines<Journal<'_>>, Now) -> Result<T, Refusal>,
    ) -> Outcome<(Result<T, Refusal>, Now)> {
        let (mut raises, mut moves) = (0, 0);
        while raises < RAISES && moves < MOVES {
            let mut pushes = Pushes::default();
            let locked = self.lock(shard)?;
            let now = self.now();
            let mut lines = locked.unopened();
            let result = locked.open(&mut lines).and_then(|()| {
                let result = run(&mut lines, now);
                pushes.collect(self, &mut lines, shard);
                result
            });
            drop(lines);
            let stands = locked.let_go();
            pushes.send(self);
            match result {
                _ if !stands => moves += 1,
                Err(Refusal::Ceiling(needed)) => {
                    self.raise(needed)?;
                    raises += 1;
                }
                result => return Ok((result, now)),
            }
        }
        if moves == MOVES {
            let what = "this process is so slow that others take it for stopped, again and again";
            return Err(Error::unavailable(what, "give it more of the processor").into());
        }
        Err(Error::protocol("the token ceiling is never high enough", "this is a bug: please report it")
            .into())
    }

    /// Raises the ceiling of tokens above `needed`, on disk first. One process does it for all; but where it takes longer
    /// than a thread may be blocked, another one does it as well, since the first may be stopped.
    fn raise(&self, needed: i64) -> Outcome<()> {
        let lock =
            Lock { word: &self.map.halves()[header::RAISING_H], turns: &self.map.words()[header::RAISED_W] };
        let alone = lock.take(self.me, BLOCKED, |who| self.slots().alive(who, self.me)).is_ok();
        let own = self.raising.try_lock();
        let result = if matches!(own, Err(TryLockError::WouldBlock)) {
            // Another thread of this process is at it. It is not stopped, since this one is not.
            Err(Halt::Stuck(PATIENCE_DISK, self.stuck(Some(self.me))))
        } else {
            self.raise_now(needed).map_err(Halt::from)
        };
        if alone {
            let _ = lock.let_go(); // these words are in no area
        }
        result
    }

    fn raise_now(&self, needed: i64) -> Result<()> {
        let ceiling = &self.map.words()[header::CEILING_W];
        if ceiling.load(Acquire).cast_signed() > needed {
            return Ok(()); // somebody else was faster
        }
        if !self.look_now() {
            return Err(self.removed()); // the floor there, if any, is that of others
        }
        let floor = floor::raise(&self.files.dir, self.me.slot(), needed, self.runtime.wall_us())?;
        // Never lower than what somebody else has reached meanwhile.
        ceiling.fetch_max(floor.unsigned_abs(), AcqRel);
        faults::point();
        Ok(())
    }

    /// Removes everything that a dead process left behind, in all shards, once.
    pub(super) fn reap(&self, who: Who) -> Result<u32> {
        if self.slots().reaped(who) {
            return Ok(0);
        }
        let (mut reaped, mut failed) = (0, None);
        for shard in (0..SHARDS).filter(|&shard| self.used(shard)) {
            match self.verb(shard, |lines, now| lines.reap(who.raw(), now)) {
                Ok((Ok(n), _)) => reaped += n,
                Ok((Err(refusal), _)) => failed = Some(self.refused(refusal)),
                Err(halt) => failed = Some(halt.into()),
            }
        }
        // It may have died after a commit and before telling those whom it granted something.
        self.ring_all();
        self.changed(self.runtime.now().nanos());
        match failed {
            Some(e) => Err(e),
            None => {
                self.slots().set_reaped(who);
                Ok(reaped)
            }
        }
    }

    /// Whether anything ever happened in a shard: looking at the others would only cost memory.
    pub(super) fn used(&self, shard: usize) -> bool {
        let area = format::area(shard, self.generation(shard));
        area >= SHARDS // its lines have moved
            || self.map.words()[format::first_word(area)].load(Relaxed) != 0
            || self.map.halves()[format::shard::lock_h(area)].load(Relaxed) != 0
    }

    /// What a refusal means that no caller can cause.
    pub(super) fn refused(&self, refusal: Refusal) -> Error {
        Error::protocol(
            format!("the store in {} is damaged ({refusal:?})", self.path().display()),
            "stop all programs that use it, remove it, and start them again",
        )
    }
}

impl Inner {
    /// The mapped file.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.files.store()
    }

    /// Maps the cells of an area that others may have added.
    #[inline]
    pub(super) fn reach(&self, area: usize, cells: usize) -> Result<()> {
        self.map.follow(self.file(), area, cells).map_err(|why| self.unmapped(why))
    }

    #[cold]
    fn unmapped(&self, why: Unmapped) -> Error {
        match why {
            Unmapped::Damaged => self.refused(Refusal::Corrupt),
            Unmapped::Refused(e) => {
                refused(e, "the store cannot be mapped", &self.files.dir.file(create::STORE))
            }
        }
    }
}

impl Room for Inner {
    fn make_chunk(&self, area: usize, chunk: usize) -> bool {
        let words = self.map.words();
        let place = &words[format::shard::chunk_w(area, chunk)];
        // One that was made and never used: its maker was killed, or could not map it.
        if place.load(Acquire) == 0 {
            let Ok(at) = create::append(self.file(), &words[header::END_W], chunks::bytes(chunk)) else {
                return false;
            };
            faults::point();
            place.store(at, Release);
            faults::point();
        }
        self.reach(area, chunks::start(chunk + 1)).is_ok()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.born.left() {
            // A forked child leaves the files open: closing its copy of `live` would drop the byte locks that the
            // child itself may have there by now.
            std::mem::forget(self.files.clone());
        }
    }
}
