//! What a wrong protocol is.

#![cfg_attr(not(feature = "proofs"), allow(dead_code))] // none is built then

use std::sync::Arc;

use crate::conform::Hooks;
use crate::servers::StoreKind;
use crate::servers::patched::Patch;

/// A wrong protocol.
pub(crate) struct Mutant {
    /// What is wrong with it.
    pub(crate) name: &'static str,
    /// Who had that accident.
    pub(crate) stands_for: &'static str,
    /// The rules of which it must break one.
    pub(crate) breaks: &'static [&'static str],
    pub(crate) how: How,
    /// The faults under which it shows; none: all there are.
    pub(crate) under: &'static [&'static str],
}

/// Where it is wrong.
pub(crate) enum How {
    /// Between the engine and the store, in every client.
    Client(fn() -> Arc<dyn Hooks>),
    /// In the scripts of this kind of server, on their way to it.
    Scripts(&'static dyn StoreKind, &'static [Patch]),
    /// At the resource: what is read needs no token.
    Fence,
}

impl Mutant {
    /// The one of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Mutant> {
        super::all().find(|mutant| mutant.name == name)
    }

    /// What is put around a client.
    pub(crate) fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        match self.how {
            How::Client(make) => Some(make()),
            How::Scripts(..) | How::Fence => None,
        }
    }

    /// The kind of server that it runs on; `None`: any.
    pub(crate) fn server(&self) -> Option<&'static dyn StoreKind> {
        match self.how {
            How::Scripts(kind, _) => Some(kind),
            How::Client(_) | How::Fence => None,
        }
    }

    /// What is changed in the scripts.
    pub(crate) fn patches(&self) -> &'static [Patch] {
        match self.how {
            How::Scripts(_, patches) => patches,
            How::Client(_) | How::Fence => &[],
        }
    }
}
