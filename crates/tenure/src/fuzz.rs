//! Targets for fuzzing: everything in this crate that parses bytes of others. Not part of the stable API.
//!
//! Each module with a parser lists its own targets, because parsers are private. The lab runs them (`tests/fuzz` there):
//! it mutates the seeds, and watches for panics, for memory, and for time.

/// One parser, and what must be true of it for every input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// What it asserts beyond "no panic, bounded memory, bounded time".
    pub asserts: &'static str,
    /// Real inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Parses and asserts. The answer tells apart kinds of outcomes: inputs with a new one are worth more mutations.
    pub run: fn(&[u8]) -> u64,
}

impl Target {
    /// Parses and asserts.
    #[must_use]
    pub fn run(&self, input: &[u8]) -> u64 {
        (self.run)(input)
    }
}

/// A number for an outcome.
#[must_use]
pub fn outcome(what: impl std::hash::Hash) -> u64 {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    BuildHasherDefault::<DefaultHasher>::default().hash_one(what)
}

/// All targets of this crate.
#[must_use]
pub fn targets() -> Vec<Target> {
    let mut all = vec![NAMES, TOKENS, URLS];
    all.push(crate::handover::FUZZ);
    all.push(crate::once::FUZZ);
    all.extend(crate::fence::FUZZ);
    #[cfg(feature = "redis")]
    all.extend(crate::backend::redis::FUZZ);
    all
}

/// The seeds of a target, from texts.
pub(crate) fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The class of an error, and nothing of its text, which repeats the input.
fn kind<T>(result: &crate::Result<T>) -> u64 {
    result.as_ref().map_or_else(|error| 1 + error.kind() as u64, |_| 0)
}

const NAMES: Target = Target {
    name: "names of locks",
    asserts: "a name that is accepted is kept as it is, and splits into its namespace and its name",
    seeds: || {
        texts(&[
            "default/orders/42",
            "shop/a",
            "default/\u{e4}\u{f6}",
            "a/b/c/d/e",
            "default/x y",
            "n/\u{1f512}",
        ])
    },
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else { return 99 };
        let key = crate::Key::from_full(text);
        if let Ok(key) = &key {
            assert_eq!(key.full(), text);
            assert_eq!(format!("{}/{}", key.namespace(), key.name()), text);
            assert_eq!(crate::Key::new(key.namespace(), key.name()).ok().as_ref(), Some(key));
        }
        kind(&key)
    },
};

const TOKENS: Target = Target {
    name: "tokens and domains",
    asserts: "each has one spelling: what is accepted is written as it was read",
    seeds: || {
        texts(&[
            "7",
            "1795168537675201",
            "9223372036854775807",
            "redis:cache:6379/0",
            "host:web-1.9f3a61c2/1000",
        ])
    },
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else { return 99 };
        let (token, domain) = (text.parse::<crate::Token>(), text.parse::<crate::Domain>());
        if let Ok(token) = token {
            assert_eq!(token.to_string(), text);
        }
        if let Ok(domain) = &domain {
            assert_eq!(domain.as_str(), text);
        }
        outcome((kind(&text.parse::<crate::Token>()), kind(&domain)))
    },
};

const URLS: Target = Target {
    name: "store URLs",
    asserts: "a URL that is accepted is shown as one that means the same, without its password",
    seeds: || {
        texts(&[
            "host:",
            "host:///var/lib/tenure",
            "memory:",
            "redis://127.0.0.1",
            "rediss://ann:secret@cache.internal:6380/2?ca=/etc/ca.pem",
            "redis://:pa%40ss@[::1]:6379,[2001:db8::1]/0?a=b&c=d",
            "redis+setnx://localhost:7000?prefix=lock%3A",
        ])
    },
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else { return 99 };
        let url = crate::url::StoreUrl::parse(text);
        if let Ok(url) = &url {
            let shown = url.redacted();
            let again = crate::url::StoreUrl::parse(&shown);
            let again = again.unwrap_or_else(|error| panic!("{shown:?} cannot be read: {error}"));
            assert!(again.password.is_none());
            assert_eq!(again.redacted(), shown);
            let parts = |url: &crate::url::StoreUrl| {
                (
                    url.scheme.clone(),
                    url.user.clone(),
                    url.hosts.clone(),
                    url.path.clone(),
                    url.options.clone(),
                )
            };
            assert_eq!(parts(&again), parts(url), "{shown:?}");
        }
        let shape = url.as_ref().ok().map(|url| {
            (
                url.hosts.len().min(4),
                url.options.len().min(4),
                url.user.is_some(),
                url.password.is_some(),
                url.path.len().min(2),
            )
        });
        outcome((kind(&url), shape))
    },
};
