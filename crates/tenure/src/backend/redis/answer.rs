//! What the scripts answer, and what the server tells unasked.

use std::ops::Range;
use std::time::Duration;

use super::resp::Value;
use super::{digits, format};
use crate::backend::{
    Answer, Claim, ClaimId, Grant, Kind, Lease, News, Previous, Released, Standing, refusal,
};
use crate::core::lease::LOOK_AGAIN_MAX;
use crate::error::{Error, Result};
use crate::token::Token;

/// A little after a lease has ended, and not a little before.
const AFTER: Duration = Duration::from_millis(1);

/// The fields of an answer, each a text.
pub(super) struct Fields<'a> {
    texts: Vec<&'a str>,
}

impl<'a> Fields<'a> {
    /// The fields of an answer to the claim `id`; an answer to another one is refused. They come as a list, or as one
    /// text with a space between fields, of which the last may hold spaces itself.
    pub(super) fn of(value: &'a Value, id: &str) -> Option<Fields<'a>> {
        let texts: Vec<&str> = match value {
            Value::Text(_) => {
                let text = value.text()?;
                let why = text.get(id.len()..id.len() + 3) == Some(" E ");
                text.splitn(if why { 4 } else { usize::MAX }, ' ').collect()
            }
            list => list.list()?.iter().map(Value::text).collect::<Option<_>>()?,
        };
        (texts.first() == Some(&id) && texts.len() >= 2).then_some(Fields { texts })
    }

    fn text(&self, at: usize) -> Option<&'a str> {
        self.texts.get(at).copied()
    }

    fn number(&self, at: usize) -> Option<u64> {
        digits::number(self.text(at)?)
    }

    /// The letter that says what the answer is.
    pub(super) fn letter(&self) -> &'a str {
        self.texts[1]
    }

    /// The server's time, in µs; not every answer tells it.
    pub(super) fn now(&self) -> Option<u64> {
        self.number(2)
    }
}

/// The claim's id as the server keeps it.
pub(super) fn hex(id: ClaimId) -> String {
    digits::hex(id.0)
}

/// A token; 0 is none.
pub(super) fn token(number: i64) -> Option<Token> {
    Token::new(number)
}

/// What the server answered to an attempt or a renewal. `None`: nonsense.
pub(super) fn standing(fields: &Fields<'_>, claim: &Claim) -> Option<Result<Answer>> {
    let now = fields.now()?;
    let until = |at: u64| Duration::from_micros(at.saturating_sub(now));
    let standing = match fields.letter() {
        // A new hold says no more than when it began, which is its token, and how the one before it ended.
        "H" if fields.text(4).is_none() => {
            let lease = Lease::For(Duration::from_micros(format::lease(claim.ttl)));
            Standing::Held(Grant {
                token: token(i64::try_from(now).ok()?),
                lease,
                previous: previous(fields.text(3)?)?,
            })
        }
        "H" => {
            let grant = token(i64::try_from(fields.number(3)?).ok()?);
            let lease = Lease::For(until(fields.number(4)?));
            // The dialect does not know it.
            let before = fields.text(5).map_or(Some(Previous::Unknown), previous)?;
            Standing::Held(Grant { token: grant, lease, previous: before })
        }
        "W" => Standing::Waiting {
            place: Some(Lease::For(until(fields.number(3)?))),
            ahead: Some(u32::try_from(fields.number(4)?).unwrap_or(u32::MAX)),
            look_again: (until(fields.number(5)?) + AFTER).min(LOOK_AGAIN_MAX),
        },
        "B" => Standing::Busy,
        "G" => Standing::Gone { why: None },
        "E" => Standing::Gone { why: Some(fields.text(3)?.to_owned()) },
        "K" => return Some(Err(refusal::other_kind(kind(fields.text(3)?), Some(claim.kind)))),
        "L" => return Some(Err(refusal::larger())),
        "F" => return Some(Err(refusal::too_many())),
        "T" => return Some(Err(absurd_token(fields.text(3)?))),
        "V" => return Some(Err(other_version(fields.text(3)?))),
        _ => return None,
    };
    Some(Ok(Answer { standing, at: Some(now.saturating_mul(1000)) }))
}

