//! Wrong protocols, each a few lines away from the right one: the simulation must notice every one of them.

use std::sync::Arc;

use tenure::backend::News;
use tenure::core::moment::Moment;

use super::judge::Judge;
use super::link::{Request, Said, Verb};
use super::machine::Machine;
use super::server::Server;

/// Where a run can be bent.
pub(super) trait Mutant: Send + Sync {
    /// A request is about to leave: changed, or answered at once.
    fn sends(&self, _machine: &Machine, _verb: &mut Verb) -> Option<Said> {
        None
    }
    /// The server does something else with it.
    fn serves(
        &self,
        _server: &mut Server,
        _judge: &mut Judge,
        _t: u64,
        _request: &Request,
    ) -> Option<(Said, Vec<(usize, News)>)> {
        None
    }
    /// An answer is about to be heard at `now`, on the client's clock.
    fn hears(&self, _request: &Request, _now: Moment, _said: &mut Said) {}
    /// A push is about to be told.
    fn pushes(&self, _news: &mut News) {}
    /// By how much less than the clock the engine is shown.
    fn lag(&self, _machine: &Machine) -> u64 {
        0
    }
}

/// A wrong protocol.
pub(super) struct Wrong {
    pub(super) name: &'static str,
    /// The rules of which it must break one.
    pub(super) breaks: &'static [&'static str],
    pub(super) make: fn() -> Arc<dyn Mutant>,
}

/// All of them.
pub(super) const MUTANTS: &[Wrong] = &[];
