//! Random histories through the real scripts on a real server, step by step beside `core::line`, which the naive list of
//! the lab judges in its turn. The scripts run as they are but for the clock, which is a key here, so that leases end when
//! the history says so.

use std::collections::BTreeMap;

use libtest_mimic::Trial;
use redis::Value;
use tenure::core::line::{Ask, Event, Found, Kind, Lines, Now, Place, Refusal, Trace, VecArena};

use crate::people::{CLIENT, Dice, NAME, Person, hex};
use crate::raw::{Raw, Said};
use crate::scripts::{Scripts, fields};
use crate::server::Server;
use crate::shown::{letter, read, shown};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("histories::mutex", || histories(Kind::Mutex)),
        trial("histories::read_write", || histories(Kind::ReadWrite)),
        trial("histories::semaphore", || histories(Kind::Semaphore)),
    ]
}

const HISTORIES: u64 = 150;
const STEPS: u32 = 120;
const KEY: &str = "tenure:{shop/a}:l";
/// Compares what a release found.
fn judge_release(id: &str, want: Found, got: &Value) -> Result<String, String> {
    let letter = match want {
        Found::Held => "h",
        Found::Waiting => "w",
        Found::Nothing => "g",
    };
    let told = format!("release: {want:?} ");
    let got = fields(got);
    if got[0] == id && got[1] == letter {
        return Ok(told);
    }
    Err(format!("{told}, and the script says {got:?}"))
}

struct History {
    dice: Dice,
    lines: Lines<VecArena>,
    scripts: Scripts,
    ear: Raw,
    now: u64,
    people: Vec<Person>,
    told: String,
}

fn histories(kind: Kind) {
    let server = Server::start();
    let mut counts = BTreeMap::new();
    for seed in 1..=HISTORIES {
        Raw::new(server.port).ask(&["FLUSHDB"]);
        let mut history = History::new(&server, seed * 7919 + kind as u64, kind);
        for step in 0..STEPS {
            if let Err(why) = history.step(&mut counts) {
                panic!("{kind:?} seed {seed} step {step}: {why}\n{}", history.told);
            }
        }
    }
    // A history that never waits, lapses or evicts proves little.
    let larger = if kind == Kind::Mutex { "held" } else { "larger" };
    let forgotten = if kind == Kind::Semaphore { "forgotten" } else { "held" };
    for what in [
        "held",
        "waiting",
        "busy",
        "gone",
        "why",
        "granted",
        "evicted",
        "marked",
        "kept",
        "continued",
        "together",
        larger,
        forgotten,
    ] {
        assert!(counts.get(what).is_some_and(|n| *n >= 40), "{what} came up too seldom: {counts:?}");
    }
}

impl History {
    fn new(server: &Server, seed: u64, kind: Kind) -> History {
        let mut ear = Raw::new(server.port);
        ear.ask(&["PSUBSCRIBE", "*"]);
        let mut dice = Dice(seed);
        // Not in the past: the server would drop what expires then.
        let now = Raw::new(server.port).ask(&["TIME"]).list()[0].number().cast_unsigned() * 1_000_000;
        let people = (1..=10).map(|n| Person::new(n, kind, now, &mut dice)).collect();
        let lines = Lines::new(VecArena::default()).expect("room");
        History { dice, lines, scripts: Scripts::new(server.port), ear, now, people, told: String::new() }
    }

    fn instant(&self) -> Now {
        Now { ns: self.now * 1000, wall_us: self.now, ceiling: i64::MAX }
    }

    fn step(&mut self, counts: &mut BTreeMap<&'static str, u32>) -> Result<(), String> {
        self.now += [1, 10, 1_000, 50_000, 400_000][usize::try_from(self.dice.roll(5)).expect("small")];
        self.scripts.set_clock(self.now);
        let at = usize::try_from(self.dice.roll(self.people.len() as u64)).expect("small");
        let person = self.people[at].clone();
        self.forget(counts);
        let what = match self.dice.roll(19) {
            16.. => self.transfer(at, counts)?,
            0..=6 => self.attempt(&person, counts)?,
            7..=9 => self.renew(at, counts)?,
            10..=13 => self.release(&person, counts)?,
            14 if self.dice.roll(2) == 0 => self.evict(counts)?,
            14 => self.together(counts)?,
            _ => {
                // Claims come and go.
                let id = 1000 + u128::from(self.dice.roll(u64::MAX));
                let kind = self.people[at].kind;
                self.people[at] = Person::new(id, kind, self.now, &mut self.dice);
                "somebody else comes".to_owned()
            }
        };
        self.told += &format!("{} {:x}: {what}\n", self.now % 1_000_000_000, person.id);
        self.compare_news(counts)?;
        self.compare_views()
    }

