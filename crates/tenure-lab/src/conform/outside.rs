//! The suite as the test of a backend in another crate.

use std::path::Path;
use std::process::ExitCode;

use tenure::backend::Entry;

use super::{Place, lanes};
use crate::harness::{Harness, Verdict};
use crate::servers;

/// Runs the whole suite on a backend of another crate: the `main` of a test binary with `harness = false`.
///
/// `store` returns the URL of the store to test. It may keep its files in the directory that it gets, which is empty and is
/// removed at the end. An error is the reason why there is no store on this machine: then all trials are counted as ignored.
///
/// The arguments of the process choose trials as those of any test binary do. A trial of something that the store does not
/// promise is ignored, and names the capability. The suite works in namespaces of its own, so a server may be shared, but
/// trials that would kill or wipe a store are ignored.
///
/// The suite starts this executable again for its worker processes, so call this first in `main`.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     // A backend of your own crate stands here.
///     let backend = tenure::backend::find("host").expect("a backend of this crate");
///     tenure_lab::conform::main(backend, |dir| Ok(format!("host://{}", dir.display())))
/// }
/// ```
#[must_use]
pub fn main(backend: &'static Entry, store: impl FnOnce(&Path) -> Result<String, String>) -> ExitCode {
    servers::give(backend);
    if let Some(status) = crate::worker_main() {
        return status;
    }
    let mut harness = Harness::new();
    let dir = tempfile::Builder::new().prefix("tenure-conform-").tempdir();
    match &dir {
        Ok(dir) => {
            let name = backend.capabilities.backend;
            let place = store(dir.path())
                .map_or_else(|why| Place::missing(name, &why), |url| Place::given(name, &url));
            lanes::harness(&mut harness, vec![place]);
        }
        Err(error) => {
            let why = format!("no temporary directory: {error}");
            harness.test("directory", move || Verdict::Failed(why));
        }
    }
    harness.run()
}
