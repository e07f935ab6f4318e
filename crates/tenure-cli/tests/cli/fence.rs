//! `tenure fence`: a file that shell jobs write, with holders that stalled.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Place, TENURE, kill, text, until};

/// `tenure fence check FILE` with a token of its own.
fn check(place: &Place, token: &str, more: &[&str]) -> (Option<i32>, String) {
    let output = place
        .tenure(&[&["fence", "check", "data.fence", "--token", token], more].concat())
        .env("TENURE_DOMAIN", "host:a")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.code(), text(&output.stderr))
}

/// A `tenure run` whose script finds the binary under test in `$0`.
fn script<'a>(lock: &'a str, text: &'a str) -> Vec<&'a str> {
    vec!["--ttl", "1s", lock, "--", "sh", "-c", text, TENURE]
}

#[test]
fn s3_a_job_that_slept_longer_than_its_lease_is_refused() {
    let place = Place::new();
    fs::write(place.file("data"), "100\n").unwrap();
    let asleep = place.run(&script(
        "x",
        r#""$0" fence check data.fence || exit 1
           echo $$ > pid
           until [ -e go ]; do sleep 0.01; done
           "$0" fence check data.fence -- sh -c 'echo 101 > data'
           echo $? > status; sleep 1000"#,
    ));
    let shell = place.pid_of("pid");
    let guardian = asleep.guardian();
    for pid in [asleep.pid(), guardian, shell] {
        kill(pid, Signal::STOP);
    }
    // The next one is granted when the lease is over, and has only read when the other wakes up.
    let next = place.run(&script(
        "x",
        r#""$0" fence check data.fence -- cat data > read || exit 1
           echo done > has-read
           until [ -e status ]; do sleep 0.01; done
           "$0" fence check data.fence -- sh -c 'echo 105 > data'"#,
    ));
    place.line_of("has-read");
    fs::write(place.file("go"), "").unwrap();
    kill(shell, Signal::CONT);
    assert_eq!(place.line_of("status"), "81");
    let (code, said) = next.wait();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read_to_string(place.file("read")).unwrap(), "100\n");
    assert_eq!(fs::read_to_string(place.file("data")).unwrap(), "105\n");
    for pid in [guardian, asleep.pid()] {
        kill(pid, Signal::CONT);
    }
    let (_, said) = asleep.wait();
    assert!(said.contains("is stale"), "{said}");
}

#[test]
fn tokens_are_judged_by_their_order_and_their_store() {
    let place = Place::new();
    assert_eq!(check(&place, "7", &[]).0, Some(0));
    assert_eq!(check(&place, "7", &[]).0, Some(0), "the same holder again");
    assert_eq!(check(&place, "9", &[]).0, Some(0));
    let (code, said) = check(&place, "8", &[]);
    assert_eq!(code, Some(81));
    assert!(said.contains("token 8") && said.contains('9'), "{said}");
    let (code, said) = check(&place, "10", &["--domain", "redis:b"]);
    assert_eq!(code, Some(81));
    assert!(["host:a", "redis:b", "tenure fence reset"].iter().all(|w| said.contains(w)), "{said}");
    let refused =
        place.output(&["fence", "check", "data.fence", "--token", "8", "--domain", "host:a", "--json"]);
    let line: serde_json::Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(
        line,
        json!({"file": "data.fence", "admitted": false, "reason": "stale", "domain": null, "token": 9})
    );
    let line = place.json(&["fence", "show", "data.fence"]).remove(0);
    assert_eq!(line, json!({"file": "data.fence", "domain": "host:a", "token": 9}));
    let shown = place.output(&["fence", "show", "data.fence"]);
    assert_eq!(text(&shown.stdout), "token 9 of host:a\n");
}

#[test]
fn a_command_inside_keeps_higher_tokens_out_until_it_has_ended() {
    let place = Place::new();
    let inside = r#"echo in > inside; until [ -e go ]; do sleep 0.01; done; echo first >> order"#;
    let spawn = |token: &str, script: &str| {
        let mut command =
            place.tenure(&["fence", "check", "data.fence", "--token", token, "--domain", "host:a"]);
        command.args(["--", "sh", "-c", script]).stdin(Stdio::null()).spawn().unwrap()
    };
    let mut first = spawn("7", inside);
    place.line_of("inside");
    let mut second = spawn("8", "echo second >> order");
    // It waits: nobody can tell when it has begun to.
    until("the second one runs", || fs::exists(format!("/proc/{}", second.id())).unwrap().then_some(()));
    assert_eq!(check(&place, "7", &[]).0, Some(0), "the same token comes in");
    fs::write(place.file("go"), "").unwrap();
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
    assert_eq!(fs::read_to_string(place.file("order")).unwrap(), "first\nsecond\n");
    // The command's own status, and those of commands that cannot be run.
    assert_eq!(check(&place, "8", &["--", "sh", "-c", "exit 3"]).0, Some(3));
    assert_eq!(check(&place, "8", &["--", "./no-such-command"]).0, Some(127));
    assert_eq!(check(&place, "8", &["--", "./order"]).0, Some(126));
}

