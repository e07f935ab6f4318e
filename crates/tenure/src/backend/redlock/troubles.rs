//! Why servers did not vote, and what that means to the caller.

use super::format::{vote, yes};
use super::store::{Redlock, Said};
use crate::backend::net::Why;
use crate::core::moment::Moment;
use crate::core::quorum::{Quorum, Vote};
use crate::error::{Error, ErrorKind};

/// A server that does not vote, and why.
pub(super) type Away = (String, Why);

/// The error if fewer servers vote than are needed.
pub(super) fn too_few(quorum: Quorum, here: usize, away: &[Away]) -> Error {
    // What somebody must mend comes first.
    let mended = away.iter().find(|(_, why)| !why.kind.may_pass());
    let (all, needed) = (quorum.servers(), quorum.needed());
    let head = format!("{here} of {all} servers vote, and {needed} are needed");
    match mended.or(away.first()) {
        Some((server, why)) => {
            let kind = if why.kind == ErrorKind::Uncertain { ErrorKind::Unavailable } else { why.kind };
            let why = Why::new(kind, format!("{head}; {server}: {}", why.what), why.advice);
            // Whoever lost an answer, or could not send, may have better luck at once.
            let answered = away.iter().all(|(_, why)| !why.unsent && why.kind != ErrorKind::Uncertain);
            Why { answered, ..why }.error()
        }
        None => Error::unavailable(head, "check that the servers run and can be reached"),
    }
}

/// What went wrong with a question to all servers.
#[derive(Default)]
pub(super) struct Troubles {
    away: Vec<Away>,
    refused: Option<Error>,
    refusals: usize,
    /// A server knows that the claim is gone; why, if it was evicted.
    pub(super) gone: Option<Option<String>>,
    /// A server has given the vote that is asked for to a third claim.
    pub(super) taken: bool,
}

impl Troubles {
    /// How many servers did not vote.
    pub(super) fn count(&self) -> usize {
        self.away.len() + self.refusals
    }

    /// A server that is not asked.
    pub(super) fn away(&mut self, store: &Redlock, server: usize, now: Moment) {
        self.away.push(store.silent(server, now));
    }

    /// A server's vote.
    pub(super) fn vote(&mut self, store: &Redlock, server: usize, said: Said) -> Vote {
        let words = match said {
            Ok(words) => words,
            Err(why) => return self.failed(store, server, why).map_or(Vote::Abstained, |never| never),
        };
        if self.is_gone(&words) {
            return Vote::Abstained;
        }
        vote(&words).unwrap_or_else(|error| {
            self.refuse(error);
            Vote::Abstained
        })
    }

    /// A server's yes or no.
    pub(super) fn yes(&mut self, store: &Redlock, server: usize, said: Said) -> Option<bool> {
        let words = match said {
            Ok(words) => words,
            Err(why) => return self.failed(store, server, why),
        };
        if words.get(1).is_some_and(|letter| letter == "O") {
            self.taken = true;
            return Some(false);
        }
        if self.is_gone(&words) {
            return Some(false);
        }
        yes(&words).map_err(|error| self.refuse(error)).ok()
    }

    /// Why there was no decision, of so many servers that answered.
    pub(super) fn error(self, store: &Redlock, here: usize) -> Error {
        if let Some(error) = self.refused {
            return error;
        }
        if here < store.quorum.needed() {
            return too_few(store.quorum, here, &self.away);
        }
        let all = store.quorum.servers();
        Error::uncertain(
            format!("{here} of {all} servers answered, and the others decide"),
            "ask again: servers that are back decide, and a lease that ends does",
        )
    }

    fn failed<T>(&mut self, store: &Redlock, server: usize, why: Why) -> Option<T> {
        self.away.push((store.shown(server), why));
        None
    }

    fn refuse(&mut self, error: Error) {
        self.refusals += 1;
        self.refused = Some(error);
    }

    fn is_gone(&mut self, words: &[String]) -> bool {
        let why = match words.get(1).map(String::as_str) {
            Some("G") => None,
            Some("E") => words.get(3).cloned(),
            _ => return false,
        };
        if self.gone.as_ref().is_none_or(Option::is_none) {
            self.gone = Some(why);
        }
        true
    }
}
