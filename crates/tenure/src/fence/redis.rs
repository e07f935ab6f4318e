//! Fences in Redis, for resources in the same Redis: scripts that work with any client.
//!
//! ```
//! use tenure::fence::{Stamp, redis};
//! # fn main() -> Result<(), tenure::Error> {
//! # let stamp = Stamp::new("redis:cache:6379/0".parse()?, "5".parse()?);
//! // Takes one from the stock. KEYS[1] is the fence; ARGV[1] and ARGV[2] are the stamp.
//! let take_one = redis::guarded("return redis.call('DECRBY', KEYS[2], ARGV[3])");
//! let [domain, token] = redis::arguments(&stamp);
//! let request = ["EVAL", &take_one, "2", "{stock/7}:fence", "{stock/7}:left", &domain, &token, "1"];
//! # assert_eq!(request.len(), 8);
//! # Ok(()) }
//! ```
//!
//! A refused access is an error of code `TENUREFENCE`; [`sql::reason`](super::sql::reason) reads its text. In a cluster,
//! the fence must be in the slot of the resource: use the same text in braces. The fence has no expiry and must not be
//! evicted (`maxmemory-policy noeviction`): if a fence is forgotten, the next access is admitted, even with a stale token.

use super::Stamp;
use super::sections::one;

const SCRIPTS: &str = include_str!("redis.lua");

/// A script that checks and registers the token, then runs `body` in the same atomic step. `KEYS[1]` is the fence. The
/// first two of `ARGV` are [`arguments`]; further ones are for `body`. Use it for scripts that only read, too.
#[must_use]
pub fn guarded(body: &str) -> String {
    format!("{}\n{body}", one(SCRIPTS, "check"))
}

/// A script that refuses tokens below the given one from now on, in its domain. It never lowers the fence. `KEYS[1]` is the
/// fence, `ARGV` the [`arguments`]. Use it to shut out an evicted holder before the next one comes: give it the old
/// holder's token plus one.
#[must_use]
pub fn raise() -> &'static str {
    one(SCRIPTS, "raise")
}

/// A script that forgets the tokens seen so far and starts with this domain and token. Operators use it to move a resource
/// to another store. `KEYS[1]` is the fence, `ARGV` the [`arguments`].
#[must_use]
pub fn reset() -> &'static str {
    one(SCRIPTS, "reset")
}

/// The first two arguments of every script: domain and token.
#[must_use]
pub fn arguments(stamp: &Stamp) -> [String; 2] {
    [stamp.domain().to_string(), stamp.token().to_string()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarded_script_ends_with_its_body() {
        let script = guarded("return 1");
        assert!(script.starts_with("do\n") && script.ends_with("end\nreturn 1"), "{script}");
        assert!(raise().contains("HSET") && reset().contains("DEL"));
    }
}
