//! The other half of a fencing token: the check that a resource makes.
//!
//! A lock decides who may act. It cannot stop a holder that was granted the lock, paused for longer than its lease, and acts
//! now. Only the resource can, by refusing a token lower than the highest it has seen. This module is that check, ready for
//! tables ([`sql`]), Redis ([`redis`]), HTTP services (`http`, with the cargo feature `tower`) and files ([`FenceFile`]).
//! For other resources, use the [rule](check()) itself. The [manual](crate::manual::fence) describes each.
//!
//! The rule is the same everywhere:
//! - Every access shows a [`Stamp`]: the token of the grant, and the [domain](Domain) of the store that gave it.
//! - The first access registers the stamp, even if it only reads. Otherwise a stalled holder could write between the new
//!   holder's read and its write.
//! - A token lower than the highest seen is refused. The same token is accepted any number of times.
//! - A token of another domain is refused, whatever its number, because it cannot be compared.
//! - Check, record and effect are one atomic step of the resource.
//!
//! A fence is found by the bytes of the resource's name: case, spaces and Unicode composition matter in every store.

mod file;
#[cfg(feature = "unstable")]
mod fuzz;
#[cfg(feature = "tower")]
pub mod http;
#[cfg(feature = "tower")]
mod path;
mod record;
pub mod redis;
mod rule;
mod sections;
pub mod sql;

pub use file::{Entry, FenceFile};
pub use rule::{Admission, CheckError, Reason, Refusal, Stamp, check};

pub use crate::domain::Domain;
#[cfg(feature = "unstable")]
pub(crate) use fuzz::FUZZ;
