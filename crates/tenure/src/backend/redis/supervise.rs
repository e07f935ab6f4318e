//! Makes connections, makes them anew when they break, and notices those that hang.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;

use super::client::{Client, Slot};
use super::fault::{Fault, Why, of_fault};
use super::handshake::{self, Hello};
use super::link::Link;
use super::stream::Stream;
use super::{changes, names};
use crate::backend::{News, Part, Watched};
use crate::core::backoff;
use crate::error::ErrorKind;
use crate::runtime::race;

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(4);
/// A connection on which a request has waited this long, while nothing at all arrived, is given up.
const SILENCE: Duration = Duration::from_secs(2);
/// No request waits longer than this, whatever else arrives.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How often requests under way are looked at.
const TICK: Duration = Duration::from_millis(50);
/// An idle connection is tried this often.
const IDLE: Duration = Duration::from_secs(15);
/// A connection that lasted this long was a good one: the next is made without a pause.
const STEADY: Duration = Duration::from_secs(1);

/// Which of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Command,
    Keeper,
}

impl Lane {
    fn slot(self, client: &Client) -> &Slot {
        match self {
            Lane::Command => &client.command,
            Lane::Keeper => &client.keeper,
        }
    }

    /// Whether pushes come this way.
    fn is_told(self, client: &Client) -> bool {
        (self == Lane::Command) != client.homeless.load(Ordering::SeqCst)
    }
}

/// Makes a connection in the current runtime.
pub(super) async fn connect(client: &Arc<Client>, lane: Lane) -> Result<(Arc<Link>, Hello), Why> {
    let runtime = client.runtime.clone();
    let made = race(&*runtime, runtime.now() + CONNECT, make(client, lane)).await;
    made.unwrap_or_else(|| Err(unreachable(client, "it does not answer")))
}

/// Makes a connection for the first time.
pub(super) async fn first(client: Arc<Client>, lane: Lane) -> Result<Arc<Link>, Why> {
    let (link, _) = connect(&client, lane).await?;
    lane.slot(&client).up(&link);
    if client.is_closed() {
        link.fail(&Fault::Lost("the client was closed".into()));
    }
    Ok(link)
}

async fn make(client: &Arc<Client>, lane: Lane) -> Result<(Arc<Link>, Hello), Why> {
    let target = &client.target;
    let stream = Stream::connect(&target.host, target.port, target.tls.as_ref());
    let stream = stream.await.map_err(|error| unreachable(client, &error.to_string()))?;
    let link = Link::new(stream, client.runtime.clone(), client.names.clone());
    let told = client.clone();
    tokio::spawn(link.clone().drive(move |values| told.pushed(&values)));
    /// Ends the connection unless it was finished.
    struct Unfinished(Option<Arc<Link>>);
    impl Drop for Unfinished {
        fn drop(&mut self) {
            if let Some(link) = self.0.take() {
                link.fail(&Fault::Lost("connecting was given up".into()));
            }
        }
    }
    let mut unfinished = Unfinished(Some(link.clone()));
    let greeted = async {
        let hello = handshake::greet(&link, target).await?;
        client.prepare(&link).await?;
        if lane.is_told(client) {
            subscribe(client, &link).await?;
        }
        Ok(hello)
    };
    // Nothing was asked for yet that could have been done.
    let hello = greeted.await.map_err(|why: Why| match why.kind {
        ErrorKind::Uncertain => unreachable(client, &why.what),
        _ => why,
    })?;
    if lane == Lane::Keeper && *client.watched() != Watched::Nothing {
        changes::track(client, &link).await;
    }
    unfinished.0 = None;
    Ok((link, hello))
}

fn unreachable(client: &Client, why: &str) -> Why {
    let what = format!("{} cannot be reached: {why}", client.target.shown);
    if client.target.tls.is_some() && (why.contains("ertificate") || why.contains("UnknownCA")) {
        let advice =
            "name the roots with tls-ca=, and the client's own certificate with tls-cert= and tls-key=";
        return Why::new(ErrorKind::Denied, what, advice);
    }
    Why::new(ErrorKind::Unavailable, what, "check that the server runs, and the address")
}

