//! A client of one server: two connections, and which of them a request takes.
//!
//! - `command`: attempts, releases, looks; and the pushes of this client. Lives in the caller's runtime, where there is one.
//! - `keeper`: renewals and withdrawals of what was dropped. Lives on a thread of our own.
//!
//! A request that changes anything is never sent twice behind the engine's back: an attempt that may have left and has no
//! answer is an error to the engine, which counts it and leaves a mark at the end. Only what has provably not left changes
//! connections.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::fault::{Fault, Why, of_answer, of_fault};
use super::handshake;
use super::link::{Link, Reply};
use super::names;
use super::place::Thread;
use super::resp::Value;
use super::scripts::{Names, Script};
use super::target::Target;
use super::together::Verb;
use crate::backend::{ClaimId, Errand, News, Sink, Watched};
use crate::core::moment::Moment;
use crate::error::ErrorKind;
use crate::runtime::{Runtime, join_all};

/// A place for a connection that is made anew whenever it breaks.
#[derive(Debug)]
pub(super) struct Slot {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    link: Option<Arc<Link>>,
    /// Why there is no link.
    why: Why,
    /// Its runtime is blocked: answers would not be read.
    stalled: bool,
}

impl Slot {
    fn new() -> Slot {
        let why = Why::new(ErrorKind::Unavailable, "not connected yet", "");
        Slot { state: Mutex::new(State { link: None, why, stalled: false }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn up(&self, link: &Arc<Link>) {
        let mut state = self.state();
        (state.link, state.stalled) = (Some(link.clone()), false);
    }

    pub(super) fn down(&self, why: Why) {
        let old = {
            let mut state = self.state();
            state.why = why;
            state.link.take()
        };
        drop(old);
    }

    /// The link, dead or alive.
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.state().link.clone()
    }

    pub(super) fn set_stalled(&self, stalled: bool) {
        self.state().stalled = stalled;
    }

    fn live(&self) -> Option<Arc<Link>> {
        let state = self.state();
        state.link.clone().filter(|_| !state.stalled)
    }

    fn why(&self) -> Why {
        self.state().why.clone()
    }
}

/// A client of one server.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) target: Target,
    /// Random; names the channel on which this client is told.
    pub(super) id: String,
    pub(super) thread: Thread,
    /// The caller's runtime, if it connected in one.
    pub(super) home: Option<Handle>,
    pub(super) command: Slot,
    pub(super) keeper: Slot,
    pub(super) scripts: &'static [Script],
    pub(super) names: Arc<Names>,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) sink: SinkBox,
    /// The server's clock minus this machine's boot clock, in µs: at most as much, so that a claim never looks younger.
    offset: AtomicI64,
    /// The user may run all that the scripts need.
    permitted: AtomicBool,
    pub(super) closed: AtomicBool,
    pub(super) closing: Notify,
    /// The caller's runtime is gone, and pushes come to the keeper's connection.
    pub(super) homeless: AtomicBool,
    watched: Mutex<Watched>,
    /// Held by whoever asks the server to tell of what is watched.
    pub(super) tracking: tokio::sync::Mutex<()>,
    /// How often it was asked.
    pub(super) asked: AtomicU64,
    /// A change was told, and the news of it is on its way.
    pub(super) changed: AtomicBool,
    /// Whether the watchdog is awake.
    pub(super) guarded: AtomicBool,
    pub(super) guard: Notify,
}

/// A sink that can be printed.
pub(super) struct SinkBox(pub(super) Arc<dyn Sink>);

impl std::fmt::Debug for SinkBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sink")
    }
}

impl Client {
    pub(super) fn new(
        target: Target,
        scripts: &'static [Script],
        home: Option<Handle>,
        thread: Thread,
        runtime: Arc<dyn Runtime>,
        sink: Arc<dyn Sink>,
    ) -> Client {
        let mut id = [0u8; 8];
        runtime.fill(&mut id);
        Client {
            target,
            id: format!("{:016x}", u64::from_le_bytes(id)),
            thread,
            home,
            command: Slot::new(),
            keeper: Slot::new(),
            scripts,
            names: Arc::default(),
            runtime,
            sink: SinkBox(sink),
            offset: AtomicI64::new(0),
            permitted: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
            homeless: AtomicBool::new(false),
            watched: Mutex::default(),
            tracking: tokio::sync::Mutex::default(),
            asked: AtomicU64::new(0),
            changed: AtomicBool::new(false),
            guarded: AtomicBool::new(false),
            guard: Notify::new(),
        }
    }

