//! What clients do wrong.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tenure::Token;
use tenure::backend::{Answer, ClaimId, Grant, Lease, Leave, News, Previous, Released, Standing};
use tenure::core::moment::Moment;

use super::super::machine::Machine;
use super::super::message::{Request, Said, Verb};
use super::super::world::locked;
use super::Mutant;

/// The lease counts from when the answer came, not from when the request left.
pub(super) struct FromAnswer;

impl Mutant for FromAnswer {
    fn sends(&self, verb: &mut Verb) -> Option<Said> {
        ask_for_half(verb);
        None
    }

    fn hears(&self, request: &Request, now: Moment, said: &mut Said) {
        each(said, |standing| {
            if let Standing::Held(Grant { lease: Lease::For(d), .. }) = standing {
                *d += now.since(request.sent);
            }
        });
    }
}

/// Whoever renews hears yes.
pub(super) struct Always;

impl Mutant for Always {
    fn hears(&self, request: &Request, _: Moment, said: &mut Said) {
        if let (Verb::Renew(claims), Said::Answers(answers)) = (&request.verb, said) {
            for (claim, answer) in claims.iter().zip(answers) {
                if let Ok(Answer { standing: standing @ Standing::Gone { .. }, .. }) = answer {
                    let lease = Lease::For(claim.ttl);
                    *standing =
                        Standing::Held(Grant { token: Token::new(1), lease, previous: Previous::Unknown });
                }
            }
        }
    }
}

pub(super) struct NoMark;

impl Mutant for NoMark {
    fn sends(&self, verb: &mut Verb) -> Option<Said> {
        if let Verb::Release(_, leave @ Leave::Final, _) = verb {
            *leave = Leave::Nothing;
        }
        None
    }
}

/// A call that is given up before its answer is forgotten.
pub(super) struct NoWithdrawal;

impl Mutant for NoWithdrawal {
    fn sends(&self, verb: &mut Verb) -> Option<Said> {
        matches!(verb, Verb::Release(_, Leave::Final, _)).then_some(Said::Released(Ok(Released::WasWaiting)))
    }
}

pub(super) struct FromArrival;

impl Mutant for FromArrival {
    fn pushes(&self, news: &mut News) {
        if let News::Granted(_, _, at) = news {
            *at = u64::MAX;
        }
    }
}

/// Whoever asks again asks as somebody else.
#[derive(Default)]
pub(super) struct FreshId(Mutex<HashMap<ClaimId, u128>>);

impl Mutant for FreshId {
    fn sends(&self, verb: &mut Verb) -> Option<Said> {
        if let Verb::Attempt(claim, _) = verb {
            let mut asked = locked(&self.0);
            let times = asked.entry(claim.id).or_default();
            claim.id = ClaimId(claim.id.0.wrapping_add(*times));
            *times += 1;
        }
        None
    }
}

pub(super) struct AlwaysOurs;

impl Mutant for AlwaysOurs {
    fn hears(&self, _: &Request, _: Moment, said: &mut Said) {
        if let Said::Released(Ok(released)) = said {
            *released = Released::WasHeld;
        }
    }
}

/// Time in which the machine stands still does not count.
pub(super) struct Sleepy;

impl Mutant for Sleepy {
    fn lag(&self, machine: &Machine) -> u64 {
        machine.stood.load(Ordering::Relaxed)
    }
}

/// Whoever waits is told, so it does not look.
pub(super) struct Trusts;

impl Mutant for Trusts {
    fn hears(&self, _: &Request, _: Moment, said: &mut Said) {
        each(said, |standing| {
            if let Standing::Waiting { ahead, .. } = standing {
                *ahead = Some(1_000);
            }
        });
    }
}

/// After an answer that nobody waited for, each request gets the answer to the one before.
#[derive(Default)]
pub(super) struct Misaligned(Mutex<HashMap<usize, Said>>);

impl Mutant for Misaligned {
    fn hears(&self, request: &Request, _: Moment, said: &mut Said) {
        if matches!(said, Said::Answer(_)) {
            let mut late = locked(&self.0);
            match late.get_mut(&request.machine) {
                Some(before) => std::mem::swap(before, said),
                None => drop(late.insert(request.machine, copy(said))),
            }
        }
    }
}

/// A renewal that failed once is not tried again (Redisson 775).
#[derive(Default)]
pub(super) struct StopsRenewing(Mutex<HashSet<ClaimId>>);

