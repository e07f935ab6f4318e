//! Fencing tokens.

use std::fmt;
use std::num::NonZeroI64;

/// The fencing token of a grant: a positive number that grows from each exclusive grant of a lock to the next.
///
/// Pass it to the resource that the lock protects, and let the resource refuse a token lower than the highest it has seen. The
/// module [`fence`](crate::fence) has that check ready-made. A token is a positive `i64`, so it fits a `BIGINT` column. Tokens made
/// from microseconds stay below 2^53 until the year 2255, so they also fit a JSON number.
///
/// ```
/// use tenure::{Locks, Token};
///
/// # fn main() -> tenure::Result<()> {
/// let orders = Locks::memory().mutex("orders/42")?;
/// let first = orders.blocking_lock()?;
/// let stored: i64 = first.token().get(); // what the resource keeps beside its data
/// first.blocking_release()?;
/// let second = orders.blocking_lock()?;
/// assert!(second.token().get() > stored);
/// assert_eq!(second.token().to_string().parse::<Token>()?, second.token());
/// # Ok(()) }
/// ```
///
/// Tokens are comparable within one lock of one store only: see [`Domain`](crate::Domain).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(NonZeroI64);

impl Token {
    /// A token of this value; `None` for zero and negative numbers.
    #[must_use]
    pub const fn new(value: i64) -> Option<Token> {
        match NonZeroI64::new(value) {
            Some(n) if value > 0 => Some(Token(n)),
            _ => None,
        }
    }

    /// The token `by` steps later; `None` past the greatest token.
    pub(crate) fn later(self, by: u32) -> Option<Token> {
        self.0.get().checked_add(i64::from(by)).and_then(Token::new)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0.get()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.0)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::str::FromStr for Token {
    type Err = crate::Error;

    /// Reads what [`Display`](fmt::Display) writes: decimal digits without a sign and without leading zeros. Each token has
    /// one spelling, so texts can be compared instead.
    fn from_str(text: &str) -> Result<Token, crate::Error> {
        let plain = text.starts_with(|first: char| first != '0') && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| plain).and_then(Token::new).ok_or_else(|| {
            crate::Error::config(
                format!("{text:.60?} is not a fencing token"),
                "give a positive whole number in digits, without a sign and without leading zeros",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_one_spelling() {
        for good in ["1", "7", "10", "1795168537675201", "9223372036854775807"] {
            assert_eq!(good.parse::<Token>().expect(good).to_string(), good);
        }
        for bad in [
            "",
            "0",
            "00",
            "007",
            "08",
            "+7",
            "-7",
            "+0",
            " 7",
            "7 ",
            "7.0",
            "0x7",
            "1e3",
            "7_000",
            "7,000",
            "\u{663}",
            "7\n",
            "7\0",
            "9223372036854775808",
            "99999999999999999999",
        ] {
            assert!(bad.parse::<Token>().is_err(), "{bad:?} is taken for a token");
        }
    }
}
