//! Many locks at once, all or nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::backend::{Owner, Previous};
use crate::engine::{Patience, TRY_PATIENCE};
use crate::error::{Error, ErrorKind, Lost, Result};
use crate::guard::Guard;
use crate::key::Key;
use crate::locks::Locks;
use crate::mutex::Mutex;
use crate::options::LockOptions;
use crate::runtime::{join_all, race, unless};
use crate::token::Token;

/// The most names that one [`MultiMutex`] takes.
pub const NAMES_MAX: usize = 1000;

impl Locks {
    /// The mutexes of all these names, taken together: all or nothing.
    ///
    /// # Errors
    /// `Config` for a bad name, a repeated name, no name, and more than 1,000 names; `Unsupported` as
    /// [`mutex`](Locks::mutex).
    pub fn multi<I>(&self, names: I) -> Result<MultiMutex>
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        let mut sorted = BTreeMap::new();
        for name in names {
            let mutex = self.mutex(name)?;
            if sorted.len() == NAMES_MAX {
                let what = format!("more than {NAMES_MAX} names are given");
                return Err(Error::config(what, format!("use at most {NAMES_MAX}, or one lock for all")));
            }
            if let Some(twice) = sorted.insert(mutex.key().clone(), mutex) {
                return Err(Error::config("the name is given twice", "give each name once").of(twice.key()));
            }
        }
        if sorted.is_empty() {
            return Err(Error::config("no name is given", "give at least one"));
        }
        Ok(MultiMutex { mutexes: sorted.into_values().collect() })
    }
}

/// Many mutexes that are taken together, all or nothing. Made by [`Locks::multi`]; cheap to clone.
///
/// Two of these cannot deadlock: the names are taken in the same order everywhere, so a holder of some names waits only for a
/// name that comes later in that order. Code that takes several of the locks one by one must take them in the order of their
/// names.
///
/// It asks for all free names at the same time, so on a remote store all of them together cost about one round trip. If some are
/// busy, it keeps those before the first busy one, releases those after it, waits in line for the busy one, and continues when
/// that one is granted.
///
/// ```
/// # fn main() -> tenure::Result<()> {
/// let locks = tenure::Locks::memory();
/// let guard = locks.multi(["account/7", "account/3"])?.blocking_lock()?;
/// guard.check()?; // of all of them
/// assert!(guard.token("account/3").is_some());
/// guard.blocking_release()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct MultiMutex {
    /// By name, ascending.
    mutexes: Vec<Mutex>,
}

impl MultiMutex {
    /// The same locks, taken with other options.
    ///
    /// # Errors
    /// Those of [`Mutex::with`].
    pub fn with(self, options: LockOptions) -> Result<MultiMutex> {
        let mutexes = self.mutexes.into_iter().map(|m| m.with(options.clone())).collect::<Result<_>>()?;
        Ok(MultiMutex { mutexes })
    }

