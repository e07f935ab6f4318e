//! A client process of a run: several tasks that take locks, use what they protect, and write down what they saw.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure::runtime::thread::ThreadRuntime;
use tenure::{Builder, Locks};

use super::holding::{Line, open};
use super::queue::{self, Noting};
use super::resource::{Access, Door};
use crate::any_guard::AnyGuard;
use crate::failure::{Doing, Outcome};
use crate::history::{Claim, Event, Fault, Name, Op, Phase, Recorder, Writer};
use crate::mutants::Mutant;
use crate::num::{Dice, boot_ns};
use crate::process::{Link, Role};
use crate::servers::{self, Inside};

/// The role.
pub(crate) const CLIENT: Role = ("chaos", play);

/// What two readings of the clock may differ by, in ns, before a later deadline is taken for a renewal.
const RENEWED: u64 = 20_000_000;

/// How often the runner is told how much was done.
const TELL: Duration = Duration::from_millis(200);

/// A process stops in the middle of what it does under a lock once in a time below this, in ns.
const DOZES: u64 = 40_000_000_000;

/// The same; more often where something is wrong and has to show.
fn dozes(task: &Task) -> u64 {
    if task.naps > 0.0 { DOZES / 5 } else { DOZES }
}

/// What the process is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) p: u32,
    pub(super) url: String,
    pub(super) namespace: String,
    pub(super) ttl_ms: u64,
    pub(super) tasks: u32,
    /// How many processes began the run, and have the lowest numbers.
    pub(super) processes: u32,
    pub(super) seed: u64,
    pub(super) part: PathBuf,
    pub(super) socket: PathBuf,
    /// How much rarer a store that is so much faster needs what a client does seldom: whoever stops or sleeps with a lock
    /// holds up all others for a lease.
    pub(super) rarer: u64,
    /// Naps of up to this part of a ttl during as large a part of the holds, so that whatever is wrong has time to show. 0: none.
    pub(super) naps: f64,
    /// It is in a pid namespace of its own.
    pub(super) apart: bool,
    /// What is wrong with it on purpose.
    pub(super) mutant: Option<String>,
}

/// What the runner says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Cause no more trouble: the run heals.
    Calm,
    /// End.
    Stop,
}

/// What it tells the runner.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    /// A fault of its own has begun.
    Fault(Told),
    /// How many acquires have succeeded so far.
    Acquired(u64),
}

/// A fault of a client's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Told {
    /// Its name. Should the client die, somebody else has to end it in the history.
    pub(super) fault: String,
    pub(super) id: u64,
    pub(super) t: u64,
}

/// What all tasks of the process share.
struct Shared {
    task: Task,
    writer: Arc<Writer>,
    claims: AtomicU64,
    faults: AtomicU64,
    acquired: AtomicU64,
    calm: AtomicBool,
    stop: AtomicBool,
    /// When the process stops next between two accesses, in ns.
    dozes: AtomicU64,
    /// The store's files were removed: connect again.
    removed: AtomicBool,
    /// Some task has held a lock for long enough to have it renewed.
    stayed: AtomicBool,
    /// How it may stop or kill itself inside a verb of the store.
    inside: Option<&'static Inside>,
}

/// So many processes of a run hold a lock for long, once each: a run without renewals could not judge S10.
const STAYS: u32 = 3;

