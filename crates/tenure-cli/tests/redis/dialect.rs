//! `redis+setnx://` beside programs that use `SET NX PX` by hand, and what it says that it cannot see.

use serde_json::{Value, json};

use crate::Trials;
use crate::server::Server;
use crate::support::{Place, text};

pub(crate) const TRIALS: Trials = &[
    ("dialect::another_program_is_waited_for", another_program_is_waited_for),
    ("dialect::another_program_is_kept_out", another_program_is_kept_out),
    ("dialect::what_cannot_be_seen_is_said", what_cannot_be_seen_is_said),
    ("dialect::kinds_that_it_lacks_are_78", kinds_that_it_lacks_are_78),
];

fn place(server: &Server) -> Place {
    Place::at(format!("redis+setnx://127.0.0.1:{}?prefix=job:", server.port))
}

fn another_program_is_waited_for() {
    let server = Server::start();
    let place = place(&server);
    assert_eq!(server.cli(&["SET", "job:x", "theirs", "NX", "PX", "60000"]), "OK");
    let busy = place.output(&["run", "-n", "x", "--", "true"]);
    let said = text(&busy.stderr);
    assert!(busy.status.code() == Some(75) && said.contains("held by another program"), "{said}");
    let waiting = place.run(&["x", "--", "sh", "-c", "echo ran > ran"]);
    let shown = text(&place.output(&["show", "x"]).stdout);
    assert!(shown.contains("held by another program, lease ends in") && !shown.contains("1970"), "{shown}");
    assert_eq!(server.cli(&["DEL", "job:x"]), "1");
    assert_eq!(waiting.wait().0, Some(0));
    // Broken by hand: the other program finds its key gone.
    assert_eq!(server.cli(&["SET", "job:x", "theirs", "NX", "PX", "60000"]), "OK");
    assert_eq!(place.code(&["break", "--yes", "x"]), Some(0));
    assert_eq!(server.cli(&["EXISTS", "job:x"]), "0");
}

fn another_program_is_kept_out() {
    let server = Server::start();
    let place = place(&server);
    let running = place.run(&["x", "--", "sh", "-c", "echo > began; while [ ! -e go ]; do sleep 0.01; done"]);
    place.line_of("began");
    assert_eq!(server.cli(&["SET", "job:x", "theirs", "NX", "PX", "60000"]), "");
    std::fs::write(place.file("go"), "").unwrap();
    assert_eq!(running.wait().0, Some(0));
    assert_eq!(server.cli(&["SET", "job:x", "theirs", "NX", "PX", "60000"]), "OK");
}

fn what_cannot_be_seen_is_said() {
    let server = Server::start();
    let place = place(&server);
    let _holder = place.hold("a");
    let waiter = place.run(&["a", "--", "true"]);
    for args in [&["ls"][..], &["show", "a"]] {
        let line: Value = place.json(args).remove(0);
        assert_eq!((&line["visibility"], &line["waiting"]), (&json!("holders"), &json!([])), "{line}");
    }
    let ls = place.output(&["ls"]);
    assert!(text(&ls.stderr).contains("not waiters"), "{}", text(&ls.stderr));
    assert!(text(&ls.stdout).contains("unknown"), "{}", text(&ls.stdout));
    assert_eq!(text(&place.output(&["ls", "-q"]).stderr), "");
    assert!(text(&place.output(&["show", "a"]).stdout).contains("does not show who waits"));
    // A hold by hand is shown when it is asked for by name; its owner is not known.
    assert_eq!(server.cli(&["SET", "job:b", "theirs", "NX", "PX", "60000"]), "OK");
    let line = place.json(&["show", "b"]).remove(0);
    let holder = &line["holders"][0];
    assert_eq!(holder["program"], json!("another program"), "{line}");
    assert_eq!((&holder["pid"], &holder["since"]), (&Value::Null, &Value::Null), "{line}");
    assert!(holder["expires_in_ms"].as_u64().unwrap() <= 60_000);
    drop(waiter);
}

fn kinds_that_it_lacks_are_78() {
    let server = Server::start();
    let place = place(&server);
    for args in [&["-s", "x"][..], &["-x", "x"], &["--permits", "1", "--of", "2", "x"]] {
        let output = place.output(&[&["run", "-n"], args, &["--", "true"]].concat());
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(78) && said.contains("Use one that has"), "{args:?}: {said}");
    }
    // What is made of mutexes is there.
    assert_eq!(place.code(&["run", "-n", "a", "b", "--", "true"]), Some(0));
    assert_eq!(place.code(&["elect", "-n", "x", "--", "true"]), Some(0));
    assert_eq!(place.code(&["once", "--slot", "a", "job", "--", "sh", "-c", "exit 3"]), Some(3));
    assert_eq!(place.code(&["once", "--slot", "a", "job", "--", "sh", "-c", "exit 3"]), Some(0));
    let handle = text(&place.output(&["acquire", "x"]).stdout);
    assert_eq!(server.cli(&["SET", "job:x", "theirs", "NX", "PX", "60000"]), "");
    assert_eq!(place.code(&["renew", handle.trim()]), Some(0));
    assert_eq!(place.code(&["release", handle.trim()]), Some(0));
    assert_eq!(server.cli(&["SET", "job:x", "theirs", "NX", "PX", "60000"]), "OK");
}
