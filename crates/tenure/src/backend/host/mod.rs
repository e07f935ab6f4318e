//! The embedded store: one mapped file that all processes of a user on one machine share. No daemon.
//!
//! - `place`: the directory and its files, opened so that nobody can slip something in. - `create`: makes the store.
//! - `files`: the open files, and whether others find them there.
//! - `layout`: where everything lies in the file. - `chunks`: the pieces by which a shard grows. - `map`: the mapping (unsafe). - `sys`: byte locks (unsafe).
//! - `lock`: the lock word of a shard, which names its owner. - `rescue`: goes on without an owner that is stopped. - `journal`: the undo log that makes a verb whole even
//!   if its process is killed at any instruction. - `store`: an open store; reaping. - `shard`: a shard under its lock.
//! - `slots`: who takes part and who lives. - `alarm`: notices deaths at once. - `registry`: one store per process.
//! - `bell`: tells a waiting claim of its turn. - `patrol`: notices removed files while something is held. - `watch`: tells watchers of changes.
//! - `floor`: durable tokens. - `domain`: which order they belong to. - `verbs`: the contract. - `faults`: dies at a chosen store, for tests.
//!
//! The trust boundary is the directory: whoever may write its files may corrupt them. What is read from the mapping is
//! checked, so that a damaged file gives an error (`Protocol`) and no crash; a file that is *cut short* while it is
//! mapped ends its users with SIGBUS, as the kernel has it.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "the host backend needs Linux (futexes): build with default-features = false, and a remote store"
);

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

mod alarm;
mod bell;
mod chunks;
mod create;
mod domain;
pub mod faults;
mod files;
mod floor;
mod journal;
mod layout;
mod lock;
mod map;
mod patrol;
mod place;
mod registry;
mod rescue;
mod shard;
mod slots;
mod store;
mod sys;
mod usual;
mod verbs;
mod watch;

use self::place::Place;
use self::store::{Halt, Inner, Outcome, Store};
use super::{Answer, Backend, BoxFuture, Call, Claim, Entry, Leave, Opening, Page, Part, Query, Released};
use crate::capability::{Capabilities, Fact, HoldEnd, Knows, Scope, Survives, TokenStrength, Turns};
use crate::domain::Domain;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::runtime::Runtime;
use crate::token::Token;

/// The most that it promises: what a directory does. Shared memory (`host:`) promises less, since a reboot empties it.
const BEST: Capabilities = Capabilities {
    scope: Scope::Host,
    hold_end: HoldEnd::LeaseOrProcess,
    token: TokenStrength::Durable,
    turns: Turns::Each,
    previous: Knows::No,
    // No other server ever takes over, and there is one copy of the data.
    survives: Survives { restart: Fact::Yes, power_loss: Fact::Yes, ..Survives::NOTHING },
    ..Capabilities::strongest("host")
};

/// How long to wait before trying a shard again in which somebody stays.
const AGAIN: Duration = Duration::from_millis(20);

/// `host:` and `host:///dir`.
pub(super) const ENTRY: Entry = Entry {
    schemes: &["host"],
    feature: "host",
    capabilities: BEST,
    open: |opening| Box::pin(open(opening)),
};

async fn open(opening: Opening) -> Result<Arc<dyn Backend>> {
    let place = Place::of(&opening.url)?;
    let store = registry::open(&place, &opening.runtime)?;
    let client = store.0.sinks.add(opening.sink);
    let runtime = opening.runtime;
    Ok(Arc::new(Host {
        store,
        runtime,
        client,
        watching: AtomicBool::new(false),
        closed: AtomicBool::new(false),
    }))
}

/// One client of a store.
struct Host {
    store: Arc<Store>,
    runtime: Arc<dyn Runtime>,
    client: u64,
    watching: AtomicBool,
    closed: AtomicBool,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.0.fmt(f)
    }
}

impl Host {
    fn usable(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::config("this client was closed", "connect again"));
        }
        Ok(())
    }

    async fn attempt_one(&self, claim: &Claim) -> Result<Answer> {
        self.usable()?;
        self.patiently(|store| store.attempt(claim, self.client)).await
    }

    /// Runs a verb, and runs it again for as long as somebody who lives stays inside its shard.
    async fn patiently<T>(&self, mut verb: impl FnMut(&Arc<Inner>) -> Outcome<T>) -> Result<T> {
        let mut began = None;
        loop {
            let (patience, error) = match verb(&self.store.0) {
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
        if self.store.0.born.left() {
            return;
        }
        self.set_watch(false);
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.store.0.sinks.remove(self.client);
        self.store.0.waiting.remove_client(self.client);
    }

    fn set_watch(&self, on: bool) {
        if self.watching.swap(on, Ordering::AcqRel) != on {
            self.store.0.watch(on);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Backend for Host {
    fn capabilities(&self) -> Capabilities {
        if self.store.0.durable() {
            BEST
        } else {
            let survives = Survives { power_loss: Fact::No, ..BEST.survives };
            Capabilities { token: TokenStrength::Hybrid, survives, ..BEST }
        }
    }

    fn domain(&self) -> BoxFuture<'_, Result<Domain>> {
        Box::pin(async {
            self.usable()?;
            self.store.0.domain()
        })
    }

    fn part(&self, _: &Key) -> Part {
        Part::WHOLE
    }

    fn attempt<'a>(&'a self, claims: &'a [Claim], _: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(claims.len());
            for claim in claims {
                answers.push(self.attempt_one(claim).await);
            }
            answers
        })
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], _: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(async move { self.store.0.renew(claims, self.client) })
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, _: Call) -> BoxFuture<'a, Result<Released>> {
        Box::pin(self.patiently(move |store| store.release(claim, leave)))
    }

    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim, _: Call) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(async move {
            self.usable()?;
            self.patiently(|store| store.transfer(from, to)).await
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
            self.patiently(|store| store.evict(key, token, why)).await
        })
    }

    fn inspect<'a>(&'a self, query: &'a Query, _: Call) -> BoxFuture<'a, Result<Page>> {
        Box::pin(async move {
            self.usable()?;
            self.patiently(|store| store.inspect(query)).await
        })
    }

    fn watch(&self, on: bool) {
        let gone = self.store.0.born.left() || self.closed.load(Ordering::Acquire);
        if !gone {
            self.set_watch(on);
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.leave() })
    }
}
