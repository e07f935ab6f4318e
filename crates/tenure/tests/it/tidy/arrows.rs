//! Which layer may know which: faces -> engine -> backend -> runtime -> core.

use super::{has_word, none, sources};

/// Finds words in the code below a folder; a word is what no letter, digit or `_` continues.
fn banned(folder: &str, words: &[&str], why: &str) -> Vec<String> {
    let sources = sources(folder, "rs");
    assert!(!sources.is_empty(), "{folder} is gone: this test has gone blind");
    let mut faults = Vec::new();
    for source in sources {
        // Unit tests may use what they like.
        let code = source.code().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
        for (number, line) in code {
            let line = line.split(" // ").next().unwrap_or_default();
            if let Some(word) = words.iter().find(|w| has_word(line, w)) {
                faults.push(format!("{}:{number}: {word:?}: {why}", source.path));
            }
        }
    }
    faults
}

#[test]
fn core_is_pure() {
    let words = [
        "async",
        "await",
        "tokio",
        "rand",
        "getrandom",
        "rustix",
        "libc",
        "Instant",
        "SystemTime",
        "std::fs",
        "std::io",
        "std::net",
        "std::thread",
        "std::env",
        "std::process",
        "println",
        "tracing",
    ];
    none(&banned("crates/tenure/src/core", &words, "core is pure: no async, clock, I/O or randomness"));
}

#[test]
fn core_knows_no_other_layer() {
    let words = [
        "crate::engine",
        "crate::backend",
        "crate::runtime",
        "crate::locks",
        "crate::mutex",
        "crate::guard",
        "crate::options",
    ];
    none(&banned("crates/tenure/src/core", &words, "arrows point to core, not from it"));
}

#[test]
fn backends_know_no_primitive() {
    let words = ["crate::locks", "crate::mutex", "crate::guard", "Guard", "Locks"];
    let faults = banned("crates/tenure/src/backend", &words, "a backend sees claims, not primitives");
    // The guard of a standard mutex is not ours.
    none(&faults.into_iter().filter(|f| !f.contains("MutexGuard")).collect::<Vec<_>>());
}

#[test]
fn backends_know_no_engine() {
    none(&banned(
        "crates/tenure/src/backend",
        &["crate::engine"],
        "the engine calls backends, not the other way round",
    ));
}

#[test]
fn what_networked_stores_share_knows_no_store() {
    let words = ["redis", "host", "memory", "local", "table", "Claim", "Answer", "Capabilities", "Opening"];
    none(&banned("crates/tenure/src/backend/net", &words, "stores stand on net, not the other way round"));
}

#[test]
fn the_runtime_knows_only_core() {
    let words =
        ["crate::engine", "crate::backend", "crate::locks", "crate::mutex", "crate::guard", "crate::error"];
    none(&banned("crates/tenure/src/runtime", &words, "everything that waits stands on the runtime"));
}

#[test]
fn the_engine_knows_no_face() {
    let words = ["crate::locks", "crate::mutex", "crate::guard"];
    none(&banned("crates/tenure/src/engine", &words, "faces call the engine, not the other way round"));
}

#[test]
fn time_comes_from_the_runtime_that_was_given() {
    let words = ["Instant::now", "SystemTime::now"];
    let faults = banned("crates/tenure/src", &words, "ask the runtime that was given");
    // What blocks a real thread waits for a real while: a handle's drop, and whoever finds the host's file busy. A
    // histogram of hold times decides nothing. A fence's file has no engine to ask.
    let host = ["host/create.rs", "host/lock.rs", "host/registry.rs"];
    let excepted = [&["engine/janitor.rs", "engine/telling.rs", "fence/file.rs"][..], &host].concat();
    none(&faults.into_iter().filter(|f| !excepted.iter().any(|e| f.contains(e))).collect::<Vec<_>>());
}

#[test]
fn backends_pause_in_the_time_of_the_runtime_that_was_given() {
    let why = "use sleep_until or race of the runtime that was given";
    none(&banned("crates/tenure/src/backend", &["tokio::time"], why));
}
