//! A scripted protocol in virtual time: a server whose connections fail, hang and come back as a test says.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::super::fault;
use super::super::{Fault, Lane, Lanes, Link, Load, Protocol, Why};
use super::room::{Room, lock};
use crate::backend::{Errand, News, Part, Sink};
use crate::core::moment::Moment;
use crate::error::ErrorKind;
use crate::runtime::Runtime;
use crate::runtime::virtual_time::Virtual;

pub(super) const MS: Duration = Duration::from_millis(1);

/// What becomes of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// It is refused.
    Refused,
    /// Connecting never ends.
    Hangs,
    /// It is made, and never answers.
    Deaf,
    /// It works for so long, and is cut.
    Lasts(Duration),
    /// It works for so long, and never answers again.
    Mute(Duration),
    /// It works.
    Good,
    /// Its runtime cannot make connections.
    Panics,
}

/// What a test reads afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Dialled(Lane),
    Made(Lane),
    /// The server sends pushes over this connection from now on.
    Subscribed(Lane),
    Unsubscribed(Lane),
    Kept,
    LinkDown,
    /// The server has done a piece of work.
    Done(u64),
}

/// The server, the network and the news.
#[derive(Debug)]
pub(super) struct Server {
    rt: Arc<Virtual>,
    /// How the next connections of each lane end, in order; the rest are good.
    fates: Mutex<[VecDeque<Fate>; 2]>,
    /// Refuses connections, whatever their fate.
    pub(super) down: AtomicBool,
    /// Answers nothing.
    pub(super) mute: AtomicBool,
    /// Refuses to send pushes.
    pub(super) deny: AtomicBool,
    latency: Duration,
    log: Mutex<Vec<(Moment, Event)>>,
    links: Mutex<Vec<Arc<Wire>>>,
}

impl Server {
    pub(super) fn new(rt: &Arc<Virtual>) -> Arc<Server> {
        let no = || AtomicBool::new(false);
        let (rt, fates, log, links) = (rt.clone(), Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Server { rt, fates, down: no(), mute: no(), deny: no(), latency: MS, log, links })
    }

    pub(super) fn fates(&self, lane: Lane, fates: impl IntoIterator<Item = Fate>) {
        lock(&self.fates)[lane as usize].extend(fates);
    }

    /// All connections from now on are good.
    pub(super) fn heal(&self) {
        lock(&self.fates).iter_mut().for_each(VecDeque::clear);
    }

    fn note(&self, event: Event) {
        lock(&self.log).push((self.rt.now(), event));
    }

    /// All that happened so far.
    pub(super) fn log(&self) -> Vec<(Moment, Event)> {
        lock(&self.log).clone()
    }

    /// When these happened.
    pub(super) fn times(&self, event: Event) -> Vec<Moment> {
        lock(&self.log).iter().filter(|(_, e)| *e == event).map(|(at, _)| *at).collect()
    }

    pub(super) fn count(&self, event: Event) -> usize {
        self.times(event).len()
    }

    /// The connections that live.
    pub(super) fn live(&self) -> Vec<Arc<Wire>> {
        lock(&self.links).iter().filter(|link| lock(&link.state).dead.is_none()).cloned().collect()
    }

    /// Cuts the connections of a lane.
    pub(super) fn cut(&self, lane: Lane) {
        for link in self.live().into_iter().filter(|link| link.lane == lane) {
            link.fail(&Fault::Lost("cut".into()));
        }
    }

    /// Something arrives on a connection that is no answer.
    pub(super) fn push(&self, lane: Lane) {
        for link in self.live().into_iter().filter(|link| link.lane == lane) {
            lock(&link.state).heard = self.rt.now();
        }
    }
}

impl Sink for Server {
    fn news(&self, news: News) {
        assert!(matches!(news, News::LinkDown(Part::WHOLE)), "{news:?}");
        self.note(Event::LinkDown);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Greet,
    Subscribe,
    Unsubscribe,
    Ping,
    Work(u64),
}

type Reply = Result<(), Fault>;

/// One connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) lane: Lane,
    server: Arc<Server>,
    /// From then on nothing is answered.
    mute_from: Moment,
    state: Mutex<State>,
    ended: Notify,
    wake: Notify,
    beats: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// What has not left.
    out: VecDeque<(Request, Moment, oneshot::Sender<Reply>)>,
    /// What has no answer.
    waiting: VecDeque<(Moment, oneshot::Sender<Reply>)>,
    /// Answers that arrived and were not read.
    arrived: VecDeque<Reply>,
    heard: Moment,
    subscribed: bool,
    /// The server does not answer on it any more.
    deaf: bool,
    dead: Option<Fault>,
}

