//! Makes connections, makes them again when they break, and moves the pushes to the one that is there.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::fault::REACH;
use super::lanes::Lane;
use super::thread::Place;
use super::{Fault, Link, Protocol, Why};
use crate::backend::{News, Part};
use crate::core::backoff;
use crate::error::ErrorKind;
use crate::runtime::race;

/// How long making a connection may take.
pub(super) const CONNECT: Duration = Duration::from_secs(4);
/// A connection that lasted this long was a good one: it ends the count of failures.
pub(super) const STEADY: Duration = Duration::from_secs(1);

/// Makes a connection in the current runtime.
pub(super) async fn connect<C: Protocol>(client: &Arc<C>, lane: Lane) -> Result<Arc<C::Link>, Why> {
    let runtime = client.lanes().runtime();
    let made = race(&**runtime, runtime.now() + CONNECT, make(client, lane)).await;
    made.unwrap_or_else(|| Err(client.unreachable("it does not answer")))
}

async fn make<C: Protocol>(client: &Arc<C>, lane: Lane) -> Result<Arc<C::Link>, Why> {
    let link = client.dial(lane).await?;
    client.lanes().place(lane).spawn(drive(client.clone(), lane, link.clone()));
    let mut unfinished = Unfinished(Some(link.clone()));
    let greeted = async {
        client.greet(&link).await?;
        if lane == Lane::Command { client.subscribe(&link).await } else { Ok(()) }
    };
    // Nothing was asked for yet that could have taken effect.
    greeted.await.map_err(|why| match why.kind {
        ErrorKind::Uncertain => client.unreachable(&why.what),
        _ => why,
    })?;
    if lane == Lane::Keeper {
        C::kept(client, &link).await;
    }
    unfinished.0 = None;
    Ok(link)
}

/// Drives a connection. The runtime may end, and drop this future, polled or not, before it drops the supervisor's. Tasks that
/// it drops in between may still want a lock, and must not take a connection that nobody drives.
pub(super) fn drive<C: Protocol>(
    client: Arc<C>,
    lane: Lane,
    link: Arc<C::Link>,
) -> impl Future<Output = ()> + Send + 'static {
    struct End<C: Protocol>(Arc<C>, Lane, Arc<C::Link>);
    impl<C: Protocol> Drop for End<C> {
        fn drop(&mut self) {
            self.2.fail(&Fault::Lost("the runtime that the connection lived in is gone".into()));
            self.0.lanes().lose(self.1, &self.2);
        }
    }
    let end = End(client, lane, link);
    async move { C::drive(end.0.clone(), end.2.clone()).await }
}

/// Ends a connection unless it was finished.
struct Unfinished<L: Link>(Option<Arc<L>>);

impl<L: Link> Drop for Unfinished<L> {
    fn drop(&mut self) {
        if let Some(link) = self.0.take() {
            link.fail(&Fault::Lost("connecting was given up".into()));
        }
    }
}

/// Keeps one connection up until the client is closed. If the caller's runtime drops this future, even before it was
/// polled for the first time, the keeper connection takes over.
pub(super) fn keep<C: Protocol>(
    client: Arc<C>,
    lane: Lane,
    link: Option<Arc<C::Link>>,
) -> impl Future<Output = ()> + Send + 'static {
    struct Here<C: Protocol>(Arc<C>, Lane);
    impl<C: Protocol> Drop for Here<C> {
        fn drop(&mut self) {
            if self.1 == Lane::Command && !self.0.lanes().is_closed() {
                leave_home(&*self.0);
            }
        }
    }
    let here = Here(client, lane);
    async move { keep_up(&here.0, lane, link).await }
}

