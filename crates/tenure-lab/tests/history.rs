//! The format of histories: written, merged, read, and held to its public schema.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tenure_lab::history::{
    Claim, Event, Fault, Floors, Header, History, Kind, Merge, Merged, Name, Op, Phase, Recorder, SHAPES,
    Writer,
};

fn header() -> Header {
    Header {
        history: 1,
        backend: "memory".into(),
        url: "memory:".into(),
        seed: 7,
        ttl_ms: 400,
        locks: 5,
        processes: 8,
        tasks: 4,
        capabilities: json!({ "order": "fifo" }),
        version: "0.1.0".into(),
        fair: true,
        floors: Some(Floors { acquisitions: 10, windows: 1 }),
        events: Some(10),
        replay: Some("tenure lab chaos --seed 7".into()),
        versions: None,
    }
}

/// An event with everything that its operation and phase may have.
fn sample(op: Op, phase: Phase) -> Event {
    let event = Event::new(1_000, 3, op, phase);
    let fault = Fault {
        name: "pause".into(),
        id: 12,
        target: "client 3".into(),
        breaks: vec!["L3".into(), "S10".into()],
    };
    let of = |event: Event| event.client("3.1").lock("hot").claim(Claim(0xa81f_09c2_d5e6_b374));
    match op {
        Op::Acquire if phase == Phase::Invoke => of(event).kind(Kind::Semaphore, 2, 5),
        Op::Acquire | Op::Check | Op::Renew => of(event).token(1_795_168_537_675_201).deadline(540),
        Op::Queued | Op::Cancel | Op::Lost | Op::Release => of(event),
        Op::Enter | Op::Write => of(event).token(9).resource("r0", true).value(17),
        Op::Fault => event.fault(fault).detail("SIGSTOP"),
        Op::Final => event.resource("r0", false).value(400),
        Op::Residue => event.detail(json!({ "keys": 0, "waiters": 0, "connections": 0 })),
    }
}

fn samples() -> impl Iterator<Item = (Event, &'static [&'static str])> {
    SHAPES.iter().flat_map(|(op, phases, fields)| phases.iter().map(|phase| (sample(*op, *phase), *fields)))
}

fn schema() -> jsonschema::Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/wire/history.schema.json");
    let text = fs::read_to_string(path).expect("the schema is there");
    jsonschema::validator_for(&serde_json::from_str(&text).expect("JSON")).expect("a schema")
}

#[test]
fn every_kind_of_event_is_as_the_schema_says() {
    let schema = schema();
    let mut ops = BTreeSet::new();
    for (event, fields) in samples() {
        let value = serde_json::to_value(&event).expect("JSON");
        assert!(schema.is_valid(&value), "{value}: {:?}", schema.validate(&value));
        assert_eq!(serde_json::from_value::<Event>(value.clone()).expect("read back"), event);
        // What it must have, it must have for both.
        for field in fields.iter().chain(&["t", "p", "op", "phase"]) {
            let mut without = value.clone();
            without.as_object_mut().expect("an object").remove(*field).expect("a field of the sample");
            assert!(!schema.is_valid(&without), "the schema lets pass, without {field}: {without}");
            assert!(
                serde_json::from_value::<Event>(without).is_err(),
                "the reader lets pass, without {field}: {value}"
            );
        }
        ops.insert(event.op);
    }
    assert_eq!(ops.len(), 12, "every operation has a sample");
    let header = serde_json::to_value(header()).expect("JSON");
    assert!(schema.is_valid(&header), "{:?}", schema.validate(&header));
}

#[test]
fn what_no_operation_has_is_refused_by_reader_and_schema() {
    let schema = schema();
    let good = serde_json::to_value(sample(Op::Acquire, Phase::Ok)).expect("JSON");
    for (field, wrong) in [
        ("phase", json!("gone")),
        ("op", json!("steal")),
        ("claim", json!("a81f")),
        ("claim", json!("A81F09C2D5E6B374")),
        ("token", json!(0)),
        ("token", json!(-4)),
        ("t", json!("now")),
        ("t", json!(-1)),
    ] {
        let mut bad = good.clone();
        bad[field] = wrong;
        assert!(!schema.is_valid(&bad), "the schema lets pass {bad}");
        assert!(serde_json::from_value::<Event>(bad.clone()).is_err(), "the reader lets pass {bad}");
    }
}

#[test]
fn the_lines_of_the_format_description_are_read() {
    let text = r#"{"history":1,"backend":"redis","url":"redis://x","seed":7,"ttl_ms":400,"locks":5,"processes":8,"tasks":4,"capabilities":{},"version":"0.1.0"}
{"t":123,"p":3,"c":"3.1","op":"acquire","phase":"invoke","lock":"hot","kind":"mutex","weight":1,"capacity":1,"claim":"a81f09c2d5e6b374"}
{"t":140,"p":3,"c":"3.1","op":"acquire","phase":"ok","lock":"hot","claim":"a81f09c2d5e6b374","token":1795168537675201,"deadline":540}
{"t":150,"p":3,"c":"3.1","op":"enter","phase":"ok","lock":"hot","claim":"a81f09c2d5e6b374","token":1795168537675201,"resource":"r0","value":16}
{"t":160,"p":3,"c":"3.1","op":"write","phase":"ok","lock":"hot","claim":"a81f09c2d5e6b374","token":1795168537675201,"resource":"r0","value":17,"fenced":true}
{"t":165,"p":3,"c":"3.1","op":"renew","phase":"ok","claim":"a81f09c2d5e6b374","deadline":940}
{"t":170,"p":3,"c":"3.1","op":"check","phase":"ok","claim":"a81f09c2d5e6b374"}
{"t":190,"p":3,"c":"3.1","op":"release","phase":"invoke","claim":"a81f09c2d5e6b374"}
{"t":200,"p":0,"op":"fault","phase":"begin","fault":"restart_empty","id":12,"target":"server","breaks":["S1"],"detail":"SIGKILL, data removed"}
{"t":210,"p":0,"op":"residue","phase":"ok","detail":{"keys":0,"waiters":0,"connections":0}}
"#;
    let history = History::parse(text.as_bytes()).expect("a history");
    assert_eq!((history.events.len(), history.header.ttl_ns()), (9, 400_000_000));
    let schema = schema();
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).expect("JSON");
        assert!(schema.is_valid(&value), "{line}: {:?}", schema.validate(&value));
    }
}

