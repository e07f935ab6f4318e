//! What every store over a network needs: connections that are kept up, and the choice between them.
//!
//! - `lanes`: two connections to one server, and which of them a request takes.
//! - `open`: makes both for the first time.
//! - `supervise`: makes them again when they break, and moves the pushes.
//! - `guard`: the watchdog of requests without answers.
//! - `thread`: where connections run.
//! - `reactor`: whether the caller's runtime can carry one.
//! - `server_clock`: the server's time.
//! - `fault`: why a request has no answer.
//!
//! A store implements [`Protocol`] for its client and [`Link`] for one connection. Everything here is timed by the
//! [`Runtime`](crate::runtime::Runtime) that was given, so reconnecting runs in virtual time: `tests`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

mod fault;
mod guard;
mod lanes;
mod open;
mod reactor;
mod server_clock;
mod supervise;
#[cfg(test)]
mod tests;
mod thread;

pub use self::fault::{Fault, Why};
pub use self::guard::PATIENCE;
pub use self::lanes::{Lane, Lanes};
pub use self::open::{Opened, keep_trying, open};
pub use self::server_clock::ServerClock;
pub use self::thread::{Place, Thread, home};

/// A client of one server: what differs from store to store.
pub trait Protocol: Send + Sync + 'static {
    /// One connection.
    type Link: Link;
    /// Where connections run: a tokio runtime, or a place in virtual time.
    type Place: Place;

    /// The client's connections.
    fn lanes(&self) -> &Lanes<Self::Link, Self::Place>;

    /// Opens a connection to the server. Nothing is said yet.
    fn dial(&self, lane: Lane) -> impl Future<Output = Result<Arc<Self::Link>, Why>> + Send;

    /// Reads and writes until the link has ended. Runs where the link lives; dropped, it ends the link.
    fn drive(client: Arc<Self>, link: Arc<Self::Link>) -> impl Future<Output = ()> + Send + 'static;

    /// Makes a new connection ready for requests.
    fn greet(&self, link: &Self::Link) -> impl Future<Output = Result<(), Why>> + Send;

    /// Asks the server to send this client's pushes over this connection.
    fn subscribe(&self, link: &Self::Link) -> impl Future<Output = Result<(), Why>> + Send;

    /// Ends what [`subscribe`](Protocol::subscribe) began.
    fn unsubscribe(&self, link: &Self::Link) -> impl Future<Output = Result<(), Why>> + Send;

    /// The keeper connection was made and is about to be used: asks again for what the server forgot with the last one.
    fn kept(client: &Arc<Self>, link: &Self::Link) -> impl Future<Output = ()> + Send;

    /// The error for a server that cannot be reached.
    fn unreachable(&self, why: &str) -> Why;
}

/// One connection.
pub trait Link: fmt::Debug + Send + Sync + 'static {
    /// Ends the link: closes the connection and answers all its requests. Does nothing if it has ended.
    fn fail(&self, fault: &Fault);

    /// Resolves when the link has ended, with the reason. For one listener.
    fn ended(&self) -> impl Future<Output = Fault> + Send;

    /// What is under way.
    fn load(&self) -> Load;

    /// Wakes the driver, so that it runs once and counts a beat if its runtime is not blocked.
    fn nudge(&self);

    /// Sends a request that changes nothing. Its answer shows that the server is there.
    fn ping(&self);

    /// The driver's runtime is blocked. Moves the requests that have not left to `other`, or answers that they were not
    /// sent if there is none; answers the rest that their answer is lost. The link lives on.
    fn pass_by(&self, other: Option<&Self>, why: &str);
}

/// What is under way on a link.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How long the oldest request has waited; `None`: nothing is under way.
    pub oldest: Option<Duration>,
    /// How long nothing has arrived.
    pub silent: Duration,
    /// How often the driver has run.
    pub beats: u64,
}