async fn subscribe(client: &Client, link: &Link) -> Result<(), Why> {
    match link.subscribe(&names::channel(&client.id)).await {
        Ok(super::resp::Value::Error(text)) => Err(super::fault::of_answer(&text)),
        Ok(_) => Ok(()),
        Err(fault) => Err(of_fault(&fault)),
    }
}

/// Keeps one connection up until the client is closed. Dropped with its runtime, even before it was polled for the first
/// time, it hands its work to the other one.
fn supervise(client: Arc<Client>, lane: Lane, link: Arc<Link>) -> impl Future<Output = ()> + Send {
    struct Here(Arc<Client>, Lane);
    impl Drop for Here {
        fn drop(&mut self) {
            if self.1 == Lane::Command && !self.0.is_closed() {
                leave_home(&self.0);
            }
        }
    }
    let here = Here(client, lane);
    async move { keep_up(&here.0, lane, link).await }
}

async fn keep_up(client: &Arc<Client>, lane: Lane, mut link: Arc<Link>) {
    let slot = lane.slot(client);
    // Connections in a row that failed, or that ended soon after they were made.
    let mut tries = 0;
    loop {
        let up = client.runtime.now();
        let fault = link.ended().await;
        if client.is_closed() {
            return;
        }
        tracing::debug!(?fault, ?lane, "connection lost");
        slot.down(broken(&fault));
        if lane == Lane::Command {
            client.thread.handle.spawn(stand_in(client.clone()));
        }
        tries = if client.runtime.now().since(up) >= STEADY { 0 } else { tries + 1 };
        link = loop {
            // The first new connection is made at once: most servers are back, or there is another one.
            if tries > 1 {
                let mut dice = [0u8; 8];
                client.runtime.fill(&mut dice);
                let again = client.runtime.now() + backoff::pause(tries - 1, u64::from_le_bytes(dice));
                race(&*client.runtime, again, client.closing.notified()).await;
            }
            if client.is_closed() {
                return;
            }
            match connect(client, lane).await {
                Ok((link, _)) => break link,
                Err(why) => slot.down(for_now(why)),
            }
            tries += 1;
        };
        slot.up(&link);
        if client.is_closed() {
            link.fail(&Fault::Lost("the client was closed".into()));
            return;
        }
        if lane.is_told(client) {
            client.sink.0.news(News::LinkDown(Part::WHOLE));
        }
        client.thread.handle.spawn(stand_in(client.clone()));
    }
}

/// While the command connection is down, pushes come to the other one: a waiter that cannot be told is overtaken.
async fn stand_in(client: Arc<Client>) {
    if client.homeless.load(Ordering::SeqCst) {
        return;
    }
    let Some(keeper) = client.keeper.link() else { return };
    // Once more if the command connection came or went meanwhile.
    loop {
        let needed = client.command.link().is_none();
        if needed {
            // One that cannot subscribe is not worse than none: the waiters look again by themselves.
            if let Err(why) = subscribe(&client, &keeper).await {
                tracing::debug!(why.what, "pushes are missed until the command connection is back");
                return;
            }
            client.sink.0.news(News::LinkDown(Part::WHOLE));
        } else if keeper.unsubscribe(&names::channel(&client.id)).await.is_err() {
            return;
        }
        if needed == client.command.link().is_none() || client.is_closed() {
            return;
        }
    }
}

/// What requests are told while there is no connection: nothing of them is sent.
fn broken(fault: &Fault) -> Why {
    let (Fault::Unsent(why) | Fault::Lost(why) | Fault::Garbage(why) | Fault::Together(why)) = fault;
    Why::new(
        ErrorKind::Unavailable,
        format!("not connected: {why}"),
        "check that the server runs and can be reached",
    )
}

/// A server that was fit when we connected first, and is not now, may be so again: a failover is under way.
fn for_now(mut why: Why) -> Why {
    if why.kind == ErrorKind::Config {
        why.kind = ErrorKind::Unavailable;
    }
    why
}

