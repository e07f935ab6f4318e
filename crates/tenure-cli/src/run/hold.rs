//! What is taken, and what is held then: one face of whatever primitive the command line names.

use std::pin::Pin;
use std::time::Duration;

use tenure::{
    Guard, Key, LockOptions, Locks, Lost, MultiGuard, MultiMutex, Mutex, Once, Owner, Permit, Previous,
    ReadGuard, Result, Run, RwLock, Semaphore, Slot, Started, Token,
};

use super::Wait;

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Ask {
    /// A mutex; of several names, all of them.
    Mutex,
    /// The reading side of a read-write lock.
    Read,
    /// Its writing side.
    Write,
    /// Permits of a semaphore.
    Permits { permits: u32, of: u32 },
    /// A slot of a job.
    Once(Job),
}

/// A job that runs once per slot.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) slot: Slot,
    pub(super) at_least: Duration,
    pub(super) never_again: bool,
    pub(super) retry_errors: bool,
}

/// What is asked for, at a store.
pub(super) enum Target {
    /// All of it is held by parents.
    Nothing,
    Mutex(Mutex),
    Many(MultiMutex),
    Read(RwLock),
    Write(RwLock),
    Permits(Semaphore, u32),
    Once(Box<Once>),
}

/// The result of asking for it.
pub(super) enum Taken {
    Held(Hold),
    /// Not in time; of a job, with the run that is in the way.
    Not(Option<Run>),
}

/// What is held.
pub(super) enum Hold {
    /// Nothing but what parents hold.
    Inherited,
    One(Guard),
    Many(MultiGuard),
    Read(ReadGuard),
    Permits(Permit),
    Slot(Box<Started>),
}

/// How the command ended, for the record of a job.
pub(super) enum Ending {
    /// It was not run, or not to its end.
    NotRun,
    /// It ended like this.
    Ended(std::result::Result<(), String>),
}

impl Ask {
    /// The word for it in `TENURE_HELD_AS`.
    pub(super) fn word(&self) -> String {
        match self {
            Ask::Mutex => "mutex".into(),
            Ask::Read => "read".into(),
            Ask::Write => "write".into(),
            Ask::Permits { permits, of } => format!("permits={permits}/{of}"),
            Ask::Once(_) => "once".into(),
        }
    }

    /// Whether whoever holds it in that way has what is asked for.
    pub(super) fn is_covered_by(&self, held: &str) -> bool {
        if let (Ask::Permits { permits, of }, Some((k, n))) =
            (self, held.strip_prefix("permits=").and_then(|rest| rest.split_once('/')))
        {
            return n.parse() == Ok(*of) && k.parse().is_ok_and(|k: u32| k >= *permits);
        }
        held == self.word() || (matches!(self, Ask::Read) && held == "write")
    }

    /// What is asked for, at a store.
    ///
    /// # Errors
    /// Whatever the library refuses about it.
    pub(super) fn at(
        &self,
        locks: &Locks,
        keys: &[Key],
        options: LockOptions,
        reason: &str,
    ) -> Result<Target> {
        let name = match keys {
            [] => return Ok(Target::Nothing),
            [key] => key.name(),
            _ => {
                let multi = locks.multi(keys.iter().map(Key::name))?;
                return Ok(Target::Many(multi.with(options.reason(reason))?));
            }
        };
        Ok(match self {
            Ask::Mutex => Target::Mutex(locks.mutex(name)?.with(options.reason(reason))?),
            Ask::Read => Target::Read(locks.rwlock(name)?.with(options.reason(reason))?),
            Ask::Write => Target::Write(locks.rwlock(name)?.with(options.reason(reason))?),
            Ask::Permits { permits, of } => {
                Target::Permits(locks.semaphore(name, *of)?.with(options.reason(reason))?, *permits)
            }
            // The record of the run lies in the reason.
            Ask::Once(job) => {
                let mut once = locks.once(name, job.slot.clone())?.with(options)?.at_least(job.at_least)?;
                if job.never_again {
                    once = once.never_again();
                }
                if job.retry_errors {
                    once = once.retry_errors();
                }
                Target::Once(Box::new(once))
            }
        })
    }
}

/// The method for each patience.
macro_rules! patiently {
    ($wait:expr, $lock:expr, $try:ident, $try_for:ident, $take:ident $(, $more:expr)?) => {
        match $wait {
            Wait::No => $lock.$try($($more)?).await?,
            Wait::For(wait) => $lock.$try_for($($more,)? wait).await?,
            Wait::Forever => Some($lock.$take($($more)?).await?),
        }
    };
}

impl Target {
    /// Takes it.
    ///
    /// # Errors
    /// Whatever the library says.
    pub(super) async fn take(&self, wait: Wait) -> Result<Taken> {
        let hold = match self {
            Target::Nothing => Some(Hold::Inherited),
            Target::Mutex(m) => patiently!(wait, m, try_lock, try_lock_for, lock).map(Hold::One),
            Target::Many(m) => patiently!(wait, m, try_lock, try_lock_for, lock).map(Hold::Many),
            Target::Read(l) => patiently!(wait, l, try_read, try_read_for, read).map(Hold::Read),
            Target::Write(l) => patiently!(wait, l, try_write, try_write_for, write).map(Hold::One),
            Target::Permits(s, k) => {
                patiently!(wait, s, try_acquire_many, try_acquire_many_for, acquire_many, *k)
                    .map(Hold::Permits)
            }
            Target::Once(once) => {
                let wait = match wait {
                    Wait::No => Duration::ZERO,
                    Wait::For(wait) => wait,
                    Wait::Forever => Duration::MAX,
                };
                match once.as_ref().clone().wait(wait).begin().await? {
                    Ok(started) => Some(Hold::Slot(Box::new(started))),
                    Err(run) => return Ok(Taken::Not(Some(run))),
                }
            }
        };
        Ok(hold.map_or(Taken::Not(None), Taken::Held))
    }
}

