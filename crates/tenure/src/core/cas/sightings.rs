//! Since when each object has looked as it does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Version;
use crate::core::moment::Moment;

/// When each key was first seen with its present version, for the keys that were looked at last.
///
/// A forgotten key is seen anew: that delays a take-over, and never hastens one.
#[derive(Clone, Debug)]
pub struct Sightings {
    most: usize,
    seen: BTreeMap<Arc<str>, Sighting>,
    /// The keys by their last use, longest ago first.
    by_use: BTreeMap<u64, Arc<str>>,
    uses: u64,
}

#[derive(Clone, Debug)]
struct Sighting {
    version: Version,
    first: Moment,
    used: u64,
}

impl Sightings {
    /// Remembers at most so many keys, at least one.
    #[must_use]
    pub fn new(most: usize) -> Sightings {
        Sightings { most: most.max(1), seen: BTreeMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    /// Notes that an answer with this version arrived at `arrived`, and says when the first one did.
    ///
    /// It must be the arrival and not the instant at which the read was sent: the version may be younger than that.
    pub fn saw(&mut self, key: &str, version: &Version, arrived: Moment) -> Moment {
        self.uses += 1;
        let used = self.uses;
        let (name, first) = match self.seen.get_key_value(key) {
            Some((name, before)) => {
                self.by_use.remove(&before.used);
                let first = if before.version == *version { before.first.min(arrived) } else { arrived };
                (name.clone(), first)
            }
            None => (Arc::from(key), arrived),
        };
        self.by_use.insert(used, name.clone());
        self.seen.insert(name, Sighting { version: version.clone(), first, used });
        if self.seen.len() > self.most
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.seen.remove(&oldest);
        }
        first
    }
}
