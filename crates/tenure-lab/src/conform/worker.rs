//! What child processes do for the trials, and the side of the runner.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tenure::{Error, ErrorKind, Locks, Token};
use tokio::task::JoinSet;

use super::check::Held;
use super::faces::{Face, Lock};
use super::{Ctx, Failed, Verdict, ensure, fork, primitives};
use crate::any_guard::AnyGuard;
use crate::failure::{Failure, Outcome};
use crate::num::{Dice, boot_ns};
use crate::process::{Heard, Link, Role, Worker};
use crate::servers;

/// The role of conformance workers.
pub(crate) const WORKER: Role = ("conform", play);

/// Excludes trials that need several processes.
pub(crate) fn alone(ctx: &Ctx) -> Option<&'static str> {
    ctx.private().then_some("scope is process")
}

/// A store, as a child finds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Where {
    url: String,
    namespace: String,
    pub(super) face: Face,
}

impl From<&Ctx> for Where {
    fn from(ctx: &Ctx) -> Where {
        Where { url: ctx.url.clone(), namespace: ctx.namespace.clone(), face: ctx.face }
    }
}

impl Where {
    pub(super) fn connect(&self, ttl_ms: u64) -> Outcome<Locks> {
        let builder =
            servers::builder(&self.url).namespace(&self.namespace).ttl(Duration::from_millis(ttl_ms));
        Ok(builder.blocking_connect()?)
    }

    /// The lock of a new client.
    fn lock(&self, ttl_ms: u64, name: &str) -> Outcome<Lock> {
        Ok(self.face.lock(&self.connect(ttl_ms)?, name)?)
    }
}

/// What a child does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Some tasks take and give back one lock; for so many rounds, or until the child is killed.
    Crowd {
        place: Where,
        name: String,
        tasks: u64,
        rounds: Option<u64>,
        ttl_ms: u64,
        seed: u64,
        witness: Option<PathBuf>,
    },
    /// Takes a lock, and then does as it is told.
    Hold { place: Where, name: String, ttl_ms: u64 },
    /// Takes a lock, drops its guard and returns from `main`.
    DropAndReturn { place: Where, name: String, ttl_ms: u64 },
    /// Takes and gives back a lock a few times, and exits in the middle of the last hold.
    Exit { place: Where, name: String, times: u64, ttl_ms: u64 },
    /// Forks with a lock in hand.
    Fork { place: Where, name: String },
    /// Has one of the other primitives in hand.
    Primitive { place: Where, name: String, ttl_ms: u64, what: primitives::Hands },
}

/// What a holding child is told to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Order {
    Check,
    Release,
}

/// What a child tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// It asks.
    Asks,
    /// It holds.
    In { task: u64, asked: u64, from: u64, token: i64, deadline: u64 },
    /// It is about to give it back.
    Out { task: u64, to: u64 },
    /// It has begun with this.
    Began(String),
    /// What it was told to find out: the kind of the error, or `ok`.
    Found(String),
    /// Something is wrong.
    Broken(String),
}

fn play(link: &Link) -> Outcome<()> {
    match link.task()? {
        Task::Crowd { place, name, tasks, rounds, ttl_ms, seed, witness } => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.map_err(|e| Failure::run("no runtime", "see the cause").because(e))?;
            let lock = place.lock(ttl_ms, &name)?;
            let rounds = rounds.unwrap_or(u64::MAX);
            runtime.block_on(async {
                let mut all = JoinSet::new();
                for task in 0..tasks {
                    all.spawn(one_of_crowd(lock.clone(), task, rounds, seed, witness.clone()));
                }
                while let Some(done) = all.join_next().await {
                    if let Err(error) =
                        done.map_err(|e| e.to_string()).and_then(|d| d.map_err(|e| e.to_string()))
                    {
                        link.tell(&Event::Broken(error));
                    }
                }
            });
            Ok(())
        }
        Task::Hold { place, name, ttl_ms } => hold(link, &place.lock(ttl_ms, &name)?),
        Task::DropAndReturn { place, name, ttl_ms } => {
            let guard = take(link, &place.lock(ttl_ms, &name)?)?;
            drop(guard);
            Ok(())
        }
        Task::Exit { place, name, times, ttl_ms } => {
            let lock = place.lock(ttl_ms, &name)?;
            for _ in 1..times {
                take(link, &lock)?.blocking_release()?;
            }
            let _held = take(link, &lock)?;
            std::process::exit(0);
        }
        Task::Fork { place, name } => fork::play(link, &place, &name),
        Task::Primitive { place, name, ttl_ms, what } => {
            primitives::play(link, &place.connect(ttl_ms)?, &name, what)
        }
    }
}

/// Takes a lock and tells of it.
pub(super) fn take(link: &Link, lock: &Lock) -> Outcome<AnyGuard> {
    link.tell(&Event::Asks);
    let asked = boot_ns();
    let guard = lock.blocking_lock()?;
    tell_in(link, 0, asked, &guard);
    Ok(guard)
}

