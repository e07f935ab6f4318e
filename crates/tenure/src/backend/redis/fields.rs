//! Names for what the scripts count in: the bytes of heads, records and arguments, and the times and limits that they share
//! with the rest of the library. A script says `sub(head, HEAD.keep)`; when it is loaded, the numbers are put in, so the server
//! gets `sub(head, 67, 82)`.
//!
//! - `HEAD.keep` its first and its last byte; where it has no last byte, the first. Of a number, its digits.
//! - `HEAD.last.to.marks` from the first byte of one to the last of another.
//! - `HEAD.marks.on` from its first byte to the end.
//! - `HEAD.kind.at` its first byte alone.
//! - `HEAD.last.first9` so many of its bytes.
//! - `LIMIT.waiters.digits7` a number with leading zeros.

use crate::core::lease::{LOOK_AGAIN_MAX, MARK_LIFE};
use crate::core::line::{RW_CAPACITY, WAITERS_MAX};
use crate::core::quorum::{FLOOR_LAG, PROPOSAL_MAX_AHEAD};

/// A field: its name, its first byte, and its last; 0 for all that follow.
type Field = (&'static str, usize, usize);

/// What has fields. `docs/wire/redis.md` describes them; tests compare.
pub(super) const LAYOUTS: &[(&str, &[Field])] = &[
    ("HEAD", HEAD),
    ("SHORT", SHORT),
    ("RECORD", RECORD),
    ("ASKED", ASKED),
    ("HOW", HOW),
    ("TRACE", TRACE),
    ("MARK", MARK),
    ("COUNTS", COUNTS),
    ("PLAIN", PLAIN),
    ("VOTE", VOTE),
    ("STAMP", STAMP),
];

/// The head of a lock; from `state` on, fields of the record in it.
const HEAD: &[Field] = &[
    ("version", 1, 1),
    ("kind", 2, 2),
    ("last", 3, 18),
    ("marks", 19, 34),
    ("place", 35, 50),
    ("soon", 51, 66),
    ("keep", 67, 82),
    ("waiting", 83, 89),
    ("holding", 90, 96),
    ("shared", 97, 112),
    // Of a semaphore, in the place of `shared`.
    ("least", 97, 106),
    ("same", 107, 112),
    ("used", 113, 122),
    ("broken", 123, 123),
    ("ended", 124, 124),
    ("holder", 125, 156),
    ("finish", 157, 172),
    ("record", 173, 0),
    ("state", 174, 174),
    ("before", 175, 175),
    ("weight", 176, 185),
    ("tokens", 186, 195),
    ("lease", 196, 206),
    ("token", 234, 249),
    ("note", 266, 0),
];

/// The head of a mutex that was granted to a claim that is alone.
const SHORT: &[Field] = &[
    ("version", 1, 1),
    ("kind", 2, 2),
    ("last", 3, 18),
    ("holder", 19, 50),
    ("terms", 51, 92),
    ("lease", 71, 81),
    ("client", 93, 0),
];

/// The record of a claim.
const RECORD: &[Field] = &[
    ("version", 1, 1),
    ("state", 2, 2),
    // How the hold before its grant ended.
    ("before", 3, 3),
    ("weight", 4, 13),
    ("capacity", 14, 23),
    ("lease", 24, 34),
    ("patience", 35, 45),
    // In the place of both leases, of a claim that was released for later.
    ("kept", 24, 45),
    ("since", 46, 61),
    ("token", 62, 77),
    ("client", 78, 93),
    ("note", 94, 0),
];

/// What an attempt asks for: terms, and who.
const ASKED: &[Field] = &[
    ("weight", 1, 10),
    ("capacity", 11, 20),
    ("lease", 21, 31),
    ("patience", 32, 42),
    ("terms", 1, 42),
    ("who", 43, 0),
];

/// How an attempt asks.
const HOW: &[Field] = &[("kind", 1, 1), ("stand", 2, 2), ("birth", 3, 18)];

/// What a release leaves.
const TRACE: &[Field] = &[("what", 1, 1), ("number", 2, 0)];

/// A mark.
const MARK: &[Field] = &[("version", 1, 1), ("what", 2, 2), ("why", 3, 0)];

/// How many wait and how many hold, cut out of a head.
const COUNTS: &[Field] = &[("waiting", 1, 7), ("holding", 8, 14)];

/// The record of the dialect.
const PLAIN: &[Field] = &[
    ("version", 1, 1),
    ("token", 2, 17),
    ("claim", 18, 49),
    ("since", 50, 65),
    // In ms, as the dialect counts.
    ("lease", 66, 76),
    ("note", 77, 0),
];

/// What one of several servers keeps of a lock. From `finish` on only while it has a vote.
const VOTE: &[Field] = &[
    ("version", 1, 1),
    ("floor", 2, 17),
    ("finish", 18, 33),
    ("lease", 34, 49),
    ("claim", 50, 81),
    ("round", 82, 97),
    // The floor when it voted.
    ("since", 98, 113),
    ("token", 114, 129),
    ("note", 130, 0),
];

/// A time in µs: all but its last seven digits change every ten seconds.
const STAMP: &[Field] = &[("tens", 1, 9)];

/// Times in µs, or in ms where the name says so.
const TIMES: &[(&str, u64)] = &[
    ("old", MARK_LIFE.as_micros() as u64),
    // An attempt that is just young enough finds the mark of its withdrawal.
    ("mark", MARK_LIFE.as_micros() as u64 + 5_000_000),
    ("mark_ms", MARK_LIFE.as_millis() as u64 + 5_000),
    ("look", LOOK_AGAIN_MAX.as_micros() as u64),
    // How much longer the parts of a line live than its leases.
    ("slack", 60_000_000),
    // How long the head of a free lock keeps its last token.
    ("free_ms", 600_000),
    // When the head of a lock goes whose lease is less than a hundred seconds.
    ("brief_ms", 700_000),
    // How far the last token may lie ahead of the clock.
    ("ahead", 86_400_000_000),
    ("broken_ms", 86_400_000),
    ("proposal", PROPOSAL_MAX_AHEAD.as_micros() as u64),
    ("floor_lag", FLOOR_LAG.as_micros() as u64),
    ("never", 9_000_000_000_000_000),
];

const LIMITS: &[(&str, u64)] = &[
    ("waiters", WAITERS_MAX),
    ("writer", RW_CAPACITY as u64),
    // The greatest number that the server's Lua counts exactly.
    ("exact", (1 << 53) - 1),
    // How many leases that have ended, and how many grants, are seen to in one call.
    ("sweep", 1000),
    ("grants", 256),
    ("shown", 10_000),
    // The greatest count that a head has digits for.
    ("same", 999_999),
];

/// A script, or a piece of one, with numbers in the place of names.
///
/// # Panics
/// Where it names what is not here: a mistake in a script, which every test of the scripts finds.
pub fn put_in(script: &str) -> String {
    let mut out = String::with_capacity(script.len());
    for line in script.split_inclusive('\n') {
        if line.trim_start().starts_with("--") {
            out.push_str(line);
            continue;
        }
        let mut rest = line;
        while let Some((before, name, after)) = next_name(rest) {
            out.push_str(before);
            out.push_str(&number(name).unwrap_or_else(|| panic!("nothing is called {name}: {line}")));
            rest = after;
        }
        out.push_str(rest);
    }
    out
}

/// The first name in a text: capital letters, a dot, and more words with dots between them.
fn next_name(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let dot = from + text[from..].find('.')?;
        let begin = text[..dot].rfind(|c: char| !c.is_ascii_uppercase()).map_or(0, |at| at + 1);
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.';
        let end = text[dot..].find(|c| !word(c)).map_or(text.len(), |length| dot + length);
        if begin < dot && end > dot + 1 && text.as_bytes()[dot + 1] != b'.' {
            return Some((&text[..begin], &text[begin..end], &text[end..]));
        }
        from = end;
    }
}