fn play(link: &Link) -> Outcome<()> {
    let task: Task = link.task()?;
    let writer = Arc::new(Writer::create(&task.part).doing(|| "make the part of a history".into())?);
    // The first processes early, so that it is in every run; those in the place of the dead like all others.
    let early = if task.p <= task.processes { 8 } else { 1 };
    let first = Dice::new(task.seed, u64::from(task.p) << 32).below(dozes(&task) / early);
    let stayed = AtomicBool::new(task.p > STAYS);
    let inside = servers::of(&task.url)?.inside();
    let shared = Arc::new(Shared {
        task,
        stayed,
        writer,
        claims: AtomicU64::new(0),
        faults: AtomicU64::new(0),
        acquired: AtomicU64::new(0),
        calm: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        dozes: AtomicU64::new(boot_ns() + first),
        removed: AtomicBool::new(false),
        inside,
    });
    let heard = shared.clone();
    link.on_orders(move |order: Order| {
        heard.calm.store(true, SeqCst);
        if let Some(inside) = heard.inside {
            (inside.kill_after)(u64::MAX);
        }
        heard.stop.fetch_or(order == Order::Stop, SeqCst);
        order != Order::Stop
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.doing(|| "start a runtime".into())?.block_on(run(&shared))
}

async fn run(shared: &Arc<Shared>) -> Outcome<()> {
    let counted = shared.clone();
    let teller = tokio::spawn(async move {
        loop {
            tokio::time::sleep(TELL).await;
            Link.tell(&Said::Acquired(counted.acquired.load(Relaxed)));
        }
    });
    if shared.task.apart {
        fault(shared, &recorder(shared, 0), Phase::Begin, "pid_namespace", 0)?;
    }
    let mut round = 0;
    while !shared.stop.load(SeqCst) {
        live(shared, round).await?;
        round += 1;
    }
    teller.abort();
    Ok(())
}

/// Works for as long as it is to, or until the store's files are removed: then everybody has to let go of them.
async fn live(shared: &Arc<Shared>, round: u64) -> Outcome<()> {
    let task = &shared.task;
    let ttl = Duration::from_millis(task.ttl_ms);
    shared.removed.store(false, SeqCst);
    let locks = loop {
        // Each task with a claim of its own: the judge knows holds by their claims.
        let builder = Locks::builder(&task.url).namespace(&task.namespace).ttl(ttl).fair();
        match with_mutant(builder, task).connect().await {
            Ok(locks) => break locks,
            Err(_) if shared.stop.load(SeqCst) => return Ok(()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let mut tasks = Vec::new();
    for number in 0..task.tasks {
        let door = Door::open(&task.socket).await.doing(|| "reach the resources".into())?;
        let client = Client {
            shared: shared.clone(),
            recorder: recorder(shared, number),
            door,
            lines: Arc::new(open(&locks)?),
            dice: Dice::new(task.seed, round << 40 | u64::from(task.p) << 16 | u64::from(number)),
            ttl,
        };
        tasks.push(tokio::spawn(client.work()));
    }
    for task in tasks {
        task.await.doing(|| "run a client".into())??;
    }
    // What could not be released ends with its lease; the runner looks for residue.
    let _ = locks.close().await;
    Ok(())
}

/// What the task of this number writes with.
fn recorder(shared: &Shared, number: u32) -> Recorder {
    let p = shared.task.p;
    Recorder::new(shared.writer.clone(), p, Name::from(format!("{p}.{number}").as_str()))
}

/// A fault of this process's own making; begun with a new id.
fn fault(shared: &Shared, recorder: &Recorder, phase: Phase, name: &str, id: u64) -> Outcome<u64> {
    let p = shared.task.p;
    let id =
        if phase == Phase::Begin { u64::from(p) << 20 | shared.faults.fetch_add(1, Relaxed) } else { id };
    let target = Name::from(format!("client {p}").as_str());
    let fault = Fault { name: Name::from(name), id, target, breaks: Vec::new() };
    let mut event = recorder.now(Op::Fault, phase).fault(fault);
    event.c = None;
    if phase == Phase::Begin {
        Link.tell(&Said::Fault(Told { fault: name.to_owned(), id, t: event.t }));
    }
    recorder.put(&event).doing(|| "write the history".into())?;
    Ok(id)
}

/// With an eye on the line, and with what is wrong on purpose, if anything is.
fn with_mutant(builder: Builder, task: &Task) -> Builder {
    let Some(hooks) = task.mutant.as_deref().and_then(Mutant::find).and_then(Mutant::hooks) else {
        return builder.wrap(|store| Arc::new(Noting(store)));
    };
    let builder = match hooks.runtime(Arc::new(ThreadRuntime::new())) {
        Some(runtime) => builder.runtime(runtime),
        None => builder,
    };
    let sinks = hooks.clone();
    builder.wrap_sink(move |sink| sinks.sink(sink)).wrap(move |store| Arc::new(Noting(hooks.outer(store))))
}

/// One task.
struct Client {
    shared: Arc<Shared>,
    recorder: Recorder,
    door: Door,
    lines: Arc<Vec<Line>>,
    dice: Dice,
    ttl: Duration,
}

impl Client {
    fn put(&self, event: &Event) -> Outcome<()> {
        self.recorder.put(event).doing(|| "write the history".into())
    }

    fn naps(&self) -> f64 {
        self.shared.task.naps
    }

    fn calm(&self) -> bool {
        self.shared.calm.load(Relaxed)
    }

    async fn work(mut self) -> Outcome<()> {
        while !self.shared.stop.load(Relaxed) && !self.shared.removed.load(Relaxed) {
            // Two fifths of all goes to the hot lock, which is the first.
            let others = self.lines.len() as u64 - 1;
            let line = if self.dice.below(5) < 2 { 0 } else { 1 + self.dice.below(others) };
            let inside = self.arm()?;
            self.once(usize::try_from(line).unwrap_or(0)).await?;
            if let Some((id, inside)) = inside {
                (inside.kill_after)(u64::MAX);
                self.fault(Phase::End, "pause_inside", id)?;
            }
        }
        Ok(())
    }

    /// Has this process stopped, or killed, at some store of one of the next verbs.
    fn arm(&mut self) -> Outcome<Option<(u64, &'static Inside)>> {
        let Some(inside) = self.shared.inside else { return Ok(None) };
        if self.calm() || self.dice.below(4000 * self.shared.task.rarer) != 0 {
            return Ok(None);
        }
        let n = self.dice.below(120);
        if self.dice.below(4) == 0 {
            self.fault(Phase::Begin, "kill_inside", 0)?;
            (inside.kill_after)(n);
            return Ok(None);
        }
        let id = self.fault(Phase::Begin, "pause_inside", 0)?;
        (inside.stop_after)(n);
        Ok(Some((id, inside)))
    }

    fn fault(&self, phase: Phase, name: &str, id: u64) -> Outcome<u64> {
        fault(&self.shared, &self.recorder, phase, name, id)
    }

    /// One acquire, what is done with it, and its end.
    async fn once(&mut self, line: usize) -> Outcome<()> {
        let p = self.shared.task.p;
        let claim = Claim::numbered(p, self.shared.claims.fetch_add(1, Relaxed));
        let want = self.lines[line].want(&mut self.dice);
        let asked = self.recorder.now(Op::Acquire, Phase::Invoke);
        let lock = self.lines[line].name;
        self.put(&asked.lock(lock).kind(want.kind, want.weight, want.capacity).claim(claim))?;
        let kind = self.dice.below(100);
        let wait = match kind {
            0..20 => Duration::ZERO,
            20..35 => self.ttl * 2,
            _ => self.ttl.mul_f64(0.05 + 0.6 * self.dice.unit()),
        };
        let lines = self.lines.clone();
        let acquire = queue::noted(lines[line].acquire(want, wait));
        // Some are dropped in the middle.
        let patience = Duration::from_micros(self.dice.below(8_000));
        let (result, queued) = if (20..35).contains(&kind) {
            match tokio::time::timeout(patience, acquire).await {
                Ok(result) => result,
                Err(_) => return self.put(&self.recorder.now(Op::Cancel, Phase::Ok).lock(lock).claim(claim)),
            }
        } else {
            acquire.await
        };
        let now = |phase| self.recorder.now(Op::Acquire, phase).lock(lock).claim(claim);
        let held = match result {
            Ok(Some(held)) => held,
            Ok(None) => return self.put(&now(Phase::Fail)),
            Err(error) => {
                let told = error.to_string();
                self.shared.removed.fetch_or(told.contains("was removed"), Relaxed);
                self.put(&now(Phase::Info).detail(told))?;
                tokio::time::sleep(Duration::from_millis(5)).await;
                return Ok(());
            }
        };
        let ok = now(Phase::Ok);
        // The deadline is later than this by what passes in between: a belief is never written down as longer than it is.
        let mut until =
            ok.t + held.check().ok().map_or(0, |left| u64::try_from(left.as_nanos()).unwrap_or(u64::MAX));
        self.shared.acquired.fetch_add(1, Relaxed);
        if let Some(t) = queued {
            let line = self.recorder.now(Op::Queued, Phase::Ok).lock(lock).claim(claim);
            self.put(&Event { t, ..line })?;
        }
        let token = held.token().map(tenure::Token::get);
        self.put(&ok.token(token).deadline(until).previous(held.previous()))?;
        // Not each time: what is outside the store takes longer than the lock.
        let uses = self.naps() > 0.0 || self.dice.below(3) == 0;
        if let (true, true, Some(token)) = (want.writes, uses, token) {
            self.use_resource(lock, claim, token, &held, &mut until).await?;
        } else {
            self.linger(claim, &held, &mut until).await?;
        }
        self.end(claim, held).await
    }

    /// Gives the lock back.
    async fn end(&mut self, claim: Claim, held: AnyGuard) -> Outcome<()> {
        self.put(&self.recorder.now(Op::Release, Phase::Invoke).claim(claim))?;
        let phase = if self.dice.below(10) == 0 {
            drop(held);
            Phase::Unknown
        } else {
            match held.release().await {
                Ok(()) => Phase::Ok,
                Err(error) if error.kind() == tenure::ErrorKind::Lost => Phase::Gone,
                Err(_) => Phase::Unknown,
            }
        };
        self.put(&self.recorder.now(Op::Release, phase).claim(claim))
    }

    /// Stays for a while, now and then for longer than the lease; sometimes the runtime is blocked with it.
    async fn linger(&mut self, claim: Claim, held: &AnyGuard, until: &mut u64) -> Outcome<()> {
        let ttl = self.ttl;
        // The longer naps are, the more of them there are.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // from 0 to 10,000
        let frequent = (10_000.0 * self.naps()) as u64;
        if !self.shared.stayed.swap(true, Relaxed) {
            // Once in every run at least: long enough to be renewed.
            tokio::time::sleep(ttl.mul_f64(0.6)).await;
            return self.check(claim, held, until);
        }
        match self.dice.below(10_000) {
            0..8 if self.dice.below(self.shared.task.rarer) > 0 => {}
            0..2 if !self.calm() => {
                let id = self.fault(Phase::Begin, "blocked_runtime", 0)?;
                std::thread::sleep(ttl.mul_f64(0.3 + self.dice.unit()));
                self.fault(Phase::End, "blocked_runtime", id)?;
            }
            2..8 if !self.calm() => {
                tokio::time::sleep(ttl.mul_f64(1.5 * self.dice.unit())).await;
                self.check(claim, held, until)?;
            }
            n if (8..frequent).contains(&n) => self.nap(claim, held, until).await?,
            8..200 => tokio::time::sleep(Duration::from_micros(self.dice.below(2_000))).await,
            _ => {}
        }
        if self.dice.below(4) == 0 || held.check().ok().is_none() {
            self.check(claim, held, until)?;
        }
        Ok(())
    }

    /// Stays for a part of the lease, and looks several times whether the lock is still held.
    async fn nap(&mut self, claim: Claim, held: &AnyGuard, until: &mut u64) -> Outcome<()> {
        for _ in 0..self.dice.below(6) {
            tokio::time::sleep(self.ttl.mul_f64(self.naps() * self.dice.unit())).await;
            self.check(claim, held, until)?;
        }
        Ok(())
    }

    fn check(&self, claim: Claim, held: &AnyGuard, believed: &mut u64) -> Outcome<()> {
        let mut asked = self.recorder.now(Op::Check, Phase::Ok).claim(claim);
        match held.check().ok() {
            Some(left) => {
                let until = asked.t + u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
                // Later than what was told before, by more than the clock's reading can be off: it was renewed.
                if until > *believed + RENEWED {
                    *believed = until;
                    self.put(&self.recorder.now(Op::Renew, Phase::Ok).claim(claim).deadline(until))?;
                }
                self.put(&asked.deadline(until))
            }
            None => {
                asked.phase = Phase::Lost;
                self.put(&asked)
            }
        }
    }

    /// Reads a counter and its twin, and writes both one higher. The twin checks no tokens.
    async fn use_resource(
        &mut self,
        lock: Name,
        claim: Claim,
        token: i64,
        held: &AnyGuard,
        until: &mut u64,
    ) -> Outcome<()> {
        let (fenced, twin) = (format!("{lock}-fenced"), format!("{lock}-twin"));
        let mut values = [None, None];
        for (value, (name, token)) in values.iter_mut().zip([(&fenced, token), (&twin, 0)]) {
            let access = self.door.enter(name, token).await;
            *value = if let Access::Ok(value) = access { Some(value) } else { None };
            let event = self.accessed(Op::Enter, access).lock(lock).claim(claim);
            self.put(&event.token(Some(token).filter(|t| *t > 0)).resource(name.as_str(), token > 0))?;
        }
        self.doze()?;
        self.linger(claim, held, until).await?;
        for (value, (name, token)) in values.into_iter().zip([(&fenced, token), (&twin, 0)]) {
            let Some(value) = value else { continue };
            let access = self.door.write(name, value + 1, token).await;
            let event = self.accessed(Op::Write, access).lock(lock).claim(claim);
            self.put(&event.token(Some(token).filter(|t| *t > 0)).resource(name.as_str(), token > 0))?;
        }
        Ok(())
    }

    /// Stops the whole process now and then, until the runner wakes it: pauses that come at any time seldom come between
    /// two accesses, where they do the most harm.
    fn doze(&mut self) -> Outcome<()> {
        let (due, now) = (self.shared.dozes.load(Relaxed), boot_ns());
        let span = dozes(&self.shared.task);
        let next = now + span / 4 + self.dice.below(span * 3 / 4);
        let dozes = now >= due && !self.calm();
        if !dozes || self.shared.dozes.compare_exchange(due, next, Relaxed, Relaxed).is_err() {
            return Ok(());
        }
        let id = self.fault(Phase::Begin, "pause_between_accesses", 0)?;
        servers::stop_this_process();
        self.fault(Phase::End, "pause_between_accesses", id)?;
        Ok(())
    }

    fn accessed(&self, op: Op, access: Access) -> Event {
        match access {
            Access::Ok(value) => self.recorder.now(op, Phase::Ok).value(value),
            Access::Refused => self.recorder.now(op, Phase::Refused),
            Access::Unknown => self.recorder.now(op, Phase::Info),
        }
    }
}
