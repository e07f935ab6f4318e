//! A client of the model: what it asks, and what the product's [`Ballot`] and [`Poll`] make of the answers.

use tenure::Token;
use tenure::core::lease;
use tenure::core::quorum::{self, Ballot, Poll, Step, Tally, Vote};

use super::server::{Answer, Message, Request};
use super::{
    AFTER_CRASH, BOTH, GAVE_UP, GRANTED, PROMOTED, Phase, RENEWED, Redlock, SECOND_ROUND, State, TTL, Wrong,
    moment,
};

fn is_naive(wrong: Wrong) -> bool {
    matches!(wrong, Wrong::HighestCounter | Wrong::WriteBack | Wrong::WriteBackIfOwner)
}

/// The round as servers see it.
fn named(round: u8, wrong: Wrong) -> u8 {
    if wrong == Wrong::OneRound { 1 } else { round }
}

/// A round begins.
pub(super) fn start(s: &mut State, c: usize, skew: i8, model: &Redlock) {
    let Redlock(wrong, bounds) = *model;
    let before = s.granted.iter().copied().max().unwrap_or(0);
    let (now, side) = (s.now, &mut s.sides[c]);
    let token = quorum::proposal(side.heard, bounds.wall_us(now, skew)).expect("small");
    let mut ballot = Ballot::new(bounds.quorum(), token, moment(now), TTL);
    if let Some(old) = side.ballot.take().filter(|_| wrong == Wrong::VotesCarried) {
        (0..bounds.servers)
            .filter_map(|k| Some((k, old.vote(k)?)))
            .for_each(|(k, vote)| ballot.hear(k, vote));
    }
    side.round += 1;
    (side.phase, side.ballot, side.before) = (Phase::Voting, Some(ballot), before);
    let round = named(side.round, wrong);
    s.send(0..bounds.servers, c, Request::Acquire { round, token: token.get() });
}

/// An answer arrives; one to an earlier round is nothing.
pub(super) fn hear(
    s: &mut State,
    k: usize,
    message: Message,
    answer: Answer,
    model: &Redlock,
) -> Result<(), String> {
    let (c, forgot) = (message.client, s.servers[k].forgot);
    let side = &mut s.sides[c];
    let round = named(side.round, model.0);
    match (message.request, answer) {
        (Request::Acquire { round: of, .. }, Answer::Vote(vote)) if of == round => {
            let Some(ballot) = side.ballot.as_mut().filter(|_| side.phase == Phase::Voting) else {
                return Ok(());
            };
            ballot.hear(k, vote);
            s.shown |= if forgot && vote == Vote::Accepted { AFTER_CRASH } else { 0 };
        }
        (Request::Promote { round: of, .. }, Answer::Yes(yes)) if of == round => {
            if side.phase != Phase::Voting {
                return Ok(());
            }
            if let Some(ballot) = &mut side.ballot {
                ballot.hear_promotion(k, yes);
            }
            if let Some((_, poll)) = &mut side.write_back {
                poll.hear(k, yes);
            }
        }
        (Request::Extend { .. }, Answer::Yes(yes)) => {
            if let Some((poll, ..)) = &mut side.renewal {
                poll.hear(k, yes);
            }
            return renewed(s, c, model);
        }
        _ => return Ok(()),
    }
    // A naive client takes whatever subset has answered when it decides.
    if is_naive(model.0) && s.sides[c].write_back.is_none() { Ok(()) } else { decide(s, c, false, model) }
}

/// The client follows its ballot.
pub(super) fn decide(s: &mut State, c: usize, late: bool, model: &Redlock) -> Result<(), String> {
    if is_naive(model.0) {
        return decide_naively(s, c, late, model);
    }
    let now = moment(s.now);
    let Some(ballot) = &mut s.sides[c].ballot else { return Ok(()) };
    match ballot.decide(now, late) {
        Step::Wait => Ok(()),
        Step::Granted { token } => granted(s, c, token, model),
        Step::Promote { token, to } => {
            s.shown |= PROMOTED;
            let round = named(s.sides[c].round, model.0);
            s.send(to, c, Request::Promote { round, token: token.get() });
            Ok(())
        }
        Step::GiveUp { .. } => {
            give_up(s, c, model);
            Ok(())
        }
        Step::Exhausted => Err("there is no token left".into()),
    }
}