#[test]
fn a_wrong_line_is_named_by_its_number() {
    let first = serde_json::to_string(&header()).expect("JSON");
    let refused = |text: &str| History::parse(text.as_bytes()).expect_err("refused").to_string();
    for (text, part) in [
        ("", "empty"),
        ("{\"t\":1}\n", "no header"),
        ("{\"history\":2,\"ttl_ms\":4}\n", "version 2"),
        ("{\"history\":1}\n", "ttl_ms"),
        ("hello\n", "line 1"),
        (
            &format!("{first}\n\n{{\"t\":1,\"p\":0,\"op\":\"lost\",\"phase\":\"ok\"}}\n"),
            "line 3: lost ok without c",
        ),
        (&format!("{first}\n{{\"t\":1,\"p\":0,\"op\":\"acq"), "line 2"),
    ] {
        assert!(refused(text).contains(part), "{text:?}: {}", refused(text));
    }
}

#[test]
fn parts_are_merged_by_time_and_the_dead_believe_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let [one, two, out] = ["1.jsonl", "2.jsonl", "history.jsonl"].map(|name| dir.path().join(name));
    let (a, b, c) = (Claim::numbered(1, 0), Claim::numbered(2, 0), Claim::numbered(2, 1));
    let granted = |t, p, claim| Event::new(t, p, Op::Acquire, Phase::Ok).client("x").lock("hot").claim(claim);
    let fault = |t, phase, id| {
        let (name, target) = (Name::new("pause"), Name::new("client 2"));
        Event::new(t, 2, Op::Fault, phase).fault(Fault { name, id, target, breaks: Vec::new() })
    };
    let writer = Writer::create(&one).expect("a file");
    for event in [
        granted(50, 1, a),
        Event::new(20, 1, Op::Acquire, Phase::Invoke)
            .client("x")
            .lock("hot")
            .kind(Kind::Mutex, 1, 1)
            .claim(a),
    ] {
        writer.put(&event).expect("written");
    }
    let writer = Writer::create(&two).expect("a file");
    for event in [
        granted(30, 2, b),
        fault(32, Phase::Begin, 1),
        fault(34, Phase::End, 1),
        fault(36, Phase::Begin, 2),
        Event::new(40, 2, Op::Release, Phase::Invoke).client("x").claim(b),
        granted(60, 2, c),
    ] {
        writer.put(&event).expect("written");
    }
    let torn =
        [fs::read(&two).expect("the part"), b"{\"t\":70,\"p\":2,\"c\":\"x\",\"op\":\"rel".to_vec()].concat();
    fs::write(&two, torn).expect("written");

    let merged = Merge::new().part(&one).died(&two, 55).write(&header(), &out).expect("merged");
    assert_eq!(merged, Merged { events: 10, torn: 1, ended: 1 });
    let history = History::read(&out).expect("a history");
    assert_eq!(history.header, header());
    let seen: Vec<_> = history.events.iter().map(|e| (e.t, e.op, e.phase)).collect();
    let expected = [
        (20, Op::Acquire, Phase::Invoke),
        (30, Op::Acquire, Phase::Ok),
        (32, Op::Fault, Phase::Begin),
        (34, Op::Fault, Phase::End),
        (36, Op::Fault, Phase::Begin),
        (40, Op::Release, Phase::Invoke),
        (50, Op::Acquire, Phase::Ok),
        (60, Op::Acquire, Phase::Ok),
        (60, Op::Lost, Phase::Ok), // not at 55: it lived until 60 at least
        (60, Op::Fault, Phase::End),
    ];
    assert_eq!(seen, expected);
    assert_eq!(history.events[8].claim, Some(c));
    assert_eq!(history.events[9].fault.as_ref().map(|fault| fault.id), Some(2));
}

#[test]
fn what_lacks_something_is_not_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("part.jsonl");
    let rec = Recorder::new(Arc::new(Writer::create(&path).expect("a file")), 1, "1.0");
    let error = rec.put(&rec.now(Op::Lost, Phase::Ok)).expect_err("refused");
    assert!(error.to_string().contains("lost ok without claim"), "{error}");
    assert_eq!(fs::read(&path).expect("the part"), b"");
    assert!(Writer::create(&path).is_err(), "a part is never overwritten");
}

#[test]
fn many_tasks_write_whole_lines_and_claims_are_unique() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("part.jsonl");
    let writer = Arc::new(Writer::whole(&path, &header()).expect("a file"));
    std::thread::scope(|scope| {
        for task in 0..4u64 {
            let rec = Recorder::new(Arc::clone(&writer), 1, format!("1.{task}").as_str());
            scope.spawn(move || {
                for n in 0..500 {
                    rec.put(&rec.now(Op::Lost, Phase::Ok).claim(Claim::numbered(1, task * 500 + n)))
                        .expect("written");
                }
            });
        }
    });
    let history = History::read(&path).expect("whole lines");
    let claims: BTreeSet<_> = history.events.iter().filter_map(|e| e.claim).collect();
    assert_eq!((history.events.len(), claims.len()), (2000, 2000));
    assert!(history.events.is_sorted_by_key(|e| e.t));
}
