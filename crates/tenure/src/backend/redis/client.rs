//! A client of one server: its two connections, and the requests that go over them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use super::fault::{of_answer, of_fault};
use super::handshake::Born;
use super::link::Link;
use super::resp::Value;
use super::scripts::{Names, Script};
use super::stream::Stream;
use super::together::{Reply, Verb};
use super::url::Target;
use super::{changes, handshake, names};
use crate::backend::net::{Fault, Lane, Lanes, Link as _, Protocol, ServerClock, Thread, Why};
use crate::backend::{Changed, ClaimId, Errand, News, Sink, Watched};
use crate::core::moment::Moment;
use crate::error::ErrorKind;
use crate::runtime::{Runtime, join_all};

/// What a request came to: a value, and the connection that it came over.
pub(super) type Asked = Result<(Value, Arc<Link>), Why>;

/// A client of one server.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) target: Target,
    /// Random; names the channel on which this client is told.
    pub(super) id: String,
    pub(super) lanes: Lanes<Link, Handle>,
    pub(super) thread: Thread,
    clock: ServerClock,
    scripts: &'static [Script],
    names: Arc<Names>,
    /// The user may run all that the scripts need.
    permitted: AtomicBool,
    watched: Mutex<Watched>,
    /// Held by whoever asks the server to tell of what is watched.
    pub(super) tracking: tokio::sync::Mutex<()>,
    /// How often it was asked.
    pub(super) asked: AtomicU64,
    /// What changed, until the news of it is sent.
    pub(super) changed: Mutex<Option<Changed>>,
    /// Of one of several servers: what it said on the newest connection.
    pub(super) born: Mutex<Option<Born>>,
}

impl Protocol for Client {
    type Link = Link;
    type Place = Handle;

    fn lanes(&self) -> &Lanes<Link, Handle> {
        &self.lanes
    }

    async fn dial(&self, _: Lane) -> Result<Arc<Link>, Why> {
        let stream = Stream::connect(&self.target.host, self.target.port, self.target.tls.as_ref());
        let stream = stream.await.map_err(|error| self.unreachable(&error.to_string()))?;
        Ok(Link::new(stream, self.lanes.runtime().clone(), self.names.clone()))
    }

    async fn drive(client: Arc<Client>, link: Arc<Link>) {
        link.drive(move |values| client.pushed(&values)).await;
    }

    async fn greet(&self, link: &Link) -> Result<(), Why> {
        handshake::greet(link, &self.target).await?;
        if self.target.votes {
            let born = handshake::born(link, &**self.lanes.runtime()).await?;
            *self.born.lock().unwrap_or_else(PoisonError::into_inner) = Some(born);
        }
        self.prepare(link).await
    }

    async fn subscribe(&self, link: &Link) -> Result<(), Why> {
        told(link.subscribe(&names::channel(&self.id)).await)
    }

    async fn unsubscribe(&self, link: &Link) -> Result<(), Why> {
        told(link.unsubscribe(&names::channel(&self.id)).await)
    }

    async fn kept(client: &Arc<Client>, link: &Link) {
        if *client.watched() != Watched::Nothing {
            changes::track(client, link).await;
        }
    }

    fn unreachable(&self, why: &str) -> Why {
        let what = format!("{} cannot be reached: {why}", self.target.shown);
        if self.target.tls.is_some() && (why.contains("ertificate") || why.contains("UnknownCA")) {
            let advice =
                "name the roots with tls-ca=, and the client's own certificate with tls-cert= and tls-key=";
            return Why::new(ErrorKind::Denied, what, advice);
        }
        Why::new(ErrorKind::Unavailable, what, "check that the server runs, and the address")
    }
}

/// What the server says to a subscription, or to its end.
fn told(reply: Reply) -> Result<(), Why> {
    match reply {
        Ok(Value::Error(text)) => Err(of_answer(&text)),
        Ok(_) => Ok(()),
        Err(fault) => Err(of_fault(&fault)),
    }
}

