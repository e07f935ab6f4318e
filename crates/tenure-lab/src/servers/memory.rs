//! The store inside one process: there is nothing to start, to wipe or to reach.

use std::sync::Arc;

use super::{Own, StoreKind, Wish};
use crate::failure::Outcome;

/// The kind.
pub(crate) struct Memory;

impl StoreKind for Memory {
    fn scheme(&self) -> &'static str {
        "memory"
    }

    fn sites(&self) -> &'static [&'static str] {
        &["memory"]
    }

    fn make(&self, _: &Wish<'_>) -> Outcome<Option<Arc<dyn Own>>> {
        Ok(None)
    }
}
