//! Virtual time: what happens when, and on which machine.
//!
//! One thread runs everything. Between two instants every task that is ready is polled, in an order that the seed
//! decides; then time jumps to the next thing that happens.

use std::cmp::Ordering as Order;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock::{S, US};
use super::faults::{Fault, Faults};
use super::judge::Judge;
use super::machine::{Machine, Task};
use super::mutants::Mutant;
use super::plan::Plan;
use super::server::Server;
use super::stores::Store;
use crate::num::{STEP, mix};

/// More polls than this in one run: something spins.
const SPIN: u64 = 2_000_000;

/// The most servers that a run has.
pub(super) const SERVERS: usize = 5;

type Act = Box<dyn FnOnce(&Arc<World>) + Send>;

/// Something that happens at an instant; of two at the same, the one that was planned first.
struct Event {
    at: u64,
    serial: u64,
    act: Act,
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        self.serial == other.serial
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    /// The earliest is the greatest: a heap gives that first.
    fn cmp(&self, other: &Event) -> Order {
        (other.at, other.serial).cmp(&(self.at, self.serial))
    }
}

/// Everything of one run.
pub(super) struct World {
    now: AtomicU64,
    dice: AtomicU64,
    serial: AtomicU64,
    polls: AtomicU64,
    events: Mutex<BinaryHeap<Event>>,
    ready: Mutex<VecDeque<Arc<Task>>>,
    machines: Mutex<Vec<Arc<Machine>>>,
    servers: Vec<Mutex<Server>>,
    pub(super) judge: Mutex<Judge>,
    pub(super) faults: Faults,
    /// From then on nothing goes wrong any more.
    healed: AtomicU64,
    pushes_lost: AtomicBool,
    /// So many messages of renewals are still to be lost.
    renewal_lost: AtomicUsize,
    /// The usual longest way of a message, in ns.
    pub(super) latency: u64,
    /// What kind of store it is.
    pub(super) store: Store,
    /// The server does not tell its time.
    pub(super) timeless: bool,
    /// How long a session lasts that is not heard of, in ns.
    pub(super) session: u64,
    /// The shortest and the longest lease that several servers give, in ns.
    pub(super) leases: [u64; 2],
    /// Every task is a claim of its own.
    pub(super) fair: bool,
    pub(super) mutant: Option<Arc<dyn Mutant>>,
    trace: Option<Mutex<Vec<String>>>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World at {}", self.now())
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(super) fn new(
        seed: u64,
        store: Store,
        faults: Faults,
        plan: &Plan,
        mutant: Option<Arc<dyn Mutant>>,
        trace: bool,
    ) -> Arc<World> {
        let servers = if store == Store::Quorum { plan.servers } else { 1 };
        let leases = plan.leases();
        Arc::new(World {
            now: AtomicU64::new(0),
            dice: AtomicU64::new(mix(seed)),
            serial: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            events: Mutex::default(),
            ready: Mutex::default(),
            machines: Mutex::default(),
            servers: (0..servers).map(|_| Mutex::new(Server::new(plan.session(), leases[1]))).collect(),
            leases,
            store,
            judge: Mutex::new(Judge::new(store)),
            faults,
            healed: AtomicU64::new(u64::MAX),
            pushes_lost: AtomicBool::new(false),
            renewal_lost: AtomicUsize::new(0),
            latency: plan.latency,
            timeless: plan.timeless,
            fair: plan.fair,
            session: plan.session(),
            mutant,
            trace: trace.then(Mutex::default),
        })
    }

