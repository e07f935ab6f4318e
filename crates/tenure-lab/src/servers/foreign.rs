//! A backend of another crate, on which that crate's own tests run the suite.
//!
//! It is given once for the whole process, because worker processes are this executable again: they must find it before
//! they play their part.

use std::sync::{Arc, OnceLock};

use tenure::backend::{self, Entry};
use tenure::{Builder, Locks};

use super::{Own, StoreKind, Wish};
use crate::failure::Outcome;

static GIVEN: OnceLock<Foreign> = OnceLock::new();

/// The kind of such a store. The lab makes none by itself and breaks none.
pub(crate) struct Foreign(&'static Entry);

impl StoreKind for Foreign {
    fn scheme(&self) -> &'static str {
        self.0.schemes.first().copied().unwrap_or_default()
    }

    fn sites(&self) -> &'static [&'static str] {
        &[]
    }

    fn make(&self, _: &Wish<'_>) -> Outcome<Option<Arc<dyn Own>>> {
        Ok(None)
    }
}

/// Makes a backend known to this process. A process has one: a second call changes nothing.
pub(crate) fn give(backend: &'static Entry) {
    GIVEN.get_or_init(|| Foreign(backend));
}

/// The kind, if a URL of this scheme is of the backend that was given.
pub(super) fn kind(scheme: &str) -> Option<&'static dyn StoreKind> {
    let given = GIVEN.get().filter(|given| given.0.schemes.contains(&scheme))?;
    Some(given)
}

/// The backend for a scheme.
///
/// # Errors
/// Those of [`backend::find`].
pub(crate) fn entry(scheme: &str) -> tenure::Result<&'static Entry> {
    match GIVEN.get().filter(|given| given.0.schemes.contains(&scheme)) {
        Some(given) => Ok(given.0),
        None => backend::find(scheme),
    }
}

/// How the suite connects: as anybody does, with the backend that was given.
pub(crate) fn builder(url: &str) -> Builder {
    let builder = Locks::builder(url);
    match GIVEN.get() {
        Some(given) => builder.backend(given.0),
        None => builder,
    }
}
