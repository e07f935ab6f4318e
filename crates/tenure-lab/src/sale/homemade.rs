//! Locks that people write themselves, as a file of this host or as a key of a server.
//!
//! Both come in two grades. Naive: a short ttl, and whoever leaves deletes whatever is there. Careful: a long ttl, and
//! whoever leaves compares a random value first, so that it deletes its own lock only. Neither renews, and neither has
//! a token that the stock could check.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex as Turn;

use crate::failure::{Failure, Outcome};
use crate::num::Dice;
use crate::servers::{self, Bare};

/// How a homemade lock behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    pub(super) ttl: Duration,
    /// Whether it deletes only what it has set itself.
    pub(super) compares: bool,
}

/// A homemade lock that is held.
#[derive(Debug)]
pub(super) enum Held {
    File(FileLock, String),
    Key(KeyLock, String),
}

impl Held {
    pub(super) async fn leave(self) -> tenure::Result<()> {
        match self {
            Held::File(lock, value) => {
                if !lock.habits.compares || fs::read_to_string(&lock.path).is_ok_and(|now| now == value) {
                    let _ = fs::remove_file(&lock.path); // naive: it may be somebody else's by now
                }
                Ok(())
            }
            Held::Key(lock, value) => {
                let mut link = lock.link.lock().await;
                if lock.habits.compares {
                    link.delete_own(&lock.key, &value).await.map(drop).map_err(lost_server)
                } else {
                    link.delete(&lock.key).await.map_err(lost_server) // blindly, as above
                }
            }
        }
    }
}

/// A file made with `O_EXCL`. Its age is checked against the ttl: an older file counts as left behind and is removed.
#[derive(Clone, Debug)]
pub(super) struct FileLock {
    path: PathBuf,
    habits: Habits,
}

impl FileLock {
    pub(super) fn new(path: PathBuf, habits: Habits) -> FileLock {
        FileLock { path, habits }
    }

    pub(super) async fn enter(&self, dice: &mut Dice) -> tenure::Result<Held> {
        let value = value(dice);
        loop {
            match OpenOptions::new().write(true).create_new(true).open(&self.path) {
                Ok(mut file) => {
                    file.write_all(value.as_bytes()).map_err(lost_file)?;
                    return Ok(Held::File(self.clone(), value));
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(lost_file(e)),
            }
            if age(&self.path).is_some_and(|age| age > self.habits.ttl) {
                let _ = fs::remove_file(&self.path);
            } else {
                pause(dice).await;
            }
        }
    }
}

fn age(path: &Path) -> Option<Duration> {
    fs::metadata(path).ok()?.modified().ok()?.elapsed().ok()
}

/// `SET key value NX PX ttl`, and a `DEL`.
#[derive(Clone, Debug)]
pub(super) struct KeyLock {
    link: Arc<Turn<Box<dyn Bare>>>,
    key: String,
    habits: Habits,
}

impl KeyLock {
    /// A lock at `key`, in a namespace of the lab's own.
    pub(super) async fn new(url: &str, lock: &str, habits: Habits) -> Outcome<KeyLock> {
        let link = Arc::new(Turn::new(servers::bare(url).await?));
        Ok(KeyLock { link, key: format!("tenure-lab:homemade:{lock}"), habits })
    }

    /// The same lock over a connection of its own.
    pub(super) async fn with_connection(&self, url: &str) -> Outcome<KeyLock> {
        Ok(KeyLock { link: Arc::new(Turn::new(servers::bare(url).await?)), ..self.clone() })
    }

    pub(super) async fn enter(&self, dice: &mut Dice) -> tenure::Result<Held> {
        let value = value(dice);
        let mut link = self.link.lock().await;
        while !link.set_if_absent(&self.key, &value, self.habits.ttl).await.map_err(lost_server)? {
            pause(dice).await;
        }
        Ok(Held::Key(self.clone(), value))
    }
}

fn value(dice: &mut Dice) -> String {
    format!("{:016x}", dice.next())
}

/// The pause before the next try: 0.5 to 5 ms.
async fn pause(dice: &mut Dice) {
    tokio::time::sleep(Duration::from_micros(500 + dice.below(4_500))).await;
}

fn lost_server(failure: Failure) -> tenure::Error {
    tenure::Error::unavailable(format!("the homemade lock's server: {failure}"), "")
}

fn lost_file(e: io::Error) -> tenure::Error {
    tenure::Error::unavailable("the homemade lock's file", "").because(e)
}
