//! What an engine must not do, made by interceptors on its side of the link, and by overriding its clock and its threads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure::Error;
use tenure::backend::{Answer, Backend, BoxFuture, Claim, ClaimId, Leave, Released, Standing};
use tenure::core::moment::Moment;
use tenure::runtime::Runtime;
use tenure::runtime::thread::ThreadRuntime;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::intercept::{
    AllAnswered, Answered, Interceptor, Near, Overridden, RuntimeOverride, around, locked, outer, runs,
};
use super::{On, Variant};
use crate::conform::Hooks;
use crate::num::boot_ns;

pub(super) const VARIANTS: &[Variant] = variant_table! { On::Process,
    a_deadline_from_the_answer: Arc::new(FromAnswer::default()), "s5_the_deadline_counts_from_the_request";
    a_loss_signal_after_the_deadline: runs(|inner| Overridden(Late(inner))), "s5_the_signal_comes_by_the_deadline";
    a_clock_that_sleeps_with_the_machine: runs(|_| ThreadRuntime::new()), "s5_suspended_time_counts";
    a_drop_that_needs_the_runtime: runs(Borrowed::here), "s6_a_dropped_runtime";
    a_renewal_that_needs_the_runtime: runs(Borrowed::here), "l6_a_blocked_runtime";
    a_retry_under_a_fresh_id: outer::<FreshId>(), "s7_lost_answers_to_a_lock_call";
    a_release_that_is_always_ours: outer::<AlwaysOurs>(), "s8_a_release_tells_the_truth";
    a_silent_release_that_is_well: outer::<SilenceIsWell>(), "s8_a_release_that_nobody_answers";
    a_silent_store_that_is_busy: outer::<SilenceIsBusy>(), "s8_a_silent_store_is_never_ok";
    a_link_that_is_never_made_again: outer::<NeverAgain>(), "l2_after_the_faults";
    a_waiter_that_polls: outer::<Polls>(), "l5_waiters_are_told";
    a_waiter_that_trusts_its_push: outer::<Trusts>(), "l5_a_lost_push";
    one_renewal_after_the_other: outer::<OneByOne>(), "l6_one_stuck_lock";
};

/// Deadlines count from the answer: the clock is behind by as long as the answer took.
#[derive(Default)]
struct FromAnswer(Arc<Lag>);

#[derive(Debug, Default)]
struct Lag(AtomicU64);

impl Hooks for FromAnswer {
    fn outer(&self, store: Arc<dyn Backend>) -> Arc<dyn Backend> {
        around(&self.0, store)
    }
    fn runtime(&self, inner: Arc<dyn Runtime>) -> Option<Arc<dyn Runtime>> {
        Some(Arc::new(Overridden(Behind(inner, self.0.clone()))))
    }
}

impl Interceptor for Lag {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        Box::pin(async move {
            let sent = boot_ns();
            let answer = store.attempt(claim).await;
            self.0.fetch_max(boot_ns() - sent, Ordering::SeqCst);
            answer
        })
    }
}

#[derive(Debug)]
struct Behind(Arc<dyn Runtime>, Arc<Lag>);

impl RuntimeOverride for Behind {
    fn inner(&self) -> &dyn Runtime {
        &*self.0
    }
    fn now(&self) -> Moment {
        self.0.now() - Duration::from_nanos(self.1.0.load(Ordering::SeqCst))
    }
}

#[derive(Debug)]
struct Late(Arc<dyn Runtime>);

impl RuntimeOverride for Late {
    fn inner(&self) -> &dyn Runtime {
        &*self.0
    }
    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        self.0.sleep_until(at + Duration::from_millis(600))
    }
}

/// Runs everything on the runtime in which the client was made.
#[derive(Debug)]
struct Borrowed(Arc<dyn Runtime>, Option<Handle>);

impl Borrowed {
    fn here(inner: Arc<dyn Runtime>) -> Overridden<Borrowed> {
        Overridden(Borrowed(inner, Handle::try_current().ok()))
    }
}

