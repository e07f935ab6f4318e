//! Deliberately broken variants: each breaks one promise in a few lines, and the trial named for it must notice. A
//! suite that cannot fail proves nothing.
//!
//! - `stores`: stores that forget, confuse or make up. - `engines`: clocks, threads and links that make an engine do
//!   what it must not. - `bend`: how they are put around what is honest.

mod bend;
mod engines;
mod stores;

use std::sync::Arc;

use crate::conform::{Came, Ctx, Failed, Place, Trial, Twist, judge, trials};
use crate::harness::{Harness, Verdict};

/// One broken variant.
#[derive(Clone, Copy)]
pub struct Variant {
    /// What is wrong with it.
    pub name: &'static str,
    /// The trial that must notice.
    pub trial: &'static str,
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
    stores::VARIANTS.iter().chain(engines::VARIANTS)
}

/// The trial of a variant.
///
/// # Errors
/// Where there is none of that name.
pub fn trial(variant: &Variant) -> Result<&'static Trial, String> {
    trials().find(|t| t.name == variant.trial).ok_or_else(|| format!("there is no trial {}", variant.trial))
}

/// Runs the variant's trial on `place`, and says why it failed.
///
/// # Errors
/// If the variant survives; if the trial would catch anything.
pub fn catch(variant: &Variant, place: &Place, namespace: &str) -> Result<String, String> {
    let trial = trial(variant)?;
    let hurried = || Ctx::new(place, namespace).map(Ctx::hurried).map_err(|e| e.to_string());
    // As hurried but honest, it must pass: else it would catch anything.
    match judge(trial, hurried()?) {
        Came::Held(_) => {}
        other => return Err(format!("{} does not hold without the variant: {other:?}", trial.name)),
    }
    match judge(trial, hurried()?.twisted((variant.twist)())) {
        Came::Failed(Failed::Broken(why)) => Ok(why),
        other => Err(format!("{} survived {}: {other:?}", variant.name, trial.name)),
    }
}

/// Adds every variant to a harness.
pub fn harness(harness: &mut Harness<'_>) {
    for (number, variant) in variants().enumerate() {
        let name = format!("broken::{} caught by {}", variant.name, variant.trial);
        let lane = if number % 2 == 0 { "even" } else { "odd" };
        harness.test_in(lane, name, move || {
            let place = Place::given("memory", "memory:");
            match catch(variant, &place, "broken") {
                Ok(why) => Verdict::Passed(why),
                Err(why) => Verdict::Failed(why),
            }
        });
    }
}