    /// What is watched.
    pub(super) fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends both connections and their supervisors.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.closing.notify_waiters();
        for slot in [&self.command, &self.keeper] {
            if let Some(link) = slot.link() {
                link.fail(&Fault::Lost("the client was closed".into()));
            }
            slot.down(Why::new(ErrorKind::Unavailable, "the client was closed", "connect again"));
        }
        self.guard.notify_one();
    }

    /// Whether the caller's own runtime is the one that the command connection lives in.
    fn at_home(&self) -> bool {
        match (&self.home, Handle::try_current()) {
            (None, _) => true,
            (Some(home), Ok(here)) => home.id() == here.id(),
            (Some(_), Err(_)) => false,
        }
    }

    fn pick(&self, errand: Errand) -> Result<Arc<Link>, Why> {
        let (first, second) = match errand {
            Errand::Awaited if self.at_home() => (&self.command, &self.keeper),
            _ => (&self.keeper, &self.command),
        };
        first.live().or_else(|| second.live()).ok_or_else(|| first.why())
    }

    /// Runs a script; `keys` and `arguments` are its own.
    pub(super) async fn run(
        &self,
        errand: Errand,
        script: Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
    ) -> Result<(Value, Arc<Link>), Why> {
        let mut request = self.names.request(script, keys, arguments);
        let mut again = script.only_reads();
        for _ in 0..3 {
            let link = self.pick(errand)?;
            match self.ask(&link, &request).await {
                Err(why) if why.unknown_script => {}
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
            let what = format!("the server's user may not run in scripts: {}", refused.join(", "));
            let advice = "docs/wire/redis.md lists the permissions that suffice";
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
    ) -> Result<(Value, Arc<Link>), Why> {
        let link = self.pick(errand)?;
        self.wake_guard();
        let answer = link.ask_verb(Verb::new(script, key, arguments));
        self.hear_verb(errand, script, key, arguments, link.clone(), answer).await
    }

    /// Runs the scripts of several attempts, in as few calls as will do. Their answers in order.
    pub(super) async fn run_verbs(
        &self,
        errand: Errand,
        script: Script,
        verbs: &[(Vec<u8>, [Vec<u8>; 3])],
    ) -> Vec<Result<(Value, Arc<Link>), Why>> {
        let link = match self.pick(errand) {
            Ok(link) => link,
            Err(why) => return verbs.iter().map(|_| Err(why.clone())).collect(),
        };
        self.wake_guard();
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
    ) -> Result<(Value, Arc<Link>), Why> {
        let text = match answer.await {
            Ok(Value::Error(text)) => text,
            Err(Fault::Together(text)) => text.to_string(),
            Ok(value) => return Ok((value, link)),
            Err(fault) => return Err(of_fault(&fault)),
        };
        if of_answer(&text).unknown_script {
            let name = handshake::load(&link, Script::Together.source()).await?;
            self.names.learn(Script::Together, name);
        }
        // An error in company says nothing of each one. Asked again alone: both verbs may be repeated.
        self.run(errand, script, &[key], arguments).await
    }

    /// Sends any other command: one that may be repeated, and is, once, if its answer is lost.
    pub(super) async fn command(&self, errand: Errand, words: &[&[u8]]) -> Result<Value, Why> {
        let request = super::resp::command(words);
        match self.ask(&*self.pick(errand)?, &request).await {
            Err(why) if why.kind == ErrorKind::Uncertain => self.ask(&*self.pick(errand)?, &request).await,
            other => other,
        }
    }

    async fn ask(&self, link: &Link, request: &[u8]) -> Result<Value, Why> {
        self.wake_guard();
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

    /// Requests under way are watched.
    fn wake_guard(&self) {
        if !self.guarded.load(Ordering::Relaxed) && !self.guarded.swap(true, Ordering::SeqCst) {
            self.guard.notify_one();
        }
    }

    /// Gives the server the scripts, the first time, and learns its clock. A server that has not got them later (it was
    /// restarted, or it is another one) says so when one is to run.
    pub(super) async fn prepare(&self, link: &Link) -> Result<(), Why> {
        for script in self.scripts.iter().filter(|s| !self.names.knows(**s)) {
            self.names.learn(*script, handshake::load(link, script.source()).await?);
        }
        let now = handshake::time(link).await?;
        self.learn_time(now);
        Ok(())
    }

    /// The server's clock showed `now_us` before this moment.
    pub(super) fn learn_time(&self, now_us: u64) {
        let here = self.runtime.now().nanos() / 1000;
        self.offset.store(now_us.cast_signed().wrapping_sub(here.cast_signed()), Ordering::Relaxed);
    }

    /// A moment of ours on the server's clock, in µs.
    pub(super) fn server_us(&self, at: Moment) -> u64 {
        let us = (at.nanos() / 1000).cast_signed().saturating_add(self.offset.load(Ordering::Relaxed));
        u64::try_from(us).unwrap_or(0)
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
                        (News::Granted(id, ..), Some(head)) if !self.sink.0.knows(*id) => {
                            self.give_back(*id, head.to_owned());
                        }
                        _ => self.sink.0.news(news),
                    }
                }
            }
            Some("invalidate") => super::changes::tell(self),
            _ => {}
        }
    }

    /// A grant for a claim that was ended long ago: the server came back with an older copy of its data.
    fn give_back(self: &Arc<Client>, id: ClaimId, head: String) {
        let client = self.clone();
        self.thread.handle.spawn(async move {
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
