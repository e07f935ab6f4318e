//! `ls`, `show`, `watch`, `break`: what they print, and that looking changes nothing.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Place, text};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_fields_of_a_lock_are_the_contracts() {
    let place = Place::new();
    let _holder = place.hold("orders/42");
    let _waiter = place.run(&["--reason", "next", "orders/42", "--", "true"]);
    let line = place.until_waiting("orders/42", 1);
    assert_eq!(keys(&line), ["capacity", "holders", "kind", "lock", "token", "waiting"]);
    assert_eq!(
        (&line["lock"], &line["kind"], &line["capacity"]),
        (&json!("orders/42"), &json!("mutex"), &json!(1))
    );
    let holder = &line["holders"][0];
    let common = ["claim", "host", "pid", "program", "reason", "since", "user", "weight"];
    let with = |more: &[&'static str]| {
        let mut all = [&common[..], more].concat();
        all.sort_unstable();
        all
    };
    assert_eq!(keys(holder), with(&["expires_in_ms", "token"]));
    assert_eq!(holder["token"], line["token"]);
    assert!(holder["expires_in_ms"].as_u64().unwrap() <= 30_000);
    let since = holder["since"].as_str().unwrap();
    assert!(since.len() == 24 && since.ends_with('Z') && &since[10..11] == "T", "{since}");
    let waiter = &line["waiting"][0];
    assert_eq!(keys(waiter), with(&["place"]));
    assert_eq!((&waiter["place"], &waiter["reason"]), (&json!(1), &json!("next")));
    assert_eq!(place.json(&["ls"])[0]["lock"], line["lock"]);
}

#[test]
fn a_free_lock_is_free() {
    let place = Place::new();
    let free = place.output(&["show", "x"]);
    assert_eq!((free.status.code(), text(&free.stdout).as_str()), (Some(0), "free\n"));
    let line = place.json(&["show", "x"]).remove(0);
    assert_eq!((&line["lock"], &line["holders"], &line["waiting"]), (&json!("x"), &json!([]), &json!([])));
    assert_eq!(place.code(&["break", "--yes", "x"]), Some(75));
    assert_eq!(place.json(&["ls"]), Vec::<Value>::new());
    let ls = place.output(&["ls"]);
    assert_eq!((ls.status.code(), text(&ls.stdout).as_str()), (Some(0), ""));
}

#[test]
fn a_prefix_matches_whole_levels() {
    let place = Place::new();
    let _held = ["orders/42", "orders/43", "orders2/1", "orders"].map(|name| place.hold(name));
    let names = |prefix: &str| -> Vec<String> {
        let args: &[&str] = if prefix.is_empty() { &["ls"] } else { &["ls", prefix] };
        place.json(args).iter().map(|l| l["lock"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(""), ["orders", "orders/42", "orders/43", "orders2/1"]);
    let below = names("orders");
    assert!(below.contains(&"orders/42".into()) && !below.contains(&"orders2/1".into()), "{below:?}");
    assert_eq!(names("orders/42"), ["orders/42"]);
    assert_eq!(names("order"), Vec::<String>::new());
    // Namespaces do not see each other.
    assert_eq!(place.json(&["--namespace", "other", "ls"]), Vec::<Value>::new());
}

#[test]
fn tables_are_for_people() {
    let place = Place::new();
    let _holder = place.run(&["--reason", "\x1b[31mred\u{202e}", "x", "--", "sleep", "1000"]);
    place.until_held("x");
    let table = text(&place.output(&["ls"]).stdout);
    let mut rows = table.lines();
    assert!(rows.next().unwrap().starts_with("LOCK"));
    let row = rows.next().unwrap();
    assert!(row.starts_with("x ") && row.contains("sleep") && row.contains("mutex"), "{row}");
    for text in
        [table, text(&place.output(&["show", "x"]).stdout), text(&place.output(&["ls", "--json"]).stdout)]
    {
        assert!(!text.contains(['\x1b', '\u{202e}']), "{text:?}");
        assert!(text.contains("red"), "{text}");
    }
}

#[test]
fn break_takes_only_what_it_was_told_to() {
    let place = Place::new();
    let running = place.run(&["--ttl", "1h", "x", "--", "sleep", "1000"]);
    let token = place.until_held("x")["token"].as_i64().unwrap();
    assert_eq!(place.code(&["break", "x"]), Some(64), "nobody was asked");
    assert_eq!(place.code(&["break", "--yes", "--token", &(token + 1).to_string(), "x"]), Some(75));
    assert_eq!(place.code(&["run", "-n", "x", "--", "true"]), Some(75), "it was broken all the same");
    let long = "w".repeat(257);
    assert_eq!(place.code(&["break", "--yes", "--reason", &long, "x"]), Some(64));
    let done = place.json(&["break", "--yes", "--token", &token.to_string(), "x"]).remove(0);
    assert_eq!(done, json!({"lock": "x", "broken": true, "token": token}));
    assert_eq!(running.wait().0, Some(80));
    let output = place.output(&["run", "x", "--", "sh", "-c", "echo $TENURE_TOKEN"]);
    assert!(text(&output.stdout).trim().parse::<i64>().unwrap() > token);
}

#[test]
fn the_reason_of_a_break_is_kept_while_the_line_lives() {
    let place = Place::new();
    let _holder = place.run(&["x", "--", "sleep", "1000"]);
    place.until_held("x");
    let next = place.run(&["x", "--", "sleep", "1000"]);
    place.until_waiting("x", 1);
    assert_eq!(place.code(&["break", "--yes", "--reason", "stuck", "x"]), Some(0));
    let line = crate::support::until("the next holds", || {
        let line = place.json(&["show", "x"]).remove(0);
        (line["holders"].as_array()?.len() == 1 && line["waiting"].as_array()?.is_empty()).then_some(line)
    });
    let why = line["broken"]["why"].as_str().unwrap();
    assert!(why.ends_with(": stuck") && why.contains('@'), "{line}");
    assert!(text(&place.output(&["show", "x"]).stdout).contains("stuck"));
    drop(next);
}

#[test]
fn looking_changes_nothing() {
    let place = Place::new();
    let holder = place.hold("x");
    let _waiter = place.run(&["x", "--", "true"]);
    let gist = |mut line: Value| {
        line["holders"][0]["expires_in_ms"] = Value::Null;
        line
    };
    let before = gist(place.until_waiting("x", 1));
    for args in [&["ls"][..], &["ls", "--json"], &["show", "x"], &["show", "y"]] {
        assert_eq!(place.code(args), Some(0));
    }
    assert_eq!(gist(place.json(&["show", "x"]).remove(0)), before);
    assert_eq!(place.json(&["ls"]).len(), 1, "looking at y left something");
    drop(holder);
}

#[test]
fn watch_streams_what_changes() {
    let place = Place::new();
    let first = place.hold("x");
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
    assert_eq!((&seen["holders"], &seen["waiting"]), (&json!([]), &json!([])));
    watch.kill().unwrap();
    watch.wait().unwrap();
    drop(first);
}