    /// One of the servers; the first one where there is one.
    pub(super) fn server(&self, number: usize) -> MutexGuard<'_, Server> {
        locked(&self.servers[number])
    }

    /// How many there are.
    pub(super) fn servers(&self) -> usize {
        self.servers.len()
    }

    /// One of them.
    pub(super) fn any_server(&self) -> usize {
        match self.servers() {
            1 => 0,
            n => usize::try_from(self.below(n as u64)).unwrap_or(0),
        }
    }

    /// The time by which the judge counts leases: the server's, or the true one where no server decides.
    pub(super) fn judged_now(&self) -> u64 {
        if self.store.decides_at_clients() { self.now() } else { self.server(0).now(self.now()).ns }
    }

    /// The true time, in ns since the run began.
    pub(super) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    pub(super) fn draw(&self) -> u64 {
        let state = self.dice.load(Ordering::Relaxed).wrapping_add(STEP);
        self.dice.store(state, Ordering::Relaxed);
        mix(state)
    }

    /// A random number below `n`.
    pub(super) fn below(&self, n: u64) -> u64 {
        self.draw() % n.max(1)
    }

    /// Whether `fault` strikes now. It leaves its trace where it does.
    pub(super) fn strikes(&self, fault: Fault) -> bool {
        let rate = self.faults.rate(fault);
        let chance = rate > 0 && self.now() < self.healed.load(Ordering::Relaxed);
        chance && self.below(10_000) < u64::from(rate) && self.hit(fault)
    }

    /// `fault` is due: whether it is one that is left out.
    pub(super) fn hit(&self, fault: Fault) -> bool {
        let hit = self.faults.hit(fault);
        if let Some(number) = hit {
            self.trace(|| format!("fault {number}: {}", fault.name()));
        }
        hit.is_some()
    }

    /// Nothing goes wrong from now on.
    pub(super) fn heal(&self) {
        self.healed.store(self.now(), Ordering::Relaxed);
    }

    /// Every push is lost from now on, or none is by this any more.
    pub(super) fn lose_pushes(&self, on: bool) {
        self.pushes_lost.store(on, Ordering::Relaxed);
    }

    /// The next renewal is lost, on its way to every server.
    pub(super) fn lose_a_renewal(&self) {
        self.renewal_lost.store(self.servers(), Ordering::Relaxed);
    }

    pub(super) fn renewal_lost(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        self.renewal_lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    pub(super) fn pushes_lost(&self) -> bool {
        self.pushes_lost.load(Ordering::Relaxed)
    }

    pub(super) fn trace(&self, what: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let now = self.now();
            locked(trace).push(format!("{:>6}.{:06} s  {}", now / S, now % S / US, what()));
        }
    }

    pub(super) fn traced(&self) -> Vec<String> {
        self.trace.as_ref().map(|t| std::mem::take(&mut *locked(t))).unwrap_or_default()
    }

    pub(super) fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Plans something for `delay` from now.
    pub(super) fn after(&self, delay: u64, act: impl FnOnce(&Arc<World>) + Send + 'static) {
        let event = Event { at: self.now() + delay, serial: self.serial(), act: Box::new(act) };
        locked(&self.events).push(event);
    }

    pub(super) fn make_ready(&self, task: Arc<Task>) {
        locked(&self.ready).push_back(task);
    }

    pub(super) fn machines(&self) -> Vec<Arc<Machine>> {
        locked(&self.machines).clone()
    }

    /// Switches a machine on.
    pub(super) fn add(&self, machine: &Arc<Machine>) {
        locked(&self.machines).push(machine.clone());
    }

    pub(super) fn broken(&self) -> bool {
        locked(&self.judge).broken.is_some()
    }

    /// Polls what can be polled at this instant.
    fn settle(&self) {
        loop {
            let task = {
                let mut ready = locked(&self.ready);
                if ready.len() > 1 && self.strikes(Fault::Scramble) {
                    let other = usize::try_from(self.below(ready.len() as u64)).unwrap_or(0);
                    ready.swap(0, other);
                }
                ready.pop_front()
            };
            let Some(task) = task else { return };
            self.polls.fetch_add(1, Ordering::Relaxed);
            Machine::poll(&task);
            if self.polls() > SPIN {
                locked(&self.judge).fail("L2", self.now(), "something spins".into());
                return;
            }
        }
    }

    /// The next thing that happens: its time, and the machine whose timer it is.
    fn next(&self) -> Option<(u64, Option<Arc<Machine>>)> {
        let planned = locked(&self.events).peek().map(|e| e.at);
        let mut next = planned.map(|at| (at, None));
        for machine in &*locked(&self.machines) {
            let Some(at) = machine.next_timer() else { continue };
            if next.as_ref().is_none_or(|(first, _)| at < *first) {
                next = Some((at, Some(machine.clone())));
            }
        }
        next
    }

    /// Lets time pass until `done`, or until `end`; says whether it was done. Stops early once a rule is broken.
    pub(super) fn run(self: &Arc<World>, end: u64, mut done: impl FnMut() -> bool) -> bool {
        loop {
            self.settle();
            if self.broken() {
                return false;
            }
            if done() {
                return true;
            }
            let next = self.next();
            let Some((at, machine)) = next.filter(|(at, _)| *at <= end) else {
                self.now.store(end.max(self.now()), Ordering::Relaxed);
                return false;
            };
            self.now.store(at.max(self.now()), Ordering::Relaxed);
            match machine {
                Some(machine) => machine.fire(),
                None => {
                    let event = locked(&self.events).pop();
                    if let Some(event) = event {
                        (event.act)(self);
                    }
                }
            }
        }
    }

    /// Ends everything: nothing of this run may reach another.
    pub(super) fn clear(&self) {
        for machine in self.machines() {
            machine.crash();
        }
        let rest = (
            std::mem::take(&mut *locked(&self.machines)),
            std::mem::take(&mut *locked(&self.events)),
            std::mem::take(&mut *locked(&self.ready)),
            std::mem::take(&mut *locked(&self.judge)),
        );
        drop(rest);
    }
}
