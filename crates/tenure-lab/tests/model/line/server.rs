//! The server of the model: the product's own line, and what must hold of it after every request.

use std::rc::Rc;

use tenure::core::line::{Ask, Event, Kind, NO_SLOT, Place, Refusal, Trace};
use tenure::core::moment::nanos;

use super::{
    CLAIMS, HELD, Message, NOTHING_TO_RENEW, Of, REFUSED_BY_AGE, REFUSED_BY_MARK, Says, State, TTL, Wrong,
    id, server_ns,
};

const KEY: &[u8] = b"model/a";

/// Does what is asked, answers, pushes, and judges.
pub(super) fn serve(s: &mut State, message: Message, wrong: Wrong) -> Result<(), String> {
    let before = places(s);
    match message {
        Message::Attempt { claim, sent } => {
            let birth = if wrong == Wrong::NoBirth { s.now } else { s.side(claim).birth };
            let place = attempt(s, claim, birth).map_err(refused)?;
            s.shown |= match place {
                Place::Held { .. } => HELD,
                Place::Gone { .. } if s.now > s.side(claim).birth + 3 => REFUSED_BY_AGE,
                Place::Gone { .. } => REFUSED_BY_MARK,
                _ => 0,
            };
            answer(s, claim, sent, Of::Attempt, &place);
        }
        Message::Renew { claim, sent } => {
            let place = match wrong {
                Wrong::Creates => attempt(s, claim, s.now),
                _ => {
                    let now = s.at();
                    Rc::make_mut(&mut s.lines).renew(id(claim), KEY, None, now)
                }
            };
            let place = place.map_err(refused)?;
            s.shown |= if matches!(place, Place::Gone { .. }) { NOTHING_TO_RENEW } else { 0 };
            answer(s, claim, sent, Of::Renewal, &place);
        }
        // The answer to a release changes nothing.
        Message::Release { claim, mark } => {
            release(s, claim, mark).map_err(refused)?;
            if wrong == Wrong::Blind {
                for other in CLAIMS
                    .into_iter()
                    .filter(|c| matches!(before[usize::from(*c)], Place::Held { .. }) && *c != claim)
                {
                    let now = s.at();
                    Rc::make_mut(&mut s.lines)
                        .release(id(other), KEY, now.ns, Trace::Nothing, now)
                        .map_err(refused)?;
                }
            }
        }
        Message::Answer { .. } | Message::Push { .. } => {}
    }
    push(s);
    // What a verb only remembers to be fast is dropped: there are millions of these.
    let lines = Rc::make_mut(&mut s.lines);
    lines.recover();
    *lines = lines.clone();
    lines.check().map_err(|why| format!("check: {why}"))?;
    judge(s, message, &before)
}

fn refused(refusal: Refusal) -> String {
    format!("refused: {refusal:?}")
}

fn attempt(s: &mut State, claim: u8, birth: u8) -> Result<Place, Refusal> {
    let ask = Ask {
        id: id(claim),
        key: KEY,
        kind: Kind::Mutex,
        weight: 1,
        capacity: 1,
        stand: true,
        ttl: nanos(TTL),
        waiting: nanos(TTL),
        birth: server_ns(birth),
        slot: NO_SLOT,
        note: b"",
    };
    let now = s.at();
    Rc::make_mut(&mut s.lines).attempt(&ask, now)
}

fn release(s: &mut State, claim: u8, mark: bool) -> Result<(), Refusal> {
    let trace = if mark { Trace::Mark } else { Trace::Nothing };
    let (now, birth) = (s.at(), server_ns(s.side(claim).birth));
    Rc::make_mut(&mut s.lines).release(id(claim), KEY, birth, trace, now)?;
    s.withdrawn[usize::from(claim)] = true;
    s.marked[usize::from(claim)] |= u8::from(mark) << s.now;
    Ok(())
}

fn answer(s: &mut State, claim: u8, sent: u8, of: Of, place: &Place) {
    let says = match place {
        Place::Held { .. } => Says::Held,
        Place::Waiting { .. } => Says::Waits(s.now),
        Place::Busy | Place::Gone { .. } => Says::Gone,
    };
    s.send(Message::Answer { claim, sent, of, says });
}

/// What happened to others is pushed.
fn push(s: &mut State) {
    let events: Vec<Event> = Rc::make_mut(&mut s.lines).drain_events().collect();
    for event in events {
        if let Event::Granted { id, .. } = event {
            let claim = u8::try_from(id).expect("small") - 1;
            s.send(Message::Push { claim, at: s.now });
        }
    }
}

fn places(s: &State) -> [Place; CLAIMS.len()] {
    CLAIMS.map(|claim| s.lines.peek(id(claim)))
}

fn judge(s: &mut State, message: Message, before: &[Place; CLAIMS.len()]) -> Result<(), String> {
    let (now, after) = (s.at().ns, places(s));
    let lives = |place: &Place| match place {
        Place::Held { end, .. } | Place::Waiting { end, .. } => *end > now,
        _ => false,
    };
    for (claim, (was, is)) in CLAIMS.into_iter().zip(before.iter().zip(&after)) {
        let stands = matches!(is, Place::Held { .. } | Place::Waiting { .. });
        if stands && s.withdrawn[usize::from(claim)] {
            return Err(format!("S9: claim {claim} was withdrawn, and stands in line"));
        }
        let own = matches!(message, Message::Release { claim: own, .. } if own == claim);
        if lives(was) && !stands && !own {
            return Err(format!("S4: claim {claim} vanished, though nobody ended it"));
        }
        let renews = matches!(message, Message::Renew { claim: own, .. } if own == claim);
        if renews && stands && !lives(was) {
            return Err(format!("S10: a renewal made claim {claim}"));
        }
        let Place::Held { token, .. } = *is else { continue };
        let same = matches!(was, Place::Held { token: t, .. } if *t == token);
        if same {
            continue;
        }
        if lives(was) && matches!(was, Place::Held { .. }) {
            return Err(format!("S7: claim {claim} has another token, {token}"));
        }
        if token <= s.highest {
            return Err(format!("S2: the token {token} after {}", s.highest));
        }
        s.highest = token;
        overtaken(claim, before, &after, lives)?;
    }
    match after.iter().filter(|p| matches!(p, Place::Held { .. }) && lives(p)).count() {
        0 | 1 => Ok(()),
        many => Err(format!("S1: {many} hold")),
    }
}

/// L3: nobody who waited before `granted` waits still.
fn overtaken(
    granted: u8,
    before: &[Place; CLAIMS.len()],
    after: &[Place; CLAIMS.len()],
    lives: impl Fn(&Place) -> bool,
) -> Result<(), String> {
    let place = |place: &Place| match place {
        Place::Waiting { ahead, .. } if lives(place) => Some(*ahead),
        _ => None,
    };
    let mine = place(&before[usize::from(granted)]).unwrap_or(u32::MAX);
    for other in CLAIMS.into_iter().filter(|c| *c != granted) {
        let first = place(&before[usize::from(other)]).is_some_and(|ahead| ahead < mine);
        if first && matches!(after[usize::from(other)], Place::Waiting { .. }) {
            return Err(format!("L3: claim {granted} overtook claim {other}"));
        }
    }
    Ok(())
}
