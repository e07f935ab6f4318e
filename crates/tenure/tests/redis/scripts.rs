//! The scripts as the product sends them, but for the clock, which is a key here.

use std::collections::BTreeMap;

use redis::Value;

use crate::raw::{Raw, Said};

/// The scripts, with a clock that can be set.
pub(crate) struct Scripts {
    pub(crate) raw: Raw,
    names: BTreeMap<&'static str, String>,
}

/// The text of a script, as the product sends it.
pub(crate) fn source(verb: &str) -> String {
    let mut all = tenure::backend::redis::scripts();
    all.find(|(name, _)| *name == verb).expect("a script").1.to_owned()
}

impl Scripts {
    pub(crate) fn new(port: u16) -> Scripts {
        Scripts::load(port, |text| {
            let set = text.replace("call('TIME')", "call('MGET', 'clock:s', 'clock:us')");
            assert_ne!(text, set, "it reads a clock");
            set
        })
    }

    /// With the server's own clock.
    pub(crate) fn real(port: u16) -> Scripts {
        Scripts::load(port, str::to_owned)
    }

    fn load(port: u16, changed: fn(&str) -> String) -> Scripts {
        let mut raw = Raw::new(port);
        let mut names = BTreeMap::new();
        for verb in ["attempt", "renew", "release", "transfer", "evict", "inspect", "together"] {
            names.insert(verb, raw.ask(&["SCRIPT", "LOAD", &changed(&source(verb))]).text().to_owned());
        }
        Scripts { raw, names }
    }

    pub(crate) fn set_clock(&mut self, us: u64) {
        let (s, us) = ((us / 1_000_000).to_string(), (us % 1_000_000).to_string());
        self.raw.ask(&["MSET", "clock:s", &s, "clock:us", &us]);
    }

    pub(crate) fn run(&mut self, verb: &str, keys: &[&str], arguments: &[&str]) -> Value {
        let count = keys.len().to_string();
        let name = self.names[verb].clone();
        let words = [&["EVALSHA", &name, &count], keys, arguments].concat();
        self.raw.ask(&words)
    }
}

/// The fields of an answer: a list, or one text with spaces between; the last one may hold spaces itself.
pub(crate) fn fields(said: &Value) -> Vec<String> {
    if let Value::Array(list) = said {
        return list.iter().map(|s| s.text().to_owned()).collect();
    }
    let text = said.text();
    let most = if text.get(33..34) == Some("E") { 4 } else { usize::MAX };
    text.splitn(most, ' ').map(str::to_owned).collect()
}
