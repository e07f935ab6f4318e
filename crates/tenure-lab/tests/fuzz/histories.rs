//! Histories: read, judged, shown as a page, and written again.

use tenure::fuzz::{Target, outcome};
use tenure_lab::history::History;
use tenure_lab::judge::{Status, judge};

const WHOLE: &str = r#"{"history":1,"backend":"redis","url":"redis://x","seed":7,"ttl_ms":400,"locks":2,"processes":2,"tasks":4,"capabilities":{"order":"fifo","token":"hybrid"},"version":"0.1.0","fair":true}
{"t":123,"p":3,"c":"3.1","op":"acquire","phase":"invoke","lock":"hot","kind":"mutex","weight":1,"capacity":1,"claim":"a81f09c2d5e6b374"}
{"t":130,"p":3,"c":"3.1","op":"queued","phase":"ok","lock":"hot","claim":"a81f09c2d5e6b374"}
{"t":140,"p":3,"c":"3.1","op":"acquire","phase":"ok","lock":"hot","claim":"a81f09c2d5e6b374","token":1795168537675201,"deadline":400000100}
{"t":150,"p":3,"c":"3.1","op":"enter","phase":"ok","lock":"hot","claim":"a81f09c2d5e6b374","token":1795168537675201,"resource":"r0","value":0,"fenced":true}
{"t":160,"p":3,"c":"3.1","op":"write","phase":"ok","lock":"hot","claim":"a81f09c2d5e6b374","token":1795168537675201,"resource":"r0","value":1,"fenced":true}
{"t":165,"p":3,"c":"3.1","op":"renew","phase":"ok","claim":"a81f09c2d5e6b374","deadline":400000150}
{"t":170,"p":3,"c":"3.1","op":"check","phase":"ok","claim":"a81f09c2d5e6b374"}
{"t":190,"p":3,"c":"3.1","op":"release","phase":"invoke","claim":"a81f09c2d5e6b374"}
{"t":195,"p":3,"c":"3.1","op":"release","phase":"ok","claim":"a81f09c2d5e6b374"}
{"t":196,"p":4,"c":"4.1","op":"acquire","phase":"invoke","lock":"permits","kind":"semaphore","weight":2,"capacity":3,"claim":"b81f09c2d5e6b374"}
{"t":197,"p":4,"c":"4.1","op":"acquire","phase":"ok","lock":"permits","claim":"b81f09c2d5e6b374","deadline":400000190}
{"t":198,"p":4,"c":"4.1","op":"lost","phase":"ok","claim":"b81f09c2d5e6b374"}
{"t":200,"p":0,"op":"fault","phase":"begin","fault":"restart_empty","id":12,"target":"server","breaks":["S1"],"detail":"SIGKILL, data removed"}
{"t":205,"p":0,"op":"fault","phase":"end","fault":"restart_empty","id":12,"target":"server","breaks":["S1"]}
{"t":209,"p":0,"op":"final","phase":"ok","resource":"r0","value":1,"fenced":true}
{"t":210,"p":0,"op":"residue","phase":"ok","detail":{"keys":0,"waiters":0,"connections":0}}
"#;

pub(crate) const HISTORIES: Target = Target {
    name: "histories",
    asserts: "every history that is read can be judged, rule by rule, and is read again as the same when it is written",
    seeds: || {
        let lines: Vec<&str> = WHOLE.lines().collect();
        let short = |lines: &[&str]| lines.join("\n").into_bytes();
        vec![WHOLE.as_bytes().to_vec(), short(&lines[..10]), short(&[&lines[..1], &lines[10..13]].concat())]
    },
    run: |input| {
        let history = match History::parse(input) {
            Ok(history) => history,
            Err(error) => return outcome((error.line.min(20), error.what.split(' ').next().map(str::len))),
        };
        let mut written = serde_json::to_vec(&history.header).expect("a header");
        for event in &history.events {
            written.push(b'\n');
            serde_json::to_writer(&mut written, event).expect("an event");
        }
        assert_eq!(History::parse(written.as_slice()).expect("read again"), history);
        let verdicts = judge(&history);
        let broken: Vec<_> = verdicts.iter().map(|verdict| verdict.status == Status::Broken).collect();
        let judged: Vec<_> = verdicts.iter().map(|verdict| verdict.status == Status::NotJudged).collect();
        assert!(verdicts.iter().all(|verdict| !verdict.text.is_empty()));
        outcome((broken, judged, history.events.len().min(32)))
    },
};
