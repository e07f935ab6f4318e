//! Leader election: one of many candidates leads, and anybody can see who.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::backend::{Line, Owner};
use crate::capability::{Needs, Visibility};
use crate::core::backoff;
use crate::engine::Patience;
use crate::error::{Error, ErrorKind, Lost, Result};
use crate::guard::Guard;
use crate::key::Key;
use crate::locks::Locks;
use crate::mutex::Mutex;
use crate::once::JobError;
use crate::options::{LockOptions, REASON_MAX};
use crate::token::Token;
use crate::watch::Watch;

impl Locks {
    /// An election of this name. All candidates use the same name.
    ///
    /// # Errors
    /// Those of [`mutex`](Locks::mutex).
    pub fn election(&self, name: impl AsRef<str>) -> Result<Election> {
        Ok(Election { mutex: self.mutex(name)?, locks: self.clone() })
    }
}

/// An election: one candidate leads until it resigns or loses the lead. Made by [`Locks::election`]; cheap to clone.
///
/// A candidate campaigns with a value, for example its address. The value is stored as the reason of its claim, so everybody who
/// may look can see it. It has at most 256 bytes. Candidates lead one after another in the order of the store's line.
///
/// A leader that is paused for longer than its lease is replaced, and may not know it yet. As with any lock, the resource must
/// refuse its late writes by the [token](Leader::token).
///
/// ```
/// # pollster::block_on(async {
/// let locks = tenure::Locks::memory();
/// let election = locks.election("billing")?;
/// let leader = election.campaign("10.0.0.5:8080").await?;
/// let seen = election.leader().await?.expect("somebody leads");
/// assert_eq!((seen.value(), seen.token()), ("10.0.0.5:8080", Some(leader.token())));
/// leader.resign().await?;
/// # Ok::<(), tenure::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Election {
    locks: Locks,
    mutex: Mutex,
}

/// The current leader, as anybody can see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderInfo {
    value: String,
    token: Option<Token>,
    since: SystemTime,
    owner: Owner,
}

impl LeaderInfo {
    /// The value that it campaigned with or has proclaimed since.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The fencing token of its term; `None` if the holder is another program that has none.
    #[must_use]
    pub fn token(&self) -> Option<Token> {
        self.token
    }

    /// When it began to lead, on the store's clock.
    #[must_use]
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// Its identity.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

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
    /// Those of [`Mutex::with`]; `Config` for a reason, since the value travels there.
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
    /// Those of [`Mutex::lock`]; `Config` for a value of more than 256 bytes.
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the candidacy.
    ///
    /// # On drop
    /// Dropping the [`Leader`] resigns in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id, so a grant whose answer was lost is found again.
    pub async fn campaign(&self, value: &str) -> Result<Leader> {
        loop {
            // `None` only where a patience ran out, and there is none.
            if let Some(leader) = self.stand(value, Patience::Forever).await? {
                return Ok(leader);
            }
        }
    }

    /// Leads if nobody leads and nobody waits to. Never waits in line. `None` means that another candidate leads.
    ///
    /// # Errors
    /// Those of [`campaign`](Election::campaign); `Unavailable` after 5 s without an answer.
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the candidacy, in the background.
    ///
    /// # On drop
    /// Dropping the [`Leader`] resigns in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id for at most 5 s.
    pub async fn try_campaign(&self, value: &str) -> Result<Option<Leader>> {
        self.stand(value, Patience::None).await
    }

    /// Waits in line for at most `wait`. `None` means that it was not elected within that time.
    ///
    /// # Errors
    /// Those of [`campaign`](Election::campaign). If the store does not answer for 2 s, or answers with errors only,
    /// the result is `Unavailable` instead of `None`, even before `wait` is over.
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the candidacy, in the background.
    ///
    /// # On drop
    /// Dropping the [`Leader`] resigns in the background.
    ///
    /// # When the answer is lost
    /// The request is repeated under the same claim id, so a grant whose answer was lost is found again.
    pub async fn try_campaign_for(&self, value: &str, wait: Duration) -> Result<Option<Leader>> {
        self.stand(value, Patience::lasting(wait, &*self.mutex.engine.core.runtime)).await
    }

