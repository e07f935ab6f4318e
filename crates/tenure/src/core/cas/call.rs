//! One call: what it reads leads to a write, and what comes of the write to an answer.

use super::{
    Answer, Ask, Broken, Now, Object, Outcome, Previous, Seen, State, Step, Unanswered, Verb, Version,
};
use crate::token::Token;

/// One verb on one lock, from the first read to the answer.
///
/// The driver reads (or takes what it has cached), calls [`decide`](Call::decide), and follows the steps. When the caller
/// abandons it, [`unanswered`](Call::unanswered) says what the claim's next call must know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    verb: Verb,
    /// What its writes are known by.
    stamp: u64,
    /// What earlier calls of the claim left behind.
    earlier: Unanswered,
    /// What this call wrote last, if that is not answered.
    own: Unanswered,
    /// The last write of this call, and how the call ends if it took effect.
    written: Option<(Object, Answer)>,
    /// Whether the outcome of one of its writes was unknown.
    in_doubt: bool,
}

impl Call {
    /// A call. `earlier` is what earlier calls of the claim left behind. `stamp` is drawn at random for each call: its writes
    /// are known by it.
    #[must_use]
    pub fn new(verb: Verb, earlier: Unanswered, stamp: u64) -> Call {
        Call { verb, stamp, earlier, own: Unanswered::Nothing, written: None, in_doubt: false }
    }

    /// The write that may still take effect if the call is abandoned now.
    #[must_use]
    pub fn unanswered(&self) -> Unanswered {
        self.own.clone().or(self.earlier.clone())
    }

    /// What to do about what was read.
    pub fn decide(&mut self, seen: &Seen, now: Now) -> Step {
        let settled = self.written.take_if(|(object, _)| self.in_doubt && seen.object() == Some(object));
        if seen.fresh {
            let after =
                |unanswered: &mut Unanswered| std::mem::take(unanswered).after_reading(seen.version());
            (self.own, self.earlier) = (after(&mut self.own), after(&mut self.earlier));
        }
        let step = match settled {
            Some((_, answer)) => Step::Answer(answer),
            None => self.next(seen, now),
        };
        if seen.fresh || matches!(step, Step::Write { .. }) { step } else { Step::Read }
    }

    fn next(&mut self, seen: &Seen, now: Now) -> Step {
        match self.verb.clone() {
            Verb::Attempt(ask) => self.attempt(&ask, seen, now),
            Verb::Renew(ask) => self.renew(&ask, seen, now),
            Verb::Release { claim, used, keep } => {
                let hold = held_by(claim, seen, now).cloned();
                match hold {
                    Some(hold) => {
                        let next = Object { token: used_up_to(&hold, used), tokens: 1, broken: None, ..hold };
                        let next = match keep {
                            Some(ttl) => Object { state: State::Kept, ttl, ..next },
                            None => Object { state: State::Free, previous: Previous::Released, ..next },
                        };
                        self.write(seen, now, next, Answer::Ended)
                    }
                    None => self.withdraw(claim, seen, now),
                }
            }
            Verb::Transfer { from, used, to } => self.transfer(from, used, &to, seen, now),
            Verb::Evict { token, why } => {
                let hold = seen.taken(now).filter(|hold| token.is_none_or(|token| hold.has(token)));
                let Some(hold) = hold.cloned() else { return Step::Answer(self.over(Answer::NotHeld)) };
                let broken = Broken { claim: hold.claim, token: hold.token, at_us: now.wall_us, why };
                let next = Object {
                    state: State::Free,
                    previous: Previous::Evicted,
                    token: hold.last_token(),
                    tokens: 1,
                    broken: Some(broken),
                    ..hold
                };
                self.write(seen, now, next, Answer::Ended)
            }
        }
    }

    /// What to do about what came of the write.
    pub fn after_write(&mut self, outcome: Outcome) -> Step {
        match outcome {
            // The version that was current until now is over, and so are all before it.
            Outcome::Done => {
                (self.own, self.earlier) = (Unanswered::Nothing, Unanswered::Nothing);
                self.written.take().map_or(Step::Read, |(_, answer)| Step::Answer(answer))
            }
            Outcome::Stale => {
                (self.own, self.written) = (Unanswered::Nothing, None);
                Step::Read
            }
            Outcome::Unknown => {
                self.in_doubt = true;
                Step::Read
            }
        }
    }

