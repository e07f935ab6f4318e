//! The network between clients and servers, and the weather on the way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tenure::backend::{Answer, BoxFuture, Claim, Leave, News, Part, Released, Standing};
use tenure::core::cas::{Object, Outcome, Version};
use tenure::core::line::Now;
use tenure::core::moment::Moment;
use tenure::core::quorum::Vote;
use tenure::{Error, Key, Result, Token};
use tokio::sync::oneshot;

use super::faults::Fault;
use super::judge::Serving;
use super::machine::Machine;
use super::polling::Write;
use super::sessions::{Ask, Asked, Sessions};
use super::voters;
use super::world::{MS, S, World, locked};

/// What is asked: the verbs of the contract, and what drivers make of them. A birth is on the server's clock, as the client
/// estimates it.
#[derive(Clone, Debug)]
pub(super) enum Verb {
    Attempt(Claim, u64),
    Renew(Vec<Claim>),
    Release(Claim, Leave, u64),
    Transfer(Box<Claim>, Claim, u64),
    Evict(Key, Option<Token>),
    /// One object is read, or written.
    Read(Key),
    Write(Box<Write>),
    /// Something is asked in a session.
    Session(Box<Asked>),
    /// One of several servers is asked about its vote.
    Vote(Box<voters::Asked>),
}

impl Verb {
    /// The verb of the contract that it is part of.
    fn call(&self) -> &Verb {
        match self {
            Verb::Write(write) => &write.call,
            Verb::Vote(asked) => &asked.call,
            whole => whole,
        }
    }
}

/// A request on its way.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) machine: usize,
    /// Which server it is for.
    pub(super) server: usize,
    pub(super) verb: Verb,
    /// When it left, on the client's clock.
    pub(super) sent: Moment,
    /// The same in true time.
    pub(super) left: u64,
}

impl Request {
    /// One that leaves a machine now, for the first server.
    pub(super) fn of(machine: &Arc<Machine>, verb: Verb) -> Request {
        let (number, sent) = (machine.world().serial(), machine.clock_now());
        Request { number, machine: machine.number, server: 0, verb, sent, left: machine.world().now() }
    }

    /// As the server sees it at the true time `t`.
    pub(super) fn serving(&self, t: u64, now: Now, shown: u64) -> Serving {
        Serving { t, left: self.left, now: now.ns, shown, machine: self.machine }
    }
}

/// What the server says.
#[derive(Debug)]
pub(super) enum Said {
    Answer(Result<Answer>),
    Answers(Vec<Result<Answer>>),
    Released(Result<Released>),
    /// The object with its version, and for how long it has not changed, if the server tells that.
    Object(Option<(Version, Object)>, Option<Duration>),
    Outcome(Outcome),
    /// The server cannot, and did nothing.
    Refused,
    /// The session; that there is none (any more).
    Session(u64),
    NoSession,
    /// One server's vote; its answer to anything else about one.
    Vote(Vote),
    Yes(bool),
    /// Nothing: the connection is found broken.
    Nothing,
}

/// Changes every answer in what was said.
pub(super) fn each(said: &mut Said, mut change: impl FnMut(&mut Answer)) {
    match said {
        Said::Answer(Ok(answer)) => change(answer),
        Said::Answers(answers) => answers.iter_mut().flatten().for_each(change),
        _ => {}
    }
}

pub(super) fn broken() -> Error {
    Error::uncertain("the connection broke", "")
}

/// Sends a request; `None` comes of it if it turns out that nobody will answer.
pub(super) fn send(machine: &Arc<Machine>, server: usize, verb: Verb) -> BoxFuture<'static, Option<Said>> {
    let world = machine.world();
    let (reply, answer) = oneshot::channel();
    if machine.dead() {
        return Box::pin(std::future::pending());
    }
    let request = Request { server, ..Request::of(machine, verb) };
    world.trace(|| format!("client {} asks {server}: {}", machine.number, shown(&request.verb)));
    locked(&machine.waiting).insert(request.number, (server, reply));
    leave(world, machine, request);
    Box::pin(async move { answer.await.ok() })
}

fn shown(verb: &Verb) -> String {
    match verb {
        Verb::Attempt(claim, _) => format!("attempt {} {}", claim.key, claim.id.short()),
        Verb::Renew(claims) => {
            let ids: Vec<String> = claims.iter().map(|c| format!("{} {}", c.key, c.id.short())).collect();
            format!("renew {}", ids.join(", "))
        }
        Verb::Release(claim, leave, _) => format!("release {} {} {leave:?}", claim.key, claim.id.short()),
        Verb::Transfer(from, to, _) => {
            format!("transfer {} {} to {}", to.key, from.id.short(), to.id.short())
        }
        Verb::Evict(key, token) => format!("evict {key} {token:?}"),
        Verb::Session(asked) => format!("{} in {}: {}", asked.number, asked.session, asked.what),
        Verb::Read(key) => format!("read {key}"),
        Verb::Write(write) => format!("write {} for: {}", write.key, shown(&write.call)),
        Verb::Vote(asked) => format!("{:?} {} {}", asked.what, asked.key, asked.claim.short()),
    }
}

