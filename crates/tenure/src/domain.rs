//! Which tokens can be compared with which.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The longest domain, in bytes.
const MAX: usize = 200;

/// The order that tokens belong to: which store gave them, in which incarnation.
///
/// Only tokens of one domain can be compared, so a resource stores the domain beside the highest token and refuses any
/// other. [`Locks::domain`](crate::Locks::domain) tells a store's.
///
/// A domain lasts exactly as long as the order of the tokens does. Tokens that are times of the store's clock (`host:`,
/// `redis:`) go on growing after a restart, a failover or a loss of all data, so those do not change it. A store whose
/// tokens begin anew with its data has a new domain then, and an operator moves the resource there:
/// [the manual](crate::manual::fence) says how.
///
/// 1 to 200 bytes of ASCII letters, digits and `. _ : / + - @ % [ ]`, so it fits a header, a column and a line of text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Arc<str>);

impl Domain {
    /// A domain from its text.
    ///
    /// # Errors
    /// `Config`, saying which rule.
    pub fn new(text: &str) -> Result<Domain> {
        let refuse = |what: &str| {
            let advice = "use 1 to 200 letters, digits and . _ : / + - @ % [ ]";
            Err(Error::config(format!("{text:.60?} is not a domain of tokens: it {what}"), advice))
        };
        if text.is_empty() {
            return refuse("is empty");
        }
        if text.len() > MAX {
            return refuse("is too long");
        }
        if !text.bytes().all(plain) {
            return refuse("contains something else");
        }
        Ok(Domain(text.into()))
    }

    /// The domain of a store: what it is, and which one. What a domain cannot carry is written as `%` and two digits.
    ///
    /// # Errors
    /// `Config` where the store's name is too long.
    #[allow(dead_code)] // in a build without any backend
    pub(crate) fn of(kind: &str, name: &str) -> Result<Domain> {
        let mut text = format!("{kind}:");
        for byte in name.bytes() {
            if plain(byte) && byte != b'%' {
                text.push(char::from(byte));
            } else {
                text += &format!("%{byte:02X}");
            }
        }
        Domain::new(&text)
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:/+-@%[]".contains(&byte)
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Domain({})", self.0)
    }
}

impl FromStr for Domain {
    type Err = Error;

    fn from_str(text: &str) -> Result<Domain> {
        Domain::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_fits_wherever_it_is_kept() {
        for good in ["redis:cache.internal:6379/0", "redis:[::1]:6379/0", "host:web-1.9f3a61c2/1000", "a"] {
            assert_eq!(Domain::new(good).expect(good).as_str(), good);
        }
        let long = "x".repeat(MAX + 1);
        for bad in ["", " ", "a b", "a\n", "a\r\nb: c", "ä", "a\"", "a'", "a;b", "\0", long.as_str()] {
            assert_eq!(Domain::new(bad).expect_err(bad).kind(), crate::ErrorKind::Config);
        }
    }

    #[test]
    fn a_store_s_name_is_kept_apart_from_others_whatever_is_in_it() {
        let of = |name: &str| Domain::of("redis", name).expect(name).to_string();
        assert_eq!(of("cache:6379/0"), "redis:cache:6379/0");
        assert_eq!(of("a b"), "redis:a%20b");
        assert_eq!(of("a%20b"), "redis:a%2520b");
        assert_eq!(of("é"), "redis:%C3%A9");
    }
}
