//! What stands between a client and the stock: nothing, a lock that people write themselves, or Tenure.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure::{Guard, Lost, Mutex};

use super::homemade::{FileLock, Held, KeyLock};
use crate::failure::Outcome;
use crate::num::Dice;

/// A strategy of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Strategy {
    /// No lock.
    None,
    /// The lock that everybody writes first: set if absent, a short ttl, deleted blindly.
    Naive,
    /// What people believe to be right: a ttl of 30 s and a random value, compared before the key is deleted.
    Careful,
    /// Tenure's mutex; the stock does not see the token.
    Tenure,
    /// Tenure's mutex, and every read and write carries the token.
    Fenced,
}

/// The verdict that a strategy must reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Exact,
    Wrong,
    /// Chance decides.
    Either,
}

impl Expected {
    pub(super) fn word(self) -> &'static str {
        match self {
            Expected::Exact => "exact",
            Expected::Wrong => "wrong",
            Expected::Either => "either",
        }
    }
}

impl Strategy {
    /// All, in the order in which they are shown.
    pub(crate) const ALL: [Strategy; 5] =
        [Strategy::None, Strategy::Naive, Strategy::Careful, Strategy::Tenure, Strategy::Fenced];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Strategy::None => "none",
            Strategy::Naive => "naive",
            Strategy::Careful => "careful",
            Strategy::Tenure => "tenure",
            Strategy::Fenced => "tenure+fence",
        }
    }

    /// Whether it is a lock written for this comparison, not Tenure's.
    pub(super) fn homemade(self) -> bool {
        matches!(self, Strategy::Naive | Strategy::Careful)
    }

    /// What its verdict must be.
    pub(super) fn expected(self, faults: bool) -> Expected {
        match (self, faults) {
            (Strategy::Fenced, _) | (Strategy::Tenure, false) => Expected::Exact,
            (Strategy::None, false) => Expected::Wrong,
            _ => Expected::Either,
        }
    }

    /// Why a wrong result of this strategy is no surprise; empty where it would be one.
    pub(super) fn excuse(self, faults: bool) -> &'static str {
        match (self, faults) {
            (Strategy::None, _) => "as expected without a lock",
            (Strategy::Naive, _) => "as expected of a lock that expires during work",
            (Strategy::Careful | Strategy::Tenure, true) => "as expected without a fence",
            _ => "",
        }
    }
}

/// One way in, shared by the clients of a process.
#[derive(Clone, Debug)]
pub(super) enum Door {
    /// Always open.
    Open,
    /// A homemade lock of this host.
    File(FileLock),
    /// A homemade lock on a server.
    Key(KeyLock),
    /// Tenure.
    Tenure(Mutex),
}

/// Being inside.
#[derive(Debug)]
pub(super) enum Inside {
    /// Nothing is held.
    Open,
    /// A homemade lock.
    Homemade(Held),
    /// A guard.
    Tenure(Guard),
}

impl Door {
    /// One client's way in: a homemade lock on a server has a connection for each.
    pub(super) async fn of_client(&self, url: &str) -> Outcome<Door> {
        Ok(match self {
            Door::Key(lock) => Door::Key(lock.with_connection(url).await?),
            other => other.clone(),
        })
    }

    /// Waits until the client may go in.
    pub(super) async fn enter(&self, dice: &mut Dice) -> tenure::Result<Inside> {
        match self {
            Door::Open => Ok(Inside::Open),
            Door::File(lock) => lock.enter(dice).await.map(Inside::Homemade),
            Door::Key(lock) => lock.enter(dice).await.map(Inside::Homemade),
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
            Inside::Homemade(held) => held.leave().await,
            Inside::Tenure(guard) => guard.release().await,
        }
    }
}
