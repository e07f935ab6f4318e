//! How many passed, failed and were skipped.

use std::fmt;
use std::ops::AddAssign;

/// The counts of one or several suites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// The counts in the closing line of one test binary, if `line` is one.
    pub(crate) fn of_line(line: &str) -> Option<Counts> {
        let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut counts = Counts::default();
        for part in numbers.split("; ") {
            let Some((number, word)) = part.split_once(' ') else { continue };
            let field = match word.trim_end() {
                "passed" => &mut counts.passed,
                "failed" => &mut counts.failed,
                "ignored" => &mut counts.skipped,
                _ => continue,
            };
            *field = number.parse().ok()?;
        }
        Some(counts)
    }

    /// The name of the test of libtest that is ignored, says `line`, for want of something on this machine. libtest counts
    /// it as passed. `tenure-servers` prints the line, perhaps several times.
    pub(crate) fn ignored_at_run_time(line: &str) -> Option<&str> {
        // A run on one thread has begun the line of that test.
        let said = line.rsplit_once(" ... ").map_or(line, |(_, rest)| rest);
        Some(said.strip_prefix("ignored at run time: ")?.split_once(": ")?.0)
    }

    /// Counts so many tests as skipped that were counted as passed.
    pub(crate) fn skip(&mut self, tests: usize) {
        let tests = self.passed.min(tests as u64);
        self.passed -= tests;
        self.skipped += tests;
    }

    /// Whether anything was judged at all.
    pub(crate) fn is_empty(self) -> bool {
        self == Counts::default()
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Counts) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped += more.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read_and_added() {
        let lines = [
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s",
            "test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        ];
        let mut sum = Counts::default();
        for line in lines {
            sum += Counts::of_line(line).expect("a closing line");
        }
        assert_eq!(sum.to_string(), "12 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn what_is_ignored_at_run_time_is_skipped() {
        let line = "ignored at run time: a::b: no pid namespace can be had here";
        assert_eq!(Counts::ignored_at_run_time(line), Some("a::b"));
        assert_eq!(Counts::ignored_at_run_time(&format!("test c ... {line}")), Some("a::b"));
        assert_eq!(Counts::ignored_at_run_time("test a::b ... ignored, no reason"), None);
        let mut counts = Counts { passed: 3, ..Counts::default() };
        counts.skip(2);
        assert_eq!(counts.to_string(), "1 passed, 0 failed, 2 skipped");
    }

    #[test]
    fn other_lines_are_not() {
        for line in
            ["", "running 5 tests", "test a ... ok", "  test result: ok. 1 passed", "test result: x passed"]
        {
            assert_eq!(Counts::of_line(line), None, "{line}");
        }
    }
}