impl Client {
    pub(super) fn new(
        target: Target,
        scripts: &'static [Script],
        home: Option<Handle>,
        runtime: Arc<dyn Runtime>,
        sink: Arc<dyn Sink>,
    ) -> crate::error::Result<Client> {
        let thread = Thread::start("tenure-redis")?;
        let mut id = [0u8; 8];
        runtime.fill(&mut id);
        Ok(Client {
            target,
            id: format!("{:016x}", u64::from_le_bytes(id)),
            lanes: Lanes::new(runtime, sink, home, thread.place().clone()),
            thread,
            clock: ServerClock::default(),
            scripts,
            names: Arc::default(),
            permitted: AtomicBool::new(false),
            watched: Mutex::default(),
            tracking: tokio::sync::Mutex::default(),
            asked: AtomicU64::new(0),
            changed: Mutex::default(),
            born: Mutex::default(),
        })
    }

    /// What is watched.
    pub(super) fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What changed.
    pub(super) fn changed(&self) -> MutexGuard<'_, Option<Changed>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for so long.
    pub(super) async fn sleep(&self, pause: Duration) {
        let runtime = self.lanes.runtime();
        runtime.sleep_until(runtime.now() + pause).await;
    }

    /// Runs a script; `keys` and `arguments` are its own.
    pub(super) async fn run(
        &self,
        errand: Errand,
        script: Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
    ) -> Asked {
        let mut request = self.names.request(script, keys, arguments);
        let mut again = script.only_reads();
        for _ in 0..3 {
            let link = self.lanes.pick(errand)?;
            match self.ask(&link, &request).await {
                Err(why) if why.unprepared => {}
                // A look changes nothing, so it may be repeated.
                Err(why) if again && why.kind == ErrorKind::Uncertain => {
                    again = false;
                    continue;
                }
                other => return other.map(|value| (value, link)),
            }
            // The server has forgotten its scripts: a restart, or SCRIPT FLUSH. Nothing ran.
            let name = handshake::load(&link, script.source()).await?;
            self.names.learn(script, name);
            request = self.names.request(script, keys, arguments);
        }
        Err(of_answer("NOSCRIPT"))
    }