    /// Now and then, removes from the head of a semaphore which number of permits counts: older heads do not have it.
    fn forget(&mut self, counts: &mut BTreeMap<&'static str, u32>) {
        if self.people[0].kind != Kind::Semaphore || self.dice.roll(4) > 0 {
            return;
        }
        let head = self.scripts.raw.ask(&["GET", KEY]);
        let shared = match &head {
            Value::Nil => false,
            head => head.text().starts_with("13") && head.text()[96..112] != *"0000000000000000",
        };
        if shared {
            self.scripts.raw.ask(&["SETRANGE", KEY, "96", "0000000000000000"]);
            *counts.entry("forgotten").or_default() += 1;
        }
    }

    fn attempt(&mut self, p: &Person, counts: &mut BTreeMap<&'static str, u32>) -> Result<String, String> {
        let (want, words) = self.model_attempt(p);
        let got = self.run("attempt", &words);
        self.judge("attempt", &words[0], want, &got, counts)
    }

    fn run(&mut self, verb: &str, words: &[String]) -> Value {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.scripts.run(verb, &[KEY], &words)
    }

    /// What the model says to an attempt, and what the script is given.
    fn model_attempt(&mut self, p: &Person) -> (Result<Place, Refusal>, Vec<String>) {
        let stand = self.dice.roll(4) > 0;
        let want = self.lines.attempt(&Ask { stand, ..p.ask() }, self.instant());
        let [kind, terms, id, birth, who] = p.words();
        (want, vec![id, format!("{terms}{who}"), format!("{kind}{}{birth}", u8::from(stand))])
    }

