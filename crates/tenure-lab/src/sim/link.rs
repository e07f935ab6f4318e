//! The link between a client's engine and the server, and the weather on the way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tenure::backend::{
    Answer, Backend, BoxFuture, Call, Claim, Leave, News, Page, Part, Query, Released, Standing,
};
use tenure::core::line::Now;
use tenure::core::moment::Moment;
use tenure::{Capabilities, Domain, Error, Key, Result, Token};
use tokio::sync::oneshot;

use super::faults::Fault;
use super::judge::Serving;
use super::machine::Machine;
use super::world::{MS, S, World, locked};

/// What is asked, as it travels. A birth is on the server's clock, as the client estimates it.
#[derive(Clone, Debug)]
pub(super) enum Verb {
    Attempt(Claim, u64),
    Renew(Vec<Claim>),
    Release(Claim, Leave, u64),
    Transfer(Box<Claim>, Claim, u64),
    Evict(Key, Option<Token>),
}

/// A request on its way.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) machine: usize,
    pub(super) verb: Verb,
    /// When it left, on the client's clock.
    pub(super) sent: Moment,
}

impl Request {
    /// As the server sees it at the true time `t`.
    pub(super) fn serving(&self, t: u64, now: Now, shown: u64) -> Serving {
        Serving { t, now: now.ns, shown, machine: self.machine }
    }
}

/// What the server says.
#[derive(Debug)]
pub(super) enum Said {
    Answer(Result<Answer>),
    Answers(Vec<Result<Answer>>),
    Released(Result<Released>),
}

/// Changes every answer in what was said.
pub(super) fn each(said: &mut Said, mut change: impl FnMut(&mut Answer)) {
    match said {
        Said::Answer(Ok(answer)) => change(answer),
        Said::Answers(answers) => answers.iter_mut().flatten().for_each(change),
        _ => {}
    }
}

/// The server as one engine sees it.
#[derive(Debug)]
pub(super) struct Link(pub(super) Arc<Machine>);

fn broken() -> Error {
    Error::uncertain("the connection broke", "")
}

impl Link {
    fn send(&self, mut verb: Verb) -> BoxFuture<'static, Option<Said>> {
        let machine = &self.0;
        let world = machine.world();
        if let Some(said) = world.mutant.as_ref().and_then(|mutant| mutant.sends(&mut verb)) {
            return Box::pin(std::future::ready(Some(said)));
        }
        let (reply, answer) = oneshot::channel();
        if machine.dead() {
            return Box::pin(std::future::pending());
        }
        let request =
            Request { number: world.serial(), machine: machine.number, verb, sent: machine.clock_now() };
        world.trace(|| format!("client {} asks {}", machine.number, shown(&request.verb)));
        if let Verb::Release(claim, ..) = &request.verb {
            locked(&world.judge).releases(claim.id);
        }
        locked(&machine.waiting).insert(request.number, reply);
        leave(world, machine, request);
        Box::pin(async move { answer.await.ok() })
    }

    fn birth(&self, claim: &Claim) -> u64 {
        claim.birth.nanos().wrapping_add(self.0.offset.load(Ordering::Relaxed))
    }
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
    if machine.mute_until.load(Ordering::Relaxed) > world.now() {
        return;
    }
    let lost = matches!(request.verb, Verb::Renew(_)) && world.renewal_lost();
    if lost || world.strikes(Fault::RequestLost) {
        return lose(world, machine, request.number);
    }
    let delay = match !matches!(request.verb, Verb::Evict(..)) && world.strikes(Fault::AgesLate) {
        true => S + world.below(119 * S),
        false => way(world, Fault::RequestLate),
    };
    let late = machine.clone();
    world.after(delay, move |world| arrive(world, &late, &request));
}

