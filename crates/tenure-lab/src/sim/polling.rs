//! A client of a store that keeps one object per lock: what a driver of such a store does, by the product's own
//! [`Call`](tenure::core::cas::Call). Each read and each write is a message of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure::backend::{Answer, Claim, Grant, Lease, Leave, Previous, Released, Standing};
use tenure::core::cas::{self, Now, Object, Outcome, Seen, Sightings, Step, Unanswered, Version};
use tenure::runtime::Runtime;
use tenure::{Error, Key, Result};

use super::machine::Machine;
use super::message::{Said, Verb, Write};
use super::net::{broken, send};
use super::world::locked;

/// How soon it is worth asking again about a lock that is taken, at most.
pub(super) const PACE: Duration = Duration::from_millis(200);

/// What such a driver keeps.
#[derive(Debug)]
pub(super) struct Objects {
    machine: Arc<Machine>,
    sightings: Mutex<Sightings>,
    /// What the driver saw last of each lock.
    cache: Mutex<HashMap<String, Option<(Version, Object)>>>,
    /// The writes of each claim that may still take effect, by the call that sent them.
    unanswered: Mutex<HashMap<u128, BTreeMap<u64, Unanswered>>>,
}

impl Objects {
    pub(super) fn new(machine: &Arc<Machine>) -> Objects {
        Objects {
            machine: machine.clone(),
            sightings: Mutex::new(Sightings::new(100)),
            cache: Mutex::default(),
            unanswered: Mutex::default(),
        }
    }

    /// Does what is asked, and says what came of it.
    pub(super) async fn ask(&self, verb: &Verb) -> Said {
        let machine = &self.machine;
        let sent = machine.clock_now();
        let said = match verb {
            Verb::Attempt(claim, _) => {
                Said::Answer(self.stand(claim, asked(claim, cas::Verb::Attempt), verb).await)
            }
            Verb::Renew(claims) => {
                let Some(claim) = claims.first() else { return Said::Answers(Vec::new()) };
                Said::Answers(vec![self.stand(claim, asked(claim, cas::Verb::Renew), verb).await])
            }
            Verb::Transfer(from, to, _) => {
                let (from, used) = (from.id.0, from.cohort.used);
                let verb_of = |to| cas::Verb::Transfer { from, used, to };
                Said::Answer(self.stand(to, asked(to, verb_of), verb).await)
            }
            Verb::Release(claim, leave, _) => {
                machine.withdraw(claim.id);
                let keep = if let Leave::For(d) = leave { Some(*d) } else { None };
                let used = claim.cohort.used;
                let ends = cas::Verb::Release { claim: claim.id.0, used, keep };
                let answer = self.drive(claim.id.0, &claim.key, ends, verb).await.and_then(released);
                if answer.is_ok() {
                    locked(&self.unanswered).remove(&claim.id.0);
                    locked(&machine.world().judge).withdrawn(claim.id, *leave);
                }
                Said::Released(answer)
            }
            Verb::Evict(key, token) => {
                let ends = cas::Verb::Evict { token: *token, why: "an operator".into() };
                Said::Released(self.drive(0, key, ends, verb).await.and_then(released))
            }
            _ => Said::Refused,
        };
        let mut judge = locked(&machine.world().judge);
        match (verb, &said) {
            (Verb::Attempt(claim, _) | Verb::Transfer(_, claim, _), Said::Answer(Ok(answer))) => {
                judge.hears(claim.id, sent, answer);
            }
            (Verb::Renew(claims), Said::Answers(answers)) => {
                for (claim, answer) in claims.iter().zip(answers.iter().flatten()) {
                    judge.hears(claim.id, sent, answer);
                }
            }
            _ => {}
        }
        said
    }

    /// A verb that says where a claim stands.
    async fn stand(&self, claim: &Claim, what: cas::Verb, verb: &Verb) -> Result<Answer> {
        let standing = match self.drive(claim.id.0, &claim.key, what, verb).await? {
            cas::Answer::Held { token, .. } => {
                let lease = Lease::For(claim.ttl);
                Standing::Held(Grant { token, lease, previous: Previous::Unknown })
            }
            cas::Answer::Taken { look_again } if claim.stand => {
                let look_again = look_again.clamp(Duration::from_millis(10), PACE);
                Standing::Waiting { place: None, ahead: None, look_again }
            }
            cas::Answer::Taken { .. } => Standing::Busy,
            cas::Answer::Gone { why } => Standing::Gone { why: why.map(|why| why.to_string()) },
            other => return Err(Error::protocol(format!("{other:?}"), "")),
        };
        Ok(Answer { standing, at: None })
    }

