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

#[test]
fn sides_of_a_read_write_lock_are_named_and_nothing_else() {
    let place = Place::new();
    let _readers = [(); 2].map(|()| place.run(&["-s", "config", "--", "sleep", "1000"]));
    crate::support::until("both read", || {
        (place.json(&["show", "config"])[0]["holders"].as_array()?.len() == 2).then_some(())
    });
    let _writer = place.run(&["-x", "config", "--", "sleep", "1000"]);
    place.until_waiting("config", 1);
    let _permits = place.run(&["--permits", "2", "--of", "3", "render", "--", "sleep", "1000"]);
    place.until_held("render");
    let watch = place.tenure(&["watch", "--json", "config"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut watch = crate::support::Guarded(watch);
    let mut event = String::new();
    BufReader::new(watch.0.stdout.take().unwrap()).read_line(&mut event).unwrap();
    for line in [
        place.json(&["show", "config"]).remove(0),
        place.json(&["ls", "config"]).remove(0),
        serde_json::from_str(&event).unwrap(),
    ] {
        assert_eq!(
            (&line["holders"][0]["mode"], &line["holders"][1]["mode"]),
            (&json!("read"), &json!("read"))
        );
        assert_eq!(line["waiting"][0]["mode"], json!("write"));
        let text = line.to_string();
        assert!(!["capacity", "weight", "4294967295"].iter().any(|word| text.contains(word)), "{text}");
    }
    let line = place.json(&["ls", "render"]).remove(0);
    assert_eq!((&line["capacity"], &line["holders"][0]["weight"]), (&json!(3), &json!(2)));
    assert!(!keys(&line["holders"][0]).contains(&"mode"));
    let table = text(&place.output(&["ls"]).stdout);
    assert!(table.matches("rwlock read ").count() == 2 && table.contains("semaphore 2/3"), "{table}");
}

#[test]
fn all_namespaces_are_listed_on_request() {
    let place = Place::new();
    let _held = ["shop", "blog", "default"].map(|namespace| {
        let running = place.run(&["--namespace", namespace, "orders/1", "--", "sleep", "1000"]);
        crate::support::until("it is held", || {
            let line = place.json(&["--namespace", namespace, "show", "orders/1"]).remove(0);
            (!line["holders"].as_array()?.is_empty()).then_some(())
        });
        running
    });
    let _other = place.hold("orders2");
    let all = |args: &[&str]| -> Vec<String> {
        let of = |l: &Value| format!("{}/{}", l["namespace"].as_str().unwrap(), l["lock"].as_str().unwrap());
        place.json(&[&["ls"], args].concat()).iter().map(of).collect()
    };
    let orders = ["blog/orders/1", "default/orders/1", "shop/orders/1"];
    assert_eq!(all(&["-A"]), [&orders[..2], &["default/orders2"], &orders[2..]].concat());
    assert_eq!(all(&["--all-namespaces", "orders"]), orders);
    assert_eq!(all(&["-A", "orders/1"]), orders);
    assert_eq!(all(&["-A", "shop"]), Vec::<String>::new());
    assert!(!keys(&place.json(&["ls"])[0]).contains(&"namespace"));
    let table = text(&place.output(&["ls", "-A"]).stdout);
    assert!(table.starts_with("NAMESPACE") && table.contains("\nshop "), "{table}");
    assert_eq!(place.code(&["--namespace", "shop", "ls", "-A"]), Some(64));
}

#[test]
fn an_empty_list_says_where_it_looked() {
    let place = Place::new();
    for (args, said) in [
        (&["--namespace", "shop", "ls"][..], "no lock is held or waited for in namespace shop of host:///"),
        (&["ls", "orders"], "no lock below orders is held or waited for in namespace default of host:///"),
        (&["ls", "-A"], "no lock is held or waited for in any namespace of host:///"),
    ] {
        let output = place.output(args);
        assert!(text(&output.stderr).starts_with(&format!("tenure: {said}")), "{}", text(&output.stderr));
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), String::new()));
    }
    assert_eq!(
        text(&place.output(&["-q", "ls"]).stderr) + &text(&place.output(&["--json", "ls"]).stderr),
        ""
    );
}

/// bash asks for names where a name stands, and nowhere else.
#[test]
fn bash_completes_names_of_locks() {
    let place = Place::new();
    let _held = ["orders/42", "orders/it's", "billing"].map(|name| place.hold(name));
    let complete = |words: &[&str]| -> Vec<String> {
        let quoted: Vec<String> = words.iter().map(|w| format!("'{w}'")).collect();
        let last = words.len() - 1;
        let script = format!(
            "source <(tenure completions bash); COMP_WORDS=({}); COMP_CWORD={last}; \
             _tenure_and_locks tenure \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{last}-1]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            quoted.join(" ")
        );
        let own = std::path::Path::new(crate::support::TENURE).parent().unwrap().display().to_string();
        let mut bash = std::process::Command::new("bash");
        bash.args(["--norc", "-c", &script]).env("TENURE_URL", place.url());
        bash.env("PATH", format!("{own}:{}", std::env::var("PATH").unwrap_or_default()));
        let output = bash.output().unwrap();
        assert_eq!(text(&output.stderr), "");
        text(&output.stdout).lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(complete(&["tenure", "show", ""]), ["billing", "orders/42", "orders/it\\'s"]);
    assert_eq!(complete(&["tenure", "run", "--wait", "1s", "ord"]), ["orders/42", "orders/it\\'s"]);
    assert_eq!(complete(&["tenure", "break", "b"]), ["billing"]);
    assert_eq!(complete(&["tenure", "--namespace", "other", "show", ""]), Vec::<String>::new());
    assert!(complete(&["tenure", "sh"]).contains(&"show".to_owned()));
    assert!(complete(&["tenure", "show", "--j"]).contains(&"--json".to_owned()));
    let behind = complete(&["tenure", "run", "x", "--", "b"]);
    assert!(!behind.contains(&"billing".to_owned()), "{behind:?}");
}
