//! The text of a handle.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::backend::{ClaimId, Kind, Owner};
use crate::domain::Domain;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::options::{check_owner, check_reason, check_ttl};
use crate::token::Token;

/// What every handle begins with: the version of its format.
const VERSION: &str = "tenure1-";
/// How many digits its checksum has.
const CHECKSUM: usize = 16;
/// The longest handle that there can be, in bytes: anything longer is not read.
const LONGEST: usize = 8192;

/// A hold that was detached from its process. Knowing it is the right to continue, renew or release the hold.
///
/// **It is a secret**, as good as the lock. Its text, which [`to_string`](ToString::to_string) gives and
/// [`parse`](str::parse) reads, authorises all of that; `Debug` does not show it.
///
/// It carries the lock's name and namespace, the store's domain, the fencing token, the lease, and who is shown as the
/// holder. `docs/wire/compositions.md` describes its text.
#[derive(Clone, PartialEq, Eq)]
pub struct Handle {
    pub(super) id: ClaimId,
    pub(super) key: Key,
    pub(super) domain: Domain,
    pub(super) kind: Kind,
    pub(super) weight: u32,
    pub(super) capacity: u32,
    pub(super) token: Option<Token>,
    pub(super) ttl: Duration,
    pub(super) owner: Owner,
    pub(super) reason: String,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("key", &self.key).field("token", &self.token).finish_non_exhaustive()
    }
}

impl Handle {
    /// The lock's name.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The fencing token of the hold; `None` where its kind has none.
    #[must_use]
    pub fn token(&self) -> Option<Token> {
        self.token
    }

    /// The domain of the token: which store gave it. A fence compares it beside the token.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The lease: for so long after each renewal the hold lasts.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Who is shown as the holder.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    fn content(&self) -> String {
        let kind = match self.kind {
            Kind::Mutex => 1,
            Kind::ReadWrite => 2,
            Kind::Semaphore => 3,
        };
        let Owner { user, host, pid, program } = &self.owner;
        let (id, key, domain) = (self.id.0, self.key.full(), &self.domain);
        let (weight, capacity, ttl) = (self.weight, self.capacity, self.ttl.as_micros());
        let token = self.token.map_or(0, Token::get);
        let owner = [user, host, program].map(|text| escaped(text)).join("\n");
        let reason = escaped(&self.reason);
        format!(
            "{id:032x}\n{key}\n{domain}\n{kind}\n{weight}\n{capacity}\n{token}\n{ttl}\n{pid}\n{owner}\n{reason}"
        )
    }

    fn read(content: &str) -> Option<Handle> {
        let fields: Vec<&str> = content.split('\n').collect();
        let [id, key, domain, kind, weight, capacity, token, ttl, pid, user, host, program, reason] =
            fields[..]
        else {
            return None;
        };
        let kind = match kind {
            "1" => Kind::Mutex,
            "2" => Kind::ReadWrite,
            "3" => Kind::Semaphore,
            _ => return None,
        };
        let [user, host, program, reason] = [user, host, program, reason].map(unescaped);
        let handle = Handle {
            id: ClaimId(u128::from_str_radix(id, 16).ok()?),
            key: Key::from_full(key).ok()?,
            domain: Domain::new(domain).ok()?,
            kind,
            weight: weight.parse().ok()?,
            capacity: capacity.parse().ok()?,
            token: Token::new(token.parse().ok()?),
            ttl: Duration::from_micros(ttl.parse().ok()?),
            owner: Owner { user, host, pid: pid.parse().ok()?, program },
            reason,
        };
        let fits = check_ttl(handle.ttl).is_ok() && check_reason(&handle.reason).is_ok();
        (fits && check_owner(&handle.owner).is_ok()).then_some(handle)
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = self.content();
        f.write_str(VERSION)?;
        for byte in content.bytes() {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "{:016x}", checksum(content.as_bytes()))
    }
}

impl FromStr for Handle {
    type Err = Error;

    fn from_str(text: &str) -> Result<Handle> {
        // No part of it is shown: it may be a good one but for a letter.
        let refuse = |what: &str| Error::config(what, "give it exactly as it was printed");
        let text = text.trim();
        if !text.starts_with("tenure") || text.len() > LONGEST {
            return Err(refuse("this is not a handle"));
        }
        let Some(digits) = text.strip_prefix(VERSION) else {
            return Err(Error::config(
                "the handle is of another version of Tenure",
                "use the same version everywhere",
            ));
        };
        let damaged = || refuse("the handle was changed: its checksum is wrong");
        let bytes = unhex(digits).ok_or_else(damaged)?;
        let split = bytes.len().checked_sub(CHECKSUM / 2).ok_or_else(damaged)?;
        let (content, sum) = bytes.split_at(split);
        if checksum(content).to_be_bytes() != sum {
            return Err(damaged());
        }
        let content = std::str::from_utf8(content).map_err(|_| damaged())?;
        // One spelling: a number or an id that is written in another way was not written by us.
        let handle = Handle::read(content).filter(|handle| handle.to_string() == text);
        handle.ok_or_else(|| refuse("the handle says something impossible"))
    }
}

