//! A client's machine: a clock of its own, a place to run, and an end of a connection.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tenure::Locks;
use tenure::backend::{BoxFuture, ClaimId, News, Sink};
use tenure::core::moment::Moment;
use tenure::runtime::Runtime;
use tokio::sync::{Notify, oneshot};

use super::clock::Clock;
use super::home::Home;
use super::message::{Request, Said, Verb};
use super::world::{SERVERS, World, locked};

/// A request that somebody waits for.
pub(super) struct Waiting {
    /// Which server is asked, and over which connection, if that is one of several.
    pub(super) server: usize,
    pub(super) connection: Option<u64>,
    pub(super) reply: oneshot::Sender<Said>,
}

/// A connection as the network sees it.
pub(super) trait Connection: Send + Sync {
    /// Ends it.
    fn cut(&self);

    /// Something has arrived over it.
    fn hears(&self);
}

/// One process with one client. What the engine takes from its surroundings, it takes from here.
pub(super) struct Machine {
    me: Weak<Machine>,
    world: Arc<World>,
    pub(super) number: usize,
    clock: Mutex<Clock>,
    ahead: i64,
    timers: Mutex<BTreeMap<(u64, u64), Waker>>,
    /// Everything that was spawned and may still live.
    tasks: Mutex<Vec<Arc<Task>>>,
    paused: AtomicBool,
    dead: AtomicBool,
    /// What became ready or arrived while it stood still.
    parked: Mutex<Vec<Arc<Task>>>,
    inbox: Mutex<Vec<News>>,
    pub(super) sink: Mutex<Option<Arc<dyn Sink>>>,
    /// Kept when it is closed: the last handle to a client waits a real while for what it has not withdrawn.
    pub(super) locks: Mutex<Option<Locks>>,
    closed: AtomicBool,
    /// Claims whose release was asked for: what is still under way for them sends nothing more.
    withdrawn: Mutex<HashSet<u128>>,
    /// Claims that the store told it were gone.
    gone: Mutex<HashSet<u128>>,
    /// Requests that somebody waits for.
    pub(super) waiting: Mutex<BTreeMap<u64, Waiting>>,
    /// The connections that it has, by number.
    connections: Mutex<BTreeMap<u64, Arc<dyn Connection>>>,
    /// Where its client connects.
    pub(super) home: Arc<Home>,
    /// One of the connections over which nothing comes any more; 0: none.
    pub(super) silent: AtomicU64,
    connected: AtomicBool,
    /// Tells those who wait until it has connected.
    came: Notify,
    /// Until then nothing that it sends to a server arrives, and nothing from there reaches it.
    pub(super) mute_until: [AtomicU64; SERVERS],
    pub(super) deaf_until: [AtomicU64; SERVERS],
    /// When the last request that keeps its order arrives.
    pub(super) in_order: AtomicU64,
    /// How far the server's clock is ahead of this machine's, as of the last answer.
    pub(super) offset: AtomicU64,
    /// How long it stood still so far.
    pub(super) stood: AtomicU64,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "machine {}", self.number)
    }
}

impl Machine {
    /// `ahead`: by how many µs its wall clock is wrong.
    pub(super) fn new(world: &Arc<World>, clock: Clock, ahead: i64) -> Arc<Machine> {
        let number = world.machines().len();
        let machine = Arc::new_cyclic(|me| Machine {
            me: me.clone(),
            world: world.clone(),
            number,
            clock: Mutex::new(clock),
            ahead,
            timers: Mutex::default(),
            tasks: Mutex::default(),
            paused: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            parked: Mutex::default(),
            inbox: Mutex::default(),
            sink: Mutex::default(),
            locks: Mutex::default(),
            closed: AtomicBool::new(false),
            withdrawn: Mutex::default(),
            gone: Mutex::default(),
            waiting: Mutex::default(),
            connections: Mutex::default(),
            home: Arc::default(),
            connected: AtomicBool::new(!world.store.connects()),
            silent: AtomicU64::new(0),
            came: Notify::new(),
            mute_until: [const { AtomicU64::new(0) }; SERVERS],
            deaf_until: [const { AtomicU64::new(0) }; SERVERS],
            in_order: AtomicU64::new(0),
            offset: AtomicU64::new(0),
            stood: AtomicU64::new(0),
        });
        world.add(&machine);
        machine
    }

    pub(super) fn world(&self) -> &Arc<World> {
        &self.world
    }