    /// Finds out whether the user may run all that the scripts need. Asked again, as long as it was not so: somebody may
    /// have permitted it meanwhile.
    pub(super) async fn check_permitted(&self) -> Result<(), Why> {
        if self.permitted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let channel = if self.target.dialect.is_some() { String::new() } else { names::channel(&self.id) };
        let words = [names::NOTHING.as_bytes(), channel.as_bytes()];
        let (refused, _) = self.run(Errand::Awaited, Script::Permitted, &[], &words).await?;
        let refused: Vec<&str> = refused.list().unwrap_or_default().iter().filter_map(Value::text).collect();
        if !refused.is_empty() {
            let what = format!("the server does not let this user's scripts run {}", refused.join(", "));
            let advice = permissions!();
            return Err(Why::new(ErrorKind::Denied, what, advice));
        }
        self.permitted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Runs the script of an attempt or a release, in one call with others that are asked for in the same instant.
    pub(super) async fn run_verb(
        &self,
        errand: Errand,
        script: Script,
        key: &[u8],
        arguments: &[&[u8]],
    ) -> Asked {
        let link = self.lanes.pick(errand)?;
        self.lanes.wake_guard();
        let answer = link.ask_verb(Verb::new(script, key, arguments));
        self.hear_verb(errand, script, key, arguments, link.clone(), answer).await
    }

    /// Runs the scripts of several attempts, in as few calls as will do. Their answers in order.
    pub(super) async fn run_verbs(
        &self,
        errand: Errand,
        script: Script,
        verbs: &[(Vec<u8>, [Vec<u8>; 3])],
    ) -> Vec<Asked> {
        let link = match self.lanes.pick(errand) {
            Ok(link) => link,
            Err(why) => return verbs.iter().map(|_| Err(why.clone())).collect(),
        };
        self.lanes.wake_guard();
        let words: Vec<[&[u8]; 3]> =
            verbs.iter().map(|(_, words)| words.each_ref().map(Vec::as_slice)).collect();
        let each = verbs.iter().zip(&words);
        let answers =
            link.ask_verbs(each.clone().map(|((key, _), words)| Verb::new(script, key, words)).collect());
        join_all(each.zip(answers).map(|(((key, _), words), answer)| {
            self.hear_verb(errand, script, key, words, link.clone(), answer)
        }))
        .await
    }

    /// The answer to a verb; what failed in company is asked again alone.
    async fn hear_verb(
        &self,
        errand: Errand,
        script: Script,
        key: &[u8],
        arguments: &[&[u8]],
        link: Arc<Link>,
        answer: impl Future<Output = Reply>,
    ) -> Asked {
        let text = match answer.await {
            Ok(Value::Error(text)) => text,
            Err(Fault::Batch(text)) => text.to_string(),
            Ok(value) => return Ok((value, link)),
            Err(fault) => return Err(of_fault(&fault)),
        };
        if of_answer(&text).unprepared {
            let name = handshake::load(&link, Script::Together.source()).await?;
            self.names.learn(Script::Together, name);
        }
        // An error in company says nothing of each one. Asked again alone: both verbs may be repeated.
        self.run(errand, script, &[key], arguments).await
    }

    /// Sends any other command: one that may be repeated, and is, once, if its answer is lost.
    pub(super) async fn command(&self, errand: Errand, words: &[&[u8]]) -> Result<Value, Why> {
        let request = super::resp::command(words);
        match self.ask(&*self.lanes.pick(errand)?, &request).await {
            Err(why) if why.kind == ErrorKind::Uncertain => {
                self.ask(&*self.lanes.pick(errand)?, &request).await
            }
            other => other,
        }
    }

    async fn ask(&self, link: &Link, request: &[u8]) -> Result<Value, Why> {
        self.lanes.wake_guard();
        match link.ask(request).await {
            Ok(Value::Error(text)) => {
                let why = of_answer(&text);
                if text.starts_with("READONLY") {
                    // It was demoted: connecting again finds the new master, where a name or a proxy leads there.
                    link.fail(&Fault::Lost(why.what.as_str().into()));
                }
                Err(why)
            }
            Ok(value) => Ok(value),
            Err(fault) => Err(of_fault(&fault)),
        }
    }

    /// Gives the server the scripts, the first time, and learns its clock. A server that has not got them later (it was
    /// restarted, or it is another one) says so when one is to run.
    async fn prepare(&self, link: &Link) -> Result<(), Why> {
        for script in self.scripts.iter().filter(|s| !self.names.knows(**s)) {
            self.names.learn(*script, handshake::load(link, script.source()).await?);
        }
        let now = handshake::time(link).await?;
        self.learn_time(now);
        Ok(())
    }

    /// The server's clock showed `now_us` before this moment.
    pub(super) fn learn_time(&self, now_us: u64) {
        self.clock.learn(now_us, self.lanes.runtime().now());
    }

    /// A moment of ours on the server's clock, in µs.
    pub(super) fn server_us(&self, at: Moment) -> u64 {
        self.clock.at_us(at)
    }

    /// A push arrived.
    pub(super) fn pushed(self: &Arc<Client>, values: &[Value]) {
        match values.first().and_then(Value::text) {
            Some("message") => {
                let text = values.get(2).and_then(Value::text).unwrap_or_default();
                if values.get(1).and_then(Value::text) == Some(names::channel(&self.id).as_str())
                    && let Some(news) = super::answer::news(text)
                {
                    match (&news, super::answer::lock_of_grant(text)) {
                        (News::Granted(id, ..), Some(head)) if !self.lanes.sink().knows(*id) => {
                            self.give_back(*id, head.to_owned());
                        }
                        _ => self.lanes.sink().news(news),
                    }
                }
            }
            Some("invalidate") => super::changes::told(self, values.get(1)),
            _ => {}
        }
    }

    /// A grant for a claim that was ended long ago: the server came back with an older copy of its data.
    fn give_back(self: &Arc<Client>, id: ClaimId, head: String) {
        let client = self.clone();
        self.thread.place().spawn(async move {
            let id = super::answer::hex(id);
            let words = [id.as_bytes(), b""];
            if let Err(why) =
                client.run(Errand::Background, Script::Release, &[head.as_bytes()], &words).await
            {
                tracing::debug!(why.what, "a grant that nobody waits for ends with its lease");
            }
        });
    }
}