/// How long a message takes. One that is late is overtaken.
fn way(world: &World, late: Fault) -> u64 {
    let usual = world.latency / 4 + world.below(world.latency);
    if world.strikes(late) { usual + world.below(3 * S) } else { usual }
}

/// Whether nobody is told of what was lost; else the connection is found broken after a moment.
fn lose(world: &Arc<World>, machine: &Arc<Machine>, number: u64) {
    if world.strikes(Fault::Silence) {
        return;
    }
    let machine = machine.clone();
    world.after(world.latency * 2, move |_| {
        let reply = locked(&machine.waiting).remove(&number);
        drop(reply);
    });
}

/// A request leaves its client.
fn leave(world: &Arc<World>, machine: &Arc<Machine>, request: Request) {
    if machine.mute_until[request.server].load(Ordering::Relaxed) > world.now() {
        return;
    }
    let call = request.verb.call();
    let lost = matches!(call, Verb::Renew(_)) && world.renewal_lost();
    if lost || world.strikes(Fault::RequestLost) {
        return lose(world, machine, request.number);
    }
    let once = once(call);
    let delay = match !once && world.strikes(Fault::AgesLate) {
        true => S + world.below(119 * S),
        false => way(world, Fault::RequestLate),
    };
    let delay = match request.verb {
        // What is sent on a connection arrives in order, and what is late is too late.
        Verb::Session(_) if delay <= 2 * world.latency => {
            let at = (world.now() + delay).max(machine.in_order.load(Ordering::Relaxed) + 1);
            machine.in_order.store(at, Ordering::Relaxed);
            at - world.now()
        }
        _ => delay,
    };
    let late = machine.clone();
    world.after(delay, move |world| arrive(world, &late, &request));
}

/// A request reaches the server.
fn arrive(world: &Arc<World>, machine: &Arc<Machine>, request: &Request) {
    let (down, still, cut) = {
        let server = world.server(request.server);
        (server.down_until, server.still_until, server.cut_until)
    };
    let pings = matches!(&request.verb, Verb::Session(asked) if matches!(asked.what, Ask::Ping));
    if matches!(request.verb, Verb::Session(_)) && !pings && cut >= world.now() {
        return lose(world, machine, request.number);
    }
    if down > world.now() {
        return lose(world, machine, request.number);
    }
    if still > world.now() {
        let (machine, request) = (machine.clone(), request.clone());
        let behind = if matches!(request.verb, Verb::Session(_)) { 0 } else { world.below(MS) };
        return world.after(still - world.now() + behind, move |world| {
            arrive(world, &machine, &request);
        });
    }
    if world.strikes(Fault::Refused) {
        let error = || Error::unavailable("the server is out of memory", "");
        let said = match &request.verb {
            Verb::Attempt(..) | Verb::Transfer(..) => Said::Answer(Err(error())),
            Verb::Renew(claims) => Said::Answers(claims.iter().map(|_| Err(error())).collect()),
            Verb::Release(..) | Verb::Evict(..) => Said::Released(Err(error())),
            Verb::Read(_) | Verb::Write(_) | Verb::Session(_) | Verb::Vote(_) => Said::Refused,
        };
        return answer(world, machine, request, said);
    }
    // A copy arrives before the answer to the first one can have: a claim whose attempts are all answered has none on
    // its way. What never creates may come at any time, but an operator acts once.
    if world.strikes(Fault::RequestTwice) {
        match request.verb {
            Verb::Session(_) => {}
            Verb::Attempt(..) | Verb::Evict(..) => drop(serve(world, request)),
            _ => {
                let (machine, request) = (machine.clone(), request.clone());
                world.after(world.below(5 * S), move |world| {
                    if world.server(request.server).down_until <= world.now() {
                        let said = serve(world, &request);
                        // One server's second no would pass for its first: a connection answers once.
                        if !matches!(request.verb, Verb::Vote(_)) {
                            answer(world, &machine, &request, said);
                        }
                    }
                });
            }
        }
    }
    let said = serve(world, request);
    if let (Verb::Session(asked), Said::Session(session)) = (&request.verb, &said) {
        let (session, tick) = (*session, Sessions::tick(world.session));
        match asked.what {
            Ask::Ping => world.after(world.below(tick / 2), move |world| counted(world, session)),
            _ => look_for_ends(world),
        }
    }
    match said {
        Said::Nothing => lose(world, machine, request.number),
        said => answer(world, machine, request, said),
    }
}

/// Whether a request must not come twice, or ages late: an operator acts once.
fn once(call: &Verb) -> bool {
    match call {
        Verb::Evict(..) => true,
        Verb::Session(asked) => matches!(asked.what, Ask::Evict(..)),
        _ => false,
    }
}

/// The server that ends sessions hears of a ping, unless it is cut off from the one that answered it.
fn counted(world: &Arc<World>, session: u64) {
    world.server(0).uncounted.push(session);
    count(world);
}

