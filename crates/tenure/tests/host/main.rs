//! The embedded store, through the backend's contract and across processes.

mod basic;
mod clients;
mod kills;
mod kit;
mod places;
mod reboots;
mod roles;
