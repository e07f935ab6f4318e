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
        &["run", "--", "sudo", "echo", "x"],
        &["run", "--", "sudo", "--", "echo", "x"],
        &["run", "-n", "--ttl", "1s", "--", "sudo", "echo"],
        &["once", "--slot", "a", "--", "sudo", "echo", "x"],
        &["elect", "--", "sudo", "echo", "x"],
        &["acquire", "--"],
        &["acquire", "--", "sudo", "echo"],
        &["fence", "check", "--token", "7", "--domain", "a", "--", "sudo", "echo"],
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
    for (line, guess) in [
        ("rnu x -- true", "run?"),
        ("ru x -- true", "run?"),
        ("aquire x", "acquire?"),
        ("relaese x", "release?"),
        ("completinos bash", "completions?"),
        ("fence chekc f", "check?"),
        ("lab flashsale", "flash-sale?"),
        ("run --wiat=1s x -- true", "--wait?"),
        ("run --conflict-exit-cod 3 x -- true", "--conflict-exit-code?"),
        ("run --tll 1s x -- true", "--ttl?"),
        ("ls --namepsace a", "--namespace?"),
        ("ls --url valkey://h", "write redis://"),
        ("ls --url redis-sentinel://h", "name one plain server with redis://"),
        ("ls --url redis+unix:///run/redis.sock", "on a unix socket is not supported"),
        ("ls --url file:///tmp/locks", "write host:///dir"),
        ("ls --url etcd://h", "not supported yet"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let (_, said) = says(&words);
        assert!(said.to_lowercase().contains(guess), "{line}: {said}");
    }
    let (_, said) = says(&["frobnicate"]);
    assert!(!said.contains("mean"), "{said}");
    assert!(says(&["run", "x", "--wait", "10", "--", "true"]).1.contains("id you mean 10s?"));
}

/// Every failure has one form: a sentence that says what is wrong, and one that says what to do.
#[test]
fn wrong_usage_is_told_in_two_sentences() {
    for (line, told) in [
        ("show", "NAME is missing. Write it as: tenure show <NAME>."),
        ("once x -- true", "--slot or --every is missing. Write it as: tenure once"),
        (
            "run -- true",
            "the name of the lock is missing: everything after -- is the command. Write it as: tenure run NAME -- true.",
        ),
        (
            "once --slot a -- sudo ls /",
            "the name of the lock is missing: everything after -- is the command. Write it as: tenure once NAME -- sudo ls /.",
        ),
        (
            "elect -- sudo ls",
            "the name of the lock is missing: everything after -- is the command. Write it as: tenure elect",
        ),
        (
            "run -n",
            "the name of the lock is missing. Write it as: tenure run NAME [OPTIONS] -- COMMAND [ARG...].",
        ),
        ("run x true", "there is no -- before the command \"true\". Write it as: tenure run NAME"),
        ("acquire -- sudo echo", "unexpected argument \"echo\""),
        ("run --permits 1 x -- true", "--of is missing. Write it as: tenure run"),
        ("run -w 10 x -- true", "--wait: \"10\" has no unit. Did you mean 10s? Write it like"),
        ("run --ttl 99999999999999999999h x -- true", "--ttl: \"99999999999999999999h\" is too long."),
        (
            "run --wait -1s x -- true",
            "\"-1\" begins with a dash, but is not an option. Give a number or a duration",
        ),
        ("run -w 1s -n x -- true", "--wait cannot be used together with --no-wait. Leave one of them out."),
        ("run -w 1s -w 2s x -- true", "--wait is given twice. Give it once."),
        ("run -E 256 x -- true", "--conflict-exit-code: 256 is out of range. Give 0 to 255."),
        (
            "run -E two x -- true",
            "--conflict-exit-code: \"two\" is not a number in range. Give a whole number.",
        ),
        (
            "run --no-fork x -- true",
            "there is no option \"--no-fork\" here. Leave it out: tenure must stay the command's parent",
        ),
        ("run x ls -l", "there is no option \"-l\" here. Put the command after --."),
        ("ls a b", "unexpected argument \"b\". See tenure --help."),
        (
            "completions bsh",
            "SHELL: \"bsh\" is not possible. Did you mean bash? Give one of: bash, zsh, fish.",
        ),
        ("break x --yes --token 0", "--token: \"0\" is not a fencing token. Give a positive whole number"),
        ("lab flash-sale --clients 0", "--clients is 0. Give at least 1"),
        ("ls --url host", "the store URL has no scheme. Write it with its colon, like host:"),
        (
            "ls --url hots:",
            "there is no backend for the scheme \"hots\". Did you mean host:? This build has: ",
        ),
    ] {
        let (_, said) = says(&line.split(' ').collect::<Vec<_>>());
        assert!(said.starts_with(&format!("tenure: {told}")) && said.lines().count() == 1, "{line}: {said}");
    }
}

#[test]
fn help_begins_with_two_examples() {
    let mut seen = 0;
    let mut ahead: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(command) = ahead.pop() {
        for flag in ["--help", "-h"] {
            let mut args: Vec<&str> = command.iter().map(String::as_str).collect();
            args.push(flag);
            let output = bare(&args).output().unwrap();
            assert!(output.status.success(), "{args:?}");
            let help = text(&output.stdout);
            let mut lines = help.lines();
            assert_eq!(lines.next(), Some("Examples:"), "{args:?}");
            let example = |l: &str| l.starts_with("  ") && l.contains("tenure ");
            assert!(lines.by_ref().take(2).all(example), "{args:?}: {help}");
        }
        // What the summary lists as commands.
        let mut short: Vec<&str> = command.iter().map(String::as_str).collect();
        short.push("-h");
        let summary = text(&bare(&short).output().unwrap().stdout);
        let listed = summary.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty());
        let names = listed.filter(|l| l.starts_with("  ") && !l.starts_with("   "));
        for name in names.filter_map(|l| l.split_whitespace().next()).filter(|name| *name != "help") {
            seen += 1;
            ahead.push([command.clone(), vec![name.to_owned()]].concat());
        }
    }
    assert!(seen >= 20, "only {seen} subcommands found: this test has gone blind");
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