/// It hears of the pings that it has not heard of: at once when it is connected again.
pub(super) fn count(world: &Arc<World>) {
    let cut = world.server(0).cut_until;
    if cut > world.now() {
        return world.after(cut - world.now(), count);
    }
    {
        let mut server = world.server(0);
        let now = server.now(world.now()).ns;
        let sessions = std::mem::take(&mut server.uncounted);
        sessions.into_iter().for_each(|session| server.sessions.touch(session, now));
    }
    look_for_ends(world);
}

/// A session that is not heard of ends by the server's own timer.
fn look_for_ends(world: &Arc<World>) {
    world.after(world.session + world.session / 64, |world| {
        let mut news = Vec::new();
        {
            let (mut server, mut judge) = (world.server(0), locked(&world.judge));
            if server.down_until.max(server.still_until) <= world.now() {
                server.end_sessions(&mut judge, world.now(), &mut news);
            }
        }
        for (home, piece) in news {
            push(world, home, piece);
        }
    });
}

fn serve(world: &Arc<World>, request: &Request) -> Said {
    let (said, news) = {
        let (mut server, mut judge) = (world.server(request.server), locked(&world.judge));
        let bent =
            world.mutant.as_ref().and_then(|m| m.serves(&mut server, &mut judge, world.now(), request));
        bent.unwrap_or_else(|| server.serve(&mut judge, world.now(), request))
    };
    world.trace(|| format!("  server {}: {} -> {said:?}", request.server, shown(&request.verb)));
    for (home, piece) in news {
        push(world, home, piece);
    }
    said
}

/// An answer leaves the server.
fn answer(world: &Arc<World>, machine: &Arc<Machine>, request: &Request, said: Said) {
    if world.strikes(Fault::AnswerLost) {
        return lose(world, machine, request.number);
    }
    let (machine, request) = (machine.clone(), request.clone());
    world.after(way(world, Fault::AnswerLate), move |world| hear(world, &machine, &request, said));
}

/// An answer reaches the client.
fn hear(world: &Arc<World>, machine: &Arc<Machine>, request: &Request, mut said: Said) {
    if machine.deaf_until[request.server].load(Ordering::Relaxed) > world.now() || machine.dead() {
        return;
    }
    let reply = locked(&machine.waiting).remove(&request.number);
    let Some((_, reply)) = reply else { return };
    let now = machine.clock_now();
    let mut judge = locked(&world.judge);
    let mut hears = |claim: &Claim, answer: &Result<Answer>| {
        let Ok(Answer { standing, at }) = answer else { return };
        if let Some(at) = at {
            machine.offset.store(at.wrapping_sub(now.nanos()), Ordering::Relaxed);
        }
        if let Standing::Held(grant) = standing {
            judge.told(claim.id, request.sent, grant);
        }
    };
    match (&request.verb, &said) {
        (Verb::Attempt(claim, _) | Verb::Transfer(_, claim, _), Said::Answer(answer)) => hears(claim, answer),
        (Verb::Renew(claims), Said::Answers(answers)) => {
            claims.iter().zip(answers).for_each(|(claim, answer)| hears(claim, answer));
        }
        _ => {}
    }
    drop(judge);
    if let Some(mutant) = &world.mutant {
        mutant.hears(request, now, &mut said);
    }
    if world.timeless {
        each(&mut said, |answer| answer.at = None);
    }
    world.trace(|| format!("client {} hears of {}", machine.number, shown(&request.verb)));
    let _ = reply.send(said);
}

/// A piece of news leaves the server.
fn push(world: &Arc<World>, home: usize, news: News) {
    if world.pushes_lost() || world.strikes(Fault::PushLost) {
        return;
    }
    for _ in 0..=u32::from(world.strikes(Fault::PushTwice)) {
        let mut news = news.clone();
        world.after(way(world, Fault::PushLate), move |world| {
            let Some(machine) = world.machines().into_iter().nth(home) else { return };
            if machine.deaf_until[0].load(Ordering::Relaxed) > world.now() {
                return;
            }
            if let Some(mutant) = &world.mutant {
                mutant.pushes(&mut news);
            }
            if let (News::Granted(id, ..), true) = (&news, world.timeless) {
                news = News::Look(*id); // whoever tells no time pushes no grants
            }
            world.trace(|| format!("client {home} is told {news:?}"));
            machine.told(news);
        });
    }
}

/// A connection breaks, to one server or to all: whoever waits is told, and everybody looks again.
pub(super) fn reset(world: &Arc<World>, machine: &Arc<Machine>, server: Option<usize>) {
    let mut broken = Vec::new();
    locked(&machine.waiting).retain(|_, (of, reply)| {
        let breaks = server.is_none_or(|server| server == *of);
        if breaks {
            broken.push(std::mem::replace(reply, oneshot::channel().0));
        }
        !breaks
    });
    world.trace(|| format!("client {} loses its connection to {server:?}", machine.number));
    drop(broken);
    machine.told(News::LinkDown(Part::WHOLE));
}
