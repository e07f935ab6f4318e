//! What stands between a client and the stock: nothing, a naive lock, or Tenure.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure::{Guard, Lost, Mutex};

use crate::num::Dice;

/// A strategy of cli.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Strategy {
    /// No lock.
    None,
    /// The lock that everybody writes first: taken if absent, with a time to live, freed blindly.
    Naive,
    /// Tenure's mutex; the stock is not shown the token.
    Tenure,
    /// Tenure's mutex, and every read and write carries the token.
    Fenced,
}

impl Strategy {
    /// All, in the order in which they are shown.
    pub(crate) const ALL: [Strategy; 4] =
        [Strategy::None, Strategy::Naive, Strategy::Tenure, Strategy::Fenced];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Strategy::None => "none",
            Strategy::Naive => "naive",
            Strategy::Tenure => "tenure",
            Strategy::Fenced => "tenure+fence",
        }
    }

    /// What its verdict must be: exact, wrong, or either.
    pub(super) fn expected(self, faults: bool) -> Option<bool> {
        match (self, faults) {
            (Strategy::Fenced, _) | (Strategy::Tenure, false) => Some(true),
            (Strategy::None, false) => Some(false),
            _ => None,
        }
    }
}

/// One way in, shared by the clients of a process.
#[derive(Clone, Debug)]
pub(super) enum Door {
    /// Always open.
    Open,
    /// A naive lock.
    Naive(NaiveFile),
    /// Tenure.
    Tenure(Mutex),
}

/// Being inside.
#[derive(Debug)]
pub(super) enum Inside {
    /// Nothing is held.
    Open,
    /// The naive lock's file.
    Naive(PathBuf),
    /// A guard.
    Tenure(Guard),
}

impl Door {
    /// Waits until the client may go in.
    pub(super) async fn enter(&self, dice: &mut Dice) -> tenure::Result<Inside> {
        match self {
            Door::Open => Ok(Inside::Open),
            Door::Naive(lock) => lock.enter(dice).await,
            Door::Tenure(mutex) => mutex.lock().await.map(Inside::Tenure),
        }
    }
}

impl Inside {
    /// The fencing token, 0 for none.
    pub(super) fn token(&self) -> i64 {
        match self {
            Inside::Tenure(guard) => guard.token().get(),
            _ => 0,
        }
    }

    /// Works for `pause`, as long as the lock is held.
    pub(super) async fn work(&self, pause: Duration) -> Result<(), Lost> {
        let work = async {
            if pause.is_zero() { tokio::task::yield_now().await } else { tokio::time::sleep(pause).await }
        };
        match self {
            Inside::Tenure(guard) => {
                guard.while_held(work).await?;
                guard.check().map(|_| ())
            }
            _ => {
                work.await;
                Ok(())
            }
        }
    }

    /// Goes out.
    pub(super) async fn leave(self) -> tenure::Result<()> {
        match self {
            Inside::Open => Ok(()),
            Inside::Naive(file) => {
                let _ = fs::remove_file(file); // blindly: it may be somebody else's by now
                Ok(())
            }
            Inside::Tenure(guard) => guard.release().await,
        }
    }
}

/// The naive lock of one host: a file made with `O_EXCL`. Its age is the time to live: who finds it older takes it for
/// left behind and removes it. On a server the same lock is `SET NX PX` and a blind `DEL`.
#[derive(Clone, Debug)]
pub(super) struct NaiveFile {
    path: PathBuf,
    ttl: Duration,
}

impl NaiveFile {
    /// A lock at `path`.
    pub(super) fn new(path: PathBuf, ttl: Duration) -> NaiveFile {
        NaiveFile { path, ttl }
    }

    async fn enter(&self, dice: &mut Dice) -> tenure::Result<Inside> {
        loop {
            match OpenOptions::new().write(true).create_new(true).open(&self.path) {
                Ok(_) => return Ok(Inside::Naive(self.path.clone())),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(tenure::Error::unavailable("the naive lock's file", "").because(e)),
            }
            if age(&self.path).is_some_and(|age| age > self.ttl) {
                let _ = fs::remove_file(&self.path);
            } else {
                tokio::time::sleep(Duration::from_micros(500 + dice.below(4_500))).await;
            }
        }
    }
}

fn age(path: &Path) -> Option<Duration> {
    fs::metadata(path).ok()?.modified().ok()?.elapsed().ok()
}
