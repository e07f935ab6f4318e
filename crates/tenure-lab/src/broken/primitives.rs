//! What read-write locks, semaphores, hand-over, many locks at once and jobs that run once must not do, made by a store
//! that does it.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use tenure::backend::{Answer, Claim, ClaimId, Kind, Leave, Query, RW_CAPACITY, Released, Standing};

use super::intercept::{AllAnswered, Answered, Interceptor, Near, locked, store};
use super::stores::{made_up, with_token};
use super::{On, Variant};

pub(super) const VARIANTS: &[Variant] = variant_table! { On::Process,
    a_reader_that_overtakes_a_writer: store::<Overtakes>(), "l3_a_waiting_writer_is_not_overtaken";
    a_reader_that_is_in_with_a_writer: store::<Joins>(), "s1_readers_together";
    a_token_of_readers_that_is_the_writers: store::<WritersToken>(), "s2_tokens_of_readers";
    a_downgrade_in_two_steps: store::<TwoSteps>(), "s1_a_downgrade_lets_no_writer_in";
    a_permit_that_leaks_on_a_crash: store::<Leaks>(), "l1_permits_of_the_dead_come_back";
    a_semaphore_of_the_first_number: store::<FirstNumber>(), "s1_a_new_number_of_permits_takes_none_away";
    a_semaphore_where_each_has_its_own_number: store::<OwnNumber>(), "s1_unequal_numbers_of_permits";
    a_part_that_is_kept: store::<KeepsAll>(), "s1_a_part_is_given_back";
    a_permit_that_comes_back_at_once: store::<AtOnce>(), "l4_a_rate_limit";
    a_transfer_that_leaves_the_old_claim: store::<OldLives>(), "s4_a_transferred_claim_is_dead";
    a_handle_that_is_adopted_twice: store::<Twice>(), "s1_adopted_once_only";
    a_transfer_that_creates: store::<Creates>(), "s10_a_transfer_never_creates";
    many_locks_that_leave_one: store::<LeavesOne>(), "s6_many_locks_dropped_after_n_polls";
    a_job_that_is_forgotten_with_its_answer: store::<Forgets>(), "s7_a_job_whose_answers_are_lost";
    a_leader_under_another_name: store::<NoValue>(), "o1_observers_see_the_leader";
};

fn reads(claim: &Claim) -> bool {
    claim.kind == Kind::ReadWrite && claim.weight < RW_CAPACITY
}

/// Whoever reads does not wait behind those who wait.
#[derive(Default)]
pub(crate) struct Overtakes;

impl Interceptor for Overtakes {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        Box::pin(async move {
            let mut answer = store.attempt(claim).await?;
            if let (true, Standing::Waiting { place: Some(lease), .. }) = (reads(claim), &answer.standing) {
                answer.standing = Standing::Held(made_up(claim, *lease));
            }
            Ok(answer)
        })
    }
}

/// A writer weighs as little as a reader.
#[derive(Default)]
pub(crate) struct Joins;

impl Interceptor for Joins {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        let light = Claim { weight: 1, ..claim.clone() };
        Box::pin(async move { store.attempt(&light).await })
    }
}

/// Readers have the token of the last writer.
#[derive(Default)]
struct WritersToken(AtomicI64);

impl Interceptor for WritersToken {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        let of = |token: i64| match reads(claim) {
            true => self.0.load(Ordering::SeqCst).max(1),
            false => self.0.fetch_max(token, Ordering::SeqCst).max(token),
        };
        Box::pin(async move { with_token(store.attempt(claim).await, |t| of(t.get())) })
    }
}

/// Gives the lock back, and stands in line again.
#[derive(Default)]
struct TwoSteps;

impl Interceptor for TwoSteps {
    fn transfer<'a>(&'a self, store: Near<'a>, from: &'a Claim, to: &'a Claim) -> Answered<'a> {
        Box::pin(async move {
            store.release(from, Leave::Nothing).await?;
            store.attempt(to).await
        })
    }
}

/// Permits have a lease without an end.
#[derive(Default)]
struct Leaks;

impl Interceptor for Leaks {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        let claim = Claim { ttl: claim.ttl * 1000, ..claim.clone() };
        Box::pin(async move { store.attempt(&claim).await })
    }
}

/// There are as many permits as the first one said.
#[derive(Default)]
struct FirstNumber(Mutex<HashMap<String, u32>>);

impl Interceptor for FirstNumber {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        let name = claim.key.name().to_owned();
        let capacity = *locked(&self.0).entry(name).or_insert(claim.capacity);
        let claim = Claim { weight: claim.weight.min(capacity), capacity, ..claim.clone() };
        Box::pin(async move { store.attempt(&claim).await })
    }
}