impl Wire {
    pub(super) fn is_told(&self) -> bool {
        lock(&self.state).subscribed
    }

    fn send(&self, request: Request) -> oneshot::Receiver<Reply> {
        let (reply, answer) = oneshot::channel();
        self.put(request, self.server.rt.now(), reply);
        answer
    }

    fn put(&self, request: Request, since: Moment, reply: oneshot::Sender<Reply>) {
        let mut state = lock(&self.state);
        match &state.dead {
            Some(fault) => drop(reply.send(Err(fault.unsent()))),
            None => state.out.push_back((request, since, reply)),
        }
        self.wake.notify_one();
    }

    async fn ask(&self, request: Request) -> Result<(), Why> {
        match self.send(request).await.unwrap_or_else(|_| Err(Fault::Lost("nobody answers".into()))) {
            Ok(()) => Ok(()),
            Err(Fault::Unsent(why)) => Err(Why::unsent(&why)),
            Err(Fault::Garbage(why)) => Err(Why::new(ErrorKind::Denied, &*why, fault::REACH)),
            Err(fault) => Err(Why::lost(fault.text())),
        }
    }

    async fn drive(self: Arc<Wire>) {
        struct End(Arc<Wire>);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.fail(&Fault::Lost("the driver is gone".into()));
            }
        }
        let link = End(self);
        loop {
            link.0.wake.notified().await;
            link.0.beats.fetch_add(1, Ordering::SeqCst);
            if lock(&link.0.state).dead.is_some() {
                return;
            }
            link.0.read();
            link.0.write();
        }
    }

    fn read(&self) {
        let mut state = lock(&self.state);
        while let Some(reply) = state.arrived.pop_front() {
            state.heard = self.server.rt.now();
            let (_, to) = state.waiting.pop_front().expect("asked");
            drop(to.send(reply));
        }
    }

    fn write(self: &Arc<Wire>) {
        loop {
            let Some((request, since, reply)) = lock(&self.state).out.pop_front() else { return };
            lock(&self.state).waiting.push_back((since, reply));
            let (link, server) = (self.clone(), self.server.clone());
            self.server.rt.spawn(Box::pin(async move {
                server.rt.sleep_until(server.rt.now() + server.latency).await;
                let mute = server.mute.load(Ordering::SeqCst) || server.rt.now() >= link.mute_from;
                let Some(answer) = link.act(request, mute) else { return };
                server.rt.sleep_until(server.rt.now() + server.latency).await;
                lock(&link.state).arrived.push_back(answer);
                link.wake.notify_one();
            }));
        }
    }

    /// What the server does about a request; `None`: it does not answer. A connection that missed one answer gives no other.
    fn act(&self, request: Request, mute: bool) -> Option<Reply> {
        let mut state = lock(&self.state);
        state.deaf |= mute;
        if state.dead.is_some() || state.deaf {
            return None;
        }
        match request {
            Request::Subscribe if self.server.deny.load(Ordering::SeqCst) => {
                return Some(Err(Fault::Garbage("no pushes for you".into())));
            }
            Request::Subscribe => {
                state.subscribed = true;
                self.server.note(Event::Subscribed(self.lane));
            }
            Request::Unsubscribe => {
                state.subscribed = false;
                self.server.note(Event::Unsubscribed(self.lane));
            }
            Request::Work(number) => self.server.note(Event::Done(number)),
            Request::Greet | Request::Ping => {}
        }
        Some(Ok(()))
    }
}

impl Link for Wire {
    fn fail(&self, fault: &Fault) {
        let (out, waiting) = {
            let mut state = lock(&self.state);
            if state.dead.is_some() {
                return;
            }
            state.dead = Some(fault.clone());
            (std::mem::take(&mut state.out), std::mem::take(&mut state.waiting))
        };
        self.ended.notify_one();
        self.wake.notify_one();
        out.into_iter().for_each(|(_, _, reply)| drop(reply.send(Err(fault.unsent()))));
        waiting.into_iter().for_each(|(_, reply)| drop(reply.send(Err(fault.clone()))));
    }

    async fn ended(&self) -> Fault {
        loop {
            if let Some(fault) = lock(&self.state).dead.clone() {
                return fault;
            }
            self.ended.notified().await;
        }
    }

