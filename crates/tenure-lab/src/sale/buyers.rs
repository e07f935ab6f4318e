//! A process of clients that buy until the stock is gone.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use tenure::{ErrorKind, Locks};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use super::door::{Door, Inside, Strategy};
use super::homemade::{FileLock, Habits, KeyLock};
use super::presence::Stay;
use crate::failure::{Doing, Failure, Outcome};
use crate::num::{Dice, boot_ns, us};
use crate::process::{Link, Role};
use crate::servers;

/// The role.
pub(crate) const BUYERS: Role = ("buyers", play);

/// What the process is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) strategy: Strategy,
    pub(super) url: String,
    pub(super) namespace: String,
    /// The lock's name.
    pub(super) lock: String,
    /// The lease; `None`: the library's default.
    pub(super) ttl: Option<Duration>,
    /// The file of a homemade lock, its ttl, and whether it compares before it deletes.
    pub(super) homemade: (PathBuf, Duration, bool),
    /// The stock's socket.
    pub(super) socket: PathBuf,
    /// The number of this process's first client, and how many it has.
    pub(super) clients: (u32, u32),
    /// The mean pause while holding.
    pub(super) work: Duration,
    pub(super) seed: u64,
}

/// What the runner tells it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Begin.
    Go,
    /// The next client that is about to write stops the whole process first (a real SIGSTOP).
    Stop,
    /// The next client that has entered stays inside until the process is killed.
    Stay,
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// Everything is connected.
    Ready,
    /// A client stops the process now, between its last check and its write.
    Stopping,
    /// A client is inside since then and stays there; these are the stays of this process so far.
    Staying { since: u64, stays: Vec<Stay> },
    /// All clients are done.
    Done(Report),
}

/// What a process of clients counted.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    /// Completed cycles of each client.
    pub(super) cycles: Vec<u64>,
    /// How long each acquire call took, in µs.
    pub(super) acquire_us: Vec<u64>,
    /// How often clients paused for their work, and for how long in all, in ns: a timer may round a pause up.
    pub(super) pauses: (u64, u64),
    /// From each acquire's success to the beginning of its release.
    pub(super) stays: Vec<Stay>,
    /// Holds that were lost while a client worked or released.
    pub(super) lost: u64,
    /// Everything that went wrong otherwise, once for each time.
    pub(super) errors: Vec<String>,
}

impl Report {
    pub(super) fn add(&mut self, other: Report) {
        self.cycles.extend(other.cycles);
        self.acquire_us.extend(other.acquire_us);
        self.pauses.0 += other.pauses.0;
        self.pauses.1 += other.pauses.1;
        self.stays.extend(other.stays);
        self.lost += other.lost;
        self.errors.extend(other.errors);
    }
}

/// A fault that waits for a client in the right place.
#[derive(Debug, Default)]
struct Trap(AtomicU8);

impl Trap {
    const NONE: u8 = 0;
    const STOP: u8 = 1;
    const STAY: u8 = 2;

    fn set(&self, what: u8) {
        self.0.store(what, Ordering::Release);
    }

    fn springs(&self, what: u8) -> bool {
        self.0.compare_exchange(what, Trap::NONE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

struct Till {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
    line: String,
}

impl Till {
    async fn open(socket: &Path, client: u32) -> Outcome<Till> {
        let stream = UnixStream::connect(socket).await.doing(|| "reach the stock".into())?;
        let (from, to) = stream.into_split();
        let mut till = Till { from: BufReader::new(from), to, line: String::new() };
        till.say(&format!("c {client}\n")).await?;
        Ok(till)
    }

    async fn say(&mut self, text: &str) -> Outcome<()> {
        self.to.write_all(text.as_bytes()).await.doing(|| "ask the stock".into())
    }

    /// The value; `None`: refused by the fence.
    async fn ask(&mut self, text: &str) -> Outcome<Option<i64>> {
        self.say(text).await?;
        self.line.clear();
        self.from.read_line(&mut self.line).await.doing(|| "hear the stock".into())?;
        let mut words = self.line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("v"), Some(value)) => value.parse().map(Some).doing(|| "understand the stock".into()),
            (Some("a"), None) => Ok(Some(0)),
            (Some("x"), None) => Ok(None),
            _ => Err(Failure::run("the stock does not answer", "see what it wrote above")),
        }
    }
}

struct Client {
    task: Arc<Task>,
    trap: Arc<Trap>,
    door: Door,
    till: Till,
    dice: Dice,
    report: Report,
    /// Those of all clients of the process: a client that is about to be killed with it reports for all.
    stays: Arc<Mutex<Vec<Stay>>>,
}

/// What came of one visit.
enum Visit {
    Bought,
    SoldOut,
    /// The lock was lost, or the fence refused.
    Turned,
}

impl Client {
    async fn buy(mut self) -> Report {
        let mut cycles = 0;
        // Customers do not arrive process by process: the line is mixed from the start.
        tokio::time::sleep(Duration::from_micros(self.dice.below(20_000))).await;
        loop {
            let before = boot_ns();
            let inside = match self.door.enter(&mut self.dice).await {
                Ok(inside) => inside,
                Err(error) => {
                    self.report.errors.push(format!("lock: {error:?}"));
                    break;
                }
            };
            let since = boot_ns();
            self.report.acquire_us.push(us(since - before));
            let visit = self.visit(&inside, since).await;
            self.stays.lock().unwrap_or_else(PoisonError::into_inner).push((since, boot_ns()));
            match inside.leave().await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Lost => self.report.lost += 1,
                Err(error) => self.report.errors.push(format!("release: {error:?}")),
            }
            match visit {
                Ok(Visit::Bought) => cycles += 1,
                Ok(Visit::Turned) => {}
                Ok(Visit::SoldOut) => break,
                Err(failure) => {
                    self.report.errors.push(failure.to_string());
                    break;
                }
            }
        }
        self.report.cycles.push(cycles);
        self.report
    }

