//! A server whose holds and places end with their client's session: sequence nodes in an order of its own, which
//! [`Queue`] makes a line of.
//!
//! It stands for several: a client's requests go through the one that it is connected to, and that one answers pings by
//! itself. The one that ends sessions hears of pings half a tick later, or once the two are connected again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tenure::backend::{Answer, Claim, ClaimId, Grant, Lease, News, Previous, Released, Standing};
use tenure::core::lease::LOOK_AGAIN_MAX;
use tenure::core::line::{Kind, Now};
use tenure::core::queue::{Change, Entry, EntryId, Event, Place, Queue, Shape, What};
use tenure::{Key, Token};

use super::judge::Judge;
use super::locks::{TOKENS, lock_of};
use super::message::{Ask, Asked, Said, Serving};

#[derive(Clone, Debug)]
struct Session {
    /// On the server's clock.
    ends: u64,
    number: u64,
}

#[derive(Clone, Debug)]
struct Node {
    session: u64,
    machine: usize,
    lock: usize,
    kind: Kind,
    order: u64,
}

/// Its memory.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    /// How long a session lasts that nothing is heard of, in ns.
    pub(super) timeout: u64,
    /// And how long it says that it does.
    pub(super) said: u64,
    sessions: BTreeMap<u64, Session>,
    nodes: HashMap<u128, Node>,
    lines: BTreeMap<usize, Queue>,
    last: u64,
}

type Out<'a> = &'a mut Vec<(usize, News)>;

impl Sessions {
    pub(super) fn new(timeout: u64) -> Sessions {
        Sessions {
            timeout,
            said: timeout,
            sessions: BTreeMap::new(),
            nodes: HashMap::new(),
            lines: BTreeMap::new(),
            last: 0,
        }
    }

    fn next(&mut self, now: Now) -> u64 {
        self.last = (self.last + 1).max(now.wall_us);
        self.last
    }

    /// After a restart every session has its whole time again.
    pub(super) fn extend(&mut self, now: u64) {
        let ends = now + self.timeout;
        self.sessions.values_mut().for_each(|s| s.ends = ends);
    }

    /// A ping has come to the one that counts.
    pub(super) fn touch(&mut self, session: u64, now: u64) {
        let timeout = self.timeout;
        if let Some(session) = self.sessions.get_mut(&session).filter(|s| s.ends > now) {
            session.ends = now + timeout;
        }
    }

