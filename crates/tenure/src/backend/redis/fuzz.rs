//! Targets for fuzzing: what a server says, and what lies in it.

use std::time::Duration;

use super::format::{Record, plain_seen, read_note};
use super::resp::{Parsed, Value, parse};
use super::{answer, digits, names};
use crate::backend::{Anchor, Claim, ClaimId, Cohort, Kind, Owner};
use crate::fuzz::{Target, outcome, texts};
use crate::key::Key;

pub(crate) const FUZZ: [Target; 5] = [RESP, ANSWERS, NEWS, RECORDS, NAMES];

const ID: &str = "000000000000000000000000000000ff";

const RESP: Target = Target {
    name: "RESP",
    asserts: "a frame takes at most what is there, and is the same with more behind it; each part of it asks for more, and \
              for no more than the frame; a value that is written is read as the same value",
    seeds: || {
        let wires = [
            "+OK\r\n",
            "-ERR no\r\n",
            ":-42\r\n",
            "$5\r\na\r\nbc\r\n",
            "$-1\r\n*-1\r\n_\r\n#t\r\n#f\r\n",
            ",1.5\r\n(123456789012345678901234567890\r\n=8\r\ntxt:role\r\n!5\r\nERR x\r\n",
            "*2\r\n:1\r\n*1\r\n$1\r\na\r\n",
            "%2\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n",
            "~1\r\n:1\r\n|1\r\n+ttl\r\n:1\r\n:2\r\n",
            ">3\r\n+message\r\n+tenure:client:0123456789abcdef\r\n$5\r\nhello\r\n",
        ];
        texts(&wires)
    },
    run: |input| {
        let (mut rest, mut shape) = (input, 0);
        for _ in 0..64 {
            match parse(rest) {
                Ok(Parsed::Whole(value, length)) => {
                    assert!(length > 0 && length <= rest.len());
                    parts(&rest[..length], &value);
                    shape = outcome((shape, kind(&value), value.number().is_some(), value.text().is_some()));
                    rest = &rest[length..];
                }
                Ok(Parsed::More(most)) => {
                    assert!(most > rest.len(), "asks for {most} of {}", rest.len());
                    return outcome((shape, "more"));
                }
                Err(garbage) => return outcome((shape, garbage.0)),
            }
        }
        shape
    },
};

fn kind(value: &Value) -> u8 {
    match value {
        Value::Nil => 0,
        Value::Int(_) => 1,
        Value::Text(_) => 2,
        Value::Error(_) => 3,
        Value::List(values) => 4 + u8::try_from(values.len().min(3)).unwrap_or(3),
        Value::Push(_) => 9,
    }
}

fn parts(frame: &[u8], value: &Value) {
    assert_eq!(parse(frame), Ok(Parsed::Whole(value.clone(), frame.len())));
    // Some cuts, the first and the last among them: all would take the square of the length.
    let step = (frame.len() / 16).max(1);
    for cut in (0..frame.len()).step_by(step).chain([frame.len() - 1]) {
        match parse(&frame[..cut]) {
            Ok(Parsed::More(most)) => assert!(most > cut && most <= frame.len(), "cut at {cut}: {most}"),
            other => panic!("cut at {cut} of {}: {other:?}", frame.len()),
        }
    }
    let mut wire = Vec::new();
    write(&mut wire, value);
    assert_eq!(parse(&wire), Ok(Parsed::Whole(value.clone(), wire.len())));
}