    pub(super) fn dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(super) fn paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// What its clock really shows.
    pub(super) fn clock_now(&self) -> Moment {
        Moment(locked(&self.clock).read(self.world.now()))
    }

    pub(super) fn step_clock(&self, by: i64) {
        locked(&self.clock).step(self.world.now(), by);
    }

    /// The client, unless it is closed or dead.
    pub(super) fn client(&self) -> Option<Locks> {
        if self.closed.load(Ordering::Relaxed) { None } else { locked(&self.locks).clone() }
    }

    /// A release of this claim is asked for.
    pub(super) fn withdraw(&self, id: ClaimId) {
        locked(&self.withdrawn).insert(id.0);
    }

    /// Whether a driver may go on with what was asked for this claim.
    pub(super) fn goes_on(&self, id: u128) -> bool {
        let stops = self.world.mutant.as_ref().is_none_or(|mutant| mutant.stops());
        !stops || !locked(&self.withdrawn).contains(&id)
    }

    /// Whether it was told that a claim is gone.
    pub(super) fn lost(&self, id: u128) -> bool {
        locked(&self.gone).contains(&id)
    }

    /// A request that leaves now, for the first server.
    pub(super) fn request(&self, verb: Verb) -> Request {
        let (number, sent) = (self.world.serial(), self.clock_now());
        Request {
            number,
            machine: self.number,
            server: 0,
            connection: None,
            verb,
            sent,
            left: self.world.now(),
        }
    }

    /// A connection was made.
    pub(super) fn connect(&self, number: u64, connection: Arc<dyn Connection>) {
        locked(&self.connections).insert(number, connection);
    }

    /// A connection has ended: nothing that comes for it is heard.
    pub(super) fn hang_up(&self, number: u64) {
        let connection = locked(&self.connections).remove(&number);
        drop(connection);
        let mut unheard = Vec::new();
        locked(&self.waiting).retain(|_, waiting| {
            let heard = waiting.connection != Some(number);
            if !heard {
                unheard.push(std::mem::replace(&mut waiting.reply, oneshot::channel().0));
            }
            heard
        });
        drop(unheard);
    }

    /// One of its connections.
    pub(super) fn connection(&self, number: u64) -> Option<Arc<dyn Connection>> {
        locked(&self.connections).get(&number).cloned()
    }

    /// All of them, with their numbers.
    pub(super) fn connections(&self) -> Vec<(u64, Arc<dyn Connection>)> {
        locked(&self.connections).iter().map(|(number, connection)| (*number, connection.clone())).collect()
    }

    /// Its client has connected, or was closed before it could.
    pub(super) fn connects(&self) {
        self.connected.store(true, Ordering::Relaxed);
        self.came.notify_waiters();
    }

    /// Waits until its client has connected.
    pub(super) async fn connected(&self) {
        while !self.connected.load(Ordering::Relaxed) {
            self.came.notified().await;
        }
    }

    /// Gives the client to whoever closes it.
    pub(super) fn close(&self) -> Option<Locks> {
        let client = self.client();
        self.closed.store(true, Ordering::Relaxed);
        client
    }

