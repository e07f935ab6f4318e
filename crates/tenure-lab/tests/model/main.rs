//! Exhaustive model checks: every order of events within small bounds, not a sample of them.
//!
//! - [`line`]: three claims of two clients in the product's own line, with messages that are lost, late, repeated and
//!   out of order. - [`keeper`]: until when a holder believes, with clocks that drift. - [`cas`]: two clients and one object
//!   that is changed by compare-and-set. - [`quorum`]: clients that acquire one lock on several servers. - [`search`]: the
//!   search itself.
//!
//! Each is run as it is, and with broken variants, which must be refuted: a model that allows everything proves nothing.
//! `cargo test --profile sim --package tenure-lab --test model` has the full bounds; a debug build has narrower ones.

mod cas;
mod keeper;
mod line;
mod quorum;
mod search;

use std::process::ExitCode;
use std::time::Duration;

use tenure_lab::harness::Harness;

fn main() -> ExitCode {
    // Each test goes through every state.
    let mut harness = Harness::new().limit(Duration::from_secs(3600));
    line::tests(&mut harness);
    keeper::tests(&mut harness);
    cas::tests(&mut harness);
    quorum::tests(&mut harness);
    harness.run()
}