/// The counters of a quorum, of which the highest is the token.
fn decide_naively(s: &mut State, c: usize, late: bool, model: &Redlock) -> Result<(), String> {
    let (quorum, servers) = (model.1.quorum(), model.1.servers);
    let side = &mut s.sides[c];
    if let Some((token, poll)) = &side.write_back {
        return match poll.tally() {
            Tally::Decided => {
                let token = *token;
                granted(s, c, token, model)
            }
            Tally::Open if !late => Ok(()),
            _ => {
                give_up(s, c, model);
                Ok(())
            }
        };
    }
    let ballot = side.ballot.as_ref().expect("it votes");
    let votes: Vec<Vote> = (0..servers).filter_map(|k| ballot.vote(k)).collect();
    let floors: Vec<Token> =
        votes.iter().filter_map(|v| if let Vote::Locked { floor } = v { *floor } else { None }).collect();
    let highest = floors.iter().copied().max();
    match highest.filter(|_| floors.len() >= quorum.needed()) {
        None => {
            give_up(s, c, model);
            Ok(())
        }
        Some(token) if model.0 == Wrong::HighestCounter => granted(s, c, token, model),
        Some(token) => {
            side.write_back = Some((token, Poll::new(quorum)));
            s.send(0..servers, c, Request::Promote { round: 1, token: token.get() });
            Ok(())
        }
    }
}

/// What changes nothing any more is forgotten, so that fewer states differ.
pub(super) fn forget(s: &mut State, renews: bool) {
    for side in &mut s.sides {
        if matches!(side.phase, Phase::Held { .. } | Phase::Over) {
            (side.heard, side.before) = (None, 0);
            side.token = if renews { side.token } else { 0 };
        }
        if side.phase == Phase::Over {
            side.ballot = None;
            side.renewal = None;
        }
    }
}

fn granted(s: &mut State, c: usize, token: Token, model: &Redlock) -> Result<(), String> {
    let token = token.get();
    if s.granted.contains(&token) {
        return Err(format!("S2: client {c} has the token {token}, which another has"));
    }
    if token <= s.sides[c].before {
        return Err(format!("S2: client {c} has the token {token} after {}", s.sides[c].before));
    }
    s.granted.push(token);
    s.granted.sort_unstable();
    s.shown |= GRANTED | if s.granted.len() > 1 { BOTH } else { 0 };
    let now = moment(s.now);
    let side = &mut s.sides[c];
    let until = match (model.0, &side.ballot) {
        (Wrong::FromDecision, _) | (_, None) => lease::deadline(now, TTL),
        (_, Some(ballot)) => ballot.deadline(),
    };
    s.shown |= if side.round > 1 { SECOND_ROUND } else { 0 };
    (side.phase, side.token, side.ballot, side.write_back) = (Phase::Held { until }, token, None, None);
    Ok(())
}

fn give_up(s: &mut State, c: usize, model: &Redlock) {
    let side = &mut s.sides[c];
    let floor = side.ballot.as_ref().and_then(Ballot::floor);
    side.heard = side.heard.max(floor);
    let more = side.round < model.1.rounds[c];
    side.phase = if more { Phase::Idle } else { Phase::Over };
    if model.0 != Wrong::VotesCarried {
        side.ballot = None;
    }
    side.write_back = None;
    s.shown |= GAVE_UP;
    let round = named(side.round, model.0);
    // Wild clocks let votes vanish at any moment: a release adds nothing there.
    if model.1.ticks > 0 {
        s.send(0..model.1.servers, c, Request::Release { round });
    }
}

pub(super) fn release(s: &mut State, c: usize) {
    s.sides[c].phase = Phase::Over;
    s.send(0..s.servers.len(), c, Request::Release { round: u8::MAX });
}

pub(super) fn renew(s: &mut State, c: usize) {
    let others = s.sides.iter().enumerate().filter(|(n, _)| *n != c).map(|(_, side)| side.token);
    let older = others.max().unwrap_or(0);
    let (now, servers) = (s.now, s.servers.len());
    let side = &mut s.sides[c];
    let quorum = tenure::core::quorum::Quorum::majority(servers).expect("servers");
    side.renewal = Some((Poll::new(quorum), now, older));
    let token = side.token;
    s.send(0..servers, c, Request::Extend { token });
}

fn renewed(s: &mut State, c: usize, model: &Redlock) -> Result<(), String> {
    let now = moment(s.now);
    let side = &mut s.sides[c];
    let Some((poll, sent, older)) = &side.renewal else { return Ok(()) };
    let Phase::Held { until } = side.phase else { return Ok(()) };
    match poll.tally() {
        Tally::Decided if *older > side.token => {
            Err(format!("S10: client {c} renews {}, and {older} was granted before it asked", side.token))
        }
        Tally::Decided => {
            s.shown |= RENEWED;
            // Past its deadline it is lost, for good.
            if now < until || model.1.ticks == 0 {
                side.phase = Phase::Held { until: until.max(lease::deadline(moment(*sent), TTL)) };
            }
            Ok(())
        }
        Tally::Failed => {
            side.phase = Phase::Over;
            Ok(())
        }
        Tally::Open => Ok(()),
    }
}
