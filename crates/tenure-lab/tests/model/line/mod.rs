//! Three claims of two clients in one line. The line is the product's own [`Lines`], the deadlines are those of its
//! [`lease`], neither is a copy. Messages are lost, late, out of order and repeated; calls are given up at any instant;
//! leases and marks end.
//!
//! The clients are a model of the engine, reduced to what it sends and believes: a claim is asked for, asked about,
//! given up, and withdrawn with a mark if one of its requests is unanswered. The second claim of the first client is made
//! once the first one is over. A tick is 20 s: a lease lasts one and a half, a mark three.
//!
//! - [`client`]: what is heard and believed.
//! - [`server`]: what is served, and what must hold of it.
//! - [`arena`]: its memory.

mod arena;
mod client;
mod server;

use std::hash::Hash;
use std::rc::Rc;
use std::time::Duration;

use tenure::core::line::{Lines, Now, Place};
use tenure::core::moment::{Moment, nanos};
use tenure_lab::harness::Harness;

use super::search::{Both, Model, holds, refuted};
use arena::Small;

const TICK: Duration = Duration::from_secs(20);
/// The lease of holders and of waiters: it ends between two ticks.
const TTL: Duration = Duration::from_secs(30);
const CLAIMS: [u8; 3] = [0, 1, 2];

/// How far the search goes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// How long a run lasts, in ticks.
    ticks: u8,
    /// How often each claim is asked for, how often asked about, and how often its release is sent, at most.
    asks: [u8; CLAIMS.len()],
    renewals: [u8; CLAIMS.len()],
    releases: [u8; CLAIMS.len()],
}

/// Longer than a mark lives.
const FULL: Bounds = Bounds { ticks: 4, asks: [1, 1, 2], renewals: [1, 0, 0], releases: [1, 1, 1] };
/// For a debug build, and for what goes wrong early.
const NARROW: Bounds = Bounds { ticks: 2, renewals: [0, 0, 0], ..FULL };

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// What is unanswered is withdrawn without a mark.
    NoMark,
    /// An old request is let in.
    NoBirth,
    /// The lease counts from when the answer came.
    FromAnswer,
    /// The lease counts from when the push came.
    FromPush,
    /// A push is believed that is older than the answer that said "wait".
    OldPush,
    /// A renewal takes the lock where it is gone.
    Creates,
    /// A release frees the lock, whoever has it.
    Blind,
}

/// A message on its way. Times are ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Message {
    Attempt { claim: u8, sent: u8 },
    Renew { claim: u8, sent: u8 },
    Release { claim: u8, mark: bool },
    Answer { claim: u8, sent: u8, of: Of, says: Says },
    Push { claim: u8, at: u8 },
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Of {
    Attempt,
    Renewal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Says {
    Held,
    /// With the store's time.
    Waits(u8),
    Gone,
}

/// A claim's life at its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    New,
    Asking,
    /// With when the last answered request was sent, and the store's time of the answer.
    Waiting {
        sent: u8,
        at: u8,
    },
    /// Believed in until then; known since then.
    Held {
        until: Moment,
        learned: u8,
    },
    /// Given up, released or lost: being withdrawn.
    Leaving,
}

/// A claim on its client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Side {
    phase: Phase,
    birth: u8,
    asked: u8,
    unanswered: u8,
    renewed: u8,
    mark: bool,
    released: u8,
}

#[derive(Clone)]
struct State {
    /// In ticks.
    now: u8,
    /// Shared by all states between which it did not change.
    lines: Rc<Lines<Small>>,
    sides: [Side; CLAIMS.len()],
    /// Sorted: which was sent first does not matter.
    way: Vec<Message>,
    /// Whether the server served a release of a claim.
    withdrawn: [bool; CLAIMS.len()],
    /// The ticks in which the server was asked for a mark, as bits.
    marked: [u8; CLAIMS.len()],
    /// The highest token so far.
    highest: i64,
    shown: u32,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Tick,
    Ask(u8),
    Renew(u8),
    GiveUp(u8),
    Release(u8),
    Arrives(Message),
}

