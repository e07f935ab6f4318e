//! The store: the product's own line of claims ([`Lines`]) in the memory of a server with a clock of its own.
//!
//! It crashes with and without its memory, comes back with an old copy of it, stands still, and its clock is stepped.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tenure::backend::{Answer, Claim, ClaimId, Grant, Lease, Leave, News, Released, Standing};
use tenure::core::lease::LOOK_AGAIN_MAX;
use tenure::core::line::{Arena, Ask, Event, Found, Lines, NO_SLOT, Now, Place, Refusal, Trace, VecArena};
use tenure::core::moment::nanos;
use tenure::core::quorum::quarantine;
use tenure::{Error, Result, Token};

use super::clock::Clock;
use super::judge::Judge;
use super::locks::{TOKENS, lock_of};
use super::message::{Hello, Request, Said, Serving, Verb};
use super::objects::Objects;
use super::sessions::Sessions;
use super::voters::{Time, Voter};

/// When the server was started, on its own clocks.
const BOOTED: u64 = 5_000_000_000_000;
const EPOCH_US: u64 = 1_700_000_000_000_000;
/// The server.
pub(super) struct Server {
    pub(super) lines: Lines<VecArena>,
    pub(super) clock: Clock,
    /// The latest time that the line was told: it must not go back, so a clock that does stands still for it.
    last: u64,
    /// What its clock shows, however often that was stepped. Answers are by this clock, like those of a server that
    /// computes what is left of a lease from the end that it has stored.
    pub(super) shown: u64,
    /// The copy that a rollback restores.
    saved: Option<Memories>,
    /// The memory of a server that keeps objects.
    pub(super) objects: Objects,
    /// The memory of a server that has sessions.
    pub(super) sessions: Sessions,
    /// The memory of one of several that vote, and for how long it stays away after it was lost.
    pub(super) voter: Voter,
    quarantine: u64,
    /// Until then, whoever answers is cut off from the one that ends sessions.
    pub(super) cut_until: u64,
    /// The sessions of pings that were answered there.
    pub(super) uncounted: Vec<u64>,
    /// Which machine asked for a claim last: its pushes go there.
    homes: HashMap<u128, usize>,
    /// The connections over which it pushes: of which machine, and which of its.
    subscribed: BTreeSet<(usize, u64)>,
    /// While it is down or stands still, until then.
    pub(super) down_until: u64,
    pub(super) still_until: u64,
    /// By how many tokens a hold is ahead of its grant's first one: it was passed on before it was continued.
    ahead: HashMap<u128, i64>,
    /// How many tokens each grant has: the line's own count is as many times coarser.
    pub(super) tokens: i64,
    /// Whether a server that keeps objects says how long they have not changed.
    pub(super) tells_age: bool,
    /// Tokens count up from one, for a mutant.
    pub(super) counting: bool,
}

fn empty() -> Lines<VecArena> {
    Lines::with_seed(VecArena::default(), 7).expect("there is memory for an empty line")
}

/// What a copy has.
type Memories = (Lines<VecArena>, Objects, Voter);

/// An answer, and what is to be pushed to whom.
pub(super) type Served = (Said, Vec<(usize, News)>);

/// What happened to a server's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    Kept,
    Lost,
    Old,
}

impl Server {
    pub(super) fn new(session: u64, longest: u64) -> Server {
        Server {
            lines: empty(),
            clock: Clock::new(0, BOOTED, 0),
            last: 0,
            shown: 0,
            saved: None,
            objects: Objects::default(),
            sessions: Sessions::new(session),
            voter: Voter::default(),
            quarantine: nanos(quarantine(Duration::from_nanos(longest))),
            cut_until: 0,
            uncounted: Vec::new(),
            homes: HashMap::new(),
            subscribed: BTreeSet::new(),
            down_until: 0,
            still_until: 0,
            ahead: HashMap::new(),
            tokens: TOKENS,
            tells_age: true,
            counting: false,
        }
    }

    /// The server's time at the true time `t`.
    pub(super) fn now(&mut self, t: u64) -> Now {
        let shown = self.clock.read(t);
        (self.last, self.shown) = (self.last.max(shown), shown);
        let wall_us = if self.counting { 0 } else { EPOCH_US + shown / 1_000 };
        Now { ns: self.last, wall_us, ceiling: i64::MAX }
    }

    /// What its clock shows at the true time `t`.
    pub(super) fn shown(&mut self, t: u64) -> u64 {
        self.now(t);
        self.shown
    }

    /// From the start, its clock runs `ppm` fast.
    pub(super) fn drift(&mut self, ppm: i64) {
        self.clock = Clock::new(0, BOOTED, ppm);
    }