    /// Campaigns, runs `work` while leading, and campaigns again, until `work` returns `Ok`: the loop of a candidate.
    ///
    /// When the lead is lost, `work` is dropped and the candidate waits in line again. When `work` returns an error, that is
    /// logged as a warning, the candidate resigns, pauses for up to a second, and campaigns again: an error does not end the
    /// candidacy. While the store cannot be reached it retries, with pauses. When `work` returns `Ok`, it resigns and returns the
    /// value. To stop a candidate from outside, drop the future: it resigns in the background.
    ///
    /// ```
    /// # pollster::block_on(async {
    /// let locks = tenure::Locks::memory();
    /// let mut failures = 0;
    /// let token = locks
    ///     .election("billing")?
    ///     .run("10.0.0.5:8080", async |leader| {
    ///         failures += 1;
    ///         if failures == 1 {
    ///             return Err("the first try fails".into());
    ///         }
    ///         Ok(leader.token()) // work here, and show the token to what you write to
    ///     })
    ///     .await?;
    /// println!("led with {token}");
    /// # Ok::<(), tenure::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Only what no retry can cure: `Config` (also after `Locks::close`), `Denied`, `Unsupported`, `Protocol`.
    ///
    /// # Cancel safety
    /// Dropping the future drops `work`, and withdraws the candidacy or resigns, in the background.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// Each request is repeated under its claim id; a lead whose grant was lost is found again.
    pub async fn run<T>(
        &self,
        value: &str,
        mut work: impl AsyncFnMut(&Leader) -> std::result::Result<T, JobError>,
    ) -> Result<T> {
        let runtime = &self.mutex.engine.core.runtime;
        let mut failures = 0;
        loop {
            match self.term(value, &mut work).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => {
                    tracing::warn!(target: "tenure", election = %self.key(), %error, "the leader's work failed");
                }
                Err(error) if error.kind() == ErrorKind::Lost => {
                    tracing::warn!(target: "tenure", election = %self.key(), %error, "no longer the leader");
                    failures = 0;
                    continue;
                }
                Err(error) if error.kind().may_pass() => {
                    tracing::warn!(target: "tenure", election = %self.key(), %error, "campaigning again");
                }
                Err(error) => return Err(error),
            }
            failures += 1;
            let mut dice = [0u8; 8];
            runtime.fill(&mut dice);
            runtime.sleep_until(runtime.now() + backoff::pause(failures, u64::from_le_bytes(dice))).await;
        }
    }

    /// One term: what the work came to, or why there was none, or no longer one.
    async fn term<T>(
        &self,
        value: &str,
        work: &mut impl AsyncFnMut(&Leader) -> std::result::Result<T, JobError>,
    ) -> Result<std::result::Result<T, JobError>> {
        let leader = self.campaign(value).await?;
        let done = leader.while_held(work(&leader)).await?;
        // Whether it was ours until now is told by a loss; what the store says to the resignation changes nothing.
        match leader.resign().await {
            Err(error) if error.kind() == ErrorKind::Lost => Err(error),
            _ => Ok(done),
        }
    }

    async fn stand(&self, value: &str, patience: Patience) -> Result<Option<Leader>> {
        check_value(value)?;
        let mut mutex = self.mutex.clone();
        mutex.request.reason = value.into();
        Ok(mutex.take(patience).await?.map(|guard| Leader { guard }))
    }

    /// The current leader; `None` if there is none. Anybody may ask, without campaigning. The answer may be out of date already.
    ///
    /// # Errors
    /// `Unsupported` if the store does not show holders; otherwise as [`Locks::inspect`].
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

    /// Reports who leads, now and after each change. Anybody may observe.
    ///
    /// # Errors
    /// `Unsupported` if the store does not show holders; `Config` in a forked process and after `Locks::close`.
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
    /// Those of [`campaign`](Election::campaign).
    pub fn blocking_campaign(&self, value: &str) -> Result<Leader> {
        pollster::block_on(self.campaign(value))
    }

    /// [`try_campaign`](Election::try_campaign) for code without async.
    ///
    /// # Errors
    /// Those of [`campaign`](Election::campaign).
    pub fn blocking_try_campaign(&self, value: &str) -> Result<Option<Leader>> {
        pollster::block_on(self.try_campaign(value))
    }

    /// [`try_campaign_for`](Election::try_campaign_for) for code without async.
    ///
    /// # Errors
    /// Those of [`campaign`](Election::campaign).
    pub fn blocking_try_campaign_for(&self, value: &str, wait: Duration) -> Result<Option<Leader>> {
        pollster::block_on(self.try_campaign_for(value, wait))
    }

    /// [`leader`](Election::leader) for code without async.
    ///
    /// # Errors
    /// Those of [`leader`](Election::leader).
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

