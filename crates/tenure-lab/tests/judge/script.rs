//! Histories as short scripts, one event a line: `time process claim op phase [field=value ...]`. Times and deadlines
//! are in µs, the ttl is 1000; a claim is a letter. Fields that a line must have and that rarely matter are filled in:
//! lock=hot, kind=mutex, resource=r, fenced=true. `fair` and `header key=value ...` set the header.
//!
//! [`history`] adds the events that every history must have and that rarely matter: the invocation and the grant of a
//! claim, just before its first event, and the final value of a resource. [`bare`] adds nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use tenure_lab::history::{Claim, Event, Header, History, Kind, Name, Op, Phase, SHAPES};
use tenure_lab::judge::{Status, Verdict, judge};

/// The claim of a letter.
pub(crate) fn claim(letter: &str) -> Claim {
    Claim(letter.bytes().fold(0, |sum, byte| sum * 256 + u64::from(byte)))
}

/// The header of a store that gives neither tokens nor deadlines, so that a script need not have them.
pub(crate) fn header() -> Header {
    let capabilities = json!({ "token": "none", "hold_end": "process", "scope": "process" });
    Header { history: 1, url: "memory:".into(), seed: 7, ttl_ms: 1, capabilities, ..Header::default() }
}

/// Reads a script, and adds what every history must have.
pub(crate) fn history(script: &str) -> History {
    let mut history = bare(script);
    let mut events: Vec<Event> = Vec::new();
    let mut begun: BTreeSet<Claim> = BTreeSet::new();
    for event in &history.events {
        if let Some(claim) = event.claim.filter(|claim| begun.insert(*claim)) {
            events.extend(beginning(&history.events, event, claim));
        }
        events.push(event.clone());
    }
    let mut finals: BTreeMap<Name, Event> = BTreeMap::new();
    for event in &events {
        if let (Some(name), Some(value), Phase::Ok, true) =
            (event.resource, event.value, event.phase, event.op == Op::Write)
        {
            let end = finals.entry(name).or_insert_with(|| {
                let fenced = event.fenced.unwrap_or(true);
                Event::new(u64::MAX, 0, Op::Final, Phase::Ok).resource(name, fenced).value(value)
            });
            end.value = end.value.max(Some(value));
        }
    }
    for event in events.iter().filter(|event| event.op == Op::Final) {
        finals.remove(&event.resource.expect("a resource"));
    }
    let last = events.last().map_or(0, |event| event.t);
    events.extend(finals.into_values().map(|end| Event { t: last, ..end }));
    history.events = events;
    history
}

/// The invocation of a claim, and its grant, if the script leaves them out. `first` is its first event.
fn beginning(all: &[Event], first: &Event, claim: Claim) -> Vec<Event> {
    let has = |op: Op, phase: Phase| {
        all.iter().any(|event| event.claim == Some(claim) && event.op == op && event.phase == phase)
    };
    let mut of =
        Event { claim: Some(claim), c: first.c, ..Event::new(first.t, first.p, Op::Acquire, Phase::Invoke) };
    of.lock = first.lock.or(Some("hot".into()));
    let mut added = Vec::new();
    if !has(Op::Acquire, Phase::Invoke) {
        added.push(of.clone().kind(Kind::Mutex, 1, 1));
    }
    if !matches!(first.op, Op::Acquire | Op::Queued | Op::Cancel) {
        let token = all.iter().filter(|event| event.claim == Some(claim)).find_map(|event| event.token);
        added.push(Event { phase: Phase::Ok, ..of }.token(token));
    }
    added
}

/// Reads a script as it is.
pub(crate) fn bare(script: &str) -> History {
    let mut header = header();
    let mut events: Vec<Event> = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line == "fair" {
            header.fair = true;
        } else if let Some(fields) = line.strip_prefix("header ") {
            header = with(header, fields);
        } else {
            events.push(serde_json::from_value(event(line)).unwrap_or_else(|e| panic!("{line}: {e}")));
        }
    }
    events.sort_by_key(|event| event.t);
    History { header, events }
}

fn with(header: Header, fields: &str) -> Header {
    let mut map = serde_json::to_value(header).expect("JSON");
    for field in fields.split_whitespace() {
        let (key, value) = field.split_once('=').unwrap_or_else(|| panic!("no field: {field}"));
        map[key] = serde_json::from_str(value).unwrap_or_else(|e| panic!("{field}: {e}"));
    }
    serde_json::from_value(map).expect("a header")
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

/// The verdict on one rule.
pub(crate) fn verdict(history: &History, rule: &str) -> Verdict {
    judge(history).into_iter().find(|verdict| verdict.rule == rule).expect("a verdict for every rule")
}

pub(crate) fn status(script: &str, rule: &str) -> Status {
    verdict(&history(script), rule).status
}