const HELD: u32 = 1;
const PUSHED: u32 = 2;
const REFUSED_BY_MARK: u32 = 4;
const REFUSED_BY_AGE: u32 = 8;
const RENEWED: u32 = 16;
const NOTHING_TO_RENEW: u32 = 32;
const PUSH_TOO_OLD: u32 = 64;
const EXPIRED: u32 = 128;
const ALL_DONE: u32 = 256;

const BRIEF: &[(u32, &str)] = &[
    (HELD, "a grant by an answer"),
    (PUSHED, "a grant by a push"),
    (REFUSED_BY_MARK, "a late request that a mark refuses"),
    (EXPIRED, "a belief that ends by its deadline"),
    (ALL_DONE, "all three withdrawn"),
];
const MUST: &[(u32, &str)] = &[
    (REFUSED_BY_AGE, "a request that is too old to be let in"),
    (RENEWED, "a belief that a renewal makes longer"),
    (NOTHING_TO_RENEW, "a renewal of what is gone"),
    (PUSH_TOO_OLD, "a push that is older than the answer"),
];

struct Line(Wrong, Bounds);

fn id(claim: u8) -> u128 {
    u128::from(claim) + 1
}

/// The client's clock at a tick.
fn moment(tick: u8) -> Moment {
    Moment(u64::from(tick) * nanos(TICK))
}

/// The server's clock at a tick: it shows something else.
fn server_ns(tick: u8) -> u64 {
    u64::from(tick + 1) * nanos(TICK)
}

impl State {
    fn at(&self) -> Now {
        Now { ns: server_ns(self.now), wall_us: 0, ceiling: i64::MAX }
    }

    fn side(&mut self, claim: u8) -> &mut Side {
        &mut self.sides[usize::from(claim)]
    }

    fn believes(&self, claim: u8) -> bool {
        matches!(self.sides[usize::from(claim)].phase, Phase::Held { until, .. } if moment(self.now) < until)
    }

    fn send(&mut self, message: Message) {
        let at = self.way.partition_point(|m| *m < message);
        self.way.insert(at, message);
    }

    /// S1 and S5: at most one claim is believed in, and its lease lives.
    fn beliefs(&self) -> Result<(), String> {
        let believers: Vec<u8> = CLAIMS.into_iter().filter(|c| self.believes(*c)).collect();
        if believers.len() > 1 {
            return Err(format!("S1: the claims {believers:?} are believed in"));
        }
        let dead = |&&claim: &&u8| !matches!(self.lines.peek(id(claim)), Place::Held { end, .. } if end > self.at().ns);
        match believers.iter().find(dead) {
            Some(claim) => Err(format!("S5: claim {claim} is believed in, and its lease has ended")),
            None => Ok(()),
        }
    }
}

