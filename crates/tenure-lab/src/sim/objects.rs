//! A server that keeps one object per lock: it reads, and writes if the object still has the version that is named.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tenure::backend::{Answer, ClaimId, Grant, Lease, Leave, Previous, Released, Standing};
use tenure::core::cas::{Object, Outcome, State, Version};
use tenure::core::moment::nanos;

use super::judge::Judge;
use super::locks::lock_of;
use super::message::{Said, Serving, Verb, Write};

/// Its memory.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    /// By name: the object, and when it was written, on the server's clock and in true time.
    objects: BTreeMap<String, (Object, u64, u64)>,
    /// How often an old copy was restored: a version that is over never comes back.
    pub(super) copies: u32,
    /// Whether it looks at the version, and at all of the body for it: both but for mutants.
    pub(super) compares: bool,
    pub(super) counts: bool,
}

impl Default for Objects {
    fn default() -> Objects {
        Objects { objects: BTreeMap::new(), copies: 0, compares: true, counts: true }
    }
}

impl Objects {
    /// The version is a hash of the body, as buckets have it.
    fn version(&self, object: &Object) -> Version {
        let mut hash = DefaultHasher::new();
        let object =
            if self.counts { object.clone() } else { Object { count: 0, stamp: 0, ..object.clone() } };
        (self.copies, object).hash(&mut hash);
        Version::new(&format!("{:016x}", hash.finish()))
    }

    pub(super) fn read(&self, name: &str, shown: u64, tells_age: bool) -> Said {
        let Some((object, written, _)) = self.objects.get(name) else { return Said::Object(None, None) };
        let age = Duration::from_nanos(shown.saturating_sub(*written));
        Said::Object(Some((self.version(object), object.clone())), tells_age.then_some(age))
    }

    pub(super) fn write(&mut self, judge: &mut Judge, s: Serving, write: &Write) -> Said {
        let name = write.key.full();
        let before = self.objects.get(name).map(|(object, _, at)| (object.clone(), *at));
        let version = before.as_ref().map(|(object, _)| self.version(object));
        if self.compares && version != write.expected {
            return Said::Outcome(Outcome::Stale);
        }
        self.objects.insert(name.to_owned(), (write.object.clone(), s.shown, s.t));
        // No clock of this server ends a hold.
        judged(judge, Serving { now: s.t, shown: s.t, ..s }, before.as_ref(), write);
        Said::Outcome(Outcome::Done)
    }

    /// What is not as a store that nobody uses.
    pub(super) fn residue(&self) -> Result<(), String> {
        let held: Vec<_> = self.objects.iter().filter(|(_, (o, ..))| o.state == State::Held).collect();
        if held.is_empty() { Ok(()) } else { Err(format!("{held:?} are held")) }
    }
}

/// Tells the judge what a write did.
fn judged(judge: &mut Judge, s: Serving, before: Option<&(Object, u64)>, write: &Write) {
    let now = &write.object;
    let holder = |object: &Object| object.claim.filter(|_| object.state == State::Held);
    let (old, new) = (before.and_then(|(object, _)| holder(object)), holder(now));
    // A hold lasts until it is written over: who watches it counts by a clock of its own.
    let grant = Grant { token: now.token, lease: Lease::Unbounded, previous: Previous::Unknown };
    let held = || Ok(Answer { standing: Standing::Held(grant), at: None });
    // Written over by somebody else, it is over: its client may ask for it again.
    let own = matches!(&write.call, Verb::Transfer(..) | Verb::Evict(..))
        || matches!(&write.call, Verb::Release(claim, ..) if old == Some(claim.id.0));
    // And so it is where its own client has seen it unchanged for a ttl, which clocks may differ about a little.
    let lapsed = before.is_some_and(|(object, at)| {
        object.token != now.token && s.t - at >= nanos(object.ttl.mul_f64(0.985))
    });
    if let Some(old) = old.filter(|old| !own && (new != Some(*old) || lapsed)) {
        judge.ended(ClaimId(old), s.now);
    }
    match &write.call {
        Verb::Attempt(claim, _) if new == Some(claim.id.0) => judge.attempted(s, claim, &held()),
        Verb::Renew(claims) => {
            for claim in claims.iter().filter(|claim| new == Some(claim.id.0)) {
                judge.renewed(s, claim, &held());
            }
        }
        Verb::Transfer(from, to, _) if new == Some(to.id.0) => judge.transferred(s, from, to, &held()),
        Verb::Release(claim, leave, _) => match old {
            Some(old) if old == claim.id.0 => {
                // Clocks differ in rate by twice what rho allows for one of them.
                let leave = match leave {
                    Leave::For(d) if now.state == State::Kept => Leave::For(d.mul_f64(0.985)),
                    _ => Leave::Nothing,
                };
                judge.released(s, claim, leave, &Ok(Released::WasHeld));
            }
            Some(old) if new != Some(old) => judge.stranger(s.t, lock_of(&write.key), claim.id),
            _ => {}
        },
        Verb::Evict(key, _) => {
            judge.cleared(lock_of(key));
            if let Some(old) = old {
                judge.evicted(ClaimId(old));
            }
        }
        _ => {}
    }
}