fn tell_in(link: &Link, task: u64, asked: u64, guard: &AnyGuard) {
    let from = boot_ns();
    let left = u64::try_from(guard.remaining().as_nanos()).unwrap_or(u64::MAX);
    link.tell(&Event::In {
        task,
        asked,
        from,
        // A permit has none.
        token: guard.token().map_or(0, Token::get),
        deadline: boot_ns().saturating_add(left),
    });
}

fn hold(link: &Link, lock: &Lock) -> Outcome<()> {
    let mut guard = Some(take(link, lock)?);
    while let Some(order) = link.next::<Order>()? {
        let found = match (order, guard.take()) {
            (Order::Check, Some(held)) => {
                let found = held.check().map(drop).map_err(Error::from);
                guard = Some(held);
                found
            }
            (Order::Release, Some(held)) => held.blocking_release(),
            (_, None) => Ok(()),
        };
        link.tell(&Event::Found(found.map_or_else(|e| format!("{:?}", e.kind()), |()| "ok".into())));
    }
    Ok(())
}

async fn one_of_crowd(
    lock: Lock,
    task: u64,
    rounds: u64,
    seed: u64,
    witness: Option<PathBuf>,
) -> Result<(), Error> {
    let mut dice = Dice::new(seed, u64::from(std::process::id()) << 8 | task);
    for _ in 0..rounds {
        Link.tell(&Event::Asks);
        let asked = boot_ns();
        let guard = match dice.below(8) {
            0 => lock.try_lock().await?,
            1 => lock.try_lock_for(Duration::from_micros(dice.below(3000))).await?,
            _ => Some(lock.lock().await?),
        };
        let Some(guard) = guard else { continue };
        tell_in(&Link, task, asked, &guard);
        let short = guard.remaining() < Duration::from_secs(1);
        let made = witness.as_deref().map(enter);
        if dice.below(4) == 0 {
            tokio::time::sleep(Duration::from_micros(dice.below(1500))).await;
        }
        if let Some((path, made)) = witness.as_deref().zip(made) {
            leave(path, made);
        }
        // Told before the release is called: a child that is killed in between is still judged as a holder.
        Link.tell(&Event::Out { task, to: boot_ns() });
        match dice.below(2) {
            0 => drop(guard),
            _ => match guard.release().await {
                // A short lease may end on a busy machine, or before an answer comes; until then it was believed, and that
                // is what is judged.
                Err(error) if short && matches!(error.kind(), ErrorKind::Lost | ErrorKind::Uncertain) => {}
                other => other?,
            },
        }
    }
    Ok(())
}

/// The witness: a file that only one may have made.
fn enter(path: &Path) -> bool {
    let made = OpenOptions::new().write(true).create_new(true).open(path).is_ok();
    if !made {
        Link.tell(&Event::Broken("S1: somebody else's witness is there already".into()));
    }
    made
}

fn leave(path: &Path, made: bool) {
    if made && std::fs::remove_file(path).is_err() {
        Link.tell(&Event::Broken("S1: somebody else has taken the witness away".into()));
    }
}

/// How long the runner waits for a word of a child.
const PATIENCE: Duration = Duration::from_secs(60);

/// The children of one trial, as their runner sees them. They are killed when it is dropped.
pub(crate) struct Crowd {
    workers: Vec<Worker>,
    /// Whether each has closed its output.
    closed: Vec<bool>,
    asks: Vec<u64>,
    tell: Sender<Heard>,
    receiver: Receiver<Heard>,
    inside: HashMap<(usize, u64), (Held, u64)>,
    holds: Vec<Held>,
    found: HashMap<usize, String>,
    begun: Vec<(usize, String)>,
}

impl Crowd {
    pub(crate) fn new() -> Crowd {
        let (tell, receiver) = channel();
        Crowd {
            workers: Vec::new(),
            closed: Vec::new(),
            asks: Vec::new(),
            tell,
            receiver,
            inside: HashMap::new(),
            holds: Vec::new(),
            found: HashMap::new(),
            begun: Vec::new(),
        }
    }

    /// Starts a child, and says its number.
    pub(crate) fn start(&mut self, task: &Task) -> Verdict<usize> {
        let number = self.workers.len();
        self.workers.push(Worker::start("conform", number, task, self.tell.clone())?);
        self.closed.push(false);
        self.asks.push(0);
        Ok(number)
    }

    pub(crate) fn worker(&mut self, number: usize) -> &mut Worker {
        &mut self.workers[number]
    }

    pub(crate) fn pid(&self, number: usize) -> u32 {
        self.workers[number].pid()
    }

    /// The tokens of a child's holds, in order; whether the last is still held.
    pub(crate) fn holds_of(&self, number: usize) -> Vec<Held> {
        let pid = self.pid(number);
        let open = self.inside.iter().filter(|((n, _), _)| *n == number).map(|(_, (held, _))| *held);
        self.holds.iter().filter(|h| h.process == pid).copied().chain(open).collect()
    }

    /// Whether a child holds now, as far as it was heard.
    pub(crate) fn holding(&self, number: usize) -> bool {
        self.inside.keys().any(|(n, _)| *n == number)
    }

