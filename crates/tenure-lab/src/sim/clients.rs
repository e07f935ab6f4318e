//! Starts clients, and has them work.

use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex};

use tenure::runtime::Runtime;
use tenure::{Locks, Owner};

use super::clock::{Clock, S};
use super::faults::Fault;
use super::link::Link;
use super::machine::Machine;
use super::stores::Store;
use super::world::{World, locked};
use crate::servers::IN_PROCESS;

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

/// Runs `work` on a machine until it is done, or for `most` ns.
pub(super) fn until<T: Send + 'static>(
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
pub(super) fn open(world: &Arc<World>) -> Vec<Arc<Machine>> {
    let mut open: Vec<_> =
        world.machines().into_iter().filter(|m| !m.dead() && m.client().is_some()).collect();
    if open.is_empty() {
        open.push(client(world));
    }
    open
}
