//! The watchdog: notices requests without answers.
//!
//! A connection that hangs is given up. One whose runtime is blocked is passed by. One that nobody has used for a while is
//! tried. While nothing is under way, the watchdog sleeps.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::lanes::Lane;
use super::{Fault, Link, Protocol};
use crate::runtime::unless;

/// A connection on which a request has waited this long, while nothing at all arrived, is given up.
pub(super) const SILENCE: Duration = Duration::from_secs(2);
/// No request waits longer than this, whatever else arrives.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How often requests under way are looked at.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// An idle connection is tried this often.
pub(super) const IDLE: Duration = Duration::from_secs(15);

/// What the watchdog saw of a connection last time.
struct Seen<L> {
    link: Weak<L>,
    beats: u64,
    /// How often in a row the driver had not run since the last look.
    still: u32,
}

impl<L> Seen<L> {
    fn nothing() -> Seen<L> {
        Seen { link: Weak::new(), beats: 0, still: 0 }
    }
}

/// Watches both connections until the client is closed.
pub(super) async fn watch<C: Protocol>(client: Arc<C>) {
    let lanes = client.lanes();
    let runtime = lanes.runtime();
    let mut seen = Lane::BOTH.map(|_| Seen::nothing());
    loop {
        let idle = runtime.idle_until(runtime.now() + IDLE);
        if unless(idle, lanes.guard.notified()).await.is_err() {
            try_idle(&*client);
        }
        while !lanes.is_closed() {
            lanes.guarded.store(true, Ordering::SeqCst);
            runtime.sleep_until(runtime.now() + TICK).await;
            lanes.guarded.store(false, Ordering::SeqCst);
            let busy = Lane::BOTH.iter().zip(&mut seen).fold(false, |b, (l, s)| look(&*client, *l, s) | b);
            if !busy && !lanes.guarded.load(Ordering::SeqCst) {
                break;
            }
        }
        if lanes.is_closed() {
            return;
        }
    }
}

/// A connection that nobody has used for a while may be dead without anybody knowing: pushes would be lost.
fn try_idle<C: Protocol>(client: &C) {
    let lanes = client.lanes();
    for lane in Lane::BOTH {
        if let Some(link) = lanes.link(lane).filter(|link| link.load().silent >= IDLE) {
            link.ping();
            lanes.wake_guard();
        }
    }
}

/// Whether anything is under way on this connection.
fn look<C: Protocol>(client: &C, lane: Lane, seen: &mut Seen<C::Link>) -> bool {
    let lanes = client.lanes();
    let slot = lanes.slot(lane);
    let Some(link) = slot.link() else { return false };
    let load = link.load();
    let same = std::ptr::eq(seen.link.as_ptr(), Arc::as_ptr(&link)) && seen.beats == load.beats;
    let still = if same { seen.still + 1 } else { 0 };
    *seen = Seen { link: Arc::downgrade(&link), beats: load.beats, still };
    if !same {
        slot.set_stalled(false);
    }
    let Some(oldest) = load.oldest else { return false };
    if oldest >= PATIENCE || (oldest >= SILENCE && load.silent >= SILENCE) {
        link.fail(&Fault::Lost("the server did not answer in time".into()));
        return true;
    }
    match still {
        0 => {}
        1 => link.nudge(),
        // It was woken and did not run. What has not left goes the other way; the fate of the rest is unknown.
        _ if lane == Lane::Command && lanes.has_home() => {
            slot.set_stalled(true);
            let other = lanes.link(Lane::Keeper);
            link.pass_by(other.as_deref(), "the runtime that this client connected in is blocked");
        }
        _ => {}
    }
    true
}
