//! What goes wrong between several servers that vote and their clients.

use tenure::core::moment::Moment;
use tenure::core::quorum::Vote;

use super::super::judge::Judge;
use super::super::message::{Matter, Request, Said, Verb};
use super::super::server::{Served, Server};
use super::Mutant;

/// One vote of three is enough, and two of five.
pub(super) struct Minority;

impl Mutant for Minority {
    fn enough(&self, accepted: usize, servers: usize) -> bool {
        accepted >= servers / 2
    }
}

/// Who did not get a quorum keeps the votes that it got.
pub(super) struct Keeps;

impl Mutant for Keeps {
    fn gives_votes_back(&self) -> bool {
        false
    }
}

/// A server that lost its memory votes at once.
pub(super) struct Empty;

impl Mutant for Empty {
    fn serves(&self, server: &mut Server, _: &mut Judge, _: u64, _: &Request) -> Option<Served> {
        server.voter.away_until = 0;
        None
    }
}

/// The release of a round in vain takes the votes of a later round as well.
pub(super) struct NoRound;

impl Mutant for NoRound {
    fn serves(&self, server: &mut Server, judge: &mut Judge, t: u64, request: &Request) -> Option<Served> {
        let mut bent = request.clone();
        match &mut bent.verb {
            Verb::Vote(asked) => match &mut asked.what {
                Matter::Release { round } if *round != u64::MAX => *round = u64::MAX,
                _ => return None,
            },
            _ => return None,
        }
        Some(server.serve(judge, t, &bent))
    }
}

/// A server that refused the token counts as one that took it.
pub(super) struct Tokenless;

impl Mutant for Tokenless {
    fn hears(&self, _: &Request, _: Moment, said: &mut Said) {
        if let Said::Vote(vote @ Vote::Locked { .. }) = said {
            *vote = Vote::Accepted;
        }
    }
}

/// The token of a second round trip must be above a floor that moves on meanwhile, with the server's clock.
pub(super) struct Moving;

impl Mutant for Moving {
    fn serves(&self, server: &mut Server, _: &mut Judge, _: u64, _: &Request) -> Option<Served> {
        server.voter.moves = true;
        None
    }
}
