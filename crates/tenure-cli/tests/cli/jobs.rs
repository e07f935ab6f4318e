//! `tenure once` and `tenure elect`.

use std::fs;

use rustix::process::Signal;

use crate::support::{Place, json_of, kill, text, until};

#[test]
fn a_slot_is_run_once() {
    let place = Place::new();
    let script = "echo $TENURE_SLOT $TENURE_LOCK >> ran";
    let once = |slot: &str| place.output(&["once", "job", "--slot", slot, "--", "sh", "-c", script]);
    assert!(once("a").status.success());
    let again = once("a");
    assert_eq!((again.status.code(), text(&again.stdout)), (Some(0), String::new()));
    let said = text(&again.stderr);
    assert!(said.contains("slot a was run before") && said.contains("done in"), "{said}");
    assert!(once("b").status.success());
    assert_eq!(fs::read_to_string(place.file("ran")).unwrap(), "a job/@a\nb job/@b\n");
    // By the clock: the whole of this test lies in one slot, or two.
    for _ in 0..4 {
        let args = ["once", "clock", "--every", "365d", "--at", "3h", "--", "sh", "-c", "echo >> clock"];
        assert_eq!(place.code(&args), Some(0));
    }
    assert!(fs::read_to_string(place.file("clock")).unwrap().len() <= 2);
    let quiet = place.output(&["once", "-q", "job", "--slot", "a", "--", "true"]);
    assert_eq!((quiet.status.code(), text(&quiet.stderr)), (Some(0), String::new()));
    // Only the run that held the slot writes the status file.
    for slot in ["c", "a"] {
        place.code(&["once", "--status-file", "status", "job", "--slot", slot, "--", "true"]);
        let status = json_of(&place.file("status"));
        assert_eq!(
            (&status["outcome"], &status["slot"], &status["exit"]),
            (&"ran".into(), &"c".into(), &0.into())
        );
    }
}

#[test]
fn a_failure_counts_as_done_unless_it_is_to_be_retried() {
    let place = Place::new();
    let fails = ["sh", "-c", "echo >> ran; exit 3"];
    let once = |more: &[&str]| place.code(&[&["once", "job"], more, &["--"], &fails].concat());
    assert_eq!(once(&["--slot", "a"]), Some(3));
    assert_eq!(once(&["--slot", "a"]), Some(0));
    assert_eq!(once(&["--slot", "b", "--retry-errors"]), Some(3));
    assert_eq!(once(&["--slot", "b", "--retry-errors"]), Some(3));
    assert_eq!(fs::read_to_string(place.file("ran")).unwrap().len(), 3);
    // Not at once, where the job has a least time.
    assert_eq!(once(&["--slot", "c", "--retry-errors", "--at-least", "1h"]), Some(3));
    assert_eq!(once(&["--slot", "c", "--retry-errors", "--at-least", "1h"]), Some(75));
    // A command that is not there was not run.
    assert_eq!(place.code(&["once", "job", "--slot", "d", "--", "/nowhere/at/all"]), Some(127));
    assert_eq!(once(&["--slot", "d"]), Some(3));
}

#[test]
fn a_run_that_died_is_run_again_or_never() {
    let place = Place::new();
    for (more, again) in [(&[][..], 5), (&["--never-again"][..], 0)] {
        let slot = if more.is_empty() { "a" } else { "b" };
        let args = [&["once", "job", "--slot", slot], more, &["--", "sleep", "1000"]].concat();
        let mut child = place.tenure(&args).spawn().unwrap();
        place.until_held(&format!("job/@{slot}"));
        let second = [&["once", "job", "--slot", slot], more, &["--", "sh", "-c", "exit 5"]].concat();
        assert_eq!(place.code(&second), Some(75), "it runs just now");
        kill(i32::try_from(child.id()).unwrap(), Signal::KILL);
        child.wait().unwrap();
        until("the slot is free", || {
            let held = &place.json(&["show", &format!("job/@{slot}")])[0]["holders"];
            held.as_array()?.is_empty().then_some(())
        });
        let output = place.output(&second);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(again), "{more:?}: {said}");
        assert_eq!(said.contains("was begun") && said.contains("not finished"), again == 0, "{said}");
    }
}

