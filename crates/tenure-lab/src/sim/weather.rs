//! Faults that are not about one message: who crashes, stops, is cut off, and when.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tenure::runtime::Runtime;

use super::clients::client;
use super::clock::{MS, S};
use super::faults::Fault;
use super::locks::NAMES;
use super::machine::Machine;
use super::net::{self, reset};
use super::plan::Plan;
use super::server::Memory;
use super::stores::Store;
use super::worker::{self, Progress, Work};
use super::world::{World, locked};

/// Faults that are planned for a time.
const PLANNED: &[Fault] = &[
    Fault::Reset,
    Fault::OneReset,
    Fault::HomeBlocked,
    Fault::HomeEnded,
    Fault::HalfOpen,
    Fault::DeafServer,
    Fault::DeafClient,
    Fault::ServerCrash,
    Fault::Amnesia,
    Fault::Rollback,
    Fault::ServerPause,
    Fault::ServerForward,
    Fault::ServerBack,
    Fault::ServerRocks,
    Fault::Failover,
    Fault::FailoverEmpty,
    Fault::ClientForward,
    Fault::ClientPause,
    Fault::ClientStop,
    Fault::ClientCrash,
    Fault::Close,
    Fault::Evicted,
    Fault::CutOff,
];

/// Plans them for the storm.
pub(super) fn plan(world: &Arc<World>, plan: &Plan, work: Work, progress: &Arc<Progress>) {
    for &fault in PLANNED.iter().filter(|f| world.faults.rate(**f) > 0) {
        for _ in 0..=world.below(2) {
            let (storm, ttl, progress) = (plan.storm, plan.ttl * MS, progress.clone());
            world.after(world.below(storm), move |world| strike(world, fault, ttl, work, &progress));
        }
    }
    if world.faults.rate(Fault::Rollback) > 0 {
        world.after(world.below(plan.storm / 2), |world| {
            (0..world.servers()).for_each(|server| world.server(server).save());
        });
    }
}

/// Whether there is anything that a fault can hurt.
fn applies(world: &World, fault: Fault, machine: &Machine) -> bool {
    match fault {
        Fault::Close => machine.client().is_some(),
        Fault::OneReset => !machine.connections().is_empty(),
        Fault::HomeBlocked | Fault::HomeEnded => world.store.connects() && !machine.home.has_ended(),
        Fault::CutOff => world.store == Store::Sessions,
        Fault::Evicted => world.store != Store::Quorum,
        // Sessions are timed by a clock that nobody can set.
        Fault::ServerForward
        | Fault::ServerBack
        | Fault::ServerRocks
        | Fault::Failover
        | Fault::FailoverEmpty => world.store != Store::Sessions,
        _ => true,
    }
}

fn strike(world: &Arc<World>, fault: Fault, ttl: u64, work: Work, progress: &Arc<Progress>) {
    let machines: Vec<_> = world.machines().into_iter().filter(|m| !m.dead()).collect();
    let chosen = world.below(machines.len() as u64);
    let Some(machine) = machines.get(usize::try_from(chosen).unwrap_or(0)) else { return };
    let short = 10 * MS + world.below(3 * S);
    let server = world.any_server();
    if !applies(world, fault, machine) || !world.hit(fault) {
        return;
    }
    match fault {
        Fault::Reset => reset(world, machine, Some(server)),
        Fault::OneReset => cut_one(world, machine),
        Fault::HomeBlocked => block(world, machine, short),
        Fault::HomeEnded => machine.home.end(),
        Fault::HalfOpen | Fault::DeafServer | Fault::DeafClient => {
            cut_off(world, machine, server, fault, short)
        }
        Fault::ServerCrash => crash(world, server, Memory::Kept, short),
        Fault::Amnesia => crash(world, server, Memory::Lost, short),
        Fault::Rollback => crash(world, server, Memory::Old, short),
        Fault::ServerPause => world.server(server).still_until = world.now() + short,
        Fault::ServerForward | Fault::ServerBack => step(world, server, fault == Fault::ServerForward, short),
        Fault::ServerRocks => {
            step(world, server, false, short);
            world.after(world.below(2 * S), move |world| step(world, server, true, short));
        }
        Fault::Failover => {
            step(world, server, false, short);
            crash(world, server, Memory::Kept, world.below(S));
        }
        Fault::FailoverEmpty => {
            step(world, server, false, short);
            world.after(world.below(2 * S), move |world| {
                crash(world, server, Memory::Lost, 10 * MS);
                step(world, server, true, short);
            });
        }
        Fault::ClientForward => {
            locked(&world.judge).stepped.push(machine.number);
            machine.step_clock(short.cast_signed());
            if world.store == Store::Objects {
                // Whoever watches a hold counts by this clock.
                locked(&world.judge).excuse_all();
            }
        }
        Fault::ClientPause => pause(world, machine, world.below(ttl)),
        Fault::ClientStop => pause(world, machine, ttl + world.below(4 * ttl.max(3 * S))),
        Fault::ClientCrash => {
            machine.crash();
            if world.strikes(Fault::ClientBack) {
                let progress = progress.clone();
                // Counted from now on: the run must not end before it has come.
                progress.busy.fetch_add(1, Ordering::Relaxed);
                world.after(short, move |world| {
                    worker::start(&client(world), work, &progress);
                    progress.busy.fetch_sub(1, Ordering::Relaxed);
                });
            }
        }
        Fault::Close => close(machine),
        Fault::Evicted => evict(world, machine),
        Fault::CutOff => {
            world.server(0).cut_until = world.now() + world.session / 2 + world.below(2 * world.session);
        }
        _ => {}
    }
}

