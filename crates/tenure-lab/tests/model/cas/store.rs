//! The store of the model: it compares and sets, and everything that it does is judged.

use tenure::Previous;
use tenure::core::cas::{Object, Outcome, State as Lock};
use tenure::core::moment::nanos;

use super::{
    ALL_DONE, CLIENTS, Errand, Io, LATE_DONE, LATE_REFUSED, Phase, State, TAKEN_OVER, TICK, TTL, Write,
    Wrong, claim, client,
};

/// Serves what a client's call waits for.
pub(super) fn serve(s: &mut State, c: usize, wrong: Wrong) -> Result<(), String> {
    let Some(mut running) = s.sides[c].running.take() else { return Ok(()) };
    match &mut running.io {
        Io::Read { found, .. } => *found = Some((s.current.clone(), s.now - s.written.0)),
        Io::Write { write, outcome } => *outcome = Some(apply(s, write, wrong)?),
    }
    s.sides[c].running = Some(running);
    Ok(())
}

/// Serves a read with what the object was.
pub(super) fn serve_old(s: &mut State, c: usize, which: usize) {
    let old = s.past[which].clone();
    if let Some(Io::Read { found, .. }) = s.sides[c].running.as_mut().map(|running| &mut running.io) {
        *found = Some((old, 0));
    }
}

/// A write arrives whose client waits no longer.
pub(super) fn late(s: &mut State, which: usize, wrong: Wrong) -> Result<(), String> {
    let write = s.late.remove(which);
    if apply(s, &write, wrong)? == Outcome::Done {
        s.shown |= LATE_DONE;
    }
    Ok(())
}

fn apply(s: &mut State, write: &Write, wrong: Wrong) -> Result<Outcome, String> {
    let matches = s.current.as_ref().map(|(version, _)| version) == write.expected.as_ref();
    if !matches && wrong != Wrong::Unconditional {
        return Ok(Outcome::Stale);
    }
    if !versions_recur(wrong) && s.object().is_some_and(|before| before.count >= write.object.count) {
        return Err("S9: the count did not grow, so an old version may come back".into());
    }
    changed(s, write)?;
    let before = s.current.replace((client::version(&write.object, wrong), write.object.clone()));
    if wrong == Wrong::DirectRead {
        s.past.push(before);
    }
    let by = if wrong == Wrong::ClientClocks { write.client } else { 0 };
    s.written = (s.now, by);
    if !versions_recur(wrong) {
        doom(s);
    }
    Ok(Outcome::Done)
}

fn versions_recur(wrong: Wrong) -> bool {
    matches!(wrong, Wrong::NoCount | Wrong::Unconditional)
}

/// Counts grow, so no version comes back: whatever expects an older one is refused, now or later.
fn doom(s: &mut State) {
    let version = s.current.as_ref().map(|(version, _)| version.clone());
    for side in &mut s.sides {
        if let Some(Io::Write { write, outcome }) = side.running.as_mut().map(|running| &mut running.io)
            && outcome.is_none()
            && write.expected != version
        {
            *outcome = Some(Outcome::Stale);
        }
    }
    let leaving = s.sides.each_ref().map(|side| matches!(side.phase, Phase::Leaving | Phase::Over));
    s.late.retain(|write| {
        let matches = write.expected == version;
        s.shown |= if !matches && leaving[write.client] { LATE_REFUSED } else { 0 };
        matches
    });
}

/// What a write may do to what was there.
fn changed(s: &mut State, write: &Write) -> Result<(), String> {
    let (after, writer) = (&write.object, write.client);
    let holds = |object: &Object, c: usize| object.state == Lock::Held && object.claim == Some(claim(c));
    let before = s.object().cloned();
    let held_before = CLIENTS.into_iter().find(|c| before.as_ref().is_some_and(|b| holds(b, *c)));
    let held_after = CLIENTS.into_iter().find(|c| holds(after, *c));
    if let Some(c) = held_after.filter(|c| s.sides[*c].withdrawn && held_before != Some(*c)) {
        return Err(format!("S9: client {c} has withdrawn, and a late write holds"));
    }
    if let Some(c) = held_before.filter(|c| s.believes(*c)) {
        if held_after != Some(c) && writer != c {
            return Err(format!("S4: client {writer} ended the hold of client {c}, which believes in it"));
        }
        if held_after == Some(c) && before.as_ref().is_some_and(|b| b.token != after.token) {
            return Err(format!("S7: client {c} has another token"));
        }
    }
    let same = held_before == held_after && before.as_ref().is_some_and(|b| b.token == after.token);
    if write.errand == Errand::Renewal && !same {
        return Err(format!("S10: a renewal made client {writer} a holder"));
    }
    if let Some(c) = held_after.filter(|_| !same) {
        let token = after.token.map_or(0, tenure::Token::get);
        if token <= s.highest {
            return Err(format!("S2: client {c} has the token {token} after {}", s.highest));
        }
        s.highest = token;
        let truth = match (held_before, &before) {
            (Some(_), _) => Previous::Expired,
            (None, Some(free)) => free.previous,
            (None, None) => Previous::Unknown,
        };
        if after.previous != truth {
            return Err(format!("P: client {c} is told {:?}, and it was {truth:?}", after.previous));
        }
        if held_before.is_some_and(|b| b != c) {
            s.shown |= TAKEN_OVER;
        }
    }
    let freed = held_before.filter(|_| after.state == Lock::Free);
    if freed.is_some_and(|c| c != writer) && after.previous != Previous::Expired {
        return Err(format!("P: client {writer} freed another's hold as {:?}", after.previous));
    }
    Ok(())
}

/// S1: one believer at most. S9: what was withdrawn does not hold, but for what is left of its lease.
pub(super) fn judge(s: &mut State) -> Result<(), String> {
    if CLIENTS.into_iter().all(|c| s.believes(c)) {
        return Err("S1: both clients believe".into());
    }
    for c in CLIENTS.into_iter().filter(|c| s.sides[*c].withdrawn) {
        let fresh = u64::from(s.now - s.written.0) * nanos(TICK) < nanos(TTL);
        let holds = s.object().is_some_and(|o| o.state == Lock::Held && o.claim == Some(claim(c)));
        if holds && fresh {
            return Err(format!("S9: client {c} has withdrawn, and holds"));
        }
    }
    if s.sides.iter().all(|side| side.withdrawn) {
        s.shown |= ALL_DONE;
    }
    Ok(())
}