/// What stands for a name.
fn number(name: &str) -> Option<String> {
    let words: Vec<&str> = name.split('.').collect();
    let [of, word, rest @ ..] = &words[..] else { return None };
    let table = match *of {
        "TIME" => Some(TIMES),
        "LIMIT" => Some(LIMITS),
        _ => None,
    };
    if let Some(table) = table {
        let value = table.iter().find(|(name, _)| name == word)?.1;
        return match rest {
            [] => Some(value.to_string()),
            [digits] => {
                Some(format!("{value:0width$}", width = digits.strip_prefix("digits")?.parse().ok()?))
            }
            _ => None,
        };
    }
    let fields = LAYOUTS.iter().find(|(name, _)| name == of)?.1;
    let field = |word: &str| fields.iter().find(|(name, ..)| *name == word);
    let (_, first, last) = *field(word)?;
    match rest {
        [] if last == 0 => Some(first.to_string()),
        [] => Some(format!("{first}, {last}")),
        ["at" | "on"] => Some(first.to_string()),
        ["to", other] => {
            field(other).filter(|(.., last)| *last > 0).map(|(.., last)| format!("{first}, {last}"))
        }
        [some] => {
            let length: usize = some.strip_prefix("first")?.parse().ok()?;
            Some(format!("{first}, {}", first + length - 1))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_numbers() {
        let script =
            "a(HEAD.keep, HEAD.kind.at) .. 'TIME.old' .. HEAD.last.to.marks .. HEAD.record\n  -- HEAD.none\n";
        assert_eq!(put_in(script), "a(67, 82, 2) .. '60000000' .. 3, 34 .. 173\n  -- HEAD.none\n");
        assert_eq!(put_in("HEAD.marks.on, HEAD.last.first9 x.y KEYS[1]"), "19, 3, 11 x.y KEYS[1]");
        assert_eq!(put_in("'LIMIT.waiters.digits7' LIMIT.writer"), "'0100000' 4294967295");
    }

    #[test]
    #[should_panic(expected = "nothing is called HEAD.nothing")]
    fn a_name_that_nothing_has_is_found() {
        put_in("sub(head, HEAD.nothing)");
    }

    /// The record in a head is a record, and so are the terms in a short one.
    #[test]
    fn layouts_agree() {
        let at = |name: &str| number(name).expect("a field");
        let shifted = |name: &str, by: usize| {
            let bytes = at(name);
            let ends: Vec<usize> =
                bytes.split(", ").map(|n| n.parse::<usize>().expect("digits") + by).collect();
            ends.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        for (inside, record) in [
            ("state", "state"),
            ("before", "before"),
            ("weight", "weight"),
            ("tokens", "capacity"),
            ("lease", "lease"),
            ("token", "token"),
            ("note", "note"),
        ] {
            assert_eq!(at(&format!("HEAD.{inside}")), shifted(&format!("RECORD.{record}"), 172), "{inside}");
        }
        for field in ["weight", "capacity", "lease", "patience"] {
            assert_eq!(at(&format!("RECORD.{field}")), shifted(&format!("ASKED.{field}"), 3), "{field}");
        }
        assert_eq!(at("SHORT.lease"), shifted("ASKED.lease", 50));
        for (name, fields) in LAYOUTS {
            for pair in fields.windows(2).filter(|pair| !["terms", "kept", "least"].contains(&pair[1].0)) {
                assert!(pair[1].1 > pair[0].1, "{name}: {pair:?}");
            }
        }
    }
}
