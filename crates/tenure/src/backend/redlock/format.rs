//! What servers that vote are told, and what they say.

use std::time::Duration;

use crate::backend::ClaimId;
use crate::core::quorum::Vote;
use crate::error::Error;
use crate::token::Token;

/// The claim's id as servers keep it.
pub(super) fn hex(id: ClaimId) -> String {
    format!("{:032x}", id.0)
}

/// A number of 16 digits: a round, or a time in µs.
pub(super) fn number(number: u64) -> String {
    format!("{:016}", number.min(9_999_999_999_999_999))
}

/// A lease in µs, as 16 digits.
pub(super) fn micros(lease: Duration) -> String {
    number(u64::try_from(lease.as_micros()).unwrap_or(u64::MAX).min(9_000_000_000_000_000))
}

/// A token as 16 digits; zeros for none.
pub(super) fn token(token: Option<Token>) -> String {
    number(token.map_or(0, |token| token.get().unsigned_abs()))
}

/// A token out of digits; zeros are none.
pub(super) fn read_token(text: &str) -> Option<Token> {
    text.parse().ok().and_then(Token::new)
}

/// A vote out of the answer to a request for one. `Err`: the server cannot vote.
pub(super) fn vote(words: &[String]) -> Result<Vote, Error> {
    let text = |at: usize| words.get(at).map(String::as_str).unwrap_or_default();
    match text(1) {
        "A" => Ok(Vote::Accepted),
        "L" => Ok(Vote::Locked { floor: read_token(text(3)) }),
        "D" => Ok(Vote::Denied {
            floor: read_token(text(3)),
            left: Duration::from_micros(text(4).parse().unwrap_or(0)),
            rival: u64::from_str_radix(text(5), 16).unwrap_or(0),
        }),
        "T" => Err(Error::protocol(
            format!("the last token of a server is {}, more than a day ahead of its clock", text(3)),
            "set the server's clock right; or, if the token is wrong, delete the key that keeps it",
        )),
        _ => Err(other_version(text(3))),
    }
}

/// Whether a server said yes. `Err`: it cannot vote.
pub(super) fn yes(words: &[String]) -> Result<bool, Error> {
    match words.get(1).map(String::as_str) {
        Some("Y" | "h") => Ok(true),
        Some("N" | "v" | "g") => Ok(false),
        _ => Err(other_version(words.get(3).map_or("", String::as_str))),
    }
}

/// Another version wrote what is stored.
pub(super) fn other_version(byte: &str) -> Error {
    Error::protocol(
        format!("the lock is stored in format {byte:?}, and this version reads format \"1\""),
        "use one version of Tenure for one set of servers, or a namespace of its own for each",
    )
}
