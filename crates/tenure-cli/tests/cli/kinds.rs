//! `tenure run` with other primitives than a mutex: shared, permits, several names, re-entry.

use crate::support::{Place, TENURE, json_of, text};

#[test]
fn readers_run_together_and_a_writer_alone() {
    let place = Place::new();
    let first = place.run(&["--shared", "config", "--", "sleep", "1000"]);
    let line = place.until_held("config");
    assert_eq!(line["kind"], "rwlock");
    assert_eq!(place.code(&["run", "-n", "-s", "config", "--", "true"]), Some(0));
    assert_eq!(place.code(&["run", "-n", "-x", "config", "--", "true"]), Some(75));
    // A reader behind a writer that waits does not overtake it.
    let writer = place.run(&["--exclusive", "config", "--", "sleep", "1000"]);
    place.until_waiting("config", 1);
    assert_eq!(place.code(&["run", "-n", "-s", "config", "--", "true"]), Some(75));
    let reader: i64 = first_token(&line);
    drop(first);
    let line = crate::support::until("the writer holds", || {
        let line = place.until_held("config");
        (line["waiting"].as_array()?.is_empty() && first_token(&line) > reader).then_some(line)
    });
    assert_eq!(line["holders"].as_array().unwrap().len(), 1);
    assert_eq!(place.code(&["run", "-n", "-s", "config", "--", "true"]), Some(75));
    drop(writer);
}

fn first_token(line: &serde_json::Value) -> i64 {
    line["holders"][0]["token"].as_i64().unwrap()
}

#[test]
fn a_name_of_another_kind_is_64() {
    let place = Place::new();
    let _reader = place.run(&["-s", "x", "--", "sleep", "1000"]);
    place.until_held("x");
    for args in [&["x"][..], &["--permits", "1", "--of", "2", "x"]] {
        let output = place.output(&[&["run", "-n"], args, &["--", "true"]].concat());
        assert_eq!(output.status.code(), Some(64), "{args:?}: {}", text(&output.stderr));
    }
}

/// What `show` says for people: who reads and who writes, and how many permits; and whom `break` takes a lock from.
#[test]
fn the_share_of_each_is_shown() {
    let place = Place::new();
    let _readers = [(); 2].map(|()| place.run(&["-s", "config", "--", "sleep", "1000"]));
    let _permits = place.run(&["--permits", "2", "--of", "3", "render", "--", "sleep", "1000"]);
    place.until_held("render");
    crate::support::until("both read", || {
        (place.json(&["show", "config"])[0]["holders"].as_array()?.len() == 2).then_some(())
    });
    let _writer = place.run(&["-x", "config", "--", "sleep", "1000"]);
    place.until_waiting("config", 1);
    let shown = text(&place.output(&["show", "config"]).stdout);
    assert_eq!(
        (shown.matches(", to read, token").count(), shown.matches(", to write, claim").count()),
        (2, 1),
        "{shown}"
    );
    assert!(!shown.contains("capacity"), "{shown}");
    let shown = text(&place.output(&["show", "render"]).stdout);
    assert!(shown.contains("capacity 3") && shown.contains(", 2 permits, lease"), "{shown}");
    for (lock, from) in [("config", "its 2 holders"), ("render", "its holder")] {
        let said = text(&place.output(&["break", "--yes", lock]).stderr);
        assert_eq!(said, format!("tenure: {lock} was taken away from {from}.\n"));
    }
}

