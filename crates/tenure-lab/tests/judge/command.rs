//! `tenure lab check` on stored histories. Scripts rely on its exit status.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tenure_lab::cli::{Globals, LabArgs, run_lab};
use tenure_lab::history::{Floors, History, Writer};

use crate::script::history;

/// The exit status of `tenure lab check` on this history.
pub(crate) fn judged(history: &History) -> ExitCode {
    let dir = tempfile::tempdir().expect("a directory");
    stored(history, dir.path());
    check(&[dir.path().to_str().expect("text")])
}

const HELD: &str = "1 1 a acquire invoke\n10 1 a acquire ok token=3 deadline=900\n15 1 a release invoke\n16 1 a release ok\n";
const BROKEN: &str = "20 2 b acquire invoke\n30 2 b acquire ok token=4 deadline=900\n20 3 c acquire invoke\n40 3 c acquire ok token=5 deadline=900\n";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    lab: LabArgs,
}

fn stored(history: &History, dir: &Path) {
    let writer = Writer::whole(&dir.join("history.jsonl"), &history.header).expect("a file");
    for event in &history.events {
        writer.put(event).expect("written");
    }
}

fn check(args: &[&str]) -> ExitCode {
    let globals =
        Globals { url: "host:".into(), namespace: "test".into(), json: false, quiet: true, verbose: 0 };
    let cli = Cli::try_parse_from(["lab", "check"].iter().chain(args)).expect("good arguments");
    run_lab(cli.lab, &globals)
}

#[test]
fn the_exit_status_tells_broken_missed_and_unreadable() {
    let mut missed = history(HELD);
    missed.header.floors = Some(Floors { acquisitions: 2, windows: 0 });
    // That a whole history is accepted is shown where it is forged.
    for (history, expected) in [(history(HELD), 2), (history(&format!("{HELD}{BROKEN}")), 1), (missed, 2)] {
        let dir = tempfile::tempdir().expect("a directory");
        stored(&history, dir.path());
        let place = dir.path().to_str().expect("text");
        assert_eq!(check(&[place]), ExitCode::from(expected), "{history:?}");
        // The path of the file works as well.
        assert_eq!(check(&[&format!("{place}/history.jsonl")]), ExitCode::from(expected));
    }
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(check(&[dir.path().to_str().expect("text")]), ExitCode::from(64), "no history");
}

#[test]
fn the_report_is_one_page_that_needs_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = format!(
        "{HELD}{BROKEN}12 0 - fault begin fault=pause target=server breaks=[]\n14 0 - fault end fault=pause\n{}",
        "50 4 d acquire invoke lock=<b>&\n51 4 d acquire ok lock=<b>& token=9 deadline=60\n"
    );
    stored(&history(&script), dir.path());
    let page = dir.path().join("report.html");
    let place = dir.path().to_str().expect("text");
    assert_eq!(check(&[place, "--report", page.to_str().expect("text")]), ExitCode::from(1));
    let page = std::fs::read_to_string(page).expect("the page");
    for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "<script"] {
        assert!(!page.contains(outside), "{outside} in the page");
    }
    assert!(!page.contains("<b>") && page.contains("&lt;b&gt;&amp;"), "names are text");
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    for part in [
        "Rule by rule",
        "S1 exclusion of belief was broken",
        "Holders, close up",
        "Waiting for a lock",
        "prefers-color-scheme: dark",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
}

#[test]
fn a_long_history_makes_no_long_page() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut script = String::new();
    for n in 0u64..20_000 {
        let (t, letter) = (n * 100, format!("{n:05}"));
        script +=
            &format!("{t} 1 {letter} acquire invoke\n{} 1 {letter} acquire ok deadline={}\n", t + 10, t + 90);
    }
    stored(&history(&script), dir.path());
    let page = dir.path().join("report.html");
    let place = dir.path().to_str().expect("text");
    // No accesses, no releases: not everything can be judged.
    assert_eq!(check(&[place, "--report", page.to_str().expect("text")]), ExitCode::from(2));
    let long = std::fs::metadata(page).expect("the page").len();
    assert!(long < 400_000, "{long} bytes");
}
