//! Read-write locks and semaphores on a real server.

#[path = "../shared/faces.rs"]
mod scenarios;

use libtest_mimic::Trial;
use tenure::{ErrorKind, Locks};

use crate::server::Server;
use crate::{multi, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("faces::they_do_what_they_promise", they_do_what_they_promise),
        trial("faces::what_the_dialect_cannot_carry_is_refused", refused),
    ]
}

fn they_do_what_they_promise() {
    let server = Server::start();
    multi().block_on(scenarios::all(&server.url()));
}

fn refused() {
    let server = Server::start();
    let url = server.url().replace("redis:", "redis+setnx:");
    let locks = multi().block_on(Locks::connect(&url)).expect("connects");
    let refusals = [locks.rwlock("a").map(drop), locks.semaphore("a", 3).map(drop)];
    for error in refusals.map(|refusal| refusal.expect_err("it carries mutexes only")) {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(": memory:, host:, redis:"), "{error}");
    }
}
