//! What faults excuse, and what they do not.

use tenure_lab::judge::Status;

use crate::script::{history, status, verdict};

/// Two holders at once from 2000 on.
const OVERLAP: &str = "1 1 a acquire invoke\n1800 1 a acquire ok token=5 deadline=2600\n1900 2 b acquire invoke\n2000 2 b acquire ok token=6 deadline=2900\n";
/// One without a flaw, long after.
const LATER: &str = "9000 3 c acquire invoke\n9001 3 c acquire ok token=7 deadline=9900\n";

fn fault(from: u64, to: u64, target: &str, breaks: &str) -> String {
    format!("{from} 0 - fault begin fault=f target={target} breaks={breaks}\n{to} 0 - fault end fault=f\n")
}

#[test]
fn a_fault_excuses_the_rules_that_it_names_until_one_ttl_later() {
    for (from, to, excused) in [(900, 1000, true), (900, 999, false), (2000, 2001, true), (2001, 2100, false)]
    {
        let script = format!("{OVERLAP}{LATER}{}", fault(from, to, "server", "[\"S1\"]"));
        let found = verdict(&history(&script), "S1");
        assert_eq!(
            found.status,
            if excused { Status::Held } else { Status::Broken },
            "{from} to {to}: {found:?}"
        );
        assert_eq!(found.excused.len(), usize::from(excused));
        if excused {
            assert!(found.counts.contains(&("not promised", 1)), "{found:?}");
        }
    }
    let other = format!("{OVERLAP}{LATER}{}", fault(900, 2100, "server", "[\"S2\",\"L3\"]"));
    assert_eq!(status(&other, "S1"), Status::Broken);
}

#[test]
fn a_rule_that_was_promised_at_no_time_did_not_hold() {
    let script = format!("{OVERLAP}{}", fault(1, 2100, "server", "[\"S1\"]"));
    assert_eq!(status(&script, "S1"), Status::NotPromised);
    let found =
        verdict(&history(&format!("{OVERLAP}0 0 - fault begin fault=f target=server breaks=[\"S1\"]")), "S1");
    assert_eq!(found.status, Status::NotJudged, "a fault that never ends: {found:?}");
}

#[test]
fn readers_may_join_those_of_a_restored_copy() {
    let before = "1 1 a acquire invoke kind=read\n10 1 a acquire ok token=4\n20 1 a release invoke\n30 2 b acquire invoke kind=write\n40 2 b acquire ok token=6\n50 2 b release invoke\n";
    let then = |kind: &str, token: u32| {
        format!("{before}100 3 c acquire invoke kind={kind}\n110 3 c acquire ok token={token}\n")
    };
    let restored = fault(60, 90, "server", "[\"S1\"]");
    assert_eq!(status(&then("read", 4), "S2"), Status::Broken, "nothing was restored");
    let found = verdict(&history(&format!("{}{restored}", then("read", 4))), "S2");
    assert!(found.status == Status::Held && !found.excused.is_empty(), "{found:?}");
    for other in [then("read", 5), then("write", 4)] {
        assert_eq!(status(&format!("{other}{restored}"), "S2"), Status::Broken, "{other}");
    }
}

#[test]
fn the_fence_is_always_judged() {
    let lost = "1 1 a enter ok token=3 value=0\n2 2 b enter ok token=4 value=0\n3 1 a write ok token=3 value=1\n4 2 b write ok token=4 value=1\n";
    let script = format!("{lost}{}", fault(0, 100, "server", "[\"S1\",\"S2\",\"S3\"]"));
    assert_eq!(status(&script, "S3"), Status::Broken);
}

#[test]
fn a_token_from_a_time_without_promise_binds_nobody() {
    // The clock was ahead when 900 was given; what comes after is compared with what was promised.
    let ahead = "1 1 a acquire invoke\n10 1 a acquire ok token=4\n2000 2 b acquire invoke\n2010 2 b acquire ok token=900\n";
    let window = fault(1990, 2020, "server", "[\"S2\"]");
    let after =
        |token: u32| format!("{ahead}{window}9000 3 c acquire invoke\n9010 3 c acquire ok token={token}\n");
    let found = verdict(&history(&after(5)), "S2");
    assert_eq!((found.status, found.excused.len()), (Status::Held, 1), "{found:?}");
    assert_eq!(status(&after(3), "S2"), Status::Broken);
}

#[test]
fn a_fault_of_one_client_excuses_that_client_only() {
    let line = "fair\n1 1 a acquire invoke\n2 1 a queued ok\n3 2 b acquire invoke\n5 2 b acquire ok token=4\n6 2 b release invoke\n9 1 a acquire ok token=5\n";
    for (client, expected) in [(1, Status::NotPromised), (2, Status::Held), (3, Status::Broken)] {
        let mut whole = history(&format!("{line}{}", fault(4, 7, "TARGET", "[\"L3\"]")));
        for event in &mut whole.events {
            if let Some(fault) = &mut event.fault {
                fault.target = format!("client {client}").as_str().into();
            }
        }
        let found = verdict(&whole, "L3");
        assert_eq!(found.status, expected, "client {client}: {found:?}");
    }
}
