//! One connection: requests out, in order; answers in, in the same order; pushes in between.
//!
//! Whoever sends writes to the socket at once when nothing else is under way, on its own thread: no hop, and a guard that
//! is dropped by the last statement of `main` has its release on the wire. With requests under way, or when several answers
//! came at once and several tasks are about to ask, what is sent is collected, and the driver writes it all at once:
//! attempts and releases as one call (`together`). What is enough for a call of its own is written without waiting for the
//! rest, so that the server works while this side does. The driver is one task; when it is dropped with its runtime, the link is dead
//! and everybody who waits learns it.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::resp;
use super::scripts::Names;
use super::stream::Stream;
use super::together::{self, Queued, Reply, To, Verb};
use crate::backend::net::{Fault, Link as _};
use crate::core::moment::Moment;
use crate::runtime::Runtime;

mod driver;
mod ends;

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: Stream,
    runtime: Arc<dyn Runtime>,
    names: Arc<Names>,
    state: Mutex<State>,
    /// Tells the driver that there is something to write.
    write: Notify,
    /// Tells whoever supervises that the link is dead.
    ended: Notify,
    /// Counts how often the driver ran: one that does not run although it was woken belongs to a blocked runtime.
    beats: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Requests that have not left yet.
    out: Vec<u8>,
    /// How many bytes of `out` have left.
    gone: usize,
    /// What has not even been put into bytes, to go out together.
    verbs: Vec<Queued>,
    /// How many bytes have ever been queued before `out`.
    base: u64,
    /// The driver is to write, or writes.
    writing: bool,
    waiting: VecDeque<Waiting>,
    /// When anything last arrived.
    heard: Moment,
    dead: Option<Fault>,
}

/// A request without an answer yet.
#[derive(Debug)]
pub(super) struct Waiting {
    to: To,
    /// Its bytes lie here, counted from the first that was ever sent.
    from: u64,
    length: usize,
    since: Moment,
    /// The answer comes as a push.
    pushed: bool,
}

