//! What stands between a client and the stock: nothing, a naive lock, or Tenure.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure::{Guard, Lost, Mutex};
use tokio::sync::Mutex as Turn;

use crate::failure::{Failure, Outcome};
use crate::num::Dice;
use crate::plain::Plain;

/// A strategy of the command line.
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
    /// A naive lock of this host.
    Naive(NaiveFile),
    /// A naive lock on a server.
    Server(NaiveKey),
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
    /// The naive lock's key.
    Server(NaiveKey),
    /// A guard.
    Tenure(Guard),
}

impl Door {
    /// One client's way in: on a server the naive lock has a connection for each.
    pub(super) async fn of_client(&self, url: &str) -> Outcome<Door> {
        Ok(match self {
            Door::Server(lock) => {
                let link = Arc::new(Turn::new(Plain::connect(url).await?));
                Door::Server(NaiveKey { link, ..lock.clone() })
            }
            other => other.clone(),
        })
    }

    /// Waits until the client may go in.
    pub(super) async fn enter(&self, dice: &mut Dice) -> tenure::Result<Inside> {
        match self {
            Door::Open => Ok(Inside::Open),
            Door::Naive(lock) => lock.enter(dice).await,
            Door::Server(lock) => lock.enter(dice).await,
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
            Inside::Server(lock) => {
                lock.link.lock().await.delete(&lock.key).await.map_err(lost_server) // blindly, as above
            }
            Inside::Tenure(guard) => guard.release().await,
        }
    }
}

/// The naive lock of one host: a file made with `O_EXCL`. Its age is the time to live: who finds it older takes it for
/// left behind and removes it.
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

/// The naive lock of a server: `SET key 1 NX PX ttl`, and a blind `DEL`.
#[derive(Clone, Debug)]
pub(super) struct NaiveKey {
    link: Arc<Turn<Plain>>,
    key: String,
    ttl: Duration,
}

impl NaiveKey {
    /// A lock at `key`, in a name space of the lab's own.
    pub(super) async fn new(url: &str, lock: &str, ttl: Duration) -> Outcome<NaiveKey> {
        let link = Arc::new(Turn::new(Plain::connect(url).await?));
        Ok(NaiveKey { link, key: format!("tenure-lab:naive:{lock}"), ttl })
    }

    async fn enter(&self, dice: &mut Dice) -> tenure::Result<Inside> {
        let mut link = self.link.lock().await;
        while !link.set_if_absent(&self.key, "1", self.ttl).await.map_err(lost_server)? {
            tokio::time::sleep(Duration::from_micros(500 + dice.below(4_500))).await;
        }
        Ok(Inside::Server(self.clone()))
    }
}

fn lost_server(failure: Failure) -> tenure::Error {
    tenure::Error::unavailable(format!("the naive lock's server: {failure}"), "")
}