impl Hold {
    /// What is held, with its tokens.
    pub(super) fn tokens(&self) -> Vec<(Key, Option<Token>)> {
        match self {
            Hold::Inherited => Vec::new(),
            Hold::One(guard) => vec![(guard.key().clone(), Some(guard.token()))],
            Hold::Many(guard) => guard.tokens().map(|(key, token)| (key.clone(), Some(token))).collect(),
            Hold::Read(guard) => vec![(guard.key().clone(), guard.token())],
            Hold::Permits(permit) => vec![(permit.key().clone(), None)],
            Hold::Slot(started) => vec![(started.guard().key().clone(), Some(started.guard().token()))],
        }
    }

    /// How the hold of this lock before ours ended; `None` if a parent holds it.
    pub(super) fn previous(&self, key: &Key) -> Option<Previous> {
        let of = |held: &Key, how: Previous| (held == key).then_some(how);
        match self {
            Hold::Inherited => None,
            Hold::One(guard) => of(guard.key(), guard.previous()),
            Hold::Many(guard) => guard.previous().find_map(|(held, how)| of(held, how)),
            Hold::Read(guard) => of(guard.key(), guard.previous()),
            Hold::Permits(permit) => of(permit.key(), permit.previous()),
            Hold::Slot(started) => of(started.guard().key(), started.guard().previous()),
        }
    }

    /// The claim behind it, as listings show it; of several names, their tokens are enough.
    pub(super) fn claim(&self) -> Option<String> {
        match self {
            Hold::Inherited | Hold::Many(_) => None,
            Hold::One(guard) => Some(guard.claim()),
            Hold::Read(guard) => Some(guard.claim()),
            Hold::Permits(permit) => Some(permit.claim()),
            Hold::Slot(started) => Some(started.guard().claim()),
        }
    }

    /// Of a job, the label of its slot.
    pub(super) fn slot(&self) -> Option<&str> {
        match self {
            Hold::Slot(started) => Some(started.slot()),
            _ => None,
        }
    }

    /// Whether it is still ours, and for how long.
    ///
    /// # Errors
    /// It is lost.
    pub(super) fn check(&self) -> std::result::Result<Duration, Lost> {
        match self {
            Hold::Inherited => Ok(Duration::MAX),
            Hold::One(guard) => guard.check(),
            Hold::Many(guard) => guard.check(),
            Hold::Read(guard) => guard.check(),
            Hold::Permits(permit) => permit.check(),
            Hold::Slot(started) => started.guard().check(),
        }
    }

    /// For how long it is ours; zero once it is lost.
    pub(super) fn remaining(&self) -> Duration {
        self.check().unwrap_or(Duration::ZERO)
    }

    /// Resolves when it is lost.
    pub(super) fn lost(&self) -> Pin<Box<dyn Future<Output = Lost> + '_>> {
        match self {
            // The guardian of the parent that holds it ends us with it.
            Hold::Inherited => Box::pin(std::future::pending()),
            Hold::One(guard) => Box::pin(guard.lost()),
            Hold::Many(guard) => Box::pin(guard.lost()),
            Hold::Read(guard) => Box::pin(guard.lost()),
            Hold::Permits(permit) => Box::pin(permit.lost()),
            Hold::Slot(started) => Box::pin(started.guard().lost()),
        }
    }

    /// Tells the store whose work it is. Where that fails, only the listing is the poorer for it.
    pub(super) fn describe(&self, owner: Owner) {
        let _ = match self {
            Hold::Inherited => Ok(()),
            Hold::One(guard) => guard.describe(owner),
            Hold::Many(guard) => guard.describe(owner),
            Hold::Read(guard) => guard.describe(owner),
            Hold::Permits(permit) => permit.describe(owner),
            Hold::Slot(started) => started.guard().describe(owner),
        };
    }

    /// Gives it back; a slot stays used if its job was run.
    ///
    /// # Errors
    /// It was no longer ours, or nobody answered.
    pub(super) async fn release(self, ending: Ending) -> Result<()> {
        match (self, ending) {
            (Hold::Inherited, _) => Ok(()),
            (Hold::One(guard), _) => guard.release().await,
            (Hold::Many(guard), _) => guard.release().await,
            (Hold::Read(guard), _) => guard.release().await,
            (Hold::Permits(permit), _) => permit.release().await,
            (Hold::Slot(started), Ending::NotRun) => started.give_back().await,
            (Hold::Slot(started), Ending::Ended(result)) => started.finish(result).await.recorded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_parent_holds_is_enough_or_not() {
        let permits = |permits, of| Ask::Permits { permits, of };
        for (ask, held, enough) in [
            (Ask::Mutex, "mutex", true),
            (Ask::Mutex, "read", false),
            (Ask::Mutex, "unknown", false),
            (Ask::Read, "read", true),
            (Ask::Read, "write", true),
            (Ask::Write, "read", false),
            (Ask::Write, "write", true),
            (permits(2, 5), "permits=2/5", true),
            (permits(2, 5), "permits=3/5", true),
            (permits(2, 5), "permits=1/5", false),
            (permits(2, 5), "permits=2/6", false),
            (permits(2, 5), "mutex", false),
        ] {
            assert_eq!(ask.is_covered_by(held), enough, "{ask:?} {held}");
        }
    }
}
