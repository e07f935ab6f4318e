//! Stores that forget, confuse or make up.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tenure::backend::{
    Answer, Claim, ClaimId, Grant, Lease, Leave, News, Page, Previous, Query, Released, Sink, Standing,
};
use tenure::{Key, Result, Token};

use super::intercept::{AllAnswered, Answered, Interceptor, Near, locked, store};
use super::{On, Variant};

pub(super) const VARIANTS: &[Variant] = variant_table! { On::Process,
    a_grant_that_is_not_recorded: store::<MadeUp>(), "s1_exclusion_of_tasks";
    a_peeked_grant: store::<Peeked>(), "s2_the_told_token_is_the_stored_one";
    a_counter_as_token: store::<Counter>(), "s2_tokens_after_the_data_is_lost";
    a_token_of_whole_seconds: store::<Seconds>(), "s2_tokens_grow_through_every_end";
    a_token_from_a_fast_clock: store::<Fast>(), "s3_a_fenced_resource";
    no_owner_check_at_release: store::<NoOwner>(), "s4_strangers_cannot_release";
    a_withdrawal_that_is_skipped: store::<Skips>(), "s6_cancelled_at_every_protocol_point";
    no_mark_after_withdrawal: store::<NoMark>(), "s9_late_requests_are_refused";
    a_mark_that_is_checked_before: store::<Before>(), "s9_withdrawals_race_requests";
    a_renewal_that_creates: store::<Creates>(), "s10_renewal_never_creates";
    a_lease_longer_than_asked: store::<Longer>(), "s5_no_answer_tells_of_more_than_was_asked_for";
    a_lease_without_an_end: store::<Endless>(), "l1_a_silent_holder_is_followed";
    order_ignored: store::<Lifo>(), "l3_first_come_first_served";
    a_try_that_stands_in_line: store::<Stands>(), "l3_try_lock_never_stands_in_line";
    a_pause_without_an_end: store::<LongPause>(), "l4_no_residue";
    a_look_that_renews: store::<LookRenews>(), "o1_looking_changes_nothing";
    a_grant_after_a_clean_release_always: store::<Clean>(), "o2_a_release_and_a_lease_that_ends";
    an_eviction_that_does_nothing: store::<NoEviction>(), "o1_an_eviction_is_told";
};

/// The same answer with another token, if it holds.
pub(super) fn with_token(answer: Result<Answer>, token: impl FnOnce(Token) -> i64) -> Result<Answer> {
    let mut answer = answer?;
    if let Standing::Held(grant) = &mut answer.standing {
        grant.token = grant.token.map(|t| Token::new(token(t)).unwrap_or(t));
    }
    Ok(answer)
}

/// A grant with a token that the claim makes up.
pub(super) fn made_up(claim: &Claim, lease: tenure::backend::Lease) -> Grant {
    let token = Token::new(i64::try_from(claim.birth.nanos()).unwrap_or(i64::MAX));
    Grant { token, lease, previous: Previous::Unknown }
}

#[derive(Default)]
pub(crate) struct MadeUp;

impl Interceptor for MadeUp {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        Box::pin(async move {
            let mut answer = store.attempt(claim).await?;
            if let (Standing::Waiting { place: Some(lease), .. }, 0) = (&answer.standing, claim.id.0 % 8) {
                answer.standing = Standing::Held(made_up(claim, *lease));
            }
            Ok(answer)
        })
    }
}

/// Tells the next in line before the release is done, and guesses its token.
#[derive(Default)]
struct Peeked {
    sink: OnceLock<Arc<dyn Sink>>,
    waits: Mutex<Vec<(ClaimId, Grant)>>,
}

impl Interceptor for Peeked {
    fn tells(&self, sink: &Arc<dyn Sink>) {
        self.sink.get_or_init(|| sink.clone());
    }
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        Box::pin(async move {
            let answer = store.attempt(claim).await?;
            if let Standing::Waiting { place: Some(lease), .. } = answer.standing {
                locked(&self.waits).push((claim.id, made_up(claim, lease)));
            }
            Ok(answer)
        })
    }
    fn release<'a>(&'a self, store: Near<'a>, claim: &'a Claim, leave: Leave) -> Answered<'a, Released> {
        let next = locked(&self.waits).pop();
        if let (Some(sink), Some((id, grant))) = (self.sink.get(), next) {
            // However late by the store's clock: it counts from its arrival then.
            sink.news(News::Granted(id, grant, u64::MAX));
        }
        store.release(claim, leave)
    }
}

/// Counts grants from one, as INCR does, until the data is lost.
#[derive(Default)]
struct Counter {
    last: AtomicI64,
    given: Mutex<HashMap<ClaimId, i64>>,
}

impl Interceptor for Counter {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        let next = || self.last.fetch_add(1, Ordering::SeqCst) + 1;
        Box::pin(async move {
            let answer = store.attempt(claim).await;
            with_token(answer, |_| *locked(&self.given).entry(claim.id).or_insert_with(next))
        })
    }
}

#[derive(Default)]
pub(crate) struct Seconds;

impl Interceptor for Seconds {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        Box::pin(async move { with_token(store.attempt(claim).await, |t| t.get() / 1_000_000) })
    }
}

#[derive(Default)]
pub(crate) struct Fast;

impl Interceptor for Fast {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        Box::pin(async move { with_token(store.attempt(claim).await, |t| t.get() + 3_600_000_000) })
    }
}

/// Says that every hold was released.
#[derive(Default)]
struct Clean;

impl Interceptor for Clean {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        Box::pin(async move {
            let mut answer = store.attempt(claim).await?;
            if let Standing::Held(grant) = &mut answer.standing {
                grant.previous = Previous::Released;
            }
            Ok(answer)
        })
    }
}

