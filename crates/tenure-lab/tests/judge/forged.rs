//! What a forger would change: a whole history in which every rule holds, and edits after which one must not.

use std::process::ExitCode;

use tenure_lab::history::History;
use tenure_lab::judge::Status;

use crate::command::judged;
use crate::script::{bare, verdict};

const WHOLE: &str = r#"
fair
header locks=2 processes=2 capabilities={"token":"hybrid","hold_end":"lease","order":"fifo","scope":"host","visibility":"full"}
1 1 a acquire invoke
10 1 a acquire ok token=100 deadline=900
11 1 a enter ok token=100 value=0
12 1 a enter ok value=0 resource=u fenced=false
20 2 b acquire invoke
30 2 b queued ok
300 1 a check ok deadline=900
310 1 a renew ok deadline=1200
320 1 a write ok token=100 value=1
330 1 a write ok value=1 resource=u fenced=false
400 1 a release invoke
410 1 a release ok
420 2 b acquire ok token=101 deadline=1300
430 2 b enter ok token=101 value=1
440 2 b check ok deadline=1300
450 2 b write ok token=101 value=2
460 2 b release invoke
470 2 b release ok
500 0 - fault begin fault=restart target=server breaks=["S1"]
510 0 - fault end fault=restart
3000 1 c acquire invoke
3010 1 c acquire ok token=102 deadline=3900
3020 1 c release invoke
3030 1 c release ok
3000 2 d acquire invoke lock=shared kind=read capacity=9
3011 2 d acquire ok lock=shared token=50 deadline=3900
3020 2 d release invoke
3030 2 d release ok
9000 0 - final ok value=2
9000 0 - final ok value=1 resource=u fenced=false
9001 0 - residue ok detail={"holders":0,"waiters":0}
"#;

/// A name, the rule that must not be held, and the texts to replace.
type Forgery = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const FORGERIES: &[Forgery] = &[
    (
        "the tokens of two successive holders are exchanged",
        "S2",
        &[("token=100", "token=X"), ("token=101", "token=100"), ("token=X", "token=101")],
    ),
    (
        "a check of a released claim after the next grant",
        "S5",
        &[("430 2 b", "425 1 a check ok deadline=1200\n430 2 b")],
    ),
    (
        "a renewal of a released claim after the next grant",
        "S10",
        &[("430 2 b", "425 1 a renew ok deadline=1390\n430 2 b")],
    ),
    ("a grant without an invocation", "S1", &[("1 1 a acquire invoke\n", "")]),
    ("a grant without a token", "S2", &[("ok token=100 deadline=900", "ok deadline=900")]),
    ("a grant without a deadline", "S5", &[("ok token=100 deadline=900", "ok token=100")]),
    (
        "a reader without a token beside one that has one",
        "S2",
        &[
            ("ok lock=shared token=50 deadline=3900", "ok lock=shared deadline=3900"),
            (
                "9000 0 - final ok value=2",
                "4000 2 e acquire invoke lock=shared kind=read capacity=9\n4010 2 e acquire ok lock=shared token=50 deadline=4900\n9000 0 - final ok value=2",
            ),
        ],
    ),
    (
        "two grants of one claim",
        "S1",
        &[("20 2 b acquire", "15 1 a acquire ok token=100 deadline=900\n20 2 b acquire")],
    ),
    ("one claim asked for twice", "S1", &[("20 2 b", "15 1 a acquire invoke\n20 2 b")]),
    (
        "one claim on two locks",
        "S1",
        &[("ok token=100 deadline=900", "ok lock=shared token=100 deadline=900")],
    ),
    (
        "granted to another client than the one that asked",
        "S1",
        &[("10 1 a acquire ok token=100", "10 3 a acquire ok token=100")],
    ),
    (
        "one mutex claim relabelled as a reader",
        "S1",
        &[("b acquire invoke", "b acquire invoke kind=read capacity=9")],
    ),
    (
        "all mutex claims relabelled as readers",
        "S1",
        &[
            ("1 1 a acquire invoke", "1 1 a acquire invoke kind=read capacity=9"),
            ("b acquire invoke", "b acquire invoke kind=read capacity=9"),
            ("c acquire invoke", "c acquire invoke kind=read capacity=9"),
        ],
    ),
    (
        "all mutex claims relabelled as permits",
        "S1",
        &[
            ("1 1 a acquire invoke", "1 1 a acquire invoke kind=semaphore capacity=9"),
            ("b acquire invoke", "b acquire invoke kind=semaphore capacity=9"),
            ("c acquire invoke", "c acquire invoke kind=semaphore capacity=9"),
        ],
    ),
    ("a write with a token that is not its grant's", "S3", &[("write ok token=101", "write ok token=102")]),
    ("no final value", "S3", &[("9000 0 - final ok value=2\n", "")]),
    ("no final value of the twin", "twin", &[("9000 0 - final ok value=1 resource=u fenced=false\n", "")]),
    ("two final values", "S3", &[("9001 0", "9000 0 - final ok value=2\n9001 0")]),
    (
        "a final value before the last write",
        "S3",
        &[("9000 0 - final ok value=2", "445 0 - final ok value=2")],
    ),
    ("an acknowledged write left out", "S3", &[("450 2 b write ok token=101 value=2\n", "")]),
    (
        "the first write left out with its claim's use of the resource",
        "S3",
        &[("11 1 a enter ok token=100 value=0\n", ""), ("320 1 a write ok token=100 value=1\n", "")],
    ),
    (
        "the last write left out, and the final value lowered below what was read",
        "S3",
        &[
            (
                "3010 1 c acquire ok token=102 deadline=3900\n",
                "3010 1 c acquire ok token=102 deadline=3900\n3011 1 c enter ok token=102 value=2\n",
            ),
            ("450 2 b write ok token=101 value=2\n", ""),
            ("final ok value=2", "final ok value=1"),
        ],
    ),
    (
        "a write that is not the value read plus one",
        "S3",
        &[("enter ok token=101 value=1", "enter ok token=101 value=0")],
    ),
    ("a write without a read", "S3", &[("430 2 b enter ok token=101 value=1\n", "")]),
    (
        "a fenced write passed off as one of the twin",
        "S3",
        &[("write ok token=101 value=2", "write ok token=101 value=2 fenced=false")],
    ),
    ("all releases unknown", "S4", &[("release ok", "release unknown")]),
    ("a release without an invocation", "S4", &[("400 1 a release invoke\n", "")]),
    ("a release without an answer", "S4", &[("410 1 a release ok\n", "")]),
    (
        "a hold left out, but for its invocation",
        "S1",
        &[
            ("420 2 b acquire ok token=101 deadline=1300\n", ""),
            ("430 2 b enter ok token=101 value=1\n", ""),
            ("440 2 b check ok deadline=1300\n", ""),
            ("450 2 b write ok token=101 value=2\n", ""),
            ("460 2 b release invoke\n470 2 b release ok\n", ""),
            ("final ok value=2", "final ok value=1"),
        ],
    ),
    ("a grant left out, but not the release", "S1", &[("3010 1 c acquire ok token=102 deadline=3900\n", "")]),
    ("no claim is known to have been in line", "L3", &[("30 2 b queued ok\n", "")]),
    ("cut off before the end", "L4", &[("9001 0 - residue ok detail={\"holders\":0,\"waiters\":0}\n", "")]),
    (
        "a residue that leaves out what was left",
        "L4",
        &[("{\"holders\":0,\"waiters\":0}", "{\"processes\":0}")],
    ),
    ("a residue counted while clients went on", "L4", &[("9001 0 - residue", "2999 0 - residue")]),
    ("a fault that never ends", "S1", &[("510 0 - fault end fault=restart\n", "")]),
    (
        "a fault that excuses the whole run",
        "S2",
        &[
            (
                "1 1 a acquire invoke",
                "0 0 - fault begin fault=f target=server breaks=[\"S2\"]\n1 1 a acquire invoke",
            ),
            ("9001 0", "9001 0 - fault end fault=f\n9001 0"),
        ],
    ),
    (
        "a fault at the end, after which nothing is asked for",
        "L2",
        &[(
            "9001 0",
            "8000 0 - fault begin fault=f target=server breaks=[]\n8001 0 - fault end fault=f\n9001 0",
        )],
    ),
    ("a number of events that is not that of the header", "data", &[("locks=2", "locks=2 events=40")]),
    ("a lock that the header tells of is left out", "floor", &[("locks=2", "locks=3")]),
    ("a process that the header tells of is left out", "floor", &[("processes=2", "processes=3")]),
];

