//! Leader election: one of many candidates leads, and anybody can see who.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::backend::{Line, Owner};
use crate::capability::{Needs, Visibility};
use crate::engine::Patience;
use crate::error::{Error, Lost, Result};
use crate::guard::Guard;
use crate::key::Key;
use crate::locks::{Locks, Watch};
use crate::mutex::Mutex;
use crate::options::{LockOptions, REASON_MAX};
use crate::token::Token;

impl Locks {
    /// An election of this name. Candidates share the name, and with it the mutex that it is made of.
    ///
    /// # Errors
    /// As [`mutex`](Locks::mutex).
    pub fn election(&self, name: impl AsRef<str>) -> Result<Election> {
        Ok(Election { mutex: self.mutex(name)?, locks: self.clone() })
    }
}

/// An election: whoever is granted its mutex leads until it resigns or is lost. Made by [`Locks::election`]; cheap to clone.
///
/// A candidate campaigns with a value, an address for instance. The value travels as the reason of its claim, so it is
/// visible to everybody who may look, and has at most 256 bytes. Candidates follow each other in the order of the store's
/// line.
///
/// A leader that stops for longer than its lease is followed by another one, and may not know it yet: what it writes must
/// be refused by its [token](Leader::token), as with any lock.
///
/// ```
/// # pollster::block_on(async {
/// let locks = tenure::Locks::memory();
/// let election = locks.election("billing")?;
/// let leader = election.campaign("10.0.0.5:8080").await?;
/// let seen = election.leader().await?.expect("somebody leads");
/// assert_eq!((seen.value.as_str(), seen.token), ("10.0.0.5:8080", Some(leader.token())));
/// leader.resign().await?;
/// # Ok::<(), tenure::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Election {
    locks: Locks,
    mutex: Mutex,
}

/// Who leads, as anybody sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaderInfo {
    /// The value that it campaigned with or has proclaimed since.
    pub value: String,
    /// The fencing token of its term; `None` where the holder is of another program that gives none.
    pub token: Option<Token>,
    /// Since when it leads, on the store's clock.
    pub since: SystemTime,
    /// Who it is.
    pub owner: Owner,
}

impl LeaderInfo {
    fn of(line: Option<Line>) -> Option<LeaderInfo> {
        let seen = line?.holders.into_iter().next()?;
        let since = UNIX_EPOCH + Duration::from_micros(seen.since_us);
        Some(LeaderInfo { value: seen.reason, token: seen.token, since, owner: seen.owner })
    }
}

impl Election {
    /// The same election, entered with another lease or owner.
    ///
    /// # Errors
    /// As [`Mutex::with`]; `Config` for a reason, since the value travels there.
    pub fn with(mut self, options: LockOptions) -> Result<Election> {
        if options.reason.is_some() {
            return Err(Error::config("an election has no reason of its own", "give it as the value"));
        }
        self.mutex = self.mutex.with(options)?;
        Ok(self)
    }