/// Whoever comes ends whatever is held there.
#[derive(Default)]
struct NoOwner(Mutex<HashMap<Key, Claim>>);

impl Interceptor for NoOwner {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        locked(&self.0).entry(claim.key.clone()).or_insert_with(|| claim.clone());
        store.attempt(claim)
    }
    fn release<'a>(&'a self, store: Near<'a>, claim: &'a Claim, leave: Leave) -> Answered<'a, Released> {
        let holder = locked(&self.0).remove(&claim.key).unwrap_or_else(|| claim.clone());
        Box::pin(async move { store.release(&holder, leave).await })
    }
}

/// A lock call that was given up is forgotten about.
#[derive(Default)]
struct Skips;

impl Interceptor for Skips {
    fn release<'a>(&'a self, store: Near<'a>, claim: &'a Claim, leave: Leave) -> Answered<'a, Released> {
        match leave {
            Leave::Final => Box::pin(std::future::ready(Ok(Released::Gone))),
            _ => store.release(claim, leave),
        }
    }
}

#[derive(Default)]
struct NoMark;

impl Interceptor for NoMark {
    fn release<'a>(&'a self, store: Near<'a>, claim: &'a Claim, leave: Leave) -> Answered<'a, Released> {
        store.release(claim, if leave == Leave::Final { Leave::Nothing } else { leave })
    }
}

/// Looks for a mark in one step, and grants in another.
#[derive(Default)]
struct Before(Mutex<HashSet<ClaimId>>);

impl Interceptor for Before {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        if locked(&self.0).contains(&claim.id) {
            return Box::pin(std::future::ready(Ok(Answer {
                standing: Standing::Gone { why: None },
                at: None,
            })));
        }
        std::thread::sleep(Duration::from_millis(1));
        store.attempt(claim)
    }
    fn release<'a>(&'a self, store: Near<'a>, claim: &'a Claim, _: Leave) -> Answered<'a, Released> {
        locked(&self.0).insert(claim.id);
        store.release(claim, Leave::Nothing)
    }
}

#[derive(Default)]
struct Creates;

impl Interceptor for Creates {
    fn renew<'a>(&'a self, store: Near<'a>, claims: &'a [Claim]) -> AllAnswered<'a> {
        Box::pin(async move {
            let mut answers = Vec::new();
            for claim in claims {
                answers.push(store.attempt(claim).await);
            }
            answers
        })
    }
}

/// Answers with the end of a lease that a clock computed which was ahead.
#[derive(Default)]
struct Longer;

impl Interceptor for Longer {
    fn renew<'a>(&'a self, store: Near<'a>, claims: &'a [Claim]) -> AllAnswered<'a> {
        Box::pin(async move {
            let ahead = |mut answer: Answer| {
                if let Standing::Held(Grant { lease: Lease::For(d), .. }) = &mut answer.standing {
                    *d += Duration::from_secs(30);
                }
                answer
            };
            store.renew(claims).await.into_iter().map(|answer| answer.map(ahead)).collect()
        })
    }
}

#[derive(Default)]
pub(crate) struct Endless;

impl Interceptor for Endless {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        let claim = endless(claim);
        Box::pin(async move { store.attempt(&claim).await })
    }
    fn renew<'a>(&'a self, store: Near<'a>, claims: &'a [Claim]) -> AllAnswered<'a> {
        Box::pin(async move { store.renew(&claims.iter().map(endless).collect::<Vec<_>>()).await })
    }
}

fn endless(claim: &Claim) -> Claim {
    Claim { ttl: claim.ttl * 1000, ..claim.clone() }
}

/// Whoever comes last is put before all that wait.
#[derive(Default)]
struct Lifo(Mutex<Vec<Claim>>);

impl Interceptor for Lifo {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        Box::pin(async move {
            let answer = store.attempt(claim).await?;
            if let Standing::Waiting { .. } = answer.standing {
                let earlier = std::mem::replace(&mut *locked(&self.0), vec![claim.clone()]);
                for before in earlier {
                    store.release(&before, Leave::Nothing).await?;
                    store.attempt(&before).await?;
                    locked(&self.0).push(before);
                }
            }
            Ok(answer)
        })
    }
}

#[derive(Default)]
struct Stands;

impl Interceptor for Stands {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        let stands = Claim { stand: true, ..claim.clone() };
        Box::pin(async move {
            let mut answer = store.attempt(&stands).await?;
            if !claim.stand && matches!(answer.standing, Standing::Waiting { .. }) {
                answer.standing = Standing::Busy;
            }
            Ok(answer)
        })
    }
}

#[derive(Default)]
struct LongPause;

impl Interceptor for LongPause {
    fn release<'a>(&'a self, store: Near<'a>, claim: &'a Claim, leave: Leave) -> Answered<'a, Released> {
        let hour = Leave::For(Duration::from_secs(3600));
        store.release(claim, if let Leave::For(_) = leave { hour } else { leave })
    }
}

#[derive(Default)]
struct LookRenews(Mutex<Vec<Claim>>);

impl Interceptor for LookRenews {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        locked(&self.0).push(claim.clone());
        store.attempt(claim)
    }
    fn inspect<'a>(&'a self, store: Near<'a>, query: &'a Query) -> Answered<'a, Page> {
        let known = locked(&self.0).clone();
        Box::pin(async move {
            store.renew(&known).await;
            store.inspect(query).await
        })
    }
}

#[derive(Default)]
struct NoEviction;

impl Interceptor for NoEviction {
    fn evict<'a>(
        &'a self,
        store: Near<'a>,
        key: &'a Key,
        _: Option<Token>,
        why: &'a str,
    ) -> Answered<'a, Released> {
        // No token is as low as this one.
        store.evict(key, Token::new(1), why)
    }
}
