//! Clients that acquire one lock on several servers. The clients decide by the product's own [`Ballot`] and [`Poll`]; the
//! servers follow the rules that [`tenure::core::quorum`] states for its scripts. Requests are late, out of order, repeated
//! or never arrive; answers are lost; clients lose patience at any instant; servers lose their memory.
//!
//! There are two kinds of clock. *Wild*: a vote expires at any moment, and servers have no clock. Only the order of tokens
//! is judged then, since it must not rest on clocks. *Honest*: votes last for a ttl, and then nobody believes while another
//! does. A tick is 1 s, a lease lasts two. The wall clocks of clients are behind as far as they like, or ahead by as much as
//! the product allows.
//!
//! Some bounds have more states than there is time for. Those are searched breadth first up to a number of states, and the
//! result says so.
//!
//! Servers are alike, so states that differ only in their numbers are one.
//!
//! - [`client`]: what is asked, heard and believed.
//! - [`server`]: what a server does.

mod client;
mod server;

use std::hash::{Hash, Hasher};
use std::time::Duration;

use tenure::Token;
use tenure::core::moment::{Moment, nanos};
use tenure::core::quorum::{Ballot, Poll, Quorum};
use tenure_lab::harness::Harness;

use super::search::{Both, Model, holds_within, refuted};
use server::{Message, Request, Server};

const TICK: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(2);

/// How far the search goes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    servers: usize,
    /// How many rounds each client has.
    rounds: &'static [u8],
    /// How long a run lasts, in ticks. 0: the clocks are wild.
    ticks: u8,
    /// By how many ticks the wall clock of each client may be ahead.
    skews: &'static [&'static [i8]],
    /// Answers that are lost although the request was served, requests that arrive twice, servers that forget everything.
    lost: u8,
    copies: u8,
    crashes: u8,
    /// Whether a holder renews, once, and whether it releases.
    renews: bool,
    releases: bool,
}

/// The order of tokens alone.
const WILD: Bounds = Bounds {
    servers: 3,
    rounds: &[1, 1],
    ticks: 0,
    skews: &[&[1, 2], &[1, 2]],
    lost: 0,
    copies: 0,
    crashes: 0,
    renews: false,
    releases: false,
};
/// Answers are lost, and requests arrive twice.
const WILD_MESSAGES: Bounds = Bounds { lost: 1, copies: 1, ..WILD };
/// All propose the same.
const WILD_EQUAL: Bounds = Bounds { skews: &[&[1], &[1]], ..WILD };
const WILD_COPIES: Bounds = Bounds { copies: 1, ..WILD_EQUAL };
const WILD_RENEWALS: Bounds = Bounds { renews: true, ..WILD_COPIES };
/// Several rounds of each claim.
const ROUNDS: Bounds = Bounds {
    servers: 3,
    rounds: &[2, 1],
    ticks: 1,
    skews: &[&[0], &[0], &[0]],
    lost: 0,
    copies: 0,
    crashes: 0,
    renews: false,
    releases: false,
};
/// One round each, by honest clocks.
const HONEST: Bounds = Bounds { rounds: &[1, 1], ticks: 2, ..ROUNDS };
/// A server forgets everything. The first client's wall clock is ahead as far as the product allows, the second one's is
/// far behind.
const AMNESIA: Bounds = Bounds { ticks: 3, skews: &[&[1], &[-9]], crashes: 1, ..HONEST };
const RENEWALS: Bounds = Bounds { renews: true, ..HONEST };
const FIVE: Bounds = Bounds { servers: 5, ..WILD_EQUAL };
const RELEASES: Bounds = Bounds { ticks: 1, releases: true, ..HONEST };
const THREE_CLIENTS: Bounds = Bounds { rounds: &[1, 1, 1], ticks: 1, ..ROUNDS };

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// The token is the highest of the counters of a quorum.
    HighestCounter,
    /// The same, written back to the servers, which take it as it is.
    WriteBack,
    /// The same, written back to those that still have the client's vote.
    WriteBackIfOwner,
    /// A vote without the token counts as one with it.
    LockedCounts,
    /// A server accepts a token again, whoever proposes it.
    EqualFromAnyone,
    /// The same, from a client that has the server's vote: it may have asked twice.
    EqualFromVoter,
    /// A promotion to the token that the server has already is accepted.
    PromoteEqual,
    /// A renewal does not look at the token.
    ExtendUnfenced,
    /// Rounds are not told apart: a late release takes a vote of the next round away.
    OneRound,
    /// Votes of an earlier round count.
    VotesCarried,
    /// The lease counts from the decision.
    FromDecision,
    /// A server that lost its memory votes at once, or after half the time.
    NoQuarantine,
    ShortQuarantine,
    /// A server's clock gives no floor.
    NoFloor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Voting,
    Held { until: Moment },
    Over,
}

