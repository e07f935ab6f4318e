//! What clients do: take locks in every way there is, hold them, let them go, and change their minds.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tenure::backend::BoxFuture;
use tenure::{ErrorKind, Guard, Handle, Result};

use super::clock::{MS, S};
use super::faults::Fault;
use super::grip::{Part, Wait, take, token_of};
use super::locks::{NAMES, READERS, SEATS};
use super::machine::Machine;
use super::stores::Store;
use super::world::{World, locked};
use crate::any_guard::AnyGuard;

/// What one worker has to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) rounds: u32,
    /// The shortest lease of the run, in ms.
    pub(super) ttl: u64,
}

/// How far the workers are.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) busy: AtomicUsize,
    pub(super) granted: AtomicUsize,
}

/// Counts a worker as busy while it lives.
struct Busy(Arc<Progress>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts a worker on a machine.
pub(super) fn start(machine: &Arc<Machine>, work: Work, progress: &Arc<Progress>) {
    use tenure::runtime::Runtime;

    progress.busy.fetch_add(1, Ordering::Relaxed);
    let (busy, me) = (Busy(progress.clone()), machine.clone());
    machine.spawn(Box::pin(async move {
        let busy = busy;
        me.connected().await;
        for _ in 0..work.rounds {
            if !round(&me, work, &busy.0).await {
                break;
            }
            me.sleep(me.world().below(200 * MS)).await;
        }
    }));
}

/// Runs `work` until it is done, polled `polls` times, or `ns` have passed; dropped where it stands otherwise.
async fn cut<T>(machine: &Machine, polls: u64, ns: u64, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut timer) = (pin!(work), pin!(machine.sleep(ns)));
    let mut left = polls;
    poll_fn(move |cx| {
        if let Poll::Ready(out) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(out));
        }
        left -= 1;
        if left == 0 { Poll::Ready(None) } else { timer.as_mut().poll(cx).map(|()| None) }
    })
    .await
}

/// A time that nothing in a run takes.
const LONG: u64 = 100_000 * S;

/// One lock taken, held and let go. False: this client is closed.
async fn round(machine: &Arc<Machine>, work: Work, progress: &Arc<Progress>) -> bool {
    let world = machine.world().clone();
    let (lock, part) = choose(&world);
    let Some(locks) = machine.client() else { return false };
    // Those who ask for the same lease share claims.
    let other = if world.below(3) == 0 { world.below(work.ttl * 2) } else { 0 };
    let ttl = Duration::from_millis(work.ttl + other);
    let (mut polls, mut ns) = (u64::MAX, LONG);
    if world.strikes(Fault::CancelPolls) {
        polls = 1 + world.below(6);
    } else if world.strikes(Fault::CancelTime) {
        ns = world.below(if world.below(2) == 0 { 4 * world.latency } else { 2 * S });
    }
    let patience = world.below(4);
    let wait = Duration::from_nanos(world.below(3 * S));
    let wait = match patience {
        0 => Wait::Not,
        1 => Wait::For(wait),
        _ => Wait::Forever,
    };
    let floor = locked(&world.judge).floor(lock);
    let call = async { take(&locks, lock, part, Some(ttl), wait).await };
    let called = cut(machine, polls, ns, call).await;
    drop(locks);
    match called {
        Some(Ok(Some(grip))) => {
            progress.granted.fetch_add(1, Ordering::Relaxed);
            let grip = Arc::new(grip);
            locked(&world.judge).acquired(world.now(), lock, machine, &grip, floor);
            hold(machine, lock, grip, progress).await;
        }
        Some(Err(error)) => {
            world.trace(|| format!("client {} is told: {error}", machine.number));
            return error.kind() != ErrorKind::Config;
        }
        None => world.trace(|| format!("client {} gives up a call", machine.number)),
        Some(Ok(None)) => {}
    }
    true
}

