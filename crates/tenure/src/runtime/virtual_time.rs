//! For tests: a clock that moves when it is told, and an executor on the test's own thread.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::{BoxFuture, Runtime};
use crate::core::moment::{Moment, nanos};

/// More polls than this without the clock moving: something spins.
const SPIN: usize = 2_000_000;

/// Virtual time. Everything runs inside [`run`](Virtual::run) and [`step`](Virtual::step).
#[derive(Debug)]
pub(crate) struct Virtual {
    me: Weak<Virtual>,
    now: AtomicU64,
    dice: AtomicU64,
    timers: Mutex<BTreeMap<(u64, u64), Waker>>,
    serial: AtomicU64,
    ready: Mutex<VecDeque<Arc<Task>>>,
    /// Tasks that have not ended.
    tasks: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Virtual {
    pub(crate) fn new() -> Arc<Virtual> {
        Virtual::seeded(1)
    }

    pub(crate) fn seeded(seed: u64) -> Arc<Virtual> {
        Arc::new_cyclic(|me| Virtual {
            me: me.clone(),
            now: AtomicU64::new(1_000_000_000_000),
            dice: AtomicU64::new(seed),
            timers: Mutex::default(),
            serial: AtomicU64::new(0),
            ready: Mutex::default(),
            tasks: AtomicUsize::new(0),
        })
    }

    /// A random number below `n`.
    pub(crate) fn below(&self, n: u64) -> u64 {
        let mut z = self.dice.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }

    pub(crate) fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Relaxed)
    }

    /// Starts a task and runs what can run.
    pub(crate) fn go<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Handle<T> {
        let out = Arc::new(Mutex::new(None));
        let slot = out.clone();
        let task = self.enter(Box::pin(async move {
            let value = work.await;
            *lock(&slot) = Some(value);
        }));
        self.run();
        Handle { task, out }
    }

    fn enter(&self, future: BoxFuture<'static, ()>) -> Arc<Task> {
        self.tasks.fetch_add(1, Ordering::Relaxed);
        let task = Arc::new(Task { future: Mutex::new(Some(future)), runtime: self.me.clone() });
        lock(&self.ready).push_back(task.clone());
        task
    }

    /// Runs everything that can run at this moment.
    pub(crate) fn run(&self) {
        for _ in 0..SPIN {
            let Some(task) = lock(&self.ready).pop_front() else { return };
            let Some(mut future) = lock(&task.future).take() else { continue };
            let waker = Waker::from(task.clone());
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => *lock(&task.future) = Some(future),
                Poll::Ready(()) => self.ended(),
            }
        }
        panic!("something spins at {:?}", self.now());
    }

    fn ended(&self) {
        self.tasks.fetch_sub(1, Ordering::Relaxed);
    }

    /// Moves the clock, stopping at every timer on the way.
    pub(crate) fn step(&self, by: Duration) {
        self.run();
        let end = self.now.load(Ordering::Relaxed) + nanos(by);
        loop {
            let due = {
                let mut timers = lock(&self.timers);
                match timers.first_key_value() {
                    Some((&(at, _), _)) if at <= end => timers.pop_first(),
                    _ => None,
                }
            };
            let Some(((at, _), waker)) = due else { break };
            self.now.fetch_max(at, Ordering::Relaxed);
            waker.wake();
            self.run();
        }
        self.now.store(end, Ordering::Relaxed);
        self.run();
    }

    /// Moves the clock while nothing runs: the process was stopped.
    pub(crate) fn stop_for(&self, by: Duration) {
        self.now.fetch_add(nanos(by), Ordering::Relaxed);
        self.step(Duration::ZERO);
    }
}

impl Runtime for Virtual {
    fn now(&self) -> Moment {
        Moment(self.now.load(Ordering::Relaxed))
    }

    fn wall_us(&self) -> u64 {
        1_700_000_000_000_000 + self.now.load(Ordering::Relaxed) / 1_000
    }

    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.below(u64::MAX).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        let key = (at.nanos(), self.serial.fetch_add(1, Ordering::Relaxed));
        Box::pin(Sleep { key, runtime: self.me.clone() })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.enter(task);
    }
}

struct Task {
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    runtime: Weak<Virtual>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if let Some(runtime) = self.runtime.upgrade() {
            lock(&runtime.ready).push_back(self);
        }
    }
}

struct Sleep {
    key: (u64, u64),
    runtime: Weak<Virtual>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(runtime) = self.runtime.upgrade() else { return Poll::Pending };
        if runtime.now().nanos() >= self.key.0 {
            return Poll::Ready(());
        }
        lock(&runtime.timers).insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.upgrade() {
            let waker = lock(&runtime.timers).remove(&self.key);
            drop(waker);
        }
    }
}

/// A task of the test.
pub(crate) struct Handle<T> {
    task: Arc<Task>,
    out: Arc<Mutex<Option<T>>>,
}

impl<T> Handle<T> {
    /// What it came to, once.
    pub(crate) fn done(&mut self) -> Option<T> {
        lock(&self.out).take()
    }

    /// Drops the future where it stands.
    pub(crate) fn cancel(self) {
        let future = lock(&self.task.future).take();
        if let (Some(_), Some(runtime)) = (&future, self.task.runtime.upgrade()) {
            runtime.ended();
        }
        drop(future);
    }
}
