//! The command as scripts and people use it: the real binary, real processes, real signals, real terminals.
#![allow(clippy::unwrap_used, clippy::print_stderr)] // a test ends where it finds what it does not expect, and tells
#![cfg(target_os = "linux")]

mod denied;
mod fence;
mod group;
mod handle;
mod held;
mod jobs;
mod kinds;
mod look;
mod lost;
mod names;
mod notify;
mod readme;
mod run;
mod signals;
mod support;
mod terminal;
mod usage;
