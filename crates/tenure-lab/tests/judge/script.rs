//! Histories as short scripts, one event a line: `time process claim op phase [field=value ...]`. Times and deadlines
//! are in µs, the ttl is 1000; a claim is a letter. The fields that a line must have and that rarely matter are filled
//! in: lock=hot, kind=mutex, resource=r, fenced=true.

use serde_json::{Map, Value, json};
use tenure_lab::history::{Claim, Event, Header, History, SHAPES};
use tenure_lab::judge::{Status, Verdict, judge};

/// The claim of a letter.
pub(crate) fn claim(letter: &str) -> Claim {
    Claim(letter.bytes().fold(0, |sum, byte| sum * 256 + u64::from(byte)))
}

pub(crate) fn header() -> Header {
    Header { history: 1, url: "memory:".into(), seed: 7, ttl_ms: 1, ..Header::default() }
}

/// Reads a script. The word `fair` on a line of its own asks for strict first come.
pub(crate) fn history(script: &str) -> History {
    let mut header = header();
    let mut events: Vec<Event> = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line == "fair" {
            header.fair = true;
        } else {
            events.push(serde_json::from_value(event(line)).unwrap_or_else(|e| panic!("{line}: {e}")));
        }
    }
    events.sort_by_key(|event| event.t);
    History { header, events }
}

fn event(line: &str) -> Value {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [t, p, letter, op, phase, fields @ ..] = words.as_slice() else { panic!("too short: {line}") };
    let us = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("no time: {line}")) * 1000;
    let mut map = Map::new();
    for (key, value) in [
        ("t", json!(us(t))),
        ("p", json!(p.parse::<u32>().expect("a process"))),
        ("op", json!(op)),
        ("phase", json!(phase)),
    ] {
        map.insert(key.into(), value);
    }
    if *letter != "-" {
        map.insert("c".into(), json!(format!("{p}.0")));
        map.insert("claim".into(), json!(claim(letter)));
    }
    for field in fields {
        let (key, value) = field.split_once('=').unwrap_or_else(|| panic!("no field: {field}"));
        let value = if key == "deadline" {
            json!(us(value))
        } else {
            serde_json::from_str(value).unwrap_or(json!(value))
        };
        map.insert(key.into(), value);
    }
    let needed =
        SHAPES.iter().find(|(o, phases, _)| o.word() == *op && phases.iter().any(|ph| ph.word() == *phase));
    for field in needed.map_or(&[][..], |(_, _, fields)| fields) {
        let usual = match *field {
            "lock" => json!("hot"),
            "kind" => json!("mutex"),
            "weight" | "capacity" | "id" => json!(1),
            "resource" => json!("r"),
            "fenced" => json!(true),
            "breaks" => json!([]),
            _ => continue,
        };
        map.entry(*field).or_insert(usual);
    }
    Value::Object(map)
}

/// What the judge says of one rule.
pub(crate) fn verdict(history: &History, rule: &str) -> Verdict {
    judge(history).into_iter().find(|verdict| verdict.rule == rule).expect("a verdict for every rule")
}

pub(crate) fn status(script: &str, rule: &str) -> Status {
    verdict(&history(script), rule).status
}
