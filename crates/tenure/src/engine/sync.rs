//! What holds and cohorts are synchronised with: the standard library's. A test puts others in its place, which try out the
//! schedules that threads may run in.

pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard};
