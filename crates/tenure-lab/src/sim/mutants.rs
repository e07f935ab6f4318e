//! Wrong protocols, each a few lines away from the right one: the simulation must notice every one of them.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure::Token;
use tenure::backend::{Answer, Claim, ClaimId, Grant, Lease, Leave, News, Released, Standing};
use tenure::core::line::Trace;
use tenure::core::moment::Moment;

use super::judge::Judge;
use super::link::{Request, Said, Verb};
use super::machine::Machine;
use super::server::{Served, Server};
use super::world::locked;

/// Where a run can be bent.
pub(super) trait Mutant: Send + Sync {
    /// A request is about to leave: changed, or answered at once.
    fn sends(&self, _verb: &mut Verb) -> Option<Said> {
        None
    }
    /// The server does something else with it.
    fn serves(
        &self,
        _server: &mut Server,
        _judge: &mut Judge,
        _t: u64,
        _request: &Request,
    ) -> Option<Served> {
        None
    }
    /// An answer is about to be heard at `now`, on the client's clock.
    fn hears(&self, _request: &Request, _now: Moment, _said: &mut Said) {}
    /// A push is about to be told.
    fn pushes(&self, _news: &mut News) {}
    /// Whether a holder shows its token already when it reads.
    fn shows_tokens(&self) -> bool {
        true
    }
    /// By how much less than the clock the engine is shown.
    fn lag(&self, _machine: &Machine) -> u64 {
        0
    }
}

/// A wrong protocol.
pub(super) struct Wrong {
    pub(super) name: &'static str,
    /// The rules of which it breaks one.
    pub(super) breaks: &'static [&'static str],
    pub(super) make: fn() -> Arc<dyn Mutant>,
}

macro_rules! mutants {
    ($($name:ident: $make:expr, $($rule:literal)+;)*) => {
        /// All of them.
        pub(super) const MUTANTS: &[Wrong] =
            &[$(Wrong { name: stringify!($name), breaks: &[$($rule),+], make: || Arc::new($make) }),*];
    };
}

mutants! {
    a_deadline_from_the_answer: FromAnswer, "S5" "S1";
    a_renewal_that_creates: Creates, "S10";
    a_renewal_that_is_always_granted: Always, "S1" "S2" "S5";
    no_withdrawal_mark: NoMark, "S9" "S6";
    no_withdrawal_of_what_is_unanswered: NoWithdrawal, "S6" "L1/L2";
    a_push_trusted_from_its_arrival: FromArrival, "S1" "S5" "S8";
    a_retry_under_a_fresh_id: FreshId::default(), "S6" "S8" "L1/L2";
    a_release_without_a_look_at_the_owner: Blind, "S1" "S4" "S5";
    a_release_that_is_always_ours: AlwaysOurs, "S8";
    tokens_that_count_from_one: Counting, "S2" "S3";
    a_birth_that_nobody_checks: Unborn, "S9" "S6";
    a_lock_without_a_lease: Endless, "L1/L2" "S6";
    a_clock_that_sleeps_with_the_machine: Sleepy, "S5" "S1";
    a_waiter_that_trusts_its_push: Trusts, "L5";
    an_answer_to_another_question: Misaligned::default(), "S1" "S2" "S4" "S5" "S6" "S7";
}

/// The lease counts from when the answer came, not from when the request left.
struct FromAnswer;

impl Mutant for FromAnswer {
    fn hears(&self, request: &Request, now: Moment, said: &mut Said) {
        each(said, |standing| {
            if let Standing::Held(Grant { lease: Lease::For(d), .. }) = standing {
                *d += now.since(request.sent);
            }
        });
    }
}

fn each(said: &mut Said, mut bend: impl FnMut(&mut Standing)) {
    match said {
        Said::Answer(Ok(answer)) => bend(&mut answer.standing),
        Said::Answers(answers) => answers.iter_mut().flatten().for_each(|a| bend(&mut a.standing)),
        _ => {}
    }
}

/// A renewal takes the lock where it is gone.
struct Creates;

impl Mutant for Creates {
    fn serves(&self, server: &mut Server, judge: &mut Judge, t: u64, request: &Request) -> Option<Served> {
        let Verb::Renew(claims) = &request.verb else { return None };
        let (now, mut news, mut answers) = (server.now(t), Vec::new(), Vec::new());
        for claim in claims {
            let answer = server.attempt(claim, now.ns, now);
            server.news(judge, request.serving(t, now), Some(claim.id), now, &mut news);
            judge.renewed(request.serving(t, now), claim, &answer);
            answers.push(answer);
        }
        Some((Said::Answers(answers), news))
    }
}

