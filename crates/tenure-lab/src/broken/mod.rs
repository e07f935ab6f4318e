//! Deliberately broken variants: each breaks one promise in a few lines, and the trial named for it must notice. A
//! suite that cannot fail proves nothing.
//!
//! - `stores`: stores that forget, confuse or make up. - `primitives`: the same, of locks that are no mutex. - `engines`: clocks, threads and links that make an engine do
//!   what it must not. - `redis`, `patch`: Redis's scripts, changed on their way to a real server. - `bend`: how they are put around what is honest.

/// The table of a file: for each variant its name, the store it is of (or one for all of them, first), how it is made,
/// and the trial that must notice.
macro_rules! variants {
    ($($name:ident: $on:expr, $twist:expr, $trial:literal;)*) => {
        pub(super) const VARIANTS: &[Variant] =
            &[$(Variant { name: stringify!($name), trial: $trial, on: $on, twist: || $twist }),*];
    };
    ($on:expr, $($name:ident: $twist:expr, $trial:literal;)*) => {
        variants! { $($name: $on, $twist, $trial;)* }
    };
}

pub(crate) mod bend;
pub(crate) mod engines;
pub(crate) mod patch;
pub(crate) mod primitives;
pub(crate) mod redis;
pub(crate) mod stores;

use std::sync::{Arc, LazyLock};

use self::patch::{Patch, Patched};

use crate::conform::{Came, Ctx, Failed, Place, Trial, Twist, judge, trials};
use crate::harness::{Harness, Verdict};
use crate::server::Redis;

/// The store that a variant is a variant of.
#[derive(Clone, Copy)]
enum Store {
    Memory,
    /// With these changes of its scripts.
    Redis(&'static [Patch]),
    /// The dialect, the same.
    Setnx(&'static [Patch]),
}

/// One broken variant.
#[derive(Clone, Copy)]
pub struct Variant {
    /// What is wrong with it.
    pub name: &'static str,
    /// The trial that must notice.
    pub trial: &'static str,
    /// Where it is.
    on: Store,
    /// Makes it.
    pub twist: fn() -> Arc<dyn Twist>,
}

impl std::fmt::Debug for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} caught by {}", self.name, self.trial)
    }
}

/// All of them.
pub fn variants() -> impl Iterator<Item = &'static Variant> {
    stores::VARIANTS.iter().chain(engines::VARIANTS).chain(primitives::VARIANTS).chain(redis::VARIANTS)
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
    let came = judge(trial, hurried(&broken)?.twisted((variant.twist)()));
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
    /// One for all variants, which run one after the other.
    static SERVER: LazyLock<Result<Arc<Redis>, String>> = LazyLock::new(|| Redis::start().map(Arc::new));
    let (scheme, patches) = match variant.on {
        Store::Memory => {
            let memory = || Place::given("memory", "memory:");
            return Ok((memory(), memory(), None));
        }
        Store::Redis(patches) => ("redis", patches),
        Store::Setnx(patches) => ("redis+setnx", patches),
    };
    let server = SERVER.clone()?;
    let honest = Place::on(scheme, &server, &server.address());
    let proxy = Patched::before(&server.address(), patches).map_err(|e| e.to_string())?;
    let broken = Place::on(scheme, &server, &proxy.address);
    Ok((honest, broken, Some(proxy)))
}

/// Adds every variant to a harness.
pub fn harness(harness: &mut Harness<'_>) {
    for (number, variant) in variants().enumerate() {
        let name = format!("broken::{} caught by {}", variant.name, variant.trial);
        let lane = match variant.on {
            Store::Memory if number % 2 == 0 => "even",
            Store::Memory => "odd",
            Store::Redis(_) | Store::Setnx(_) => "redis",
        };
        harness.test_in(lane, name, move || match (variant.on, Redis::missing()) {
            (Store::Redis(_) | Store::Setnx(_), Some(why)) => Verdict::Ignored(why),
            _ => catch(variant, &format!("broken{number}")).into(),
        });
    }
}
