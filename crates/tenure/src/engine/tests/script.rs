//! A store whose every answer the test gives by hand.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::backend::{Answer, Backend, BoxFuture, Call, Claim, Leave, Page, Part, Query, Released};
use crate::capability::Capabilities;
use crate::domain::Domain;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::runtime::join_all;
use crate::token::Token;

/// A request that has arrived; dropped unanswered, its answer is lost on the way.
#[derive(Debug)]
pub(super) struct Sent<Q, A> {
    pub(super) what: Q,
    reply: oneshot::Sender<A>,
}

impl<Q, A> Sent<Q, A> {
    pub(super) fn send(self, answer: A) {
        let _ = self.reply.send(answer);
    }
}

impl<Q, T> Sent<Q, Result<T>> {
    pub(super) fn answer(self, answer: T) {
        self.send(Ok(answer));
    }

    pub(super) fn fail(self, error: Error) {
        self.send(Err(error));
    }
}

impl Sent<Vec<Claim>, Vec<Result<Answer>>> {
    pub(super) fn answer_all(self, answer: &Answer) {
        let all = self.what.iter().map(|_| Ok(answer.clone())).collect();
        self.send(all);
    }
}

type Queue<Q, A> = Mutex<VecDeque<Sent<Q, A>>>;

#[derive(Debug, Default)]
pub(super) struct Script {
    attempts: Queue<Claim, Result<Answer>>,
    renewals: Queue<Vec<Claim>, Vec<Result<Answer>>>,
    releases: Queue<(Claim, Leave), Result<Released>>,
    transfers: Queue<(Claim, Claim), Result<Answer>>,
}

fn pop<Q, A>(queue: &Queue<Q, A>) -> Option<Sent<Q, A>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

fn ask<Q, A: Send + 'static>(queue: &Queue<Q, A>, what: Q) -> BoxFuture<'static, A> {
    let (reply, answer) = oneshot::channel();
    queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(Sent { what, reply });
    Box::pin(async move {
        match answer.await {
            Ok(answer) => answer,
            Err(_) => std::future::pending().await,
        }
    })
}

impl Script {
    pub(super) fn attempt(&self) -> Sent<Claim, Result<Answer>> {
        pop(&self.attempts).expect("an attempt")
    }

    pub(super) fn renewal(&self) -> Sent<Vec<Claim>, Vec<Result<Answer>>> {
        pop(&self.renewals).expect("a renewal")
    }

    pub(super) fn next_attempt(&self) -> Option<Sent<Claim, Result<Answer>>> {
        pop(&self.attempts)
    }

    /// Fails the next attempt, if there is one.
    pub(super) fn failing(&self, what: &str) -> bool {
        let attempt = pop(&self.attempts);
        attempt.map(|sent| sent.fail(Error::unavailable(what, ""))).is_some()
    }

    pub(super) fn next_renewal(&self) -> Option<Sent<Vec<Claim>, Vec<Result<Answer>>>> {
        pop(&self.renewals)
    }

    pub(super) fn release(&self) -> Sent<(Claim, Leave), Result<Released>> {
        pop(&self.releases).expect("a release")
    }

    pub(super) fn next_release(&self) -> Option<Sent<(Claim, Leave), Result<Released>>> {
        pop(&self.releases)
    }

    pub(super) fn transfer(&self) -> Sent<(Claim, Claim), Result<Answer>> {
        pop(&self.transfers).expect("a transfer")
    }

    pub(super) fn next_transfer(&self) -> Option<Sent<(Claim, Claim), Result<Answer>>> {
        pop(&self.transfers)
    }

    pub(super) fn renewed(&self) -> bool {
        pop(&self.renewals).is_some()
    }

    pub(super) fn released(&self) -> bool {
        pop(&self.releases).is_some()
    }
}

impl Backend for Script {
    fn capabilities(&self) -> Capabilities {
        Capabilities::strongest("script")
    }

    fn domain(&self) -> BoxFuture<'_, Result<Domain>> {
        Box::pin(std::future::pending())
    }

    fn part(&self, _: &Key) -> Part {
        Part::WHOLE
    }

    fn attempt<'a>(&'a self, claims: &'a [Claim], _: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(join_all(claims.iter().map(|claim| ask(&self.attempts, claim.clone()))))
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], _: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        ask(&self.renewals, claims.to_vec())
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, _: Call) -> BoxFuture<'a, Result<Released>> {
        ask(&self.releases, (claim.clone(), leave))
    }

    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim, _: Call) -> BoxFuture<'a, Result<Answer>> {
        ask(&self.transfers, (from.clone(), to.clone()))
    }

    fn evict<'a>(
        &'a self,
        _: &'a Key,
        _: Option<Token>,
        _: &'a str,
        _: Call,
    ) -> BoxFuture<'a, Result<Released>> {
        Box::pin(std::future::pending())
    }

    fn inspect<'a>(&'a self, _: &'a Query, _: Call) -> BoxFuture<'a, Result<Page>> {
        Box::pin(std::future::pending())
    }

    fn watch(&self, _: &crate::backend::Watched) {}

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
