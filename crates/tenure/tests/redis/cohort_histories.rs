//! Random histories of a mutex whose claims ask for several tokens each, through the real scripts on a real server, step by
//! step beside a naive count. What else a line does is compared by `histories`.

use std::collections::{BTreeMap, VecDeque};

use libtest_mimic::Trial;
use redis::Value;

use crate::people::{Dice, hex};
use crate::raw::{Raw, Said};
use crate::scripts::{Scripts, fields};
use crate::server::Server;
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("histories::s2_mutex_of_cohorts", histories)]
}

const HISTORIES: u64 = 120;
const STEPS: u32 = 120;
const KEY: &str = "tenure:{shop/a}:l";
const LEASE: u64 = 500_000;

/// A claim that holds or waits.
#[derive(Clone, Copy, Debug)]
struct Stands {
    id: u128,
    /// How many tokens it asks for.
    own: u64,
    /// Its first token, if it holds.
    token: u64,
    end: u64,
}

/// The naive count.
#[derive(Debug, Default)]
struct Model {
    now: u64,
    last: u64,
    holder: Option<Stands>,
    line: VecDeque<Stands>,
    /// Who was withdrawn with a mark or evicted, and what it is told.
    marks: BTreeMap<u128, &'static str>,
    /// The newest token that anybody may have used.
    seen: u64,
}

