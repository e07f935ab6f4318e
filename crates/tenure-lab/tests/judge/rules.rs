//! For each rule: histories that break it, each next to one that differs little and does not.

use tenure_lab::history::History;
use tenure_lab::judge::Status;

use crate::script::{header, history, status, verdict};

/// Rule, name, wrong, right.
type Pair = (&'static str, &'static str, &'static str, &'static str);

const EXCLUSION: &[Pair] = &[
    (
        "S1",
        "two at once",
        "1 1 a acquire invoke\n10 1 a acquire ok deadline=900\n2 2 b acquire invoke\n20 2 b acquire ok deadline=900",
        "1 1 a acquire invoke\n10 1 a acquire ok deadline=900\n15 1 a release invoke\n2 2 b acquire invoke\n20 2 b acquire ok deadline=900",
    ),
    (
        "S1",
        "the lease had not ended",
        "10 1 a acquire ok deadline=900\n890 2 b acquire ok deadline=1800",
        "10 1 a acquire ok deadline=900\n900 2 b acquire ok deadline=1800",
    ),
    (
        "S1",
        "a renewal had made it longer",
        "10 1 a acquire ok deadline=900\n300 1 a renew ok deadline=1300\n950 2 b acquire ok deadline=1900",
        "10 1 a acquire ok deadline=900\n300 1 a renew ok deadline=1300\n1300 2 b acquire ok deadline=1900",
    ),
    (
        "S1",
        "a check tells of a renewal that nobody wrote down",
        "10 1 a acquire ok deadline=900\n950 2 b acquire ok deadline=1900\n970 1 a check ok deadline=1300",
        "10 1 a acquire ok deadline=900\n950 2 b acquire ok deadline=1900\n970 1 a check lost",
    ),
    (
        "S1",
        "a belief that has no end",
        "10 1 a acquire ok\n9000 2 b acquire ok deadline=9900",
        "10 1 a acquire ok\n8000 1 a lost ok\n9000 2 b acquire ok deadline=9900",
    ),
    (
        "S1",
        "a writer beside a reader",
        "1 1 a acquire invoke kind=read\n10 1 a acquire ok\n2 2 b acquire invoke kind=write\n20 2 b acquire ok",
        "1 1 a acquire invoke kind=read\n10 1 a acquire ok\n2 2 b acquire invoke kind=read\n20 2 b acquire ok",
    ),
    (
        "S1",
        "two writers, whatever capacity they tell",
        "1 1 a acquire invoke kind=write capacity=1000\n10 1 a acquire ok\n2 2 b acquire invoke kind=write capacity=1000\n20 2 b acquire ok",
        "1 1 a acquire invoke kind=write capacity=1000\n10 1 a acquire ok\n15 1 a release invoke\n2 2 b acquire invoke kind=write capacity=1000\n20 2 b acquire ok",
    ),
    (
        "S1",
        "more permits than there are",
        "1 1 a acquire invoke kind=semaphore weight=2 capacity=3\n10 1 a acquire ok\n2 2 b acquire invoke kind=semaphore weight=2 capacity=3\n20 2 b acquire ok",
        "1 1 a acquire invoke kind=semaphore weight=2 capacity=3\n10 1 a acquire ok\n2 2 b acquire invoke kind=semaphore weight=1 capacity=3\n20 2 b acquire ok",
    ),
    (
        "S1",
        "a permit that nobody could have",
        "1 1 a acquire invoke kind=semaphore weight=4 capacity=3\n10 1 a acquire ok",
        "1 1 a acquire invoke kind=semaphore weight=3 capacity=3\n10 1 a acquire ok",
    ),
    (
        "S1",
        "a permit beside one that names fewer",
        "1 1 a acquire invoke kind=semaphore capacity=1\n10 1 a acquire ok\n2 2 b acquire invoke kind=semaphore capacity=5\n20 2 b acquire ok",
        "1 1 a acquire invoke kind=semaphore capacity=2\n10 1 a acquire ok\n2 2 b acquire invoke kind=semaphore capacity=5\n20 2 b acquire ok",
    ),
    (
        "S1",
        "what is unknown claims nothing",
        "1 1 a acquire invoke\n10 1 a acquire ok\n2 2 b acquire invoke\n20 2 b acquire ok",
        "1 1 a acquire invoke\n10 1 a acquire info\n2 2 b acquire invoke\n20 2 b acquire ok\n3 3 c acquire invoke\n30 3 c cancel ok",
    ),
    (
        "S1",
        "other locks are other locks",
        "10 1 a acquire ok lock=x\n20 2 b acquire ok lock=x",
        "10 1 a acquire ok lock=x\n20 2 b acquire ok lock=y",
    ),
];

