//! Real servers for trials. Each runs in the foreground, on a free port of this machine, in a directory that is removed
//! with it. Only loopback addresses are used.
//!
//! - [`process`]: programs of this machine; children that the kernel kills when their parent is gone.
//! - [`redis`]: redis-server, the only place that starts one.
//! - [`clock`]: a wall clock that a trial can step, for a server of its own.
//! - [`proxy`]: a TCP proxy that does what networks do.
//! - [`limit`]: how long a test may take.
//! - [`skip`]: tests that this machine cannot run.
//! - [`disk`]: a small disk that a trial can fill.

pub mod clock;
pub mod disk;
pub mod limit;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod skip;
