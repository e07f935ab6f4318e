//! The manual: what is promised, why it is so, and what can go wrong. Documentation only.

#[doc = include_str!("contract.md")]
pub mod contract {}

#[doc = include_str!("backends.md")]
pub mod backends {}

#[doc = include_str!("defaults.md")]
pub mod defaults {}

#[doc = include_str!("accidents.md")]
pub mod accidents {}

#[doc = include_str!("fence.md")]
pub mod fence {}