const TOKENS: &[Pair] = &[
    (
        "S2",
        "a lower token later",
        "1 1 a acquire invoke\n10 1 a acquire ok token=9\n11 2 b acquire invoke\n20 2 b acquire ok token=8",
        "1 1 a acquire invoke\n10 1 a acquire ok token=9\n9 2 b acquire invoke\n20 2 b acquire ok token=8",
    ),
    (
        "S2",
        "the same token twice, at once",
        "1 1 a acquire invoke\n10 1 a acquire ok token=9\n2 2 b acquire invoke\n20 2 b acquire ok token=9",
        "1 1 a acquire invoke kind=read\n10 1 a acquire ok token=9\n2 2 b acquire invoke kind=read\n20 2 b acquire ok token=9",
    ),
    (
        "S2",
        "the same token twice, one after the other",
        "1 1 a acquire invoke\n10 1 a acquire ok token=9\n12 2 b acquire invoke\n20 2 b acquire ok token=9",
        "1 1 a acquire invoke\n10 1 a acquire ok token=9\n12 2 b acquire invoke\n20 2 b acquire ok token=10",
    ),
    (
        "S2",
        "a reader with its predecessor's token",
        "1 1 a acquire invoke kind=write\n10 1 a acquire ok token=9\n12 2 b acquire invoke kind=read\n20 2 b acquire ok token=9",
        "1 1 a acquire invoke kind=read\n10 1 a acquire ok token=9\n12 2 b acquire invoke kind=read\n20 2 b acquire ok token=9",
    ),
    (
        "S2",
        "a writer with its readers' token",
        "1 1 a acquire invoke kind=read\n10 1 a acquire ok token=9\n12 2 b acquire invoke kind=write\n20 2 b acquire ok token=9",
        "1 1 a acquire invoke kind=read\n10 1 a acquire ok token=9\n12 2 b acquire invoke kind=write\n20 2 b acquire ok token=10",
    ),
    (
        "S2",
        "a lower token later, although the second was already waiting",
        "1 1 a acquire invoke\n10 1 a acquire ok token=9\n20 1 a release invoke\n2 2 b acquire invoke\n30 2 b acquire ok token=8",
        "1 1 a acquire invoke\n10 1 a acquire ok token=8\n20 1 a release invoke\n2 2 b acquire invoke\n30 2 b acquire ok token=9",
    ),
    (
        "S2",
        "a writer after a reader that it waited for",
        "1 1 a acquire invoke kind=read\n10 1 a acquire ok token=9 deadline=900\n2 2 b acquire invoke kind=write\n900 2 b acquire ok token=9",
        "1 1 a acquire invoke kind=read\n10 1 a acquire ok token=9 deadline=900\n2 2 b acquire invoke kind=write\n900 2 b acquire ok token=10",
    ),
    (
        "S2",
        "granted before a holder that it returned during, and too late to be believed",
        "1 1 a acquire invoke\n50 1 a acquire ok token=9 deadline=40\n2 2 b acquire invoke\n45 2 b acquire ok token=8 deadline=900",
        "1 1 a acquire invoke\n901 1 a acquire ok token=9 deadline=40\n2 2 b acquire invoke\n45 2 b acquire ok token=8 deadline=900",
    ),
    (
        "S2",
        "readers at the same time with different tokens",
        "1 1 a acquire invoke kind=read\n10 1 a acquire ok token=8\n2 2 b acquire invoke kind=read\n20 2 b acquire ok token=9",
        "1 1 a acquire invoke kind=read\n10 1 a acquire ok token=8\n15 1 a release invoke\n2 2 b acquire invoke kind=read\n20 2 b acquire ok token=9",
    ),
    (
        "S2",
        "the greatest so far counts, not the last",
        "1 1 a acquire invoke\n5 1 a acquire ok token=9\n2 2 b acquire invoke\n6 2 b acquire ok token=4\n7 3 c acquire invoke\n20 3 c acquire ok token=5",
        "1 1 a acquire invoke\n5 1 a acquire ok token=9\n2 2 b acquire invoke\n6 2 b acquire ok token=4\n7 3 c acquire invoke\n20 3 c acquire ok token=10",
    ),
];

