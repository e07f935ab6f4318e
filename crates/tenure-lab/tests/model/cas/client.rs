//! A client of the model: it drives the product's [`Call`], and believes what that answers.

use tenure::Previous;
use tenure::core::cas::{
    Answer, Ask, Call, Now, Object, Outcome, Seen, State as Lock, Step, Unanswered, Verb,
};
use tenure::core::lease;

use super::{
    Current, Errand, HELD, Io, Phase, RENEWED, Running, SETTLED, State, TAKEN, TICK, TTL, Write, Wrong,
    claim, moment,
};

/// By how many ticks the second client's clock is ahead, if clients compare clocks.
const SKEW: u8 = 2;

fn ask(client: usize) -> Ask {
    Ask { claim: claim(client), ttl: TTL, tokens: 1, note: "".into() }
}

/// A call begins with a read.
pub(super) fn begin(s: &mut State, c: usize, errand: Errand, wrong: Wrong) {
    let side = &mut s.sides[c];
    let verb = match errand {
        Errand::Renewal if wrong != Wrong::RenewalCreates => Verb::Renew(ask(c)),
        Errand::Attempt | Errand::Renewal => Verb::Attempt(ask(c)),
        Errand::Release => Verb::Release { claim: claim(c), used: 1, keep: None },
    };
    match errand {
        Errand::Attempt => side.attempts += 1,
        Errand::Renewal => side.renewals += 1,
        Errand::Release => {}
    }
    let stamp = 100 * c as u64 + 10 * u64::from(side.attempts) + u64::from(side.renewals);
    let earlier = if wrong == Wrong::NoBump { Unanswered::Nothing } else { side.unanswered.clone() };
    let io = Io::Read { sent: s.now, found: None };
    side.running =
        Some(Running { call: Call::new(verb, earlier, stamp), errand, sent: s.now, io, again: false });
}

/// The claim is withdrawn. One that waits, and of which nothing is on the way, needs no request for that.
pub(super) fn give_up(s: &mut State, c: usize, wrong: Wrong) {
    let side = &mut s.sides[c];
    if let Some(running) = side.running.take() {
        side.unanswered = running.call.unanswered();
        if let Io::Write { write, outcome: None } = running.io {
            s.late.push(write);
        }
    } else if side.phase == Phase::Waiting && side.unanswered == Unanswered::Nothing {
        (side.phase, side.withdrawn) = (Phase::Over, true);
        return;
    }
    side.phase = Phase::Leaving;
    begin(s, c, Errand::Release, wrong);
}

/// An answer arrives.
pub(super) fn hear(s: &mut State, c: usize, wrong: Wrong) {
    let Some(mut running) = s.sides[c].running.take() else { return };
    let now = Now { boot: moment(s.now), wall_us: 1 };
    let step = match running.io.clone() {
        Io::Read { sent, found } => {
            let (current, age) = found.expect("it was served");
            let seen =
                seen(s, c, current, if wrong == Wrong::SeenWhenSent { sent } else { s.now }, age, wrong);
            match own(&seen, c) {
                Some(held) if wrong == Wrong::HeldByReading && running.errand != Errand::Release => {
                    Step::Answer(held)
                }
                _ => running.call.decide(&seen, now),
            }
        }
        Io::Write { outcome: Some(Outcome::Stale), .. } if running.again => {
            Step::Answer(Answer::Taken { look_again: TICK })
        }
        Io::Write { outcome, .. } => running.call.after_write(outcome.expect("it was served")),
    };
    next(s, c, running, step);
}

/// The claim's own hold, as a read shows it.
fn own(seen: &Seen, c: usize) -> Option<Answer> {
    let (_, object) = seen.current.as_ref()?;
    let held = object.state == Lock::Held && object.claim == Some(claim(c));
    held.then_some(Answer::Held { token: object.token, previous: Previous::Unknown })
}

