//! One connection of a client, over the simulated network.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tenure::backend::BoxFuture;
use tenure::backend::net::{Fault, Lane, Link, Load, Why};
use tenure::core::moment::Moment;
use tenure::runtime::Runtime;
use tokio::sync::{Notify, oneshot};

use super::machine::{Connection, Machine};
use super::message::{Hello, Said, Verb};
use super::net::send_over;
use super::world::locked;

type Reply = oneshot::Sender<Result<Said, Fault>>;

/// A request that has left.
struct Asked {
    since: Moment,
    reply: Reply,
    answer: BoxFuture<'static, Option<Said>>,
}

#[derive(Default)]
struct State {
    /// What has not left.
    out: VecDeque<(Moment, Verb, Reply)>,
    /// What has no answer.
    asked: Vec<Asked>,
    /// When something arrived last.
    heard: Moment,
    dead: Option<Fault>,
}

/// One connection.
pub(super) struct Wire {
    number: u64,
    machine: Arc<Machine>,
    lane: Lane,
    state: Mutex<State>,
    ended: Notify,
    wake: Notify,
    beats: AtomicU64,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} connection {} of {:?}", self.lane, self.number, self.machine)
    }
}

impl Wire {
    /// A connection that the server has accepted.
    pub(super) fn new(machine: &Arc<Machine>, lane: Lane) -> Arc<Wire> {
        let number = machine.world().serial();
        let state = State { heard: machine.now(), ..State::default() };
        let wire = Arc::new(Wire {
            number,
            machine: machine.clone(),
            lane,
            state: Mutex::new(state),
            ended: Notify::new(),
            wake: Notify::new(),
            beats: AtomicU64::new(0),
        });
        machine.connect(number, wire.clone());
        wire
    }

    fn put(&self, since: Moment, verb: Verb, reply: Reply) {
        let mut state = locked(&self.state);
        match state.dead.clone() {
            Some(fault) => {
                drop(state);
                drop(reply.send(Err(fault.unsent())));
            }
            None => state.out.push_back((since, verb, reply)),
        }
        self.wake.notify_one();
    }

    fn send(&self, verb: Verb) -> oneshot::Receiver<Result<Said, Fault>> {
        let (reply, answer) = oneshot::channel();
        self.put(self.machine.now(), verb, reply);
        answer
    }

    /// Sends a request.
    pub(super) async fn ask(&self, verb: Verb) -> Result<Said, Why> {
        match self.send(verb).await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(Fault::Unsent(why))) => Err(Why::unsent(&why)),
            Ok(Err(fault)) => Err(Why::lost(fault.text())),
            Err(_) => Err(Why::lost("nobody answers")),
        }
    }

    /// Sends what is to be sent, and reads what arrives, until the connection has ended.
    pub(super) async fn drive(self: Arc<Wire>) {
        struct End(Arc<Wire>);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.fail(&Fault::Lost("the driver is gone".into()));
            }
        }
        let link = End(self);
        loop {
            link.0.beats.fetch_add(1, Ordering::Relaxed);
            if locked(&link.0.state).dead.is_some() {
                return;
            }
            link.0.write();
            let mut woken = pin!(link.0.wake.notified());
            poll_fn(|cx| if link.0.read(cx) { Poll::Ready(()) } else { woken.as_mut().poll(cx) }).await;
        }
    }

    fn write(&self) {
        loop {
            let Some((since, verb, reply)) = locked(&self.state).out.pop_front() else { return };
            let answer = send_over(&self.machine, self.number, verb);
            locked(&self.state).asked.push(Asked { since, reply, answer });
        }
    }

    /// Whether anything arrived.
    fn read(&self, cx: &mut Context<'_>) -> bool {
        let (mut answers, mut broken) = (Vec::new(), false);
        {
            let mut state = locked(&self.state);
            for mut asked in std::mem::take(&mut state.asked) {
                match asked.answer.as_mut().poll(cx) {
                    Poll::Pending => state.asked.push(asked),
                    Poll::Ready(Some(said)) => answers.push((asked.reply, said)),
                    // Whoever asked hears why the connection ended.
                    Poll::Ready(None) => {
                        broken = true;
                        state.asked.push(Asked { answer: Box::pin(std::future::pending()), ..asked });
                    }
                }
            }
            if !answers.is_empty() {
                state.heard = self.machine.now();
            }
        }
        let came = broken || !answers.is_empty();
        answers.into_iter().for_each(|(reply, said)| drop(reply.send(Ok(said))));
        if broken {
            self.fail(&Fault::Lost("the connection broke".into()));
        }
        came
    }
}

impl Connection for Wire {
    fn cut(&self) {
        self.fail(&Fault::Lost("the connection was cut".into()));
    }

    fn hears(&self) {
        locked(&self.state).heard = self.machine.now();
    }
}

impl Link for Wire {
    fn fail(&self, fault: &Fault) {
        let (out, asked) = {
            let mut state = locked(&self.state);
            if state.dead.is_some() {
                return;
            }
            state.dead = Some(fault.clone());
            (std::mem::take(&mut state.out), std::mem::take(&mut state.asked))
        };
        self.machine.hang_up(self.number);
        self.machine.world().trace(|| format!("{self:?} ends: {}", fault.text()));
        self.ended.notify_one();
        self.wake.notify_one();
        out.into_iter().for_each(|(_, _, reply)| drop(reply.send(Err(fault.unsent()))));
        let denies = self.machine.world().mutant.as_ref().is_some_and(|mutant| mutant.denies_sending());
        let lost = if denies { fault.unsent() } else { fault.clone() };
        asked.into_iter().for_each(|asked| drop(asked.reply.send(Err(lost.clone()))));
    }

    async fn ended(&self) -> Fault {
        loop {
            if let Some(fault) = locked(&self.state).dead.clone() {
                return fault;
            }
            self.ended.notified().await;
        }
    }

    fn load(&self) -> Load {
        let (state, now) = (locked(&self.state), self.machine.now());
        let oldest = state.asked.first().map(|asked| asked.since).or(state.out.front().map(|o| o.0));
        let patient = self.machine.world().mutant.as_ref().is_some_and(|mutant| mutant.waits_for_ever());
        Load {
            oldest: oldest.filter(|_| !patient).map(|since| now.since(since)),
            silent: now.since(state.heard),
            beats: self.beats.load(Ordering::Relaxed),
        }
    }

    fn nudge(&self) {
        self.wake.notify_one();
    }

    fn ping(&self) {
        drop(self.send(Verb::Hello(Hello::Ping)));
    }

    fn pass_by(&self, other: Option<&Wire>, why: &str) {
        let (out, replies) = {
            let mut state = locked(&self.state);
            // Answers that still come are thrown away.
            let nobody = || oneshot::channel().0;
            let replies: Vec<Reply> =
                state.asked.iter_mut().map(|asked| std::mem::replace(&mut asked.reply, nobody())).collect();
            (std::mem::take(&mut state.out), replies)
        };
        self.machine.world().trace(|| format!("{self:?} is passed by"));
        replies.into_iter().for_each(|reply| drop(reply.send(Err(Fault::Lost(why.into())))));
        for (since, verb, reply) in out {
            match other {
                Some(other) => other.put(since, verb, reply),
                None => drop(reply.send(Err(Fault::Unsent(why.into())))),
            }
        }
    }
}
