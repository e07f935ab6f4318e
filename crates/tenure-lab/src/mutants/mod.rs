//! Wrong protocols, each a few lines away from what is shipped. The lab must notice every one; one that survives is a hole in
//! the lab.
//!
//! - `kind`: what one is.
//! - `list`: all of them. They are wrappers around the shipped engine and scripts, and live here: nothing that is
//!   shipped has a switch that makes it wrong.
//! - `run`: `tenure lab mutants`.
//!
//! Without the cargo feature `proofs` there are none.

mod kind;
#[cfg(feature = "proofs")]
mod list;
#[cfg(feature = "proofs")]
mod run;

pub(crate) use kind::{How, Mutant};
#[cfg(feature = "proofs")]
pub(crate) use list::{Shifted, mutants};
#[cfg(feature = "proofs")]
pub use run::MutantsArgs;
#[cfg(feature = "proofs")]
pub(crate) use run::run;

/// All of them: those that are wrong on any server, and those of each kind.
#[cfg(feature = "proofs")]
pub(crate) fn all() -> impl Iterator<Item = &'static Mutant> {
    list::MUTANTS.iter().chain(crate::servers::kinds().flat_map(|kind| kind.mutants()))
}

/// This build has none.
#[cfg(not(feature = "proofs"))]
pub(crate) fn all() -> impl Iterator<Item = &'static Mutant> {
    std::iter::empty()
}