async fn keep_up<C: Protocol>(client: &Arc<C>, lane: Lane, link: Option<Arc<C::Link>>) {
    let lanes = client.lanes();
    let mut failures = 0;
    let mut link = match link {
        Some(link) => link,
        None => {
            let Some(made) = again(client, lane, &mut failures, |why| why).await else { return };
            lanes.up(lane, &made);
            made
        }
    };
    loop {
        let up = lanes.runtime().now();
        let fault = link.ended().await;
        if lanes.is_closed() {
            return;
        }
        tracing::debug!(?fault, ?lane, "connection lost");
        lanes.down(lane, broken(&fault));
        failures = if lanes.runtime().now().since(up) >= STEADY { 0 } else { failures + 1 };
        let Some(made) = again(client, lane, &mut failures, for_now).await else { return };
        link = made;
        #[cfg(feature = "metrics")]
        metrics::counter!("tenure_reconnects_total", "connection" => lane.name()).increment(1);
        lanes.up(lane, &link);
        if lanes.is_closed() {
            return;
        }
        if lane == Lane::Command {
            lanes.sink().news(News::LinkDown(Part::WHOLE));
        }
    }
}

/// Tries until there is a connection; `None` once the client is closed. `failures` counts those in a row: of tries, and of
/// connections that did not last. The first costs no pause, because most servers are back, or there is another one.
/// `told` is what callers are told of a failure.
async fn again<C: Protocol>(
    client: &Arc<C>,
    lane: Lane,
    failures: &mut u32,
    told: fn(Why) -> Why,
) -> Option<Arc<C::Link>> {
    let lanes = client.lanes();
    let runtime = lanes.runtime();
    loop {
        if *failures > 1 {
            let mut dice = [0u8; 8];
            runtime.fill(&mut dice);
            let again = runtime.now() + backoff::pause(*failures - 1, u64::from_le_bytes(dice));
            race(&**runtime, again, lanes.closing.notified()).await;
        }
        if lanes.is_closed() {
            return None;
        }
        match connect(client, lane).await {
            Ok(link) => return Some(link),
            Err(why) => lanes.down(lane, told(why)),
        }
        *failures = failures.saturating_add(1);
    }
}

/// While the command connection is down, or for ever if its runtime is gone, pushes come to the keeper connection: a waiter
/// that cannot be told may be overtaken. Runs until the client is closed.
pub(super) async fn stand_in<C: Protocol>(client: Arc<C>) {
    let lanes = client.lanes();
    // The keeper connection that is subscribed.
    let mut told = Weak::new();
    while !lanes.is_closed() {
        lanes.moved.notified().await;
        // Again, because a connection may come or go meanwhile.
        while let Some(keeper) = lanes.link(Lane::Keeper) {
            let (needed, is) =
                (lanes.link(Lane::Command).is_none(), std::ptr::eq(told.as_ptr(), Arc::as_ptr(&keeper)));
            if needed == is || lanes.is_closed() {
                break;
            }
            lanes.wake_guard();
            if !needed {
                told = Weak::new();
                if let Err(why) = client.unsubscribe(&keeper).await {
                    tracing::debug!(why.what, "the keeper connection still gets pushes");
                    break;
                }
                continue;
            }
            if let Err(why) = client.subscribe(&keeper).await {
                tracing::debug!(why.what, "pushes are missed until the command connection is back");
                if lanes.homeless.load(Ordering::SeqCst) {
                    // That will not be: another connection may do better.
                    keeper.fail(&Fault::Lost(why.what.as_str().into()));
                }
                break;
            }
            told = Arc::downgrade(&keeper);
            lanes.sink().news(News::LinkDown(Part::WHOLE));
        }
    }
}

/// The error for requests while there is no connection: nothing of them is sent.
fn broken(fault: &Fault) -> Why {
    Why::new(ErrorKind::Unavailable, format!("not connected: {}", fault.text()), REACH)
}

/// A server that was usable when the client first connected may become usable again: a failover may be under way.
fn for_now(mut why: Why) -> Why {
    if why.kind == ErrorKind::Config {
        why.kind = ErrorKind::Unavailable;
    }
    why
}

/// The caller's runtime is gone: the keeper connection takes over.
fn leave_home<C: Protocol>(client: &C) {
    let lanes = client.lanes();
    if lanes.homeless.swap(true, Ordering::SeqCst) {
        return;
    }
    let why = "the runtime that this client connected in is gone";
    if let Some(link) = lanes.link(Lane::Command) {
        link.fail(&Fault::Lost(why.into()));
    }
    let advice = "connect in a runtime that lives as long as the client";
    lanes.down(Lane::Command, Why::new(ErrorKind::Unavailable, why, advice));
}
