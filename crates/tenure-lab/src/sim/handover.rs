//! What must be so at the end of a run: a hold that is renewed is kept, and whoever waits hears of its end in time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure::LockOptions;
use tenure::core::moment::nanos;
use tenure::runtime::Runtime;

use super::clients::{open, until};
use super::clock::{MS, S};
use super::locks::NAMES;
use super::machine::Machine;
use super::polling::PACE;
use super::stores::Store;
use super::worker;
use super::world::{World, locked};

/// What goes wrong while a lock is handed over, in good weather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hurt {
    Nothing,
    /// No push arrives.
    PushesLost,
    /// The connection over which the waiter is told breaks.
    Cut,
    /// Nothing comes over it any more, and nobody says so.
    Silent,
}

impl Hurt {
    /// One that strikes the waiter and nobody else.
    fn draw(world: &World, holder: &Machine, waiter: &Machine) -> Hurt {
        let alone = world.store.connects() && holder.number != waiter.number;
        match world.below(if alone { 4 } else { 2 }) {
            0 => Hurt::PushesLost,
            1 => Hurt::Nothing,
            2 => Hurt::Cut,
            _ => Hurt::Silent,
        }
    }

    /// Strikes whoever waits.
    fn strike(self, world: &World, waiter: &Machine) {
        world.lose_pushes(self == Hurt::PushesLost);
        let told = world.server(0).pushes_over(waiter.number);
        for connection in told {
            match (self, waiter.connection(connection)) {
                (Hurt::Cut, Some(connection)) => connection.cut(),
                (Hurt::Silent, Some(_)) => waiter.silent.store(connection, Ordering::Relaxed),
                _ => {}
            }
        }
    }

    /// How long it may take to hear of the grant, in ns.
    fn most(self, world: &World) -> u64 {
        let way = world.latency;
        // A way is at most 1.25 latencies: there and back with the push, or look_again and there and back. A store that
        // tells no time only says that it is worth looking: one more way there and back.
        let (look, asks) = (2 * S, world.timeless || world.store == Store::Sessions);
        let push = 3 * way + if asks { 3 * way } else { 0 };
        match self {
            Hurt::Nothing => push,
            Hurt::PushesLost => push + look + if asks { 3 * way } else { 0 },
            // The other connection asks for pushes, or a new one is dialled and greeted before; then whoever waits asks.
            Hurt::Cut => push + 12 * way,
            // Whoever looks again hears nothing, until the watchdog has noticed.
            Hurt::Silent => push + look + 2 * S + 100 * MS + 12 * way,
        }
    }
}

/// A hold that is renewed is kept, though a renewal is lost. L5: whoever waits learns of its turn by push; a lost push
/// costs `look_again` at most, and a lost connection what it takes to make another one.
pub(super) fn judge(world: &Arc<World>) {
    let (Some(first), Some(last)) = (open(world).first().cloned(), open(world).last().cloned()) else {
        return;
    };
    // A third of the time that it is held. A release that reads and writes is to be answered within a sixth.
    let lease = if world.store.lines() { S } else { 4 * S };
    let short = LockOptions::new().ttl(Duration::from_nanos(lease));
    let mutex = first.client().and_then(|l| l.mutex(NAMES[0]).ok()).and_then(|m| m.with(short).ok());
    let Some(mutex) = mutex else { return };
    let Some(Ok(guard)) = until(world, &first, 30 * S, async move { mutex.lock().await }) else {
        let what = "a free lock cannot be had within 30 s".into();
        return locked(&world.judge).fail("L1/L2", world.now(), what);
    };
    let Some(at) = wait(world, &last, lease) else { return };
    world.lose_a_renewal();
    world.run(world.now() + 3 * lease + S / 2 + world.below(S), || false);
    let kept = guard.check();
    let what = || format!("renewed in good weather, and {kept:?}");
    locked(&world.judge).rule("L1/L2", world.now(), kept.is_ok(), what);
    if world.broken() {
        return;
    }
    let (hurt, began, connections) =
        (Hurt::draw(world, &first, &last), world.now(), last.connections().len());
    hurt.strike(world, &last);
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
    let what = || format!("a hand-over took {took} ns ({hurt:?}), released: {released:?}");
    locked(&world.judge).rule("L5", world.now(), took <= hurt.most(world), what);
    if hurt == Hurt::Cut {
        // The first try costs no pause.
        let most = began + 12 * world.latency;
        let back = world.run(most.max(world.now()), || last.connections().len() >= connections);
        let broken = world.broken();
        let what = || format!("client {} is not back after {} ns", last.number, world.now() - began);
        locked(&world.judge).rule("L1/L2", world.now(), back || broken, what);
    }
}

/// Somebody waits for the lock; says when it was granted.
fn wait(world: &Arc<World>, last: &Arc<Machine>, lease: u64) -> Option<Arc<Mutex<Option<u64>>>> {
    let usual = worker::usual(world).map_or_else(LockOptions::new, |ttl| LockOptions::new().ttl(ttl));
    let mutex = last.client().and_then(|l| l.mutex(NAMES[0]).ok()).and_then(|m| m.with(usual).ok())?;
    let at = Arc::new(Mutex::new(None));
    let (slot, clock, me) = (at.clone(), world.clone(), last.clone());
    // Whoever asks again and again does not from the beginning: a run is to end some time.
    let early = if world.store.lines() { 0 } else { 3 * lease };
    last.spawn(Box::pin(async move {
        me.sleep(early).await;
        let guard = mutex.lock().await;
        *locked(&slot) = Some(clock.now());
        drop(guard);
    }));
    Some(at)
}
