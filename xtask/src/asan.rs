//! `cargo xtask asan`: unsafe code under the address sanitizer.

use crate::Stop;
use crate::args::Args;
use crate::counts::Counts;
use crate::process::{Said, command, find, stdout, watch};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Runs the library's own tests, the host backend's among them, with every memory access checked.
pub(crate) fn run(args: &[String]) -> Result<bool, Stop> {
    Args::parse(args, &[], &[])?.no_words()?;
    let toolchains = match find("rustup") {
        Some(_) => stdout(&mut command("rustup", &["toolchain", "list"]))?,
        None => String::new(),
    };
    if !toolchains.lines().any(|t| t.starts_with("nightly")) {
        println!("the sanitizer needs rustup's nightly toolchain, which is not installed\n");
        println!("{}", Counts { skipped: 1, ..Counts::default() });
        return Ok(true);
    }
    let mut counts = Counts::default();
    // Its own target directory: another compiler would throw away what the other chores share.
    let test = [
        "+nightly",
        "test",
        "--package",
        "tenure",
        "--all-features",
        "--lib",
        "--test",
        "host",
        "--no-fail-fast",
    ];
    let place = ["--target", TARGET, "--target-dir", "target/asan"];
    let mut cargo = command("cargo", &[&test[..], &place].concat());
    cargo.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env("RUSTFLAGS", "-Zsanitizer=address");
    let status = watch(&mut cargo, |_, said| {
        if let Said::Line(line) = said {
            counts += Counts::of_line(line).unwrap_or_default();
        }
    })?;
    if !status.success() && counts.failed == 0 {
        counts.failed = 1;
    }
    println!("\n{counts}");
    Ok(counts.failed == 0)
}