impl Link {
    pub(super) fn new(stream: Stream, runtime: Arc<dyn Runtime>, names: Arc<Names>) -> Arc<Link> {
        let heard = runtime.now();
        Arc::new(Link {
            stream,
            runtime,
            names,
            state: Mutex::new(State {
                out: Vec::new(),
                gone: 0,
                verbs: Vec::new(),
                base: 0,
                writing: false,
                waiting: VecDeque::new(),
                heard,
                dead: None,
            }),
            write: Notify::new(),
            ended: Notify::new(),
            beats: AtomicU64::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request. Dropping the receiver discards the answer; the request takes effect all the same.
    pub(super) fn send(&self, request: &[u8]) -> oneshot::Receiver<Reply> {
        self.put(request, false)
    }

    fn put(&self, request: &[u8], pushed: bool) -> oneshot::Receiver<Reply> {
        let (reply, receiver) = oneshot::channel();
        let mut state = self.state();
        self.push(
            &mut state,
            request,
            Waiting { to: To::One(reply), from: 0, length: 0, since: self.runtime.now(), pushed },
        );
        self.start_writing(state);
        receiver
    }

    /// Sends two requests with nothing between them, and waits for both answers.
    pub(super) async fn ask_both(&self, first: &[u8], second: &[u8]) -> [Reply; 2] {
        let receivers = {
            let mut state = self.state();
            let receivers = [first, second].map(|request| {
                let (reply, receiver) = oneshot::channel();
                let (to, since) = (To::One(reply), self.runtime.now());
                self.push(&mut state, request, Waiting { to, from: 0, length: 0, since, pushed: false });
                receiver
            });
            self.start_writing(state);
            receivers
        };
        let [first, second] = receivers;
        let lost = || Err(Fault::Lost("the connection ended".into()));
        [first.await.unwrap_or_else(|_| lost()), second.await.unwrap_or_else(|_| lost())]
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn ask(&self, request: &[u8]) -> Reply {
        self.send(request).await.unwrap_or_else(|_| Err(Fault::Lost("the connection ended".into())))
    }

    /// Sends a verb, alone or together with others, and waits for its answer.
    pub(super) async fn ask_verb(&self, verb: Verb) -> Reply {
        match self.queue_verb(verb) {
            Ok(receiver) => answer_of(receiver).await,
            Err(fault) => Err(fault),
        }
    }

    /// Sends several verbs together; the answer to each.
    pub(super) fn ask_verbs(&self, verbs: Vec<Verb>) -> Vec<impl Future<Output = Reply> + use<>> {
        let mut state = self.state();
        let mut receivers = Vec::with_capacity(verbs.len());
        for verb in verbs {
            let (reply, receiver) = oneshot::channel();
            receivers.push(receiver);
            match &state.dead {
                Some(fault) => drop(reply.send(Err(fault.unsent()))),
                None => state.verbs.push(Queued { verb, reply, since: self.runtime.now() }),
            }
        }
        self.write_verbs(state);
        receivers.into_iter().map(answer_of).collect()
    }

    fn queue_verb(&self, verb: Verb) -> Result<oneshot::Receiver<Reply>, Fault> {
        let mut state = self.state();
        if let Some(fault) = &state.dead {
            return Err(fault.unsent());
        }
        let (reply, receiver) = oneshot::channel();
        state.verbs.push(Queued { verb, reply, since: self.runtime.now() });
        self.write_verbs(state);
        Ok(receiver)
    }

    fn write_verbs(&self, state: MutexGuard<'_, State>) {
        if state.verbs.len() >= together::ENOUGH && state.out.is_empty() {
            self.write_now(state);
        } else {
            self.start_writing(state);
        }
    }

    /// Subscribes to one channel: the answer to that is a push.
    pub(super) async fn subscribe(&self, channel: &str) -> Reply {
        self.pushed(&[b"SUBSCRIBE", channel.as_bytes()]).await
    }

    /// Ends a subscription, also one that is not there.
    pub(super) async fn unsubscribe(&self, channel: &str) -> Reply {
        self.pushed(&[b"UNSUBSCRIBE", channel.as_bytes()]).await
    }

    /// Sends a request that is answered by a push.
    async fn pushed(&self, words: &[&[u8]]) -> Reply {
        let receiver = self.put(&resp::command(words), true);
        receiver.await.unwrap_or_else(|_| Err(Fault::Lost("the connection ended".into())))
    }

    fn push(&self, state: &mut State, request: &[u8], mut waiting: Waiting) {
        if let Some(fault) = &state.dead {
            return waiting.to.answer(Err(fault.unsent()));
        }
        waiting.from = state.base + state.out.len() as u64;
        waiting.length = request.len();
        state.out.extend_from_slice(request);
        state.waiting.push_back(waiting);
    }

    fn start_writing(&self, mut state: MutexGuard<'_, State>) {
        if state.writing || (state.out.is_empty() && state.verbs.is_empty()) || state.dead.is_some() {
            return;
        }
        // Nothing else is under way: no one to share a write with.
        if state.waiting.is_empty() || state.waiting.len() + state.verbs.len() == 1 {
            return self.write_now(state);
        }
        state.writing = true;
        drop(state);
        self.write.notify_one();
    }

    /// Writes what is there, on this thread; the driver writes what there is no room for.
    fn write_now(&self, mut state: MutexGuard<'_, State>) {
        self.put_together(&mut state);
        match self.write_out(&mut state) {
            Ok(true) => {}
            Ok(false) => {
                state.writing = true;
                drop(state);
                self.write.notify_one();
            }
            Err(error) => {
                drop(state);
                self.fail(&Fault::Lost(format!("writing to the connection failed: {error}").into()));
            }
        }
    }

    /// Puts the verbs that wait into bytes, as few calls as will do.
    fn put_together(&self, state: &mut State) {
        let verbs = std::mem::take(&mut state.verbs);
        let mut rest = verbs.into_iter();
        loop {
            let some: Vec<Queued> = rest.by_ref().take(together::MOST).collect();
            let Some(first) = some.first() else { return };
            let since = first.since;
            let bytes = together::request(&some, &self.names, &mut state.out);
            let mut replies = some.into_iter().map(|q| q.reply);
            let to = match (replies.next(), replies.len()) {
                (Some(one), 0) => To::One(one),
                (first, _) => To::Each(first.into_iter().chain(replies).collect()),
            };
            let from = state.base + bytes.start as u64;
            state.waiting.push_back(Waiting { to, from, length: bytes.len(), since, pushed: false });
        }
    }

    /// Writes what there is room for; whether all of it has left.
    fn write_out(&self, state: &mut State) -> io::Result<bool> {
        loop {
            let (taken, done) = self.stream.send(&state.out[state.gone..])?;
            state.gone += taken;
            if done && state.gone == state.out.len() {
                state.base += state.out.len() as u64;
                state.out.clear();
                // A burst must not keep its memory for ever.
                state.out.shrink_to(64 << 10);
                state.gone = 0;
                return Ok(true);
            }
            if taken == 0 {
                return Ok(false);
            }
        }
    }
}

async fn answer_of(receiver: oneshot::Receiver<Reply>) -> Reply {
    receiver.await.unwrap_or_else(|_| Err(Fault::Lost("the connection ended".into())))
}
