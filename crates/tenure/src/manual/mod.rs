//! The manual: what is promised, why it is so, and what can go wrong. Documentation only.
//!
//! Its pages are also read outside of rustdoc, so their links are labels that each page defines at its end. In rustdoc
//! `links.md` comes first, and the first definition counts: it leads to the items of this crate.

#[doc = include_str!("links.md")]
#[doc = include_str!("contract.md")]
pub mod contract {}

#[doc = include_str!("links.md")]
#[doc = include_str!("backends.md")]
pub mod backends {}

#[doc = include_str!("links.md")]
#[doc = include_str!("defaults.md")]
pub mod defaults {}

#[doc = include_str!("links.md")]
#[doc = include_str!("accidents.md")]
pub mod accidents {}

#[doc = include_str!("links.md")]
#[doc = include_str!("fence.md")]
pub mod fence {}

#[doc = include_str!("links.md")]
#[doc = include_str!("choosing.md")]
pub mod choosing {}

#[doc = include_str!("links.md")]
#[doc = include_str!("primitives.md")]
pub mod primitives {}

#[doc = include_str!("links.md")]
#[doc = include_str!("errors.md")]
pub mod errors {}

#[doc = include_str!("links.md")]
#[doc = include_str!("operations.md")]
pub mod operations {}

#[doc = include_str!("links.md")]
#[doc = include_str!("troubleshooting.md")]
pub mod troubleshooting {}

#[doc = include_str!("links.md")]
#[doc = include_str!("migration.md")]
pub mod migration {}

#[doc = include_str!("links.md")]
#[doc = include_str!("comparison.md")]
pub mod comparison {}

#[doc = include_str!("links.md")]
#[doc = include_str!("writing_a_backend.md")]
pub mod writing_a_backend {}

#[doc = include_str!("links.md")]
#[doc = include_str!("recipes.md")]
pub mod recipes {
    #[doc = include_str!("links.md")]
    #[doc = include_str!("recipes/order_payment.md")]
    pub mod order_payment {}

    #[doc = include_str!("links.md")]
    #[doc = include_str!("recipes/order_creation.md")]
    pub mod order_creation {}

    #[doc = include_str!("links.md")]
    #[doc = include_str!("recipes/stock.md")]
    pub mod stock {}

    #[doc = include_str!("links.md")]
    #[doc = include_str!("recipes/nightly_job.md")]
    pub mod nightly_job {}

    #[doc = include_str!("links.md")]
    #[doc = include_str!("recipes/config_reload.md")]
    pub mod config_reload {}

    #[doc = include_str!("links.md")]
    #[doc = include_str!("recipes/region_sync.md")]
    pub mod region_sync {}

    #[doc = include_str!("links.md")]
    #[doc = include_str!("recipes/leader.md")]
    pub mod leader {}

    #[doc = include_str!("links.md")]
    #[doc = include_str!("recipes/quota.md")]
    pub mod quota {}

    #[doc = include_str!("links.md")]
    #[doc = include_str!("recipes/shell.md")]
    pub mod shell {}
}