    async fn visit(&mut self, inside: &Inside, since: u64) -> Outcome<Visit> {
        if self.trap.springs(Trap::STAY) {
            let stays = take(&self.stays);
            Link.tell(&Event::Staying { since, stays });
            std::future::pending::<()>().await;
        }
        let token = if self.task.strategy == Strategy::Fenced { inside.token() } else { 0 };
        let Some(left) = self.till.ask(&format!("r {token}\n")).await? else { return Ok(Visit::Turned) };
        if left <= 0 {
            return Ok(Visit::SoldOut);
        }
        let pause = self.pause();
        let before = boot_ns();
        if inside.work(pause).await.is_err() {
            return Ok(Visit::Turned);
        }
        self.report.pauses.0 += 1;
        self.report.pauses.1 += boot_ns() - before;
        if self.trap.springs(Trap::STOP) {
            Link.tell(&Event::Stopping);
            stop_this_process();
        }
        let written = self.till.ask(&format!("w {} {token}\n", left - 1)).await?;
        Ok(if written.is_some() { Visit::Bought } else { Visit::Turned })
    }

    /// The pause while holding: exponential, but one in fifty takes twenty times the mean (a slow disk, a collection
    /// of garbage). The mean of both together is what was asked for.
    fn pause(&mut self) -> Duration {
        if self.dice.below(50) == 0 {
            self.task.work * 20
        } else {
            self.dice.exponential(self.task.work.mul_f64(0.6 / 0.98))
        }
    }
}

fn take(stays: &Mutex<Vec<Stay>>) -> Vec<Stay> {
    std::mem::take(&mut *stays.lock().unwrap_or_else(PoisonError::into_inner))
}

async fn door(task: &Task) -> Outcome<(Door, Option<Locks>)> {
    let (file, ttl, compares) = task.homemade.clone();
    let habits = Habits { ttl, compares };
    Ok(match task.strategy {
        Strategy::None => (Door::Open, None),
        Strategy::Naive | Strategy::Careful if servers::reaches(&task.url) => {
            (Door::Key(KeyLock::new(&task.url, &task.lock, habits).await?), None)
        }
        Strategy::Naive | Strategy::Careful => (Door::File(FileLock::new(file, habits)), None),
        Strategy::Tenure | Strategy::Fenced => {
            let mut builder = Locks::builder(&task.url).namespace(&task.namespace);
            if let Some(ttl) = task.ttl {
                builder = builder.ttl(ttl);
            }
            let locks = builder.connect().await?;
            (Door::Tenure(locks.mutex(&task.lock)?), Some(locks))
        }
    })
}

fn play(link: &Link) -> Outcome<()> {
    let task: Arc<Task> = Arc::new(link.task()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.doing(|| "start the clients".into())?;
    let trap = Arc::new(Trap::default());
    let go = Arc::new(Notify::new());
    let stays = Arc::new(Mutex::new(Vec::new()));
    listen(link, trap.clone(), go.clone());
    let report = runtime.block_on(async {
        let (door, locks) = door(&task).await?;
        let mut clients = tokio::task::JoinSet::new();
        let mut ready = Vec::new();
        for i in 0..task.clients.1 {
            let number = task.clients.0 + i;
            let till = Till::open(&task.socket, number).await?;
            let dice = Dice::new(task.seed, u64::from(number));
            let door = door.of_client(&task.url).await?;
            let (task, trap) = (task.clone(), trap.clone());
            let (report, stays) = (Report::default(), stays.clone());
            ready.push(Client { task, trap, door, till, dice, report, stays });
        }
        link.tell(&Event::Ready);
        go.notified().await;
        for client in ready {
            clients.spawn(client.buy());
        }
        let mut total = Report::default();
        while let Some(one) = clients.join_next().await {
            total.add(one.doing(|| "wait for a client".into())?);
        }
        total.stays = take(&stays);
        if let Some(locks) = locks {
            locks.close().await?;
        }
        Ok::<_, Failure>(total)
    })?;
    link.tell(&Event::Done(report));
    Ok(())
}

/// Stops this process and comes back when it has been continued. The signal goes to the process, so this thread may
/// run on for a moment: it waits for the gap in time that the stop leaves.
fn stop_this_process() {
    let mut last = boot_ns();
    let give_up = last + 2_000_000_000;
    let _ = kill_process(getpid(), Signal::STOP);
    loop {
        let now = boot_ns();
        if now - last > 100_000_000 || now > give_up {
            return;
        }
        last = now;
        std::thread::yield_now();
    }
}

fn listen(link: &Link, trap: Arc<Trap>, go: Arc<Notify>) {
    link.on_orders(move |order| {
        match order {
            Order::Go => go.notify_one(),
            Order::Stop => trap.set(Trap::STOP),
            Order::Stay => trap.set(Trap::STAY),
        }
        true
    });
}
