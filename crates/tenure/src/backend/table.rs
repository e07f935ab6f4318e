//! The table of backends: the only list of them.

use std::sync::Arc;

use super::{Backend, BoxFuture, Owner, Sink};
use crate::capability::Capabilities;
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::url::StoreUrl;

/// Everything that a backend is opened with.
pub struct Opening {
    /// Where the store is.
    pub url: StoreUrl,
    /// Where pushes go.
    pub sink: Arc<dyn Sink>,
    /// Clock, randomness and a place to run.
    pub runtime: Arc<dyn Runtime>,
    /// Who we are, unless a claim says otherwise.
    pub owner: Arc<Owner>,
}

/// What opening a store gives.
pub type Opened = Result<Arc<dyn Backend>>;

/// One row of the table of backends, or a backend of another crate:
/// [`Builder::backend`](crate::Builder::backend) takes it.
pub struct Entry {
    /// URL schemes, the first one the usual.
    pub schemes: &'static [&'static str],
    /// The cargo feature of this crate that compiles it in; empty for a backend of another crate.
    pub feature: &'static str,
    /// The most that it can promise.
    pub capabilities: Capabilities,
    /// Opens a store.
    pub open: fn(Opening) -> BoxFuture<'static, Opened>,
}

/// Every backend that exists, and how to open those that are compiled in. The only list: the conformance suite, the
/// documentation and the command take theirs from here.
pub fn table() -> impl Iterator<Item = &'static Entry> {
    TABLE.iter()
}

static TABLE: &[Entry] = &[
    #[cfg(feature = "memory")]
    super::memory::ENTRY,
    #[cfg(feature = "host")]
    super::host::ENTRY,
    #[cfg(feature = "redis")]
    super::redis::ENTRY,
    #[cfg(feature = "redis")]
    super::redis::setnx::ENTRY,
    #[cfg(feature = "redlock")]
    super::redlock::ENTRY,
];

/// Schemes by the feature that compiles them in, compiled in or not: for a helpful error.
pub(crate) const KNOWN: &[(&str, &str)] = &[
    ("memory", "memory"),
    ("host", "host"),
    ("redis", "redis"),
    ("rediss", "redis"),
    ("redis+setnx", "redis"),
    ("rediss+setnx", "redis"),
    ("redlock", "redlock"),
];

/// The entry for a URL's scheme.
///
/// # Errors
/// `Config`: names the feature where the scheme is known but not compiled in; otherwise lists the schemes of this
/// build and guesses what was meant.
pub fn find(scheme: &str) -> Result<&'static Entry> {
    find_among(&[], scheme)
}

/// The same with some backends of other crates, which come first.
pub(crate) fn find_among(others: &[&'static Entry], scheme: &str) -> Result<&'static Entry> {
    let all = || others.iter().copied().chain(table());
    if let Some(entry) = all().find(|e| e.schemes.contains(&scheme)) {
        return Ok(entry);
    }
    if let Some((_, feature)) = KNOWN.iter().find(|(s, _)| *s == scheme) {
        return Err(Error::config(
            format!("this build has no {scheme}: backend"),
            format!("build it with the cargo feature {feature:?}"),
        ));
    }
    let schemes: Vec<&str> = all().flat_map(|e| e.schemes.iter().copied()).collect();
    let known: Vec<&str> = KNOWN.iter().map(|(s, _)| *s).chain(schemes.iter().copied()).collect();
    let schemes = schemes.join(", ");
    let what = format!("there is no backend for the scheme {scheme:?}");
    if let Some(instead) = crate::url::elsewhere(scheme) {
        return Err(Error::config(what, format!("{instead}; this build has: {schemes}")));
    }
    let advice = match crate::url::closest(scheme, &known) {
        Some(meant) => format!("did you mean {meant}:? This build has: {schemes}"),
        None => format!("this build has: {schemes}"),
    };
    Err(Error::config(what, advice))
}