impl RuntimeOverride for Borrowed {
    fn inner(&self) -> &dyn Runtime {
        &*self.0
    }
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        match &self.1 {
            Some(handle) => drop(handle.spawn(task)),
            None => self.0.spawn(task),
        }
    }
}

/// Whoever asks again asks as somebody else, and waits for itself.
#[derive(Default)]
struct FreshId(Mutex<HashMap<ClaimId, u128>>);

impl Interceptor for FreshId {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        let mut asked = locked(&self.0);
        let times = asked.entry(claim.id).or_default();
        let claim = Claim { id: ClaimId(claim.id.0.wrapping_add(*times)), ..claim.clone() };
        *times += 1;
        Box::pin(async move { store.attempt(&claim).await })
    }
}

#[derive(Default)]
struct AlwaysOurs;

impl Interceptor for AlwaysOurs {
    fn release<'a>(&'a self, store: Near<'a>, claim: &'a Claim, leave: Leave) -> Answered<'a, Released> {
        Box::pin(async move { store.release(claim, leave).await.map(|_| Released::WasHeld) })
    }
}

/// Nobody has said no.
#[derive(Default)]
struct SilenceIsWell;

impl Interceptor for SilenceIsWell {
    fn release<'a>(&'a self, store: Near<'a>, claim: &'a Claim, leave: Leave) -> Answered<'a, Released> {
        // Before the engine asks again.
        let soon = Duration::from_millis(30);
        Box::pin(
            async move { timeout(soon, store.release(claim, leave)).await.unwrap_or(Ok(Released::WasHeld)) },
        )
    }
}

#[derive(Default)]
struct SilenceIsBusy;

impl Interceptor for SilenceIsBusy {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        let busy = |_| Ok(Answer { standing: Standing::Busy, at: None });
        let soon = Duration::from_millis(50);
        Box::pin(async move { timeout(soon, store.attempt(claim)).await.unwrap_or_else(busy) })
    }
}

/// One error, and every call fails from then on.
#[derive(Default)]
struct NeverAgain(AtomicBool);

impl Interceptor for NeverAgain {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        Box::pin(async move {
            if self.0.load(Ordering::SeqCst) {
                return Err(Error::unavailable("the link is down", "it stays down"));
            }
            let answer = store.attempt(claim).await;
            self.0.fetch_or(answer.is_err(), Ordering::SeqCst);
            answer
        })
    }
}

#[derive(Default)]
struct Polls;

impl Interceptor for Polls {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        Box::pin(async move { Ok(at_once(store.attempt(claim).await?)) })
    }
    fn renew<'a>(&'a self, store: Near<'a>, claims: &'a [Claim]) -> AllAnswered<'a> {
        Box::pin(async move { store.renew(claims).await.into_iter().map(|a| a.map(at_once)).collect() })
    }
}

fn at_once(mut answer: Answer) -> Answer {
    if let Standing::Waiting { look_again, .. } = &mut answer.standing {
        *look_again = Duration::from_millis(20);
    }
    answer
}

/// Whoever waits is told, so it does not look.
#[derive(Default)]
struct Trusts(Mutex<HashMap<ClaimId, Answer>>);

impl Interceptor for Trusts {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        Box::pin(async move {
            let answer = store.attempt(claim).await?;
            if let Standing::Waiting { .. } = answer.standing {
                locked(&self.0).insert(claim.id, answer.clone());
            }
            Ok(answer)
        })
    }
    fn renew<'a>(&'a self, store: Near<'a>, claims: &'a [Claim]) -> AllAnswered<'a> {
        let known = locked(&self.0).clone();
        match claims.iter().map(|c| known.get(&c.id).cloned().map(Ok)).collect() {
            Some(all) => Box::pin(std::future::ready(all)),
            None => store.renew(claims),
        }
    }
}

#[derive(Default)]
struct OneByOne(tokio::sync::Mutex<()>);

impl Interceptor for OneByOne {
    fn renew<'a>(&'a self, store: Near<'a>, claims: &'a [Claim]) -> AllAnswered<'a> {
        Box::pin(async move {
            let _turn = self.0.lock().await;
            store.renew(claims).await
        })
    }
}
