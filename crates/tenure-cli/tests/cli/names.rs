//! Names that people should not use: each is refused with a reason, or stands for itself and nothing else.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::support::{Place, text};

/// What tempts a store, a shell, a terminal or a person to take it for something else.
const ODD: &[&str] = &[
    "",
    "a",
    "a\r\nFLUSHALL\r\n",
    "\n",
    "\t",
    "\x1b[2J",
    "{}",
    "{a}{b}",
    "}{",
    "tenure:{x",
    "*",
    ">",
    "a.b",
    "a..b",
    ".",
    "..",
    "/",
    "//",
    "a/../b",
    "/zookeeper/quota",
    "a/",
    "/a",
    "%00",
    "%2e%2e%2f",
    "%25",
    "%",
    "--help",
    "-rf",
    "$(id)",
    "`id`",
    ";id",
    "'; DROP TABLE tenure_fence;--",
    "\\'",
    "$1",
    "\"..redis.call('FLUSHALL')..\"",
    "A",
    "caf\u{e9}",
    "cafe\u{301}",
    "ß",
    "SS",
    "ss",
    "a ",
    " a",
    "a b",
    "\u{202e}",
    "\u{200b}",
    "\u{feff}",
    "CON",
    "a:b",
    "a\\b",
    "名前",
];

#[test]
fn odd_names_are_refused_or_stand_for_themselves() {
    let place = Place::new();
    let long = [
        "n".repeat(200),
        "n".repeat(201),
        "é".repeat(100),
        "é".repeat(101),
        "n".repeat(255),
        "n".repeat(1024),
    ];
    let names = ODD.iter().copied().chain(long.iter().map(String::as_str));
    let mut taken = BTreeSet::new();
    for name in names {
        let script = "printf %s \"$TENURE_LOCK\"";
        let dashed = name.starts_with('-');
        let before: &[&str] = if dashed { &["run", "--", name] } else { &["run", name] };
        let output = place.output(&[before, &["--", "sh", "-c", script]].concat());
        match output.status.code() {
            Some(0) => {
                assert_eq!(text(&output.stdout), name, "became another name");
                taken.insert(name);
            }
            Some(64) => {
                let said = text(&output.stderr);
                assert!(
                    said.contains("name") && !said.contains(['\x1b', '\u{202e}', '\r']),
                    "{name:?}: {said:?}"
                );
                assert_eq!(place.code(&["show", "--", name]), Some(64), "{name:?}");
                assert_eq!(place.code(&["break", "--yes", "--", name]), Some(64), "{name:?}");
            }
            code => panic!("{name:?}: {code:?} {}", text(&output.stderr)),
        }
    }
    let refused =
        ["", ".", "..", "/", "//", "a/../b", "a/", "/a", "a ", " a", "\n", "\t", "\u{202e}", "cafe\u{301}"];
    assert!(refused.iter().all(|name| !taken.contains(name)), "{taken:?}");
    let kept =
        ["a", "--help", "-rf", "%00", "A", "caf\u{e9}", "ß", "SS", "ss", "{a}{b}", "CON", &long[0], &long[2]];
    assert!(kept.iter().all(|name| taken.contains(name)), "{taken:?}");
    // Held all at once: each under its own name, none twice.
    let hold = |name: &&str| {
        let before: &[&str] = if name.starts_with('-') { &["-n", "--", name] } else { &["-n", name] };
        place.run(&[before, &["--", "sleep", "1000"]].concat())
    };
    let running: Vec<_> = taken.iter().map(hold).collect();
    let all = crate::support::until("all are held", || {
        let all: Vec<String> =
            place.json(&["ls"]).iter().map(|l| l["lock"].as_str().unwrap().to_owned()).collect();
        (all.len() == taken.len()).then_some(all)
    });
    assert_eq!(all.iter().map(String::as_str).collect::<BTreeSet<_>>(), taken);
    drop(running);
}

#[test]
fn names_that_are_not_utf_8_are_refused() {
    let place = Place::new();
    for bytes in [&b"a\xff"[..], b"\xc3", b"\xed\xa0\x80"] {
        let mut command = place.tenure(&["run"]);
        command.arg(OsStr::from_bytes(bytes)).args(["--", "true"]);
        assert_eq!(command.output().unwrap().status.code(), Some(64), "{bytes:?}");
    }
}
