//! Two clients and one object that is changed by compare-and-set. What to read, write and answer is decided by the
//! product's own [`Call`], and deadlines are those of its [`lease`](tenure::core::lease). Writes are late or their answers
//! lost, clients give up or fall silent at any instant, leases end.
//!
//! The store names a version by the body, as an ETag does. The first client also judges ends by the store's clock, the
//! second one only by what it has seen itself. A tick is 20 s, a lease lasts one and a half.
//!
//! - [`client`]: what is asked, heard and believed.
//! - [`store`]: what a write does, and what must hold then.

mod client;
mod store;

use std::hash::Hash;
use std::time::Duration;

use tenure::core::cas::{Call, Object, Outcome, Unanswered, Version};
use tenure::core::moment::{Moment, nanos};
use tenure_lab::harness::Harness;

use super::search::{Both, Model, holds, refuted};

const TICK: Duration = Duration::from_secs(20);
/// A lease: it ends between two ticks.
const TTL: Duration = Duration::from_secs(30);
const CLIENTS: [usize; 2] = [0, 1];

/// How far the search goes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    ticks: u8,
    /// How often each client asks, and how often it renews, at most.
    attempts: [u8; 2],
    renewals: [u8; 2],
    /// How many writes are late or lose their answer.
    timeouts: u8,
}

const NARROW: Bounds = Bounds { ticks: 2, attempts: [1, 1], renewals: [0, 0], timeouts: 1 };
/// A late write and a lost answer in one run.
const BOTH_LOST: Bounds = Bounds { attempts: [2, 1], timeouts: 2, ..NARROW };
/// Everything once, for longer than a lease and a half.
const LONG: Bounds = Bounds { ticks: 3, renewals: [1, 0], ..NARROW };
/// For what goes wrong without time.
const STILL: Bounds = Bounds { ticks: 0, ..NARROW };
/// For renewals, one of which is late.
const LONGER: Bounds = Bounds { renewals: [1, 1], timeouts: 0, ..NARROW };

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// Bodies without a count: an old version comes back.
    NoCount,
    /// Ends are judged by the writer's clock, which differs from the reader's.
    ClientClocks,
    /// A write whose outcome is unknown is sent again without reading, and refused then: somebody else was faster.
    BlindRetry,
    /// A withdrawal reads from a replica that may lag behind.
    DirectRead,
    /// A withdrawal leaves the version that a late write expects.
    NoBump,
    /// The store ignores the condition.
    Unconditional,
    /// A claim that is found in the object holds for a full lease, without another write.
    HeldByReading,
    /// A version is taken to be as old as the request that showed it.
    SeenWhenSent,
    /// A renewal takes the lock if it is free.
    RenewalCreates,
}

type Current = Option<(Version, Object)>;

/// What a call waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Io {
    /// A read: when it was sent; once served, what it found and for how many ticks that had not changed.
    Read { sent: u8, found: Option<(Current, u8)> },
    /// A write, and once served, what came of it.
    Write { write: Write, outcome: Option<Outcome> },
}

/// A write on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Write {
    client: usize,
    errand: Errand,
    expected: Option<Version>,
    object: Object,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Errand {
    Attempt,
    Renewal,
    Release,
}

/// A call under way.
#[derive(Clone, Debug, Hash)]
struct Running {
    call: Call,
    errand: Errand,
    /// When it began.
    sent: u8,
    io: Io,
    /// Its write was sent a second time, blindly.
    again: bool,
}

/// A claim's life at its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    New,
    /// Answered: somebody else has it.
    Waiting,
    /// Believed in until then.
    Held {
        until: Moment,
    },
    Leaving,
    Over,
}

#[derive(Clone, Debug, Hash)]
struct Side {
    phase: Phase,
    running: Option<Running>,
    /// What earlier calls left on the way.
    unanswered: Unanswered,
    /// The version that it saw last, and since when.
    sight: Option<(Version, u8)>,
    attempts: u8,
    renewals: u8,
    withdrawn: bool,
}

