//! Holds and cohorts between threads: the very code of `hold.rs`, `inner.rs` and `cohort.rs`, in many of the schedules that their threads
//! may run in.
//!
//! Shuttle finds a lost wake-up as a deadlock: somebody waits and nobody runs.

// Compiled once more, with the synchronisation of the module beside it.
#[allow(dead_code, clippy::duplicate_mod)]
#[path = "../cohort.rs"]
mod cohort;
#[allow(dead_code, clippy::duplicate_mod)]
#[path = "../hold.rs"]
mod hold;
#[allow(dead_code, clippy::duplicate_mod)]
#[path = "../inner.rs"]
mod inner;
mod sync {
    pub(super) use shuttle::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    pub(super) use shuttle::sync::{Mutex, MutexGuard};
}
use crate::engine::telling;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

use shuttle::future::block_on;
use shuttle::thread;

use self::cohort::{Cohorts, Entered, Given, Lead, Number};
use self::hold::{Ended, Hold, Next, Phase};
use super::{Request, gone, grant, held, owner, request, waiting};
use crate::backend::{Anchor, Answer, Claim, ClaimId, Cohort, Leave, Standing};
use crate::core::lease;
use crate::core::moment::Moment;
use crate::error::LostReason;

/// How many schedules of each scenario are tried.
const SCHEDULES: usize = 3000;
const SENT: Moment = Moment(1_000_000_000);
const NOW: Moment = Moment(2_000_000_000);

fn fresh() -> Arc<Hold> {
    let request = request(super::TTL);
    Arc::new(Hold::new(Claim {
        id: ClaimId(7),
        key: request.key,
        kind: request.kind,
        weight: 1,
        capacity: 1,
        stand: true,
        ttl: request.ttl,
        waiting: lease::TTL_WAITING,
        cohort: Cohort::ALONE,
        birth: SENT,
        anchor: Anchor::Process,
        owner: owner(1),
        reason: request.reason,
    }))
}

fn in_line() -> Arc<Hold> {
    let hold = fresh();
    hold.answered(SENT, SENT, waiting(0, Some(0)));
    hold
}

fn holding() -> Arc<Hold> {
    let hold = fresh();
    hold.answered(SENT, SENT, held(1, Some(0)));
    hold
}

/// Busy, and the store keeps no place for it.
fn polls() -> Standing {
    Standing::Waiting { place: None, ahead: None, look_again: super::MS }
}

/// Waits as the acquiring future does.
fn await_grant(hold: &Hold) -> Phase {
    block_on(poll_fn(|cx| {
        let mut inner = hold.inner();
        match &inner.phase {
            Phase::Asking | Phase::Waiting => {
                inner.await_change(cx.waker());
                Poll::Pending
            }
            other => Poll::Ready(other.clone()),
        }
    }))
}

/// Waits as `Guard::lost` does.
fn await_loss(hold: &Hold, now: Moment) -> LostReason {
    let mut slot = None;
    let why = block_on(poll_fn(|cx| {
        if let Err(lost) = hold.check(now) {
            return Poll::Ready(lost.why().clone());
        }
        hold.listen(&mut slot, cx.waker()).map_or(Poll::Pending, Poll::Ready)
    }));
    hold.unlisten(slot);
    why
}

fn go<T: Send + 'static>(
    hold: &Arc<Hold>,
    run: impl FnOnce(&Hold) -> T + Send + 'static,
) -> thread::JoinHandle<()> {
    let hold = hold.clone();
    thread::spawn(move || {
        let _ = run(&hold);
    })
}

fn all(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("no panic");
    }
}

/// However late they come, they change nothing any more.
fn late_words(hold: &Hold) {
    let after = hold.inner().phase.clone();
    assert_eq!(hold.granted(grant(9), 3, NOW), Next::Never);
    for answer in [held(9, Some(4)), waiting(0, Some(5)), gone()] {
        assert_eq!(hold.answered(NOW, NOW, answer), Next::Never);
    }
    hold.gone(LostReason::Evicted("late".into()));
    assert_eq!(hold.inner().phase, after, "terminal");
    assert_eq!(hold.deadline(), None, "and not believed");
    assert!(hold.check(NOW).is_err());
}