/// Whoever fits into the number that it names itself is let in, whatever the holders were told.
#[derive(Default)]
struct OwnNumber;

impl Interceptor for OwnNumber {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        Box::pin(async move {
            let (namespace, name) = (claim.key.namespace().to_owned(), Some(claim.key.name().to_owned()));
            let page = store.inspect(&Query { namespace, name, ..Query::default() }).await?;
            let held: u32 = page.lines.iter().flat_map(|line| &line.holders).map(|seen| seen.weight).sum();
            let waits = page.lines.iter().any(|line| line.waiters > 0);
            let fits = claim.kind == Kind::Semaphore && !waits && held + claim.weight <= claim.capacity;
            let capacity = if fits { 1000 } else { claim.capacity };
            store.attempt(&Claim { capacity, ..claim.clone() }).await
        })
    }
}

#[derive(Default)]
struct KeepsAll;

impl Interceptor for KeepsAll {
    fn transfer<'a>(&'a self, store: Near<'a>, from: &'a Claim, to: &'a Claim) -> Answered<'a> {
        let all = Claim { weight: from.weight, ..to.clone() };
        Box::pin(async move { store.transfer(from, &all).await })
    }
}

#[derive(Default)]
struct AtOnce;

impl Interceptor for AtOnce {
    fn release<'a>(&'a self, store: Near<'a>, claim: &'a Claim, _: Leave) -> Answered<'a, Released> {
        store.release(claim, Leave::Nothing)
    }
}

/// Whoever comes with the old id is taken for the new one.
#[derive(Default)]
struct OldLives(Mutex<HashMap<ClaimId, Claim>>);

impl Interceptor for OldLives {
    fn transfer<'a>(&'a self, store: Near<'a>, from: &'a Claim, to: &'a Claim) -> Answered<'a> {
        locked(&self.0).insert(from.id, to.clone());
        store.transfer(from, to)
    }
    fn renew<'a>(&'a self, store: Near<'a>, claims: &'a [Claim]) -> AllAnswered<'a> {
        let known = locked(&self.0);
        let claims: Vec<Claim> = claims.iter().map(|c| known.get(&c.id).unwrap_or(c).clone()).collect();
        Box::pin(async move { store.renew(&claims).await })
    }
}

/// An answer that was given is given again, to whoever asks.
#[derive(Default)]
struct Twice(Mutex<HashMap<ClaimId, Answer>>);

impl Interceptor for Twice {
    fn transfer<'a>(&'a self, store: Near<'a>, from: &'a Claim, to: &'a Claim) -> Answered<'a> {
        Box::pin(async move {
            let answer = store.transfer(from, to).await?;
            Ok(match answer.standing {
                Standing::Held(_) => locked(&self.0).entry(from.id).or_insert(answer).clone(),
                _ => locked(&self.0).get(&from.id).cloned().unwrap_or(answer),
            })
        })
    }
}

#[derive(Default)]
struct Creates;

impl Interceptor for Creates {
    fn transfer<'a>(&'a self, store: Near<'a>, from: &'a Claim, to: &'a Claim) -> Answered<'a> {
        Box::pin(async move {
            match store.transfer(from, to).await? {
                Answer { standing: Standing::Gone { .. }, .. } => store.attempt(to).await,
                answer => Ok(answer),
            }
        })
    }
}

/// Of several locks that are given up in the middle, the first one stays.
#[derive(Default)]
struct LeavesOne;

impl Interceptor for LeavesOne {
    fn release<'a>(&'a self, store: Near<'a>, claim: &'a Claim, leave: Leave) -> Answered<'a, Released> {
        match leave {
            Leave::Final if claim.key.name().ends_with("/0") => {
                Box::pin(std::future::ready(Ok(Released::WasHeld)))
            }
            _ => store.release(claim, leave),
        }
    }
}

/// What is given back once more is free, whatever it was kept for.
#[derive(Default)]
struct Forgets(Mutex<HashSet<ClaimId>>);

impl Interceptor for Forgets {
    fn release<'a>(&'a self, store: Near<'a>, claim: &'a Claim, leave: Leave) -> Answered<'a, Released> {
        match locked(&self.0).insert(claim.id) {
            true => store.release(claim, leave),
            false => store.evict(&claim.key, None, "once more"),
        }
    }
}

/// A new value does not arrive.
#[derive(Default)]
struct NoValue;

impl Interceptor for NoValue {
    fn renew<'a>(&'a self, store: Near<'a>, claims: &'a [Claim]) -> AllAnswered<'a> {
        let silent = |claim: &Claim| Claim { reason: "".into(), ..claim.clone() };
        let claims: Vec<Claim> = claims.iter().map(silent).collect();
        Box::pin(async move { store.renew(&claims).await })
    }
}
