//! What the scripts, the dialect and the link of Redis must not do. The scripts are changed on their way to a real
//! server, by patches that name fields as the scripts do; interceptors sit between the engine and the real link.
//!
//! Variants are caught by the trial that is named for them, mutants by the judge of a chaos run.

use std::sync::Arc;
use std::time::Duration;

use tenure::backend::{Claim, Cohort, Leave, News, Released, Sink};

use super::super::patched::Patch;
use super::Redis;
use super::setnx::Setnx;
use crate::broken::intercept::{AllAnswered, Answered, Interceptor, Near, as_it_is, outer, store};
use crate::broken::{On, Variant, variant_table};
use crate::conform::Hooks;
use crate::mutants::{How, Mutant, Shifted, mutants};

/// The scripts as they are.
const LINE: On = On::Server(&Redis, &[]);

const fn redis(patches: &'static [Patch]) -> On {
    On::Server(&Redis, patches)
}

const fn dialect(patches: &'static [Patch]) -> On {
    On::Server(&Setnx, patches)
}

/// A release that does not look at who holds.
const ANY_OWNER: &[Patch] = &[
    ("  if sub(before, HEAD.holder) ~= id or byte", "  if byte"),
    ("    if sub(before, SHORT.holder) ~= id then\n      break\n    end\n", ""),
];

/// The next token is the last one and one more.
const BY_INCR: &[Patch] = &[
    ("  if as == 49 and last < stamp and", "  if false and"),
    ("    token = stamp\n    if last >= stamp then", "    if true then"),
    ("  if last >= stamp then", "  if true then"),
    ("last = math.max(last + 1, now)", "last = last + 1"),
];

pub(super) const VARIANTS: &[Variant] = variant_table! {
    a_release_script_without_an_owner: redis(ANY_OWNER), as_it_is(), "s4_strangers_cannot_release";
    a_renewal_script_that_revives: redis(&[
        ("    and sub(head, HEAD.finish) > stamp and sub(head, HEAD.note)", "    and sub(head, HEAD.note)"),
    ]), as_it_is(), "s10_renewal_never_revives";
    a_token_by_incr: redis(BY_INCR), as_it_is(), "s2_tokens_after_the_data_is_lost";
    a_time_that_the_client_tells: redis(&[
        ("local tens, usual, ends = sub(stamp, STAMP.tens), nil, nil\n-- The common attempts",
         "stamp = sub(ARGV[3], HOW.birth.on)\nlocal tens, usual, ends = sub(stamp, STAMP.tens), nil, nil\n-- The common attempts"),
    ]), as_it_is(), "s9_an_old_request_is_refused";
    a_withdrawal_script_without_a_mark: redis(&[
        ("<= TIME.old then\n      mark(id, '1')", "<= TIME.old then"),
    ]), as_it_is(), "s9_late_requests_are_refused";
    a_line_from_its_end: redis(&[
        ("call('ZADD', part('w'), seq, id)", "call('ZADD', part('w'), -seq, id)"),
        ("call('ZADD', base .. 'w', place, id)", "call('ZADD', base .. 'w', -place, id)"),
    ]), as_it_is(), "l3_first_come_first_served";
    a_hand_over_that_tells_nobody: redis(&[
        ("  return tell(record, '1g' .. id .. sub(record, RECORD.token) .. stamp .. lease .. sub(record, RECORD.before) .. part('l')) ~= 0 or id == asker", "  return true"),
        ("try('PUBLISH', 'tenure:client:' .. sub(record, RECORD.client), text) == 0", "false"),
    ]), as_it_is(), "l5_waiters_are_told";
    a_push_with_a_token_of_its_own: redis(&[
        ("'1g' .. id .. sub(record, RECORD.token) ..", "'1g' .. id .. format('%016d', last + 1) .."),
        ("'1g' .. heir .. token ..", "'1g' .. heir .. format('%016d', token + 1) .."),
    ]), as_it_is(), "s2_the_told_token_is_the_stored_one";
    a_try_script_that_queues: redis(&[
        ("  if sub(how, HOW.stand) == '0' then\n    return { id, 'B', stamp }\n  end\n", ""),
    ]), as_it_is(), "l3_try_lock_never_stands_in_line";
    a_claim_with_one_token_whatever_it_asked_for: redis(&[
        ("last = format('%016d', token + sub(asked, ASKED.capacity) - 1)", "last = token"),
        ("last = format('%016d', token + sub(record, RECORD.capacity) - 1)", "last = token"),
        ("last = last + tonumber(sub(record, RECORD.capacity)) - 1", "last = last"),
    ]), as_it_is(), "s2_the_tokens_of_a_cohort";
    a_release_that_gives_a_used_token_back: redis(&[
        ("before = '11' .. format('%016d', token + spent - 1)", "before = '11' .. format('%016d', token + spent - 2)"),
        ("last = t + spent - 1", "last = t + spent - 2"),
    ]), as_it_is(), "s2_the_tokens_of_a_cohort";
    a_release_that_gives_no_token_back: redis(&[
        ("spent >= 1 and spent <= own and tonumber(sub(before, HEAD.last)) == token + own - 1", "false"),
        ("spent >= 1 and spent <= own and last == t + own - 1", "false"),
    ]), as_it_is(), "s2_the_tokens_of_a_cohort";
    an_eviction_by_the_first_token_only: redis(&[
        ("ARGV[1] >= t and tonumber(ARGV[1]) < t + own", "ARGV[1] == t"),
    ]), as_it_is(), "s5_an_evicted_cohort";
    a_cohort_that_is_kept_when_it_has_gone: LINE, store::<Kept>(), "s6_a_task_of_a_cohort_dropped";
    a_cohort_that_overtakes: redis(&[
        ("call('ZADD', part('w'), seq, id)",
         "call('ZADD', part('w'), sub(terms, ASKED.capacity) ~= '0000000001' and -seq or seq, id)"),
    ]), as_it_is(), "l3_a_cohort_lets_others_pass";
    a_listing_without_those_behind: LINE, store::<Hidden>(), "o1_those_behind_a_claim_are_counted";
    a_late_push_that_is_believed: LINE, Arc::new(LatePush), "s5_the_deadline_of_a_push";
    the_answer_to_the_request_before: LINE, outer::<Shifted>(), "s1_exclusion_of_tasks";
};

