//! Wrong protocols, each a few lines away from the right one: the simulation must notice every one of them.

//!
//! - [`client`]: what clients do wrong.
//! - [`server`]: what the store does wrong.
//! - [`lanes`]: what the supervision of connections does wrong.
//! - [`quorum`]: what goes wrong between several servers and their clients.

mod client;
mod lanes;
mod quorum;
mod server;

use std::sync::Arc;

use tenure::backend::News;
use tenure::core::moment::Moment;

use client::{
    Always, AlwaysOurs, AtWrites, FirstGrant, FreshId, FromAnswer, FromArrival, GoesOn, Misaligned, NoMark,
    NoWithdrawal, Once, Pinged, Sleepy, StopsRenewing, Told, Trusts,
};
use lanes::{Denies, Hides, NeverHopes, SubscribesOnce, WaitsForEver};
use quorum::{Empty, Keeps, Minority, Moving, NoRound, Tokenless};
use server::{
    Beside, Blind, Compares, Continues, Counting, Counts, Creates, Endless, Forgets, Heavy, Lasts, Newest,
    OneToken, Short, Stays, Unborn,
};

use super::judge::Judge;
use super::machine::Machine;
use super::message::{Request, Said, Verb};
use super::server::{Served, Server};
use super::stores::Store;

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
    /// Whether an answered ping is proof enough of a session.
    fn trusts_pings(&self) -> bool {
        false
    }
    /// Whether what is under way for a claim stops once it is withdrawn.
    fn stops(&self) -> bool {
        true
    }
    /// Whether so many votes of so many servers are enough, whatever a quorum is.
    fn enough(&self, _accepted: usize, _servers: usize) -> bool {
        false
    }
    /// Whether a try in vain gives its votes back.
    fn gives_votes_back(&self) -> bool {
        true
    }
    /// Whether what was sent over a connection that broke is said not to have left.
    fn denies_sending(&self) -> bool {
        false
    }
    /// Whether nobody hears that a connection came back.
    fn hides_returns(&self) -> bool {
        false
    }
    /// Whether a client asks for pushes over its first connection only.
    fn subscribes_once(&self) -> bool {
        false
    }
    /// Whether every connection costs a longer pause than the one before.
    fn never_hopes(&self) -> bool {
        false
    }
    /// Whether a client waits for an answer for as long as it takes.
    fn waits_for_ever(&self) -> bool {
        false
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
    /// The kind of store that shows it.
    pub(super) store: Store,
    pub(super) make: fn() -> Arc<dyn Mutant>,
}

macro_rules! mutants {
    ($($store:ident { $($name:ident: $make:expr, $($rule:literal)+;)* })*) => {
        /// All of them.
        pub(super) const MUTANTS: &[Wrong] = &[$($(Wrong {
            name: stringify!($name),
            breaks: &[$($rule),+],
            store: Store::$store,
            make: || Arc::new($make),
        }),*),*];
    };
}

mutants! {
    Line {
        a_deadline_from_the_answer: FromAnswer, "S5" "S1";
        a_renewal_that_creates: Creates, "S10";
        a_renewal_that_is_always_granted: Always, "S1" "S2" "S5";
        no_withdrawal_mark: NoMark, "S9" "S6";
        no_withdrawal_of_what_is_unanswered: NoWithdrawal, "S6" "L1/L2";
        a_push_trusted_from_its_arrival: FromArrival, "S1" "S5" "S8";
        a_retry_under_a_fresh_id: FreshId::default(), "S2" "S6" "S8" "L1/L2";
        a_release_without_a_look_at_the_owner: Blind, "S1" "S4" "S5" "S7";
        a_release_that_is_always_ours: AlwaysOurs, "S8";
        tokens_that_count_from_one: Counting, "S2" "S3";
        a_grant_with_fewer_tokens_than_it_is_for: OneToken, "S2" "S3";
        a_birth_that_nobody_checks: Unborn, "S9" "S6";
        a_lock_without_a_lease: Endless, "L1/L2" "S6";
        a_clock_that_sleeps_with_the_machine: Sleepy, "S5" "S1";
        a_waiter_that_trusts_its_push: Trusts, "L5";
        a_renewal_that_stops_after_an_error: StopsRenewing::default(), "L1/L2";
        a_lease_as_long_as_the_store_tells: Told, "S5";
        a_deadline_from_the_first_grant: FirstGrant::default(), "L1/L2";
        a_release_that_is_sent_once: Once::default(), "S6" "S8";
        a_token_that_is_shown_at_writes_only: AtWrites, "S3";
        a_line_in_which_the_newest_is_first: Newest::default(), "L3";
        a_withdrawal_that_waiters_survive: Stays, "S6" "S9";
        an_eviction_that_leaves_no_mark: Forgets, "S9";
        a_hold_that_does_not_stay: Short, "S1";
        a_transfer_that_creates: Continues, "S10" "S2";
        a_writer_let_in_beside_readers: Beside::Readers, "S1" "S2" "S5";
        a_semaphore_that_admits_one_too_many: Beside::Permits, "S1" "S5";
        a_downgrade_that_leaves_a_writer: Heavy::Writer, "S2" "S10" "L3";
        a_return_of_permits_that_frees_none: Heavy::Permits, "L3";
        an_answer_to_another_question: Misaligned::default(), "S1" "S2" "S4" "S5" "S6" "S7";
    }
    Lanes {
        a_return_that_nobody_is_told_of: Hides, "L5";
        a_subscription_that_is_not_made_again: SubscribesOnce, "L5";
        a_pause_that_only_grows: NeverHopes, "L1/L2" "L5";
        an_answer_that_is_awaited_for_ever: WaitsForEver, "L5" "L1/L2";
        a_lost_answer_that_is_said_to_be_unsent: Denies, "S9" "S6" "S8" "L1/L2";
    }
    Objects {
        a_polling_claim_that_is_not_withdrawn: NoWithdrawal, "S6" "S9" "S10" "L1/L2";
        an_attempt_that_goes_on_after_its_withdrawal: GoesOn, "S6" "S9" "S10" "L1/L2";
        a_compare_and_set_that_does_not_compare: Compares, "S1" "S2" "S4" "S5" "S9" "S10";
        a_body_that_comes_again: Counts, "L1/L2" "S1" "S2" "S5" "S9";
        a_deadline_from_the_answer_of_a_write: FromAnswer, "S5" "S1";
    }
    Sessions {
        an_answered_ping_that_proves_a_session: Pinged, "S1" "S5" "S8";
        a_session_that_ends_earlier_than_was_said: Lasts::TooShort, "S1" "S5" "S8";
        a_session_that_never_ends: Lasts::ForEver, "S6" "L1/L2" "L4";
    }
    Quorum {
        a_minority_that_decides: Minority, "S1" "S2" "S5";
        a_validity_from_the_answers: FromAnswer, "S1" "S5";
        a_try_in_vain_that_keeps_its_votes: Keeps, "L1/L2" "L2" "L5";
        a_server_that_votes_after_it_forgot: Empty, "S1" "S2" "S4" "S5";
        a_release_that_names_no_round: NoRound, "S1" "S4" "S5" "S10";
        a_vote_that_counts_without_its_token: Tokenless, "S2";
        a_promotion_above_a_floor_that_moves: Moving, "L1/L2";
        a_ballot_that_goes_on_after_its_withdrawal: GoesOn, "S9" "S10" "S6" "S4";
    }
}
