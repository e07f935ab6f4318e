//! Locks on one Redis server: `redis://`, `rediss://`, and the plain `SET NX PX` of everybody as `redis+setnx://`.
//!
//! The line of a lock lives on the server. Each verb is one script there, so it is atomic, takes its time from the
//! server's clock, and grants to the next in line what it made free; the one who was granted is told by a push that
//! carries token and time. Keys, records and channels are a public interface: `docs/wire/redis.md`.
//!
//! - `lua/`: the scripts.
//! - `fields`: names in them.
//! - `scripts`: one for each verb, and how it is called.
//! - `answer`, `format`: reading what they say.
//! - `store`: a client as a backend.
//! - `verbs`: the verbs of the line.
//! - `setnx`: the verbs of the dialect.
//! - `client`: requests over the two connections that `net` keeps up.
//! - `changes`: news of what is watched.
//! - `link`, `together`, `stream`, `resp`, `digits`: one connection.
//! - `handshake`: how a connection begins, and what the server can promise.
//! - `list`: looking at lines.
//! - `member`: one of several servers that vote.
//! - `url`, `names`, `fault`: URLs, keys, errors.
//! - `domain`: which order the tokens belong to.

use super::Entry;
use crate::capability::{Capabilities, Fact, Knows, Survives, TokenStrength};

/// Where the format is described: whoever has only the program has no `docs` folder.
macro_rules! page {
    () => {
        "https://github.com/tenure-rs/tenure/blob/main/docs/wire/redis.md"
    };
}

/// What to do about a missing permission.
macro_rules! permissions {
    () => {
        concat!(page!(), " lists the permissions that suffice")
    };
}

mod answer;
mod changes;
mod client;
mod digits;
mod domain;
mod fault;
mod fields;
mod format;
#[cfg(feature = "unstable")]
mod fuzz;
mod handshake;
mod link;
mod list;
#[cfg(feature = "redlock")]
pub(super) mod member;
mod names;
mod resp;
mod scripts;
pub(super) mod setnx;
mod store;
mod stream;
mod together;
mod url;
mod verbs;

#[cfg(feature = "unstable")]
pub(crate) use self::fuzz::FUZZ;
#[cfg(any(test, feature = "unstable"))]
pub use self::{fields::put_in as with_offsets, scripts::scripts};

const MOST: Capabilities = Capabilities {
    token: TokenStrength::Hybrid,
    // Replicas lag, and one server is the only copy.
    survives: Survives { failover: Fact::No, data_loss: Fact::No, ..Survives::EVERYTHING },
    previous: Knows::Yes,
    ..Capabilities::strongest("redis")
};

/// This backend's row in the table.
pub(super) const ENTRY: Entry = Entry {
    schemes: &["redis", "rediss"],
    feature: "redis",
    capabilities: MOST,
    open: |opening| Box::pin(store::open::<verbs::Line>(opening)),
};