impl Model for Line {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        let side = Side {
            phase: Phase::New,
            birth: 0,
            asked: 0,
            unanswered: 0,
            renewed: 0,
            mark: false,
            released: 0,
        };
        State {
            now: 0,
            lines: Rc::new(Lines::with_seed(Small::default(), 7).expect("there is room")),
            sides: [side; CLAIMS.len()],
            way: Vec::new(),
            withdrawn: [false; CLAIMS.len()],
            marked: [0; CLAIMS.len()],
            highest: 0,
            shown: 0,
        }
    }

    /// The line's own part: where each claim stands, also those whose lease is over and that are still there because
    /// nobody came; its last token; and its marks, which follow from when they were asked for.
    fn hash(&self, s: &State, hash: &mut Both) {
        for claim in CLAIMS {
            match s.lines.peek(id(claim)) {
                Place::Held { token, end, previous } => (1, end, token, previous).hash(hash),
                Place::Waiting { ahead, end, .. } => (2, end, i64::from(ahead)).hash(hash),
                _ => 0.hash(hash),
            }
        }
        (s.now, s.lines.last_token(), s.lines.counts().marks).hash(hash);
        (s.sides, s.withdrawn, s.marked, s.highest).hash(hash);
        s.way.hash(hash);
    }

    fn steps(&self, s: &State, steps: &mut Vec<Step>) {
        let Bounds { ticks, asks, renewals, releases } = self.1;
        if s.now < ticks {
            steps.push(Step::Tick);
        }
        for (claim, side) in CLAIMS.into_iter().zip(&s.sides) {
            let n = usize::from(claim);
            // The first client makes its second claim when it has given up the first.
            let may = claim != 1 || s.sides[0].phase == Phase::Leaving;
            match side.phase {
                Phase::New if may && s.now <= u8::from(claim == 1) => steps.push(Step::Ask(claim)),
                Phase::Asking if side.asked < asks[n] => steps.push(Step::Ask(claim)),
                Phase::Waiting { .. } | Phase::Held { .. } if side.renewed < renewals[n] => {
                    steps.push(Step::Renew(claim));
                }
                Phase::Leaving if side.released < releases[n] => steps.push(Step::Release(claim)),
                _ => {}
            }
            if matches!(side.phase, Phase::Asking | Phase::Waiting { .. } | Phase::Held { .. }) {
                steps.push(Step::GiveUp(claim));
            }
        }
        let mut last = None;
        for message in &s.way {
            if last.replace(*message) == Some(*message) {
                continue; // the same as the one before
            }
            // What never arrives is lost: a state in which it is still on its way stands for both. What arrives twice
            // is what its client sends twice; a second push changes nothing.
            steps.push(Step::Arrives(*message));
        }
    }

    fn go(&self, s: &mut State, step: Step) -> Result<(), String> {
        let now = s.now;
        match step {
            Step::Tick => s.now += 1,
            Step::Ask(claim) => {
                let side = s.side(claim);
                if side.phase == Phase::New {
                    (side.phase, side.birth) = (Phase::Asking, now);
                }
                side.asked += 1;
                side.unanswered += 1;
                s.send(Message::Attempt { claim, sent: now });
            }
            Step::Renew(claim) => {
                s.side(claim).renewed += 1;
                s.send(Message::Renew { claim, sent: now });
            }
            Step::GiveUp(claim) => client::leave(s.side(claim), self.0),
            Step::Release(claim) => {
                let side = s.side(claim);
                side.released += 1;
                let mark = side.mark;
                s.send(Message::Release { claim, mark });
            }
            Step::Arrives(message) => {
                let at = s.way.iter().position(|m| *m == message).expect("it is on its way");
                s.way.remove(at);
                match message {
                    Message::Answer { claim, sent, of, says } => {
                        client::hear(s, claim, sent, of, says, self.0)
                    }
                    Message::Push { claim, at } => client::pushed(s, claim, at, self.0),
                    _ => server::serve(s, message, self.0)?,
                }
            }
        }
        client::tidy(s, self.0);
        s.beliefs()?;
        if s.withdrawn == [true; CLAIMS.len()] {
            s.shown |= ALL_DONE;
        }
        Ok(())
    }

    fn shows(&self, s: &State) -> u32 {
        s.shown
    }
}

/// Each broken variant, and the rules of which it breaks one.
const BROKEN: &[(&str, Wrong, Bounds, &[&str])] = &[
    ("no_mark", Wrong::NoMark, FULL, &["S9"]),
    ("no_birth", Wrong::NoBirth, FULL, &["S9"]),
    ("from_answer", Wrong::FromAnswer, FULL, &["S1", "S5"]),
    ("from_push", Wrong::FromPush, FULL, &["S1", "S5"]),
    ("old_push", Wrong::OldPush, NARROW, &["S1", "S5"]),
    ("creates", Wrong::Creates, FULL, &["S10"]),
    ("blind", Wrong::Blind, FULL, &["S4"]),
];

pub(super) fn tests(harness: &mut Harness<'_>) {
    let debug = cfg!(debug_assertions);
    harness.test_in("line", "line::s1_s2_s4_s5_s7_s9_s10_l3_with_marks_and_lost_answers", move || {
        let every = [BRIEF, MUST].concat();
        let (bounds, must) = if debug { (NARROW, BRIEF) } else { (FULL, &every[..]) };
        holds(&Line(Wrong::Nothing, bounds), must).into()
    });
    for (name, wrong, bounds, rules) in BROKEN {
        harness.test_in("line", format!("line::{name}_is_refuted"), || {
            refuted(&Line(*wrong, *bounds), rules).into()
        });
    }
}