const FENCE: &[Pair] = &[
    (
        "S3",
        "a lost update",
        "1 1 a enter ok token=3 value=0\n2 2 b enter ok token=4 value=0\n3 1 a write ok token=3 value=1\n4 2 b write ok token=4 value=1",
        "1 1 a enter ok token=3 value=0\n2 2 b enter ok token=4 value=0\n3 1 a write refused token=3\n4 2 b write ok token=4 value=1",
    ),
    (
        "S3",
        "a lower token was accepted after a higher one's write",
        "1 2 b enter ok token=4 value=0\n2 2 b write ok token=4 value=1\n3 1 a enter ok token=3 value=1\n4 1 a write ok token=3 value=2",
        "1 2 b enter ok token=4 value=0\n2 2 b write ok token=4 value=1\n3 1 a enter ok token=4 value=1\n4 1 a write ok token=4 value=2",
    ),
    (
        "S3",
        "a lower token was accepted after a higher one's read",
        "1 1 a enter ok token=3 value=0\n2 2 b enter ok token=4 value=0\n3 1 a write ok token=3 value=1",
        "1 1 a enter ok token=3 value=0\n3 1 a write ok token=3 value=1\n4 2 b enter ok token=4 value=1",
    ),
    (
        "S3",
        "the counter ends below what was acknowledged",
        "1 1 a enter ok token=3 value=0\n2 1 a write ok token=3 value=1\n9 0 - final ok value=0",
        "1 1 a enter ok token=3 value=0\n2 1 a write ok token=3 value=1\n9 0 - final ok value=1",
    ),
    (
        "S3",
        "the counter ends below what was read",
        "1 1 a enter ok token=3 value=0\n2 1 a write info token=3\n3 2 b enter ok token=4 value=1\n4 2 b release invoke\n9 0 - final ok value=0\n1 3 c enter ok value=0 resource=q token=3\n2 3 c write ok value=1 resource=q token=3",
        "1 1 a enter ok token=3 value=0\n2 1 a write info token=3\n3 2 b enter ok token=4 value=1\n4 2 b release invoke\n9 0 - final ok value=1\n1 3 c enter ok value=0 resource=q token=3\n2 3 c write ok value=1 resource=q token=3",
    ),
    (
        "S3",
        "a client that went on after its read has not written",
        "1 2 b enter ok token=2 value=0\n2 2 b write ok token=2 value=1\n3 1 a enter ok token=3 value=1\n4 1 a release invoke\n9 0 - final ok value=2",
        "1 2 b enter ok token=2 value=0\n2 2 b write ok token=2 value=1\n3 1 a enter ok token=3 value=1\n9 0 - final ok value=2",
    ),
    (
        "S3",
        "the counter grew by itself",
        "1 1 a enter ok token=3 value=0\n2 1 a write ok token=3 value=1\n9 0 - final ok value=2",
        "1 1 a enter ok token=3 value=0\n2 1 a write ok token=3 value=1\n3 2 b enter ok token=4 value=1\n4 2 b write info token=4\n9 0 - final ok value=2",
    ),
    (
        "S3",
        "a killed writer may have written once, not twice",
        "1 2 b enter ok token=2 value=0\n2 2 b write ok token=2 value=1\n3 1 a enter ok token=3 value=1\n9 0 - final ok value=3",
        "1 2 b enter ok token=2 value=0\n2 2 b write ok token=2 value=1\n3 1 a enter ok token=3 value=1\n9 0 - final ok value=2",
    ),
];