/// The same of the dialect.
pub(super) const OF_THE_DIALECT: &[Variant] = variant_table! {
    a_dialect_with_a_blind_del: dialect(&[
        ("local held = not marked and call('GET', KEYS[1]) == id", "local held = not marked and call('GET', KEYS[1])"),
    ]), as_it_is(), "s4_a_stale_guard_spares_the_next";
    a_dialect_that_renews_whoever_holds: dialect(&[
        ("sub(record, PLAIN.claim) ~= id or call('GET', key) ~= id then", "not call('GET', key) then"),
    ]), as_it_is(), "s4_strangers_cannot_release";
    a_dialect_without_an_expiry: dialect(&[
        ("call('SET', KEYS[1], id, 'PX', lease)", "call('SET', KEYS[1], id)"),
    ]), as_it_is(), "l1_a_silent_holder_is_followed";
    a_dialect_whose_token_is_a_counter: dialect(&[
        ("math.max(last + 1, now)", "last + 1"),
    ]), as_it_is(), "s2_tokens_after_the_data_is_lost";
    a_dialect_without_a_mark: dialect(&[
        ("if trace == 'm' and not marked and", "if false and"),
    ]), as_it_is(), "s9_late_requests_are_refused";
};

const fn scripts(patches: &'static [Patch]) -> How {
    How::Scripts(&Redis, patches)
}

/// Wrong scripts that a judge of histories must notice.
pub(super) const MUTANTS: &[Mutant] = mutants! {
    a_release_without_a_look_at_the_owner: scripts(ANY_OWNER), "S1" "S4",
        "DEL without a check of the owner: a late release frees the next one's lock";
    a_token_by_incr: scripts(BY_INCR), "S2" "S3"; "restart_empty" "restart_older_copy",
        "INCR as fencing token, and a server that lost its data (dlock 0.2: from 0 after every release)";
    a_push_with_the_token_of_the_one_before: scripts(&[
        ("'1g' .. heir .. token ..", "'1g' .. heir .. sub(before, HEAD.last) .."),
    ]), "S2" "S3"; "pause",
        "a token that is read before the grant is made";
    a_lock_for_the_last_in_line: scripts(&[
        ("call('ZPOPMIN', base .. 'w')", "call('ZPOPMAX', base .. 'w')"),
    ]), "L3",
        "rslock, async-redis-lock: waiters sleep at random, and who came last may be first, again and again";
};

/// Pushes take a while, and the time of the grant is taken for the time of the push.
struct LatePush;

const LATE: Duration = Duration::from_millis(300);

impl Hooks for LatePush {
    fn sink(&self, sink: Arc<dyn Sink>) -> Arc<dyn Sink> {
        Arc::new(Late(sink))
    }
}

struct Late(Arc<dyn Sink>);

impl Sink for Late {
    fn news(&self, news: News) {
        let (sink, mut news) = (self.0.clone(), news);
        if let News::Granted(_, _, at) = &mut news {
            *at += u64::try_from(LATE.as_nanos()).unwrap_or(0);
        }
        std::thread::spawn(move || {
            std::thread::sleep(LATE);
            sink.news(news);
        });
    }
}

/// Forgets to give back what several tasks may have had.
#[derive(Default)]
struct Kept;

impl Interceptor for Kept {
    fn release<'a>(&'a self, store: Near<'a>, claim: &'a Claim, leave: Leave) -> Answered<'a, Released> {
        if claim.cohort.tokens > 1 {
            return Box::pin(async { Ok(Released::WasHeld) });
        }
        store.release(claim, leave)
    }
}

/// Does not store how many wait behind a claim.
#[derive(Default)]
struct Hidden;

impl Interceptor for Hidden {
    fn renew<'a>(&'a self, store: Near<'a>, claims: &'a [Claim]) -> AllAnswered<'a> {
        let alone = |claim: &Claim| Claim { cohort: Cohort { behind: 0, ..claim.cohort }, ..claim.clone() };
        let claims: Vec<Claim> = claims.iter().map(alone).collect();
        Box::pin(async move { store.renew(&claims).await })
    }
}
