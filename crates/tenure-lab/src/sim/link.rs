//! The store as one client's engine sees it: the verbs of the contract, done by what the store of the run is.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tenure::backend::net::Why;
use tenure::backend::{Answer, Backend, BoxFuture, Call, Claim, Errand, Leave, Page, Part, Query, Released};
use tenure::{Capabilities, Domain, Error, Key, Token};

use super::lanes::Connected;
use super::machine::Machine;
use super::message::{Said, Verb};
use super::net::{broken, send};
use super::pinging::Pinging;
use super::polling::Objects;
use super::stores::Store;
use super::voting::Voting;
use super::world::locked;

/// The server as one engine sees it.
#[derive(Debug)]
pub(super) struct Link {
    machine: Arc<Machine>,
    driver: Driver,
}

/// What makes messages of the contract's verbs.
#[derive(Clone, Debug)]
enum Driver {
    /// The server knows the verbs.
    None,
    /// So it does, over connections that are kept up.
    Lanes(Arc<Connected>),
    Objects(Arc<Objects>),
    Sessions(Arc<Pinging>),
    Quorum(Arc<Voting>),
}

impl Driver {
    async fn ask(&self, verb: &Verb) -> Said {
        match self {
            Driver::None | Driver::Lanes(_) => Said::Refused,
            Driver::Objects(driver) => driver.ask(verb).await,
            Driver::Sessions(driver) => driver.ask(verb).await,
            Driver::Quorum(driver) => driver.ask(verb).await,
        }
    }
}

impl Link {
    pub(super) fn new(machine: &Arc<Machine>) -> Link {
        let driver = match machine.world().store {
            Store::Line => Driver::None,
            Store::Lanes => Driver::Lanes(Connected::new(machine)),
            Store::Objects => Driver::Objects(Arc::new(Objects::new(machine))),
            Store::Sessions => Driver::Sessions(Arc::new(Pinging::new(machine))),
            Store::Quorum => Driver::Quorum(Arc::new(Voting::new(machine))),
        };
        Link { machine: machine.clone(), driver }
    }

    /// Does a verb. What is sent at once is sent before this returns.
    fn send(&self, mut verb: Verb, errand: Errand) -> BoxFuture<'static, Result<Said, Why>> {
        let machine = self.machine.clone();
        let world = machine.world().clone();
        if let Some(said) = world.mutant.as_ref().and_then(|mutant| mutant.sends(&mut verb)) {
            return Box::pin(std::future::ready(Ok(said)));
        }
        if let Driver::Lanes(connected) = &self.driver {
            let connected = connected.clone();
            return Box::pin(async move { connected.ask(errand, verb).await });
        }
        if let Verb::Release(claim, ..) = &verb {
            locked(&world.judge).releases(claim.id);
        }
        let driver = match self.driver.clone() {
            Driver::None => {
                let sent = send(&machine, 0, verb);
                return Box::pin(async move { sent.await.ok_or_else(|| Why::lost("the connection broke")) });
            }
            driver => driver,
        };
        Box::pin(async move {
            let request = machine.request(verb);
            let mut said = driver.ask(&request.verb).await;
            if let Some(mutant) = &world.mutant {
                mutant.hears(&request, machine.clock_now(), &mut said);
            }
            Ok(said)
        })
    }

    fn birth(&self, claim: &Claim) -> u64 {
        claim.birth.nanos().wrapping_add(self.machine.offset.load(Ordering::Relaxed))
    }
}

/// The error for a call that was not answered.
fn unanswered(said: &Result<Said, Why>) -> Error {
    said.as_ref().map_or_else(Why::error, |_| broken())
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Driver::Lanes(connected) = &self.driver {
            connected.close();
        }
    }
}

/// What several calls come to, each for itself.
async fn all<T>(calls: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut calls: Vec<_> = calls.into_iter().map(|call| (call, None)).collect();
    poll_fn(|cx| {
        for (call, out) in calls.iter_mut().filter(|(_, out)| out.is_none()) {
            if let Poll::Ready(came) = call.as_mut().poll(cx) {
                *out = Some(came);
            }
        }
        if calls.iter().all(|(_, out)| out.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    calls.into_iter().filter_map(|(_, out)| out).collect()
}

impl Backend for Link {
    fn capabilities(&self) -> Capabilities {
        let world = self.machine.world();
        world.store.capabilities(world.session, world.leases)
    }

    fn domain(&self) -> BoxFuture<'_, tenure::Result<Domain>> {
        Box::pin(std::future::ready(Domain::new("simulated")))
    }

    fn part(&self, _: &Key) -> Part {
        Part::WHOLE
    }

    fn attempt<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<tenure::Result<Answer>>> {
        let sent: Vec<_> =
            claims.iter().map(|c| self.send(Verb::Attempt(c.clone(), self.birth(c)), call.errand)).collect();
        Box::pin(async move {
            let answers = all(sent).await.into_iter().map(|said| match said {
                Ok(Said::Answer(answer)) => answer,
                other => Err(unanswered(&other)),
            });
            answers.collect()
        })
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<tenure::Result<Answer>>> {
        // Objects are written one by one, and each claim has votes of its own.
        let alone = matches!(self.driver, Driver::Objects(_) | Driver::Quorum(_));
        let size = if alone { 1 } else { claims.len().max(1) };
        let parts: Vec<_> = claims.chunks(size).collect();
        let sent: Vec<_> =
            parts.iter().map(|part| self.send(Verb::Renew(part.to_vec()), call.errand)).collect();
        Box::pin(async move {
            let said = all(sent).await;
            let answers = parts.into_iter().zip(said).flat_map(|(part, said)| match said {
                Ok(Said::Answers(answers)) => answers,
                other => part.iter().map(|_| Err(unanswered(&other))).collect(),
            });
            answers.collect()
        })
    }

    fn release<'a>(
        &'a self,
        claim: &'a Claim,
        leave: Leave,
        call: Call,
    ) -> BoxFuture<'a, tenure::Result<Released>> {
        let sent = self.send(Verb::Release(claim.clone(), leave, self.birth(claim)), call.errand);
        Box::pin(async move {
            match sent.await {
                Ok(Said::Released(released)) => released,
                other => Err(unanswered(&other)),
            }
        })
    }

    fn transfer<'a>(
        &'a self,
        from: &'a Claim,
        to: &'a Claim,
        call: Call,
    ) -> BoxFuture<'a, tenure::Result<Answer>> {
        let sent = self.send(Verb::Transfer(Box::new(from.clone()), to.clone(), self.birth(to)), call.errand);
        Box::pin(async move {
            match sent.await {
                Ok(Said::Answer(answer)) => answer,
                other => Err(unanswered(&other)),
            }
        })
    }

    fn evict<'a>(
        &'a self,
        key: &'a Key,
        token: Option<Token>,
        _: &'a str,
        call: Call,
    ) -> BoxFuture<'a, tenure::Result<Released>> {
        let sent = self.send(Verb::Evict(key.clone(), token), call.errand);
        Box::pin(async move {
            match sent.await {
                Ok(Said::Released(released)) => released,
                other => Err(unanswered(&other)),
            }
        })
    }

    fn inspect<'a>(&'a self, _: &'a Query, _: Call) -> BoxFuture<'a, tenure::Result<Page>> {
        Box::pin(std::future::ready(Err(Error::unsupported("nobody looks in a simulation", ""))))
    }

    fn watch(&self, _: &tenure::backend::Watched) {}

    fn close(&self) -> BoxFuture<'_, ()> {
        if let Driver::Lanes(connected) = &self.driver {
            connected.close();
        }
        Box::pin(std::future::ready(()))
    }
}
