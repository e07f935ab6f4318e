//! The embedded store, through the backend's contract and across processes.
#![allow(clippy::print_stderr)] // tests say what they could not try

mod basic;
mod clients;
mod compose;
mod denied;
mod kills;
mod kit;
mod namespaces;
mod places;
mod reboots;
mod removed;
mod roles;
mod stops;
