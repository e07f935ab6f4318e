//! Makes the two connections of a client for the first time.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::lanes::{CLOSED, Lane};
use super::thread::Place;
use super::{Protocol, Why, guard, supervise};
use crate::error::{Error, ErrorKind, Result};

/// Makes both connections, each where it will run. `make` makes the client, given the caller's runtime; it is called again
/// with `None` if connecting panics there: that runtime does no I/O, which [`home`](super::home) could not see.
///
/// Dropping the future closes what was opened.
///
/// # Errors
/// As [`Protocol`]'s, and `Unavailable` if a runtime ends while connecting.
pub async fn open<C: Protocol>(
    home: Option<C::Place>,
    make: impl Fn(Option<C::Place>) -> Result<C>,
) -> Result<Opened<C>> {
    let has_home = home.is_some();
    let mut unfinished = Unfinished(Some(Arc::new(make(home)?)));
    let mut links = unfinished.connect().await;
    if has_home && links.is_none() {
        unfinished = Unfinished(Some(Arc::new(make(None)?)));
        links = unfinished.connect().await;
    }
    let links =
        links.ok_or_else(|| Error::unavailable("the runtime ended while connecting", "connect again"))?;
    let (command, keeper) = links.map_err(|why| why.error())?;
    Ok(Opened { unfinished, command, keeper })
}

/// A client whose connections are made, but not kept up yet. Dropped, it closes them.
pub struct Opened<C: Protocol> {
    unfinished: Unfinished<C>,
    /// The command connection.
    pub command: Arc<C::Link>,
    keeper: Arc<C::Link>,
}

impl<C: Protocol> Opened<C> {
    /// Keeps both connections up until the client is closed.
    ///
    /// # Errors
    /// `Unavailable`: the client was closed.
    pub fn keep(mut self) -> Result<Arc<C>> {
        let client = self.unfinished.0.take().ok_or_else(|| closed().error())?;
        keep_both(&client, Some(self.command.clone()), Some(self.keeper.clone()));
        Ok(client)
    }
}

/// Keeps both connections of a client up from now on, whether its server is there yet or not: for one of several servers,
/// of which some may be away.
pub fn keep_trying<C: Protocol>(client: &Arc<C>) {
    keep_both(client, None, None);
}

fn keep_both<C: Protocol>(client: &Arc<C>, command: Option<Arc<C::Link>>, keeper: Option<Arc<C::Link>>) {
    let lanes = client.lanes();
    lanes.place(Lane::Command).spawn(supervise::keep(client.clone(), Lane::Command, command));
    lanes.own().spawn(supervise::keep(client.clone(), Lane::Keeper, keeper));
    lanes.own().spawn(supervise::stand_in(client.clone()));
    lanes.own().spawn(guard::watch(client.clone()));
}

/// A client that is being connected. Dropped before that is done, it closes what was opened.
struct Unfinished<C: Protocol>(Option<Arc<C>>);

impl<C: Protocol> Drop for Unfinished<C> {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            client.lanes().close();
        }
    }
}

/// Both connections, or why one could not be made.
type Pair<L> = std::result::Result<(Arc<L>, Arc<L>), Why>;

impl<C: Protocol> Unfinished<C> {
    /// `None`: connecting panicked, or its runtime ended.
    async fn connect(&self) -> Option<Pair<C::Link>> {
        let Some(client) = &self.0 else { return Some(Err(closed())) };
        let [command, keeper] = Lane::BOTH.map(|lane| first(client, lane));
        let command = command.await.ok()?;
        let keeper = keeper.await.ok()?;
        Some(command.and_then(|command| Ok((command, keeper?))))
    }
}

/// Makes a connection where it will run.
fn first<C: Protocol>(
    client: &Arc<C>,
    lane: Lane,
) -> oneshot::Receiver<std::result::Result<Arc<C::Link>, Why>> {
    let (tell, told) = oneshot::channel();
    let shared = client.clone();
    client.lanes().place(lane).spawn(async move {
        let made = supervise::connect(&shared, lane).await;
        if let Ok(link) = &made {
            shared.lanes().up(lane, link);
        }
        let _ = tell.send(made);
    });
    told
}

fn closed() -> Why {
    Why::new(ErrorKind::Unavailable, CLOSED, "connect again")
}
