//! The examples of `docs/wire/redis.md`, byte for byte, on a real server.

use libtest_mimic::Trial;
use redis::Value;

use crate::raw::{Raw, Said};
use crate::scripts::Scripts;
use crate::server::Server;
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("golden::records", records),
        trial("golden::layout", layout),
        trial("golden::another_version_is_refused", another_version_is_refused),
    ]
}

const DOCUMENT: &str = include_str!("../../../../docs/wire/redis.md");
const HEAD: &str = "tenure:{shop/orders/42}:l";
const NOW: u64 = 4_000_000_000_000_001;

/// The fenced blocks of the document that begin with a key.
fn examples() -> Vec<String> {
    let blocks = DOCUMENT.split("```text\n").skip(1).filter_map(|rest| rest.split_once("```"));
    blocks.map(|(block, _)| block.to_owned()).filter(|b| b.starts_with("tenure:{")).collect()
}

/// All keys with what they hold, as the document shows them.
fn dump(raw: &mut Raw) -> String {
    let mut keys: Vec<String> =
        raw.ask(&["KEYS", "tenure:*"]).list().iter().map(|k| k.text().to_owned()).collect();
    keys.sort();
    let mut out = String::new();
    for key in keys {
        let kind = raw.ask(&["TYPE", &key]).text().to_owned();
        out += &format!("{key}  {kind}\n");
        let values = match kind.as_str() {
            "string" => vec![raw.ask(&["GET", &key]).text().to_owned()],
            "hash" => pairs(&raw.ask(&["HGETALL", &key])),
            _ => pairs(&raw.ask(&["ZRANGE", &key, "0", "-1", "WITHSCORES"])),
        };
        for value in values {
            out += &format!("  {}\n", value.replace('\t', "→"));
        }
    }
    out
}

fn pairs(said: &Value) -> Vec<String> {
    said.list().chunks(2).map(|pair| format!("{}  {}", pair[0].text(), pair[1].text())).collect()
}

fn id(n: u32) -> String {
    format!("{n:032x}")
}

fn records() {
    let server = Server::start();
    let mut scripts = Scripts::new(server.port);
    scripts.set_clock(NOW);
    let terms = format!("{:010}{:010}{:011}{:011}", 1, 1, 30_000_000, 10_000_000);
    let birth = format!("{NOW:016}");
    let ann = "000000000000c001ann\tweb-1\t4711\tcharge\torder 42";
    let bob = "000000000000c01bbob\tweb-2\t99\tcharge\t";
    let mut ear = Raw::new(server.port);
    ear.ask(&["SUBSCRIBE", "tenure:client:000000000000c01b"]);
    let examples = examples();
    assert_eq!(examples.len(), 4, "examples of the document");
    let how = format!("11{birth}");
    scripts.run("attempt", &[HEAD], &[&id(10), &format!("{terms}{ann}"), &how]);
    assert_eq!(examples[0], dump(&mut scripts.raw));
    scripts.run("attempt", &[HEAD], &[&id(11), &format!("{terms}{bob}"), &how]);
    scripts.run("release", &[HEAD], &[&id(12), &format!("m{birth}")]);
    assert_eq!(examples[1], dump(&mut scripts.raw));
    scripts.run("release", &[HEAD], &[&id(10), ""]);
    assert_eq!(examples[2], dump(&mut scripts.raw));
    let told = ear.hear();
    let text = told.list()[2].text();
    assert_eq!(text, format!("1g{}{}{NOW:016}{:011}r{HEAD}", id(11), NOW + 1, 10_000_000));
    let eve = "000000000000c02beve\tweb-3\t7\tship\t";
    scripts.run("transfer", &[HEAD], &[&id(11), &id(13), "1", &terms, &birth, eve, "0000000001"]);
    assert_eq!(examples[3], dump(&mut scripts.raw));
    // Everything goes by itself.
    for key in scripts.raw.ask(&["KEYS", "tenure:*"]).list() {
        assert!(scripts.raw.ask(&["PTTL", key.text()]).number() > 0, "{key:?} stays for ever");
    }
}