#[derive(Clone, Debug)]
struct Side {
    phase: Phase,
    round: u8,
    ballot: Option<Ballot>,
    /// A naive client's token, and who took it.
    write_back: Option<(Token, Poll)>,
    /// The greatest floor that it heard of in earlier rounds.
    heard: Option<Token>,
    /// What was granted before its round began: its token must be greater.
    before: i64,
    token: i64,
    /// The renewal: who agreed, when it was sent, and the greatest token of others at that time.
    renewal: Option<(Poll, u8, i64)>,
}

#[derive(Clone)]
struct State {
    now: u8,
    servers: Vec<Server>,
    sides: Vec<Side>,
    /// Every token that was granted.
    granted: Vec<i64>,
    lost: u8,
    copies: u8,
    crashes: u8,
    shown: u32,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Tick,
    /// A client begins a round, with its clock ahead by so many ticks.
    Start(usize, i8),
    /// A request arrives at a server; whether its answer does.
    Served(usize, usize, bool),
    /// A request arrives, and will arrive once more.
    Copied(usize, usize),
    /// A vote expires, by a wild clock.
    Vanished(usize),
    /// A server restarts empty.
    Crashed(usize),
    /// A client waits no longer for missing answers.
    OutOfPatience(usize),
    Renew(usize),
    Release(usize),
}

const GRANTED: u32 = 1;
const PROMOTED: u32 = 2;
const GAVE_UP: u32 = 4;
const SECOND_ROUND: u32 = 8;
const RENEWED: u32 = 16;
const BOTH: u32 = 32;
const AFTER_CRASH: u32 = 64;

const SOME: &[(u32, &str)] = &[
    (GRANTED, "a grant"),
    (PROMOTED, "a promoted token"),
    (BOTH, "two grants"),
    (GAVE_UP, "a round in vain"),
];
const SECOND: (u32, &str) = (SECOND_ROUND, "a grant in a second round");
const LONGER: (u32, &str) = (RENEWED, "a renewal");
const RECOVERED: (u32, &str) = (AFTER_CRASH, "a grant with the vote of a server that had lost its memory");

struct Redlock(Wrong, Bounds);

fn moment(tick: u8) -> Moment {
    Moment(u64::from(tick) * nanos(TICK))
}

impl Bounds {
    fn quorum(&self) -> Quorum {
        Quorum::majority(self.servers).expect("servers")
    }

    /// A clock that is ahead by `skew` ticks, in µs. Wild clocks stand still.
    fn wall_us(&self, now: u8, skew: i8) -> u64 {
        if self.ticks == 0 {
            return u64::from(skew.unsigned_abs());
        }
        (20 + u64::from(now)).saturating_add_signed(i64::from(skew)) * 1_000_000
    }
}

impl State {
    fn believes(&self, client: usize) -> bool {
        matches!(self.sides[client].phase, Phase::Held { until } if moment(self.now) < until)
    }

    fn send(&mut self, servers: impl IntoIterator<Item = usize>, client: usize, request: Request) {
        let message = Message { client, request };
        for server in servers {
            let way = &mut self.servers[server].way;
            let at = way.partition_point(|m| *m < message);
            way.insert(at, message);
        }
    }
}