#[test]
fn one_that_waits_takes_over() {
    let place = Place::new();
    let first = place.tenure(&["once", "job", "--slot", "a", "--", "sleep", "1000"]).spawn();
    let mut first = first.unwrap();
    place.until_held("job/@a");
    let args = ["once", "job", "--slot", "a", "--wait", "1h", "--", "sh", "-c", "exit 6"];
    let mut second = place.tenure(&args).spawn().unwrap();
    place.until_waiting("job/@a", 1);
    kill(i32::try_from(first.id()).unwrap(), Signal::KILL);
    first.wait().unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(6));
}

#[test]
fn show_lists_the_last_runs() {
    let place = Place::new();
    place.code(&["once", "job", "--slot", "a", "--", "true"]);
    place.code(&["once", "job", "--slot", "b", "--", "false"]);
    let shown = place.json(&["show", "job"]).remove(0);
    let runs = shown["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2, "{shown}");
    assert_eq!((&runs[0]["slot"], &runs[0]["result"]), (&"a".into(), &"done".into()));
    assert_eq!((&runs[1]["slot"], &runs[1]["result"]), (&"b".into(), &"failed".into()));
    assert_eq!(runs[1]["error"], "exit 1");
    assert!(runs[1]["took_ms"].is_u64() && runs[1]["began"].is_string() && runs[1]["token"].is_i64());
    assert_eq!(runs[0]["program"], "true");
    let said = text(&place.output(&["show", "job"]).stdout);
    assert!(said.starts_with("free\n") && said.contains("failed") && said.contains("exit 1"), "{said}");
    // A lock that is no job has none.
    assert_eq!(place.json(&["show", "other"])[0].get("runs"), None);
}

#[test]
fn the_leader_leads_alone_and_is_stopped() {
    let place = Place::new();
    let mut first =
        place.tenure(&["elect", "boss", "--value", "10.0.0.5:80", "--", "sleep", "1000"]).spawn().unwrap();
    let line = place.until_held("boss");
    assert_eq!(line["holders"][0]["reason"], "10.0.0.5:80");
    assert_eq!(place.code(&["elect", "-n", "boss", "--", "true"]), Some(75));
    let mut second = place.tenure(&["elect", "boss", "--", "sh", "-c", "exit 4"]).spawn().unwrap();
    place.until_waiting("boss", 1);
    assert_eq!(place.code(&["break", "--yes", "boss"]), Some(0));
    assert_eq!(first.wait().unwrap().code(), Some(80));
    assert_eq!(second.wait().unwrap().code(), Some(4));
}

#[test]
fn what_cannot_be_is_64() {
    let place = Place::new();
    let long = "l".repeat(101);
    let value = "v".repeat(257);
    let cases: &[&[&str]] = &[
        &["once", "job"],
        &["once", "job", "--slot", "a", "--every", "1d"],
        &["once", "job", "--slot", ""],
        &["once", "job", "--slot", "a/b"],
        &["once", "job", "--slot", &long],
        &["once", "job", "--every", "0s"],
        &["once", "job", "--every", "500ms"],
        &["once", "job", "--every", "1d", "--at", "1d"],
        &["once", "job", "--every", "367d"],
        &["once", "job", "--every", "1"],
        &["once", "job", "--at", "1h", "--slot", "a"],
        &["once", "job", "--slot", "a", "--at-least", "401d"],
        &["once", "job", "--slot", "a", "--never-again", "--retry-errors"],
        &["once", "job", "--slot", "a", "--json"],
        &["once", "job", "other", "--slot", "a"],
        &["once", "a//b", "--slot", "a"],
        &["elect", "boss", "other"],
        &["elect", "boss", "--value", &value],
        &["elect", "boss", "--json"],
    ];
    for args in cases {
        let output = place.output(&[*args, &["--", "true"]].concat());
        assert_eq!(output.status.code(), Some(64), "{args:?}: {}", text(&output.stderr));
    }
}