#[test]
fn a_killed_command_leaves_the_fence() {
    let place = Place::new();
    let mut command = place.tenure(&["fence", "check", "data.fence", "--token", "7", "--domain", "host:a"]);
    // The shell is replaced, so that what is killed is all there is.
    command.args(["--", "sh", "-c", "echo in > inside; exec sleep 1000"]);
    let mut stuck = command.stdin(Stdio::null()).spawn().unwrap();
    place.line_of("inside");
    stuck.kill().unwrap();
    stuck.wait().unwrap();
    assert_eq!(check(&place, "8", &[]).0, Some(0));
}

#[test]
fn raising_shuts_out_who_came_last() {
    let place = Place::new();
    let none = place.output(&["fence", "raise", "data.fence"]);
    assert_eq!(none.status.code(), Some(78), "nobody came yet: {}", text(&none.stderr));
    assert_eq!(check(&place, "7", &[]).0, Some(0));
    let raised = place.json(&["fence", "raise", "data.fence"]).remove(0);
    assert_eq!(raised, json!({"file": "data.fence", "domain": "host:a", "token": 8}));
    assert_eq!(check(&place, "7", &[]).0, Some(81));
    assert_eq!(check(&place, "8", &[]).0, Some(0));
    let lower = place.json(&["fence", "raise", "data.fence", "--token", "3"]).remove(0);
    assert_eq!(lower["token"], 8, "it never lowers");
    let other = ["fence", "raise", "data.fence", "--token", "9", "--domain", "redis:b"];
    assert_eq!(place.code(&other), Some(81));
}

#[test]
fn a_reset_moves_to_the_store_of_the_url() {
    let place = Place::new();
    assert_eq!(check(&place, "7", &[]).0, Some(0));
    assert_eq!(place.code(&["fence", "reset", "data.fence"]), Some(64), "nobody can be asked");
    assert_eq!(check(&place, "7", &[]).0, Some(0));
    assert_eq!(place.code(&["fence", "reset", "--yes", "data.fence"]), Some(0));
    assert_eq!(check(&place, "99", &[]).0, Some(81), "the old store's tokens");
    let show = "echo $TENURE_DOMAIN; \"$0\" fence check data.fence && \"$0\" fence show data.fence";
    let output = place.output(&["run", "x", "--", "sh", "-c", show, TENURE]);
    let said = text(&output.stdout);
    let domain = said.lines().next().unwrap();
    assert!(
        domain.starts_with("host:") && said.trim_end().ends_with(domain),
        "{said} {}",
        text(&output.stderr)
    );
    // The domain of a store is the same for all its runs.
    assert!(
        text(&place.output(&["run", "y", "--", "sh", "-c", "echo $TENURE_DOMAIN"]).stdout).trim() == domain
    );
}

#[test]
fn what_is_no_fence_is_named() {
    let place = Place::new();
    fs::write(place.file("data.fence"), "something else").unwrap();
    let (code, said) = check(&place, "7", &[]);
    assert_eq!(code, Some(78));
    assert!(said.contains("data.fence") && said.contains("tenure fence reset"), "{said}");
    assert_eq!(place.code(&["fence", "show", "data.fence"]), Some(78));
    assert_eq!(place.code(&["fence", "reset", "--yes", "--token", "8", "data.fence"]), Some(0));
    let none = place.output(&["fence", "show", "other.fence"]);
    assert_eq!((none.status.code(), text(&none.stdout).as_str()), (Some(0), "no token seen\n"));
    assert!(!fs::exists(place.file("other.fence")).unwrap(), "looking changes nothing");
    let line = place.json(&["fence", "show", "other.fence"]).remove(0);
    assert_eq!(line, json!({"file": "other.fence", "domain": null, "token": null}));
    // Of several locks, somebody has to say which one.
    let several = place.output(&["run", "a", "b", "--", TENURE, "fence", "check", "new.fence"]);
    let said = text(&several.stderr);
    assert!(several.status.code() == Some(64) && said.contains("TENURE_TOKEN_1"), "{said}");
    let both = Command::new(TENURE)
        .args(["fence", "check", "f"])
        .env("TENURE_TOKEN", "seven")
        .env("TENURE_DOMAIN", "host:a")
        .output()
        .unwrap();
    assert_eq!(both.status.code(), Some(64), "{}", text(&both.stderr));
}
