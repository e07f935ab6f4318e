//! Checks of claims and the wording of refusals, for all stores.

use super::{Claim, Kind, RW_CAPACITY};
use crate::core::line::WAITERS_MAX;
use crate::error::{Error, Result};

/// Refuses a claim whose weight and capacity do not fit each other and its kind.
pub(crate) fn check_weight(claim: &Claim) -> Result<()> {
    let capacity = match claim.kind {
        Kind::Mutex => 1,
        Kind::ReadWrite => RW_CAPACITY,
        Kind::Semaphore => claim.capacity,
    };
    if claim.weight == 0 || claim.weight > claim.capacity || claim.capacity != capacity {
        return Err(weight());
    }
    Ok(())
}

/// Refuses a claim that asks for more tokens than the store reserves at once: `most` for a mutex, one for other kinds.
pub(crate) fn check_tokens(claim: &Claim, most: u32) -> Result<()> {
    let asked = claim.cohort.tokens;
    let most = if claim.kind == Kind::Mutex { most } else { 1 };
    if (1..=most).contains(&asked) {
        return Ok(());
    }
    let advice = match most {
        1 => "ask for one token, or for a mutex of a store that reserves several".to_owned(),
        most => format!("ask for 1 to {most} tokens"),
    };
    Err(Error::config(format!("the store cannot reserve {asked} tokens for a claim"), advice))
}

/// The weight does not fit.
pub(crate) fn weight() -> Error {
    Error::config(
        "the weight is 0 or more than the capacity, or the capacity is not that of its kind",
        "ask for at least 1 permit and at most all of them",
    )
}

/// A transfer to a greater weight.
pub(crate) fn larger() -> Error {
    Error::config(
        "a hold cannot gain weight",
        "release it and acquire more: two holders that both wait for more would wait for each other for ever",
    )
}

/// The live line is of another kind.
pub(crate) fn other_kind(live: Option<Kind>, asked: Option<Kind>) -> Error {
    let (live, asked) = (kind_name(live), kind_name(asked));
    Error::config(
        format!("the lock is {live} now, and it was asked for as {asked}"),
        "give locks of different kinds different names; a lock that nobody holds or waits for may change its kind",
    )
}

/// The line is full.
pub(crate) fn too_many() -> Error {
    Error::unavailable(
        format!("{WAITERS_MAX} claims already wait for this lock, which is the most"),
        "try again later, or divide the lock",
    )
}

/// A store that carries mutexes only.
#[cfg(feature = "redis")]
pub(crate) fn mutexes_only(scheme: &str, instead: &str) -> Error {
    Error::unsupported(format!("{scheme}: carries mutexes only"), format!("use {instead}: instead"))
}

fn kind_name(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::Mutex) => "a mutex",
        Some(Kind::ReadWrite) => "a read-write lock",
        Some(Kind::Semaphore) => "a semaphore",
        None => "something else",
    }
}