#[derive(Clone, Hash)]
struct State {
    now: u8,
    current: Current,
    /// When the object was written, and by whom.
    written: (u8, usize),
    /// Everything that the object ever was, for replicas that lag behind.
    past: Vec<Current>,
    late: Vec<Write>,
    timeouts: u8,
    sides: [Side; 2],
    highest: i64,
    shown: u32,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Tick,
    Ask(usize),
    Renew(usize),
    /// The claim is given up, released, or withdrawn after a loss.
    GiveUp(usize),
    Served(usize),
    /// A read is served with what the object was, so many writes ago.
    ServedOld(usize, usize),
    Heard(usize),
    /// The client waits no longer for the answer to its write.
    TimedOut(usize),
    Late(usize),
}

const HELD: u32 = 1;
const TAKEN: u32 = 2;
const RENEWED: u32 = 4;
const TAKEN_OVER: u32 = 8;
const LATE_REFUSED: u32 = 16;
const LATE_DONE: u32 = 32;
const SETTLED: u32 = 64;
const ALL_DONE: u32 = 128;

const BRIEF: &[(u32, &str)] = &[
    (HELD, "a grant"),
    (TAKEN, "a claim that is told to wait"),
    (TAKEN_OVER, "a lock that is taken over from a dead holder"),
    (LATE_REFUSED, "a late write of a claim that is being withdrawn, or was, and matches nothing"),
    (LATE_DONE, "a late write that takes effect"),
    (SETTLED, "a write whose outcome was unknown and that took effect"),
    (ALL_DONE, "both withdrawn"),
];

const LONGER_BELIEF: &[(u32, &str)] = &[(RENEWED, "a belief that a renewal makes longer")];

struct Cas(Wrong, Bounds);

fn moment(tick: u8) -> Moment {
    Moment(u64::from(tick) * nanos(TICK))
}

impl State {
    fn believes(&self, client: usize) -> bool {
        matches!(self.sides[client].phase, Phase::Held { until } if moment(self.now) < until)
    }

    fn object(&self) -> Option<&Object> {
        self.current.as_ref().map(|(_, object)| object)
    }
}

fn claim(client: usize) -> u128 {
    client as u128 + 1
}

