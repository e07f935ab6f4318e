//! The workloads of `tenure bench`, done with other people's locks on Redis: prints a line of JSON in the same form.
//!
//! The crates are used as their first example shows, with their defaults: who waits polls as often as the crate likes.
//! Only what the workloads ask for is set: waiting until the lock is there, however long that takes.
//! - `rslock`: three tries with a random pause of up to 200 ms between them, and again. A lease of 30 s, as ours.
//! - `async-redis-lock`: tries every 100 ms; a lease of 3 s, extended every second by a task for each lock.
//! - `tenure`: ours, through the library, to see that this harness and `tenure bench` agree.
//! - `ping`: no lock, but the time that one PING takes on a connection that has been idle for 20 ms.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What went wrong.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// How long a hand-over's holder holds.
const HOLD: Duration = Duration::from_millis(20);
/// The clients of fan.
const FAN: usize = 10;
/// The lease where a crate wants to be told one.
const TTL: Duration = Duration::from_secs(30);

const USAGE: &str =
    "peers rslock|async-redis-lock|tenure|ping solo|spread|storm|fan|handoff URL SECONDS TASKS";

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = runtime.map_err(Fault::from).and_then(|runtime| runtime.block_on(measure()));
    match result {
        Ok(line) => println!("{line}"),
        Err(fault) => {
            eprintln!("peers: {fault}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn measure() -> Result<String, Fault> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [peer, work, url, secs, tasks] = &args[..] else { return Err(USAGE.into()) };
    let job = Job { work: work.clone(), url: url.clone(), secs: secs.parse()?, tasks: tasks.parse()? };
    let tally = match peer.as_str() {
        "rslock" => job.run::<Rslock>().await?,
        "async-redis-lock" => job.run::<Arl>().await?,
        "tenure" => job.run::<Ours>().await?,
        "ping" => job.ping().await?,
        _ => return Err(USAGE.into()),
    };
    Ok(tally.line(peer, &job))
}

/// What is to be done.
struct Job {
    work: String,
    url: String,
    secs: f64,
    tasks: usize,
}

/// A lock of one of the crates.
trait Peer: Clone + Send + Sync + 'static {
    /// A hold.
    type Hold: Send;
    /// A client with connections of its own.
    fn connect(url: &str) -> impl Future<Output = Result<Self, Fault>> + Send;
    /// Waits until the lock is there.
    fn lock(&self, name: &str) -> impl Future<Output = Result<Self::Hold, Fault>> + Send;
    /// Gives it back.
    fn release(hold: Self::Hold) -> impl Future<Output = Result<(), Fault>> + Send;
}

#[derive(Clone)]
struct Rslock(rslock::LockManager);

impl Peer for Rslock {
    type Hold = rslock::LockGuard;

    async fn connect(url: &str) -> Result<Rslock, Fault> {
        Ok(Rslock(rslock::LockManager::new(vec![url])))
    }

    async fn lock(&self, name: &str) -> Result<rslock::LockGuard, Fault> {
        Ok(self.0.acquire(name, TTL).await?)
    }

    async fn release(hold: rslock::LockGuard) -> Result<(), Fault> {
        hold.release().await;
        Ok(())
    }
}

#[derive(Clone)]
struct Arl(async_redis_lock::Locker, async_redis_lock::Options);

impl Peer for Arl {
    type Hold = async_redis_lock::Lock;

    async fn connect(url: &str) -> Result<Arl, Fault> {
        let patient = async_redis_lock::Options::new().timeout(None);
        Ok(Arl(async_redis_lock::Locker::from_redis_url(url).await?, patient))
    }

    async fn lock(&self, name: &str) -> Result<async_redis_lock::Lock, Fault> {
        Ok(self.0.acquire_with_options(&self.1, name).await?)
    }

    async fn release(hold: async_redis_lock::Lock) -> Result<(), Fault> {
        Ok(hold.release().await?)
    }
}

#[derive(Clone)]
struct Ours(tenure::Locks);

impl Peer for Ours {
    type Hold = tenure::Guard;

    async fn connect(url: &str) -> Result<Ours, Fault> {
        Ok(Ours(tenure::Locks::builder(url).namespace("bench").connect().await?))
    }

    async fn lock(&self, name: &str) -> Result<tenure::Guard, Fault> {
        Ok(self.0.mutex(name)?.lock().await?)
    }

    async fn release(hold: tenure::Guard) -> Result<(), Fault> {
        Ok(hold.release().await?)
    }
}

impl Job {
    async fn run<P: Peer>(&self) -> Result<Tally, Fault> {
        let (clients, tasks) = match self.work.as_str() {
            "solo" => (1, 1),
            "spread" | "storm" => (1, self.tasks),
            "fan" => (FAN, self.tasks),
            "handoff" => (2, 2),
            _ => return Err(USAGE.into()),
        };
        let mut peers = Vec::new();
        for _ in 0..clients {
            let peer = P::connect(&self.url).await?;
            // One cycle before the clock starts: some connect only now.
            P::release(peer.lock("bench/first").await?).await?;
            peers.push(peer);
        }
        let until = Instant::now() + Duration::from_secs_f64(self.secs);
        let hold = (self.work == "handoff").then_some(HOLD);
        let mut running = JoinSet::new();
        for task in 0..tasks {
            let name = if self.work == "spread" { format!("bench/{task}") } else { "bench/one".to_owned() };
            running.spawn(cycle(peers[task % clients].clone(), name, until, hold, task));
        }
        let mut total = Tally::default();
        while let Some(one) = running.join_next().await {
            total.merge(one?);
        }
        if hold.is_some() {
            total.times = hand_overs(std::mem::take(&mut total.stamps));
        }
        Ok(total)
    }

    /// PING on a connection that was idle for as long as a hand-over's holder holds.
    async fn ping(&self) -> Result<Tally, Fault> {
        let address = self.url.trim_start_matches("redis://");
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let until = Instant::now() + Duration::from_secs_f64(self.secs);
        let mut tally = Tally::default();
        while Instant::now() < until {
            tokio::time::sleep(HOLD).await;
            let before = Instant::now();
            stream.write_all(b"PING\r\n").await?;
            stream.read_exact(&mut [0u8; 7]).await?;
            tally.times.push(before.elapsed());
        }
        tally.cycles.push(tally.times.len());
        Ok(tally)
    }
}

/// Acquires and releases until the end.
async fn cycle<P: Peer>(peer: P, name: String, until: Instant, hold: Option<Duration>, side: usize) -> Tally {
    let (mut tally, mut cycles) = (Tally::default(), 0);
    loop {
        let before = Instant::now();
        if before >= until {
            break;
        }
        let held = match peer.lock(&name).await {
            Ok(held) => held,
            Err(_) => {
                tally.errors += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let acquired = Instant::now();
        tally.times.push(acquired - before);
        if let Some(hold) = hold {
            tokio::time::sleep(hold).await;
            tally.stamps.push((acquired, Instant::now(), side));
        }
        match P::release(held).await {
            Ok(()) => cycles += 1,
            Err(_) => tally.errors += 1,
        }
    }
    tally.cycles.push(cycles);
    tally
}

/// From just before one side's release is called until the other's acquire returns.
fn hand_overs(mut holds: Vec<(Instant, Instant, usize)>) -> Vec<Duration> {
    holds.sort_unstable();
    let changes = holds.windows(2).filter(|pair| pair[0].2 != pair[1].2);
    changes.map(|pair| pair[1].0.saturating_duration_since(pair[0].1)).collect()
}

/// What was measured.
#[derive(Default)]
struct Tally {
    /// Completed cycles of each task.
    cycles: Vec<usize>,
    /// What each acquire took; handoff: each hand-over.
    times: Vec<Duration>,
    /// handoff: when each hold was acquired, when its release was called, and by which side.
    stamps: Vec<(Instant, Instant, usize)>,
    errors: usize,
}

impl Tally {
    fn merge(&mut self, other: Tally) {
        self.cycles.extend(other.cycles);
        self.times.extend(other.times);
        self.stamps.extend(other.stamps);
        self.errors += other.errors;
    }

    fn line(mut self, peer: &str, job: &Job) -> String {
        self.times.sort_unstable();
        let at = |percent: usize| {
            let rank = self.times.len().saturating_sub(1) * percent / 100;
            self.times.get(rank).map_or(0.0, |t| t.as_secs_f64() * 1e6)
        };
        let (p50, p99, max) = (at(50), at(99), at(100));
        let cycles: usize = self.cycles.iter().sum();
        let squares: usize = self.cycles.iter().map(|c| c * c).sum();
        let n = self.cycles.len() * squares;
        let jain = if n == 0 { 1.0 } else { (cycles * cycles) as f64 / n as f64 };
        format!(
            "{{\"peer\":\"{peer}\",\"work\":\"{}\",\"cycles\":{cycles},\"cycles_s\":{:.1},\"p50_us\":{p50:.1},\
             \"p99_us\":{p99:.1},\"max_us\":{max:.1},\"jain\":{jain:.4},\"errors\":{}}}",
            job.work,
            cycles as f64 / job.secs,
            self.errors
        )
    }
}
