//! S3: a fenced resource loses no acknowledged write, and accepts no lower token after a higher one. And the unfenced
//! twin, which must lose writes under pauses: otherwise the faults were too weak to prove anything.
//!
//! Counters begin at 0, and each write adds one to the value that its claim has read. So no two acknowledged writes have
//! the same value, and values tell the order: a write comes after every read of a lower value.

use std::collections::{BTreeMap, HashMap};

use super::facts::Facts;
use super::windows::Windows;
use super::{Breach, Status, Tally, Verdict};
use crate::history::{Claim, Kind, Name, Op, Phase};

/// An access that the resource accepted.
#[derive(Clone, Copy)]
struct Access {
    value: i64,
    /// It reads the counter. Reads of a value come after its write.
    reads: bool,
    token: Option<i64>,
    claim: Claim,
    event: usize,
}

/// What happened to one resource.
#[derive(Default)]
struct Counter {
    fenced: Option<bool>,
    accepted: Vec<Access>,
    /// Claims that were cut off between a read and the answer to the write: they may have written once more.
    open: HashMap<Claim, bool>,
    /// Writes whose answer was lost.
    unknown: u64,
    last: Option<(i64, usize)>,
    refused: u64,
}

impl Counter {
    fn writes(&self) -> impl Iterator<Item = &Access> {
        self.accepted.iter().filter(|access| !access.reads)
    }

    fn acknowledged(&self) -> u64 {
        self.writes().count() as u64
    }

    fn may_have_written(&self) -> u64 {
        self.unknown + self.open.values().filter(|open| **open).count() as u64
    }
}

fn counters(facts: &Facts<'_>) -> BTreeMap<Name, Counter> {
    let mut counters: BTreeMap<Name, Counter> = BTreeMap::new();
    for (index, event) in facts.history.events.iter().enumerate() {
        let Some(resource) = event.resource else { continue };
        let counter = counters.entry(resource).or_default();
        counter.fenced = counter.fenced.or(event.fenced);
        if let (Op::Final, Some(value)) = (event.op, event.value) {
            counter.last = Some((value, index));
        }
        let Some(claim) = event.claim else { continue };
        let token = event.token.or_else(|| facts.hold(claim)?.token);
        let (reads, done) = (event.op == Op::Enter, event.phase == Phase::Ok);
        if let (true, Some(value)) = (done, event.value) {
            counter.accepted.push(Access { value, reads, token, claim, event: index });
        }
        counter.unknown += u64::from(!reads && event.phase == Phase::Info);
        counter.refused += u64::from(event.phase == Phase::Refused);
        let writer = facts.hold(claim).is_none_or(|hold| hold.kind != Kind::Read);
        let open =
            writer && (event.phase == Phase::Invoke && !reads || reads && done) && facts.cut_off(event);
        counter.open.insert(claim, open);
    }
    counters
}

pub(super) fn check(facts: &Facts<'_>, windows: &Windows) -> (Verdict, Verdict) {
    let mut tally = Tally::default();
    let (mut refused, mut twins) = (0, Vec::new());
    for (name, counter) in counters(facts) {
        if counter.fenced == Some(false) {
            twins.push(counter);
            continue;
        }
        for _ in counter.writes() {
            tally.judge(true);
        }
        refused += counter.refused;
        distinct(facts, name, &counter, &mut tally);
        ascending(facts, name, &counter, &mut tally);
        sum(facts, name, &counter, &mut tally);
    }
    let mut fence = tally.verdict("S3", "fenced safety", "acknowledged writes");
    fence.counts.push(("refused by the fence", refused));
    fence.text += &format!(", {refused} refused by the fence");
    (fence, twin(facts, windows, &twins))
}

/// Two acknowledged writes of the same value: one overwrote the other.
fn distinct(facts: &Facts<'_>, name: Name, counter: &Counter, tally: &mut Tally) {
    let mut by_value: HashMap<i64, &Access> = HashMap::new();
    for write in counter.writes() {
        if let Some(other) = by_value.insert(write.value, write) {
            tally.breach(false, || Breach {
                t: facts.history.events[write.event].t,
                what: format!(
                    "{name}: both {} and {} wrote {}: one update is lost",
                    other.claim, write.claim, write.value
                ),
                events: facts.events(vec![other.event, write.event]),
            });
        }
    }
}

