//! `TENURE_HELD` is not a hold: it can outlive it, or come from somewhere else. The store decides.

use std::fs;
use std::process::Output;

use crate::support::{Place, TENURE, text};

/// A shell's words that keep the variables in a file.
const DUMP: &str = "printf '%s' \"$TENURE_HELD\" > held; printf '%s' \"$TENURE_HELD_AS\" > as";

/// `tenure` with the variables that were kept.
fn with_the_dump(place: &Place, args: &[&str]) -> Output {
    let variable = |name: &str| fs::read_to_string(place.file(name)).unwrap();
    let mut command = place.tenure(args);
    command.env("TENURE_HELD", variable("held")).env("TENURE_HELD_AS", variable("as")).output().unwrap()
}

fn code_with_the_dump(place: &Place, args: &[&str]) -> Option<i32> {
    let output = with_the_dump(place, args);
    eprintln!("{args:?}: {}", text(&output.stderr));
    output.status.code()
}

/// Every way to hold, with what takes it once more.
const WAYS: &[&[&str]] = &[
    &["run", "x"],
    &["run", "-x", "x"],
    &["run", "-s", "x"],
    &["run", "--permits", "1", "--of", "1", "x"],
    &["run", "y", "x"],
    &["elect", "x"],
    &["once", "--slot", "a", "--retry-errors", "x"],
];

#[test]
fn what_outlived_its_hold_proves_nothing() {
    for way in WAYS {
        let place = Place::new();
        let after = |more: &[&'static str], script: &str| -> Option<i32> {
            let run = [&way[..1], more, &way[1..]].concat();
            code_with_the_dump(&place, &[&run, &["--", "sh", "-c", script][..]].concat())
        };
        // A slot whose command fails can be run once more.
        let script = format!("{DUMP}; exit 3");
        assert_eq!(place.code(&[way, &["--", "sh", "-c", &script][..]].concat()), Some(3), "{way:?}");
        assert!(fs::read_to_string(place.file("held")).unwrap().contains('x'));
        // Free: it is taken. The second time by the rules of re-entry, which are for run alone.
        assert_eq!(after(&["-n"], "exit 4"), Some(4), "{way:?}");
        if way[0] != "run" {
            continue;
        }
        assert_eq!(after(&["-n", "--reentrant"], "exit 4"), Some(4), "{way:?}");
        // Held by another: nobody runs beside it.
        let other: &[&str] = if way.contains(&"-s") { &["-x", "x"] } else { &way[1..] };
        let _holder = place.run(&[other, &["--", "sleep", "1000"]].concat());
        place.until_held("x");
        for more in [&["-n"][..], &["-n", "--reentrant"]] {
            assert_eq!(after(more, "exit 4"), Some(75), "{way:?} {more:?}");
        }
    }
}

#[test]
fn a_shell_with_an_old_environment_can_acquire() {
    let place = Place::new();
    assert_eq!(place.code(&["run", "x", "--", "sh", "-c", DUMP]), Some(0));
    assert_eq!(code_with_the_dump(&place, &["acquire", "--ttl", "1m", "x"]), Some(0));
    assert_eq!(code_with_the_dump(&place, &["acquire", "-n", "x"]), Some(75));
}

/// Readers share one token, and permits have none: another holder must not stand for the one that is gone.
#[test]
fn what_others_hold_is_not_what_was_handed_down() {
    for way in [&["-s", "x"][..], &["--permits", "1", "--of", "2", "x"]] {
        let place = Place::new();
        let _other = place.run(&[way, &["--", "sleep", "1000"]].concat());
        place.until_held("x");
        assert_eq!(place.code(&[&["run"], way, &["--", "sh", "-c", DUMP]].concat()), Some(0));
        let count = format!("{TENURE} show --json x > seen");
        let run = [&["run", "--reentrant"], way, &["--", "sh", "-c", &count]].concat();
        assert_eq!(code_with_the_dump(&place, &run), Some(0), "{way:?}");
        let seen = crate::support::json_of(&place.file("seen"));
        assert_eq!(seen["holders"].as_array().unwrap().len(), 2, "it has a hold of its own: {seen}");
    }
}

/// The hold goes on, but ends without a word to whoever is not below its guardian.
#[test]
fn a_hold_of_no_parent_is_not_entered() {
    let place = Place::new();
    let script = format!("{DUMP}; echo > began; sleep 1000; echo");
    let _holder = place.run(&["x", "--", "sh", "-c", &script]);
    place.line_of("began");
    place.until_held("x");
    let output = with_the_dump(&place, &["run", "--reentrant", "x", "--", "true"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("not by a parent of this command"), "{said}");
    let output = with_the_dump(&place, &["run", "x", "--", "true"]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(64) && said.contains("would wait for itself"), "{said}");
    // Of several names, what is free is not taken either.
    assert_eq!(code_with_the_dump(&place, &["run", "--reentrant", "free", "x", "--", "true"]), Some(64));
    assert_eq!(place.code(&["run", "-n", "free", "--", "true"]), Some(0));
}

#[test]
fn a_hold_that_was_taken_away_is_not_entered() {
    let place = Place::new();
    let script = format!(
        "trap '' TERM; echo > began; until [ -e go ]; do sleep 0.01; done; \
         {TENURE} run --reentrant -n x -- sh -c 'echo > beside'; echo $? > code; sleep 1000"
    );
    let first = place.run(&["x", "--", "sh", "-c", &script]);
    place.line_of("began");
    place.until_held("x");
    let _second = place.run(&["x", "--", "sleep", "1000"]);
    place.until_waiting("x", 1);
    assert_eq!(place.code(&["break", "--yes", "x"]), Some(0));
    place.until_waiting("x", 0);
    fs::write(place.file("go"), "").unwrap();
    assert_eq!(place.line_of("code"), "75");
    assert!(!place.file("beside").exists());
    drop(first);
}

/// Only the names were handed down, by a script that clears the other variable.
#[test]
fn a_name_alone_counts_below_its_holder_and_nowhere_else() {
    let place = Place::new();
    let below = format!("{DUMP}; env -u TENURE_HELD_AS {TENURE} run x -- true; echo $? > code");
    assert_eq!(place.code(&["run", "x", "--", "sh", "-c", &below]), Some(0));
    assert_eq!(place.line_of("code"), "64");
    fs::write(place.file("as"), "").unwrap();
    let _holder = place.hold("x");
    for more in [&["-n"][..], &["-n", "--reentrant"]] {
        let run = [&["run"], more, &["x", "--", "true"]].concat();
        assert_eq!(code_with_the_dump(&place, &run), Some(75), "{more:?}");
    }
}

#[test]
fn another_store_at_the_same_address_knows_nothing_of_it() {
    let place = Place::new();
    let script = format!("{DUMP}; echo > began; sleep 1000; echo");
    let first = place.run(&["--ttl", "1h", "x", "--", "sh", "-c", &script]);
    place.line_of("began");
    fs::rename(place.file("store"), place.file("moved")).unwrap();
    fs::create_dir(place.file("store")).unwrap();
    assert_eq!(
        code_with_the_dump(&place, &["run", "-n", "--reentrant", "x", "--", "sh", "-c", "exit 5"]),
        Some(5)
    );
    let _other = place.hold("x");
    assert_eq!(code_with_the_dump(&place, &["run", "-n", "--reentrant", "x", "--", "true"]), Some(75));
    drop(first);
}