    fn load(&self) -> Load {
        let (state, now) = (lock(&self.state), self.server.rt.now());
        let oldest = state.waiting.front().map(|w| w.0).or(state.out.front().map(|o| o.1));
        let (oldest, silent) = (oldest.map(|since| now.since(since)), now.since(state.heard));
        Load { oldest, silent, beats: self.beats.load(Ordering::SeqCst) }
    }

    fn nudge(&self) {
        self.wake.notify_one();
    }

    fn ping(&self) {
        drop(self.send(Request::Ping));
    }

    fn pass_by(&self, other: Option<&Wire>, why: &str) {
        let (out, waiting) = {
            let mut state = lock(&self.state);
            let waiting: Vec<_> = state
                .waiting
                .iter_mut()
                .map(|w| {
                    let (nobody, _) = oneshot::channel();
                    std::mem::replace(&mut w.1, nobody)
                })
                .collect();
            (std::mem::take(&mut state.out), waiting)
        };
        waiting.into_iter().for_each(|reply| drop(reply.send(Err(Fault::Lost(why.into())))));
        for (request, since, reply) in out {
            match other {
                Some(other) => other.put(request, since, reply),
                None => drop(reply.send(Err(Fault::Unsent(why.into())))),
            }
        }
    }
}

/// A client of the server.
#[derive(Debug)]
pub(super) struct Client {
    lanes: Lanes<Wire, Arc<Room>>,
    server: Arc<Server>,
}

impl Client {
    pub(super) fn new(server: &Arc<Server>, home: Option<Arc<Room>>, own: Arc<Room>) -> Client {
        let server = server.clone();
        Client { lanes: Lanes::new(server.rt.clone(), server.clone(), home, own), server }
    }

    /// Asks for a piece of work; the server notes it as done.
    pub(super) async fn work(&self, errand: Errand, number: u64) -> Result<(), Why> {
        self.work_on(&*self.lanes.pick(errand)?, number).await
    }

    /// The same, over this connection.
    pub(super) async fn work_on(&self, link: &Wire, number: u64) -> Result<(), Why> {
        self.lanes.wake_guard();
        link.ask(Request::Work(number)).await
    }
}

impl Protocol for Client {
    type Link = Wire;
    type Place = Arc<Room>;

    fn lanes(&self) -> &Lanes<Wire, Arc<Room>> {
        &self.lanes
    }

    async fn dial(&self, lane: Lane) -> Result<Arc<Wire>, Why> {
        let server = &self.server;
        server.note(Event::Dialled(lane));
        let fate = lock(&server.fates)[lane as usize].pop_front().unwrap_or(Fate::Good);
        if server.down.load(Ordering::SeqCst) {
            return Err(self.unreachable("refused"));
        }
        let now = server.rt.now();
        let mute_from = match fate {
            Fate::Refused => return Err(self.unreachable("refused")),
            Fate::Hangs => std::future::pending().await,
            Fate::Panics => panic!("this runtime does no I/O"),
            Fate::Deaf => now,
            Fate::Mute(after) => now + after,
            Fate::Lasts(_) | Fate::Good => Moment::NEVER,
        };
        let link = Arc::new(Wire {
            lane,
            server: server.clone(),
            mute_from,
            state: Mutex::new(State { heard: now, ..State::default() }),
            ended: Notify::new(),
            wake: Notify::new(),
            beats: AtomicU64::new(0),
        });
        if let Fate::Lasts(time) = fate {
            let (link, rt) = (link.clone(), server.rt.clone());
            server.rt.spawn(Box::pin(async move {
                rt.sleep_until(now + time).await;
                link.fail(&Fault::Lost("its time is over".into()));
            }));
        }
        server.note(Event::Made(lane));
        lock(&server.links).push(link.clone());
        Ok(link)
    }

    async fn drive(_: Arc<Client>, link: Arc<Wire>) {
        link.drive().await;
    }

    async fn greet(&self, link: &Wire) -> Result<(), Why> {
        link.ask(Request::Greet).await
    }

    async fn subscribe(&self, link: &Wire) -> Result<(), Why> {
        link.ask(Request::Subscribe).await
    }

    async fn unsubscribe(&self, link: &Wire) -> Result<(), Why> {
        link.ask(Request::Unsubscribe).await
    }

    async fn kept(client: &Arc<Client>, _: &Wire) {
        client.server.note(Event::Kept);
    }

    fn unreachable(&self, why: &str) -> Why {
        Why::new(ErrorKind::Unavailable, why, fault::REACH)
    }
}