#[test]
fn so_many_permits_and_no_more() {
    let place = Place::new();
    let run = |k: &'static str| place.run(&["--permits", k, "--of", "3", "render", "--", "sleep", "1000"]);
    let free =
        |k: &str| place.code(&["run", "-n", "--permits", k, "--of", "3", "render", "--", "true"]) == Some(0);
    let two = run("2");
    place.until_held("render");
    assert!(free("1") && !free("2"));
    let one = run("1");
    crate::support::until("all are taken", || {
        (place.json(&["show", "render"])[0]["holders"].as_array()?.len() == 2).then_some(())
    });
    assert!(!free("1"));
    drop(two); // by SIGKILL: its permits come back
    crate::support::until("two are free", || free("2").then_some(()));
    drop(one);
    // There is no token, and none of a parent's is handed on.
    let script = "echo \"[$TENURE_TOKEN]\"";
    let output = place.output(&[
        "run",
        "outer",
        "--",
        TENURE,
        "run",
        "--permits",
        "1",
        "--of",
        "3",
        "other",
        "--",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(text(&output.stdout), "[]\n");
}

#[test]
fn several_names_are_taken_together() {
    let place = Place::new();
    let script = "printf '%s|' \"$TENURE_LOCK\" \"$TENURE_TOKEN\" \"$TENURE_TOKEN_1\" \"$TENURE_TOKEN_2\"";
    let args = ["run", "--status-file", "status", "b", "a", "--", "sh", "-c", script];
    let output = text(&place.output(&args).stdout);
    let [lock, tokens, first, second, _] = output.split('|').collect::<Vec<_>>()[..] else {
        panic!("{output}")
    };
    assert_eq!((lock, tokens.to_owned()), ("b\na", format!("{first}\n{second}")));
    let status = json_of(&place.file("status"));
    assert_eq!((&status["locks"][0]["lock"], &status["locks"][1]["lock"]), (&"b".into(), &"a".into()));
    assert_eq!(status["locks"][1]["token"].as_i64(), second.parse().ok());
    // One of them is busy: none is kept.
    let held = place.hold("b");
    let output = place.output(&["run", "-n", "a", "b", "c", "--", "true"]);
    assert_eq!(output.status.code(), Some(75));
    assert!(text(&output.stderr).contains("b, held by"), "{}", text(&output.stderr));
    assert_eq!(place.code(&["run", "-n", "a", "c", "--", "true"]), Some(0));
    // It waits for the busy one, and runs when that is free.
    let waiter = place.run(&["a", "b", "--", "sh", "-c", "exit 9"]);
    place.until_waiting("b", 1);
    drop(held);
    assert_eq!(waiter.wait().0, Some(9));
    // Each of them is refused to children, and losing one is losing all.
    for inner in ["a", "b"] {
        assert_eq!(place.code(&["run", "a", "b", "--", TENURE, "run", inner, "--", "true"]), Some(64));
    }
    let running = place.run(&["a", "b", "--", "sleep", "1000"]);
    place.until_held("a");
    place.until_held("b");
    assert_eq!(place.code(&["break", "--yes", "b"]), Some(0));
    assert_eq!(running.wait().0, Some(80));
}

#[test]
fn a_parents_lock_is_entered_again_when_asked_to() {
    let place = Place::new();
    let script = "echo $TENURE_LOCK $TENURE_TOKEN";
    let nested = |outer: &[&str], inner: &[&str]| {
        let show = ["--", "sh", "-c", script];
        let again = ["--", "sh", "-c", "echo $TENURE_TOKEN; exec \"$@\"", "sh", TENURE, "run", "--reentrant"];
        place.output(&[&["run"], outer, &again[..], inner, &show[..]].concat())
    };
    let output = nested(&["x"], &["x"]);
    let said = text(&output.stdout);
    let (outer, inner) = said.trim().split_once('\n').unwrap();
    assert_eq!(inner, format!("x {outer}"), "the same token");
    // What is not held is taken, what is held is not.
    let output = nested(&["x"], &["-n", "x", "y"]);
    assert!(output.status.success() && text(&output.stdout).contains("x y"), "{output:?}");
    assert_eq!(nested(&["-x", "x"], &["-n", "-s", "x"]).status.code(), Some(0));
    assert_eq!(nested(&["-s", "x"], &["-n", "-x", "x"]).status.code(), Some(64));
    assert_eq!(nested(&["x"], &["-n", "-s", "x"]).status.code(), Some(64));
    // Without a parent that holds it, it is a lock as any other.
    assert_eq!(place.code(&["run", "--reentrant", "x", "--", "sh", "-c", "exit 3"]), Some(3));
    // The inner command's end gives nothing back.
    let script = format!("{TENURE} run --reentrant x -- true && {TENURE} --url $TENURE_URL show x --json");
    let output = place.output(&["run", "x", "--", "sh", "-c", &script]);
    assert!(text(&output.stdout).contains("\"holders\":[{"), "{output:?}");
}

#[test]
fn what_cannot_be_is_64() {
    let place = Place::new();
    let many: Vec<String> = (0..1001).map(|n| format!("n{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let cases: &[&[&str]] = &[
        &["--permits", "1", "x"],
        &["--of", "1", "x"],
        &["--permits", "0", "--of", "2", "x"],
        &["--permits", "1", "--of", "0", "x"],
        &["--permits", "3", "--of", "2", "x"],
        &["--permits", "-1", "--of", "2", "x"],
        &["--permits", "1", "--of", "4294967296", "x"],
        &["--shared", "--exclusive", "x"],
        &["--shared", "--permits", "1", "--of", "2", "x"],
        &["--shared", "x", "y"],
        &["--permits", "1", "--of", "2", "x", "y"],
        &["x", "x"],
        &["x", "a//b"],
        &many,
    ];
    for args in cases {
        let output = place.output(&[&["run"], *args, &["--", "true"]].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {said}");
        assert!(said.starts_with("tenure: "), "{said}");
    }
    assert_eq!(place.json(&["ls"]), Vec::<serde_json::Value>::new(), "a lock was left behind");
}
