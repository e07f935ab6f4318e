//! Options, help, exit codes, completions.

use std::fs;
use std::process::Stdio;

use crate::support::{Place, bare, text};

fn says(args: &[&str]) -> (Option<i32>, String) {
    let output = bare(args).stdin(Stdio::null()).output().unwrap();
    assert_eq!(text(&output.stdout), "", "{args:?} writes its error to stdout");
    (output.status.code(), text(&output.stderr))
}

#[test]
fn wrong_usage_is_64() {
    let cases: &[&[&str]] = &[
        &[],
        &["lab"],
        &["frobnicate"],
        &["ls", "--frobnicate"],
        &["show"],
        &["run"],
        &["run", "x"],
        &["run", "x", "true"],
        &["run", "x", "--"],
        &["run", "x", "--wait", "10", "--", "true"],
        &["run", "x", "--wait", "1h1h", "--", "true"],
        &["run", "x", "--wait", "-1s", "--", "true"],
        &["run", "x", "--ttl", "NaN", "--", "true"],
        &["run", "x", "--ttl", "1e309", "--", "true"],
        &["run", "x", "--ttl", "99999999999999999999h", "--", "true"],
        &["run", "x", "--wait", "1s", "--no-wait", "--", "true"],
        &["run", "x", "-E", "256", "--", "true"],
        &["run", "x", "--ttl", "10s", "--grace", "6s", "--", "true"],
        &["run", "x", "--json", "--", "true"],
        &["run", "x", "--status-file", "/nowhere/at/all", "--", "true"],
        &["run", "", "--", "true"],
        &["--namespace", "a/b", "show", "x"],
        &["break", "x"],
        &["break", "x", "--yes", "--token", "0"],
        &["break", "x", "--yes", "--token", "-1"],
        &["break", "x", "--yes", "--token", "9223372036854775808"],
        &["fence"],
        &["fence", "check"],
        &["fence", "check", "f"],
        &["fence", "check", "f", "--token", "7"],
        &["fence", "check", "f", "--token", "0", "--domain", "a"],
        &["fence", "check", "f", "--token", "7", "--domain", "a b"],
        &["fence", "check", "f", "--token", "7", "--domain", "a", "true"],
        &["fence", "check", "f", "--token", "7", "--domain", "a", "--json", "--", "true"],
        &["fence", "raise", "f", "--token", "-1"],
        &["fence", "reset", "f", "--domain", "a"],
        &["completions", "tcsh"],
        &["-q", "-v", "ls"],
    ];
    for args in cases {
        let (code, said) = says(args);
        assert_eq!(code, Some(64), "{args:?}: {said}");
        assert!(!said.is_empty(), "{args:?} says nothing");
    }
}

#[test]
fn odd_ttls_are_64() {
    let place = Place::new();
    for ttl in ["0s", "1ms", "99ms", "25h", "18446744073709551615ms"] {
        assert_eq!(place.code(&["run", "x", "--ttl", ttl, "--", "true"]), Some(64), "{ttl}");
    }
    // So short a lease may be lost on a busy machine: what matters is that it is allowed.
    assert_ne!(place.code(&["run", "x", "--ttl", "100ms", "--", "true"]), Some(64));
    assert_eq!(place.code(&["run", "x", "--ttl", "24h", "--", "true"]), Some(0));
}