/// Which lock, and which part of it.
fn choose(world: &World) -> (usize, Part) {
    let shared = world.store.shares() && world.below(3) == 0;
    match world.below(3) {
        0 if shared => (SEATS, Part::Beside(1 + u32::from(world.below(3) == 0))),
        1 | 2 if shared && world.below(3) == 0 => (READERS, Part::Whole),
        _ if shared => (READERS, Part::Beside(1)),
        0 => (1, Part::Whole),
        _ => (0, Part::Whole),
    }
}

/// Uses a lock: what a holder does, and what it believes meanwhile.
async fn hold(machine: &Arc<Machine>, lock: usize, guard: Arc<AnyGuard>, progress: &Arc<Progress>) {
    let world = machine.world().clone();
    let token = token_of(&guard);
    let writes = matches!(*guard, AnyGuard::Guard(_));
    world.trace(|| format!("client {} has {} with {token}", machine.number, NAMES[lock]));
    let steps = if world.strikes(Fault::Hoarded) { 6 + world.below(20) } else { world.below(4) };
    let pause = 1 + guard.remaining().as_nanos().try_into().unwrap_or(S) / 8;
    let mut read = None;
    for step in 0..steps {
        if !look(machine, &guard) {
            break;
        }
        if step == 0 && token != 0 {
            let shown = world.mutant.as_ref().is_none_or(|mutant| mutant.shows_tokens());
            read = Some(locked(&world.judge).enter(lock, token, shown));
        }
        // Ends with the pause or with the loss.
        drop(cut(machine, u64::MAX, world.below(2 * pause), guard.lost()).await);
    }
    if let Some(read) = read.filter(|_| writes) {
        // A client that does not look again before it writes: the resource must.
        locked(&world.judge).write(world.now(), lock, token, read);
    }
    if look(machine, &guard) {
        world.trace(|| format!("client {} has had enough of {token}", machine.number));
    }
    let id = locked(&world.judge).of(&guard);
    let Some(grip) = Arc::into_inner(guard) else { return };
    if world.strikes(Fault::Dropped) {
        return drop(grip);
    }
    let grip = match grip {
        AnyGuard::Guard(guard) if lock < READERS && world.store.keeps() && world.strikes(Fault::Handed) => {
            return hand_over(machine, lock, guard, progress).await;
        }
        AnyGuard::Guard(guard)
            if lock == READERS && world.store.keeps() && world.strikes(Fault::Downgraded) =>
        {
            return shrink(machine, lock, AnyGuard::Guard(guard), progress).await;
        }
        AnyGuard::Permit(permit)
            if permit.permits() > 1 && world.store.keeps() && world.strikes(Fault::Returned) =>
        {
            return shrink(machine, lock, AnyGuard::Permit(permit), progress).await;
        }
        grip => grip,
    };
    let polls = if world.strikes(Fault::CancelRelease) { 1 + world.below(4) } else { u64::MAX };
    let kept = world.store.keeps() && world.below(4) == 0;
    let keep = Duration::from_nanos(world.below(S));
    let release = async { if kept { grip.release_after(keep).await } else { grip.release().await } };
    let released = cut(machine, polls, LONG, release).await;
    if let (Some(Ok(())), Some(id)) = (released, id) {
        locked(&world.judge).was_ours(world.now(), id);
    }
}

/// A hold goes on with less: a writer as a reader, a holder of permits with one less. Boxed, since that is held in turn.
fn shrink<'a>(
    machine: &'a Arc<Machine>,
    lock: usize,
    grip: AnyGuard,
    progress: &'a Arc<Progress>,
) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        let world = machine.world().clone();
        let floor = locked(&world.judge).floor(lock);
        let polls = if world.strikes(Fault::CancelRelease) { 1 + world.below(4) } else { u64::MAX };
        let shrinks = async {
            match grip {
                AnyGuard::Guard(guard) => guard.downgrade().await.map(AnyGuard::Read),
                AnyGuard::Permit(permit) => permit.release_some(1).await.map(AnyGuard::Permit),
                reader @ AnyGuard::Read(_) => Ok(reader),
            }
        };
        match cut(machine, polls, LONG, shrinks).await {
            Some(Ok(grip)) => {
                let grip = Arc::new(grip);
                locked(&world.judge).acquired(world.now(), lock, machine, &grip, floor);
                hold(machine, lock, grip, progress).await;
            }
            other => world.trace(|| format!("client {} does not go on: {other:?}", machine.number)),
        }
    })
}