/// Leadership, until it ends or is lost.
///
/// # On drop
/// Resigns in the background.
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

    /// The fencing token of this term: greater than that of every earlier term. Pass it to what the leader writes to.
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
    /// Dropping the future changes nothing; it can be called again.
    ///
    /// # On drop
    /// Nothing happens.
    ///
    /// # When the answer is lost
    /// It asks nothing: the deadline passes by our own clock.
    pub async fn lost(&self) -> Lost {
        self.guard.lost().await
    }

    /// Runs `work` while we lead, and drops it as soon as that is over.
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

    /// Changes the value while leading, and waits until the store has it. Observers are told. The token stays the same.
    ///
    /// # Errors
    /// `Config` for a value of more than 256 bytes; otherwise as [`Guard::set_reason`].
    ///
    /// # Cancel safety
    /// Dropping the future may or may not change the value; we still lead.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// The request is repeated until it is answered or the lease expires.
    pub async fn proclaim(&self, value: &str) -> Result<()> {
        check_value(value)?;
        self.guard.set_reason(value).await
    }

    /// Steps down: the next candidate in line leads. Says whether we led until now.
    ///
    /// # Errors
    /// Those of [`Guard::release`].
    ///
    /// # Cancel safety
    /// Dropping the future resigns all the same, in the background.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// The request is repeated until it is answered or the lease expires.
    pub async fn resign(self) -> Result<()> {
        self.guard.release().await
    }

    /// [`proclaim`](Leader::proclaim) for code without async.
    ///
    /// # Errors
    /// Those of [`proclaim`](Leader::proclaim).
    pub fn blocking_proclaim(&self, value: &str) -> Result<()> {
        pollster::block_on(self.proclaim(value))
    }

    /// [`resign`](Leader::resign) for code without async.
    ///
    /// # Errors
    /// Those of [`resign`](Leader::resign).
    pub fn blocking_resign(self) -> Result<()> {
        pollster::block_on(self.resign())
    }

    /// [`lost`](Leader::lost) for code without async: blocks until we no longer lead, or for `wait`.
    #[must_use]
    pub fn blocking_lost_for(&self, wait: Duration) -> Option<Lost> {
        self.guard.blocking_lost_for(wait)
    }
}

/// Reports who leads; made by [`Election::observe`].
#[derive(Debug)]
pub struct Observer {
    watch: Watch,
    /// What was told last; `None` before the first time.
    last: Option<Option<LeaderInfo>>,
}

impl Observer {
    /// The first call returns the current leader. Each later call waits for the next change of leader or value. `None` means that
    /// nobody leads. Changes between two calls are reported as one.
    ///
    /// # Errors
    /// Those of [`Election::leader`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the next call sees the change.
    ///
    /// # On drop
    /// The same.
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
    /// Those of [`next`](Observer::next).
    pub fn blocking_next(&mut self) -> Result<Option<LeaderInfo>> {
        pollster::block_on(self.next())
    }
}
