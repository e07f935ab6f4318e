//! The lab: everything that breaks locks.
//!
//! - `sale`: the flash sale, a hundred clients that fight for stock; what no lock and a naive lock lose.
//! - `chaos`: real servers and clients under faults; the histories that are judged.
//! - `bench`: workloads that measure a store, the same for every store and for other libraries.
//! - [`conform`]: the table of trials that every backend must pass, one or more for each rule of the contract.
//! - `guest`: the same as a guest on somebody else's server.
//! - `broken`: backends that break one rule each; the trial named for it must notice.
//! - [`history`]: what the clients of a run saw, as a file that anybody can judge.
//! - [`judge`]: which promises held, by a history; `report` shows it as a page.
//! - `mutants`: wrong protocols, each with the accident it stands for; chaos must notice every one.
//! - `oracle`: the line of claims as a naive list, against which every implementation is compared.
//! - [`servers`]: the registry of stores: how each is made, reached and broken.
//! - `sim`: the engine in virtual time, from seeds.
//! - `any_guard`: what a client holds, of whatever kind.
//! - `process`: worker processes, for whatever needs more than one.
//! - [`cli`]: the subcommands `lab` and `bench` of the command `tenure`; `globals`: what all subcommands share.
//!
//! The cargo feature `proofs` has what tests Tenure and the lab themselves: `sim`, `mutants`, `broken`, `oracle`. The
//! installed command is built without it.
//!
//! A program that runs anything of the lab calls [`worker_main`] first in its `main`.

mod any_guard;
mod bench;
#[cfg(feature = "proofs")]
pub mod broken;
mod chaos;
pub mod cli;
pub mod conform;
pub mod duration;
mod failure;
mod globals;
mod guest;
pub mod harness;
pub mod history;
pub mod judge;
mod mutants;
mod num;
#[cfg(feature = "proofs")]
#[allow(missing_docs)] // short enough to read
pub mod oracle;
mod process;
mod report;
mod sale;
pub mod servers;
#[cfg(feature = "proofs")]
pub mod sim;

use std::process::ExitCode;

pub use num::Dice;

/// Plays the part of a worker process if the environment asks for it: the lab starts the running executable again for
/// its workers. Call it first in `main`; where it returns a status, exit with it.
#[must_use]
pub fn worker_main() -> Option<ExitCode> {
    process::host(&[sale::STOCK, sale::BUYERS, bench::BENCH, conform::WORKER, chaos::CLIENT])
}
