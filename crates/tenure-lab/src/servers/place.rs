//! Where the suite runs by itself: stores that it makes, and wipes, for every backend of the table.

use std::sync::Arc;

use tenure::backend;

use super::{Own, StoreKind, Wish};
use crate::failure::Outcome;

/// A store that the suite runs on.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name in test output.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// The store, if it is the suite's own: it may be killed and wiped.
    own: Option<Arc<dyn Own>>,
    /// Why there is no such store here, if so.
    absent: Option<String>,
}

impl Place {
    /// A store that belongs to somebody else.
    #[must_use]
    pub fn given(name: &str, url: &str) -> Place {
        Place { name: name.into(), url: url.into(), own: None, absent: None }
    }

    /// A store that is not on this machine, for this reason: every trial on it is skipped, and counted as skipped.
    pub(crate) fn missing(name: &str, why: &str) -> Place {
        Place { absent: Some(why.into()), ..Place::given(name, "") }
    }

    /// A store of the suite's own, at one of the sites of its kind. If none can be made here, every trial on it is skipped,
    /// and counted as skipped.
    pub(crate) fn of(kind: &'static dyn StoreKind, site: &'static str) -> Outcome<Place> {
        let url = format!("{}:", kind.scheme());
        if let Some(why) = kind.missing() {
            return Ok(Place { absent: Some(why), ..Place::given(site, &url) });
        }
        let own = kind.make(&Wish { site, ..Wish::default() })?;
        let url = own.as_ref().map_or(url, |own| own.url());
        Ok(Place { own, ..Place::given(site, &url) })
    }

    /// The same store behind another URL.
    #[cfg_attr(not(feature = "proofs"), allow(dead_code))] // for broken variants
    pub(crate) fn behind(&self, url: String) -> Place {
        Place { url, ..self.clone() }
    }

    /// Why there is no such store here, if so.
    #[must_use]
    pub fn absent(&self) -> Option<&str> {
        self.absent.as_deref()
    }

    pub(crate) fn own(&self) -> Option<Arc<dyn Own>> {
        self.own.clone()
    }
}

/// The stores that the suite can make by itself, for every backend of the table.
///
/// # Errors
/// If a store cannot be made, or the registry of stores lacks a backend.
pub fn places() -> Result<Vec<Place>, String> {
    let mut places = Vec::new();
    for entry in backend::table() {
        let scheme = entry.schemes.first().copied().unwrap_or_default();
        let kind = super::of(&format!("{scheme}:")).map_err(|failure| failure.to_string())?;
        for site in kind.sites() {
            places.push(Place::of(kind, site).map_err(|failure| failure.to_string())?);
        }
    }
    Ok(places)
}
