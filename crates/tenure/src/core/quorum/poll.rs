//! A question that each server answers with yes or no.

use super::Quorum;

/// What the answers amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tally {
    /// A quorum said yes.
    Decided,
    /// The answers that are missing decide. Once nobody waits for them any more, the outcome is uncertain.
    Open,
    /// So many said no that there can be no quorum.
    Failed,
}

/// Who has said what.
///
/// - `EXTEND`: decided, the claim holds for another lease, counted from before the first request. Failed, it is lost.
/// - `RELEASE`: yes means that the vote was deleted. Decided, the claim held until now. Failed, it did not. If the request
///   is sent to a server again, a no proves nothing, because the first one may have deleted the vote: do not count it.
/// - `TRANSFER` and eviction: decided, it took effect. If it stays open, the claim is released on all servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Poll {
    quorum: Quorum,
    answers: Vec<Option<bool>>,
}

impl Poll {
    /// A poll that nobody has answered.
    #[must_use]
    pub fn new(quorum: Quorum) -> Poll {
        Poll { quorum, answers: vec![None; quorum.servers()] }
    }

    /// A server's answer. A yes stays a yes. A server that does not vote has no answer.
    pub fn hear(&mut self, server: usize, yes: bool) {
        if let Some(slot) = self.answers.get_mut(server) {
            *slot = Some(yes || *slot == Some(true));
        }
    }

    /// A server's answer so far.
    #[must_use]
    pub fn answer(&self, server: usize) -> Option<bool> {
        self.answers.get(server).copied().flatten()
    }

    /// What the answers amount to.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let said = |what: bool| self.answers.iter().filter(|answer| **answer == Some(what)).count();
        if said(true) >= self.quorum.needed() {
            Tally::Decided
        } else if self.quorum.servers() - said(false) < self.quorum.needed() {
            Tally::Failed
        } else {
            Tally::Open
        }
    }
}