const OWNER: &[Pair] = &[
    (
        "S4",
        "released twice",
        "1 1 a acquire ok deadline=900\n5 1 a release invoke\n6 1 a release ok\n7 1 a release invoke\n8 1 a release ok",
        "1 1 a acquire ok deadline=900\n5 1 a release invoke\n6 1 a release ok\n7 1 a release invoke\n8 1 a release gone",
    ),
    (
        "S4",
        "somebody else released it",
        "1 1 a acquire ok deadline=900\n5 2 a release invoke\n6 2 a release ok",
        "1 1 a acquire ok deadline=900\n5 2 a release invoke\n6 2 a release gone",
    ),
    (
        "S4",
        "released after another had got it",
        "1 1 a acquire ok deadline=900\n950 2 b acquire ok deadline=1800\n960 1 a release invoke\n970 1 a release ok",
        "1 1 a acquire ok deadline=900\n950 2 b acquire ok deadline=1800\n960 1 a release invoke\n970 1 a release gone",
    ),
    (
        "S4",
        "two at once is not the fault of the one that releases",
        "1 1 a acquire ok deadline=900\n950 2 b acquire ok deadline=1800\n960 1 a release invoke\n970 1 a release ok",
        "1 1 a acquire ok deadline=900\n500 2 b acquire ok deadline=1400\n600 1 a release invoke\n610 1 a release ok",
    ),
    (
        "S4",
        "a late release is right while nobody else has it",
        "1 1 a acquire ok deadline=900\n950 2 b acquire ok deadline=1800\n960 1 a release invoke\n970 1 a release ok",
        "1 1 a acquire ok deadline=900\n960 1 a release invoke\n970 1 a release ok\n980 2 b acquire ok deadline=1800",
    ),
];

const HONESTY: &[Pair] = &[
    (
        "S5",
        "said ok after its deadline",
        "1 1 a acquire ok deadline=900\n900 1 a check ok deadline=900",
        "1 1 a acquire ok deadline=900\n899 1 a check ok deadline=900",
    ),
    (
        "S5",
        "said ok after the last deadline that it told",
        "1 1 a acquire ok deadline=900\n950 1 a check ok",
        "1 1 a acquire ok deadline=900\n500 1 a renew ok deadline=1400\n950 1 a check ok",
    ),
    (
        "S5",
        "said ok after its loss",
        "1 1 a acquire ok deadline=900\n500 1 a lost ok\n600 1 a check ok deadline=900",
        "1 1 a acquire ok deadline=900\n500 1 a lost ok\n600 1 a check lost",
    ),
    ("S5", "a lease longer than the ttl", "1 1 a acquire ok deadline=1002", "1 1 a acquire ok deadline=1001"),
    (
        "S5",
        "said ok after another was granted",
        "1 1 a acquire ok deadline=900\n500 2 b acquire ok deadline=1400\n600 1 a check ok deadline=900",
        "1 1 a acquire ok deadline=900\n500 2 b acquire ok deadline=1400\n600 1 a check lost",
    ),
    (
        "S5",
        "said ok after its release",
        "1 1 a acquire ok deadline=900\n500 1 a release invoke\n600 1 a check ok deadline=900",
        "1 1 a acquire ok deadline=900\n500 1 a check ok deadline=900\n600 1 a release invoke",
    ),
    (
        "S10",
        "renewed after its release was answered",
        "1 1 a acquire ok deadline=900\n500 1 a release invoke\n510 1 a release ok\n600 1 a renew ok deadline=1400",
        "1 1 a acquire ok deadline=900\n500 1 a release invoke\n600 1 a renew ok deadline=1400\n610 1 a release ok",
    ),
    (
        "S10",
        "a renewal that was sent after the release",
        "1 1 a acquire ok deadline=900\n500 1 a release invoke\n600 1 a renew ok deadline=1550",
        "1 1 a acquire ok deadline=900\n500 1 a release invoke\n600 1 a renew ok deadline=1490",
    ),
    (
        "S10",
        "renewed after its loss",
        "1 1 a acquire ok deadline=900\n910 1 a lost ok\n1000 1 a renew ok deadline=1999",
        "1 1 a acquire ok deadline=900\n910 1 a lost ok\n1000 1 a renew ok deadline=1800",
    ),
    (
        "S10",
        "renewed after another was granted",
        "1 1 a acquire ok deadline=900\n950 2 b acquire ok deadline=1900\n1000 1 a renew ok deadline=1999",
        "1 1 a acquire ok deadline=900\n950 2 b acquire ok deadline=1900\n1000 1 a renew lost",
    ),
];

