//! One run: clients at work in bad weather, then good weather, in which everything must come to its end.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use tenure::core::lease::{MARK_LIFE, TTL_WAITING};
use tenure::core::moment::nanos;
use tenure::runtime::Runtime;
use tenure::{LockOptions, Locks, Owner};

use super::clock::Clock;
use super::faults::{COUNT, FAULTS, Fault, Faults, Hits};
use super::judge::{Broken, NAMES, READERS, RULES};
use super::link::Link;
use super::machine::Machine;
use super::mutants::Wrong;
use super::polling::PACE;
use super::server::residue;
use super::stores::Store;
use super::voters::recount;
use super::weather;
use super::worker::{self, Progress, Work};
use super::world::{MS, S, World, locked};
use crate::harness::text;
use crate::num::Dice;
use crate::servers::IN_PROCESS;

/// What is run. The caps make a failing run smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) seed: u64,
    /// At most so many clients, workers in each, and locks taken by each.
    pub(super) clients: u64,
    pub(super) workers: u64,
    pub(super) rounds: u64,
    /// Faults that are left out, by their number.
    pub(super) skip: BTreeSet<u32>,
}

impl Case {
    pub(super) fn new(seed: u64) -> Case {
        Case { seed, clients: 4, workers: 6, rounds: 3, skip: BTreeSet::new() }
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) store: Store,
    pub(super) broken: Option<Broken>,
    pub(super) trace: Vec<String>,
    /// How many faults there were.
    pub(super) faults: u32,
    pub(super) polls: u64,
    pub(super) grants: u64,
    /// How many holds were passed on from task to task.
    pub(super) passed: u64,
    pub(super) judged: [u64; RULES.len()],
    /// How many writes the unfenced twins lost, of how many.
    pub(super) twins: [u64; 2],
}

/// What stays the same for a whole run.
pub(super) struct Plan {
    /// How long the bad weather lasts, in ns.
    pub(super) storm: u64,
    /// The shortest lease, in ms.
    pub(super) ttl: u64,
    pub(super) clients: u64,
    pub(super) workers: u64,
    pub(super) rounds: u64,
    /// Every task is a claim of its own.
    pub(super) fair: bool,
    pub(super) latency: u64,
    /// The server does not tell its time.
    pub(super) timeless: bool,
    pub(super) rates: [u32; COUNT],
    /// How many servers vote, where several do.
    pub(super) servers: usize,
}

impl Plan {
    /// How long a session lasts that is not heard of, in ns.
    pub(super) fn session(&self) -> u64 {
        S / 2 + self.ttl.max(1_000) * MS
    }

    /// The shortest and the longest lease that several servers give, in ns: time for two round trips and a renewal, and what
    /// workers ask for at most.
    pub(super) fn leases(&self) -> [u64; 2] {
        let shortest = (100 * MS).max(8 * self.latency);
        [shortest, (3 * self.ttl * MS).max(4 * S)]
    }

    fn of(case: &Case) -> Plan {
        let mut dice = Dice::new(case.seed, 1);
        // A quarter of all runs is calm, so that few faults come together; a quarter is wild.
        let odds = [8, 4, 4, 2][usize::try_from(dice.below(4)).unwrap_or(0)];
        let rates = FAULTS.iter().map(|(fault, ..)| {
            let (chance, most) = (dice.below(odds) == 0, 1 + dice.below(weather::most(*fault)));
            if chance { u32::try_from(most).unwrap_or(1) } else { 0 }
        });
        let rates: Vec<u32> = rates.collect();
        Plan {
            storm: S / 2 + dice.below(6 * S),
            ttl: [100, 300, 1_000, 4_000][usize::try_from(dice.below(4)).unwrap_or(0)],
            clients: (1 + dice.below(3)).min(case.clients),
            workers: [1, 2, 2, 6][usize::try_from(dice.below(4)).unwrap_or(0)].min(case.workers),
            rounds: (1 + dice.below(3)).min(case.rounds),
            fair: dice.below(4) == 0,
            latency: [MS, 10 * MS, 60 * MS][usize::try_from(dice.below(3)).unwrap_or(0)],
            timeless: dice.below(4) == 0,
            rates: rates.try_into().unwrap_or([0; COUNT]),
            servers: [3, 3, 5][usize::try_from(dice.below(3)).unwrap_or(0)],
        }
    }
}

