//! The network between clients and servers, and the weather on the way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tenure::backend::{Answer, BoxFuture, Claim, News, Part, Standing};
use tenure::{Error, Result};
use tokio::sync::oneshot;

use super::clock::{MS, S};
use super::faults::Fault;
use super::machine::{Machine, Waiting};
use super::message::{Ask, Request, Said, Verb, each, shown};
use super::sessions::Sessions;
use super::world::{World, locked};

pub(super) fn broken() -> Error {
    Error::uncertain("the connection broke", "")
}

/// Sends a request; `None` comes of it if it turns out that nobody will answer.
pub(super) fn send(machine: &Arc<Machine>, server: usize, verb: Verb) -> BoxFuture<'static, Option<Said>> {
    ask(machine, Request { server, ..machine.request(verb) })
}

/// The same over one of several connections to the only server.
pub(super) fn send_over(
    machine: &Arc<Machine>,
    connection: u64,
    verb: Verb,
) -> BoxFuture<'static, Option<Said>> {
    if let Verb::Release(claim, ..) = &verb {
        locked(&machine.world().judge).releases(claim.id);
    }
    ask(machine, Request { connection: Some(connection), ..machine.request(verb) })
}

fn ask(machine: &Arc<Machine>, request: Request) -> BoxFuture<'static, Option<Said>> {
    let (world, server, connection) = (machine.world(), request.server, request.connection);
    let (reply, answer) = oneshot::channel();
    if machine.dead() {
        return Box::pin(std::future::pending());
    }
    world.trace(|| format!("client {} asks {server}: {}", machine.number, shown(&request.verb)));
    locked(&machine.waiting).insert(request.number, Waiting { server, connection, reply });
    leave(world, machine, request);
    Box::pin(async move { answer.await.ok() })
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
    if request.connection.is_some_and(|number| number == machine.silent.load(Ordering::Relaxed)) {
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
            Verb::Read(_) | Verb::Write(_) | Verb::Session(_) | Verb::Hello(_) | Verb::Vote(_) => {
                Said::Refused
            }
        };
        return answer(world, machine, request, said);
    }
    // A copy arrives before the answer to the first one can have: a claim whose attempts are all answered has none on
    // its way. What never creates may come at any time, but an operator acts once.
    if world.strikes(Fault::RequestTwice) {
        match request.verb {
            Verb::Session(_) | Verb::Hello(_) => {}
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
    let Some(Waiting { reply, .. }) = reply else { return };
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
    // Over every connection on which this machine asked for pushes; the others have one that nobody sees.
    let over: Vec<Option<u64>> = if world.store.connects() {
        world.server(0).pushes_over(home).into_iter().map(Some).collect()
    } else {
        vec![None]
    };
    let times = 1 + usize::from(world.strikes(Fault::PushTwice));
    for connection in over.into_iter().flat_map(|connection| std::iter::repeat_n(connection, times)) {
        let mut news = news.clone();
        world.after(way(world, Fault::PushLate), move |world| {
            let Some(machine) = world.machines().into_iter().nth(home) else { return };
            if machine.deaf_until[0].load(Ordering::Relaxed) > world.now() {
                return;
            }
            if let Some(number) = connection {
                let silent = machine.silent.load(Ordering::Relaxed) == number;
                let Some(connection) = machine.connection(number).filter(|_| !silent) else { return };
                connection.hears();
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

/// A connection breaks, to one server or to all: whoever waits is told, and everybody looks again. Where there are several
/// to one server all of them break, and the client finds out by itself.
pub(super) fn reset(world: &Arc<World>, machine: &Arc<Machine>, server: Option<usize>) {
    let mut broken = Vec::new();
    locked(&machine.waiting).retain(|_, waiting| {
        let breaks = waiting.connection.is_none() && server.is_none_or(|server| server == waiting.server);
        if breaks {
            broken.push(std::mem::replace(&mut waiting.reply, oneshot::channel().0));
        }
        !breaks
    });
    world.trace(|| format!("client {} loses its connection to {server:?}", machine.number));
    drop(broken);
    if world.store.connects() {
        return machine.connections().into_iter().for_each(|(_, connection)| connection.cut());
    }
    machine.told(News::LinkDown(Part::WHOLE));
}