    /// Several verbs in one call.
    fn together(&mut self, counts: &mut BTreeMap<&'static str, u32>) -> Result<String, String> {
        let (mut wants, mut words) = (Vec::new(), Vec::new());
        for _ in 0..=self.dice.roll(5) {
            let at = usize::try_from(self.dice.roll(self.people.len() as u64)).expect("small");
            let person = self.people[at].clone();
            if self.dice.roll(2) == 0 {
                let (want, some) = self.model_attempt(&person);
                wants.push((some[0].clone(), Ok(want)));
                words.push("a".to_owned());
                words.extend(some);
            } else {
                let (_, want, some) = self.model_release(&person, counts)?;
                wants.push((some[0].clone(), Err(want)));
                words.push("r".to_owned());
                words.extend(some);
            }
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let got = self.scripts.run("together", &vec![KEY; wants.len()], &words);
        if got.list().len() != wants.len() {
            return Err(format!("{} answers to {}: {got:?}", got.list().len(), wants.len()));
        }
        let mut told = "together: ".to_owned();
        for ((id, want), got) in wants.into_iter().zip(got.list()) {
            told += &match want {
                Ok(want) => self.judge("attempt", &id, want, got, counts)?,
                Err(want) => judge_release(&id, want, got)?,
            };
        }
        *counts.entry("together").or_default() += 1;
        Ok(told)
    }

    fn renew(&mut self, at: usize, counts: &mut BTreeMap<&'static str, u32>) -> Result<String, String> {
        // Up to three at once, the same one perhaps twice.
        let some: Vec<usize> = (0..=self.dice.roll(3))
            .map(|n| (at + usize::try_from(n).expect("small")) % self.people.len())
            .collect();
        if self.dice.roll(4) == 0 {
            self.people[at].note = format!("note {}", self.dice.roll(100));
        }
        let now = self.instant();
        let mut people: Vec<Person> = some.iter().map(|i| self.people[*i].clone()).collect();
        // The script may renew holders before waiters.
        people.sort_by_key(|p| !matches!(self.lines.peek(p.id), Place::Held { .. }));
        let want: Vec<_> =
            people.iter().map(|p| self.lines.renew(p.id, NAME, Some(p.note.as_bytes()), now)).collect();
        let words: Vec<String> = people.iter().flat_map(|p| [hex(p.id), p.note.clone()]).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let got = self.scripts.run("renew", &vec![KEY; people.len()], &words);
        let mut told = String::new();
        for ((p, want), got) in people.iter().zip(want).zip(got.list()) {
            told += &self.judge("renew", &hex(p.id), want, got, counts)?;
        }
        Ok(told)
    }

    fn release(&mut self, p: &Person, counts: &mut BTreeMap<&'static str, u32>) -> Result<String, String> {
        let (trace, want, words) = self.model_release(p, counts)?;
        let got = self.run("release", &words);
        Ok(format!("{trace:?} {}", judge_release(&words[0], want, &got)?))
    }

    fn surely_holds(&self, p: &Person) -> bool {
        matches!(self.lines.peek(p.id), Place::Held { end, .. } if end > self.now * 1000)
    }

    /// What the model says to a release, and what the script is given.
    fn model_release(
        &mut self,
        p: &Person,
        counts: &mut BTreeMap<&'static str, u32>,
    ) -> Result<(Trace, Found, Vec<String>), String> {
        let pause = [0, 1, 100_000, 900_000][usize::try_from(self.dice.roll(4)).expect("small")];
        let (trace, word) = match self.dice.roll(8) {
            0..=3 if self.surely_holds(p) => {
                (Trace::Nothing, ["", "s"][self.dice.roll(2) as usize].to_owned())
            }
            0..=3 => (Trace::Nothing, String::new()),
            4 | 5 => (Trace::Mark, format!("m{:016}", p.birth)),
            _ => (Trace::For(pause * 1000), format!("{pause:016}")),
        };
        let now = self.instant();
        let want =
            self.lines.release(p.id, NAME, p.birth * 1000, trace, now).map_err(|e| format!("{e:?}"))?;
        *counts
            .entry(match trace {
                Trace::Mark => "marked",
                Trace::For(_) if want == Found::Held => "kept",
                _ => "released",
            })
            .or_default() += 1;
        Ok((trace, want, vec![hex(p.id), word]))
    }

    /// Continues the hold of one claim as another, often a fresh one with less weight.
    fn transfer(&mut self, at: usize, counts: &mut BTreeMap<&'static str, u32>) -> Result<String, String> {
        let now = self.instant();
        let holds = |p: &&Person| matches!(self.lines.peek(p.id), Place::Held { .. });
        let holder = self.people.iter().find(holds).cloned();
        let from = match holder.filter(|_| self.dice.roll(4) > 0) {
            Some(holder) => holder,
            None => self.people[at].clone(),
        };
        let mut to = self.people[usize::try_from(self.dice.roll(10)).expect("small")].clone();
        if self.dice.roll(3) > 0 {
            let id = 1000 + u128::from(self.dice.roll(u64::MAX));
            to = Person::new(id, from.kind, self.now, &mut self.dice);
            (to.kind, to.capacity) = (from.kind, from.capacity);
            to.weight = if self.dice.roll(2) == 0 { from.weight } else { to.weight.min(to.capacity) };
            if let Some(here) = self.people.iter().position(|p| p.id == from.id) {
                self.people[here] = to.clone();
            }
        }
        let want = self.lines.transfer(from.id, &to.ask(), now);
        let [kind, terms, id, birth, who] = to.words();
        let words = [&hex(from.id), &id, &kind, &terms, &birth, &who, "0000000001"];
        let got = self.scripts.run("transfer", &[KEY], &words);
        if matches!(want, Ok(Place::Held { .. })) {
            *counts.entry("continued").or_default() += 1;
        }
        if want != Err(Refusal::Larger) {
            return self.judge("transfer", &id, want, &got, counts);
        }
        *counts.entry("larger").or_default() += 1;
        if got.list()[1].text() == "L" { Ok("larger".into()) } else { Err(format!("larger: {got:?}")) }
    }

    fn evict(&mut self, counts: &mut BTreeMap<&'static str, u32>) -> Result<String, String> {
        let now = self.instant();
        let held = self.lines.view(NAME, 0, now).map(|row| row.token).filter(|t| *t > 0);
        let token = match self.dice.roll(3) {
            0 => None,
            1 => held,
            _ => Some(77),
        };
        let want = self.lines.evict(NAME, token, b"by hand", now).map_err(|e| format!("{e:?}"))?;
        let word = token.map(|t| format!("{t:016}")).unwrap_or_default();
        let got = self.scripts.run("evict", &[KEY], &[&word, "by hand"]);
        *counts.entry("evicted").or_default() += want;
        let told = format!("evict {token:?}: {want}");
        if got.list()[2].number() == i64::from(want) {
            Ok(told)
        } else {
            Err(format!("{told}, and the script says {got:?}"))
        }
    }

    /// Compares where the model and the script say that a claim stands.
    fn judge(
        &self,
        verb: &str,
        id: &str,
        want: Result<Place, Refusal>,
        got: &Value,
        counts: &mut BTreeMap<&'static str, u32>,
    ) -> Result<String, String> {
        let told = format!("{verb}: {want:?} ");
        let mut got = fields(got);
        let digits = |n: u64| format!("{n:016}");
        // A new hold, of which the client knows the rest itself.
        if verb == "attempt" && got.len() == 4 && got[1] == "H" {
            let whose = self.people.iter().find(|p| hex(p.id) == id).ok_or("who is that?")?;
            got.splice(3..3, [digits(self.now), digits(self.now + whose.ttl)]);
        }
        let (name, mut expected) = match want {
            Ok(Place::Held { token, end, previous }) => {
                let mut out = vec!["H".to_owned(), digits(self.now)];
                out.extend([digits(token.cast_unsigned()), digits(end / 1000), letter(previous).to_owned()]);
                ("held", out)
            }
            Ok(Place::Waiting { ahead, end, look }) => {
                let mut out = vec!["W".to_owned(), digits(self.now), digits(end / 1000), ahead.to_string()];
                // Farther from the head, nobody looks again before two seconds have passed.
                let look =
                    if ahead < 2 { (look / 1000).min(self.now + 2_000_000) } else { self.now + 2_000_000 };
                out.push(digits(look));
                ("waiting", out)
            }
            Ok(Place::Busy) => ("busy", vec!["B".to_owned(), digits(self.now)]),
            Ok(Place::Gone { why: None }) => ("gone", vec!["G".to_owned(), digits(self.now)]),
            Ok(Place::Gone { why: Some(why) }) => ("why", vec!["E".to_owned(), digits(self.now), why]),
            Err(Refusal::Kind(kind)) => {
                ("kind", vec!["K".to_owned(), digits(self.now), (kind as u8).to_string()])
            }
            Err(other) => return Err(format!("{verb}: the model refuses: {other:?}")),
        };
        *counts.entry(name).or_default() += 1;
        expected.insert(0, id.to_owned());
        if expected == got {
            Ok(told)
        } else {
            Err(format!("{told}\n  expected {expected:?}\n  got      {got:?}"))
        }
    }

    /// What the model and the scripts told others.
    fn compare_news(&mut self, counts: &mut BTreeMap<&'static str, u32>) -> Result<(), String> {
        let mut want: Vec<(char, String)> = self
            .lines
            .drain_events()
            .map(|event| match event {
                Event::Granted { id, .. } => ('g', hex(id)),
                Event::Evicted { id, .. } => ('x', hex(id)),
            })
            .collect();
        self.scripts.raw.ask(&["PUBLISH", "end", ""]);
        let mut got = Vec::new();
        loop {
            let said = self.ear.hear();
            let [_, _, channel, text] = said.list() else { return Err(format!("{said:?}")) };
            if channel.text() == "end" {
                break;
            }
            let text = text.text();
            if channel.text() != format!("tenure:client:{CLIENT}") || !text.starts_with('1') {
                return Err(format!("told {text:?} to {channel:?}"));
            }
            got.push((text.chars().nth(1).unwrap_or('?'), text[2..34].to_owned()));
            if text[1..].starts_with('g') {
                *counts.entry("granted").or_default() += 1;
            }
        }
        want.sort();
        got.sort();
        if want == got { Ok(()) } else { Err(format!("news: expected {want:?}, got {got:?}")) }
    }

    fn compare_views(&mut self) -> Result<(), String> {
        let want = self.lines.view(NAME, 3, self.instant());
        let all = self.scripts.run("inspect", &[KEY], &["3"]);
        let got = all.list().first().cloned().unwrap_or(Value::Nil);
        let want = want.map(|row| shown(&row));
        let got = match &got {
            Value::Nil => None,
            said => Some(read(said)),
        };
        if want == got { Ok(()) } else { Err(format!("view:\n  expected {want:?}\n  got      {got:?}")) }
    }
}