const ENDING: &[Pair] = &[
    (
        "L3",
        "overtaken in line",
        "fair\n1 1 a acquire invoke\n2 1 a queued ok\n3 2 b acquire invoke\n5 2 b acquire ok token=4\n6 2 b release invoke\n9 1 a acquire ok token=5",
        "fair\n1 1 a acquire invoke\n4 1 a queued ok\n3 2 b acquire invoke\n5 2 b acquire ok token=4\n6 2 b release invoke\n9 1 a acquire ok token=5",
    ),
    (
        "L3",
        "told late is not overtaken: the tokens know",
        "fair\n1 1 a acquire invoke\n2 1 a queued ok\n3 2 b acquire invoke\n5 2 b acquire ok token=4\n9 1 a acquire ok token=5",
        "fair\n1 1 a acquire invoke\n2 1 a queued ok\n3 2 b acquire invoke\n5 2 b acquire ok token=5\n9 1 a acquire ok token=4",
    ),
    (
        "L3",
        "permits: overtaken where there was no room for both",
        "fair\n1 1 a acquire invoke kind=semaphore capacity=1\n2 1 a queued ok\n3 2 b acquire invoke kind=semaphore capacity=1\n5 2 b acquire ok\n6 2 b release invoke\n9 1 a acquire ok",
        "fair\n1 1 a acquire invoke kind=semaphore capacity=2\n2 1 a queued ok\n3 2 b acquire invoke kind=semaphore capacity=2\n5 2 b acquire ok\n6 2 b release invoke\n9 1 a acquire ok",
    ),
    (
        "L2",
        "a lock that nobody gets any more",
        "1 0 - fault begin fault=kill target=server\n5 0 - fault end fault=kill\n6 1 a acquire invoke\n20000000 1 a acquire fail",
        "1 0 - fault begin fault=kill target=server\n5 0 - fault end fault=kill\n6 1 a acquire invoke\n20000000 1 a acquire fail\n7 2 b acquire invoke\n8 2 b acquire ok deadline=900",
    ),
    (
        "L2",
        "who holds on to the end is in nobody's wrong",
        "1 0 - fault begin fault=kill target=server\n5 0 - fault end fault=kill\n6 1 a acquire invoke\n20000000 1 a acquire fail",
        "1 2 b acquire ok deadline=900\n1 0 - fault begin fault=kill target=server\n5 0 - fault end fault=kill\n6 1 a acquire invoke\n19999000 2 b renew ok deadline=20000000\n7 3 c acquire invoke lock=cool\n8 3 c acquire ok lock=cool deadline=900\n20000000 1 a acquire fail",
    ),
    (
        "L4",
        "a key is left",
        "9 0 - residue ok detail={\"keys\":1}",
        "8 0 - residue ok detail={\"keys\":1}\n9 0 - residue ok detail={\"keys\":0}",
    ),
];