/// The caller's runtime is gone: what it carried goes over our own thread from now on.
fn leave_home(client: &Arc<Client>) {
    if client.homeless.swap(true, Ordering::SeqCst) {
        return;
    }
    let why = "the runtime that this client connected in is gone";
    if let Some(link) = client.command.link() {
        link.fail(&Fault::Lost(why.into()));
    }
    client.command.down(Why::new(
        ErrorKind::Unavailable,
        why,
        "connect in a runtime that lives as long as the client",
    ));
    let shared = client.clone();
    client.thread.handle.spawn(async move {
        if let Some(link) = shared.keeper.link() {
            // One that cannot subscribe is of no use: the next one tries again.
            if let Err(why) = subscribe(&shared, &link).await {
                link.fail(&Fault::Lost(why.what.as_str().into()));
            }
        }
        shared.sink.0.news(News::LinkDown(Part::WHOLE));
    });
}

/// What the watchdog saw of a connection last time.
#[derive(Default)]
struct Seen {
    link: usize,
    beats: u64,
    still: u32,
}

/// Notices requests that get no answer: a connection that hangs is given up, and one whose runtime is blocked is passed by.
pub(super) async fn guard(client: Arc<Client>) {
    let (mut command, mut keeper) = (Seen::default(), Seen::default());
    loop {
        if tokio::time::timeout(IDLE, client.guard.notified()).await.is_err() {
            try_idle(&client);
        }
        while !client.is_closed() {
            client.guarded.store(true, Ordering::SeqCst);
            tokio::time::sleep(TICK).await;
            client.guarded.store(false, Ordering::SeqCst);
            let busy = look(&client, Lane::Command, &mut command) | look(&client, Lane::Keeper, &mut keeper);
            if !busy && !client.guarded.load(Ordering::SeqCst) {
                break;
            }
        }
        if client.is_closed() {
            return;
        }
    }
}

/// A connection that nobody has used for a while may be dead without anybody knowing: pushes would be lost.
fn try_idle(client: &Arc<Client>) {
    for lane in [Lane::Command, Lane::Keeper] {
        if let Some(link) = lane.slot(client).link().filter(|l| l.load().silent >= IDLE) {
            drop(link.send(&super::resp::command(&[b"PING"])));
            client.guarded.store(true, Ordering::SeqCst);
            client.guard.notify_one();
        }
    }
}

/// Whether anything is under way on this connection.
fn look(client: &Client, lane: Lane, seen: &mut Seen) -> bool {
    let slot = lane.slot(client);
    let Some(link) = slot.link() else { return false };
    let load = link.load();
    let same = seen.link == Arc::as_ptr(&link) as usize && seen.beats == load.beats;
    *seen = Seen {
        link: Arc::as_ptr(&link) as usize,
        beats: load.beats,
        still: if same { seen.still + 1 } else { 0 },
    };
    if !same {
        slot.set_stalled(false);
    }
    let Some(oldest) = load.oldest else { return false };
    if oldest >= PATIENCE || (oldest >= SILENCE && load.silent >= SILENCE) {
        link.fail(&Fault::Lost("the server did not answer in time".into()));
        return true;
    }
    match seen.still {
        0 => {}
        1 => link.nudge(),
        // It was woken and did not run.
        _ if lane == Lane::Command && client.home.is_some() => pass_by(client, &link),
        _ => {}
    }
    true
}

/// The runtime of the command connection is blocked: what has not left goes the other way, what has left is unknown.
fn pass_by(client: &Client, link: &Link) {
    client.command.set_stalled(true);
    let unsent = link.take_unsent();
    if let Some(other) = client.keeper.link() {
        other.adopt(unsent);
    }
    link.give_up("the runtime that this client connected in is blocked");
}

/// Starts what keeps the two connections.
pub(super) fn start(client: &Arc<Client>, command: Arc<Link>, keeper: Arc<Link>) {
    let place: &Handle = client.home.as_ref().unwrap_or(&client.thread.handle);
    place.spawn(supervise(client.clone(), Lane::Command, command));
    client.thread.handle.spawn(supervise(client.clone(), Lane::Keeper, keeper));
    client.thread.handle.spawn(guard(client.clone()));
}