/// Runs it; adds the faults that there were to `hits`.
pub(super) fn run(case: &Case, wrong: Option<&Wrong>, trace: bool, hits: &mut Hits) -> Came {
    let plan = Plan::of(case);
    let mutant = wrong.map(|wrong| (wrong.make)());
    let store = wrong.map_or_else(|| Store::of(case.seed), |wrong| wrong.store);
    let faults = Faults::new(plan.rates, case.skip.clone());
    let world = World::new(case.seed, store, faults, &plan, mutant, trace);
    let done = catch_unwind(AssertUnwindSafe(|| play(&world, &plan)));
    let mut came = {
        let mut judge = locked(&world.judge);
        if let Err(panic) = done {
            judge.fail("panic", world.now(), text(&*panic));
        }
        Came {
            store,
            broken: judge.broken.clone(),
            trace: Vec::new(),
            faults: world.faults.serial(),
            polls: world.polls(),
            grants: judge.grants,
            passed: judge.passed,
            judged: judge.judged,
            twins: judge.twins(),
        }
    };
    world.faults.add_to(hits);
    world.clear();
    came.trace = world.traced();
    came
}

/// By how many µs a new client's wall clock is wrong. Servers that forget keep tokens in order if it is ahead by less than a
/// second. One that is far behind costs a round trip, and so does one that is absurdly ahead: its proposals are refused.
fn ahead(world: &World) -> i64 {
    const SECOND: i64 = 1_000_000;
    if world.store != Store::Quorum {
        return 0;
    }
    match world.below(8) {
        0 => 1_000 * SECOND,
        1 | 2 => -100 * SECOND,
        _ => world.below(1_800_000).cast_signed() - 900_000,
    }
}

/// A client that has just been started.
pub(super) fn client(world: &Arc<World>) -> Arc<Machine> {
    static OWNER: LazyLock<Owner> = LazyLock::new(|| Owner {
        user: "ann".into(),
        host: "simulated".into(),
        pid: 1,
        program: "sim".into(),
    });
    let (drift, bad) = (world.strikes(Fault::ClientDrift), world.strikes(Fault::BadRate));
    let ppm = match (drift, bad) {
        (_, true) => -20_000 - world.below(20_000).cast_signed(),
        (true, _) => world.below(10_000).cast_signed() - 5_000,
        _ => 0,
    };
    let clock = Clock::new(world.now(), 1_000 * S + world.below(100_000 * S), ppm);
    let machine = Machine::new(world, clock, ahead(world));
    if bad {
        locked(&world.judge).excuse_machine(machine.number);
    }
    let offset = world.server(0).now(world.now()).ns.wrapping_sub(machine.clock_now().nanos());
    machine.offset.store(offset, Ordering::Relaxed);
    let (link, me) = (Arc::new(Link::new(&machine)), machine.clone());
    let connecting = Locks::builder(IN_PROCESS)
        .namespace("sim")
        .owner(OWNER.clone())
        .runtime(machine.clone())
        .wrap(move |_| link)
        .wrap_sink(move |sink| {
            *locked(&me.sink) = Some(sink.clone());
            sink
        });
    let connecting = if world.fair { connecting.fair() } else { connecting };
    let locks = pollster::block_on(connecting.connect()).expect("a client of nothing but memory");
    *locked(&machine.locks) = Some(locks);
    world.trace(|| format!("client {} starts, its clock {ppm} ppm fast", machine.number));
    machine
}

