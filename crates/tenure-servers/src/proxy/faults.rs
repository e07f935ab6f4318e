//! The faults of a network. Names mean the same wherever a test or the lab breaks a path: a lost request never arrives, a
//! lost answer belongs to a request that was applied, and nobody is told of either.

use std::time::Duration;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Requests.
    ToServer,
    /// Answers.
    ToClient,
}

impl Way {
    /// Both.
    pub const BOTH: [Way; 2] = [Way::ToServer, Way::ToClient];
}

/// What the path does until it is changed. The default: everything passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Connections are hit whose number has this remainder by 2; `None`: all.
    pub half: Option<usize>,
    /// What clients send vanishes. Connections that lost something are cut when the loss ends.
    pub lose_requests: bool,
    /// The same for answers.
    pub lose_answers: bool,
    /// Everything comes this much later.
    pub latency: Duration,
    /// Bytes go one at a time.
    pub bytewise: bool,
    /// Requests that mention this text take so long, and whatever is behind them on the connection waits.
    pub slow: Option<(String, Duration)>,
    /// New connections are closed at once.
    pub refuse: bool,
}

impl Conditions {
    /// Whether connection `number` is hit.
    pub(super) fn hit(&self, number: usize) -> bool {
        self.half.is_none_or(|half| number % 2 == half)
    }

    /// Whether connection `number` loses what goes this way.
    pub(super) fn loses(&self, number: usize, way: Way) -> bool {
        let lose = match way {
            Way::ToServer => self.lose_requests,
            Way::ToClient => self.lose_answers,
        };
        lose && self.hit(number)
    }
}

/// What happens once, at one byte.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection is cut.
    Cut,
    /// Nothing passes any more in this direction, and nobody is told.
    Lose,
    /// These bytes pass instead of what follows; then the connection is cut.
    Instead(Vec<u8>),
}

/// A fault, and where it happens.
#[derive(Clone, Debug)]
pub struct Plan {
    /// On which connection, counted from 0 as they are made.
    pub connection: usize,
    /// In which direction.
    pub way: Way,
    /// After how many bytes in that direction.
    pub after: u64,
    /// What happens.
    pub fault: Fault,
}
