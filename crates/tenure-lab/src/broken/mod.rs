//! Deliberately broken variants: each breaks one promise in a few lines, and the trial named for it must notice. A
//! suite that cannot fail proves nothing.
//!
//! - `stores`: stores that forget, confuse or make up.
//! - `primitives`: the same, of locks that are no mutex.
//! - `engines`: clocks, threads and links that make an engine do what it must not.
//! - `intercept`: the wrappers that make a store or a runtime wrong.
//!
//! What is particular to one kind of store is in the registry of stores.

/// A table of variants: for each its name, the store that it is a variant of (or one for all of them, first), how it is
/// made, and the trial that must notice.
macro_rules! variant_table {
    ($($name:ident: $on:expr, $hooks:expr, $trial:literal;)*) => {
        &[$($crate::broken::Variant { name: stringify!($name), trial: $trial, on: $on, hooks: || $hooks }),*]
    };
    ($on:expr, $($name:ident: $hooks:expr, $trial:literal;)*) => {
        $crate::broken::variant_table! { $($name: $on, $hooks, $trial;)* }
    };
}
pub(crate) use variant_table;

pub(crate) mod engines;
pub(crate) mod intercept;
pub(crate) mod primitives;
pub(crate) mod stores;

use std::sync::Arc;

use crate::conform::{Came, Ctx, Failed, Hooks, Place, Trial, judge, trials};
use crate::harness::{Harness, Verdict};
use crate::servers::patched::{Patch, Patched};
use crate::servers::{self, IN_PROCESS, StoreKind};

/// The store that a variant is a variant of.
#[derive(Clone, Copy)]
pub(crate) enum On {
    /// The one inside the process.
    Process,
    /// A server, with these changes of its scripts.
    Server(&'static dyn StoreKind, &'static [Patch]),
}

/// One broken variant.
#[derive(Clone, Copy)]
pub struct Variant {
    /// What is wrong with it.
    pub name: &'static str,
    /// The trial that must notice.
    pub trial: &'static str,
    /// Where it is.
    pub(crate) on: On,
    /// Makes it.
    pub hooks: fn() -> Arc<dyn Hooks>,
}

impl std::fmt::Debug for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} caught by {}", self.name, self.trial)
    }
}

/// All of them.
pub fn variants() -> impl Iterator<Item = &'static Variant> {
    let general = stores::VARIANTS.iter().chain(engines::VARIANTS).chain(primitives::VARIANTS);
    general.chain(servers::kinds().flat_map(|kind| kind.variants()))
}

/// The trial of a variant.
///
/// # Errors
/// Where there is none of that name.
pub fn trial(variant: &Variant) -> Result<&'static Trial, String> {
    trials().find(|t| t.name == variant.trial).ok_or_else(|| format!("there is no trial {}", variant.trial))
}

/// Runs the variant's trial in the namespace, and says why it failed.
fn catch(variant: &Variant, namespace: &str) -> Result<String, String> {
    let trial = trial(variant)?;
    let (honest, broken, proxy) = places(variant)?;
    let hurried = |place| Ctx::new(place, namespace).map(Ctx::hurried).map_err(|e| e.to_string());
    // As hurried but honest, it must pass: else it would catch anything.
    match judge(trial, hurried(&honest)?) {
        Came::Held(_) => {}
        other => return Err(format!("{} does not hold without the variant: {other:?}", trial.name)),
    }
    let came = judge(trial, hurried(&broken)?.with_hooks((variant.hooks)()));
    if let Some(idle) = proxy.map(|proxy| proxy.idle()).filter(|idle| *idle > 0) {
        return Err(format!("{idle} changes of {} found no place in the scripts", variant.name));
    }
    match came {
        Came::Failed(Failed::Broken(why)) => Ok(why),
        other => Err(format!("{} survived {}: {other:?}", variant.name, trial.name)),
    }
}

/// Where the variant's trial runs: as it must be, and broken; and what changes the scripts, if something does.
fn places(variant: &Variant) -> Result<(Place, Place, Option<Patched>), String> {
    let On::Server(kind, patches) = variant.on else {
        let place = Place::given("process", IN_PROCESS);
        return Ok((place.clone(), place, None));
    };
    let make = || {
        let site = kind.sites().first().copied().unwrap_or_default();
        let honest = Place::of(kind, site)?;
        let (url, proxy) = servers::patched(kind, &honest.url, patches)?;
        Ok((honest.clone(), honest.behind(url), Some(proxy)))
    };
    make().map_err(|failure: crate::failure::Failure| failure.to_string())
}

/// Adds every variant to a harness.
pub fn harness(harness: &mut Harness<'_>) {
    for (number, variant) in variants().enumerate() {
        let name = format!("broken::{} caught by {}", variant.name, variant.trial);
        let lane = match variant.on {
            On::Process if number % 2 == 0 => "even",
            On::Process => "odd",
            On::Server(kind, _) => kind.scheme(),
        };
        harness.test_in(lane, name, move || {
            let missing = match variant.on {
                On::Server(kind, _) => kind.missing(),
                On::Process => None,
            };
            missing.map_or_else(|| catch(variant, &format!("broken{number}")).into(), Verdict::Ignored)
        });
    }
}