/// A hold becomes a handle, and somebody else goes on with it.
async fn hand_over(machine: &Arc<Machine>, lock: usize, guard: Guard, progress: &Arc<Progress>) {
    let world = machine.world().clone();
    let token = guard.token().get();
    let ttl = Duration::from_millis(100 + world.below(4_000));
    let polls = if world.strikes(Fault::CancelRelease) { 1 + world.below(4) } else { u64::MAX };
    let Some(Ok(handle)) = cut(machine, polls, LONG, guard.detach_for(ttl)).await else { return };
    locked(&world.judge).detached(lock, token);
    let open: Vec<_> = world.machines().into_iter().filter(|m| !m.dead() && m.client().is_some()).collect();
    let twice = world.strikes(Fault::Twice);
    locked(&world.judge).doubled |= twice;
    for _ in 0..=u32::from(twice) {
        let next = usize::try_from(world.below(open.len() as u64)).ok().and_then(|n| open.get(n));
        if let Some(next) = next {
            go_on(next, lock, handle.clone(), progress);
        }
    }
}

/// Starts somebody who goes on with a handle: adopts it, releases it, or forgets it.
fn go_on(machine: &Arc<Machine>, lock: usize, handle: Handle, progress: &Arc<Progress>) {
    use tenure::runtime::Runtime;

    progress.busy.fetch_add(1, Ordering::Relaxed);
    let (busy, me, world) = (Busy(progress.clone()), machine.clone(), machine.world().clone());
    machine.spawn(Box::pin(async move {
        let busy = busy;
        me.sleep(world.below(S)).await;
        let Some(locks) = me.client() else { return };
        let token = handle.token().map_or(0, tenure::Token::get);
        let polls = if world.strikes(Fault::CancelPolls) { 1 + world.below(6) } else { u64::MAX };
        match world.below(4) {
            0 => {}
            1 => {
                let released = cut(&me, polls, LONG, locks.release(handle)).await;
                world.trace(|| format!("client {} released {token} by its handle: {released:?}", me.number));
                if let Some(Ok(())) = released {
                    locked(&world.judge).handle_was_ours(world.now(), lock, token);
                }
            }
            _ => match cut(&me, polls, LONG, locks.adopt(handle)).await {
                Some(Ok(guard)) => {
                    drop(locks);
                    let guard = Arc::new(AnyGuard::Guard(guard));
                    locked(&world.judge).adopted(world.now(), lock, &me, &guard, token);
                    hold(&me, lock, guard, &busy.0).await;
                }
                other => world.trace(|| format!("client {} does not adopt {token}: {other:?}", me.number)),
            },
        }
    }));
}

/// The holder looks whether it still holds.
fn look(machine: &Machine, guard: &Arc<AnyGuard>) -> bool {
    let world = machine.world();
    let now = world.judged_now();
    locked(&world.judge).check(world.now(), now, guard)
}

/// The lease that somebody asks for who does not care: the default, or the longest that there is.
pub(super) fn usual(world: &World) -> Option<Duration> {
    (world.store == Store::Quorum).then(|| Duration::from_nanos(world.leases[1]))
}

/// Takes a lock and lets it go, with everything well: it must come about within `wait`.
pub(super) async fn must_have(machine: &Arc<Machine>, lock: usize, wait: Duration) -> Result<bool> {
    let world = machine.world().clone();
    machine.connected().await;
    let Some(locks) = machine.client() else { return Ok(true) };
    let floor = locked(&world.judge).floor(lock);
    let Some(grip) = take(&locks, lock, Part::Whole, usual(&world), Wait::For(wait)).await? else {
        return Ok(false);
    };
    drop(locks);
    let grip = Arc::new(grip);
    locked(&world.judge).acquired(world.now(), lock, machine, &grip, floor);
    if let Some(grip) = Arc::into_inner(grip) {
        grip.release().await?;
    }
    Ok(true)
}
