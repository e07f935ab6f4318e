#![doc = include_str!("manual/links.md")]
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
//!
//! # Map of this crate
//!
//! - locks: [`Locks`], [`Mutex`], [`RwLock`], [`Semaphore`] and their guards ([`Guard`], [`ReadGuard`], [`Permit`]).
//! - built from them: [`MultiMutex`], [`Striped`], [`Reentrant`], [`scope`], [`Election`], [`Once`],
//!   [`Handle`].
//! - values: [`Key`], [`Token`], [`Domain`], [`Capabilities`], [`Error`], [`LockOptions`].
//! - [`fence`]: what a resource checks.
//! - `core`: pure decisions; no clock, no I/O, no randomness.
//! - `engine`: the only asynchronous control flow: acquire, keeper, janitor.
//! - `runtime`: clock, randomness, timers and our own thread, given to what waits.
//! - `backend`: the contract as a trait, the table of backends, one file or folder each.
//! - [`manual`]: documentation: the contract, the backends, which to choose, recipes, the defaults, the accidents of others.

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!("tenure runs on Linux, and on macOS with a remote store; this target is neither");

mod ability;
mod capability;
#[cfg(feature = "serde")]
mod config;
mod connect;
mod domain;
mod election;
mod environment;
mod error;
pub mod fence;
#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod fuzz;
mod guard;
mod handover;
mod holder;
mod key;
mod locks;
pub mod manual;
mod multi;
mod mutex;
mod once;
mod options;
mod reentrant;
mod rwlock;
mod scope;
mod semaphore;
mod striped;
pub mod testing;
mod token;
mod ttl;
#[cfg(feature = "unstable")]
pub mod url;
#[cfg(not(feature = "unstable"))]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod url;
mod watch;

#[cfg(feature = "unstable")]
pub mod backend;
#[cfg(not(feature = "unstable"))]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod backend;
#[cfg(feature = "unstable")]
pub mod core;
#[cfg(not(feature = "unstable"))]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod core;
#[cfg(feature = "unstable")]
pub mod engine;
#[cfg(not(feature = "unstable"))]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod engine;
#[cfg(feature = "unstable")]
pub mod runtime;
#[cfg(not(feature = "unstable"))]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod runtime;

pub use backend::{Broken, Kind, Line, Owner, Previous, Released, Seen};
pub use capability::{
    After, Capabilities, Evict, Fact, HoldEnd, Knows, Modes, Needs, Order, Scope, Survives, TokenStrength,
    Transfer, Turns, Visibility, Wakeup, Warning,
};
pub use domain::Domain;
pub use election::{Election, Leader, LeaderInfo, Observer};
pub use error::{Error, ErrorKind, Lost, LostReason, Result};
pub use guard::Guard;
pub use handover::Handle;
pub use key::{Key, NAME_MAX};
pub use locks::{Builder, Locks};
pub use multi::{MultiGuard, MultiMutex, NAMES_MAX};
pub use mutex::Mutex;
pub use once::{JobError, Once, Outcome, Ran, Run, RunState, Slot, Started};
pub use options::LockOptions;
pub use reentrant::{Reentrant, ReentrantGuard};
pub use rwlock::{ReadGuard, RwLock};
pub use scope::{blocking_scope, scope};
pub use semaphore::{Permit, Semaphore};
pub use striped::{STRIPES_MAX, Striped};
pub use token::Token;
pub use ttl::Ttl;
#[cfg(feature = "unstable")]
pub use url::{Secret, StoreUrl};
pub use watch::Watch;