/// A request reaches the server.
fn arrive(world: &Arc<World>, machine: &Arc<Machine>, request: &Request) {
    let (down, still) = {
        let server = locked(&world.server);
        (server.down_until, server.still_until)
    };
    if down > world.now() {
        return lose(world, machine, request.number);
    }
    if still > world.now() {
        let (machine, request) = (machine.clone(), request.clone());
        return world.after(still - world.now() + world.below(MS), move |world| {
            arrive(world, &machine, &request);
        });
    }
    if world.strikes(Fault::Refused) {
        let error = || Error::unavailable("the server is out of memory", "");
        let said = match &request.verb {
            Verb::Attempt(..) | Verb::Transfer(..) => Said::Answer(Err(error())),
            Verb::Renew(claims) => Said::Answers(claims.iter().map(|_| Err(error())).collect()),
            Verb::Release(..) | Verb::Evict(..) => Said::Released(Err(error())),
        };
        return answer(world, machine, request, said);
    }
    // A copy arrives before the answer to the first one can have: a claim whose attempts are all answered has none on
    // its way. What never creates may come at any time, but an operator acts once.
    if world.strikes(Fault::RequestTwice) {
        match request.verb {
            Verb::Attempt(..) | Verb::Evict(..) => drop(serve(world, request)),
            _ => {
                let (machine, request) = (machine.clone(), request.clone());
                world.after(world.below(5 * S), move |world| {
                    if locked(&world.server).down_until <= world.now() {
                        let said = serve(world, &request);
                        answer(world, &machine, &request, said);
                    }
                });
            }
        }
    }
    let said = serve(world, request);
    answer(world, machine, request, said);
}

fn serve(world: &Arc<World>, request: &Request) -> Said {
    let (said, news) = {
        let (mut server, mut judge) = (locked(&world.server), locked(&world.judge));
        let bent =
            world.mutant.as_ref().and_then(|m| m.serves(&mut server, &mut judge, world.now(), request));
        bent.unwrap_or_else(|| server.serve(&mut judge, world.now(), request))
    };
    world.trace(|| format!("  server: {} -> {said:?}", shown(&request.verb)));
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
    if machine.deaf_until.load(Ordering::Relaxed) > world.now() || machine.dead() {
        return;
    }
    let reply = locked(&machine.waiting).remove(&request.number);
    let Some(reply) = reply else { return };
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
            if machine.deaf_until.load(Ordering::Relaxed) > world.now() {
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

/// A connection breaks: whoever waits is told, and everybody looks again.
pub(super) fn reset(world: &Arc<World>, machine: &Arc<Machine>) {
    let waiting = std::mem::take(&mut *locked(&machine.waiting));
    world.trace(|| format!("client {} loses its connection", machine.number));
    drop(waiting);
    machine.told(News::LinkDown(Part::WHOLE));
}

impl Backend for Link {
    fn capabilities(&self) -> Capabilities {
        Capabilities::strongest("simulated")
    }

    fn domain(&self) -> BoxFuture<'_, Result<Domain>> {
        Box::pin(std::future::ready(Domain::new("simulated")))
    }

    fn part(&self, _: &Key) -> Part {
        Part::WHOLE
    }

    fn attempt<'a>(&'a self, claims: &'a [Claim], _: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        let sent: Vec<_> =
            claims.iter().map(|c| self.send(Verb::Attempt(c.clone(), self.birth(c)))).collect();
        Box::pin(async move {
            let mut answers = Vec::with_capacity(sent.len());
            for one in sent {
                answers.push(match one.await {
                    Some(Said::Answer(answer)) => answer,
                    _ => Err(broken()),
                });
            }
            answers
        })
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], _: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        let sent = self.send(Verb::Renew(claims.to_vec()));
        Box::pin(async move {
            match sent.await {
                Some(Said::Answers(answers)) => answers,
                _ => claims.iter().map(|_| Err(broken())).collect(),
            }
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, _: Call) -> BoxFuture<'a, Result<Released>> {
        let sent = self.send(Verb::Release(claim.clone(), leave, self.birth(claim)));
        Box::pin(async move {
            match sent.await {
                Some(Said::Released(released)) => released,
                _ => Err(broken()),
            }
        })
    }

    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim, _: Call) -> BoxFuture<'a, Result<Answer>> {
        let sent = self.send(Verb::Transfer(Box::new(from.clone()), to.clone(), self.birth(to)));
        Box::pin(async move {
            match sent.await {
                Some(Said::Answer(answer)) => answer,
                _ => Err(broken()),
            }
        })
    }

    fn evict<'a>(
        &'a self,
        key: &'a Key,
        token: Option<Token>,
        _: &'a str,
        _: Call,
    ) -> BoxFuture<'a, Result<Released>> {
        let sent = self.send(Verb::Evict(key.clone(), token));
        Box::pin(async move {
            match sent.await {
                Some(Said::Released(released)) => released,
                _ => Err(broken()),
            }
        })
    }

    fn inspect<'a>(&'a self, _: &'a Query, _: Call) -> BoxFuture<'a, Result<Page>> {
        Box::pin(std::future::ready(Err(Error::unsupported("nobody looks in a simulation", ""))))
    }

    fn watch(&self, _: &tenure::backend::Watched) {}

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