fn pairs() -> impl Iterator<Item = &'static Pair> {
    [EXCLUSION, TOKENS, FENCE, OWNER, HONESTY, ENDING].into_iter().flatten()
}

#[test]
fn the_wrong_is_found_and_the_right_is_not() {
    let mut faults = Vec::new();
    for (rule, name, wrong, right) in pairs() {
        for (script, expected) in [(wrong, Status::Broken), (right, Status::Held)] {
            let found = verdict(&history(script), rule);
            if found.status != expected {
                faults.push(format!("{rule}, {name}: not {expected}: {found:?}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_events_that_are_shown_break_the_rule_by_themselves_and_no_claim_can_be_spared() {
    for (rule, name, wrong, _) in pairs() {
        let whole = history(wrong);
        for breach in verdict(&whole, rule).breaches {
            let shown = History { header: whole.header.clone(), events: breach.events.clone() };
            // A claim is shown whole: what is left out might excuse it.
            assert_eq!(verdict(&shown, rule).status, Status::Broken, "{rule}, {name}: {shown:?}");
            let mut claims: Vec<_> = shown.events.iter().filter_map(|event| event.claim).collect();
            claims.sort_unstable();
            claims.dedup();
            for spared in claims {
                let events =
                    shown.events.iter().filter(|event| event.claim != Some(spared)).cloned().collect();
                let less = verdict(&History { header: header(), events }, rule);
                assert_ne!(less.status, Status::Broken, "{rule}, {name}: {spared} is not needed: {shown:?}");
            }
        }
    }
}

#[test]
fn a_broken_rule_names_the_seed_and_the_command_that_repeats_it() {
    let mut history = history(EXCLUSION[0].2);
    let found = verdict(&history, "S1");
    assert_eq!((found.seed, found.breaches.len(), found.breaches[0].events.len()), (7, 1, 4));
    assert!(found.replay.contains("--seed 7"), "{}", found.replay);
    history.header.replay = Some("tenure lab chaos --server redis --seed 7".into());
    assert_eq!(verdict(&history, "S1").replay, "tenure lab chaos --server redis --seed 7");
}

#[test]
fn the_heaviest_permits_show_that_there_were_too_many() {
    let script = "1 1 a acquire invoke kind=semaphore weight=1 capacity=5\n2 1 a acquire ok\n\
                  1 2 b acquire invoke kind=semaphore weight=1 capacity=5\n2 2 b acquire ok\n\
                  1 3 c acquire invoke kind=semaphore weight=3 capacity=5\n3 3 c acquire ok\n\
                  1 4 d acquire invoke kind=semaphore weight=3 capacity=5\n4 4 d acquire ok";
    let found = verdict(&history(script), "S1");
    assert_eq!(found.breaches.len(), 1, "{found:?}");
    let claims: std::collections::BTreeSet<_> =
        found.breaches[0].events.iter().filter_map(|event| event.claim).collect();
    assert_eq!(claims.len(), 2, "{found:?}");
}

#[test]
fn a_run_below_its_floor_says_so() {
    assert_eq!(status("", "floor"), Status::FloorMissed);
    let mut enough = history("1 1 a acquire ok");
    assert_eq!(verdict(&enough, "floor").status, Status::Held);
    enough.header.floors = Some(tenure_lab::history::Floors { acquisitions: 1, windows: 1 });
    assert_eq!(verdict(&enough, "floor").status, Status::FloorMissed);
    enough.header.floors = Some(tenure_lab::history::Floors { acquisitions: 2, windows: 0 });
    assert_eq!(verdict(&enough, "floor").status, Status::FloorMissed);
}

#[test]
fn what_did_not_happen_is_not_judged() {
    for rule in ["S1", "S2", "S3", "S4", "S5", "S10", "L2", "L4", "twin"] {
        assert_eq!(status("", rule), Status::NotJudged, "{rule}");
    }
    assert_eq!(status("", "L3"), Status::NotPromised, "no order was declared");
}
