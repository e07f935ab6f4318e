//! A client of the line that keeps its connections as every networked store of the product does: two of them, made again,
//! watched and passed by, by the product's own [`net`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tenure::backend::net::{Lane, Lanes, Protocol, Why, open};
use tenure::backend::{Errand, News, Sink};
use tenure::runtime::Runtime;
use tenure::{ErrorKind, core::backoff};

use super::clock::MS;
use super::machine::Machine;
use super::message::{Hello, Said, Verb};
use super::net::send;
use super::room::Room;
use super::wire::Wire;

/// A client that connects, or has connected.
#[derive(Debug)]
pub(super) struct Connected {
    machine: Arc<Machine>,
    client: OnceLock<Arc<Client>>,
    closed: AtomicBool,
}

impl Connected {
    /// Connects in the background; whoever calls meanwhile hears that nothing was sent.
    pub(super) fn new(machine: &Arc<Machine>) -> Arc<Connected> {
        let (client, closed) = (OnceLock::new(), AtomicBool::new(false));
        let connected = Arc::new(Connected { machine: machine.clone(), client, closed });
        let me = connected.clone();
        Runtime::spawn(&**machine, Box::pin(async move { me.connect().await }));
        connected
    }

    async fn connect(&self) {
        let machine = &self.machine;
        while !self.closed.load(Ordering::Relaxed) {
            let home = Some(Room::home(machine));
            let opened = open(home, |home| Ok(Client::new(machine, home))).await;
            match opened.and_then(tenure::backend::net::Opened::keep) {
                Ok(client) => {
                    let _ = self.client.set(client);
                    break;
                }
                Err(error) => {
                    machine.world().trace(|| format!("client {} cannot connect: {error}", machine.number));
                    machine.sleep(100 * MS).await;
                }
            }
        }
        if self.closed.load(Ordering::Relaxed) {
            self.close();
        }
        machine.connects();
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        if let Some(client) = self.client.get() {
            client.lanes.close();
        }
    }

    /// Sends a verb over one of the connections.
    pub(super) async fn ask(&self, errand: Errand, verb: Verb) -> Result<Said, Why> {
        let Some(client) = self.client.get() else { return Err(Why::unsent("not connected yet")) };
        let link = client.lanes.pick(errand)?;
        client.lanes.wake_guard();
        link.ask(verb).await
    }
}

/// The client's two connections.
#[derive(Debug)]
pub(super) struct Client {
    machine: Arc<Machine>,
    lanes: Lanes<Wire, Room>,
    /// How often it was asked for pushes, and how often it dialled.
    subscribed: AtomicU64,
    dialled: AtomicU64,
}

/// Hears what the supervision says.
struct Ear(Arc<Machine>);

impl Sink for Ear {
    fn news(&self, news: News) {
        let deaf = self.0.world().mutant.as_ref().is_some_and(|mutant| mutant.hides_returns());
        if !deaf {
            self.0.told(news);
        }
    }
}

impl Client {
    fn new(machine: &Arc<Machine>, home: Option<Room>) -> Client {
        let lanes = Lanes::new(machine.clone(), Arc::new(Ear(machine.clone())), home, Room::own(machine));
        let (subscribed, dialled) = (AtomicU64::new(0), AtomicU64::new(0));
        Client { machine: machine.clone(), lanes, subscribed, dialled }
    }

    fn yes(&self, said: Said) -> Result<(), Why> {
        match said {
            Said::Yes(true) => Ok(()),
            _ => Err(self.unreachable("it refuses")),
        }
    }
}

impl Protocol for Client {
    type Link = Wire;
    type Place = Room;

    fn lanes(&self) -> &Lanes<Wire, Room> {
        &self.lanes
    }

    async fn dial(&self, lane: Lane) -> Result<Arc<Wire>, Why> {
        let machine = &self.machine;
        let tries = self.dialled.fetch_add(1, Ordering::Relaxed);
        if machine.world().mutant.as_ref().is_some_and(|mutant| mutant.never_hopes()) {
            let pause = backoff::pause(u32::try_from(tries).unwrap_or(u32::MAX), machine.world().draw());
            machine.sleep_until(machine.now() + pause).await;
        }
        match send(machine, 0, Verb::Hello(Hello::Dial)).await {
            Some(Said::Yes(true)) => Ok(Wire::new(machine, lane)),
            _ => Err(self.unreachable("it refuses the connection")),
        }
    }

    async fn drive(_: Arc<Client>, link: Arc<Wire>) {
        link.drive().await;
    }

    async fn greet(&self, link: &Wire) -> Result<(), Why> {
        self.yes(link.ask(Verb::Hello(Hello::Greet)).await?)
    }

    async fn subscribe(&self, link: &Wire) -> Result<(), Why> {
        let again = self.subscribed.fetch_add(1, Ordering::Relaxed) > 0;
        if again && self.machine.world().mutant.as_ref().is_some_and(|mutant| mutant.subscribes_once()) {
            return Ok(());
        }
        self.yes(link.ask(Verb::Hello(Hello::Subscribe)).await?)
    }

    async fn unsubscribe(&self, link: &Wire) -> Result<(), Why> {
        self.yes(link.ask(Verb::Hello(Hello::Unsubscribe)).await?)
    }

    async fn kept(_: &Arc<Client>, _: &Wire) {}

    fn unreachable(&self, why: &str) -> Why {
        Why::new(ErrorKind::Unavailable, format!("the server cannot be reached: {why}"), "")
    }
}