fn play(world: &Arc<World>, plan: &Plan) {
    world.server(0).tells_age = !plan.timeless;
    for server in 0..world.servers() {
        if world.strikes(Fault::ServerDrift) {
            let ppm = world.below(10_000).cast_signed() - 5_000;
            world.server(server).drift(ppm);
        }
    }
    let progress = Arc::new(Progress::default());
    let work = Work { rounds: u32::try_from(plan.rounds).unwrap_or(1), ttl: plan.ttl };
    for _ in 0..plan.clients {
        let machine = client(world);
        (0..plan.workers).for_each(|_| worker::start(&machine, work, &progress));
    }
    weather::plan(world, plan, work, &progress);
    world.run(plan.storm, || false);
    weather::clear_up(world);
    let longest = locked(&world.judge).longest();
    let settled =
        world.run(world.now() + 60 * S + 100 * longest, || progress.busy.load(Ordering::Relaxed) == 0);
    if world.broken() {
        return;
    }
    let busy = progress.busy.load(Ordering::Relaxed);
    locked(&world.judge).rule("L1/L2", world.now(), settled, || format!("{busy} calls never end"));
    // What was dropped is withdrawn, by those who can.
    world.run(world.now() + 4 * S, || false);
    let alive: Vec<usize> = world.machines().iter().filter(|m| !m.dead()).map(|m| m.number).collect();
    if world.store == Store::Quorum {
        recount(world);
    }
    let now = world.judged_now();
    locked(&world.judge).ghosts(world.now(), now, &alive);
    // Servers in quarantine vote again: until then there may be no quorum.
    world.run(world.now() + 60 * S, || !any_away(world));
    everything_can_be_had(world, longest);
    // The last late message has arrived, and the last mark has ended.
    world.run(world.now() + 125 * S + nanos(MARK_LIFE), || false);
    nothing_is_left(world);
    handed_over(world);
    // What a request that was overtaken by its release leaves on one of several servers ends with its lease.
    let leftover = if world.store == Store::Quorum { world.leases[1] } else { 0 };
    world.run(world.now() + 10 * S + leftover, || false);
    nothing_is_left(world);
    for machine in world.machines() {
        let locks = locked(&machine.locks).take();
        drop(locks);
    }
    world.run(world.now() + S, || false);
    let tasks: usize = world.machines().iter().filter(|m| !m.dead()).map(|m| m.live_tasks()).sum();
    locked(&world.judge).rule("L4", world.now(), tasks == 0, || format!("{tasks} tasks live on"));
}

fn any_away(world: &World) -> bool {
    world.store == Store::Quorum
        && (0..world.servers()).any(|number| {
            let mut server = world.server(number);
            server.shown(world.now()) < server.voter.away_until
        })
}

/// Runs `work` on a machine until it is done, or for `most` ns.
fn until<T: Send + 'static>(
    world: &Arc<World>,
    machine: &Arc<Machine>,
    most: u64,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let out = Arc::new(Mutex::new(None));
    let slot = out.clone();
    machine.spawn(Box::pin(async move {
        let value = work.await;
        *locked(&slot) = Some(value);
    }));
    world.run(world.now() + most, || locked(&out).is_some());
    locked(&out).take()
}

/// Clients that still have a connection; a fresh one if there is none.
fn open(world: &Arc<World>) -> Vec<Arc<Machine>> {
    let mut open: Vec<_> =
        world.machines().into_iter().filter(|m| !m.dead() && m.client().is_some()).collect();
    if open.is_empty() {
        open.push(client(world));
    }
    open
}

/// L1 and L2: every lock can be had by everybody, once whatever the dead had has ended.
fn everything_can_be_had(world: &Arc<World>, longest: u64) {
    let most = 8 * longest.max(4 * S) + 2 * nanos(TTL_WAITING) + 10 * S;
    for (n, machine) in open(world).into_iter().enumerate() {
        // Of the locks that several may hold together, one client takes the whole: there is one engine behind all kinds.
        let locks = if n == 0 { world.store.locks() } else { READERS };
        for (lock, name) in NAMES.iter().enumerate().take(locks) {
            if world.broken() {
                return;
            }
            let me = machine.clone();
            let wait = Duration::from_nanos(most);
            let had =
                until(world, &machine, 2 * most, async move { worker::must_have(&me, lock, wait).await });
            let what = || format!("client {} cannot have {name}: {had:?}", machine.number);
            locked(&world.judge).rule("L1/L2", world.now(), matches!(had, Some(Ok(true))), what);
        }
    }
}

