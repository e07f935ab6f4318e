//! What the backends that run [`Lines`](crate::core::line::Lines) themselves share: translations between the contract
//! and the line.

use std::time::Duration;

use super::{
    Answer, Broken, Claim, ClaimId, Grant, Lease, Leave, Line, News, Previous, Query, Released, Seen,
    Standing, note, refusal,
};
use crate::core::lease::LOOK_AGAIN_MAX;
use crate::core::line::{
    Arena, Ask, ClaimRow, Event, Found, Kind, LineRow, Lines, Now, Place, Refusal, Trace,
};
use crate::core::moment::nanos;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::token::Token;

/// The shortest pause before another look.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(10);
/// How many lines one page has.
const PAGE: usize = 256;

/// The claim as the line sees it; `note` is what [`note::encode`] made of it.
pub(super) fn ask<'a>(claim: &'a Claim, slot: u32, note: &'a [u8]) -> Ask<'a> {
    Ask {
        id: claim.id.0,
        key: claim.key.full().as_bytes(),
        kind: claim.kind,
        weight: claim.weight,
        capacity: claim.capacity,
        stand: claim.stand,
        ttl: nanos(claim.ttl),
        waiting: nanos(claim.waiting),
        birth: claim.birth.nanos(),
        slot,
        note,
    }
}

/// What a line says of a claim, as the store's answer at `now`.
pub(super) fn answer(place: Place, now: Now) -> Answer {
    let lease = |end: u64| Lease::For(Duration::from_nanos(end.saturating_sub(now.ns)));
    let standing = match place {
        Place::Held { token, end, previous } => {
            Standing::Held(Grant { token: Token::new(token), lease: lease(end), previous })
        }
        Place::Waiting { ahead, end, look } => {
            let pause = Duration::from_nanos(look.saturating_sub(now.ns));
            let look_again = pause.clamp(LOOK_AGAIN_MIN, LOOK_AGAIN_MAX);
            Standing::Waiting { place: Some(lease(end)), ahead: Some(ahead), look_again }
        }
        Place::Busy => Standing::Busy,
        Place::Gone { why } => Standing::Gone { why },
    };
    Answer { standing, at: Some(now.ns) }
}

/// Takes out what happened to claims other than `own`, as news for them.
pub(super) fn news<A: Arena>(lines: &mut Lines<A>, own: Option<ClaimId>, now: Now) -> Vec<News> {
    let events: Vec<Event> = lines.drain_events().collect();
    events.into_iter().filter_map(|event| piece(lines, &event, own, now)).collect()
}

fn piece<A: Arena>(lines: &Lines<A>, event: &Event, own: Option<ClaimId>, now: Now) -> Option<News> {
    let (Event::Granted { id, .. } | Event::Evicted { id, .. }) = *event;
    if own == Some(ClaimId(id)) {
        return None; // the verb's own answer says it
    }
    match (event, answer(lines.peek(id), now).standing) {
        (Event::Granted { .. }, Standing::Held(grant)) => Some(News::Granted(ClaimId(id), grant, now.ns)),
        (Event::Evicted { .. }, Standing::Gone { why }) => Some(News::Gone(ClaimId(id), why)),
        _ => None,
    }
}

/// What a release leaves.
pub(super) fn trace(leave: Leave) -> Trace {
    match leave {
        Leave::Nothing => Trace::Nothing,
        Leave::Final => Trace::Mark,
        Leave::For(d) => Trace::For(nanos(d)),
    }
}

/// What a release found.
pub(super) fn released(found: Found) -> Released {
    match found {
        Found::Held => Released::WasHeld,
        Found::Waiting => Released::WasWaiting,
        Found::Nothing => Released::Gone,
    }
}

/// What an eviction found.
pub(super) fn evicted(holds: u32) -> Released {
    if holds > 0 { Released::WasHeld } else { Released::Gone }
}

/// A refusal, as the caller reads it. `asked` is the kind that the claim was for, where there was one.
pub(super) fn refused(why: Refusal, key: &Key, asked: Option<Kind>) -> Error {
    let error = match why {
        Refusal::Kind(live) => refusal::other_kind(Some(live), asked),
        Refusal::Weight => refusal::weight(),
        Refusal::Larger => refusal::larger(),
        Refusal::Full => Error::unavailable(
            "the store has no room for more claims",
            "release locks, or give the store more room",
        ),
        Refusal::TooMany => refusal::too_many(),
        Refusal::Ceiling(token) => Error::unavailable(
            format!("the next fencing token would be {token}, which the store may not give yet"),
            "set this machine's clock right if it runs ahead, and try again",
        ),
        Refusal::Corrupt => Error::protocol(
            "the store's content is damaged",
            "stop all programs that use it, remove it, and start them again",
        ),
    };
    error.of(key)
}

/// The page of lines that was asked for, and where the next one begins.
///
/// # Errors
/// `Config` where the query's place is not one that a page ended with.
pub(super) fn page<A: Arena>(
    lines: &Lines<A>,
    query: &Query,
    now: Now,
) -> Result<(Vec<LineRow>, Option<String>)> {
    if let Some(name) = &query.name {
        let row = lines.view(format!("{}/{name}", query.namespace).as_bytes(), query.waiting_max, now);
        return Ok((row.into_iter().collect(), None));
    }
    let after = match &query.after {
        None => None,
        Some(text) => Some(u128::from_str_radix(text, 16).map_err(|_| {
            Error::config(format!("{text:?} is not where a page ended"), "begin again with the first page")
        })?),
    };
    let prefix =
        if query.prefix.is_empty() { String::new() } else { format!("{}/{}", query.namespace, query.prefix) };
    let (rows, next) =
        lines.page(query.namespace.as_bytes(), prefix.as_bytes(), after, PAGE, query.waiting_max, now);
    Ok((rows, next.map(|hash| format!("{hash:032x}"))))
}

/// A line as `inspect` shows it.
///
/// # Errors
/// `Protocol` where its name is not one that any lock can have.
pub(super) fn line(row: LineRow, now: Now) -> Result<Line> {
    let key =
        String::from_utf8(row.key).ok().and_then(|full| Key::from_full(&full).ok()).ok_or_else(|| {
            Error::protocol(
                "the store holds a lock whose name no lock can have",
                "remove the store and start again",
            )
        })?;
    let mut line = Line::new(key, row.kind, row.capacity);
    line.token = Token::new(row.token);
    line.previous = row.holders.last().map_or(Previous::Unknown, |newest| newest.previous);
    line.holders = row.holders.iter().map(|c| seen(c, now)).collect();
    line.waiting = row.waiting.iter().map(|c| seen(c, now)).collect();
    line.waiters = row.waiters;
    line.broken = row.broken.map(|(at_us, token, why)| Broken {
        at_us,
        token: Token::new(token),
        why: String::from_utf8_lossy(&why).into_owned(),
    });
    Ok(line)
}

fn seen(row: &ClaimRow, now: Now) -> Seen {
    let (owner, reason) = note::decode(&row.note);
    Seen {
        claim: ClaimId(row.id).short(),
        owner,
        reason,
        since_us: row.since_us,
        expires_in: Some(Duration::from_nanos(row.end.saturating_sub(now.ns))),
        weight: row.weight,
        token: Token::new(row.token),
        behind: 0,
    }
}
