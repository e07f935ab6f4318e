//! Why a request over the network has no answer, and what that means to the caller.

use std::sync::Arc;

use crate::error::{Error, ErrorKind};

/// What to do when a server cannot be reached.
pub(crate) const REACH: &str = "check that the server runs and can be reached";

/// Why a request has no answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The request never left this process.
    Unsent(Arc<str>),
    /// The request may have left, and nothing is known of its effect.
    Lost(Arc<str>),
    /// The server sent something that is not an answer.
    Garbage(Arc<str>),
    /// The server refused the batch that the request was part of. It may accept the request alone.
    Batch(Arc<str>),
}

impl Fault {
    /// The same fault for a request that never left.
    pub fn unsent(&self) -> Fault {
        Fault::Unsent(self.text().clone())
    }

    /// What happened.
    pub fn text(&self) -> &Arc<str> {
        let (Fault::Unsent(text) | Fault::Lost(text) | Fault::Garbage(text) | Fault::Batch(text)) = self;
        text
    }
}

/// An error that can be told more than once, with what a backend needs to decide on a retry.
#[derive(Clone, Debug)]
pub struct Why {
    /// What a caller can do about it.
    pub kind: ErrorKind,
    /// What happened.
    pub what: String,
    /// What to do.
    pub advice: &'static str,
    /// The server answered it.
    pub answered: bool,
    /// The request never left this process.
    pub unsent: bool,
    /// The server has forgotten what it was prepared with (a script, a statement): nothing ran.
    pub unprepared: bool,
}

impl Why {
    /// An error that the server did not answer.
    pub fn new(kind: ErrorKind, what: impl Into<String>, advice: &'static str) -> Why {
        Why { kind, what: what.into(), advice, answered: false, unsent: false, unprepared: false }
    }

    /// The request never left this process.
    pub fn unsent(text: &str) -> Why {
        let what = format!("the request was not sent: {text}");
        Why { unsent: true, ..Why::new(ErrorKind::Unavailable, what, REACH) }
    }

    /// The request may have left, and its answer will not come.
    pub fn lost(text: &str) -> Why {
        Why::new(ErrorKind::Uncertain, format!("the answer was lost: {text}"), REACH)
    }

    /// The error for the caller.
    pub fn error(&self) -> Error {
        let (what, advice) = (self.what.clone(), self.advice);
        let error = match self.kind {
            ErrorKind::Config => Error::config(what, advice),
            ErrorKind::Denied => Error::denied(what, advice),
            ErrorKind::Unsupported => Error::unsupported(what, advice),
            ErrorKind::Unavailable => Error::unavailable(what, advice),
            ErrorKind::Uncertain => Error::uncertain(what, advice),
            _ => Error::protocol(what, advice),
        };
        match (self.answered, self.unsent) {
            (true, _) => error.answered(),
            (_, true) => error.unsent(),
            _ => error,
        }
    }
}
