//! Locks by a majority of independent Redis servers: `redlock://a,b,c`.
//!
//! Each server votes for one claim at a time, and a claim that a majority votes for holds the lock. This is Redlock with
//! fencing tokens: [`core::quorum`](crate::core::quorum) has the protocol and its proof, and the client's decisions. The
//! servers' half is a script per verb, in the folder of `redis`. There is no line: whoever waits asks again. Keys and votes are
//! a public interface: `docs/wire/redlock.md`.
//!
//! - `url`: which servers.
//! - `store`: a client of all of them as a backend.
//! - `verbs`: how a claim gets, keeps and loses its votes; `ballot`: how it gets them.
//! - `known`: what a client knows of its claims.
//! - `troubles`: why servers do not vote.
//! - `fan`: asking all servers at once.
//! - `format`: reading what they say.
//! - `list`: looking at votes.
//! - `domain`: which order the tokens belong to.

use std::time::Duration;

use super::Entry;
use crate::capability::{
    Capabilities, Fact, Knows, Modes, Order, Survives, TokenStrength, Turns, Visibility, Wakeup,
};
use crate::core::lease;
use crate::ttl::Ttl;

mod ballot;
mod domain;
mod fan;
mod format;
mod known;
mod list;
mod store;
mod troubles;
mod url;
mod verbs;

/// The longest lease, unless the URL says otherwise. A server that lost its memory stays out of votes for as long.
const LONGEST: Duration = Duration::from_secs(60);

const MOST: Capabilities = Capabilities {
    token: TokenStrength::Hybrid,
    order: Order::None,
    modes: Modes::MUTEX,
    wakeup: Wakeup::Poll,
    visibility: Visibility::Holders,
    turns: Turns::Each,
    // A server that forgot its votes in a restart does not vote until nobody believes in them any more. A server cannot know
    // that somebody deleted its data. There are no replicas to fail over to.
    survives: Survives { failover: Fact::No, data_loss: Fact::No, ..Survives::EVERYTHING },
    ttl: Ttl::PerClaim { min: lease::TTL_MIN, max: LONGEST, grain: Duration::from_micros(1) },
    previous: Knows::No,
    ..Capabilities::strongest("redlock")
};

/// This backend's row in the table.
pub(super) const ENTRY: Entry = Entry {
    schemes: &["redlock"],
    feature: "redlock",
    capabilities: MOST,
    open: |opening| Box::pin(store::open(opening)),
};
