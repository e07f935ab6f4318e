//! What the scripts of a server that votes must not do. They are changed on their way to real servers.

use super::Redlock;
use crate::broken::intercept::as_it_is;
use crate::broken::{On, Variant, variant_table};
use crate::mutants::{How, Mutant, mutants};
use crate::servers::patched::Patch;

const fn votes(patches: &'static [Patch]) -> On {
    On::Server(&Redlock, patches)
}

const fn scripts(patches: &'static [Patch]) -> How {
    How::Scripts(&Redlock, patches)
}

/// A server votes for whoever asks: two majorities have no server in common that refuses one of them.
const FOR_EVERYBODY: &[Patch] = &[("if voter and (voter ~= id or rounds > round) then", "if false then")];

/// A renewal makes a vote that is not there.
const REVIVED: &[Patch] = &[
    ("if voter ~= id or rounds == KEPT or asked == 0 or stored > asked then", "if asked == 0 then"),
    (
        "stored, token, finish, note = asked, asked, now + lease, ARGV[4]",
        "voter, rounds, since, stored, token, finish, note = id, rounds == '' and '0000000000000001' or rounds, since, math.max(stored, asked), asked, now + lease, ARGV[4]",
    ),
];

/// A vote expires before the client believes it does.
const HALF: &[Patch] = &[
    (
        "voter, rounds, finish, note = id, round, now + lease, ARGV[5]",
        "voter, rounds, finish, note = id, round, now + lease / 2, ARGV[5]",
    ),
    (
        "stored, token, finish, note = asked, asked, now + lease, ARGV[4]",
        "stored, token, finish, note = asked, asked, now + lease / 2, ARGV[4]",
    ),
];

/// A release takes back whatever vote there is.
const ANY_OWNER: &[Patch] =
    &[("if voter ~= id or rounds > round or rounds == KEPT then", "if not voter then")];

/// A withdrawn claim may get votes that are still on their way.
const NO_MARK: &[Patch] = &[("if ARGV[4] == '1' and now", "if false and now")];

pub(super) const VARIANTS: &[Variant] = variant_table! {
    a_server_that_votes_for_everybody: votes(FOR_EVERYBODY), as_it_is(), "s1_exclusion_of_tasks";
    a_renewal_that_makes_votes: votes(REVIVED), as_it_is(), "s10_renewal_never_revives";
    a_release_of_any_vote: votes(ANY_OWNER), as_it_is(), "s4_strangers_cannot_release";
    a_withdrawal_of_votes_without_a_mark: votes(NO_MARK), as_it_is(), "s9_late_requests_are_refused";
};

/// Those that a judge of histories must notice.
pub(super) const MUTANTS: &[Mutant] = mutants! {
    majorities_that_do_not_intersect: scripts(FOR_EVERYBODY), "S1" "S2" "S4",
        "Redlock on servers behind one address: each majority is another set of servers";
    votes_for_half_of_the_lease: scripts(HALF), "S1" "S2" "S4" "S5"; "pause" "latency",
        "the validity of the classic protocol without the time that the votes took";
    votes_taken_back_for_others: scripts(ANY_OWNER), "S1" "S2" "S4",
        "DEL on every server after an attempt that failed";
};