    /// The names, in the order in which they are taken.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.mutexes.iter().map(Mutex::key)
    }

    /// Waits until all locks are granted.
    ///
    /// # Errors
    /// Those of [`Mutex::lock`], for the lock that the error names.
    ///
    /// # Cancel safety
    /// Dropping the future releases, in the background, whatever was granted until then. No claim stays in any line.
    ///
    /// # On drop
    /// Dropping the guard releases all locks in the background. [`MultiGuard::release`] tells whether they were still ours.
    ///
    /// # When the answer is lost
    /// The request for each lock is repeated under the same claim id, so a grant whose answer was lost is found again.
    pub async fn lock(&self) -> Result<MultiGuard> {
        loop {
            // `None` only where a patience ran out, and there is none.
            if let Some(guard) = self.take(Patience::Forever).await? {
                return Ok(guard);
            }
        }
    }

    /// Takes all locks if nobody holds or waits for any of them. `None` means that at least one is busy; none is kept then.
    ///
    /// # Errors
    /// Those of [`lock`](MultiMutex::lock); `Unavailable` after 5 s without an answer.
    ///
    /// # Cancel safety
    /// Dropping the future releases whatever was granted until then, in the background.
    ///
    /// # On drop
    /// Dropping the guard releases all locks in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id for at most 5 s.
    pub async fn try_lock(&self) -> Result<Option<MultiGuard>> {
        self.take(Patience::None).await
    }

    /// Waits for at most `wait`. `None` means that not all were granted within that time; none is kept then. A `wait` of zero is
    /// [`try_lock`](MultiMutex::try_lock).
    ///
    /// # Errors
    /// Those of [`lock`](MultiMutex::lock). If the store does not answer for 2 s, or answers with errors only, the
    /// result is `Unavailable` instead of `None`, even before `wait` is over.
    ///
    /// # Cancel safety
    /// Dropping the future releases whatever was granted until then, in the background.
    ///
    /// # On drop
    /// Dropping the guard releases all locks in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id, so a grant whose answer was lost is found again.
    pub async fn try_lock_for(&self, wait: Duration) -> Result<Option<MultiGuard>> {
        self.take(Patience::lasting(wait, &*self.mutexes[0].engine.core.runtime)).await
    }

    async fn take(&self, patience: Patience) -> Result<Option<MultiGuard>> {
        let mut held: Vec<Option<Guard>> = self.mutexes.iter().map(|_| None).collect();
        loop {
            // What was lost while we waited for others is asked for again; a lost guard stays lost.
            for slot in &mut held {
                *slot = slot.take().filter(|guard| guard.check().is_ok());
            }
            let missing: Vec<usize> = (0..held.len()).filter(|&i| held[i].is_none()).collect();
            // All of them, to the end: which ones were granted must be known.
            let asked: Vec<&Mutex> = missing.iter().map(|&i| &self.mutexes[i]).collect();
            for (i, answer) in missing.into_iter().zip(Mutex::try_all(&asked).await) {
                held[i] = answer?;
            }
            let Some(busy) = held.iter().position(Option::is_none) else {
                let guards: Vec<Guard> = held.into_iter().flatten().collect();
                if guards.iter().all(|guard| guard.check().is_ok()) {
                    return Ok(Some(MultiGuard { guards }));
                }
                held = guards.into_iter().map(Some).collect();
                continue;
            };
            if patience == Patience::None {
                self.give_back(&mut held).await;
                return Ok(None);
            }
            // Whoever waits holds only what comes before: in one order everywhere, nobody waits in a circle.
            self.give_back(&mut held[busy..]).await;
            held[busy] = self.mutexes[busy].take(patience).await?;
            if held[busy].is_none() {
                self.give_back(&mut held).await;
                return Ok(None);
            }
        }
    }

    /// Waits until it is done, so that nobody finds a lock busy that is not ours; but not long for a store that does not
    /// answer, where it goes on in the background.
    async fn give_back(&self, held: &mut [Option<Guard>]) {
        let guards: Vec<Guard> = held.iter_mut().filter_map(Option::take).collect();
        let runtime = &*self.mutexes[0].engine.core.runtime;
        let releases = join_all(guards.into_iter().map(Guard::release));
        // One that was lost meanwhile is given back as well.
        let _ = race(runtime, runtime.now() + TRY_PATIENCE, releases).await;
    }

    /// [`lock`](MultiMutex::lock) for code without async.
    ///
    /// # Errors
    /// Those of [`lock`](MultiMutex::lock).
    pub fn blocking_lock(&self) -> Result<MultiGuard> {
        pollster::block_on(self.lock())
    }

    /// [`try_lock`](MultiMutex::try_lock) for code without async.
    ///
    /// # Errors
    /// Those of [`lock`](MultiMutex::lock).
    pub fn blocking_try_lock(&self) -> Result<Option<MultiGuard>> {
        pollster::block_on(self.try_lock())
    }

    /// [`try_lock_for`](MultiMutex::try_lock_for) for code without async.
    ///
    /// # Errors
    /// Those of [`lock`](MultiMutex::lock).
    pub fn blocking_try_lock_for(&self, wait: Duration) -> Result<Option<MultiGuard>> {
        pollster::block_on(self.try_lock_for(wait))
    }
}

/// Many held locks. Losing one of them is losing all: [`check`](MultiGuard::check) fails from then on.
///
/// # On drop
/// All locks are released in the background.
#[must_use = "dropping the guard releases the locks"]
pub struct MultiGuard {
    /// By name, ascending.
    guards: Vec<Guard>,
}

impl fmt::Debug for MultiGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.tokens()).finish()
    }
}

impl MultiGuard {
    /// The fencing token of the lock of this name; `None` if it is not one of them. Each lock has its own token: pass a resource
    /// the token of the lock that protects it.
    #[must_use]
    pub fn token(&self, name: &str) -> Option<Token> {
        let found = self.guards.binary_search_by(|guard| guard.key().name().cmp(name));
        found.ok().map(|i| self.guards[i].token())
    }

    /// Every lock with its token, by name.
    pub fn tokens(&self) -> impl Iterator<Item = (&Key, Token)> {
        self.guards.iter().map(|guard| (guard.key(), guard.token()))
    }

    /// Every lock with how the hold before this one ended, by name. See [`Guard::previous`].
    pub fn previous(&self) -> impl Iterator<Item = (&Key, Previous)> {
        self.guards.iter().map(|guard| (guard.key(), guard.previous()))
    }

