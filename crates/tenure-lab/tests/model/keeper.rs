//! The deadline rule of a holder: requests and answers that are lost, late and out of order, two clocks that drift apart
//! as fast as rho allows, pauses of any length. Uses the product's own arithmetic.

use std::hash::Hash;
use std::time::Duration;

use tenure::core::lease;
use tenure::core::moment::{Moment, nanos};

use tenure_lab::harness::Harness;

use super::search::{Both, Model, holds, refuted};

const TTL: Duration = Duration::from_secs(1);
/// One step of true time, by a clock that is right.
const TICK: u64 = 200_000_000;
/// By how much a clock may be wrong: together they are just within rho.
const DRIFT: u64 = TICK / 200;
/// At most so many renewals are on their way.
const ON_THE_WAY: usize = 2;
/// A message that is older says nothing any more.
const OLD: u64 = 2_000_000_000;

/// How belief is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// As the product does.
    Product,
    /// From when the answer came.
    FromAnswer,
    /// Without anything off for clocks.
    WithoutRho,
    /// Renewed by asking, not by the answer.
    OnSend,
    /// Any answer is taken for that to the newest request.
    NewestRequest,
    /// By a clock that sleeps with the machine.
    Sleepy,
    /// An answer that comes after the deadline brings the belief back.
    Revived,
}

/// A renewal on its way: when it left, by the client's clock, and whether the server has answered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Renewal {
    sent: u64,
    answered: bool,
}

#[derive(Clone, Debug, Hash)]
struct State {
    client: u64,
    server: u64,
    /// When the server's lease ends, on its clock; somebody else has it from then on.
    end: u64,
    deadline: u64,
    lost: bool,
    /// It was not believed in at some instant: never again.
    over: bool,
    way: Vec<Renewal>,
    newest: u64,
    renewed: bool,
}

impl State {
    fn believes(&self) -> bool {
        !self.lost && self.client < self.deadline
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Time passes: whether the client's and the server's clocks are fast just now.
    Tick {
        client: bool,
        server: bool,
    },
    /// Time passes in which the machine sleeps, for a clock that sleeps with it.
    Suspended,
    /// A renewal leaves.
    Ask,
    /// Message number so many arrives, or never does.
    Arrives(usize),
    Lost(usize),
}

struct Keeper(Rule);

impl Keeper {
    fn deadline(&self, sent: u64) -> u64 {
        match self.0 {
            Rule::WithoutRho => sent + nanos(TTL) - nanos(lease::MARGIN),
            _ => lease::deadline(Moment(sent), TTL).nanos(),
        }
    }
}

impl Model for Keeper {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        // Just granted, by a request that took no time.
        State {
            client: 0,
            server: 0,
            end: nanos(TTL),
            deadline: self.deadline(0),
            lost: false,
            over: false,
            way: Vec::new(),
            newest: 0,
            renewed: false,
        }
    }

    /// Only distances count.
    fn hash(&self, s: &State, hash: &mut Both) {
        for renewal in &s.way {
            (s.client - renewal.sent, renewal.answered).hash(hash);
        }
        let left = s.deadline.cast_signed() - s.client.cast_signed();
        let lease = s.end.cast_signed() - s.server.cast_signed();
        (left, lease, s.way.len(), s.lost, s.over, s.client - s.newest, s.renewed).hash(hash);
    }

    fn steps(&self, s: &State, steps: &mut Vec<Step>) {
        steps.extend((0..s.way.len()).flat_map(|n| [Step::Arrives(n), Step::Lost(n)]));
        if s.over {
            return; // nothing more is asked; what was asked is still answered
        }
        for (client, server) in [(false, false), (false, true), (true, false), (true, true)] {
            steps.push(Step::Tick { client, server });
        }
        // Not twice at one instant: the second would be the first again.
        if s.way.len() < ON_THE_WAY && s.client > s.newest {
            steps.push(Step::Ask);
        }
        if self.0 == Rule::Sleepy {
            steps.push(Step::Suspended);
        }
    }

    fn go(&self, s: &mut State, step: Step) -> Result<(), String> {
        match step {
            Step::Tick { client, server } => {
                let by = |fast: bool| if fast { TICK + DRIFT } else { TICK - DRIFT };
                s.client += by(client);
                s.server += by(server);
                let now = s.client;
                s.way.retain(|r| now - r.sent < OLD);
            }
            Step::Suspended => s.server += TICK,
            Step::Ask => {
                s.way.push(Renewal { sent: s.client, answered: false });
                s.newest = s.client;
                if self.0 == Rule::OnSend {
                    s.deadline = s.deadline.max(self.deadline(s.client));
                }
            }
            Step::Lost(n) => drop(s.way.remove(n)),
            Step::Arrives(n) if s.way[n].answered => {
                let answer = s.way.remove(n);
                let from = match self.0 {
                    Rule::FromAnswer => s.client,
                    Rule::NewestRequest => s.newest,
                    _ => answer.sent,
                };
                if s.client >= s.deadline && self.0 != Rule::Revived {
                    s.lost = true;
                } else {
                    s.deadline = s.deadline.max(self.deadline(from));
                    s.renewed = true;
                }
            }
            Step::Arrives(n) => {
                if s.server < s.end {
                    s.end = s.end.max(s.server + nanos(TTL));
                    s.way[n].answered = true;
                } else {
                    // The answer is "gone".
                    s.way.remove(n);
                    s.lost = true;
                }
            }
        }
        s.way.sort_unstable();
        match s.believes() {
            true if s.server >= s.end => Err("S5: it believes, and its lease has ended".into()),
            true if s.over => Err("S5: it was lost, and is believed in again".into()),
            true => Ok(()),
            false => {
                s.over = true;
                Ok(())
            }
        }
    }

    fn shows(&self, s: &State) -> u32 {
        u32::from(s.renewed && s.client > nanos(TTL) && s.believes()) | u32::from(!s.believes()) << 1
    }
}

const MUST: &[(u32, &str)] = &[(1, "a belief that renewals keep for longer than a lease"), (2, "a loss")];

/// Each broken variant.
const BROKEN: &[(&str, Rule)] = &[
    ("from_answer", Rule::FromAnswer),
    ("without_rho", Rule::WithoutRho),
    ("on_send", Rule::OnSend),
    ("newest_request", Rule::NewestRequest),
    ("sleepy", Rule::Sleepy),
    ("revived", Rule::Revived),
];

pub(super) fn tests(harness: &mut Harness<'_>) {
    harness.test_in("keeper", "keeper::s5_no_belief_outlives_its_lease", || {
        holds(&Keeper(Rule::Product), MUST).into()
    });
    for (name, rule) in BROKEN {
        harness.test_in("keeper", format!("keeper::{name}_is_refuted"), || {
            refuted(&Keeper(*rule), &["S5"]).into()
        });
    }
}