impl Model for Cas {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        let side = Side {
            phase: Phase::New,
            running: None,
            unanswered: Unanswered::Nothing,
            sight: None,
            attempts: 0,
            renewals: 0,
            withdrawn: false,
        };
        State {
            now: 0,
            current: None,
            written: (0, 0),
            past: Vec::new(),
            late: Vec::new(),
            timeouts: 0,
            sides: [side.clone(), side],
            highest: 0,
            shown: 0,
        }
    }

    fn hash(&self, s: &State, hash: &mut Both) {
        (s.now, &s.current, s.written, &s.past, &s.late, s.timeouts, &s.sides, s.highest).hash(hash);
    }

    fn steps(&self, s: &State, steps: &mut Vec<Step>) {
        let Bounds { ticks, attempts, renewals, timeouts } = self.1;
        if s.now < ticks {
            steps.push(Step::Tick);
        }
        for c in CLIENTS {
            let side = &s.sides[c];
            match (&side.running, side.phase) {
                (None, Phase::New | Phase::Waiting) if side.attempts < attempts[c] => {
                    steps.push(Step::Ask(c))
                }
                (None, Phase::Held { .. }) if side.renewals < renewals[c] && s.believes(c) => {
                    steps.push(Step::Renew(c));
                }
                (Some(running), _) => match &running.io {
                    Io::Read { found: None, .. } => {
                        steps.push(Step::Served(c));
                        if self.0 == Wrong::DirectRead && running.errand == Errand::Release {
                            steps.extend((0..s.past.len()).map(|n| Step::ServedOld(c, n)));
                        }
                    }
                    Io::Read { .. } => steps.push(Step::Heard(c)),
                    Io::Write { outcome, .. } => {
                        steps.push(if outcome.is_some() { Step::Heard(c) } else { Step::Served(c) });
                        if s.timeouts < timeouts {
                            steps.push(Step::TimedOut(c));
                        }
                    }
                },
                _ => {}
            }
            let begun = side.phase != Phase::New || side.running.is_some();
            if begun && !matches!(side.phase, Phase::Leaving | Phase::Over) {
                steps.push(Step::GiveUp(c));
            }
        }
        steps.extend((0..s.late.len()).map(Step::Late));
    }

    fn go(&self, s: &mut State, step: Step) -> Result<(), String> {
        match step {
            Step::Tick => s.now += 1,
            Step::Ask(c) => client::begin(s, c, Errand::Attempt, self.0),
            Step::Renew(c) => client::begin(s, c, Errand::Renewal, self.0),
            Step::GiveUp(c) => client::give_up(s, c, self.0),
            Step::Served(c) => {
                store::serve(s, c, self.0)?;
                // The answer to a read takes time only for the second client's attempts: fewer orders to look at.
                let slow = s.sides[c].running.as_ref().is_none_or(|r| c == 1 && r.errand == Errand::Attempt);
                if !slow && matches!(s.sides[c].running, Some(Running { io: Io::Read { .. }, .. })) {
                    client::hear(s, c, self.0);
                }
            }
            Step::ServedOld(c, n) => store::serve_old(s, c, n),
            Step::Heard(c) => client::hear(s, c, self.0),
            Step::TimedOut(c) => client::time_out(s, c, self.0),
            Step::Late(n) => store::late(s, n, self.0)?,
        }
        client::forget(s);
        store::judge(s)
    }

    fn shows(&self, s: &State) -> u32 {
        s.shown
    }
}

/// The product as it is, within which bounds, whether a debug build can afford them, and what must happen.
type Right = (&'static str, Bounds, bool, &'static [(u32, &'static str)]);

const RIGHT: &[Right] = &[
    ("s1_s2_s4_s7_s9_a_late_write_or_a_lost_answer", NARROW, true, BRIEF),
    ("s1_s10_renewals", LONGER, true, LONGER_BELIEF),
    ("s1_s2_s4_s7_s9_a_late_write_and_a_lost_answer", BOTH_LOST, false, BRIEF),
    ("s1_s2_s4_s7_s9_s10_for_longer", LONG, false, LONGER_BELIEF),
];

/// Each broken variant, and the rules of which it breaks one.
const BROKEN: &[(&str, Wrong, Bounds, &[&str])] = &[
    ("no_count", Wrong::NoCount, STILL, &["S9"]),
    ("client_clocks", Wrong::ClientClocks, NARROW, &["S1", "S4"]),
    ("blind_retry", Wrong::BlindRetry, STILL, &["S9"]),
    ("direct_read", Wrong::DirectRead, STILL, &["S9"]),
    ("no_bump", Wrong::NoBump, STILL, &["S9"]),
    ("unconditional", Wrong::Unconditional, STILL, &["S1", "S2", "S4", "S9"]),
    ("held_by_reading", Wrong::HeldByReading, LONGER, &["S1", "S4"]),
    ("seen_when_sent", Wrong::SeenWhenSent, NARROW, &["S1", "S4"]),
    ("renewal_creates", Wrong::RenewalCreates, LONGER, &["S10"]),
];

pub(super) fn tests(harness: &mut Harness<'_>) {
    for (name, bounds, quick, must) in RIGHT {
        if *quick || !cfg!(debug_assertions) {
            harness
                .test_in("cas", format!("cas::{name}"), || holds(&Cas(Wrong::Nothing, *bounds), must).into());
        }
    }
    for (name, wrong, bounds, rules) in BROKEN {
        harness.test_in("cas", format!("cas::{name}_is_refuted"), || {
            refuted(&Cas(*wrong, *bounds), rules).into()
        });
    }
}
