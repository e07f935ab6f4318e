//! The scripts as the product sends them, but for the clock, which is a key here.

use std::collections::BTreeMap;

use crate::raw::{Raw, Said};

/// The scripts, with a clock that can be set.
pub(crate) struct Scripts {
    pub(crate) raw: Raw,
    names: BTreeMap<&'static str, String>,
}

/// The text of a script, as the product sends it.
pub(crate) fn source(verb: &str) -> String {
    let line = include_str!("../../src/backend/redis/lua/line.lua");
    match verb {
        "attempt" => include_str!("../../src/backend/redis/lua/attempt.lua"),
        "renew" => include_str!("../../src/backend/redis/lua/renew.lua"),
        "release" => include_str!("../../src/backend/redis/lua/release.lua"),
        "transfer" => include_str!("../../src/backend/redis/lua/transfer.lua"),
        "evict" => include_str!("../../src/backend/redis/lua/evict.lua"),
        _ => include_str!("../../src/backend/redis/lua/inspect.lua"),
    }
    .replace("--include line.lua\n", line)
}

impl Scripts {
    pub(crate) fn new(port: u16) -> Scripts {
        let mut raw = Raw::new(port);
        let mut names = BTreeMap::new();
        for verb in ["attempt", "renew", "release", "transfer", "evict", "inspect"] {
            let text = source(verb);
            let set = text.replace("call('TIME')", "call('MGET', 'clock:s', 'clock:us')");
            assert_ne!(text, set, "{verb} reads a clock");
            names.insert(verb, raw.ask(&["SCRIPT", "LOAD", &set]).text().to_owned());
        }
        Scripts { raw, names }
    }

    pub(crate) fn set_clock(&mut self, us: u64) {
        let (s, us) = ((us / 1_000_000).to_string(), (us % 1_000_000).to_string());
        self.raw.ask(&["MSET", "clock:s", &s, "clock:us", &us]);
    }

    pub(crate) fn run(&mut self, verb: &str, keys: &[&str], arguments: &[&str]) -> Said {
        let count = keys.len().to_string();
        let name = self.names[verb].clone();
        let words = [&["EVALSHA", &name, &count], keys, arguments].concat();
        let said = self.raw.ask(&words);
        assert!(!matches!(said, Said::Error(_)), "{verb}: {said:?}");
        said
    }
}
