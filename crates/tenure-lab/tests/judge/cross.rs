//! Ten thousand random small histories: on each, the judge of exclusion agrees with a brute-force search. The same for the
//! order of tokens.

#![allow(clippy::print_stdout)] // the seeds, and what they made

use tenure_lab::Dice;
use tenure_lab::history::{Claim, Event, History, Kind, Op, Phase};
use tenure_lab::judge::Status;

use crate::brute;
use crate::script::{header, verdict};

const HISTORIES: u64 = 10_000;

/// A lock that mostly excludes: it keeps its own account of time, and sometimes grants what does not fit.
struct Maker {
    dice: Dice,
    capacity: u32,
    kinds: &'static [Kind],
    /// It grants what does not fit once in so many times.
    careless: u64,
    events: Vec<Event>,
    /// Kind, weight, until when it is held, and the capacity that it names.
    held: Vec<(Kind, u32, u64, u32)>,
    token: i64,
}

impl Maker {
    fn new(seed: u64) -> Maker {
        let mut dice = Dice::at(seed);
        let kinds: &[Kind] = match dice.below(3) {
            0 => &[Kind::Mutex],
            1 => &[Kind::Read, Kind::Read, Kind::Write],
            _ => &[Kind::Semaphore],
        };
        let capacity = if kinds == [Kind::Semaphore] { 1 + dice.below(4) as u32 } else { 1 };
        let careless = [2, 5, 12, 1_000_000][dice.below(4) as usize];
        Maker { dice, capacity, kinds, careless, events: Vec::new(), held: Vec::new(), token: 0 }
    }

    /// When a claim of this kind and weight fits, from `t` on.
    fn fits_from(&self, t: u64, kind: Kind, weight: u32, capacity: u32) -> u64 {
        let mut ends: Vec<u64> =
            self.held.iter().map(|held| held.2).filter(|end| *end > t).chain([t]).collect();
        ends.sort_unstable();
        let fits = |at: u64| {
            let live = self.held.iter().filter(|held| held.2 > at);
            match kind {
                Kind::Semaphore => {
                    let add = |(sum, least): (u32, u32), held: &(Kind, u32, u64, u32)| {
                        (sum + held.1, least.min(held.3))
                    };
                    let (sum, least) = live.fold((weight, capacity), add);
                    sum <= least
                }
                Kind::Read => live.into_iter().all(|held| held.0 == Kind::Read),
                _ => live.count() == 0,
            }
        };
        ends.into_iter().find(|at| fits(*at)).unwrap_or(t)
    }

    fn claim(&mut self, number: u64, start: u64) -> u64 {
        let claim = Claim(number + 1);
        let p = u32::try_from(number).expect("small");
        let event = |t: u64, op, phase| Event::new(t, p, op, phase).client("x").lock("hot").claim(claim);
        let kind = self.kinds[self.dice.below(self.kinds.len() as u64) as usize];
        let mut below = |most: u32| 1 + self.dice.below(u64::from(most)) as u32;
        // Some claims name fewer permits than the others.
        let fewer = kind == Kind::Semaphore && below(3) == 1;
        let capacity = if fewer { below(self.capacity) } else { self.capacity };
        let weight = if kind == Kind::Semaphore { below(capacity) } else { 1 };
        let invoked = start + self.dice.below(8);
        let look = self.dice.one_in(self.careless);
        let granted =
            if look { invoked } else { self.fits_from(invoked, kind, weight, capacity) } + self.dice.below(3);
        let returned = granted + self.dice.below(6);
        let until = granted + 4 + self.dice.below(30);
        self.events.push(event(invoked, Op::Acquire, Phase::Invoke).kind(kind, weight, capacity));
        let mut end = u64::MAX;
        match self.dice.below(8) {
            // Unknown, and perhaps granted all the same.
            0 => {
                let (op, phase) =
                    [(Op::Acquire, Phase::Info), (Op::Cancel, Phase::Ok), (Op::Acquire, Phase::Fail)]
                        [self.dice.below(3) as usize];
                self.events.push(event(returned, op, phase));
                return granted;
            }
            1 => end = until,
            _ => {}
        }
        // Readers mostly share the token of the readers before them.
        let grows = !self.dice.one_in(self.careless) && (kind != Kind::Read || self.dice.one_in(9));
        self.token += i64::from(grows) + i64::from(self.dice.one_in(30))
            - i64::from(self.dice.one_in(self.careless * 2));
        let mut ok = event(returned, Op::Acquire, Phase::Ok).token(self.token.max(1));
        let with_deadline = self.dice.one_in(2) || end != u64::MAX;
        if with_deadline {
            ok = ok.deadline(until);
        }
        self.events.push(ok);
        if end == u64::MAX {
            let asked = returned + 1 + self.dice.below(12);
            end = if with_deadline { asked.min(until) } else { asked };
            self.ending(event, asked, end);
        } else if self.dice.one_in(3) {
            let longer = until + self.dice.below(9);
            self.events.push(event(returned + 1, Op::Renew, Phase::Ok).deadline(longer));
            end = longer;
        }
        self.held.push((kind, weight, end, capacity));
        granted
    }