    /// The election's name.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.mutex.key()
    }

    /// Waits in line until this candidate leads.
    ///
    /// # Errors
    /// As [`Mutex::lock`]; `Config` for a value of more than 256 bytes.
    ///
    /// # Cancel safety
    /// As [`Mutex::lock`]: the candidacy is withdrawn.
    ///
    /// # On drop
    /// Dropping the [`Leader`] resigns in the background.
    ///
    /// # When the answer is lost
    /// As [`Mutex::lock`].
    pub async fn campaign(&self, value: &str) -> Result<Leader> {
        loop {
            // `None` only where a patience ran out, and there is none.
            if let Some(leader) = self.run(value, Patience::Forever).await? {
                return Ok(leader);
            }
        }
    }

    /// Leads if nobody does and nobody waits to. `None`: somebody does.
    ///
    /// # Errors
    /// As [`campaign`](Election::campaign).
    ///
    /// # Cancel safety
    /// As [`campaign`](Election::campaign).
    ///
    /// # On drop
    /// As [`campaign`](Election::campaign).
    ///
    /// # When the answer is lost
    /// As [`campaign`](Election::campaign).
    pub async fn try_campaign(&self, value: &str) -> Result<Option<Leader>> {
        self.run(value, Patience::None).await
    }

    /// Waits in line for at most `wait`. `None`: not elected within that time.
    ///
    /// # Errors
    /// As [`campaign`](Election::campaign).
    ///
    /// # Cancel safety
    /// As [`campaign`](Election::campaign).
    ///
    /// # On drop
    /// As [`campaign`](Election::campaign).
    ///
    /// # When the answer is lost
    /// As [`campaign`](Election::campaign).
    pub async fn try_campaign_for(&self, value: &str, wait: Duration) -> Result<Option<Leader>> {
        self.run(value, Patience::lasting(wait, &*self.mutex.engine.core.runtime)).await
    }

    async fn run(&self, value: &str, patience: Patience) -> Result<Option<Leader>> {
        check_value(value)?;
        let mut mutex = self.mutex.clone();
        mutex.request.reason = value.into();
        Ok(mutex.take(patience).await?.map(|guard| Leader { guard }))
    }

    /// Who leads now; `None`: nobody. For anybody, also without campaigning. It may be out of date as soon as it is said.
    ///
    /// # Errors
    /// `Unsupported` where the store does not show holders; otherwise as [`Locks::inspect`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    ///
    /// # On drop
    /// Nothing happens.
    ///
    /// # When the answer is lost
    /// Ask again.
    pub async fn leader(&self) -> Result<Option<LeaderInfo>> {
        self.visible()?;
        Ok(LeaderInfo::of(self.locks.inspect(self.key().name()).await?))
    }

    /// Follows who leads, for anybody.
    ///
    /// # Errors
    /// `Unsupported` where the store does not show holders; `Config` in a forked process and after `Locks::close`.
    pub fn observe(&self) -> Result<Observer> {
        self.visible()?;
        Ok(Observer { watch: self.locks.watch_one(self.key().name())?, last: None })
    }

    fn visible(&self) -> Result<()> {
        let shown = self.locks.require(Needs::new().visibility(Visibility::Holders));
        shown.map_err(|error| error.of(self.key()))
    }

    /// [`campaign`](Election::campaign) for code without async.
    ///
    /// # Errors
    /// As [`campaign`](Election::campaign).
    pub fn blocking_campaign(&self, value: &str) -> Result<Leader> {
        pollster::block_on(self.campaign(value))
    }

    /// [`try_campaign`](Election::try_campaign) for code without async.
    ///
    /// # Errors
    /// As [`campaign`](Election::campaign).
    pub fn blocking_try_campaign(&self, value: &str) -> Result<Option<Leader>> {
        pollster::block_on(self.try_campaign(value))
    }

    /// [`try_campaign_for`](Election::try_campaign_for) for code without async.
    ///
    /// # Errors
    /// As [`campaign`](Election::campaign).
    pub fn blocking_try_campaign_for(&self, value: &str, wait: Duration) -> Result<Option<Leader>> {
        pollster::block_on(self.try_campaign_for(value, wait))
    }

    /// [`leader`](Election::leader) for code without async.
    ///
    /// # Errors
    /// As [`leader`](Election::leader).
    pub fn blocking_leader(&self) -> Result<Option<LeaderInfo>> {
        pollster::block_on(self.leader())
    }
}

fn check_value(value: &str) -> Result<()> {
    if value.len() > REASON_MAX {
        let what = format!("the candidate's value is {} bytes long", value.len());
        return Err(Error::config(
            what,
            format!("use at most {REASON_MAX}, for instance a reference to more"),
        ));
    }
    Ok(())
}

/// Leadership. Whoever has it leads, until it ends or is lost.
///
/// # On drop
/// Resigns in the background, as [`Guard`] gives a lock back.
#[must_use = "dropping it resigns"]
#[derive(Debug)]
pub struct Leader {
    guard: Guard,
}