    /// Takes in what was told until `enough`, or fails.
    pub(crate) fn hear(&mut self, what: &str, mut enough: impl FnMut(&Crowd) -> bool) -> Verdict<()> {
        let end = Instant::now() + PATIENCE;
        while !enough(self) {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(heard) = self.receiver.recv_timeout(left) else {
                return Err(Failed::Broken(format!("{what}: a child said nothing for {PATIENCE:?}")));
            };
            self.take(heard)?;
        }
        Ok(())
    }

    /// Takes in what was told by now.
    pub(crate) fn listen(&mut self) -> Verdict<()> {
        while let Ok(heard) = self.receiver.try_recv() {
            self.take(heard)?;
        }
        Ok(())
    }

    fn take(&mut self, heard: Heard) -> Verdict<()> {
        let Heard { from: number, said } = heard;
        let Some(said) = said else {
            self.closed[number] = true;
            return Ok(());
        };
        // A child that was killed in the middle of a line leaves half of it.
        let Ok(event) = serde_json::from_value(said) else { return Ok(()) };
        match event {
            Event::Asks => self.asks[number] += 1,
            Event::In { task, asked, from, token, deadline } => {
                let held = Held { asked, from, to: deadline, token, process: self.pid(number) };
                // One that told of no end has given the lock back before it asked again.
                if let Some((before, _)) = self.inside.insert((number, task), (held, deadline)) {
                    self.holds.push(Held { to: before.from.max(before.to.min(asked)), ..before });
                }
            }
            Event::Out { task, to } => self.end(number, task, to),
            Event::Began(what) => self.begun.push((number, what)),
            Event::Found(what) => drop(self.found.insert(number, what)),
            Event::Broken(why) => return Err(Failed::Broken(why)),
        }
        Ok(())
    }

    fn end(&mut self, number: usize, task: u64, to: u64) {
        if let Some((held, deadline)) = self.inside.remove(&(number, task)) {
            // Renewals may have moved the deadline since: then this is shorter than the truth, and judges less.
            let to = to.min(deadline);
            self.holds.push(Held { to, ..held });
        }
    }

    /// Until a child has asked once more and has got what it asked for.
    pub(crate) fn until_holding(&mut self, number: usize) -> Verdict<()> {
        self.hear("a child takes the lock", |crowd| crowd.holding(number) || crowd.closed[number])?;
        ensure!(self.holding(number), "a child ended without taking the lock");
        Ok(())
    }

    /// Tells a child to do something, and says what it found.
    pub(crate) fn order(&mut self, number: usize, order: &Order) -> Verdict<String> {
        self.found.remove(&number);
        self.workers[number].order(order)?;
        self.found(number)
    }

    /// What a child found without being told to look.
    pub(crate) fn found(&mut self, number: usize) -> Verdict<String> {
        self.hear("a child answers", |crowd| crowd.found.contains_key(&number) || crowd.closed[number])?;
        Ok(self.found.remove(&number).unwrap_or_else(|| "the child ended without a word".into()))
    }

    /// Until a child has begun with so many things.
    pub(crate) fn began(&mut self, number: usize, many: usize) -> Verdict<()> {
        let begun = |crowd: &Crowd| crowd.begun.iter().filter(|(n, _)| *n == number).count() >= many;
        self.hear("a child begins", |crowd| begun(crowd) || crowd.closed[number])?;
        ensure!(begun(self), "a child ended before it began");
        Ok(())
    }

    /// What all children have begun with.
    pub(crate) fn all_begun(&self) -> Vec<String> {
        self.begun.iter().map(|(_, what)| what.clone()).collect()
    }

    /// How often a child has asked for the lock, and how many answers it knows of.
    pub(crate) fn asks(&self, number: usize) -> u64 {
        self.asks[number]
    }

    /// Kills a child. Its holds last until then: says how many it had.
    pub(crate) fn kill(&mut self, number: usize) -> Verdict<u64> {
        let at = boot_ns();
        self.workers[number].kill();
        self.hear("a killed child ends", |crowd| crowd.closed[number])?;
        let held: Vec<u64> =
            self.inside.keys().filter(|(n, _)| *n == number).map(|(_, task)| *task).collect();
        for &task in &held {
            self.end(number, task, at);
        }
        Ok(held.len() as u64)
    }

    /// Lets all children end by themselves, and says what they held.
    pub(crate) fn finish(mut self) -> Verdict<Vec<Held>> {
        self.hear("the children end", |crowd| crowd.closed.iter().all(|c| *c))?;
        for worker in &mut self.workers {
            worker.finish()?;
        }
        Ok(self.holds)
    }

    /// Waits until a child has ended by itself.
    pub(crate) fn ended(&mut self, number: usize) -> Verdict<()> {
        self.hear("a child ends", |crowd| crowd.closed[number])?;
        Ok(self.workers[number].finish()?)
    }

    /// The holds of all children up to now.
    pub(crate) fn holds(&self) -> Vec<Held> {
        self.holds.clone()
    }
}
