//! The embedded store: one mapped file that all processes of a user on one machine share. No daemon.
//!
//! - `url`: where the store is.
//! - `place`: the directory and its files, opened so that nobody can slip something in.
//! - `create`: makes the store.
//! - `files`: the open files, and whether others find them there.
//! - `format`: where everything lies in the file.
//! - `chunks`: the pieces by which a shard grows.
//! - `map`: the mapping (unsafe).
//! - `sys`: byte locks (unsafe).
//! - `lock`: the lock word of a shard, which names its owner.
//! - `rescue`: goes on without an owner that is stopped.
//! - `journal`: the undo log that makes a verb whole even if its process is killed at any instruction.
//! - `store`: an open store; reaping.
//! - `shard`: a shard under its lock.
//! - `slots`: who takes part and who lives.
//! - `alarm`: notices deaths at once.
//! - `registry`: one store per process.
//! - `bell`: tells a waiting claim of its turn.
//! - `patrol`: notices removed files while something is held.
//! - `watch`: tells watchers of changes.
//! - `floor`: durable tokens.
//! - `domain`: which order they belong to.
//! - `verbs`: the contract.
//! - `faults`: dies at a chosen store, for tests.
//!
//! The trust boundary is the directory: whoever may write its files may corrupt them. What is read from the mapping is
//! checked, so that a damaged file gives an error (`Protocol`) and no crash; a file that is *cut short* while it is
//! mapped ends its users with SIGBUS, as the kernel has it.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "the host backend needs Linux (futexes): build with default-features = false, and a remote store"
);

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

mod alarm;
mod bell;
mod chunks;
mod create;
mod domain;
pub mod faults;
mod files;
mod floor;
mod format;
mod journal;
mod lock;
mod look;
mod map;
mod patrol;
mod place;
mod registry;
mod rescue;
mod shard;
mod slots;
mod store;
mod sys;
mod url;
mod usual;
mod verbs;
mod viewer;
mod watch;

use self::place::Dir;
use self::store::{Halt, Outcome, Store};
use self::url::Place;
use super::{
    Answer, Backend, BoxFuture, Call, Claim, Entry, Leave, News, Opening, Page, Part, Query, Released, Sink,
    Standing, Watched,
};
use crate::capability::{Capabilities, Fact, HoldEnd, Knows, Scope, Survives, TokenStrength, Turns};
use crate::domain::Domain;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::runtime::Runtime;
use crate::runtime::fork::Birthplace;
use crate::token::Token;

/// The most that it promises: what a directory does. Shared memory (`host:`) promises less, since a reboot empties it.
const BEST: Capabilities = Capabilities {
    scope: Scope::Host,
    hold_end: HoldEnd::LeaseOrProcess,
    token: TokenStrength::Durable,
    turns: Turns::Each,
    previous: Knows::Yes,
    // No other server ever takes over, and there is one copy of the data.
    survives: Survives { restart: Fact::Yes, power_loss: Fact::Yes, ..Survives::NOTHING },
    ..Capabilities::strongest("host")
};

/// How long to wait before trying a shard again that another process stays in.
const AGAIN: Duration = Duration::from_millis(20);
/// How often to look at a store that tells of no changes.
const LOOK: Duration = Duration::from_secs(1);

/// `host:` and `host:///dir`.
pub(super) const ENTRY: Entry = Entry {
    schemes: &["host"],
    feature: "host",
    capabilities: BEST,
    open: |opening| Box::pin(open(opening)),
};

async fn open(opening: Opening) -> Result<Arc<dyn Backend>> {
    let place = Place::of(&opening.url)?;
    let host = Host {
        place,
        runtime: opening.runtime,
        sink: opening.sink,
        member: OnceLock::new(),
        joining: Mutex::new(()),
        watching: Mutex::default(),
        closed: AtomicBool::new(false),
        born: Birthplace::here(),
    };
    // A store that can neither be used nor made is an error now.
    match host.find()? {
        Reach::Member(_) | Reach::View(_) => {}
        Reach::Nothing(None) => {}
        Reach::Nothing(Some(dir)) => {
            dir.check_writable()?;
            if dir.durable {
                floor::read(&dir)?;
            }
        }
    }
    Ok(Arc::new(host))
}

