//! Targets for fuzzing: what a fence reads.

use super::record::{self, PLACE};
use super::sql;
use crate::fuzz::{Target, outcome, texts};

#[cfg(feature = "tower")]
pub(crate) const FUZZ: [Target; 4] = [FILES, ERRORS, PATHS, HEADERS];
#[cfg(not(feature = "tower"))]
pub(crate) const FUZZ: [Target; 2] = [FILES, ERRORS];

const FILES: Target = Target {
    name: "fence files",
    asserts: "a record is written as it was read, and the newest of two counts",
    seeds: || {
        let place = |serial, token: i64, domain: &str, mark: u8| {
            let stamp = super::Stamp::new(domain.parse().ok()?, crate::Token::new(token)?);
            let mut bytes = record::encode(serial, &stamp).to_vec();
            bytes[PLACE - 2] = mark;
            Some(bytes)
        };
        let places = [
            place(0, 7, "redis:cache:6379/0", b'.'),
            place(1, 1_795_168_537_675_201, "redis:cache:6379/0", b' '),
            place(u64::MAX, i64::MAX, &"d".repeat(200), b'.'),
        ];
        let one: Vec<Vec<u8>> = places.into_iter().flatten().collect();
        let two = one.iter().flat_map(|a| one.iter().map(move |b| [a.clone(), b.clone()].concat()));
        two.chain([vec![0; PLACE], Vec::new()]).chain(one.clone()).collect()
    },
    run: |input| {
        // With its checksum put right as well: otherwise nearly all that is changed stops there.
        let mended = record::mend(input);
        let mut outcomes = Vec::new();
        for bytes in [input, &mended] {
            let found = record::found(&bytes[..bytes.len().min(2 * PLACE)]);
            if let Some(kept) = &found.kept {
                let mut again = record::encode(kept.serial, &kept.stamp);
                again[PLACE - 2] = if kept.synced { b'.' } else { b' ' };
                let from = kept.place * PLACE;
                assert_eq!(again[..], bytes[from..from + PLACE]);
                assert_eq!(found.pending().is_some(), !kept.synced);
            }
            outcomes.push((found.fresh, found.kept.as_ref().map(|kept| (kept.place, kept.synced))));
        }
        outcome(outcomes)
    },
};

const ERRORS: Target = Target {
    name: "errors of databases",
    asserts: "a refusal carries our words",
    seeds: || {
        texts(&[
            "ERROR: tenure fence: stale token 5: stock/7 has seen 6",
            "ERROR 1644 (TF002): tenure fence: other domain: the token is of a",
        ])
    },
    run: |input| {
        let text = String::from_utf8_lossy(input);
        let reason = sql::reason(&text);
        assert!(reason.is_none() || text.contains("tenure fence: "));
        outcome(reason)
    },
};

#[cfg(feature = "tower")]
const PATHS: Target = Target {
    name: "paths of requests",
    asserts: "a canonical path stays as it is, and is found by it",
    seeds: || texts(&["/stock/7", "//a/./b/../c/", "/%C3%A4/%7Ex", "/a%2Fb%3Ac", "*"]),
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else { return 99 };
        let Some(canon) = super::path::canonical(text) else { return 0 };
        assert!(canon.starts_with('/') && !canon.contains("//") && canon.is_ascii(), "{canon}");
        assert!(canon == "/" || !canon.ends_with('/'), "{canon}");
        assert_eq!(super::path::canonical(&canon).as_ref(), Some(&canon));
        outcome((canon.matches('/').count().min(5), canon.contains('%'), canon == text))
    },
};

#[cfg(feature = "tower")]
const HEADERS: Target = Target {
    name: "fence headers",
    asserts: "a stamp that is accepted is set as it was read",
    seeds: || {
        texts(&[
            "tenure-token: 7\ntenure-domain: redis:cache:6379/0",
            "Tenure-Domain: host:a\nTenure-Token: 1795168537675201\nHost: x",
        ])
    },
    run: |input| {
        let mut headers = ::http::HeaderMap::new();
        for line in input.split(|byte| *byte == b'\n').take(64) {
            let mut parts = line.splitn(2, |byte| *byte == b':');
            let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
            let name = ::http::HeaderName::from_bytes(name);
            let value = ::http::HeaderValue::from_bytes(value.trim_ascii());
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        match super::http::stamp(&headers) {
            Ok(stamp) => {
                let mut again = ::http::HeaderMap::new();
                super::http::set(&mut again, &stamp);
                for name in [super::http::TOKEN, super::http::DOMAIN] {
                    assert_eq!(again.get(&name), headers.get(&name));
                }
                0
            }
            Err((status, why)) => outcome((status.as_u16(), why.len().min(80))),
        }
    },
};
