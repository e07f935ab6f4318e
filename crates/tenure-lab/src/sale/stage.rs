//! One strategy on stage: the stock's process, the clients' processes, the faults, and what came of it.

use std::fs;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::Value;

use super::buyers::{self, Order, Report};
use super::door::{Expected, Strategy};
use super::faults::{Band, Faults, TTL, Told};
use super::ledger::Ledger;
use super::presence::Presence;
use super::{Plan, stock};
use crate::failure::{Doing, Failure, Outcome};
use crate::num::{boot_ns, jain, percentile, rate};
use crate::process::{Heard, Worker};

/// A sale in which nothing happens for this long has got stuck.
const STUCK: Duration = Duration::from_secs(30);
/// The number under which the stock's process is heard.
const STOCK: usize = usize::MAX;

/// What one strategy came to.
#[derive(Clone, Debug)]
pub(super) struct Result {
    pub(super) strategy: Strategy,
    pub(super) ledger: Ledger,
    pub(super) exact: bool,
    /// What the strategy must come to.
    pub(super) wanted: Expected,
    /// Whether it did, with as few errors as it may have.
    pub(super) expected: bool,
    pub(super) seconds: f64,
    pub(super) cycles: Vec<u64>,
    pub(super) cycles_per_s: f64,
    /// The cycles that one holder at a time could complete in a second if only its pauses took time: 1 / their mean as
    /// measured.
    pub(super) ceiling_per_s: f64,
    /// How many clients were inside at a time.
    pub(super) presence: Presence,
    /// p50, p99 and the longest acquire call, in µs.
    pub(super) acquire_us: [u64; 3],
    pub(super) jain: f64,
    pub(super) lost: u64,
    pub(super) errors: Vec<String>,
    pub(super) stops: u64,
    pub(super) kills: u64,
    pub(super) bands: Vec<Band>,
    /// When each sale was accepted, in seconds since the start.
    pub(super) sales: Vec<f64>,
}

struct Stage<'a> {
    plan: &'a Plan,
    strategy: Strategy,
    receiver: Receiver<Heard>,
    workers: Vec<Worker>,
    done: Vec<bool>,
    report: Report,
    faults: Faults,
    /// What the stock said last.
    told: Told,
}

/// Runs one strategy.
pub(super) fn run(plan: &Plan, strategy: Strategy, bar: &ProgressBar) -> Outcome<Result> {
    let dir =
        tempfile::Builder::new().prefix("tenure-sale-").tempdir().doing(|| "make a directory".into())?;
    let (socket, log) = (dir.path().join("stock"), dir.path().join("log"));
    let (sender, receiver) = channel();
    let initial = i64::from(plan.stock);
    let task = stock::Task { socket: socket.clone(), log: log.clone(), stock: initial };
    let mut shelf = Worker::start(stock::STOCK.0, STOCK, &task, sender.clone())?;
    let faults = Faults::new(plan.faults, u64::from(plan.stock));
    let mut stage = Stage {
        plan,
        strategy,
        receiver,
        workers: Vec::new(),
        done: Vec::new(),
        report: Report::default(),
        faults,
        told: Told::default(),
    };
    stage.wait_ready(1)?;
    // One name for all processes, and no other run's.
    let lock = format!("flash-sale/{}-{:x}", std::process::id(), boot_ns());
    for p in 0..plan.processes {
        let task = buyers::Task {
            strategy,
            url: plan.url.clone(),
            namespace: plan.namespace.clone(),
            lock: lock.clone(),
            ttl: plan.faults.then_some(TTL),
            homemade: (dir.path().join("lock"), plan.homemade_ttl(strategy), strategy == Strategy::Careful),
            socket: socket.clone(),
            clients: (plan.first_of(p), plan.first_of(p + 1) - plan.first_of(p)),
            work: plan.work,
            seed: plan.seed,
        };
        let number = stage.workers.len();
        stage.workers.push(Worker::start(buyers::BUYERS.0, number, &task, sender.clone())?);
        stage.done.push(false);
    }
    stage.wait_ready(stage.workers.len())?;
    let (start_ns, start) = (boot_ns(), Instant::now());
    stage.faults.begin();
    for worker in &mut stage.workers {
        worker.order(&Order::Go)?;
    }
    stage.play(bar)?;
    let seconds = start.elapsed().as_secs_f64();
    shelf.order(&())?;
    shelf.finish()?;
    let log = fs::read_to_string(&log).doing(|| "read the stock's log".into())?;
    Ok(stage.judge(Ledger::judge(initial, &log), seconds, start_ns))
}

