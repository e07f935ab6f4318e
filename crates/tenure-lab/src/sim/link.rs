//! The store as one client's engine sees it: the verbs of the contract, done by what the store of the run is.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tenure::backend::{Answer, Backend, BoxFuture, Call, Claim, Leave, Page, Part, Query, Released};
use tenure::{Capabilities, Domain, Error, Key, Result, Token};

use super::machine::Machine;
use super::net::{Request, Said, Verb, broken, send};
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
    Objects(Arc<Objects>),
    Sessions(Arc<Pinging>),
    Quorum(Arc<Voting>),
}

impl Driver {
    async fn ask(&self, verb: &Verb) -> Said {
        match self {
            Driver::None => Said::Refused,
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
            Store::Objects => Driver::Objects(Arc::new(Objects::new(machine))),
            Store::Sessions => Driver::Sessions(Arc::new(Pinging::new(machine))),
            Store::Quorum => Driver::Quorum(Arc::new(Voting::new(machine))),
        };
        Link { machine: machine.clone(), driver }
    }

    /// Does a verb. What is sent at once is sent before this returns.
    fn send(&self, mut verb: Verb) -> BoxFuture<'static, Option<Said>> {
        let machine = self.machine.clone();
        let world = machine.world().clone();
        if let Some(said) = world.mutant.as_ref().and_then(|mutant| mutant.sends(&mut verb)) {
            return Box::pin(std::future::ready(Some(said)));
        }
        if let Verb::Release(claim, ..) = &verb {
            locked(&world.judge).releases(claim.id);
        }
        let driver = match self.driver.clone() {
            Driver::None => return send(&machine, 0, verb),
            driver => driver,
        };
        Box::pin(async move {
            let request = Request::of(&machine, verb);
            let mut said = driver.ask(&request.verb).await;
            if let Some(mutant) = &world.mutant {
                mutant.hears(&request, machine.clock_now(), &mut said);
            }
            Some(said)
        })
    }

    fn birth(&self, claim: &Claim) -> u64 {
        claim.birth.nanos().wrapping_add(self.machine.offset.load(Ordering::Relaxed))
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
        self.machine.world().store.capabilities(self.machine.world())
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
            let answers = all(sent).await.into_iter().map(|said| match said {
                Some(Said::Answer(answer)) => answer,
                _ => Err(broken()),
            });
            answers.collect()
        })
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], _: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        // Objects are written one by one, and each claim has votes of its own.
        let alone = matches!(self.driver, Driver::Objects(_) | Driver::Quorum(_));
        let size = if alone { 1 } else { claims.len().max(1) };
        let parts: Vec<_> = claims.chunks(size).collect();
        let sent: Vec<_> = parts.iter().map(|part| self.send(Verb::Renew(part.to_vec()))).collect();
        Box::pin(async move {
            let said = all(sent).await;
            let answers = parts.into_iter().zip(said).flat_map(|(part, said)| match said {
                Some(Said::Answers(answers)) => answers,
                _ => part.iter().map(|_| Err(broken())).collect(),
            });
            answers.collect()
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
