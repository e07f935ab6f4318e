//! Wrong scripts: a proxy before a server changes the scripts that clients load. The client and the server are the real
//! ones, and what runs is a few lines away from what is shipped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tenure_servers::proxy::{Proxy, Rewrite};

use super::StoreKind;
use crate::failure::{Doing, Outcome};

/// What to replace in a script, and by what. Both name fields as the scripts do.
pub(crate) type Patch = (&'static str, &'static str);

/// How often each patch was applied.
type Counts = Arc<Vec<AtomicUsize>>;

/// A proxy before each server.
#[derive(Debug)]
pub(crate) struct Patched {
    proxies: Vec<Proxy>,
    #[cfg_attr(not(feature = "proofs"), allow(dead_code))] // for broken variants
    applied: Counts,
}

impl Patched {
    /// Puts one before each server of this kind at these ports.
    pub(crate) fn before(
        kind: &'static dyn StoreKind,
        servers: &[u16],
        patches: &'static [Patch],
    ) -> Outcome<Patched> {
        let applied: Counts = Arc::new(patches.iter().map(|_| AtomicUsize::new(0)).collect());
        let proxy = |server: &u16| Proxy::rewriting(*server, rewrite(kind, patches, applied.clone()));
        let proxies = servers.iter().map(proxy).collect::<Result<_, _>>().doing(|| "start a proxy".into())?;
        Ok(Patched { proxies, applied })
    }

    /// Their ports.
    #[cfg(feature = "proofs")]
    pub(crate) fn ports(&self) -> impl Iterator<Item = u16> {
        self.proxies.iter().map(Proxy::port)
    }

    /// The proxies alone, for those who do not ask what was applied.
    pub(crate) fn into_proxies(self) -> Vec<Proxy> {
        self.proxies
    }

    /// How many patches found no place in any script.
    #[cfg(feature = "proofs")]
    pub(crate) fn idle(&self) -> usize {
        self.applied.iter().filter(|n| n.load(Ordering::SeqCst) == 0).count()
    }
}

/// Applies the patches to every script that a client loads.
fn rewrite(kind: &'static dyn StoreKind, patches: &'static [Patch], counts: Counts) -> Rewrite {
    let patches: Vec<(String, String)> =
        patches.iter().map(|(old, new)| (kind.as_loaded(old), kind.as_loaded(new))).collect();
    Box::new(move |requests| {
        kind.request(requests, &mut |text| {
            let mut text = text.to_owned();
            for ((old, new), count) in patches.iter().zip(counts.iter()) {
                count.fetch_add(text.matches(old.as_str()).count(), Ordering::SeqCst);
                text = text.replace(old, new);
            }
            text
        })
    })
}
