//! Which tokens can be compared with which: those of one set of servers.

use super::store::Redlock;
use crate::domain::Domain;
use crate::error::Result;

/// The longest that names of servers may be in a domain.
const LONG: usize = 150;

/// The domain of a set of servers, whatever the order in which the URL names them.
pub(super) fn domain(store: &Redlock) -> Result<Domain> {
    let mut names: Vec<String> = store.members.iter().map(|member| member.shown()).collect();
    names.sort();
    let whole = names.join("+");
    if whole.len() <= LONG {
        return Domain::of("redlock", &whole);
    }
    // FNV-1a: the name of a set need not be hard to forge.
    let hash = whole.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Domain::of("redlock", &format!("{}-servers-{hash:016x}", names.len()))
}