fn forged(edits: &[(&str, &str)]) -> History {
    let mut script = WHOLE.to_owned();
    for (from, to) in edits {
        assert!(script.contains(from), "no {from:?} in the script");
        script = script.replace(from, to);
    }
    bare(&script)
}

#[test]
fn a_whole_history_is_accepted() {
    let whole = bare(WHOLE);
    for rule in ["S1", "S2", "S3", "S4", "S5", "S10", "L2", "L3", "L4", "twin", "floor", "data"] {
        let found = verdict(&whole, rule);
        assert_eq!(found.status, Status::Held, "{found:#?}");
    }
    assert_eq!(judged(&whole), ExitCode::SUCCESS);
    let count = whole.events.len();
    assert_eq!(judged(&forged(&[("locks=2", &format!("locks=2 events={count}"))])), ExitCode::SUCCESS);
}

#[test]
fn no_forgery_is_accepted() {
    let mut accepted = Vec::new();
    for (name, rule, edits) in FORGERIES {
        let history = forged(edits);
        let found = verdict(&history, rule);
        if found.status == Status::Held {
            accepted.push(format!("{name}: {found:#?}"));
        }
        let status = judged(&history);
        if ![ExitCode::from(1), ExitCode::from(2)].contains(&status) {
            accepted.push(format!("{name}: status {status:?}"));
        }
    }
    assert!(accepted.is_empty(), "{}", accepted.join("\n"));
}

#[test]
fn a_history_without_its_end_is_not_judged() {
    let lines: Vec<&str> = WHOLE.trim().lines().collect();
    for length in 2..lines.len() {
        let history = bare(&lines[..length].join("\n"));
        assert_ne!(judged(&history), ExitCode::SUCCESS, "{length} of {} lines", lines.len());
    }
}