/// A letter, and the token with it.
type Told = (&'static str, Option<u64>);

impl Model {
    fn settle(&mut self) {
        let now = self.now;
        if let Some(holder) = self.holder.take_if(|h| h.end <= now) {
            // It may have used them all.
            self.seen = self.seen.max(holder.token + holder.own - 1);
        }
        self.line.retain(|w| w.end > now);
        if self.holder.is_none()
            && let Some(first) = self.line.pop_front()
        {
            self.grant(first);
        }
    }

    fn grant(&mut self, claim: Stands) {
        let token = (self.last + 1).max(self.now);
        assert!(token > self.seen, "{token} was used already: {self:?}");
        self.last = token + claim.own - 1;
        self.seen = token;
        self.holder = Some(Stands { token, end: self.now + LEASE, ..claim });
    }

    /// Where a claim stands, with its lease renewed.
    fn stands(&mut self, id: u128) -> Option<Told> {
        let end = self.now + LEASE;
        if let Some(holder) = self.holder.as_mut().filter(|h| h.id == id) {
            holder.end = holder.end.max(end);
            return Some(("H", Some(holder.token)));
        }
        let waiter = self.line.iter_mut().find(|w| w.id == id)?;
        waiter.end = waiter.end.max(end);
        Some(("W", None))
    }

    fn gone(&self, id: u128) -> Told {
        (self.marks.get(&id).copied().unwrap_or("G"), None)
    }

    fn attempt(&mut self, id: u128, own: u64) -> Told {
        self.settle();
        if let Some(told) = self.stands(id) {
            return told;
        }
        if self.marks.contains_key(&id) {
            return self.gone(id);
        }
        let claim = Stands { id, own, token: 0, end: self.now + LEASE };
        if self.holder.is_none() {
            self.grant(claim);
            return ("H", self.holder.map(|h| h.token));
        }
        self.line.push_back(claim);
        ("W", None)
    }

    fn renew(&mut self, id: u128) -> Told {
        self.settle();
        self.stands(id).unwrap_or_else(|| self.gone(id))
    }

    /// `used` is 0 where the trace does not say it.
    fn release(&mut self, id: u128, used: u64, mark: bool) -> Told {
        self.settle();
        let mut told = "g";
        if let Some(holder) = self.holder.take_if(|h| h.id == id) {
            let end = holder.token + holder.own - 1;
            if (1..=holder.own).contains(&used) && self.last == end {
                self.last = holder.token + used - 1;
            }
            let used = if (1..=holder.own).contains(&used) { used } else { holder.own };
            self.seen = self.seen.max(holder.token + used - 1);
            told = "h";
        } else if let Some(at) = self.line.iter().position(|w| w.id == id) {
            self.line.remove(at);
            told = "w";
        }
        if mark {
            self.marks.entry(id).or_insert("G");
        }
        self.settle();
        (told, None)
    }

    fn transfer(&mut self, from: u128, to: u128, used: u64, own: u64) -> Told {
        self.settle();
        if let Some(told) = self.stands(to) {
            return told;
        }
        if self.marks.contains_key(&to) {
            return self.gone(to);
        }
        let Some(held) = self.holder.filter(|h| h.id == from) else { return self.gone(from) };
        let token = held.token + used.clamp(1, held.own) - 1;
        self.last = self.last.max(token + own - 1);
        self.seen = self.seen.max(token);
        self.holder = Some(Stands { id: to, own, token, end: self.now + LEASE });
        ("H", Some(token))
    }

    fn evict(&mut self, token: Option<u64>) -> u64 {
        self.settle();
        let hit = |h: &mut Stands| token.is_none_or(|t| (h.token..h.token + h.own).contains(&t));
        let Some(holder) = self.holder.take_if(hit) else { return 0 };
        self.seen = self.seen.max(holder.token + holder.own - 1);
        self.marks.insert(holder.id, "E");
        self.settle();
        1
    }
}

struct History {
    dice: Dice,
    model: Model,
    scripts: Scripts,
    people: Vec<(u128, u64)>,
    birth: u64,
    counts: BTreeMap<&'static str, u32>,
}

fn histories() {
    let server = Server::start();
    // The claims' client.
    let mut ear = Raw::new(server.port);
    ear.ask(&["SUBSCRIBE", &format!("tenure:client:{:016}", 0)]);
    let mut counts = BTreeMap::new();
    for seed in 1..=HISTORIES {
        let mut raw = Raw::new(server.port);
        raw.ask(&["FLUSHDB"]);
        let birth = raw.ask(&["TIME"]).list()[0].number().cast_unsigned() * 1_000_000;
        let mut history = History {
            dice: Dice(seed * 7919),
            model: Model { now: birth, ..Model::default() },
            scripts: Scripts::new(server.port),
            people: (1..=6).map(|n| (n, 1)).collect(),
            birth,
            counts: BTreeMap::new(),
        };
        let mut told = String::new();
        for step in 0..STEPS {
            if let Err(why) = history.step(&mut told) {
                panic!("seed {seed} step {step}: {why}\n{told}{:?}", history.model);
            }
        }
        for (what, n) in history.counts {
            *counts.entry(what).or_default() += n;
        }
    }
    // A history in which nothing goes back, or the clock always decides, proves little.
    for what in ["back", "kept", "counted", "timed", "handed", "lapsed", "evicted", "continued", "together"] {
        assert!(counts.get(what).is_some_and(|n: &u32| *n >= 40), "{what} came up too seldom: {counts:?}");
    }
}

impl History {
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.dice.roll(of.len() as u64)).expect("small")]
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn step(&mut self, told: &mut String) -> Result<(), String> {
        self.model.now += self.pick(&[1, 10, 1_000, 1_000, 50_000, 300_000]);
        self.scripts.set_clock(self.model.now);
        let (holder, before) = (self.model.holder, self.model.last);
        if holder.is_some_and(|h| h.end <= self.model.now) {
            self.count("lapsed");
        }
        let what = match self.dice.roll(16) {
            0..=4 => self.one(true)?,
            5..=8 => self.one(false)?,
            9 | 10 => self.together()?,
            11 | 12 => self.renew()?,
            13 => self.transfer()?,
            14 => self.evict()?,
            _ => {
                // Claims come and go.
                let (id, own) = (1000 + u128::from(self.dice.roll(u64::MAX)), self.own());
                let at = usize::try_from(self.dice.roll(self.people.len() as u64)).expect("small");
                self.people[at] = (id, own);
                "somebody else comes".to_owned()
            }
        };
        *told += &format!("{} {what}\n", self.model.now % 1_000_000_000);
        if self.model.last < before {
            self.count("back");
        }
        if let Some(now) = self.model.holder.filter(|h| holder.is_none_or(|old| old.id != h.id)) {
            self.count(if now.token == self.model.now { "timed" } else { "counted" });
        }
        let head = self.scripts.raw.ask(&["GET", KEY]);
        let last = if head == Value::Nil { 0 } else { head.text()[2..18].parse().expect("digits") };
        if last == self.model.last {
            return Ok(());
        }
        Err(format!("{what}: the last token is {last}"))
    }

    fn own(&mut self) -> u64 {
        self.pick(&[1, 1, 2, 5, 60_000, 65_536])
    }

    fn person(&mut self) -> (u128, u64) {
        let people = self.people.clone();
        self.pick(&people)
    }

    /// Who holds, mostly; or anybody.
    fn likely(&mut self) -> (u128, u64) {
        match self.model.holder {
            Some(h) if self.dice.roll(3) > 0 => (h.id, h.own),
            _ => self.person(),
        }
    }

    fn terms(own: u64) -> String {
        format!("{:010}{own:010}{LEASE:011}{LEASE:011}", 1)
    }

    /// An attempt or a release: the answer expected, and what the script is given.
    fn verb(&mut self, attempt: bool) -> (Told, Vec<String>) {
        let birth = format!("{:016}", self.birth);
        if attempt {
            let (id, own) = self.person();
            let who = format!("{:016}somebody", 0);
            let words = [hex(id), Self::terms(own) + &who, format!("11{birth}")];
            return (self.model.attempt(id, own), words.into());
        }
        let (id, own) = self.likely();
        let used = self.pick(&[1, 1 + own / 2, own, own + 1, 0]);
        let (trace, used, mark) = match self.dice.roll(6) {
            0 => (String::new(), 0, false),
            1 => (format!("m{birth}"), 0, true),
            _ => (format!("t{used:010}"), used, false),
        };
        let waited = !self.model.line.is_empty();
        let (told, before) = (self.model.release(id, used, mark), self.model.last);
        if told.0 == "h" {
            self.count(if used == 0 || used > own { "kept" } else { "released" });
            if waited && self.model.last == before && self.model.holder.is_some() {
                self.count("handed");
            }
        }
        (told, vec![hex(id), trace])
    }

    fn one(&mut self, attempt: bool) -> Result<String, String> {
        let (want, words) = self.verb(attempt);
        let said = self.run(if attempt { "attempt" } else { "release" }, 1, &words);
        judge(&words.join(" "), want, &said)
    }

    fn together(&mut self) -> Result<String, String> {
        let (mut wants, mut words) = (Vec::new(), Vec::new());
        for _ in 0..=self.dice.roll(5) {
            let attempt = self.dice.roll(2) == 0;
            let (want, some) = self.verb(attempt);
            wants.push(want);
            words.push(if attempt { "a" } else { "r" }.to_owned());
            words.extend(some);
        }
        let said = self.run("together", wants.len(), &words);
        self.count("together");
        let mut told = format!("together {}:", words.join(" "));
        for (want, said) in wants.into_iter().zip(said.list()) {
            told += &judge("", want, said).map_err(|why| format!("{told} {why}"))?;
        }
        Ok(told)
    }

    fn renew(&mut self) -> Result<String, String> {
        let id = self.person().0;
        let want = self.model.renew(id);
        let note = if self.dice.roll(4) == 0 { "somebody else" } else { "somebody" };
        let said = self.run("renew", 1, &[hex(id), note.to_owned()]);
        judge(&format!("renew {id:x}"), want, &said.list()[0])
    }

    fn transfer(&mut self) -> Result<String, String> {
        let (from, own) = self.likely();
        let fresh = 1000 + u128::from(self.dice.roll(u64::MAX));
        let to = if self.dice.roll(4) == 0 { self.person().0 } else { fresh };
        let (used, goes) = (self.pick(&[0, 1, 1 + own / 2, own, own + 1]), self.pick(&[1, 1, 3]));
        let want = self.model.transfer(from, to, used, goes);
        if want.0 == "H" {
            self.count("continued");
            for person in self.people.iter_mut().filter(|p| p.0 == from) {
                *person = (to, goes);
            }
        }
        let (birth, who) = (format!("{:016}", self.birth), format!("{:016}somebody", 0));
        let words = [hex(from), hex(to), "1".into(), Self::terms(goes), birth, who, format!("{used:010}")];
        let said = self.run("transfer", 1, &words);
        judge(&words.join(" "), want, &said)
    }

    fn evict(&mut self) -> Result<String, String> {
        let (first, end) = self.model.holder.map_or((77, 77), |h| (h.token, h.token + h.own - 1));
        let token = self.pick(&[None, Some(first), Some(end), Some(end + 1), Some(first - 1)]);
        let want = self.model.evict(token);
        let word = token.map(|t| format!("{t:016}")).unwrap_or_default();
        let said = self.run("evict", 1, &[word, "by hand".to_owned()]);
        *self.counts.entry("evicted").or_default() += u32::from(want > 0);
        let got = said.list()[2].number();
        let told = format!("evict {token:?}: {want}");
        if got.cast_unsigned() == want { Ok(told) } else { Err(format!("{told}, and the script says {got}")) }
    }

    fn run(&mut self, verb: &str, count: usize, words: &[String]) -> Value {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.scripts.run(verb, &vec![KEY; count], &words)
    }
}

/// Compares an answer.
fn judge(what: &str, want: Told, said: &Value) -> Result<String, String> {
    let got = fields(said);
    let token = want.1.map(|t| format!("{t:016}"));
    // A new hold says no more than the time, which is its token, and how the one before ended.
    let told = if got.len() == 4 { got.get(2) } else { got.get(3) };
    if got[1] == want.0 && token.is_none_or(|t| Some(&t) == told) {
        return Ok(format!("{what} {want:?}"));
    }
    Err(format!("{what}: {want:?} expected, and the script says {got:?}"))
}