impl Mutant for StopsRenewing {
    fn sends(&self, verb: &mut Verb) -> Option<Said> {
        let Verb::Renew(claims) = verb else { return None };
        let mut asked = locked(&self.0);
        if claims.iter().any(|claim| asked.contains(&claim.id)) {
            let down = || tenure::Error::unavailable("nothing is sent any more", "");
            return Some(Said::Answers(claims.iter().map(|_| Err(down())).collect()));
        }
        asked.extend(claims.iter().map(|claim| claim.id));
        None
    }

    fn hears(&self, request: &Request, _: Moment, _: &mut Said) {
        if let Verb::Renew(claims) = &request.verb {
            let mut asked = locked(&self.0);
            asked.retain(|id| claims.iter().all(|claim| claim.id != *id));
        }
    }
}

/// Belief ends a lease after the grant, renewed or not (node-redlock 299).
#[derive(Default)]
pub(super) struct FirstGrant(Mutex<HashSet<ClaimId>>);

impl Mutant for FirstGrant {
    fn hears(&self, request: &Request, _: Moment, said: &mut Said) {
        let mut granted = locked(&self.0);
        match (&request.verb, said) {
            (Verb::Attempt(claim, _), Said::Answer(Ok(Answer { standing: Standing::Held(_), .. }))) => {
                granted.insert(claim.id);
            }
            (Verb::Renew(claims), Said::Answers(answers)) => {
                for (claim, answer) in claims.iter().zip(answers.iter_mut().flatten()) {
                    if let Standing::Held(grant) = &mut answer.standing
                        && !granted.insert(claim.id)
                    {
                        grant.lease = Lease::For(Duration::ZERO);
                    }
                }
            }
            _ => {}
        }
    }

    fn pushes(&self, news: &mut News) {
        if let News::Granted(id, ..) = news {
            locked(&self.0).insert(*id);
        }
    }
}

/// A release whose answer is lost is forgotten (CURATOR-678).
#[derive(Default)]
pub(super) struct Once(Mutex<HashSet<ClaimId>>);

impl Mutant for Once {
    fn sends(&self, verb: &mut Verb) -> Option<Said> {
        let Verb::Release(claim, ..) = verb else { return None };
        let first = locked(&self.0).insert(claim.id);
        (!first).then_some(Said::Released(Ok(Released::Gone)))
    }
}

/// Asks the store for half of the lease. The engine never believes in more than it asked for, so this leaves a mutant room
/// to be wrong in.
fn ask_for_half(verb: &mut Verb) {
    let half = |claim: &mut tenure::backend::Claim| claim.ttl /= 2;
    match verb {
        Verb::Attempt(claim, _) => half(claim),
        Verb::Renew(claims) => claims.iter_mut().for_each(half),
        Verb::Transfer(_, to, _) => half(to),
        _ => {}
    }
}

/// The engine believes in a lease as long as the store tells, and not only as long as it asked for: the store is asked for
/// half of what the engine would have believed at most.
pub(super) struct Told;

impl Mutant for Told {
    fn sends(&self, verb: &mut Verb) -> Option<Said> {
        ask_for_half(verb);
        None
    }
}

/// A holder reads without showing its token: it is looked at when it writes.
pub(super) struct AtWrites;

impl Mutant for AtWrites {
    fn shows_tokens(&self) -> bool {
        false
    }
}

fn each(said: &mut Said, mut bend: impl FnMut(&mut Standing)) {
    match said {
        Said::Answer(Ok(answer)) => bend(&mut answer.standing),
        Said::Answers(answers) => answers.iter_mut().flatten().for_each(|a| bend(&mut a.standing)),
        _ => {}
    }
}

fn copy(said: &Said) -> Said {
    match said {
        Said::Answer(Ok(answer)) => Said::Answer(Ok(answer.clone())),
        _ => Said::Answer(Err(tenure::Error::uncertain("the connection broke", ""))),
    }
}

/// A session lasts from the last ping that was answered.
pub(super) struct Pinged;

impl Mutant for Pinged {
    fn trusts_pings(&self) -> bool {
        true
    }
}

/// What is under way for a claim goes on, read by read and write by write, after the claim was withdrawn.
pub(super) struct GoesOn;

impl Mutant for GoesOn {
    fn stops(&self) -> bool {
        false
    }
}
