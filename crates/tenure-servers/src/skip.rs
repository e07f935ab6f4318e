//! Tests of libtest that this machine cannot run. libtest knows only at compile time what it ignores, and counts a test that
//! returns early as passed; `cargo xtask test` counts it as skipped by the line that is printed here.

use std::thread;

use crate::limit::say;

/// What the line begins with. `cargo xtask test` knows it too.
const SAID: &str = "ignored at run time: ";

/// Says that the test on this thread is ignored, and why. The test must return at once.
pub fn ignored(why: &str) {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    say(&format!("{SAID}{name}: {why}\n"));
}