    /// Whether all locks are still ours, and for how long at least without another renewal. See [`Guard::check`].
    ///
    /// # Errors
    /// [`Lost`], naming the lock that was lost, and why.
    pub fn check(&self) -> Result<Duration, Lost> {
        let mut left = Duration::MAX;
        for guard in &self.guards {
            left = left.min(guard.check()?);
        }
        Ok(left)
    }

    /// How long all locks are ours without another renewal; zero once one of them is lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.check().unwrap_or(Duration::ZERO)
    }

    /// Resolves when the first of the locks is lost, no later than at its deadline.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing; it can be called again.
    ///
    /// # On drop
    /// Nothing happens.
    ///
    /// # When the answer is lost
    /// It asks nothing: the deadlines pass by our own clock.
    pub async fn lost(&self) -> Lost {
        let mut all: Vec<Pin<Box<_>>> = self.guards.iter().map(|guard| Box::pin(guard.lost())).collect();
        poll_fn(|cx| {
            let first = all.iter_mut().find_map(|one| match one.as_mut().poll(cx) {
                Poll::Ready(lost) => Some(lost),
                Poll::Pending => None,
            });
            first.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Runs `work` while all locks are held, and drops it as soon as one of them is lost.
    ///
    /// # Errors
    /// [`Lost`], if that came first; what `work` had done by then is done.
    ///
    /// # Cancel safety
    /// As `work`'s own; the guard stays.
    ///
    /// # On drop
    /// Drops `work`.
    ///
    /// # When the answer is lost
    /// It asks nothing.
    pub async fn while_held<T>(&self, work: impl Future<Output = T>) -> Result<T, Lost> {
        unless(self.lost(), work).await
    }

    /// Changes who is shown as the holder of all locks. See [`Guard::describe`].
    ///
    /// # Errors
    /// Those of [`Guard::describe`].
    pub fn describe(&self, owner: Owner) -> Result<()> {
        self.guards.iter().try_for_each(|guard| guard.describe(owner.clone()))
    }

    /// Releases all locks, and says whether they were ours until now.
    ///
    /// # Errors
    /// One error if any of them was no longer ours: the first that was lost, or else the first that failed. Its source names the
    /// others. All releases have been attempted. See [`Guard::release`].
    ///
    /// # Cancel safety
    /// Dropping the future releases all the same, in the background.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// Each release is repeated under the same claim id until it is answered or the lease expires.
    pub async fn release(self) -> Result<()> {
        summary(join_all(self.guards.into_iter().map(Guard::release)).await)
    }

    /// Releases all locks, but only after `pause`. See [`Guard::release_after`].
    ///
    /// # Errors
    /// Those of [`release`](MultiGuard::release); `Config` if `pause` is too long: all are released immediately then.
    ///
    /// # Cancel safety
    /// Dropping the future continues in the background, with the same pause.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// Each request is repeated until it is answered or the lease expires.
    pub async fn release_after(self, pause: Duration) -> Result<()> {
        summary(join_all(self.guards.into_iter().map(|guard| guard.release_after(pause))).await)
    }

    /// [`release`](MultiGuard::release) for code without async.
    ///
    /// # Errors
    /// Those of [`release`](MultiGuard::release).
    pub fn blocking_release(self) -> Result<()> {
        pollster::block_on(self.release())
    }

    /// [`release_after`](MultiGuard::release_after) for code without async.
    ///
    /// # Errors
    /// Those of [`release_after`](MultiGuard::release_after).
    pub fn blocking_release_after(self, pause: Duration) -> Result<()> {
        pollster::block_on(self.release_after(pause))
    }

    /// [`lost`](MultiGuard::lost) for code without async: blocks until a lock is lost, or for `wait`.
    #[must_use]
    pub fn blocking_lost_for(&self, wait: Duration) -> Option<Lost> {
        let runtime = &*self.guards.first()?.turn.engine.core.runtime;
        pollster::block_on(race(runtime, runtime.now() + wait, self.lost()))
    }
}

/// One error for all: a loss goes before what is only uncertain.
fn summary(results: Vec<Result<()>>) -> Result<()> {
    let mut errors: Vec<Error> = results.into_iter().filter_map(Result::err).collect();
    if errors.is_empty() {
        return Ok(());
    }
    let first = errors.iter().position(|e| e.kind() == ErrorKind::Lost).unwrap_or(0);
    let worst = errors.swap_remove(first);
    if errors.is_empty() {
        return Err(worst);
    }
    let others: Vec<String> = errors.iter().map(Error::to_string).collect();
    Err(worst.because(others.join("; ")))
}