fn seen(s: &mut State, c: usize, current: Current, arrived: u8, age: u8, wrong: Wrong) -> Seen {
    let version = current.as_ref().map(|(version, _)| version.clone());
    let sight = &mut s.sides[c].sight;
    *sight = version.map(|version| match sight.take() {
        Some((before, since)) if before == version => (before, since),
        _ => (version, arrived),
    });
    let first_seen = moment(sight.as_ref().map_or(0, |(_, since)| *since));
    let ahead = if wrong == Wrong::ClientClocks && c == 1 && s.written.1 == 0 { SKEW } else { 0 };
    let tells = c == 0 || wrong == Wrong::ClientClocks;
    let store_age = tells.then(|| TICK * u32::from(age + ahead));
    Seen { current, first_seen, store_age, fresh: true }
}

/// The client waits no longer for its write.
pub(super) fn time_out(s: &mut State, c: usize, wrong: Wrong) {
    let Some(mut running) = s.sides[c].running.take() else { return };
    s.timeouts += 1;
    let Io::Write { write, outcome } = running.io.clone() else { return };
    match outcome {
        None => s.late.push(write.clone()),
        Some(Outcome::Done) => s.shown |= SETTLED,
        Some(_) => {}
    }
    if wrong == Wrong::BlindRetry && !running.again {
        running.again = true;
        running.io = Io::Write { write, outcome: None };
        s.sides[c].running = Some(running);
        return;
    }
    let step = running.call.after_write(Outcome::Unknown);
    next(s, c, running, step);
}

/// Follows the call's next step.
fn next(s: &mut State, c: usize, mut running: Running, step: Step) {
    match step {
        Step::Answer(answer) => return over(s, c, &running, &answer),
        Step::Read => running.io = Io::Read { sent: s.now, found: None },
        Step::Write { expected, object } => {
            let write = Write { client: c, errand: running.errand, expected, object };
            running.io = Io::Write { write, outcome: None };
        }
    }
    s.sides[c].running = Some(running);
}

/// A call is over.
fn over(s: &mut State, c: usize, running: &Running, answer: &Answer) {
    let (now, side) = (moment(s.now), &mut s.sides[c]);
    side.unanswered = if running.again { Unanswered::Nothing } else { running.call.unanswered() };
    let until = lease::deadline(moment(running.sent), TTL);
    match (running.errand, answer) {
        (Errand::Release, _) => (side.phase, side.withdrawn) = (Phase::Over, true),
        (Errand::Attempt, Answer::Held { .. }) => {
            side.phase = Phase::Held { until };
            s.shown |= HELD;
        }
        (Errand::Attempt, _) => {
            side.phase = Phase::Waiting;
            s.shown |= TAKEN;
        }
        (Errand::Renewal, Answer::Held { .. }) => {
            // Past its deadline it is lost, for good.
            if let Phase::Held { until: before } = side.phase
                && now < before
                && until > before
            {
                side.phase = Phase::Held { until };
                s.shown |= RENEWED;
            }
        }
        (Errand::Renewal, _) => side.phase = Phase::Over,
    }
}

/// What changes nothing any more is forgotten, so that fewer states differ.
pub(super) fn forget(s: &mut State) {
    for side in s.sides.iter_mut().filter(|side| matches!(side.phase, Phase::Leaving | Phase::Over)) {
        (side.attempts, side.renewals) = (0, 0);
        if side.phase == Phase::Over {
            (side.sight, side.unanswered) = (None, Unanswered::Nothing);
        }
    }
}

/// The version of a body, as an ETag is made.
pub(super) fn version(object: &Object, wrong: Wrong) -> tenure::core::cas::Version {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    let (count, stamp) = if wrong == Wrong::NoCount { (0, 0) } else { (object.count, object.stamp) };
    Object { count, stamp, ..object.clone() }.hash(&mut hasher);
    tenure::core::cas::Version::new(&format!("{:x}", hasher.finish()))
}