/// What the server answered to a release. `None`: nonsense.
pub(super) fn released(fields: &Fields<'_>) -> Option<Result<Released>> {
    Some(match fields.letter() {
        "h" => Ok(Released::WasHeld),
        "w" => Ok(Released::WasWaiting),
        "g" => Ok(Released::Gone),
        "V" => Err(other_version(fields.text(3)?)),
        _ => return None,
    })
}

/// A record of another version of the format.
pub(super) fn other_version(byte: &str) -> Error {
    Error::protocol(
        format!("the lock is stored in format {byte:?}, and this version reads format \"1\""),
        "use one version of Tenure for one server, or a namespace of its own for each",
    )
}

/// A last token that no token can follow.
fn absurd_token(token: &str) -> Error {
    Error::protocol(
        format!(
            "its last token is {token:?}, more than a day ahead of the server's clock, so no token can follow"
        ),
        concat!(
            "set the server's clock right; or, if the token is wrong, delete the key that keeps it, as ",
            page!(),
            " says: tokens go on from the clock then"
        ),
    )
}

/// The kind that a digit stands for.
pub(super) fn kind(digit: &str) -> Option<Kind> {
    match digit {
        "1" => Some(Kind::Mutex),
        "2" => Some(Kind::ReadWrite),
        "3" => Some(Kind::Semaphore),
        _ => None,
    }
}

/// How a hold ended, by its letter.
pub(super) fn previous(letter: &str) -> Option<Previous> {
    match letter {
        "r" => Some(Previous::Released),
        "x" => Some(Previous::Expired),
        "e" => Some(Previous::Evicted),
        "u" => Some(Previous::Unknown),
        _ => None,
    }
}

/// The digit that stands for a kind.
pub(super) fn digit(kind: Kind) -> &'static str {
    match kind {
        Kind::Mutex => "1",
        Kind::ReadWrite => "2",
        Kind::Semaphore => "3",
    }
}

/// The head of the lock of which a grant was told.
pub(super) fn lock_of_grant(text: &str) -> Option<&str> {
    text.strip_prefix("1g")?.get(76..).filter(|head| !head.is_empty())
}

/// What was told on this client's channel. `None`: nonsense, or another version.
pub(super) fn news(text: &str) -> Option<News> {
    let rest = text.strip_prefix('1')?;
    let id = ClaimId(digits::unhex(rest.get(1..33)?)?);
    let number = |range: Range<usize>| digits::number(rest.get(range)?);
    match rest.get(..1)? {
        "g" => {
            let (grant, now, lease) = (number(33..49)?, number(49..65)?, number(65..76)?);
            let grant = Grant {
                token: token(i64::try_from(grant).ok()?),
                lease: Lease::For(Duration::from_micros(lease)),
                previous: previous(rest.get(76..77)?)?,
            };
            Some(News::Granted(id, grant, now.saturating_mul(1000)))
        }
        "x" => Some(News::Gone(id, Some(rest.get(33..)?.to_owned()))),
        "l" => Some(News::Look(id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_is_read_and_nonsense_is_not() {
        let id = "000000000000000000000000000000ff";
        let fixed = format!("1g{id}1795168537675201179516853767530000030000000x");
        let grant = format!("{fixed}tenure:{{shop/a}}:l");
        assert_eq!(lock_of_grant(&grant), Some("tenure:{shop/a}:l"));
        assert_eq!(lock_of_grant(&fixed), None);
        match news(&grant) {
            Some(News::Granted(ClaimId(0xff), grant, 1_795_168_537_675_300_000)) => {
                assert_eq!(grant.token.map(Token::get), Some(1_795_168_537_675_201));
                assert_eq!(grant.lease, Lease::For(Duration::from_secs(30)));
                assert_eq!(grant.previous, Previous::Expired);
            }
            other => panic!("{other:?}"),
        }
        assert!(
            matches!(news(&format!("1x{id}by ann: why")), Some(News::Gone(_, Some(why))) if why == "by ann: why")
        );
        assert!(matches!(news(&format!("1l{id}")), Some(News::Look(_))));
        for cut in 0..fixed.len() {
            assert!(news(&grant[..cut]).is_none(), "cut at {cut}");
        }
        for bad in [format!("2g{id}"), format!("1q{id}"), "1gé".into(), format!("1g{}", "é".repeat(80))] {
            assert!(news(&bad).is_none(), "{bad}");
        }
    }
}
