//! Fences that are known to be wrong, each with the trial that must catch it.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::table::{Check, Dialect, Row};
use crate::{Suite, sqlite, trial, trials};

pub(crate) const SUITE: Suite = Suite { name: "broken", needs: &["sqlite3", "stdbuf"], trials: all };

/// What is wrong, and which trial says so.
const VARIANTS: &[(&str, Check, &str)] = &[
    (
        "a_fence_that_does_not_register_reads",
        Check::NotOnReads,
        "s3_a_stalled_holder_is_refused_once_the_next_has_only_read",
    ),
    (
        "a_fence_that_checks_before_the_transaction_of_the_write",
        Check::Before,
        "s3_whoever_is_inside_ends_before_the_next_comes_in",
    ),
    (
        "a_fence_that_compares_tokens_of_different_stores",
        Check::AnyDomain,
        "a_token_of_another_store_is_refused_with_both_names",
    ),
];

fn all() -> Vec<Trial> {
    VARIANTS
        .iter()
        .map(|(name, check, by)| {
            trial(format!("broken::{name}_is_caught"), move || {
                let row = |check, grace| Row::new(Dialect { check, grace, ..sqlite::DIALECT });
                assert!(trials::catches(by, &row(*check, Duration::from_secs(20))), "{name} passed {by}");
                assert!(
                    !trials::catches(by, &row(Check::Proper, sqlite::DIALECT.grace)),
                    "{by} fails always"
                );
            })
        })
        .collect()
}