    /// The connections over which it pushes to a machine.
    pub(super) fn pushes_over(&self, machine: usize) -> Vec<u64> {
        self.subscribed.range((machine, 0)..=(machine, u64::MAX)).map(|(_, number)| *number).collect()
    }

    /// Keeps a copy of its memory, for a rollback.
    pub(super) fn save(&mut self) {
        self.saved = Some((self.lines.clone(), self.objects.clone(), self.voter.clone()));
    }

    /// Comes back after a crash.
    pub(super) fn restart(&mut self, t: u64, memory: Memory) {
        let now = self.now(t).ns;
        self.subscribed.clear();
        self.sessions.extend(now);
        let session = self.sessions.said;
        let copies = self.objects.copies + 1;
        let blank = || (empty(), Objects::default(), Voter::default());
        (self.lines, self.objects, self.voter) = match memory {
            Memory::Kept => return,
            Memory::Lost => blank(),
            Memory::Old => self.saved.take().unwrap_or_else(blank),
        };
        self.objects.copies = copies;
        self.voter.away_until = self.shown + self.quarantine;
        // Whoever restores a copy ends the sessions in it: what they left and took since is in nobody's memory.
        self.sessions = Sessions::new(session);
    }

    /// Ends the sessions whose time is over.
    pub(super) fn end_sessions(&mut self, judge: &mut Judge, t: u64, out: &mut Vec<(usize, News)>) {
        let now = self.now(t);
        let serving = Serving { t, left: t, now: now.ns, shown: self.shown, machine: 0 };
        self.sessions.expire(judge, serving, now, out);
    }

    /// Pushes about a claim go to this machine.
    pub(super) fn at_home(&mut self, id: ClaimId, machine: usize) {
        self.homes.insert(id.0, machine);
    }

    /// Does what is asked, at the true time `t`. Says the answer, and what is to be pushed to whom.
    pub(super) fn serve(&mut self, judge: &mut Judge, t: u64, request: &Request) -> Served {
        let now = self.now(t);
        let mut news = Vec::new();
        let serving = request.serving(t, now, self.shown);
        let said = match &request.verb {
            Verb::Attempt(claim, birth) => {
                self.at_home(claim.id, request.machine);
                let answer = self.attempt(claim, *birth, now);
                self.news(judge, serving, Some(claim.id), now, &mut news);
                judge.attempted(serving, claim, &answer);
                Said::Answer(answer)
            }
            Verb::Renew(claims) => {
                let mut answers = Vec::new();
                for claim in claims {
                    let place = self.lines.renew(claim.id.0, claim.key.full().as_bytes(), None, now);
                    let answer = place.map(|place| self.standing(claim.id, place, now)).map_err(refused);
                    self.news(judge, serving, Some(claim.id), now, &mut news);
                    judge.renewed(serving, claim, &answer);
                    answers.push(answer);
                }
                Said::Answers(answers)
            }
            Verb::Release(claim, leave, birth) => {
                let released = self.release(claim, *leave, *birth, now);
                judge.released(serving, claim, *leave, &released);
                self.news(judge, serving, Some(claim.id), now, &mut news);
                Said::Released(released)
            }
            Verb::Transfer(from, to, birth) => {
                self.at_home(to.id, request.machine);
                let answer = self.transfer(from, to, *birth, now);
                judge.transferred(serving, from, to, &answer);
                self.news(judge, serving, Some(to.id), now, &mut news);
                judge.shrank(serving, from, to);
                Said::Answer(answer)
            }
            Verb::Evict(key, token) => {
                judge.cleared(lock_of(key));
                let token = token.map(|token| self.of_line(token));
                let holds = self.lines.evict(key.full().as_bytes(), token, b"an operator", now);
                self.news(judge, serving, None, now, &mut news);
                let released = |n| if n > 0 { Released::WasHeld } else { Released::Gone };
                Said::Released(holds.map(released).map_err(refused))
            }
            Verb::Hello(hello) => {
                let connection = request.connection.map(|number| (request.machine, number));
                match (hello, connection) {
                    (Hello::Subscribe, Some(connection)) => drop(self.subscribed.insert(connection)),
                    (Hello::Unsubscribe, Some(connection)) => drop(self.subscribed.remove(&connection)),
                    _ => {}
                }
                Said::Yes(true)
            }
            Verb::Read(key) => self.objects.read(key.full(), self.shown, self.tells_age),
            Verb::Write(write) => self.objects.write(judge, serving, write),
            Verb::Vote(asked) => {
                let wall_us = (EPOCH_US + self.shown / 1_000) - BOOTED / 1_000;
                self.voter.serve(Time { shown: self.shown, wall_us }, asked)
            }
            Verb::Session(asked) => {
                self.sessions.serve(judge, serving, asked, now, &mut news).unwrap_or(Said::Nothing)
            }
        };
        (said, news)
    }

