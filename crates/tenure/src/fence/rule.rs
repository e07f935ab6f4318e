//! The rule itself, without any resource. Pure.

use std::error::Error as StdError;
use std::fmt;

use crate::domain::Domain;
use crate::error::Error;
use crate::token::Token;

/// A token and its domain. A holder shows it with every access, and a resource remembers the highest one that it has seen.
///
/// ```
/// use tenure::fence::Stamp;
/// # fn main() -> Result<(), tenure::Error> {
/// let locks = tenure::Locks::memory();
/// let domain = locks.blocking_domain()?; // once, at start
/// let guard = locks.mutex("orders/42")?.blocking_lock()?;
/// let stamp = Stamp::new(domain, guard.token());
/// # assert_eq!(stamp.token(), guard.token());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    domain: Domain,
    token: Token,
}

impl Stamp {
    /// The token of a grant, from the store with this domain.
    #[must_use]
    pub fn new(domain: Domain, token: Token) -> Stamp {
        Stamp { domain, token }
    }

    /// The domain of the token: the store that gave it.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }
}

/// An admitted access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The resource already knows this token as the highest.
    Known,
    /// The resource must record the stamp, in the same atomic step, before anything else happens.
    Record,
}

/// Why an access is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The resource has seen a higher token: another holder was granted the lock meanwhile.
    Stale {
        /// The token of this access.
        shown: Token,
        /// The highest that the resource has seen.
        highest: Token,
    },
    /// The token comes from another store than the tokens that the resource has seen, or from another incarnation of it.
    OtherDomain {
        /// The domain of this access.
        shown: Domain,
        /// The domain that the resource knows.
        kept: Domain,
    },
}

impl Refusal {
    /// The reason, without the details.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Refusal::Stale { .. } => Reason::Stale,
            Refusal::OtherDomain { .. } => Reason::OtherDomain,
        }
    }
}

/// Why an access is refused, without the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// [`Refusal::Stale`].
    Stale,
    /// [`Refusal::OtherDomain`].
    OtherDomain,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Stale { shown, highest } => write!(
                f,
                "token {shown} is stale: the resource has seen {highest}, so another holder was granted the lock; stop the work"
            ),
            Refusal::OtherDomain { shown, kept } => write!(
                f,
                "the token belongs to {shown}, and the resource knows tokens of {kept}, which cannot be compared; use one \
                 store for this resource, or move it to the other one with a reset (tenure fence reset)"
            ),
        }
    }
}

impl StdError for Refusal {}

/// Judges an access: `seen` is the highest stamp that the resource remembers, `shown` is the stamp of this access.
///
/// # Errors
/// The reason for a refusal. The resource must not record the stamp then.
///
/// ```
/// use tenure::Token;
/// use tenure::fence::{Admission, Domain, Refusal, Stamp, check};
/// # fn main() -> Result<(), tenure::Error> {
/// let stamp = |token| Token::new(token).map(|t| Stamp::new(Domain::new("redis:cache:6379/0").expect("good"), t));
/// let (seven, nine) = (stamp(7).expect("positive"), stamp(9).expect("positive"));
/// assert_eq!(check(None, &seven), Ok(Admission::Record)); // the first access
/// assert_eq!(check(Some(&seven), &seven), Ok(Admission::Known));
/// assert_eq!(check(Some(&seven), &nine), Ok(Admission::Record));
/// assert!(matches!(check(Some(&nine), &seven), Err(Refusal::Stale { .. })));
/// # Ok(()) }
/// ```
pub fn check(seen: Option<&Stamp>, shown: &Stamp) -> Result<Admission, Refusal> {
    let Some(seen) = seen else { return Ok(Admission::Record) };
    if seen.domain != shown.domain {
        return Err(Refusal::OtherDomain { shown: shown.domain.clone(), kept: seen.domain.clone() });
    }
    match shown.token.cmp(&seen.token) {
        std::cmp::Ordering::Less => Err(Refusal::Stale { shown: shown.token, highest: seen.token }),
        std::cmp::Ordering::Equal => Ok(Admission::Known),
        std::cmp::Ordering::Greater => Ok(Admission::Record),
    }
}

/// An access that was not admitted.
#[derive(Debug)]
pub enum CheckError {
    /// The resource refuses this stamp.
    Refused(Refusal),
    /// The fence could not be checked: its record cannot be read or written. The access must not continue.
    Failed(Error),
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckError::Refused(refusal) => refusal.fmt(f),
            CheckError::Failed(error) => error.fmt(f),
        }
    }
}

impl StdError for CheckError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            CheckError::Refused(_) => None,
            CheckError::Failed(error) => error.source(),
        }
    }
}

impl From<Refusal> for CheckError {
    fn from(refusal: Refusal) -> CheckError {
        CheckError::Refused(refusal)
    }
}

impl From<Error> for CheckError {
    fn from(error: Error) -> CheckError {
        CheckError::Failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(domain: &str, token: i64) -> Stamp {
        Stamp::new(Domain::new(domain).expect("a domain"), Token::new(token).expect("a token"))
    }

    #[test]
    fn every_pair_of_tokens_is_judged_by_their_order() {
        let tokens = [1, 2, 1_795_168_537_675_201, (1 << 53) + 1, i64::MAX - 1, i64::MAX];
        for seen in tokens {
            for shown in tokens {
                let judged = check(Some(&stamp("redis:a", seen)), &stamp("redis:a", shown));
                match judged {
                    Ok(Admission::Known) => assert_eq!(shown, seen),
                    Ok(Admission::Record) => assert!(shown > seen),
                    Err(refusal) => {
                        assert!(shown < seen);
                        let text = refusal.to_string();
                        assert!(
                            text.contains(&shown.to_string()) && text.contains(&seen.to_string()),
                            "{text}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn another_domain_is_refused_whatever_the_number_and_both_are_named() {
        for shown in [1, 7, 9] {
            let refusal = check(Some(&stamp("etcd:1", 7)), &stamp("redis:a", shown)).expect_err("refused");
            assert_eq!(refusal.reason(), Reason::OtherDomain);
            let text = refusal.to_string();
            assert!(["etcd:1", "redis:a", "tenure fence reset"].iter().all(|t| text.contains(t)), "{text}");
        }
    }

    #[test]
    fn the_first_access_is_registered() {
        assert_eq!(check(None, &stamp("redis:a", 1)), Ok(Admission::Record));
    }
}
