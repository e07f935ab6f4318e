//! What `inspect` shows. Looking changes nothing.

use super::Kind;

/// One lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineRow {
    /// `namespace/name`.
    pub key: Vec<u8>,
    /// What kind of line.
    pub kind: Kind,
    /// Its capacity, as the first claim in line assumes it.
    pub capacity: u32,
    /// The token of the newest grant, or 0.
    pub token: i64,
    /// Who holds, oldest grant first.
    pub holders: Vec<ClaimRow>,
    /// Who waits, first in line first; cut off at the asker's limit.
    pub waiting: Vec<ClaimRow>,
    /// How many wait in all.
    pub waiters: u64,
    /// The last eviction: when (µs since the epoch), which token, why.
    pub broken: Option<(u64, i64, Vec<u8>)>,
}

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRow {
    /// Its id.
    pub id: u128,
    /// The process slot it is anchored to.
    pub slot: u32,
    /// Who and why, in the backend's own encoding.
    pub note: Vec<u8>,
    /// Since when it holds or waits, in µs since the epoch.
    pub since_us: u64,
    /// When its lease ends.
    pub end: u64,
    /// Its weight.
    pub weight: u32,
    /// Its token, or 0.
    pub token: i64,
}
