//! The scripts: one per verb.

use std::sync::{LazyLock, OnceLock};

use super::{fields, resp};

/// A script that the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(in crate::backend) enum Script {
    Attempt,
    Renew,
    Release,
    Transfer,
    Evict,
    Inspect,
    Together,
    PlainAttempt,
    PlainRenew,
    PlainRelease,
    PlainTransfer,
    PlainEvict,
    PlainInspect,
    Permitted,
    Scan,
    VoteAcquire,
    VotePromote,
    VoteExtend,
    VoteRelease,
    VoteTransfer,
    VoteFloor,
    VoteEvict,
    VoteInspect,
}

/// What scripts share: where one says `--include NAME`, the text goes.
const SHARED: [(&str, &str); 8] = [
    ("--include take.lua\n", include_str!("lua/take.lua")),
    ("--include give.lua\n", include_str!("lua/give.lua")),
    ("--include line.lua\n", include_str!("lua/line.lua")),
    ("--include long.lua\n", include_str!("lua/long.lua")),
    ("--include stand.lua\n", include_str!("lua/stand.lua")),
    ("--include quit.lua\n", include_str!("lua/quit.lua")),
    ("--include now.lua\n", include_str!("lua/now.lua")),
    ("--include vote.lua\n", include_str!("lua/vote.lua")),
];
const COUNT: usize = Script::VoteInspect as usize + 1;

/// Each with its name.
const FILES: [(&str, &str); COUNT] = [
    ("attempt", include_str!("lua/attempt.lua")),
    ("renew", include_str!("lua/renew.lua")),
    ("release", include_str!("lua/release.lua")),
    ("transfer", include_str!("lua/transfer.lua")),
    ("evict", include_str!("lua/evict.lua")),
    ("inspect", include_str!("lua/inspect.lua")),
    ("together", include_str!("lua/together.lua")),
    ("plain_attempt", include_str!("lua/plain_attempt.lua")),
    ("plain_renew", include_str!("lua/plain_renew.lua")),
    ("plain_release", include_str!("lua/plain_release.lua")),
    ("plain_transfer", include_str!("lua/plain_transfer.lua")),
    ("plain_evict", include_str!("lua/plain_evict.lua")),
    ("plain_inspect", include_str!("lua/plain_inspect.lua")),
    ("permitted", include_str!("lua/permitted.lua")),
    ("scan", include_str!("lua/scan.lua")),
    ("vote_acquire", include_str!("lua/vote_acquire.lua")),
    ("vote_promote", include_str!("lua/vote_promote.lua")),
    ("vote_extend", include_str!("lua/vote_extend.lua")),
    ("vote_release", include_str!("lua/vote_release.lua")),
    ("vote_transfer", include_str!("lua/vote_transfer.lua")),
    ("vote_floor", include_str!("lua/vote_floor.lua")),
    ("vote_evict", include_str!("lua/vote_evict.lua")),
    ("vote_inspect", include_str!("lua/vote_inspect.lua")),
];

static SOURCES: LazyLock<[String; COUNT]> = LazyLock::new(|| {
    FILES.map(|(_, source)| {
        let whole = SHARED.iter().fold(source.to_owned(), |text, (name, part)| text.replace(name, part));
        fields::put_in(&whole)
    })
});

/// The scripts as servers are given them, each with its name: for those who test them.
#[cfg(any(test, feature = "unstable"))]
pub fn scripts() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().map(|(name, _)| *name).zip(SOURCES.iter().map(String::as_str))
}

impl Script {
    /// Those of the line.
    pub(super) const LINE: &[Script] = &[
        Script::Attempt,
        Script::Renew,
        Script::Release,
        Script::Transfer,
        Script::Evict,
        Script::Inspect,
        Script::Together,
    ];
    /// Those of the dialect.
    pub(super) const PLAIN: &[Script] = &[
        Script::PlainAttempt,
        Script::PlainRenew,
        Script::PlainRelease,
        Script::PlainTransfer,
        Script::PlainEvict,
        Script::PlainInspect,
    ];
    /// Those of one of several servers.
    pub(super) const VOTE: &[Script] = &[
        Script::VoteAcquire,
        Script::VotePromote,
        Script::VoteExtend,
        Script::VoteRelease,
        Script::VoteTransfer,
        Script::VoteFloor,
        Script::VoteEvict,
        Script::VoteInspect,
    ];

    /// Whether it changes nothing.
    pub(super) fn only_reads(self) -> bool {
        matches!(
            self,
            Script::Inspect | Script::PlainInspect | Script::Permitted | Script::Scan | Script::VoteInspect
        )
    }

    /// Whether it reads or leaves the mark of a claim, of those that are about votes.
    pub(super) fn marks(self) -> bool {
        matches!(self, Script::VoteAcquire | Script::VoteExtend | Script::VoteRelease | Script::VoteTransfer)
    }

    /// Whether it may run twice for one request about votes: the second run finds what the first one did, and answers the
    /// same. After a release or an eviction there is nothing left to find.
    #[cfg(feature = "redlock")]
    pub(super) fn may_repeat(self) -> bool {
        !matches!(self, Script::VoteRelease | Script::VoteEvict)
    }

    /// Its text.
    pub(super) fn source(self) -> &'static str {
        &SOURCES[self as usize]
    }
}

/// The names that servers gave the scripts: the same everywhere, since they are hashes of the text.
#[derive(Debug, Default)]
pub(super) struct Names([OnceLock<String>; COUNT]);

impl Names {
    /// Remembers a name.
    pub(super) fn learn(&self, script: Script, name: String) {
        let _ = self.0[script as usize].set(name);
    }

    /// Whether a script was ever given to a server.
    pub(super) fn knows(&self, script: Script) -> bool {
        self.0[script as usize].get().is_some()
    }

    /// The name of a script; nothing where no server has been given it yet.
    pub(super) fn name(&self, script: Script) -> &str {
        self.0[script as usize].get().map_or("", String::as_str)
    }

    /// The request to run a script.
    pub(super) fn request(&self, script: Script, keys: &[&[u8]], arguments: &[&[u8]]) -> Vec<u8> {
        let name = self.name(script);
        let count = keys.len().to_string();
        let mut words: Vec<&[u8]> = Vec::with_capacity(3 + keys.len() + arguments.len());
        words.extend([b"EVALSHA".as_slice(), name.as_bytes(), count.as_bytes()]);
        words.extend_from_slice(keys);
        words.extend_from_slice(arguments);
        resp::command(&words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is not replaced would be a comment, and missing.
    #[test]
    fn nothing_is_left_to_include() {
        for source in SOURCES.iter() {
            assert!(!source.lines().any(|line| line.trim_start().starts_with("--include ")), "{source}");
        }
    }
    /// What is cut out of a text has a name.
    #[test]
    fn no_script_counts_bytes() {
        for (name, text) in FILES.iter().chain(&SHARED) {
            for line in text.lines().filter(|line| !line.trim_start().starts_with("--")) {
                let cuts = [" sub(", "(sub(", "byte("].iter().flat_map(|cut| line.split(cut).skip(1));
                for cut in cuts {
                    let inside = cut.split(')').next().unwrap_or_default();
                    let from = inside.split_once(", ").map_or("", |(_, from)| from);
                    let counts = from.starts_with(|c: char| c.is_ascii_digit()) && from != "1, -2";
                    assert!(!counts, "{name}: {line}");
                }
            }
        }
    }
}