    pub(super) fn attempt(&mut self, claim: &Claim, birth: u64, now: Now) -> Result<Answer> {
        let place = self.lines.attempt(&ask(claim, birth), now);
        place.map(|place| self.standing(claim.id, place, now)).map_err(refused)
    }

    pub(super) fn transfer(&mut self, from: &Claim, to: &Claim, birth: u64, now: Now) -> Result<Answer> {
        let place = self.lines.transfer(from.id.0, &ask(to, birth), now);
        let ahead = self.ahead.get(&from.id.0).copied().unwrap_or(0) + i64::from(from.cohort.used) - 1;
        self.ahead.entry(to.id.0).or_insert(ahead);
        place.map(|place| self.standing(to.id, place, now)).map_err(refused)
    }

    pub(super) fn release(&mut self, claim: &Claim, leave: Leave, birth: u64, now: Now) -> Result<Released> {
        let trace = match leave {
            Leave::Nothing => Trace::Nothing,
            Leave::Final => Trace::Mark,
            Leave::For(d) => Trace::For(nanos(d)),
        };
        let found = self.lines.release(claim.id.0, claim.key.full().as_bytes(), birth, trace, now);
        let released = |found| match found {
            Found::Held => Released::WasHeld,
            Found::Waiting => Released::WasWaiting,
            Found::Nothing => Released::Gone,
        };
        found.map(released).map_err(refused)
    }

    /// What happened to claims other than `own`: told to the judge, and pushed.
    pub(super) fn news(
        &mut self,
        judge: &mut Judge,
        serving: Serving,
        own: Option<ClaimId>,
        now: Now,
        out: &mut Vec<(usize, News)>,
    ) {
        let events: Vec<Event> = self.lines.drain_events().collect();
        for event in events {
            let (Event::Granted { id, .. } | Event::Evicted { id, .. }) = event;
            let place = self.standing(ClaimId(id), self.lines.peek(id), now).standing;
            let piece = match (&event, place) {
                (Event::Granted { .. }, Standing::Held(grant)) => {
                    judge.granted(serving, ClaimId(id), grant);
                    News::Granted(ClaimId(id), grant, self.shown)
                }
                (Event::Evicted { .. }, Standing::Gone { why }) => {
                    judge.evicted(ClaimId(id));
                    News::Gone(ClaimId(id), why)
                }
                _ => continue,
            };
            if own != Some(ClaimId(id)) {
                out.extend(self.homes.get(&id).map(|home| (*home, piece)));
            }
        }
    }
}

/// Looks at every cell, and counts what is there.
pub(super) fn residue<A: Arena>(lines: &mut Lines<A>, now: Now) -> std::result::Result<(), String> {
    lines.check()?;
    while lines.counts().marks > 0 || lines.counts().locks > 0 {
        let before = lines.counts();
        lines.sweep(64, now).map_err(|r| format!("{r:?}"))?;
        if lines.counts() == before {
            return Err(format!("{before:?} are left"));
        }
    }
    Ok(())
}

fn ask(claim: &Claim, birth: u64) -> Ask<'_> {
    Ask {
        id: claim.id.0,
        key: claim.key.full().as_bytes(),
        kind: claim.kind,
        weight: claim.weight,
        capacity: claim.capacity,
        stand: claim.stand,
        ttl: nanos(claim.ttl),
        waiting: nanos(claim.waiting),
        birth,
        slot: NO_SLOT,
        note: b"",
    }
}

fn refused(refusal: Refusal) -> Error {
    Error::config(format!("{refusal:?}"), "")
}

impl Server {
    /// What a claim's place in the line is, as an answer.
    pub(super) fn standing(&self, id: ClaimId, place: Place, now: Now) -> Answer {
        let lease = |end: u64| Lease::For(Duration::from_nanos(end.saturating_sub(self.shown)));
        let standing = match place {
            Place::Held { token, end, previous } => {
                let token = token * self.tokens + self.ahead.get(&id.0).copied().unwrap_or(0);
                Standing::Held(Grant { token: Token::new(token), lease: lease(end), previous })
            }
            Place::Waiting { ahead, end, look } => {
                let pause = Duration::from_nanos(look.saturating_sub(now.ns));
                let look_again = pause.clamp(Duration::from_millis(10), LOOK_AGAIN_MAX);
                Standing::Waiting { place: Some(lease(end)), ahead: Some(ahead), look_again }
            }
            Place::Busy => Standing::Busy,
            Place::Gone { why } => Standing::Gone { why },
        };
        Answer { standing, at: Some(self.shown) }
    }

    /// The line's token of which this is one.
    pub(super) fn of_line(&self, token: Token) -> i64 {
        token.get() / self.tokens
    }
}