impl Model for Redlock {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        let side = Side {
            phase: Phase::Idle,
            round: 0,
            ballot: None,
            write_back: None,
            heard: None,
            before: 0,
            token: 0,
            renewal: None,
        };
        State {
            now: 0,
            servers: vec![Server::default(); self.1.servers],
            sides: vec![side; self.1.rounds.len()],
            granted: Vec::new(),
            lost: 0,
            copies: 0,
            crashes: 0,
            shown: 0,
        }
    }

    fn hash(&self, s: &State, hash: &mut Both) {
        let mut columns: Vec<Both> = Vec::with_capacity(s.servers.len());
        for (k, server) in s.servers.iter().enumerate() {
            let mut column = Both::default();
            server.hash(&mut column);
            for side in &s.sides {
                let poll = |poll: &Option<(Token, Poll)>| poll.as_ref().and_then(|(_, p)| p.answer(k));
                side.ballot.as_ref().map(|b| (b.vote(k), b.promotion(k))).hash(&mut column);
                (poll(&side.write_back), side.renewal.as_ref().and_then(|(p, ..)| p.answer(k)))
                    .hash(&mut column);
            }
            columns.push(column);
        }
        columns.sort_unstable();
        columns.hash(hash);
        for side in &s.sides {
            (side.phase, side.round, side.heard, side.before, side.token).hash(hash);
            side.renewal.as_ref().map(|(_, sent, older)| (sent, older)).hash(hash);
            side.write_back.as_ref().map(|(token, _)| token).hash(hash);
            if let Some(ballot) = &side.ballot {
                (ballot.proposal(), ballot.deadline(), ballot.promoted()).hash(hash);
            }
        }
        (s.now, s.lost, s.copies, s.crashes).hash(hash);
        s.granted.hash(hash);
        hash.write_u8(0);
    }

    fn steps(&self, s: &State, steps: &mut Vec<Step>) {
        let b = &self.1;
        if s.now < b.ticks {
            steps.push(Step::Tick);
        }
        for (c, side) in s.sides.iter().enumerate() {
            match side.phase {
                // Clients are alike: they begin in order.
                Phase::Idle if side.round < b.rounds[c] && (c == 0 || s.sides[c - 1].round > 0) => {
                    steps.extend(b.skews[c].iter().map(|skew| Step::Start(c, *skew)));
                }
                Phase::Voting => steps.push(Step::OutOfPatience(c)),
                Phase::Held { .. } => {
                    if b.renews && side.renewal.is_none() && (b.ticks == 0 || s.believes(c)) {
                        steps.push(Step::Renew(c));
                    }
                    if b.releases {
                        steps.push(Step::Release(c));
                    }
                }
                _ => {}
            }
        }
        for (k, server) in s.servers.iter().enumerate() {
            if b.ticks == 0 && server.vote.is_some() {
                steps.push(Step::Vanished(k));
            }
            if s.crashes < b.crashes {
                steps.push(Step::Crashed(k));
            }
            if server.out > s.now {
                continue; // in quarantine
            }
            for (n, message) in server.way.iter().enumerate() {
                steps.push(Step::Served(k, n, true));
                // The answer to a release changes nothing.
                if s.lost < b.lost && !matches!(message.request, Request::Release { .. }) {
                    steps.push(Step::Served(k, n, false));
                }
                if s.copies < b.copies && matches!(message.request, Request::Acquire { .. }) {
                    steps.push(Step::Copied(k, n));
                }
            }
        }
    }

    fn go(&self, s: &mut State, step: Step) -> Result<(), String> {
        match step {
            Step::Tick => {
                s.now += 1;
                let now = s.now;
                s.servers.iter_mut().for_each(|server| server.expire(now));
            }
            Step::Start(c, skew) => client::start(s, c, skew, self),
            Step::Served(k, n, heard) => {
                let message = s.servers[k].way.remove(n);
                s.lost += u8::from(!heard);
                let answer = server::serve(s, k, message, self);
                if heard {
                    client::hear(s, k, message, answer, self)?;
                }
            }
            Step::Copied(k, n) => {
                s.copies += 1;
                let message = s.servers[k].way[n];
                server::serve(s, k, message, self);
            }
            Step::Vanished(k) => (s.servers[k].vote, s.servers[k].told) = (None, 0),
            Step::Crashed(k) => {
                s.crashes += 1;
                server::crash(s, k, self.0);
            }
            Step::OutOfPatience(c) => client::decide(s, c, true, self)?,
            Step::Renew(c) => client::renew(s, c),
            Step::Release(c) => client::release(s, c),
        }
        client::forget(s, self.1.renews);
        server::prune(s);
        let believers: Vec<usize> = (0..s.sides.len()).filter(|c| s.believes(*c)).collect();
        if self.1.ticks > 0 && believers.len() > 1 {
            return Err(format!("S1: the clients {believers:?} believe"));
        }
        Ok(())
    }

    fn shows(&self, s: &State) -> u32 {
        s.shown
    }
}