/// One client of a store. It takes part in the store once that is there: looking does not make one, the first claim does.
struct Host {
    place: Place,
    runtime: Arc<dyn Runtime>,
    sink: Arc<dyn Sink>,
    member: OnceLock<Member>,
    joining: Mutex<()>,
    watching: Mutex<Watching>,
    closed: AtomicBool,
    born: Birthplace,
}

/// A client that takes part.
#[derive(Debug)]
struct Member {
    store: Arc<Store>,
    /// Its number among the clients of this process.
    number: u64,
}

/// How far a client can reach.
enum Reach<'a> {
    Member(&'a Member),
    /// A store to look at only.
    View(Dir),
    /// No store, perhaps not even a directory.
    Nothing(Option<Dir>),
}

/// Whether a client wants news of changes.
#[derive(Default)]
struct Watching {
    on: bool,
    /// Turns off what stands in for the store as long as there is none to take part in.
    stand_in: Option<Arc<AtomicBool>>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("place", &self.place)
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

impl Host {
    fn usable(&self) -> Result<()> {
        if self.born.left() {
            return Err(store::forked());
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::config("this client was closed", "connect again"));
        }
        Ok(())
    }

    /// Takes part in the store if there is one; makes none.
    fn find(&self) -> Result<Reach<'_>> {
        if let Some(member) = self.member.get() {
            return Ok(Reach::Member(member));
        }
        let Some(dir) = Dir::find(&self.place)? else { return Ok(Reach::Nothing(None)) };
        if dir.is_for_looking() {
            return Ok(Reach::View(dir));
        }
        match registry::find(dir, &self.runtime, false)? {
            Some(store) => Ok(Reach::Member(self.join(store))),
            None => Ok(Reach::Nothing(Dir::find(&self.place)?)),
        }
    }

    /// Takes part in the store, which is made if there is none.
    fn member(&self) -> Result<&Member> {
        self.usable()?;
        if let Some(member) = self.member.get() {
            return Ok(member);
        }
        match self.find()? {
            Reach::Member(member) => Ok(member),
            Reach::View(dir) => Err(dir.only_looking()),
            Reach::Nothing(_) => Ok(self.join(registry::open(&self.place, &self.runtime)?)),
        }
    }

    /// Takes part, for a verb that is about claims which others may have made. `None`: there is no store, so no claims.
    fn others(&self) -> Result<Option<&Member>> {
        if self.born.left() {
            return Err(store::forked());
        }
        match self.find()? {
            Reach::Member(member) => Ok(Some(member)),
            Reach::View(dir) => Err(dir.only_looking()),
            Reach::Nothing(_) => Ok(None),
        }
    }

    fn renew_without_claims(&self) -> Result<Answer> {
        self.usable()?;
        Ok(gone(&*self.runtime))
    }

    fn join(&self, store: Arc<Store>) -> &Member {
        let joining = self.joining.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = false;
        let member = self.member.get_or_init(|| {
            fresh = true;
            Member { number: store.0.sinks.add(self.sink.clone()), store }
        });
        drop(joining);
        if fresh {
            let mut watching = self.watching();
            watching.stop();
            if watching.on {
                member.store.0.watch(true);
            }
        }
        member
    }

    fn watching(&self) -> MutexGuard<'_, Watching> {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a verb, and repeats it while another process stays inside its shard.
    async fn patiently<T>(&self, mut verb: impl FnMut() -> Outcome<T>) -> Result<T> {
        let mut began = None;
        loop {
            let (patience, error) = match verb() {
                Ok(answer) => return Ok(answer),
                Err(Halt::Failed(error)) => return Err(error),
                Err(Halt::Stuck(patience, error)) => (patience, error),
            };
            let now = self.runtime.now();
            if now.since(*began.get_or_insert(now)) >= patience {
                return Err(error);
            }
            self.runtime.sleep_until(now + AGAIN).await;
        }
    }

    fn leave(&self) {
        if self.born.left() {
            return;
        }
        self.set_watch(false);
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(member) = self.member.get() {
            member.store.0.sinks.remove(member.number);
            member.store.0.waiting.remove_client(member.number);
        }
    }

    fn set_watch(&self, on: bool) {
        let mut watching = self.watching();
        if std::mem::replace(&mut watching.on, on) == on {
            return;
        }
        match self.member.get() {
            Some(member) => member.store.0.watch(on),
            None if on => watching.stand_in(&self.runtime, &self.sink),
            None => watching.stop(),
        }
    }
}

