//! What a store must be able to do for a lock, checked when the lock object is made.

use crate::backend;
use crate::capability::{Capabilities, Modes, TokenStrength};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::locks::Locks;

impl Locks {
    /// Refuses a lock that this store cannot carry.
    pub(crate) fn carries(&self, key: &Key, what: &str, has: fn(Modes) -> bool) -> Result<()> {
        let Capabilities { backend, modes, .. } = self.capabilities();
        if has(modes) {
            return Ok(());
        }
        let others = backend::table().filter(|e| has(e.capabilities.modes)).map(|e| e.schemes[0]);
        let others: Vec<String> = others.map(|scheme| format!("{scheme}:")).collect();
        let advice = match others[..] {
            [] => "no backend of this build has one".to_owned(),
            _ => format!("use one that has: {}", others.join(", ")),
        };
        Err(Error::unsupported(format!("{backend}: has no {what}"), advice).of(key))
    }

    /// Refuses an exclusive lock on a store that gives no fencing tokens.
    pub(crate) fn fences(&self, key: &Key) -> Result<()> {
        let Capabilities { backend, token, .. } = self.capabilities();
        if token > TokenStrength::None {
            return Ok(());
        }
        let advice = "use a store that gives them; or a semaphore of one permit, which has none, where nothing is fenced";
        Err(Error::unsupported(format!("{backend}: gives no fencing tokens"), advice).of(key))
    }
}