/// A text without line ends.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next().map(|c| if c == 'n' { '\n' } else { c })),
            c => out.push(c),
        }
    }
    out
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let value = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Some(value(pair[0])? << 4 | value(*pair.get(1)?)?)).collect()
}

/// FNV-1a of 64 bits: finds what was mistyped or cut off. It is no signature; the id is what authorises.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01B3))
}

/// Target for fuzzing: a handle comes from a file or an environment variable.
#[cfg(feature = "unstable")]
pub(crate) const FUZZ: crate::fuzz::Target = crate::fuzz::Target {
    name: "handles",
    asserts: "a handle that is accepted is printed as it was read",
    seeds: || {
        let content = "000000000000000000000000000000ff\ndefault/orders/42\nredis:cache:6379/0\n1\n1\n1\n1795168537675201\n\
                       30000000\n4711\nann\nweb-1\nreport\nnightly\\nclose";
        crate::fuzz::texts(&[content, &framed(content.as_bytes())])
    },
    run: |input| {
        // As a handle; and as the content of one, with its checksum put right.
        let framed = framed(input);
        let mut kinds = [0; 2];
        for (kind, text) in kinds.iter_mut().zip([std::str::from_utf8(input).unwrap_or_default(), &framed]) {
            let handle = text.parse::<Handle>();
            *kind = handle.as_ref().map_or_else(|error| error.to_string().len(), |_| 0);
            if let Ok(handle) = handle {
                assert_eq!(handle.to_string(), text.trim());
            }
        }
        crate::fuzz::outcome(kinds)
    },
};

#[cfg(feature = "unstable")]
fn framed(content: &[u8]) -> String {
    let digits: String = content.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{VERSION}{digits}{:016x}", checksum(content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// The example of `docs/wire/compositions.md`.
    fn example() -> Handle {
        Handle {
            id: ClaimId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            key: Key::new("shop", "orders/42").expect("a name"),
            domain: Domain::new("redis:7f3a").expect("a domain"),
            kind: Kind::Mutex,
            weight: 1,
            capacity: 1,
            token: Token::new(1_795_230_000_000_000),
            ttl: Duration::from_secs(30),
            owner: Owner { user: "app".into(), host: "web-1".into(), pid: 4711, program: "charge".into() },
            reason: "order 42\nby \\hand".into(),
        }
    }

    #[test]
    fn the_documented_example_is_the_real_one() {
        let document = include_str!("../../../../docs/wire/compositions.md");
        let blocks: Vec<&str> =
            document.split("```text\n").skip(1).map(|b| b.split("```").next().unwrap_or(b)).collect();
        let [content, text] = blocks[..] else { panic!("the examples are gone") };
        assert_eq!(content.trim_end(), example().content());
        assert_eq!(text.split_whitespace().collect::<String>(), example().to_string());
    }

    #[test]
    fn what_is_written_is_read_and_debug_shows_no_secret() {
        let handle = example();
        let text = handle.to_string();
        assert_eq!(text.parse::<Handle>().expect("good"), handle);
        assert_eq!(format!(" {text}\n").parse::<Handle>().expect("good"), handle);
        let shown = format!("{handle:?}");
        assert!(shown.contains("orders/42") && !shown.contains("89ab"), "{shown}");
        let tokenless = Handle { token: None, kind: Kind::Semaphore, capacity: 9, ..handle };
        assert_eq!(tokenless.to_string().parse::<Handle>().expect("good"), tokenless);
    }

    #[test]
    fn every_changed_handle_is_refused_and_not_repeated() {
        let text = example().to_string();
        let refused = |text: &str| {
            let error = text.parse::<Handle>().expect_err("changed");
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!format!("{error:?}").contains("3031"), "no part of a secret: {error}");
        };
        for at in VERSION.len()..text.len() {
            let other = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
            refused(&format!("{}{other}{}", &text[..at], &text[at + 1..]));
            refused(&text[..at]);
        }
        for text in ["", "tenure", "tenure1-", "tenure1-zz", "tenure2-00", "hello", "tenure1-é"] {
            refused(text);
        }
        refused(&format!("{text}{text}"));
        refused(&format!("{VERSION}{}", "00".repeat(9000)));
        // A good checksum over nonsense.
        let content = "x\ny";
        let digits: String = content.bytes().map(|b| format!("{b:02x}")).collect();
        refused(&format!("{VERSION}{digits}{:016x}", checksum(content.as_bytes())));
    }
}