impl Stage<'_> {
    /// Waits until so many processes have said that they are ready. The stock's ticks are no answer.
    fn wait_ready(&mut self, mut count: usize) -> Outcome<()> {
        let late = || Failure::run("a worker process does not get ready", "see what it wrote above");
        let end = Instant::now() + STUCK;
        while count > 0 {
            let left = end.saturating_duration_since(Instant::now());
            match self.receiver.recv_timeout(left).map_err(|_| late())?.said {
                Some(Value::String(word)) if word == "ready" => count -= 1,
                None => return Err(late()),
                _ => {}
            }
        }
        Ok(())
    }

    fn play(&mut self, bar: &ProgressBar) -> Outcome<()> {
        let mut news = (0, Instant::now());
        while !self.done.iter().all(|d| *d) {
            match self.receiver.recv_timeout(Duration::from_millis(20)) {
                Ok(heard) => self.hear(heard, bar)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::run("all workers are gone", "see above"));
                }
            }
            self.faults.step(self.told, &self.done, &mut self.workers)?;
            if self.told.sold != news.0 {
                news = (self.told.sold, Instant::now());
            }
            if news.1.elapsed() > STUCK {
                self.report.errors.push(format!("nothing was sold for {} s: stuck", STUCK.as_secs()));
                return Ok(());
            }
        }
        Ok(())
    }

    fn hear(&mut self, heard: Heard, bar: &ProgressBar) -> Outcome<()> {
        let Some(said) = heard.said else {
            if heard.from == STOCK {
                return Err(Failure::run("the stock's process has ended", "see what it wrote above"));
            }
            if !self.done[heard.from] {
                self.done[heard.from] = true;
                if self.faults.killed != Some(heard.from) {
                    self.report.errors.push("a process of clients ended early".into());
                }
            }
            return Ok(());
        };
        if heard.from == STOCK {
            if let Ok(stock::Event::Now { at, sold, by }) = serde_json::from_value(said) {
                self.told = Told { sold, at, buyer: self.plan.process_of(by) };
                bar.set_position(sold);
            }
            return Ok(());
        }
        match serde_json::from_value(said) {
            Ok(buyers::Event::Stopping) => self.faults.stopping(heard.from),
            Ok(buyers::Event::Staying { since, stays }) => {
                self.faults.staying(heard.from, &mut self.workers);
                self.report.stays.extend(stays);
                self.report.stays.push((since, boot_ns()));
            }
            Ok(buyers::Event::Done(report)) => {
                self.done[heard.from] = true;
                self.report.add(report);
            }
            Ok(buyers::Event::Ready) | Err(_) => {}
        }
        Ok(())
    }

    fn judge(mut self, ledger: Ledger, seconds: f64, start_ns: u64) -> Result {
        let exact = ledger.exact(i64::from(self.plan.stock));
        let wanted = self.strategy.expected(self.plan.faults);
        let expected = match wanted {
            Expected::Exact => exact && self.report.errors.is_empty(),
            Expected::Wrong => !exact,
            Expected::Either => true,
        };
        self.report.acquire_us.sort_unstable();
        let acquire_us = [0.5, 0.99, 1.0].map(|q| percentile(&self.report.acquire_us, q));
        #[allow(clippy::cast_precision_loss)] // ns of one run
        let sales = ledger.sales.iter().map(|t| t.saturating_sub(start_ns) as f64 / 1e9).collect();
        Result {
            strategy: self.strategy,
            exact,
            wanted,
            expected,
            seconds,
            cycles_per_s: rate(self.report.cycles.iter().sum(), seconds),
            #[allow(clippy::cast_precision_loss)] // ns of one run
            ceiling_per_s: rate(self.report.pauses.0, self.report.pauses.1 as f64 / 1e9),
            presence: Presence::of(&self.report.stays),
            acquire_us,
            jain: jain(self.report.cycles.iter().copied()),
            cycles: self.report.cycles,
            lost: self.report.lost,
            errors: self.report.errors,
            stops: self.faults.stops(),
            kills: u64::from(self.faults.killed.is_some()),
            bands: self.faults.bands,
            sales,
            ledger,
        }
    }
}