    fn ending(&mut self, event: impl Fn(u64, Op, Phase) -> Event, asked: u64, end: u64) {
        match self.dice.below(6) {
            0 => self.events.push(event(asked, Op::Lost, Phase::Ok)),
            1 => self.events.push(event(asked, Op::Check, Phase::Lost)),
            2 => self.events.push(event(asked, Op::Release, Phase::Invoke)),
            _ => {
                let answered = end.max(asked) + self.dice.below(5);
                self.events.push(event(asked, Op::Release, Phase::Invoke));
                self.events.push(event(answered, Op::Release, Phase::Ok));
            }
        }
    }

    fn history(mut self) -> History {
        let mut at = 1;
        for number in 0..1 + self.dice.below(7) {
            let granted = self.claim(number, at);
            at = if self.dice.one_in(2) { at } else { granted };
        }
        self.events.sort_by_key(|event| event.t);
        History { header: header(), events: self.events }
    }
}

fn seeds() -> impl Iterator<Item = u64> {
    // TENURE_LAB_SEED repeats the seed that a failure printed, or looks elsewhere.
    let first = std::env::var("TENURE_LAB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1u64);
    println!("seeds {first} to {}", first + HISTORIES - 1);
    first..first + HISTORIES
}

#[test]
fn exclusion_agrees_with_brute_force() {
    let (mut right, mut wrong, mut by_kind) = (0u64, 0u64, [[0u64; 2]; 4]);
    for seed in seeds() {
        let history = Maker::new(seed).history();
        let explained = brute::explainable(&history.events, false);
        let judged = verdict(&history, "S1");
        assert_eq!(
            judged.status != Status::Broken,
            explained,
            "seed {seed}: the judge says {}, brute force {}: {judged:#?}\n{:#?}",
            judged.status,
            if explained { "explainable" } else { "not explainable" },
            history
                .events
                .iter()
                .map(|event| serde_json::to_string(event).expect("JSON"))
                .collect::<Vec<_>>()
        );
        *(if explained { &mut right } else { &mut wrong }) += 1;
        let kind = history.events.iter().find_map(|event| event.kind).expect("a claim");
        by_kind[kind as usize][usize::from(explained)] += 1;
    }
    println!("{right} right, {wrong} wrong; by kind (wrong, right): {by_kind:?}");
    // A generator that makes only one sort would prove nothing.
    assert!(right > HISTORIES / 5 && wrong > HISTORIES / 5, "{right} right, {wrong} wrong");
    assert!(by_kind.iter().all(|counts| counts.iter().all(|n| *n > HISTORIES / 100)), "{by_kind:?}");
}

#[test]
fn the_order_of_tokens_agrees_with_brute_force() {
    let (mut right, mut wrong, mut only_tokens) = (0u64, 0u64, 0u64);
    for seed in seeds() {
        let history = Maker::new(seed).history();
        let explained = brute::explainable(&history.events, true);
        let (exclusion, tokens) = (verdict(&history, "S1"), verdict(&history, "S2"));
        let holds = exclusion.status != Status::Broken && tokens.status != Status::Broken;
        assert_eq!(
            holds,
            explained,
            "seed {seed}: {exclusion:#?}\n{tokens:#?}\n{:#?}",
            history
                .events
                .iter()
                .map(|event| serde_json::to_string(event).expect("JSON"))
                .collect::<Vec<_>>()
        );
        *(if explained { &mut right } else { &mut wrong }) += 1;
        only_tokens += u64::from(exclusion.status != Status::Broken && tokens.status == Status::Broken);
    }
    println!("{right} right, {wrong} wrong, {only_tokens} by their tokens alone");
    assert!(
        right > HISTORIES / 10 && only_tokens > HISTORIES / 10,
        "{right} right, {only_tokens} wrong tokens"
    );
}
