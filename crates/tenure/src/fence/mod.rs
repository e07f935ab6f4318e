//! The other half of a fencing token: what a resource checks.
//!
//! A lock tells who may act. It cannot stop somebody who was granted, paused for longer than the lease, and acts now: only
//! the resource can, by refusing a token lower than the highest it has seen. This module is that check, ready for the
//! places where resources are: tables ([`sql`]), Redis ([`redis`]), HTTP services (`http`, with the cargo
//! feature `tower`) and files ([`FenceFile`]); and the [rule](check()) itself, for all
//! others. The [manual](crate::manual::fence)
//! says how to use each.
//!
//! The rule, everywhere the same:
//! - Every access shows a [`Stamp`]: the token of the grant, and the [domain](Domain) of the store that gave it.
//! - The first access registers it, also an access that only reads. Otherwise a stalled holder could still write between
//!   the new holder's read and its write.
//! - A lower token than the highest seen is refused. The same token is accepted again, as often as its holder comes.
//! - A token of another domain is refused, whatever its number: it cannot be compared.
//! - Check, record and effect are one atomic step of the resource.

mod file;
#[cfg(feature = "tower")]
pub mod http;
pub mod redis;
mod rule;
mod sections;
pub mod sql;

pub use file::{Entry, FenceFile};
pub use rule::{Admission, CheckError, Reason, Refusal, Stamp, check};

pub use crate::domain::Domain;
