//! A command line of flags, valued options and words.

use crate::Stop;

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Args {
    flags: Vec<String>,
    values: Vec<(String, String)>,
    /// What is neither a flag nor an option.
    pub(crate) words: Vec<String>,
}

impl Args {
    /// Parses `args`, which may hold the given flags and valued options (`--name VALUE` or `--name=VALUE`).
    pub(crate) fn parse(args: &[String], flags: &[&str], options: &[&str]) -> Result<Args, Stop> {
        let mut out = Args::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let (name, inline) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            if options.contains(&name) {
                let Some(value) = inline.or_else(|| rest.next().cloned()) else {
                    return Err(Stop::Usage(format!("{name} needs a value")));
                };
                out.values.push((name.to_owned(), value));
            } else if flags.contains(&arg.as_str()) {
                out.flags.push(arg.clone());
            } else if arg.starts_with('-') {
                return Err(Stop::Usage(format!("unknown argument {arg:?}")));
            } else {
                out.words.push(arg.clone());
            }
        }
        Ok(out)
    }

    /// Refuses words, for chores that take none.
    pub(crate) fn no_words(self) -> Result<Args, Stop> {
        match self.words.first() {
            Some(word) => Err(Stop::Usage(format!("unknown argument {word:?}"))),
            None => Ok(self),
        }
    }

    /// Whether the flag was given.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }

    /// All values of an option, in order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Args, Stop> {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        Args::parse(&args, &["--quiet"], &["--only"])
    }

    #[test]
    fn flags_options_and_words() {
        let Ok(args) = parse(&["--only", "a", "w", "--quiet", "--only=b"]) else { panic!("refused") };
        assert!(args.has("--quiet"));
        assert_eq!(args.all("--only").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(args.words, ["w"]);
        assert!(args.no_words().is_err());
    }

    #[test]
    fn unknown_and_incomplete_are_refused() {
        for bad in [&["--unknown", "a"][..], &["--only"], &["--quiet=yes"], &["-x"]] {
            assert!(matches!(parse(bad), Err(Stop::Usage(_))), "{bad:?}");
        }
    }
}
