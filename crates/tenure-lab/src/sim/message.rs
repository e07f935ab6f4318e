//! What clients and servers say to each other.

use std::fmt;
use std::time::Duration;

use tenure::backend::{Answer, Claim, ClaimId, Leave, Released};
use tenure::core::cas::{Object, Outcome, Version};
use tenure::core::line::Now;
use tenure::core::moment::Moment;
use tenure::core::quorum::Vote;
use tenure::{Key, Result, Token};

/// What is asked: the verbs of the contract, and what drivers make of them. A birth is on the server's clock, as the client
/// estimates it.
#[derive(Clone, Debug)]
pub(super) enum Verb {
    Attempt(Claim, u64),
    Renew(Vec<Claim>),
    Release(Claim, Leave, u64),
    Transfer(Box<Claim>, Claim, u64),
    Evict(Key, Option<Token>),
    /// One object is read, or written.
    Read(Key),
    Write(Box<Write>),
    /// Something is asked in a session.
    Session(Box<Asked>),
    /// Something is asked about a connection.
    Hello(Hello),
    /// One of several servers is asked about its vote.
    Vote(Box<Question>),
}

impl Verb {
    /// The verb of the contract that it is part of.
    pub(super) fn call(&self) -> &Verb {
        match self {
            Verb::Write(write) => &write.call,
            Verb::Vote(asked) => &asked.call,
            whole => whole,
        }
    }
}

/// A request on its way.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) machine: usize,
    /// Which server it is for.
    pub(super) server: usize,
    /// Over which connection, if that is one of several.
    pub(super) connection: Option<u64>,
    pub(super) verb: Verb,
    /// When it left, on the client's clock.
    pub(super) sent: Moment,
    /// The same in true time.
    pub(super) left: u64,
}

impl Request {
    /// As the server sees it at the true time `t`.
    pub(super) fn serving(&self, t: u64, now: Now, shown: u64) -> Serving {
        Serving { t, left: self.left, now: now.ns, shown, machine: self.machine }
    }
}

/// A request as it is served: the true time, that of its sending, the line's, what the server's clock shows, and whose it is.
#[derive(Clone, Copy)]
pub(super) struct Serving {
    pub(super) t: u64,
    pub(super) left: u64,
    pub(super) now: u64,
    pub(super) shown: u64,
    pub(super) machine: usize,
}

/// What the server says.
#[derive(Debug)]
pub(super) enum Said {
    Answer(Result<Answer>),
    Answers(Vec<Result<Answer>>),
    Released(Result<Released>),
    /// The object with its version, and for how long it has not changed, if the server tells that.
    Object(Option<(Version, Object)>, Option<Duration>),
    Outcome(Outcome),
    /// The server cannot, and did nothing.
    Refused,
    /// The session; that there is none (any more).
    Session(u64),
    NoSession,
    /// One server's vote; its answer to anything else about one.
    Vote(Vote),
    Yes(bool),
    /// Nothing: the connection is found broken.
    Nothing,
}

/// Changes every answer in what was said.
pub(super) fn each(said: &mut Said, mut change: impl FnMut(&mut Answer)) {
    match said {
        Said::Answer(Ok(answer)) => change(answer),
        Said::Answers(answers) => answers.iter_mut().flatten().for_each(change),
        _ => {}
    }
}

/// A request for people.
pub(super) fn shown(verb: &Verb) -> String {
    match verb {
        Verb::Attempt(claim, _) => format!("attempt {} {}", claim.key, claim.id.short()),
        Verb::Renew(claims) => {
            let ids: Vec<String> = claims.iter().map(|c| format!("{} {}", c.key, c.id.short())).collect();
            format!("renew {}", ids.join(", "))
        }
        Verb::Release(claim, leave, _) => format!("release {} {} {leave:?}", claim.key, claim.id.short()),
        Verb::Transfer(from, to, _) => {
            format!("transfer {} {} to {}", to.key, from.id.short(), to.id.short())
        }
        Verb::Evict(key, token) => format!("evict {key} {token:?}"),
        Verb::Session(asked) => format!("{} in {}: {}", asked.number, asked.session, asked.what),
        Verb::Hello(hello) => format!("{hello:?}"),
        Verb::Read(key) => format!("read {key}"),
        Verb::Write(write) => format!("write {} for: {}", write.key, shown(&write.call)),
        Verb::Vote(asked) => format!("{:?} {} {}", asked.what, asked.key, asked.claim.short()),
    }
}

/// What a client says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// It wants one.
    Dial,
    Greet,
    /// It wants this machine's pushes over this one; it wants them no more.
    Subscribe,
    Unsubscribe,
    Ping,
}

/// A write on the condition that the object still has a version, and the call that it is part of.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) key: Key,
    pub(super) expected: Option<Version>,
    pub(super) object: Object,
    pub(super) call: Verb,
}

/// What a client asks in a session: nothing of it overtakes, as on a connection.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) session: u64,
    /// Counts what the client sends: what was overtaken all the same is refused, like what comes of an old connection.
    pub(super) number: u64,
    pub(super) what: Ask,
}

#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// Opens a session, and ends the one before.
    Open,
    /// Answered by whoever the client is connected to.
    Ping,
    Stand(Box<Claim>),
    /// Where claims stand, as of now: proof that whoever answers is connected to the one that counts.
    Look(Vec<Claim>),
    Leave(Box<Claim>),
    Evict(Key, Option<Token>),
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ask::Open => f.write_str("open"),
            Ask::Ping => f.write_str("ping"),
            Ask::Stand(claim) => write!(f, "stand {} {}", claim.key, claim.id.short()),
            Ask::Look(claims) => {
                f.write_str("look at")?;
                claims.iter().try_for_each(|claim| write!(f, " {} {}", claim.key, claim.id.short()))
            }
            Ask::Leave(claim) => write!(f, "leave {} {}", claim.key, claim.id.short()),
            Ask::Evict(key, token) => write!(f, "evict {key} {token:?}"),
        }
    }
}

/// What one server is asked about a claim, and the call that it is part of.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) key: Key,
    pub(super) claim: ClaimId,
    pub(super) what: Matter,
    pub(super) call: Verb,
}

/// What it is about. Leases in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matter {
    Acquire {
        round: u64,
        ttl: u64,
        token: Token,
    },
    Promote {
        round: u64,
        token: Token,
    },
    Extend {
        token: Token,
        ttl: u64,
    },
    /// Of rounds up to this one.
    Release {
        round: u64,
    },
    Floor {
        token: Token,
    },
}
