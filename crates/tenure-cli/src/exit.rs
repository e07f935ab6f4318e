//! Exit codes, and the one form in which the command reports that something failed.

use std::error::Error as StdError;
use std::fmt::Write as _;

use tenure::ErrorKind;
use tenure_lab::cli::sentence;

/// Wrong usage, bad name, bad duration.
pub(crate) const USAGE: u8 = 64;
/// The store cannot be reached.
pub(crate) const UNAVAILABLE: u8 = 69;
/// Not acquired in time.
pub(crate) const BUSY: u8 = 75;
/// Denied by the store.
pub(crate) const DENIED: u8 = 77;
/// Bad URL or configuration, or the backend cannot promise what was asked.
pub(crate) const CONFIG: u8 = 78;
/// The lock was lost while the command ran.
pub(crate) const LOST: u8 = 80;
/// A fence refuses the token.
pub(crate) const REFUSED: u8 = 81;
/// The command exists and cannot be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command does not exist.
pub(crate) const NOT_FOUND: u8 = 127;

/// Why the command gives up: an exit code, what happened, what to do about it, and the sources for `-v`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// What happened; empty for a failure that needs no words.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) advice: String,
    /// What caused it, outermost first.
    pub(crate) causes: Vec<String>,
}

impl Failure {
    /// A failure without a source.
    pub(crate) fn new(code: u8, what: impl Into<String>, advice: impl Into<String>) -> Failure {
        Failure { code, what: what.into(), advice: advice.into(), causes: Vec::new() }
    }

    /// Wrong usage.
    pub(crate) fn usage(what: impl Into<String>, advice: impl Into<String>) -> Failure {
        Failure::new(USAGE, what, advice)
    }

    /// An exit code that says all there is to say.
    pub(crate) fn silent(code: u8) -> Failure {
        Failure::new(code, "", "")
    }

    /// The same failure, with what caused it.
    pub(crate) fn because(mut self, source: &dyn StdError) -> Failure {
        let mut next = Some(source);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// An error of the library. `config` is the code for [`ErrorKind::Config`]: what was wrong, a URL or a name, only
    /// the caller knows.
    pub(crate) fn from_library(error: &tenure::Error, config: u8) -> Failure {
        let code = match error.kind() {
            ErrorKind::Config => config,
            ErrorKind::Denied => DENIED,
            ErrorKind::Unavailable | ErrorKind::Uncertain => UNAVAILABLE,
            ErrorKind::Lost => LOST,
            // Corrupt data or another format version: trying again cannot help, somebody has to look.
            _ => CONFIG,
        };
        let what = match error.key() {
            Some(key) => format!("lock {key}: {}", error.what()),
            None => error.what().to_owned(),
        };
        let failure = Failure::new(code, what, error.advice());
        match error.source() {
            Some(source) => failure.because(source),
            None => failure,
        }
    }

    /// The text for stderr, with its line ends; empty where there is nothing to say.
    pub(crate) fn text(&self, verbose: bool) -> String {
        let mut out = String::new();
        if self.what.is_empty() {
            return out;
        }
        let _ = write!(out, "tenure: {}", sentence(&self.what, false));
        if !self.advice.is_empty() {
            let _ = write!(out, " {}", sentence(&self.advice, true));
        }
        out.push('\n');
        for cause in self.causes.iter().filter(|_| verbose) {
            let _ = writeln!(out, "  because: {cause}");
        }
        crate::text::escape_lines(&out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sentences_and_the_source_only_when_asked() {
        let source = std::io::Error::other("disk on fire");
        let failure = Failure::new(CONFIG, "no such store", "name another one").because(&source);
        assert_eq!(failure.text(false), "tenure: no such store. Name another one.\n");
        assert_eq!(failure.text(true), "tenure: no such store. Name another one.\n  because: disk on fire\n");
        assert_eq!(Failure::silent(BUSY).text(true), "");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let failure = Failure::usage("the name \x1b[2J is bad", "");
        assert_eq!(failure.text(false), "tenure: the name \\u{1b}[2J is bad.\n");
    }

    #[test]
    fn every_kind_has_its_code() {
        use tenure::Error;
        let cases = [
            (Error::config("", ""), USAGE),
            (Error::denied("", ""), DENIED),
            (Error::unsupported("", ""), CONFIG),
            (Error::unavailable("", ""), UNAVAILABLE),
            (Error::uncertain("", ""), UNAVAILABLE),
            (Error::protocol("", ""), CONFIG),
        ];
        for (error, code) in cases {
            assert_eq!(Failure::from_library(&error, USAGE).code, code, "{error:?}");
        }
        assert_eq!(Failure::from_library(&Error::config("", ""), CONFIG).code, CONFIG);
    }
}