    /// From the first read to the answer.
    async fn drive(&self, id: u128, key: &Key, what: cas::Verb, verb: &Verb) -> Result<cas::Answer> {
        let world = self.machine.world();
        let (number, name) = (world.serial(), key.full().to_owned());
        let mut call = cas::Call::new(what, self.earlier(id, verb), world.draw());
        let cached = locked(&self.cache).get(&name).cloned().filter(|_| world.below(2) == 0);
        let mut step = match cached {
            Some(current) => {
                let seen = self.seen(&name, current, None, false);
                call.decide(&seen, self.now())
            }
            None => Step::Read,
        };
        loop {
            if !matches!(verb, Verb::Release(..) | Verb::Evict(..)) && !self.machine.goes_on(id) {
                return Err(Error::uncertain("the claim was withdrawn meanwhile", ""));
            }
            step = match step {
                Step::Answer(answer) => return Ok(answer),
                Step::Read => match send(&self.machine, 0, Verb::Read(key.clone())).await {
                    Some(Said::Object(current, age)) => {
                        let seen = self.seen(&name, current, age, true);
                        let step = call.decide(&seen, self.now());
                        self.note(id, number, &call);
                        step
                    }
                    Some(Said::Refused) => return Err(Error::unavailable("the server is out of memory", "")),
                    _ => return Err(broken()),
                },
                Step::Write { expected, object } => {
                    self.note(id, number, &call);
                    let write = Write { key: key.clone(), expected, object, call: verb.clone() };
                    let step = match send(&self.machine, 0, Verb::Write(Box::new(write))).await {
                        Some(Said::Outcome(outcome)) => call.after_write(outcome),
                        Some(Said::Refused) => call.after_write(Outcome::Stale),
                        _ => call.after_write(Outcome::Unknown),
                    };
                    self.note(id, number, &call);
                    step
                }
            };
        }
    }

    fn now(&self) -> Now {
        Now { boot: self.machine.now(), wall_us: self.machine.wall_us() }
    }

    fn seen(
        &self,
        name: &str,
        current: Option<(Version, Object)>,
        store_age: Option<Duration>,
        fresh: bool,
    ) -> Seen {
        let arrived = self.machine.now();
        let first_seen = match &current {
            Some((version, _)) => locked(&self.sightings).saw(name, version, arrived),
            None => arrived,
        };
        if fresh {
            locked(&self.cache).insert(name.to_owned(), current.clone());
        }
        Seen { current, first_seen, store_age, fresh }
    }

    /// What earlier calls of the claim left behind.
    fn earlier(&self, id: u128, verb: &Verb) -> Unanswered {
        let known = locked(&self.unanswered);
        let mut left = known.get(&id).into_iter().flat_map(BTreeMap::values);
        match (left.next(), left.next()) {
            (None, _) if matches!(verb, Verb::Release(_, Leave::Final, _)) => Unanswered::Unknown,
            (None, _) => Unanswered::Nothing,
            (Some(one), None) => one.clone(),
            _ => Unanswered::Unknown,
        }
    }

    /// Remembers what may still take effect, should the call be dropped now.
    fn note(&self, id: u128, number: u64, call: &cas::Call) {
        let mut known = locked(&self.unanswered);
        match call.unanswered() {
            Unanswered::Nothing => {
                if let Some(calls) = known.get_mut(&id) {
                    calls.remove(&number);
                }
            }
            left => drop(known.entry(id).or_default().insert(number, left)),
        }
    }
}

fn asked(claim: &Claim, verb: impl FnOnce(cas::Ask) -> cas::Verb) -> cas::Verb {
    let tokens = claim.cohort.tokens;
    verb(cas::Ask { claim: claim.id.0, ttl: claim.ttl, tokens, note: "".into() })
}

fn released(answer: cas::Answer) -> Result<Released> {
    match answer {
        cas::Answer::Ended => Ok(Released::WasHeld),
        cas::Answer::NotHeld => Ok(Released::Gone),
        _ => Err(Error::uncertain("a write went unanswered, and the hold is over", "")),
    }
}