#[test]
fn bad_urls_and_configuration_are_78() {
    for url in [
        "memory:",
        "MEMORY:",
        "hots:",
        "nonsense",
        "",
        "host:relative",
        "host:///tmp?x=1",
        "host://u:secret@/tmp",
    ] {
        let (code, said) = says(&["ls", "--url", url]);
        assert_eq!(code, Some(78), "{url:?}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
    assert!(says(&["ls", "--url", "hots:"]).1.contains("id you mean host:?"));
    for args in [
        &["run", "x", "--", "true"][..],
        &["once", "--slot", "a", "x", "--", "true"],
        &["elect", "x", "--", "true"],
        &["acquire", "x"],
    ] {
        let (code, said) =
            says(&[args[0], "--url", "memory:"].iter().chain(&args[1..]).copied().collect::<Vec<_>>());
        assert!(code == Some(78) && said.contains("one process"), "{args:?}: {said}");
    }
}

#[test]
fn two_passwords_from_two_places_are_78() {
    let place = Place::new();
    let file = place.file("password");
    fs::write(&file, "hidden\n").unwrap();
    let code = |pairs: &[(&str, &str)]| {
        let mut command = place.tenure(&["ls"]);
        command.envs(pairs.iter().copied());
        let output = command.output().unwrap();
        assert!(!text(&output.stderr).contains("hidden"));
        output.status.code()
    };
    let path = file.to_str().unwrap();
    assert_eq!(code(&[("TENURE_PASSWORD", "hidden"), ("TENURE_PASSWORD_FILE", path)]), Some(78));
    assert_eq!(code(&[("TENURE_PASSWORD_FILE", "/nowhere/at/all")]), Some(78));
    assert_eq!(code(&[("TENURE_PASSWORD_FILE", path)]), Some(0));
    assert_eq!(code(&[("TENURE_PASSWORD", "hidden")]), Some(0));
    assert_eq!(code(&[("TENURE_PASSWORD", ""), ("TENURE_PASSWORD_FILE", "")]), Some(0));
}

#[test]
fn the_sources_of_an_error_are_told_on_request() {
    let args = ["run", "x", "--status-file", "/nowhere/at/all", "--", "true"];
    assert!(!says(&args).1.contains("because:"));
    assert!(says(&[&args[..2], &["-v"], &args[2..]].concat()).1.contains("because: No such file"));
}

#[test]
fn the_environment_is_asked_after_the_options() {
    let place = Place::new();
    let code = |args: &[&str], pairs: &[(&str, &str)]| {
        let mut command = bare(args);
        command.envs(pairs.iter().copied()).output().unwrap().status.code()
    };
    let url = place.url();
    assert_eq!(code(&["ls"], &[("TENURE_URL", "memory:")]), Some(78));
    assert_eq!(code(&["ls", "--url", &url], &[("TENURE_URL", "memory:")]), Some(0));
    assert_eq!(code(&["ls"], &[("TENURE_URL", &url), ("TENURE_NAMESPACE", "a/b")]), Some(64));
    assert_eq!(
        code(&["ls", "--namespace", "a"], &[("TENURE_URL", &url), ("TENURE_NAMESPACE", "a/b")]),
        Some(0)
    );
}

#[test]
fn mistyped_words_get_a_guess() {
    assert!(says(&["shwo", "x"]).1.contains("id you mean show?"));
    assert!(says(&["ls", "--jsno"]).1.contains("id you mean --json?"));
    assert!(says(&["run", "x", "--wait", "10", "--", "true"]).1.contains("did you mean 10s?"));
}

#[test]
fn help_begins_with_two_examples() {
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["run", "-h"],
        &["once", "--help"],
        &["acquire", "--help"],
        &["renew", "-h"],
        &["release", "--help"],
        &["elect", "--help"],
        &["ls", "--help"],
        &["break", "--help"],
        &["watch", "-h"],
    ] {
        let output = bare(args).output().unwrap();
        assert!(output.status.success(), "{args:?}");
        let help = text(&output.stdout);
        let mut lines = help.lines();
        assert_eq!(lines.next(), Some("Examples:"), "{args:?}");
        assert!(lines.by_ref().take(2).all(|l| l.starts_with("  tenure ")), "{args:?}: {help}");
    }
    let version = bare(&["--version"]).output().unwrap();
    assert_eq!(text(&version.stdout), format!("tenure {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_password_in_a_variable_is_not_in_the_help() {
    let output = bare(&["run", "--help"]).env("TENURE_URL", "redis://u:topsecret@h").output().unwrap();
    assert!(!text(&output.stdout).contains("topsecret"));
}

#[test]
fn completions_and_the_manual_are_whole() {
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&bare(&["completions", shell]).output().unwrap().stdout);
        for word in ["run", "watch", "status-file"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    let page = text(&bare(&["man"]).output().unwrap().stdout);
    for part in
        [".TH tenure", ".SH \"TENURE RUN\"", ".SS OPTIONS", ".SH \"EXIT STATUS\"", "TENURE_HELD", "guardian"]
    {
        assert!(page.contains(part), "no {part} in:\n{page}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    // The manual is longer than a pipe holds only on small pipes: so the reader is gone before the first byte.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = bare(&["man"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}
