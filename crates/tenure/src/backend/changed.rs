//! Which locks changed, collected until somebody looks.

use std::collections::BTreeSet;

use crate::key::Key;

/// The most locks whose names are kept; if more change, any lock may have.
pub(crate) const NAMES_MAX: usize = 1000;

/// What changed since somebody looked last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// At most these locks.
    Lines(BTreeSet<Key>),
    /// Any lock may have.
    Anything,
}

impl Default for Changed {
    fn default() -> Changed {
        Changed::Lines(BTreeSet::new())
    }
}

impl Changed {
    /// Both changes.
    pub(crate) fn add(&mut self, more: Changed) {
        match (&mut *self, more) {
            (Changed::Lines(keys), Changed::Lines(more)) => {
                keys.extend(more);
                if keys.len() > NAMES_MAX {
                    *self = Changed::Anything;
                }
            }
            _ => *self = Changed::Anything,
        }
    }

    /// Whether this lock may have changed.
    #[cfg(feature = "redis")]
    pub(crate) fn has(&self, key: &Key) -> bool {
        match self {
            Changed::Lines(keys) => keys.contains(key),
            Changed::Anything => true,
        }
    }
}