#[test]
fn l5_a_grant_wakes_whoever_waits_for_it_whatever_else_is_said() {
    let scenario = || {
        let hold = in_line();
        let pushed = go(&hold, |h| h.granted(grant(2), 1, NOW));
        let old = go(&hold, |h| h.answered(SENT + super::MS, NOW, waiting(0, Some(0))));
        let looked = go(&hold, |h| h.look(NOW));
        assert!(matches!(await_grant(&hold), Phase::Held(_)));
        all([pushed, old, looked]);
        hold.check(NOW).expect("an answer from before the grant does not undo it");
    };
    shuttle::check_random(scenario, SCHEDULES);
}

/// A polling claim is dropped while the answer to its attempt arrives.
#[test]
fn s6_whoever_withdraws_finds_the_attempt_or_its_grant() {
    let scenario = || {
        let hold = fresh();
        hold.answered(SENT, SENT, Answer { standing: polls(), at: Some(0) });
        hold.inner().unanswered += 1;
        let answered = go(&hold, |h| h.attempted(SENT + super::MS, NOW, held(2, Some(1))));
        let Some(Ended { before, unanswered, .. }) = hold.end() else { panic!("it had not ended") };
        assert!(unanswered || matches!(before, Phase::Held(_)), "{before:?}: nobody would give it back");
        all([answered]);
    };
    shuttle::check_random(scenario, SCHEDULES);
}

#[test]
fn l5_a_push_and_the_answer_that_it_overtakes_make_one_grant() {
    let scenario = || {
        let hold = fresh();
        let pushed = go(&hold, |h| h.granted(grant(2), 1, NOW));
        let answered = go(&hold, |h| h.answered(SENT, NOW, waiting(0, Some(0))));
        assert!(matches!(await_grant(&hold), Phase::Held(_)));
        all([pushed, answered]);
    };
    shuttle::check_random(scenario, SCHEDULES);
}

#[test]
fn s6_after_the_end_nothing_is_granted() {
    let scenario = || {
        let hold = in_line();
        let pushed = go(&hold, |h| h.granted(grant(2), 1, NOW));
        let renewed = go(&hold, |h| h.answered(NOW, NOW, held(2, Some(2))));
        let Ended { before, .. } = hold.end().expect("ended once");
        assert!(matches!(before, Phase::Waiting | Phase::Held(_)), "the store must be told");
        assert!(hold.end().is_none());
        all([pushed, renewed]);
        late_words(&hold);
    };
    shuttle::check_random(scenario, SCHEDULES);
}

#[test]
fn s5_a_loss_is_told_to_all_and_is_final() {
    let scenario = || {
        let hold = holding();
        let deadline = hold.deadline().expect("held");
        let listeners = [0, 1].map(|_| go(&hold, |h| await_loss(h, NOW)));
        let renewed = go(&hold, |h| h.answered(NOW, NOW, held(1, Some(2))));
        let lost = go(&hold, |h| h.gone(LostReason::Evicted("enough".into())));
        // A third one looks at the clock just then, and a fourth gives up listening.
        let late = go(&hold, move |h| h.check(deadline));
        let given_up = go(&hold, |h| {
            let mut slot = None;
            let _ = h.listen(&mut slot, std::task::Waker::noop());
            h.unlisten(slot);
        });
        all(listeners);
        all([renewed, lost, late, given_up]);
        late_words(&hold);
    };
    shuttle::check_random(scenario, SCHEDULES);
}

#[test]
fn a_release_that_has_begun_is_not_told_as_a_loss() {
    let scenario = || {
        let hold = holding();
        let renewed = go(&hold, |h| {
            assert!(!matches!(h.inner().phase, Phase::Lost(_)));
            h.answered(NOW, NOW, gone());
        });
        hold.leave(Leave::Nothing);
        let lost_before = matches!(hold.inner().phase, Phase::Lost(_));
        all([renewed]);
        assert_eq!(matches!(hold.inner().phase, Phase::Lost(_)), lost_before);
        hold.end();
        late_words(&hold);
    };
    shuttle::check_random(scenario, SCHEDULES);
}

/// Tasks of one client at one lock.
struct Scene {
    cohorts: Cohorts,
    request: Request,
    /// All holds that there were, and which tokens of each have been believed in.
    holds: sync::Mutex<Vec<(Arc<Hold>, Vec<u32>)>>,
}