fn write(out: &mut Vec<u8>, value: &Value) {
    let mut list = |kind: u8, values: &[Value]| {
        super::resp::head(out, kind, values.len());
        values.iter().for_each(|value| write(out, value));
    };
    match value {
        Value::Nil => out.extend_from_slice(b"_\r\n"),
        Value::Int(n) => out.extend_from_slice(format!(":{n}\r\n").as_bytes()),
        Value::Text(bytes) => super::resp::text(out, bytes),
        Value::Error(text) => {
            super::resp::head(out, b'!', text.len());
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Value::List(values) => list(b'*', values),
        Value::Push(values) => list(b'>', values),
    }
}

fn claim() -> Option<Claim> {
    Some(Claim {
        id: ClaimId(0xff),
        key: Key::new("default", "orders/42").ok()?,
        kind: Kind::Mutex,
        weight: 1,
        capacity: 1,
        ttl: Duration::from_secs(30),
        waiting: Duration::from_secs(10),
        stand: true,
        owner: Owner { user: "ann".into(), host: "web-1".into(), pid: 7, program: "report".into() }.into(),
        reason: "".into(),
        cohort: Cohort::ALONE,
        anchor: Anchor::Process,
        birth: crate::core::moment::Moment::default(),
    })
}

const ANSWERS: Target = Target {
    name: "answers of scripts",
    asserts: "an answer is for the claim that was asked for, or it is none",
    seeds: || {
        let answers = [
            "H 1795168537675201",
            "H 1795168537675201 1795168537675300 1795168567675300",
            "W 1795168537675201 1795168547675201 3 1795168539675201",
            "B 1795168537675201",
            "G 1795168537675201",
            "E 1795168537675201 by ann: why so",
            "K 1795168537675201 2",
            "L 1795168537675201",
            "F 1795168537675201",
            "T 1795168537675201 9007199254740993",
            "V 1795168537675201 2",
            "h",
            "w",
            "g",
        ];
        let mut seeds: Vec<Vec<u8>> = Vec::new();
        for text in answers {
            let whole = format!("{ID} {text}");
            seeds.push(format!("${}\r\n{whole}\r\n", whole.len()).into_bytes());
            let words: Vec<&[u8]> = whole.split(' ').map(str::as_bytes).collect();
            seeds.push(super::resp::command(&words));
        }
        seeds
    },
    run: |input| {
        let Ok(Parsed::Whole(value, _)) = parse(input) else { return 0 };
        let Some(fields) = answer::Fields::of(&value, ID) else { return 1 };
        let claim = claim().unwrap_or_else(|| unreachable!("a good name"));
        let standing =
            answer::standing(&fields, &claim).map(|r| r.map(|a| std::mem::discriminant(&a.standing)));
        let released = answer::released(&fields).map(|r| r.is_ok());
        outcome((fields.letter().len().min(2), standing.map(|r| r.map_err(|e| e.kind() as u8)), released))
    },
};

const NEWS: Target = Target {
    name: "pushes to a client",
    asserts: "what is understood is of this version and names a claim",
    seeds: || {
        texts(&[
            &format!("1g{ID}1795168537675201179516853767530000030000000tenure:{{shop/a}}:l"),
            &format!("1x{ID}by ann: why"),
            &format!("1l{ID}"),
        ])
    },
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else { return 99 };
        let news = answer::news(text);
        if news.is_some() {
            let id = &text[2..34];
            let number = u128::from_str_radix(id, 16).unwrap_or_default();
            assert!(text.starts_with('1'));
            assert_eq!(digits::hex(number), id, "an id has one spelling");
        }
        outcome(news.as_ref().map(std::mem::discriminant))
    },
};

const RECORDS: Target = Target {
    name: "records of claims",
    asserts: "a note that is read and written again says the same",
    seeds: || {
        let record = "1100000000010000000001000300000000001000000017951685376752010000000000000000";
        let terms = format!("{record}0123456789abcdef");
        texts(&[
            &format!("{terms}ann\tweb-1\t4711\treport\tnightly\\tclose"),
            &format!("{terms}ann\tweb-1\t4711\treport\t\t12"),
            &format!("11795168537675201{ID}179516853767520100000030000ann\tweb-1\t4711\treport\twhy"),
        ])
    },
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else { return 99 };
        let record = Record::new(text);
        let seen = record.as_ref().and_then(|record| record.seen(ID, u64::MAX, 0));
        let plain = plain_seen(text, ID.as_bytes(), None, u64::MAX);
        let (owner, reason, behind) = read_note(text);
        if let Some(mut claim) = claim() {
            (claim.owner, claim.reason) = (owner.clone().into(), reason.as_str().into());
            claim.cohort.behind = behind;
            assert_eq!(read_note(&super::format::note(&claim)), (owner, reason, behind));
        }
        outcome((
            record.is_some(),
            record.and_then(|r| r.capacity()).is_some(),
            seen.is_some(),
            plain.token.is_some(),
        ))
    },
};

const NAMES: Target = Target {
    name: "names of keys",
    asserts: "a key has one lock and a lock one key",
    seeds: || {
        texts(&[
            "tenure:{default/orders/42}:l",
            "tenure:{default/a%7Bb%7D%25}:l",
            "tenure:{lock:orders}:t",
            "tenure:{lock:a%0Ab}:t",
        ])
    },
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else { return 99 };
        let lock = names::lock(text);
        if let Some(lock) = &lock {
            assert_eq!(names::head(lock), text);
        }
        let plain = names::plain_lock(text, "lock:", "default");
        if let Some(plain) = &plain {
            assert_eq!(names::plain_record(&format!("lock:{}", plain.name())), text);
        }
        outcome((lock.is_some(), plain.is_some()))
    },
};