/// Whoever renews hears yes.
struct Always;

impl Mutant for Always {
    fn hears(&self, request: &Request, _: Moment, said: &mut Said) {
        if let (Verb::Renew(claims), Said::Answers(answers)) = (&request.verb, said) {
            for (claim, answer) in claims.iter().zip(answers) {
                if let Ok(Answer { standing: standing @ Standing::Gone { .. }, .. }) = answer {
                    let lease = Lease::For(claim.ttl);
                    *standing = Standing::Held(Grant { token: Token::new(1), reserved: 1, lease });
                }
            }
        }
    }
}

struct NoMark;

impl Mutant for NoMark {
    fn sends(&self, verb: &mut Verb) -> Option<Said> {
        if let Verb::Release(_, leave @ Leave::Mark, _) = verb {
            *leave = Leave::Nothing;
        }
        None
    }
}

/// A call that is given up before its answer is forgotten.
struct NoWithdrawal;

impl Mutant for NoWithdrawal {
    fn sends(&self, verb: &mut Verb) -> Option<Said> {
        matches!(verb, Verb::Release(_, Leave::Mark, _)).then_some(Said::Released(Ok(Released::WasWaiting)))
    }
}

struct FromArrival;

impl Mutant for FromArrival {
    fn pushes(&self, news: &mut News) {
        if let News::Granted(_, _, at) = news {
            *at = Some(u64::MAX);
        }
    }
}

/// Whoever asks again asks as somebody else.
#[derive(Default)]
struct FreshId(Mutex<HashMap<ClaimId, u128>>);

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

/// The lock is deleted, whoever has it.
struct Blind;

impl Mutant for Blind {
    fn serves(&self, server: &mut Server, _: &mut Judge, t: u64, request: &Request) -> Option<Served> {
        let Verb::Release(claim, ..) = &request.verb else { return None };
        let (key, now) = (claim.key.full().as_bytes(), server.now(t));
        let row = server.lines.view(key, 0, now)?;
        for holder in row.holders.iter().filter(|h| h.id != claim.id.0) {
            let _ = server.lines.release(holder.id, key, now.ns, Trace::Nothing, now);
        }
        None
    }
}

struct AlwaysOurs;

impl Mutant for AlwaysOurs {
    fn hears(&self, _: &Request, _: Moment, said: &mut Said) {
        if let Said::Released(Ok(released)) = said {
            *released = Released::WasHeld;
        }
    }
}

/// The next token is the last one and one more, in memory.
struct Counting;

impl Mutant for Counting {
    fn serves(&self, server: &mut Server, _: &mut Judge, _: u64, _: &Request) -> Option<Served> {
        server.counting = true;
        None
    }
}

/// A request that is older than marks live is let in.
struct Unborn;

impl Mutant for Unborn {
    fn serves(&self, server: &mut Server, judge: &mut Judge, t: u64, request: &Request) -> Option<Served> {
        let now = server.now(t);
        let Verb::Attempt(claim, birth) = &request.verb else { return None };
        (*birth < now.ns).then(|| {
            let verb = Verb::Attempt(claim.clone(), now.ns);
            server.serve(judge, t, &Request { verb, ..request.clone() })
        })
    }
}

/// A lock ends when it is released.
struct Endless;

impl Mutant for Endless {
    fn serves(&self, server: &mut Server, judge: &mut Judge, t: u64, request: &Request) -> Option<Served> {
        let now = server.now(t);
        let Verb::Attempt(claim, birth) = &request.verb else { return None };
        let day = Duration::from_secs(24 * 60 * 60);
        let answer = server.attempt(&Claim { ttl: day, ..claim.clone() }, *birth, now);
        let mut news = Vec::new();
        server.at_home(claim.id, request.machine);
        server.news(judge, request.serving(t, now), Some(claim.id), now, &mut news);
        judge.attempted(request.serving(t, now), claim, &answer);
        Some((Said::Answer(answer), news))
    }
}

/// Time in which the machine stands still does not count.
struct Sleepy;

impl Mutant for Sleepy {
    fn lag(&self, machine: &Machine) -> u64 {
        machine.stood.load(Ordering::Relaxed)
    }
}

/// Whoever waits is told, so it does not look.
struct Trusts;

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
struct Misaligned(Mutex<HashMap<usize, Said>>);

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

fn copy(said: &Said) -> Said {
    match said {
        Said::Answer(Ok(answer)) => Said::Answer(Ok(answer.clone())),
        _ => Said::Answer(Err(tenure::Error::uncertain("the connection broke", ""))),
    }
}
