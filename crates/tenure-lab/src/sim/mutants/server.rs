//! What the store does wrong.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tenure::Error;
use tenure::backend::{Claim, ClaimId, Kind, Leave, Released};
use tenure::core::line::{Place, Trace};

use super::super::judge::Judge;
use super::super::message::{Request, Said, Verb};
use super::super::server::{Served, Server};
use super::super::world::locked;
use super::Mutant;

/// A renewal takes the lock where it is gone.
pub(super) struct Creates;

impl Mutant for Creates {
    fn serves(&self, server: &mut Server, judge: &mut Judge, t: u64, request: &Request) -> Option<Served> {
        let Verb::Renew(claims) = &request.verb else { return None };
        let (now, mut news, mut answers) = (server.now(t), Vec::new(), Vec::new());
        for claim in claims {
            let answer = server.attempt(claim, now.ns, now);
            server.news(judge, request.serving(t, now, server.shown), Some(claim.id), now, &mut news);
            judge.renewed(request.serving(t, now, server.shown), claim, &answer);
            answers.push(answer);
        }
        Some((Said::Answers(answers), news))
    }
}

/// The lock is deleted, whoever has it.
pub(super) struct Blind;

impl Mutant for Blind {
    fn serves(&self, server: &mut Server, _: &mut Judge, t: u64, request: &Request) -> Option<Served> {
        let Verb::Release(claim, ..) = &request.verb else { return None };
        let (key, now) = (claim.key.full().as_bytes(), server.now(t));
        let row = server.lines.view(key, 0, now)?;
        for holder in row.holders.iter().filter(|h| h.id != claim.id.0) {
            let _ = server.lines.release(holder.id, key, now.ns, Trace::Nothing, now);
        }
        None
    }
}

/// Each grant has one token, though more were asked for.
pub(super) struct OneToken;

impl Mutant for OneToken {
    fn serves(&self, server: &mut Server, _: &mut Judge, _: u64, _: &Request) -> Option<Served> {
        server.tokens = 1;
        None
    }
}

/// The next token is the last one and one more, in memory.
pub(super) struct Counting;

impl Mutant for Counting {
    fn serves(&self, server: &mut Server, _: &mut Judge, _: u64, _: &Request) -> Option<Served> {
        server.counting = true;
        None
    }
}

/// A request that is older than marks live is let in.
pub(super) struct Unborn;

impl Mutant for Unborn {
    fn serves(&self, server: &mut Server, judge: &mut Judge, t: u64, request: &Request) -> Option<Served> {
        let now = server.now(t);
        let Verb::Attempt(claim, birth) = &request.verb else { return None };
        (*birth < now.ns).then(|| {
            let verb = Verb::Attempt(claim.clone(), now.ns);
            server.serve(judge, t, &Request { verb, ..request.clone() })
        })
    }
}

/// A lock ends when it is released.
pub(super) struct Endless;

impl Mutant for Endless {
    fn serves(&self, server: &mut Server, judge: &mut Judge, t: u64, request: &Request) -> Option<Served> {
        let now = server.now(t);
        let Verb::Attempt(claim, birth) = &request.verb else { return None };
        let day = Duration::from_secs(24 * 60 * 60);
        let answer = server.attempt(&Claim { ttl: day, ..claim.clone() }, *birth, now);
        let mut news = Vec::new();
        server.at_home(claim.id, request.machine);
        server.news(judge, request.serving(t, now, server.shown), Some(claim.id), now, &mut news);
        judge.attempted(request.serving(t, now, server.shown), claim, &answer);
        Some((Said::Answer(answer), news))
    }
}

/// Who comes last is granted first.
#[derive(Default)]
pub(super) struct Newest(Mutex<HashMap<u128, Claim>>);

impl Mutant for Newest {
    fn serves(&self, server: &mut Server, judge: &mut Judge, t: u64, request: &Request) -> Option<Served> {
        let Verb::Attempt(claim, birth) = &request.verb else { return None };
        let (key, now, mut news) = (claim.key.full().as_bytes(), server.now(t), Vec::new());
        let mut known = locked(&self.0);
        let late = known.insert(claim.id.0, claim.clone()).is_some();
        let row = server.lines.view(key, usize::MAX, now).filter(|_| !late)?;
        for waiter in &row.waiting {
            let _ = server.lines.release(waiter.id, key, now.ns, Trace::Nothing, now);
        }
        server.at_home(claim.id, request.machine);
        let answer = server.attempt(claim, *birth, now);
        for older in row.waiting.iter().filter_map(|waiter| known.get(&waiter.id)) {
            let _ = server.attempt(older, now.ns, now);
        }
        server.news(judge, request.serving(t, now, server.shown), Some(claim.id), now, &mut news);
        judge.attempted(request.serving(t, now, server.shown), claim, &answer);
        Some((Said::Answer(answer), news))
    }
}

/// Who waits cannot be withdrawn.
pub(super) struct Stays;

impl Mutant for Stays {
    fn serves(&self, server: &mut Server, _: &mut Judge, _: u64, request: &Request) -> Option<Served> {
        let Verb::Release(claim, ..) = &request.verb else { return None };
        let waits = matches!(server.lines.peek(claim.id.0), Place::Waiting { .. });
        waits.then(|| (Said::Released(Ok(Released::WasWaiting)), Vec::new()))
    }
}

/// Whose lock was taken away takes it again with a late request.
pub(super) struct Forgets;

