//! The capabilities that exclude trials, beyond those that a trial's own file knows.

use tenure::{After, Evict, Transfer};

use super::Ctx;

/// Excludes trials in which a hold goes on under another claim.
pub(super) fn no_transfer(ctx: &Ctx) -> Option<&'static str> {
    match ctx.caps.transfer {
        Transfer::Anyone => None,
        Transfer::SameClient => Some("transfer is same client"),
        _ => Some("transfer is no"),
    }
}

/// Excludes trials in which handles go from client to client: nobody renews a hold on its way.
pub(super) fn no_handles(ctx: &Ctx) -> Option<&'static str> {
    no_transfer(ctx).or_else(|| no_keep(ctx))
}

/// Excludes trials in which an operator takes a lock away.
pub(super) fn no_evict(ctx: &Ctx) -> Option<&'static str> {
    (ctx.caps.evict == Evict::No).then_some("evict is no")
}

/// Excludes trials in which a hold outlasts its holder.
pub(super) fn no_keep(ctx: &Ctx) -> Option<&'static str> {
    (ctx.caps.after == After::No).then_some("after is no")
}
