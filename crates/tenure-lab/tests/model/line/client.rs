//! A client of the model: what it hears, and what it believes.

use tenure::core::lease;

use super::{
    EXPIRED, Message, Of, PUSH_TOO_OLD, PUSHED, Phase, RENEWED, Says, Side, State, TTL, Wrong, moment,
    server_ns,
};

/// An answer to a request that was sent at `sent`.
pub(super) fn hear(s: &mut State, claim: u8, sent: u8, of: Of, says: Says, wrong: Wrong) {
    let (now, side) = (s.now, &mut s.sides[usize::from(claim)]);
    if of == Of::Attempt {
        side.unanswered = side.unanswered.saturating_sub(1);
    }
    match (says, side.phase) {
        (_, Phase::New | Phase::Leaving) => {}
        (Says::Held, before) => {
            let from = if wrong == Wrong::FromAnswer { now } else { sent };
            let until = lease::deadline(moment(from), TTL);
            side.phase = match before {
                Phase::Held { until: known, learned } => {
                    s.shown |= if until > known { RENEWED } else { 0 };
                    Phase::Held { until: until.max(known), learned }
                }
                _ => Phase::Held { until, learned: now },
            };
        }
        // From before the grant, which overtook it.
        (Says::Waits(_), Phase::Held { learned, .. }) if sent <= learned => {}
        (Says::Waits(_), Phase::Held { .. }) => leave(side, wrong),
        (Says::Waits(_), Phase::Waiting { sent: newer, .. }) if sent < newer => {}
        (Says::Waits(at), _) => side.phase = Phase::Waiting { sent, at },
        (Says::Gone, _) => leave(side, wrong),
    }
}

/// The store pushed a grant, at its time `at`.
pub(super) fn pushed(s: &mut State, claim: u8, at: u8, wrong: Wrong) {
    let now = s.now;
    // While nothing is answered, the push is kept: it may just as well arrive after the answer.
    let Phase::Waiting { sent, at: answered } = s.side(claim).phase else { return };
    if at < answered && wrong != Wrong::OldPush {
        s.shown |= PUSH_TOO_OLD;
        return;
    }
    let from = match wrong {
        Wrong::FromPush => moment(now),
        _ => lease::pushed_from(moment(sent), server_ns(answered), server_ns(at), moment(now)),
    };
    let until = lease::deadline(from, TTL);
    if moment(now) < until {
        s.side(claim).phase = Phase::Held { until, learned: now };
        s.shown |= PUSHED;
    }
}

/// The client lets go of a claim.
pub(super) fn leave(side: &mut Side, wrong: Wrong) {
    side.mark = side.unanswered > 0 && wrong != Wrong::NoMark;
    side.phase = Phase::Leaving;
}

/// A hold whose time is over is let go. What changes nothing any more is forgotten, so that fewer states differ.
pub(super) fn tidy(s: &mut State, wrong: Wrong) {
    let now = moment(s.now);
    for side in &mut s.sides {
        if matches!(side.phase, Phase::Held { until, .. } if now >= until) {
            leave(side, wrong);
            s.shown |= EXPIRED;
        }
        if side.phase == Phase::Leaving {
            (side.asked, side.unanswered, side.renewed) = (0, 0, 0);
        }
    }
    let sides = &s.sides;
    s.way.retain(|message| match *message {
        Message::Attempt { .. } | Message::Renew { .. } | Message::Release { .. } => true,
        Message::Answer { claim, .. } | Message::Push { claim, .. } => {
            sides[usize::from(claim)].phase != Phase::Leaving
        }
    });
}