impl Leader {
    /// The election's name.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.guard.key()
    }

    /// The fencing token of this term: greater than that of every earlier one. Hand it to what the leader writes to.
    #[must_use]
    pub fn token(&self) -> Token {
        self.guard.token()
    }

    /// Whether we still lead, and for how long at least; see [`Guard::check`].
    ///
    /// # Errors
    /// [`Lost`], saying why.
    pub fn check(&self) -> Result<Duration, Lost> {
        self.guard.check()
    }

    /// How long we lead without another renewal; zero once that is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.guard.remaining()
    }

    /// Resolves when we no longer lead, no later than at the deadline.
    ///
    /// # Cancel safety
    /// As [`Guard::lost`].
    ///
    /// # On drop
    /// As [`Guard::lost`].
    ///
    /// # When the answer is lost
    /// As [`Guard::lost`].
    pub async fn lost(&self) -> Lost {
        self.guard.lost().await
    }

    /// Runs `work` while we lead, and drops it the moment that is over.
    ///
    /// # Errors
    /// [`Lost`], if that came first; what `work` had done by then is done.
    ///
    /// # Cancel safety
    /// As `work`'s own; the leadership stays.
    ///
    /// # On drop
    /// Drops `work`.
    ///
    /// # When the answer is lost
    /// It asks nothing.
    pub async fn while_held<T>(&self, work: impl Future<Output = T>) -> Result<T, Lost> {
        self.guard.while_held(work).await
    }

    /// Changes the value while leading, and waits until the store has it. Observers are told, the token stays.
    ///
    /// # Errors
    /// `Config` for a value of more than 256 bytes; otherwise as [`Guard::set_reason`].
    ///
    /// # Cancel safety
    /// As [`Guard::set_reason`].
    ///
    /// # On drop
    /// As [`Guard::set_reason`].
    ///
    /// # When the answer is lost
    /// As [`Guard::set_reason`].
    pub async fn proclaim(&self, value: &str) -> Result<()> {
        check_value(value)?;
        self.guard.set_reason(value).await
    }

    /// Steps down: the next candidate in line leads. Says whether we led until now.
    ///
    /// # Errors
    /// As [`Guard::release`].
    ///
    /// # Cancel safety
    /// As [`Guard::release`].
    ///
    /// # On drop
    /// As [`Guard::release`].
    ///
    /// # When the answer is lost
    /// As [`Guard::release`].
    pub async fn resign(self) -> Result<()> {
        self.guard.release().await
    }

    /// [`proclaim`](Leader::proclaim) for code without async.
    ///
    /// # Errors
    /// As [`proclaim`](Leader::proclaim).
    pub fn blocking_proclaim(&self, value: &str) -> Result<()> {
        pollster::block_on(self.proclaim(value))
    }

    /// [`resign`](Leader::resign) for code without async.
    ///
    /// # Errors
    /// As [`resign`](Leader::resign).
    pub fn blocking_resign(self) -> Result<()> {
        pollster::block_on(self.resign())
    }

    /// [`lost`](Leader::lost) for code without async: blocks until we no longer lead, or for `wait`.
    #[must_use]
    pub fn blocking_lost_for(&self, wait: Duration) -> Option<Lost> {
        self.guard.blocking_lost_for(wait)
    }
}

/// Follows who leads; made by [`Election::observe`].
#[derive(Debug)]
pub struct Observer {
    watch: Watch,
    /// What was told last; `None` before the first time.
    last: Option<Option<LeaderInfo>>,
}

impl Observer {
    /// Who leads now, if this is the first call; otherwise who leads after the next change of leader or value. `None`:
    /// nobody. Changes that come faster than they are asked for are told as one.
    ///
    /// # Errors
    /// As [`Election::leader`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the next call sees the change.
    ///
    /// # On drop
    /// As above.
    ///
    /// # When the answer is lost
    /// Call again.
    pub async fn next(&mut self) -> Result<Option<LeaderInfo>> {
        loop {
            let now = LeaderInfo::of(self.watch.next().await?.pop());
            if self.last.as_ref() != Some(&now) {
                self.last = Some(now.clone());
                return Ok(now);
            }
        }
    }

    /// [`next`](Observer::next) for code without async.
    ///
    /// # Errors
    /// As [`next`](Observer::next).
    pub fn blocking_next(&mut self) -> Result<Option<LeaderInfo>> {
        pollster::block_on(self.next())
    }
}