    fn attempt(&mut self, ask: &Ask, seen: &Seen, now: Now) -> Step {
        match seen.taken(now) {
            Some(hold) if hold.claim == Some(ask.claim) && hold.state == State::Held => {
                self.hold_on(hold.clone(), ask, seen, now)
            }
            Some(hold) if hold.claim == Some(ask.claim) => Step::Answer(Answer::Gone { why: None }),
            Some(hold) => Step::Answer(Answer::Taken { look_again: seen.left(hold, now) }),
            None => {
                let Some(token) = next_token(seen.object(), now) else {
                    return Step::Answer(Answer::Exhausted);
                };
                let granted = Object {
                    token: Some(token),
                    tokens: ask.tokens.max(1),
                    state: State::Held,
                    claim: Some(ask.claim),
                    note: ask.note.clone(),
                    ttl: ask.ttl,
                    previous: seen.how_ended(),
                    ..seen.object().cloned().unwrap_or_else(|| Object::new(now))
                };
                self.write_held(seen, now, granted)
            }
        }
    }

    fn renew(&mut self, ask: &Ask, seen: &Seen, now: Now) -> Step {
        match held_by(ask.claim, seen, now) {
            Some(hold) => self.hold_on(hold.clone(), ask, seen, now),
            None => Step::Answer(gone(ask.claim, seen)),
        }
    }

    fn transfer(&mut self, from: u128, used: u32, to: &Ask, seen: &Seen, now: Now) -> Step {
        if let Some(hold) = held_by(to.claim, seen, now) {
            return self.hold_on(hold.clone(), to, seen, now);
        }
        let Some(hold) = held_by(from, seen, now) else { return Step::Answer(gone(from, seen)) };
        let next = Object {
            claim: Some(to.claim),
            token: used_up_to(hold, used),
            tokens: to.tokens.max(1),
            ..hold.clone()
        };
        self.hold_on(next, to, seen, now)
    }

    /// Writes a hold once more: that is what renews it.
    fn hold_on(&mut self, hold: Object, ask: &Ask, seen: &Seen, now: Now) -> Step {
        let next = Object { ttl: ask.ttl, note: ask.note.clone(), ..hold };
        self.write_held(seen, now, next)
    }

    fn write_held(&mut self, seen: &Seen, now: Now, next: Object) -> Step {
        let answer = Answer::Held { token: next.token, previous: next.previous };
        self.write(seen, now, next, answer)
    }

    /// The claim holds nothing. If a late write of it could still match, the object gets a new version.
    fn withdraw(&mut self, claim: u128, seen: &Seen, now: Now) -> Step {
        let answer = self.over(Answer::NotHeld);
        let own = seen.object().is_some_and(|o| o.state == State::Held && o.claim == Some(claim));
        if self.unanswered() == Unanswered::Nothing && !own {
            return Step::Answer(answer);
        }
        let live = seen.taken(now).is_some();
        let next = match seen.object().cloned() {
            None => Object::new(now),
            Some(object) if live || object.state == State::Free => object,
            // What has ended must not look alive for another lease because its version is new.
            Some(ended) => Object {
                state: State::Free,
                previous: seen.how_ended(),
                token: ended.last_token(),
                tokens: 1,
                ..ended
            },
        };
        self.write(seen, now, next, answer)
    }

    /// The answer about a hold that is not there; after a write in doubt, nobody knows who ended it.
    fn over(&self, answer: Answer) -> Answer {
        if self.in_doubt { Answer::Unsure } else { answer }
    }

    /// Every write goes through here: it raises the count, has the call's stamp, and is remembered until it is
    /// answered.
    fn write(&mut self, seen: &Seen, now: Now, next: Object, answer: Answer) -> Step {
        let expected: Option<Version> = seen.version().cloned();
        let count = match seen.object() {
            Some(object) => object.count.saturating_add(1),
            None => Object::new(now).count,
        };
        let object = Object { count, stamp: self.stamp, ..next };
        self.own = Unanswered::Expecting(expected.clone());
        self.written = Some((object.clone(), answer));
        Step::Write { expected, object }
    }
}

/// The hold of this claim, if it has not ended.
fn held_by(claim: u128, seen: &Seen, now: Now) -> Option<&Object> {
    seen.taken(now).filter(|hold| hold.state == State::Held && hold.claim == Some(claim))
}

/// The claim holds nothing; if it was evicted, why.
fn gone(claim: u128, seen: &Seen) -> Answer {
    let broken = seen.object().and_then(|object| object.broken.as_ref());
    let why = broken.filter(|broken| broken.claim == Some(claim)).map(|broken| broken.why.clone());
    Answer::Gone { why }
}

/// The last token that was used, of those that belong to a hold.
fn used_up_to(hold: &Object, used: u32) -> Option<Token> {
    hold.token.and_then(|token| token.later(used.clamp(1, hold.tokens) - 1))
}

/// Greater than every token before it, and at least the wall clock's µs, so that a lock whose object was lost does not go
/// back.
fn next_token(object: Option<&Object>, now: Now) -> Option<Token> {
    let wall = i64::try_from(now.wall_us).ok().and_then(Token::new);
    match object.filter(|object| object.token.is_some()) {
        Some(object) => object.last_token()?.later(1).map(|next| wall.map_or(next, |wall| wall.max(next))),
        None => wall.or(Token::new(1)),
    }
}