    /// Ends the sessions whose time is over.
    pub(super) fn expire(&mut self, judge: &mut Judge, s: Serving, now: Now, out: Out<'_>) {
        let over: Vec<u64> =
            self.sessions.iter().filter(|(_, x)| x.ends <= now.ns).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|session| self.end(judge, s, session, now, out));
    }

    fn end(&mut self, judge: &mut Judge, s: Serving, session: u64, now: Now, out: Out<'_>) {
        self.sessions.remove(&session);
        let mut nodes: Vec<_> = self.nodes.iter().filter(|(_, n)| n.session == session).collect();
        nodes.sort_by_key(|(_, node)| node.order);
        let nodes: Vec<u128> = nodes.into_iter().map(|(id, _)| *id).collect();
        // All at once: no entry of the session is granted in the place of another.
        nodes.iter().for_each(|id| judge.ended(ClaimId(*id), s.now));
        nodes.into_iter().rev().for_each(|id| self.remove(judge, s, id, now, out));
    }

    /// Takes a node out of its line.
    fn remove(&mut self, judge: &mut Judge, s: Serving, id: u128, now: Now, out: Out<'_>) {
        let Some(node) = self.nodes.remove(&id) else { return };
        let at = self.next(now);
        let line = self.lines.entry(node.lock).or_default();
        let events = line.apply(Change { at, what: What::Gone(entry(id)) });
        self.tell(judge, s, &events, out);
    }

    /// Who was granted by what another did.
    fn tell(&self, judge: &mut Judge, s: Serving, events: &[Event], out: Out<'_>) {
        for event in events {
            let Event::Granted(id) = event else { continue };
            let Ok(bytes) = id.as_bytes().try_into() else { continue };
            let id = u128::from_be_bytes(bytes);
            let Some(node) = self.nodes.get(&id) else { continue };
            judge.granted(s, ClaimId(id), grant(node));
            out.push((node.machine, News::Look(ClaimId(id))));
        }
    }

    /// Whether anything is answered in this session; of what was overtaken, nothing is.
    fn knows(&mut self, asked: &Asked) -> Option<bool> {
        match self.sessions.get_mut(&asked.session) {
            None => Some(false),
            Some(session) if session.number >= asked.number => None,
            Some(session) => {
                session.number = asked.number;
                Some(true)
            }
        }
    }

    /// `None`: it is refused without an answer.
    pub(super) fn serve(
        &mut self,
        judge: &mut Judge,
        s: Serving,
        asked: &Asked,
        now: Now,
        out: Out<'_>,
    ) -> Option<Said> {
        self.expire(judge, s, now, out);
        if let Ask::Open = asked.what {
            self.end(judge, s, asked.session, now, out);
            let (id, ends) = (self.next(now), now.ns + self.timeout);
            self.sessions.insert(id, Session { ends, number: asked.number });
            return Some(Said::Session(id));
        }
        if let Ask::Evict(key, token) = &asked.what {
            return Some(Said::Released(Ok(self.evict(judge, s, key, *token, now, out))));
        }
        if !self.knows(asked)? {
            return Some(Said::NoSession);
        }
        Some(match &asked.what {
            Ask::Stand(claim) => Said::Answer(Ok(self.stand(judge, s, asked.session, claim, now))),
            Ask::Look(claims) => Said::Answers(
                claims
                    .iter()
                    .map(|claim| {
                        let answer = Ok(self.standing(claim.id.0));
                        judge.renewed(s, claim, &answer);
                        answer
                    })
                    .collect(),
            ),
            Ask::Leave(claim) => {
                let released = Ok(match self.standing(claim.id.0).standing {
                    Standing::Held(_) => Released::WasHeld,
                    Standing::Waiting { .. } => Released::WasWaiting,
                    _ => Released::Gone,
                });
                judge.released(s, claim, tenure::backend::Leave::Nothing, &released);
                self.remove(judge, s, claim.id.0, now, out);
                Said::Released(released)
            }
            _ => Said::Session(asked.session),
        })
    }

    fn stand(&mut self, judge: &mut Judge, s: Serving, session: u64, claim: &Claim, now: Now) -> Answer {
        let (id, lock) = (claim.id.0, lock_of(&claim.key));
        let shape = Shape { kind: claim.kind, capacity: claim.capacity };
        let line = self.lines.entry(lock).or_insert_with(|| {
            let mut line = Queue::new();
            line.reset(Vec::new(), 0);
            line
        });
        let known = self.nodes.contains_key(&id);
        if !known && !claim.stand && !line.admits(shape, claim.weight) {
            let answer = Answer { standing: Standing::Busy, at: None };
            judge.attempted(s, claim, &Ok(answer.clone()));
            return answer;
        }
        if !known {
            let order = self.next(now);
            self.nodes.insert(id, Node { session, machine: s.machine, lock, kind: claim.kind, order });
            let entry =
                Entry { order, id: entry(id), shape, weight: claim.weight, granted: false, foreign: false };
            let line = self.lines.entry(lock).or_default();
            line.apply(Change { at: order, what: What::Put(entry) });
        }
        let answer = self.standing(id);
        judge.attempted(s, claim, &Ok(answer.clone()));
        answer
    }

    /// Leases are not of this server: its clients know until when they believe.
    fn standing(&self, id: u128) -> Answer {
        let node = self.nodes.get(&id);
        let place = node.and_then(|node| Some((node, self.lines.get(&node.lock)?.standing(&entry(id)))));
        let standing = match place {
            Some((node, Place::Held)) => Standing::Held(grant(node)),
            Some((_, Place::Waiting { ahead, .. })) => Standing::Waiting {
                place: Some(Lease::Unbounded),
                ahead: Some(ahead),
                look_again: LOOK_AGAIN_MAX,
            },
            _ => Standing::Gone { why: None },
        };
        Answer { standing, at: None }
    }

    fn evict(
        &mut self,
        judge: &mut Judge,
        s: Serving,
        key: &Key,
        token: Option<Token>,
        now: Now,
        out: Out<'_>,
    ) -> Released {
        let lock = lock_of(key);
        let holders = self.nodes.iter().filter(|(id, node)| {
            let held = self.lines.get(&lock).is_some_and(|line| line.standing(&entry(**id)) == Place::Held);
            let meant = token.is_none_or(|token| token.get() / TOKENS == node.order.cast_signed());
            node.lock == lock && held && meant
        });
        let mut holders: Vec<(u128, usize)> = holders.map(|(id, node)| (*id, node.machine)).collect();
        holders.sort_unstable();
        for (id, machine) in &holders {
            judge.evicted(ClaimId(*id));
            self.remove(judge, s, *id, now, out);
            out.push((*machine, News::Gone(ClaimId(*id), Some("an operator".into()))));
        }
        if holders.is_empty() { Released::Gone } else { Released::WasHeld }
    }

    /// What is not as a store that nobody uses.
    pub(super) fn residue(&self) -> Result<(), String> {
        if self.nodes.is_empty() { Ok(()) } else { Err(format!("{:?}", self.nodes)) }
    }

    /// How long a client hears of nothing before it knows that its ping was counted.
    pub(super) fn tick(timeout: u64) -> u64 {
        timeout / 10
    }
}

fn entry(id: u128) -> EntryId {
    EntryId::new(&id.to_be_bytes())
}

/// The first of the tokens that a node's order stands for. Readers have one each, and permits none.
fn grant(node: &Node) -> Grant {
    let token = Token::new(node.order.cast_signed().saturating_mul(TOKENS));
    let token = token.filter(|_| node.kind != Kind::Semaphore);
    Grant { token, lease: Lease::Unbounded, previous: Previous::Unknown }
}

/// A lease as a client may believe in it, from a proof that is `age` old.
pub(super) fn left(timeout: u64, age: Duration) -> Duration {
    Duration::from_nanos(timeout).saturating_sub(age)
}