/// L4: the store is as it was before the first client came.
fn nothing_is_left(world: &Arc<World>) {
    if world.broken() {
        return;
    }
    let left = (0..world.servers()).try_for_each(|number| {
        let mut server = world.server(number);
        let now = server.now(world.now());
        residue(&mut server.lines, now)
            .and_then(|()| server.objects.residue())
            .and_then(|()| server.sessions.residue())
            .and_then(|()| server.voter.residue(server.shown))
    });
    let live: usize = open(world).iter().filter_map(|m| m.client()).map(|l| l.live()).sum();
    let clean = left.is_ok() && live == 0;
    let what = || format!("{live} claims live on in clients; the server: {left:?}");
    locked(&world.judge).rule("L4", world.now(), clean, what);
}

/// A hold that is renewed is kept, though a renewal is lost. L5: whoever waits learns of its turn by push; a lost push
/// costs `look_again` at most.
fn handed_over(world: &Arc<World>) {
    let (Some(first), Some(last)) = (open(world).first().cloned(), open(world).last().cloned()) else {
        return;
    };
    // A third of the time that it is held. A release that reads and writes is to be answered within a sixth.
    let lease = if world.store == Store::Line { S } else { 4 * S };
    let short = LockOptions::new().ttl(Duration::from_nanos(lease));
    let mutex = first.client().and_then(|l| l.mutex(NAMES[0]).ok()).and_then(|m| m.with(short).ok());
    let Some(mutex) = mutex else { return };
    let Some(Ok(guard)) = until(world, &first, 30 * S, async move { mutex.lock().await }) else {
        let what = "a free lock cannot be had within 30 s".into();
        return locked(&world.judge).fail("L1/L2", world.now(), what);
    };
    let usual = worker::usual(world).map_or_else(LockOptions::new, |ttl| LockOptions::new().ttl(ttl));
    let mutex = last.client().and_then(|l| l.mutex(NAMES[0]).ok()).and_then(|m| m.with(usual).ok());
    let Some(mutex) = mutex else { return };
    let at = Arc::new(Mutex::new(None));
    let (slot, clock, me) = (at.clone(), world.clone(), last.clone());
    // Whoever asks again and again does not from the beginning: a run is to end some time.
    let early = if world.store == Store::Line { 0 } else { 3 * lease };
    last.spawn(Box::pin(async move {
        me.sleep(early).await;
        let guard = mutex.lock().await;
        *locked(&slot) = Some(clock.now());
        drop(guard);
    }));
    world.lose_a_renewal();
    world.run(world.now() + 3 * lease + S / 2 + world.below(S), || false);
    let kept = guard.check();
    let what = || format!("renewed in good weather, and {kept:?}");
    locked(&world.judge).rule("L1/L2", world.now(), kept.is_ok(), what);
    if world.broken() {
        return;
    }
    let lost = world.below(2) == 0;
    world.lose_pushes(lost);
    let began = world.now();
    let released = until(world, &first, S, async move { guard.release().await });
    world.run(began + 30 * S, || locked(&at).is_some());
    world.lose_pushes(false);
    let took = locked(&at).map_or(u64::MAX, |at| at - began);
    if matches!(world.store, Store::Objects | Store::Quorum) {
        // A pause is at most twice as long as suggested. A release and an attempt read and write, and the attempt may begin
        // with what was known before; or an attempt in vain and one that is granted ask twice.
        let most = 2 * nanos(PACE) + 16 * world.latency;
        let what = || format!("whoever asks again had it after {took} ns, released: {released:?}");
        return locked(&world.judge).rule("L5", world.now(), took <= most, what);
    }
    // A way is at most 1.25 latencies: there and back with the push, or look_again and there and back. A store that tells
    // no time only says that it is worth looking: one more way there and back.
    let look = if lost { 2 * S + 3 * world.latency } else { 0 };
    let most = 3 * world.latency
        + if world.timeless || world.store == Store::Sessions { look + 3 * world.latency } else { look };
    let what = || format!("a hand-over took {took} ns (push lost: {lost}), released: {released:?}");
    locked(&world.judge).rule("L5", world.now(), took <= most, what);
}