impl Mutant for Forgets {
    fn serves(&self, server: &mut Server, judge: &mut Judge, t: u64, request: &Request) -> Option<Served> {
        let Verb::Evict(lock, token) = &request.verb else { return None };
        let (key, now, mut news) = (lock.full().as_bytes(), server.now(t), Vec::new());
        let holders = server.lines.view(key, 0, now).map(|row| row.holders).unwrap_or_default();
        let token = token.map(|token| server.of_line(token));
        for holder in holders.iter().filter(|h| token.is_none_or(|t| t == h.token)) {
            let _ = server.lines.release(holder.id, key, now.ns, Trace::Nothing, now);
            judge.evicted(ClaimId(holder.id));
        }
        server.news(judge, request.serving(t, now, server.shown), None, now, &mut news);
        Some((Said::Released(Ok(Released::WasHeld)), news))
    }
}

/// A hold that is to stay after its release does not.
pub(super) struct Short;

impl Mutant for Short {
    fn serves(&self, server: &mut Server, judge: &mut Judge, t: u64, request: &Request) -> Option<Served> {
        let Verb::Release(claim, leave @ Leave::For(_), birth) = &request.verb else { return None };
        let (now, mut news) = (server.now(t), Vec::new());
        let released = server.release(claim, Leave::Nothing, *birth, now);
        judge.released(request.serving(t, now, server.shown), claim, *leave, &released);
        server.news(judge, request.serving(t, now, server.shown), Some(claim.id), now, &mut news);
        Some((Said::Released(released), news))
    }
}

/// What is to go on begins anew where it is gone.
pub(super) struct Continues;

impl Mutant for Continues {
    fn serves(&self, server: &mut Server, judge: &mut Judge, t: u64, request: &Request) -> Option<Served> {
        let Verb::Transfer(from, to, birth) = &request.verb else { return None };
        let gone = |id: ClaimId| matches!(server.lines.peek(id.0), Place::Gone { why: None });
        if !gone(from.id) || !gone(to.id) {
            return None;
        }
        let (now, mut news) = (server.now(t), Vec::new());
        let answer: Result<_, Error> = server.attempt(to, *birth, now);
        judge.transferred(request.serving(t, now, server.shown), from, to, &answer);
        server.news(judge, request.serving(t, now, server.shown), Some(to.id), now, &mut news);
        Some((Said::Answer(answer), news))
    }
}

/// A write takes effect, whatever version it expects.
pub(super) struct Compares;

impl Mutant for Compares {
    fn serves(&self, server: &mut Server, _: &mut Judge, _: u64, _: &Request) -> Option<Served> {
        server.objects.compares = false;
        None
    }
}

/// A body does not say how many were written before, so an old one may come again, and its version with it.
pub(super) struct Counts;

impl Mutant for Counts {
    fn serves(&self, server: &mut Server, _: &mut Judge, _: u64, _: &Request) -> Option<Served> {
        server.objects.counts = false;
        None
    }
}

/// More are let in together than may be.
pub(super) enum Beside {
    /// A writer counts as a reader.
    Readers,
    /// A semaphore has a permit more than it was made with.
    Permits,
}

impl Mutant for Beside {
    fn serves(&self, server: &mut Server, judge: &mut Judge, t: u64, request: &Request) -> Option<Served> {
        let Verb::Attempt(claim, birth) = &request.verb else { return None };
        let bent = match (self, claim.kind) {
            (Beside::Readers, Kind::ReadWrite) => Claim { weight: 1, ..claim.clone() },
            (Beside::Permits, Kind::Semaphore) => Claim { capacity: claim.capacity + 1, ..claim.clone() },
            _ => return None,
        };
        let (now, mut news) = (server.now(t), Vec::new());
        let serving = request.serving(t, now, server.shown);
        server.at_home(claim.id, request.machine);
        let answer = server.attempt(&bent, *birth, now);
        server.news(judge, serving, Some(claim.id), now, &mut news);
        judge.attempted(serving, claim, &answer);
        Some((Said::Answer(answer), news))
    }
}

/// A hold that is to go on with less goes on with all that it has.
pub(super) enum Heavy {
    /// A writer that is to be a reader.
    Writer,
    /// Whoever gives permits back.
    Permits,
}

impl Mutant for Heavy {
    fn serves(&self, server: &mut Server, judge: &mut Judge, t: u64, request: &Request) -> Option<Served> {
        let Verb::Transfer(from, to, birth) = &request.verb else { return None };
        match (self, to.kind) {
            (Heavy::Writer, Kind::ReadWrite) | (Heavy::Permits, Kind::Semaphore) => {}
            _ => return None,
        }
        let (now, mut news) = (server.now(t), Vec::new());
        let serving = request.serving(t, now, server.shown);
        server.at_home(to.id, request.machine);
        let answer = server.transfer(from, &Claim { weight: from.weight, ..to.clone() }, *birth, now);
        judge.transferred(serving, from, to, &answer);
        server.news(judge, serving, Some(to.id), now, &mut news);
        judge.shrank(serving, from, to);
        Some((Said::Answer(answer), news))
    }
}

/// Sessions do not last for as long as the server says.
pub(super) enum Lasts {
    /// They end when two thirds of their time are over.
    TooShort,
    ForEver,
}

impl Mutant for Lasts {
    fn serves(&self, server: &mut Server, _: &mut Judge, _: u64, _: &Request) -> Option<Served> {
        let sessions = &mut server.sessions;
        sessions.timeout = match self {
            Lasts::TooShort => sessions.said / 3 * 2,
            Lasts::ForEver => u64::MAX / 4,
        };
        None
    }
}