    /// A timer of this machine's own clock, `ns` from now.
    pub(super) fn sleep(&self, ns: u64) -> BoxFuture<'static, ()> {
        self.sleep_until(self.now() + Duration::from_nanos(ns))
    }

    /// When the first timer is due, in true time.
    pub(super) fn next_timer(&self) -> Option<u64> {
        if self.paused() || self.dead() {
            return None;
        }
        let first = locked(&self.timers).first_key_value().map(|(&(at, _), _)| at)?;
        Some(locked(&self.clock).when(first.saturating_add(self.lag())))
    }

    /// By how much the engine is shown less than the clock: nothing, but for a mutant.
    fn lag(&self) -> u64 {
        self.world.mutant.as_ref().map_or(0, |mutant| mutant.lag(self))
    }

    /// The first timer is due.
    pub(super) fn fire(&self) {
        let due = locked(&self.timers).pop_first();
        if let Some((_, waker)) = due {
            waker.wake();
        }
    }

    pub(super) fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
    }

    /// Goes on after standing still for `stood`.
    pub(super) fn resume(&self, stood: u64) {
        self.stood.fetch_add(stood, Ordering::Relaxed);
        if !self.paused.swap(false, Ordering::Relaxed) {
            return;
        }
        // What arrived meanwhile is read before or after what was ready.
        let early = self.world.below(2) == 0;
        let (tasks, news) =
            (std::mem::take(&mut *locked(&self.parked)), std::mem::take(&mut *locked(&self.inbox)));
        if early {
            news.iter().for_each(|n| self.told(n.clone()));
        }
        tasks.into_iter().for_each(|task| self.world.make_ready(task));
        if !early {
            news.into_iter().for_each(|n| self.told(n));
        }
    }

    /// News arrives.
    pub(super) fn told(&self, news: News) {
        if self.dead() {
            return;
        }
        if self.paused() {
            return locked(&self.inbox).push(news);
        }
        if let News::Granted(id, grant, _) = &news {
            locked(&self.world.judge).told(*id, self.clock_now(), grant);
        }
        if let News::Gone(id, _) = &news {
            locked(&self.gone).insert(id.0);
        }
        let sink = locked(&self.sink).clone();
        if let Some(sink) = sink {
            sink.news(news);
        }
    }

    /// Ends without a word: nothing that its destructors ask leaves the machine.
    pub(super) fn crash(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.paused.store(false, Ordering::Relaxed);
        locked(&self.waiting).clear();
        loop {
            let tasks = std::mem::take(&mut *locked(&self.tasks));
            if tasks.is_empty() {
                break;
            }
            for task in tasks {
                let future = locked(&task.future).take();
                drop(future);
            }
        }
        let rest = (
            std::mem::take(&mut *locked(&self.parked)),
            locked(&self.locks).take(),
            locked(&self.sink).take(),
        );
        drop(rest);
        self.home.clear();
        let connections = std::mem::take(&mut *locked(&self.connections));
        drop(connections);
        let timers = std::mem::take(&mut *locked(&self.timers));
        drop(timers);
    }

    /// How many tasks live.
    pub(super) fn live_tasks(&self) -> usize {
        locked(&self.tasks).iter().filter(|t| !t.done.load(Ordering::Relaxed)).count()
    }

    pub(super) fn poll(task: &Arc<Task>) {
        task.queued.store(false, Ordering::Relaxed);
        let Some(machine) = task.machine.upgrade().filter(|m| !m.dead()) else { return };
        if machine.paused() {
            task.queued.store(true, Ordering::Relaxed);
            return locked(&machine.parked).push(task.clone());
        }
        let Some(mut future) = locked(&task.future).take() else { return };
        let waker = Waker::from(task.clone());
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => *locked(&task.future) = Some(future),
            Poll::Ready(()) => task.done.store(true, Ordering::Relaxed),
        }
    }
}

impl Runtime for Machine {
    fn now(&self) -> Moment {
        self.clock_now() - Duration::from_nanos(self.lag())
    }

    fn wall_us(&self) -> u64 {
        (1_700_000_000_000_000 + self.world.now() / 1_000).saturating_add_signed(self.ahead)
    }

    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.world.draw().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        Box::pin(Sleep { key: (at.nanos(), self.world.serial()), machine: self.me.clone(), set: false })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if self.dead() {
            return;
        }
        let task = Arc::new(Task {
            future: Mutex::new(Some(task)),
            queued: AtomicBool::new(true),
            done: AtomicBool::new(false),
            machine: self.me.clone(),
        });
        let mut tasks = locked(&self.tasks);
        if tasks.len() == tasks.capacity() {
            tasks.retain(|t| !t.done.load(Ordering::Relaxed));
        }
        tasks.push(task.clone());
        drop(tasks);
        self.world.make_ready(task);
    }
}

/// Something that runs on a machine.
pub(super) struct Task {
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    queued: AtomicBool,
    done: AtomicBool,
    machine: Weak<Machine>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if self.queued.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(machine) = self.machine.upgrade() {
            machine.world.make_ready(self);
        }
    }
}

struct Sleep {
    key: (u64, u64),
    machine: Weak<Machine>,
    set: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(machine) = self.machine.upgrade() else { return Poll::Pending };
        if machine.now().nanos() >= self.key.0 {
            return Poll::Ready(());
        }
        self.set = true;
        let replaced = locked(&machine.timers).insert(self.key, cx.waker().clone());
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (true, Some(machine)) = (self.set, self.machine.upgrade()) {
            let waker = locked(&machine.timers).remove(&self.key);
            drop(waker);
        }
    }
}
