//! One run: clients at work in bad weather, then good weather, in which everything must come to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tenure::core::lease::{MARK_LIFE, TTL_WAITING};
use tenure::core::moment::nanos;

use super::clients::{client, open, until};
use super::clock::S;
use super::faults::{Fault, Faults, Hits};
use super::handover;
use super::judge::{Broken, RULES};
use super::locks::{NAMES, READERS};
use super::machine::Machine;
use super::mutants::Wrong;
use super::plan::{Case, Plan};
use super::server::residue;
use super::stores::Store;
use super::tally::recount;
use super::weather;
use super::worker::{self, Progress, Work};
use super::world::{World, locked};
use crate::harness::text;

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
    // A client that was closed while it had no connection can tell nobody: what it had ends with its lease.
    let tells = |m: &Machine| !m.dead() && (!world.store.connects() || m.client().is_some());
    let alive: Vec<usize> = world.machines().iter().filter(|m| tells(m)).map(|m| m.number).collect();
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
    handover::judge(world);
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