fn pause(world: &Arc<World>, machine: &Arc<Machine>, ns: u64) {
    machine.pause();
    let machine = machine.clone();
    world.after(ns, move |world| {
        world.trace(|| format!("client {} goes on", machine.number));
        machine.resume(ns);
    });
}

/// One of its connections breaks.
fn cut_one(world: &World, machine: &Machine) {
    let connections = machine.connections();
    let one = usize::try_from(world.below(connections.len() as u64)).unwrap_or(0);
    if let Some((_, connection)) = connections.get(one) {
        connection.cut();
    }
}

/// The runtime that its client connected in stands still.
fn block(world: &World, machine: &Arc<Machine>, ns: u64) {
    machine.home.block(true);
    let machine = machine.clone();
    world.after(ns, move |_| machine.home.block(false));
}

/// Nothing comes through for a while; then the connection is found broken.
fn cut_off(world: &Arc<World>, machine: &Arc<Machine>, server: usize, fault: Fault, ns: u64) {
    let until = world.now() + ns;
    if fault != Fault::DeafClient {
        machine.mute_until[server].store(until, Ordering::Relaxed);
    }
    if fault != Fault::DeafServer {
        machine.deaf_until[server].store(until, Ordering::Relaxed);
    }
    let machine = machine.clone();
    world.after(ns, move |world| reset(world, &machine, Some(server)));
}

fn crash(world: &Arc<World>, number: usize, memory: Memory, ns: u64) {
    {
        let mut server = world.server(number);
        server.down_until = world.now() + ns;
        server.restart(world.now(), memory);
    }
    match memory {
        Memory::Kept => {}
        // It stays away until what it forgot is over.
        _ if world.store == Store::Quorum => locked(&world.judge).forgot = true,
        _ => locked(&world.judge).forgets(world.now()),
    }
    let machines = world.machines();
    machines.iter().filter(|m| !m.dead()).for_each(|machine| reset(world, machine, Some(number)));
}

fn step(world: &Arc<World>, server: usize, forward: bool, ns: u64) {
    let by = ns.cast_signed();
    world.server(server).clock.step(world.now(), if forward { by } else { -by });
    let mut judge = locked(&world.judge);
    if forward {
        judge.excuse_all();
    }
    judge.set_back |= !forward;
    if world.store == Store::Quorum {
        judge.steps_one(world.now(), forward);
    }
}

fn close(machine: &Arc<Machine>) {
    if let Some(locks) = machine.close() {
        machine.spawn(Box::pin(async move {
            // Whether it could tell everybody is its own affair: what is left must end all the same.
            let _ = locks.close().await;
        }));
    }
}

fn evict(world: &Arc<World>, machine: &Arc<Machine>) {
    let lock = usize::try_from(world.below(world.store.locks() as u64)).unwrap_or(0);
    let last = tenure::Token::new(locked(&world.judge).floor(lock).any).filter(|_| world.below(2) == 0);
    if let Some(locks) = machine.client() {
        machine.spawn(Box::pin(async move {
            let _ = locks.evict(NAMES[lock], last, "").await;
        }));
    }
}

/// The weather clears up: everybody goes on, and every connection is made again.
pub(super) fn clear_up(world: &Arc<World>) {
    world.trace(|| "the weather clears up".into());
    world.heal();
    for number in 0..world.servers() {
        let mut server = world.server(number);
        (server.down_until, server.still_until) = (0, 0);
        server.cut_until = server.cut_until.min(world.now());
    }
    net::count(world);
    for machine in world.machines().into_iter().filter(|m| !m.dead()) {
        let ways = machine.mute_until.iter().chain(&machine.deaf_until);
        ways.for_each(|until| until.store(0, Ordering::Relaxed));
        machine.home.block(false);
        machine.resume(0);
        reset(world, &machine, None);
    }
}