/// The bytes of the tables, by what a known record holds there.
fn layout() {
    let rows: Vec<(usize, &str)> = DOCUMENT
        .lines()
        .filter_map(|line| {
            let (bytes, what) = line.strip_prefix("| ")?.split_once(" | ")?;
            Some((bytes.split('-').next()?.parse().ok()?, what.trim_end_matches(" |")))
        })
        .collect();
    let examples = examples();
    let head = |example: usize| {
        let from_head = examples[example].lines().skip_while(|l| *l != format!("{HEAD}  string"));
        from_head.map(str::trim).nth(1).expect("a head")
    };
    let (short, head) = (head(0), head(1));
    let record = &head[172..];
    let field = |text: &str, from: usize, to: usize| text[from - 1..to].to_owned();
    for (from, what, found) in [
        (3, "the last token", field(head, 3, 18) == format!("{NOW:016}")),
        (19, "until when there are marks", field(head, 19, 34) == format!("{:016}", NOW + 65_000_000)),
        (83, "how many wait", field(head, 83, 89) == "0000001"),
        (90, "how many hold", field(head, 90, 96) == "0000001"),
        (
            125,
            "the claim that holds, of a mutex, or of another lock whose only claim it is; only there, like the rest",
            field(head, 125, 156) == id(10),
        ),
        (157, "the end of its lease", field(head, 157, 172) == format!("{:016}", NOW + 30_000_000)),
        (
            3,
            "the last token, which is the holder's, and since when it holds",
            field(short, 3, 18) == format!("{NOW:016}"),
        ),
        (19, "the claim that holds", field(short, 19, 50) == id(10)),
        (51, "bytes 4 to 45 of its record", field(short, 51, 92) == field(record, 4, 45)),
        (93, "its record from byte 78 on", short[92..] == record[77..]),
        (
            124,
            "how the last hold ended: `r` released, `x` expired, `e` evicted, `u` unknown",
            field(head, 124, 124) == "u",
        ),
        (
            3,
            "of a holder: how the hold before it ended, as in byte 124 of the head",
            field(record, 3, 3) == "u",
        ),
        (4, "weight", field(record, 4, 13) == "0000000001"),
        (24, "lease of a holder", field(record, 24, 34) == "00030000000"),
        (35, "lease of a waiter", field(record, 35, 45) == "00010000000"),
        (46, "since when it holds or waits", field(record, 46, 61) == format!("{NOW:016}")),
        (62, "token, the first of a block, or 0", field(record, 62, 77) == format!("{NOW:016}")),
        (78, "client, 16 hexadecimal digits: who is told", field(record, 78, 93) == "000000000000c001"),
    ] {
        assert!(rows.contains(&(from, what)), "the document has no row {from} {what:?}");
        assert!(found, "{what} does not lie at {from}");
    }
}

fn another_version_is_refused() {
    let server = Server::start();
    let mut raw = Raw::new(server.port);
    raw.ask(&["SET", "tenure:{default/a}:l", "2whatever"]);
    raw.ask(&["SET", "tenure:{b}:t", "2whatever"]);
    pollster::block_on(async {
        for (url, name) in [(server.url(), "a"), (server.url().replace("redis:", "redis+setnx:"), "b")] {
            let locks = tenure::Locks::connect(&url).await.expect("connects");
            let mutex = locks.mutex(name).expect("a name");
            let error = mutex.lock().await.expect_err("refused");
            assert_eq!(error.kind(), tenure::ErrorKind::Protocol);
            assert!(error.to_string().contains("\"2\"") && error.to_string().contains("\"1\""), "{error}");
        }
        let locks = tenure::Locks::connect(&server.url()).await.expect("connects");
        assert_eq!(locks.inspect("a").await.expect_err("refused").kind(), tenure::ErrorKind::Protocol);
        assert!(locks.evict("a", None, "").await.is_err());
    });
    assert_eq!(raw.ask(&["GET", "tenure:{default/a}:l"]).text(), "2whatever", "it was left alone");
}