/// What the holder's watch does.
struct Watch(Arc<Scene>, Number);

impl Wake for Watch {
    fn wake(self: Arc<Watch>) {
        self.0.cohorts.dissolve(&self.0.request.key, self.1);
    }
}

impl Scene {
    fn new() -> Arc<Scene> {
        Arc::new(Scene {
            cohorts: Cohorts::default(),
            request: Request { fair: false, ..request(super::TTL) },
            holds: sync::Mutex::default(),
        })
    }

    /// What a task does, from its coming to its going. An impatient one leaves at the first opportunity.
    fn task(self: &Arc<Scene>, impatient: bool) {
        let seat = match self.cohorts.enter(&self.request) {
            Entered::Leads(lead) => return self.lead(lead, None, impatient),
            Entered::Sits(seat) => seat,
        };
        if impatient {
            self.cohorts.leave(&self.request.key, &seat);
            if let Some(given) = seat.take() {
                self.accept(given, true);
            }
            return;
        }
        let given = block_on(poll_fn(|cx| seat.poll(cx.waker())));
        self.accept(given, false);
    }

    fn accept(self: &Arc<Scene>, given: Given, impatient: bool) {
        match given {
            Given::Hold(hold, used, number) => self.holds(&hold, used, Some(number)),
            Given::Lead(lead, hold) => self.lead(lead, hold, impatient),
            Given::Refusal(_) => {}
        }
    }

    fn lead(self: &Arc<Scene>, lead: Lead, hold: Option<Arc<Hold>>, impatient: bool) {
        let key = &self.request.key;
        let hold = hold.unwrap_or_else(in_line);
        self.cohorts.asks(key, lead.number, &hold);
        if impatient {
            self.cohorts.succeed(key, lead, Some(hold));
            return;
        }
        hold.granted(grant(1), 1, NOW);
        self.holds.lock().expect("whole").push((hold.clone(), Vec::new()));
        if !self.cohorts.close(key, lead.number) {
            return self.holds(&hold, 0, None);
        }
        let watch = Waker::from(Arc::new(Watch(self.clone(), lead.number)));
        if hold.listen(&mut None, &watch).is_some() {
            watch.wake();
        }
        self.holds(&hold, 0, Some(lead.number));
    }

    /// Holds for a moment, and passes it on.
    fn holds(&self, hold: &Arc<Hold>, used: u32, number: Option<Number>) {
        {
            let mut holds = self.holds.lock().expect("whole");
            let known = holds.iter_mut().find(|(known, _)| Arc::ptr_eq(known, hold));
            let (_, believed) = known.expect("granted");
            assert!(!believed.contains(&used), "a token is given to one task");
            believed.push(used);
        }
        let key = &self.request.key;
        let passed = number.is_some_and(|n| hold.as_claimed() && self.cohorts.pass(key, n, hold, used + 1));
        if !passed {
            number.into_iter().for_each(|n| self.cohorts.dissolve(key, n));
            hold.end();
        }
    }
}

#[test]
fn s6_nobody_waits_for_a_turn_that_never_comes_and_no_turn_is_given_to_two() {
    let scenario = || {
        let scene = Scene::new();
        // Asks for itself only, so that those who come next share a claim.
        let Entered::Leads(first) = scene.cohorts.enter(&scene.request) else { panic!("nobody is there") };
        let mut threads: Vec<_> = [false, false, true, true, false]
            .map(|impatient| {
                let scene = scene.clone();
                thread::spawn(move || scene.task(impatient))
            })
            .into();
        let of_store = scene.clone();
        threads.push(thread::spawn(move || {
            // Whoever holds by now loses.
            let held: Vec<_> = of_store.holds.lock().expect("whole").iter().map(|(h, _)| h.clone()).collect();
            held.iter().for_each(|hold| hold.gone(LostReason::Gone));
        }));
        assert!(!scene.cohorts.close(&scene.request.key, first.number), "nobody stands behind it");
        all(threads);
        assert!(scene.cohorts.is_empty(), "and nothing is left");
        let holds = scene.holds.lock().expect("whole");
        assert!(holds.iter().all(|(hold, _)| hold.check(NOW).is_err()), "somebody gave each of them back");
    };
    shuttle::check_random(scenario, SCHEDULES * 2);
}