/// In the order of the counter, which is the order in which the resource saw them, tokens of writes never fall.
fn ascending(facts: &Facts<'_>, name: Name, counter: &Counter, tally: &mut Tally) {
    let mut by_value: Vec<&Access> =
        counter.accepted.iter().filter(|access| access.token.is_some()).collect();
    by_value.sort_by_key(|access| (access.value, access.reads));
    // Kept apart, because the value does not tell which of two reads of it came first.
    let (mut written, mut seen): (Option<&Access>, Option<&Access>) = (None, None);
    let mut reads: Vec<&Access> = Vec::new();
    for access in by_value {
        if !access.reads {
            seen = reads.drain(..).chain(seen).chain(written).max_by_key(|read| read.token);
        }
        let highest =
            if access.reads { written } else { seen.into_iter().chain(written).max_by_key(|a| a.token) };
        if let Some(high) = highest.filter(|high| high.token > access.token) {
            tally.breach(false, || Breach {
                t: facts.history.events[access.event].t,
                what: format!(
                    "{name}: {} was accepted with token {} after {} with {}",
                    access.claim,
                    access.token.unwrap_or(0),
                    high.claim,
                    high.token.unwrap_or(0)
                ),
                events: facts.events(vec![high.event, access.event]),
            });
        }
        if access.reads {
            reads.push(access);
        } else if written.is_none_or(|high| high.token < access.token) {
            written = Some(access);
        }
    }
}

/// The counter ends at the number of acknowledged writes, plus some of the writes with an unknown outcome, and nothing
/// that was read or acknowledged lies above it.
fn sum(facts: &Facts<'_>, name: Name, counter: &Counter, tally: &mut Tally) {
    let Some((value, event)) = counter.last else { return };
    let (acknowledged, unknown) = (counter.acknowledged(), counter.may_have_written());
    let highest = counter.accepted.iter().max_by_key(|access| access.value);
    let also = highest.filter(|access| access.value > value).map(|access| access.event);
    let least = i64::try_from(acknowledged).unwrap_or(i64::MAX);
    let most = least.saturating_add_unsigned(unknown);
    if value < least || value > most || also.is_some() {
        tally.breach(false, || Breach {
            t: facts.history.events[event].t,
            what: format!(
                "{name}: {acknowledged} writes were acknowledged and {unknown} are unknown, and the counter ended at {value}"
            ),
            events: facts.events(also.into_iter().chain([event]).collect()),
        });
    }
}

fn twin(facts: &Facts<'_>, windows: &Windows, twins: &[Counter]) -> Verdict {
    let (mut acknowledged, mut lost) = (0u64, 0u64);
    for counter in twins {
        let wrote = counter.acknowledged();
        acknowledged += wrote;
        let mut values: Vec<i64> = counter.writes().map(|write| write.value).collect();
        values.sort_unstable();
        values.dedup();
        let doubled = wrote - values.len() as u64;
        let grown = counter.last.map(|(value, _)| u64::try_from(value).unwrap_or(0));
        lost += grown.map_or(0, |grown| wrote.saturating_sub(grown)).max(doubled);
    }
    let pauses =
        windows.all.iter().filter(|window| window.pauses_longer_than(facts.history.header.ttl_ns())).count();
    let mut verdict = Tally::default().verdict("twin", "the unfenced twin loses", "unfenced writes");
    #[allow(clippy::cast_precision_loss)] // a share
    let share = lost as f64 / acknowledged.max(1) as f64 * 100.0;
    verdict.text = format!("{lost} of {acknowledged} unfenced writes lost ({share:.2} %)");
    verdict.counts = vec![
        ("unfenced writes", acknowledged),
        ("lost", lost),
        ("pauses longer than the ttl", pauses as u64),
    ];
    verdict.status = match (acknowledged, lost, pauses) {
        (0, ..) => Status::NotJudged,
        (_, 0, 1..) => {
            verdict.text +=
                &format!(": {pauses} pauses longer than the ttl, and the faults were too weak to matter");
            Status::FloorMissed
        }
        _ => Status::Held,
    };
    verdict
}