impl Watching {
    /// Nothing tells of changes in a store that does not exist yet, or that can only be looked at. So the client looks
    /// once a second.
    fn stand_in(&mut self, runtime: &Arc<dyn Runtime>, sink: &Arc<dyn Sink>) {
        let on = Arc::new(AtomicBool::new(true));
        self.stand_in = Some(on.clone());
        let (own, sink) = (runtime.clone(), sink.clone());
        runtime.spawn(Box::pin(async move {
            while on.load(Ordering::Acquire) {
                sink.news(News::Changed);
                own.sleep_until(own.now() + LOOK).await;
            }
        }));
    }

    fn stop(&mut self) {
        if let Some(on) = self.stand_in.take() {
            on.store(false, Ordering::Release);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.leave();
    }
}

fn gone(runtime: &dyn Runtime) -> Answer {
    Answer { standing: Standing::Gone { why: None }, at: Some(runtime.now().nanos()) }
}

impl Backend for Host {
    fn capabilities(&self) -> Capabilities {
        if self.place.durable {
            BEST
        } else {
            let survives = Survives { power_loss: Fact::No, ..BEST.survives };
            Capabilities { token: TokenStrength::Hybrid, survives, ..BEST }
        }
    }

    fn domain(&self) -> BoxFuture<'_, Result<Domain>> {
        Box::pin(async {
            self.usable()?;
            self.member()?.store.0.domain()
        })
    }

    fn part(&self, _: &Key) -> Part {
        Part::WHOLE
    }

    fn attempt<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(claims.len());
            for claim in claims {
                answers.push(self.attempt_one(claim, call).await);
            }
            answers
        })
    }

    fn attempt_one<'a>(&'a self, claim: &'a Claim, _: Call) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(async move {
            let member = self.member()?;
            self.patiently(|| member.store.0.attempt(claim, member.number)).await
        })
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], _: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(async move {
            match self.member.get() {
                Some(member) => member.store.0.renew(claims, member.number),
                None => claims.iter().map(|_| self.renew_without_claims()).collect(),
            }
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, _: Call) -> BoxFuture<'a, Result<Released>> {
        Box::pin(async move {
            let member = match self.others()? {
                Some(member) => member,
                // A late attempt would make the store: it must find the mark.
                None if leave == Leave::Final => self.member()?,
                None => return Ok(Released::Gone),
            };
            self.patiently(|| member.store.0.release(claim, leave)).await
        })
    }

    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim, _: Call) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(async move {
            self.usable()?;
            match self.others()? {
                Some(member) => self.patiently(|| member.store.0.transfer(from, to)).await,
                None => Ok(gone(&*self.runtime)),
            }
        })
    }

    fn evict<'a>(
        &'a self,
        key: &'a Key,
        token: Option<Token>,
        why: &'a str,
        _: Call,
    ) -> BoxFuture<'a, Result<Released>> {
        Box::pin(async move {
            self.usable()?;
            match self.others()? {
                Some(member) => self.patiently(|| member.store.0.evict(key, token, why)).await,
                None => Ok(Released::Gone),
            }
        })
    }

    fn inspect<'a>(&'a self, query: &'a Query, _: Call) -> BoxFuture<'a, Result<Page>> {
        Box::pin(async move {
            self.usable()?;
            match self.find()? {
                Reach::Member(member) => self.patiently(|| look::inspect(&*member.store.0, query)).await,
                Reach::View(dir) => {
                    let dir = dir.for_looking();
                    self.patiently(|| viewer::inspect(&dir, &self.runtime, query)).await
                }
                Reach::Nothing(_) => Ok(Page::default()),
            }
        })
    }

    fn watch(&self, what: &Watched) {
        if !self.born.left() && !self.closed.load(Ordering::Acquire) {
            self.set_watch(*what != Watched::Nothing);
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.leave() })
    }
}
