//! What the votes of several servers come to, in true time.

use tenure::backend::ClaimId;
use tenure::core::quorum::Quorum;

use super::server::Server;
use super::world::{World, locked};

/// How many of so many servers decide.
pub(super) fn quorum(world: &World) -> Quorum {
    Quorum::majority(world.servers()).expect("there is a server")
}

/// Until when, in true time, a quorum of servers keeps its votes for a claim if no clock steps. A server in quarantine may
/// have forgotten one, and gives it to nobody else.
pub(super) fn lasts(world: &World, lock: usize, claim: ClaimId) -> u64 {
    ends(world, |server, shown| {
        let away = Some(server.voter.away_until).filter(|until| *until > shown);
        away.or_else(|| server.voter.until(lock, claim))
    })
}

/// Tells the judge until when the claims that hold have a quorum. A claim that was withdrawn has none any more.
pub(super) fn recount(world: &World) {
    let held = locked(&world.judge).held();
    for (claim, lock) in held {
        // A server in quarantine counts for nobody, whatever an old copy of its memory says.
        let votes = |server: &Server, shown| server.voter.away_until <= shown;
        let vote = |server: &Server| server.voter.until(lock, claim);
        let end = ends(world, |server, shown| vote(server).filter(|_| votes(server, shown)));
        locked(&world.judge).lasts(claim, end);
    }
}

/// The last instant, in true time, at which a quorum of servers has not reached the ends that `until` tells.
fn ends(world: &World, until: impl Fn(&Server, u64) -> Option<u64>) -> u64 {
    let end = |number| {
        let mut server = world.server(number);
        let shown = server.shown(world.now());
        until(&server, shown).filter(|until| *until > shown).map_or(0, |until| server.clock.when(until))
    };
    let mut ends: Vec<u64> = (0..world.servers()).map(end).collect();
    ends.sort_unstable_by(|a, b| b.cmp(a));
    ends.get(quorum(world).needed() - 1).copied().unwrap_or(0)
}
