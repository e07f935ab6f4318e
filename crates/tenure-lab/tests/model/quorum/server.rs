//! A server of the model: the rules of the scripts, and broken ones.

use tenure::Token;
use tenure::core::quorum::{FLOOR_LAG, Vote, quarantine};

use super::{Phase, Redlock, State, TICK, TTL, Wrong};

/// A request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Message {
    pub client: usize,
    pub request: Request,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Request {
    Acquire {
        round: u8,
        token: i64,
    },
    Promote {
        round: u8,
        token: i64,
    },
    Extend {
        token: i64,
    },
    /// Of rounds up to this one.
    Release {
        round: u8,
    },
}

#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Server {
    /// The client that has it, the round, and the token that was accepted with the vote; 0: none.
    pub vote: Option<(usize, u8, i64)>,
    /// The floor at the time of the vote: what a promotion must be above, besides the fence.
    pub told: i64,
    /// When the vote expires.
    until: u8,
    /// The greatest token that it accepted.
    fence: i64,
    /// Until when it does not vote, and whether it ever lost its memory.
    pub out: u8,
    pub forgot: bool,
    pub way: Vec<Message>,
}

impl Server {
    pub(super) fn expire(&mut self, now: u8) {
        if self.until <= now {
            (self.vote, self.until, self.told) = (None, 0, 0);
        }
    }
}

/// What a request is answered with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Vote(Vote),
    Yes(bool),
}

/// A ttl, or the quarantine, in ticks.
fn ticks(time: std::time::Duration) -> u8 {
    u8::try_from(time.as_millis().div_ceil(TICK.as_millis())).expect("short")
}

pub(super) fn serve(s: &mut State, k: usize, message: Message, model: &Redlock) -> Answer {
    let Redlock(wrong, bounds) = *model;
    let clock = if bounds.ticks == 0 { 0 } else { bounds.wall_us(s.now, 0).cast_signed() };
    let (now, server) = (s.now, &mut s.servers[k]);
    let Message { client, request } = message;
    let floor = match wrong {
        Wrong::NoFloor => server.fence,
        _ => server.fence.max(clock - i64::try_from(FLOOR_LAG.as_micros()).expect("short")),
    };
    let ours = server.vote.is_some_and(|(owner, ..)| owner == client);
    let lease = if bounds.ticks == 0 { 0 } else { now + ticks(TTL) };
    match request {
        Request::Acquire { round, token } => {
            acquire(server, (client, round, token), floor.max(0), lease, wrong)
        }
        Request::Promote { round, token } => {
            let voted = server.vote.is_some_and(|(owner, of, _)| (owner, of) == (client, round));
            let again = server.vote == Some((client, round, token));
            let floor = server.fence.max(server.told);
            let accepted = match wrong {
                Wrong::WriteBack => true,
                Wrong::WriteBackIfOwner => voted,
                Wrong::PromoteEqual => voted && token >= floor,
                _ => voted && (token > floor || again),
            };
            if accepted {
                server.fence = server.fence.max(token);
                server.vote =
                    server.vote.map(|(owner, of, with)| (owner, of, if voted { token } else { with }));
            }
            Answer::Yes(accepted)
        }
        Request::Extend { token } => {
            let extended = ours && (server.fence <= token || wrong == Wrong::ExtendUnfenced);
            if extended {
                (server.until, server.fence) = (lease, server.fence.max(token));
            }
            Answer::Yes(extended)
        }
        Request::Release { round } => {
            let deleted = ours && server.vote.is_some_and(|(_, voted, _)| voted <= round);
            if deleted {
                (server.vote, server.until, server.told) = (None, 0, 0);
            }
            Answer::Yes(deleted)
        }
    }
}

/// An ACQ: the vote, and with it the token, if no newer one is known.
fn acquire(server: &mut Server, asked: (usize, u8, i64), floor: i64, lease: u8, wrong: Wrong) -> Answer {
    let (client, round, token) = asked;
    if let Some((owner, newer, _)) =
        server.vote.filter(|(owner, newer, _)| *owner != client || *newer > round)
    {
        let rival = if owner == client { u64::from(newer) << 32 } else { owner as u64 };
        let left = std::time::Duration::ZERO;
        return Answer::Vote(Vote::Denied { floor: Token::new(floor), left, rival });
    }
    let before = server.vote.filter(|(_, same, _)| *same == round);
    let with = before.map_or(0, |(.., with)| with);
    (server.vote, server.until, server.told) = (Some((client, round, with)), lease, floor);
    if matches!(wrong, Wrong::HighestCounter | Wrong::WriteBack | Wrong::WriteBackIfOwner) {
        server.fence += i64::from(before.is_none());
        return Answer::Vote(Vote::Locked { floor: Token::new(server.fence) });
    }
    let again = match wrong {
        Wrong::EqualFromAnyone => token == server.fence,
        Wrong::EqualFromVoter => token == server.fence && before.is_some(),
        _ => with == token,
    };
    if token > floor || again {
        (server.fence, server.vote) = (server.fence.max(token), Some((client, round, token)));
        return Answer::Vote(Vote::Accepted);
    }
    Answer::Vote(match wrong {
        Wrong::LockedCounts => Vote::Accepted,
        _ => Vote::Locked { floor: Token::new(floor) },
    })
}

/// Requests that change nothing, now or later, and whose answer nobody waits for, are taken off the way.
pub(super) fn prune(s: &mut State) {
    let sides: Vec<Phase> = s.sides.iter().map(|side| side.phase).collect();
    for server in &mut s.servers {
        let may_have: Vec<bool> = (0..sides.len())
            .map(|c| {
                let comes = |m: &Message| m.client == c && matches!(m.request, Request::Acquire { .. });
                server.vote.is_some_and(|(owner, ..)| owner == c) || server.way.iter().any(comes)
            })
            .collect();
        server.way.retain(|message| match message.request {
            _ if may_have[message.client] => true,
            Request::Acquire { .. } => true,
            Request::Release { .. } => false,
            Request::Promote { .. } => sides[message.client] == Phase::Voting,
            Request::Extend { .. } => matches!(sides[message.client], Phase::Held { .. }),
        });
    }
}

/// A server restarts empty. What was on its way to it may still arrive.
pub(super) fn crash(s: &mut State, k: usize, wrong: Wrong) {
    let out = match wrong {
        Wrong::NoQuarantine => 0,
        Wrong::ShortQuarantine => ticks(quarantine(TTL)) / 2,
        _ => ticks(quarantine(TTL)),
    };
    let way = std::mem::take(&mut s.servers[k].way);
    s.servers[k] = Server { out: s.now + out, forgot: true, way, ..Server::default() };
}
