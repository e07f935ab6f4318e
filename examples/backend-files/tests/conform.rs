//! The whole conformance suite on this backend.

use std::process::ExitCode;

fn main() -> ExitCode {
    tenure_lab::conform::main(&backend_files::BACKEND, |dir| Ok(format!("files://{}/store", dir.display())))
}