/// The protocol as it is, within which bounds, and what must happen.
type Right = (&'static str, Bounds, &'static [(u32, &'static str)]);

const RIGHT: &[Right] = &[
    ("s2_needs_no_clocks", WILD_EQUAL, SOME),
    ("s2_needs_no_clocks_nor_equal_proposals", WILD, SOME),
    ("s2_with_lost_answers_and_repeated_requests", WILD_MESSAGES, SOME),
    ("s2_s10_renewals_need_no_clocks", WILD_RENEWALS, &[LONGER]),
    ("s2_five_servers", FIVE, SOME),
    ("s1_s2_by_honest_clocks", HONEST, SOME),
    ("s1_s2_releases", RELEASES, SOME),
    ("s1_s2_several_rounds", ROUNDS, &[SECOND]),
    ("s1_s2_a_server_loses_its_memory", AMNESIA, &[RECOVERED]),
    ("s1_s10_renewals", RENEWALS, &[LONGER]),
    ("s1_s2_three_clients", THREE_CLIENTS, SOME),
];

/// How many states of each to look at: a debug build has less time.
const MOST: usize = if cfg!(debug_assertions) { 30_000 } else { 1_000_000 };

/// Each broken variant, and the rules of which it breaks one.
const BROKEN: &[(&str, Wrong, Bounds, &[&str])] = &[
    ("highest_counter", Wrong::HighestCounter, WILD_EQUAL, &["S2"]),
    ("write_back", Wrong::WriteBack, WILD_EQUAL, &["S2"]),
    ("write_back_if_owner", Wrong::WriteBackIfOwner, WILD_EQUAL, &["S2"]),
    ("locked_counts", Wrong::LockedCounts, WILD_EQUAL, &["S2"]),
    ("equal_from_anyone", Wrong::EqualFromAnyone, WILD_EQUAL, &["S2"]),
    ("equal_from_voter", Wrong::EqualFromVoter, WILD_COPIES, &["S2"]),
    ("promote_equal", Wrong::PromoteEqual, WILD_EQUAL, &["S2"]),
    ("extend_unfenced", Wrong::ExtendUnfenced, WILD_RENEWALS, &["S10"]),
    ("one_round", Wrong::OneRound, ROUNDS, &["S1"]),
    ("votes_carried", Wrong::VotesCarried, ROUNDS, &["S1", "S2"]),
    ("from_decision", Wrong::FromDecision, HONEST, &["S1"]),
    ("no_quarantine", Wrong::NoQuarantine, AMNESIA, &["S1", "S2"]),
    ("short_quarantine", Wrong::ShortQuarantine, AMNESIA, &["S1", "S2"]),
    ("no_floor", Wrong::NoFloor, AMNESIA, &["S2"]),
];

pub(super) fn tests(harness: &mut Harness<'_>) {
    for (name, bounds, must) in RIGHT {
        harness.test_in("quorum", format!("quorum::{name}"), || {
            holds_within(&Redlock(Wrong::Nothing, *bounds), MOST, must).into()
        });
    }
    for (name, wrong, bounds, rules) in BROKEN {
        harness.test_in("quorum", format!("quorum::{name}_is_refuted"), || {
            refuted(&Redlock(*wrong, *bounds), rules).into()
        });
    }
}
