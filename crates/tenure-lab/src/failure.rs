//! Why a run of the lab ended early: one sentence that says what happened, one that says what to do, and the exit
//! status that goes with it.

use std::error::Error as StdError;
use std::fmt;
use std::process::ExitCode;

use tenure::ErrorKind;

/// Wrong usage.
const USAGE: u8 = 64;
/// The store cannot be reached.
const UNREACHABLE: u8 = 69;
/// Something on this machine is in the way.
const SOFTWARE: u8 = 70;
/// Denied by the store.
const DENIED: u8 = 77;
/// Bad URL, or a store that cannot promise what is needed.
const CONFIG: u8 = 78;

/// A run that ended early.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    what: String,
    advice: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of most functions of the lab.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    fn new(code: u8, what: impl Into<String>, advice: impl Into<String>) -> Failure {
        Failure { code, what: what.into(), advice: advice.into(), source: None }
    }

    /// The user asked for something that makes no sense.
    pub(crate) fn usage(what: impl Into<String>, advice: impl Into<String>) -> Failure {
        Failure::new(USAGE, what, advice)
    }

    /// The store is not one for this.
    pub(crate) fn config(what: impl Into<String>, advice: impl Into<String>) -> Failure {
        Failure::new(CONFIG, what, advice)
    }

    /// The run itself went wrong: a worker died, a file could not be written.
    pub(crate) fn run(what: impl Into<String>, advice: impl Into<String>) -> Failure {
        Failure::new(SOFTWARE, what, advice)
    }

    /// The same, with what caused it.
    pub(crate) fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Failure {
        self.source = Some(source.into());
        self
    }

    /// The exit status.
    pub(crate) fn exit(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    /// What to print: with the cause if `verbose`.
    pub(crate) fn text(&self, verbose: u8) -> String {
        let mut out = format!("tenure: {} {}", sentence(&self.what, false), sentence(&self.advice, true));
        let mut cause = self.source.as_deref().map(|s| s as &(dyn StdError + 'static));
        while let (true, Some(error)) = (verbose > 0, cause) {
            out += &format!("\n  because: {error}");
            cause = error.source();
        }
        out
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.advice)?;
        match &self.source {
            Some(source) => write!(f, " (because: {source})"),
            None => Ok(()),
        }
    }
}

impl From<tenure::Error> for Failure {
    fn from(error: tenure::Error) -> Failure {
        let code = match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Uncertain => UNREACHABLE,
            ErrorKind::Denied => DENIED,
            ErrorKind::Config | ErrorKind::Unsupported => CONFIG,
            _ => SOFTWARE,
        };
        Failure::new(code, error.what(), error.advice()).because(error)
    }
}

/// Turns an input or output error of the run itself into a [`Failure`] that says what was being done.
pub(crate) trait Doing<T> {
    /// `what` was being done.
    fn doing(self, what: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|e| {
            let e = e.into();
            Failure::run(format!("could not {}: {e}", what()), "see the cause, then try again").because(e)
        })
    }
}

/// A sentence with its full stop, and a capital where it begins a line of thought: how the command reports a failure.
#[must_use]
pub fn sentence(text: &str, capital: bool) -> String {
    let text = text.trim();
    let mut chars = text.chars();
    // Only plain lower-case words are raised: a quoted or technical beginning stays as it is.
    let plain = text
        .split(' ')
        .next()
        .is_some_and(|word| word.trim_end_matches([',', ';']).chars().all(|c| c.is_ascii_alphabetic()));
    let mut out = match chars.next() {
        Some(first) if capital && plain => first.to_uppercase().chain(chars).collect(),
        _ => text.to_owned(),
    };
    if !out.ends_with(['.', '?', '!', ':']) {
        out.push('.');
    }
    out
}
