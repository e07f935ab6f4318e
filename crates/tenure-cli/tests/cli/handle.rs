//! `tenure acquire`, `renew` and `release`.

use std::io::Write;
use std::process::{Output, Stdio};

use crate::support::{Place, TENURE, lines, text, until};

/// `tenure` with the handle on its stdin.
fn with(place: &Place, args: &[&str], handle: &str) -> Output {
    let mut command = place.tenure(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What is too long is not read to its end.
    match child.stdin.take().unwrap().write_all(handle.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        written => written.unwrap(),
    }
    child.wait_with_output().unwrap()
}

fn acquire(place: &Place, args: &[&str]) -> String {
    let output = place.output(&[&["acquire"], args].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_lock_lasts_from_acquire_to_release() {
    let place = Place::new();
    let handle = acquire(&place, &["--reason", "a deploy", "deploy"]);
    assert_eq!(handle.lines().count(), 1);
    let line = place.json(&["show", "deploy"]).remove(0);
    assert_eq!(line["holders"][0]["reason"], "a deploy");
    assert_eq!(line["holders"][0]["pid"], std::process::id(), "the caller is shown");
    assert!(!line.to_string().contains(handle.trim()));
    for args in [&["-n"][..], &["--wait", "30ms"], &["--wait", "0s"]] {
        let output = place.output(&[&["acquire", "deploy"], args].concat());
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(75), String::new()), "{args:?}");
        let said = text(&output.stderr);
        assert!(said.contains("deploy, held by") && said.contains("(a deploy)"), "{said}");
    }
    assert_eq!(place.code(&["acquire", "-n", "-E", "3", "deploy"]), Some(3));
    assert_eq!(place.code(&["run", "-n", "deploy", "--", "true"]), Some(75));
    let renewed = with(&place, &["renew", "--json"], &handle);
    let renewed = lines(&renewed.stdout).remove(0);
    assert_eq!((&renewed["lock"], &renewed["token"]), (&"deploy".into(), &line["token"]));
    let left = renewed["expires_in_ms"].as_u64().unwrap();
    assert!((1..=300_000).contains(&left), "{left}");
    assert_eq!(with(&place, &["release"], &handle).status.code(), Some(0));
    assert_eq!(place.code(&["run", "-n", "deploy", "--", "true"]), Some(0));
}

#[test]
fn the_handle_comes_from_stdin_a_variable_or_an_argument() {
    let place = Place::new();
    for n in 0..4 {
        let handle = acquire(&place, &["--namespace", "shop", "x"]);
        let plain = handle.trim();
        let code = match n {
            0 => with(&place, &["release", "-"], &handle).status.code(),
            1 => place.output(&["release", plain]).status.code(),
            2 => place.tenure(&["release"]).env("TENURE_HANDLE", plain).status().unwrap().code(),
            _ => with(&place, &["release", "--namespace", "shop"], plain).status.code(),
        };
        assert_eq!(code, Some(0), "{n}");
    }
}

#[test]
fn a_handle_is_good_once_and_never_changed() {
    let place = Place::new();
    let handle = acquire(&place, &["x"]);
    let middle = handle.len() / 2;
    let other = if handle.as_bytes()[middle] == b'0' { "1" } else { "0" };
    let changed = format!("{}{other}{}", &handle[..middle], &handle[middle + 1..]);
    let long = "x".repeat(100_000);
    for bad in [&changed[..], &handle[..middle], "", "\n", "hello", "tenure1-", "tenure9-00", &long] {
        for verb in ["renew", "release"] {
            let output = with(&place, &[verb], bad);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{verb} {bad:.40}: {said}");
            assert!(!said.contains(&handle[20..40]), "a part of the secret: {said}");
        }
    }
    // Of another store, of another namespace.
    let elsewhere = Place::new();
    assert_eq!(with(&elsewhere, &["release"], &handle).status.code(), Some(78));
    assert_eq!(with(&place, &["release", "--namespace", "other"], &handle).status.code(), Some(78));
    assert_eq!(with(&place, &["release"], &handle).status.code(), Some(0));
    for verb in ["renew", "release"] {
        let output = with(&place, &[verb], &handle);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(80), "{said}");
        assert!(said.contains("released before"), "{said}");
    }
}

#[test]
fn a_lease_that_is_over_ends_it() {
    let place = Place::new();
    let handle = acquire(&place, &["--ttl", "100ms", "x"]);
    until("the lease is over", || {
        place.json(&["show", "x"])[0]["holders"].as_array()?.is_empty().then_some(())
    });
    for verb in ["renew", "release"] {
        assert_eq!(with(&place, &[verb], &handle).status.code(), Some(80), "{verb}");
    }
    // Taken away by somebody.
    let handle = acquire(&place, &["x"]);
    assert_eq!(place.code(&["break", "--yes", "x"]), Some(0));
    assert_eq!(with(&place, &["renew"], &handle).status.code(), Some(80));
}

#[test]
fn what_cannot_be_is_64() {
    let place = Place::new();
    let reason = "r".repeat(257);
    for args in [
        &["acquire"][..],
        &["acquire", "a//b"],
        &["acquire", "x", "y"],
        &["acquire", "x", "--ttl", "99ms"],
        &["acquire", "x", "--ttl", "25h"],
        &["acquire", "x", "--wait", "1s", "-n"],
        &["acquire", "x", "--reason", &reason],
    ] {
        assert_eq!(place.code(args), Some(64), "{args:?}");
    }
    // Under a lock that a parent holds.
    assert_eq!(place.code(&["run", "x", "--", TENURE, "acquire", "x"]), Some(64));
    assert_eq!(place.code(&["run", "x", "--", TENURE, "acquire", "y"]), Some(0));
}

#[test]
fn nobody_is_left_with_a_lock_whose_handle_nobody_has() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = place.tenure(&["acquire", "x"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_eq!(place.code(&["run", "-n", "x", "--", "true"]), Some(0));
}

#[test]
fn a_handle_that_stdout_cannot_take_is_no_hold() {
    let place = Place::new();
    for (to, code) in [(">&-", 1), ("> /dev/full", 1), ("> /dev/null", 0)] {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("{TENURE} acquire x {to}")]).env("TENURE_URL", place.url());
        let output = shell.output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{to}: {said}");
        assert!(
            code == 0 || said.contains("could not be written") || said.contains("cannot be written"),
            "{said}"
        );
        let free = place.code(&["run", "-n", "x", "--", "true"]);
        assert_eq!(free, Some(if code == 0 { 75 } else { 0 }), "{to}");
    }
}
