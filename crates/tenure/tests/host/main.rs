//! The embedded store, through the backend's contract and across processes.

mod basic;
mod kills;
mod kit;
mod roles;
