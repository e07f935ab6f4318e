//! `ls`, `show`, `watch`: what they print, and that looking changes nothing.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::Trials;
use crate::server::Server;
use crate::support::{Place, text, until};

pub(crate) const TRIALS: Trials = &[
    ("looking::the_fields_are_the_contracts", the_fields_are_the_contracts),
    ("looking::changes_nothing", changes_nothing),
    ("looking::a_prefix_and_a_namespace", a_prefix_and_a_namespace),
    ("looking::watch_streams_what_changes", watch_streams_what_changes),
    ("looking::tasks_behind_a_claim_are_told_of", tasks_behind_a_claim_are_told_of),
];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn the_fields_are_the_contracts() {
    let server = Server::start();
    let place = Place::at(server.url());
    let holder = place.hold("orders/42");
    let _waiter = place.run(&["--reason", "next", "orders/42", "--", "true"]);
    let line = place.until_waiting("orders/42", 1);
    assert_eq!(keys(&line), ["capacity", "holders", "kind", "lock", "token", "waiting"]);
    let one = &line["holders"][0];
    let common =
        ["claim", "expires_in_ms", "host", "pid", "program", "reason", "since", "token", "user", "weight"];
    assert_eq!(keys(one), common);
    assert_eq!(
        (&one["token"], &one["program"], &line["kind"]),
        (&line["token"], &json!("sleep"), &json!("mutex"))
    );
    assert!(one["expires_in_ms"].as_u64().unwrap() <= 30_000);
    let waiter = &line["waiting"][0];
    assert_eq!((&waiter["place"], &waiter["reason"]), (&json!(1), &json!("next")));
    assert_eq!(place.json(&["ls"])[0]["holders"][0]["claim"], one["claim"]);
    let table = text(&place.output(&["ls"]).stdout);
    assert!(table.lines().nth(1).unwrap().starts_with("orders/42"), "{table}");
    drop(holder);
}

/// The server itself is the witness: what it stores is the same before and after.
fn changes_nothing() {
    let server = Server::start();
    let place = Place::at(server.url());
    let _holder = place.run(&["--ttl", "1h", "x", "--", "sleep", "1000"]);
    place.until_held("x");
    let _second = place.run(&["--ttl", "1h", "y/z", "--", "sleep", "1000"]);
    place.until_held("y/z");
    let dump = || -> Vec<(String, String)> {
        let value = |key: String| (server.cli(&["DUMP", &key]), key);
        server.keys().into_iter().map(value).collect()
    };
    let before = dump();
    assert!(!before.is_empty());
    for args in
        [&["ls"][..], &["ls", "--json"], &["ls", "y"], &["show", "x"], &["show", "nobody"], &["ls", "nobody"]]
    {
        assert_eq!(place.code(args), Some(0));
    }
    assert_eq!(dump(), before);
}

fn a_prefix_and_a_namespace() {
    let server = Server::start();
    let place = Place::at(server.url());
    let _held = ["orders/42", "orders2/1", "o{*}?/[x]"].map(|name| place.hold(name));
    let names = |args: &[&str]| -> Vec<String> {
        place.json(args).iter().map(|l| l["lock"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&["ls"]), ["orders/42", "orders2/1", "o{*}?/[x]"]);
    assert_eq!(names(&["ls", "orders"]), ["orders/42"]);
    assert_eq!(names(&["ls", "o{*}?"]), ["o{*}?/[x]"]);
    assert!(names(&["ls", "o*"]).is_empty());
    assert!(names(&["--namespace", "other", "ls"]).is_empty());
    assert!(place.output(&["--namespace", "other", "run", "-n", "orders/42", "--", "true"]).status.success());
}

fn watch_streams_what_changes() {
    let server = Server::start();
    let place = Place::at(server.url());
    let _first = place.hold("x");
    let mut watch = place.tenure(&["watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut events = BufReader::new(watch.stdout.take().unwrap())
        .lines()
        .map(|line| -> Value { serde_json::from_str(&line.unwrap()).unwrap() });
    let present = events.next().unwrap();
    assert_eq!((&present["event"], &present["lock"]), (&json!("present"), &json!("x")));
    let second = place.hold("y");
    let mut seen = events.by_ref().find(|e| e["lock"] == "y").unwrap();
    assert_eq!(seen["event"], json!("changed"));
    drop(second);
    while seen["event"] != "free" {
        seen = events.by_ref().find(|e| e["lock"] == "y").unwrap();
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
}

/// One program with five tasks that want the lock: one has a claim of its own, one another, and three are behind that.
fn tasks_behind_a_claim_are_told_of() {
    let server = Server::start();
    let place = Place::at(server.url());
    let holder = place.hold("x");
    let lock = tenure::Locks::builder(&server.url()).blocking_connect().unwrap().mutex("x").unwrap();
    let mut tasks = Vec::new();
    for task in 0..5 {
        let lock = lock.clone();
        tasks.push(std::thread::spawn(move || lock.blocking_lock().unwrap().blocking_release()));
        if task == 0 {
            place.until_waiting("x", 1);
        }
    }
    let line = until("three are behind the second claim", || {
        let line = place.json(&["show", "x"]).remove(0);
        (line["waiting"][1]["behind"] == 3).then_some(line)
    });
    assert_eq!(line["waiting"].as_array().unwrap().len(), 2, "{line}");
    assert!(!keys(&line["waiting"][0]).contains(&"behind"), "{line}");
    let said = text(&place.output(&["show", "x"]).stdout);
    assert!(said.contains(", 3 more tasks of it wait behind\n"), "{said}");
    let table = text(&place.output(&["ls"]).stdout);
    assert!(table.lines().nth(1).unwrap().split_whitespace().any(|word| word == "5"), "{table}");
    drop(holder);
    for task in tasks {
        task.join().unwrap().unwrap();
    }
}
