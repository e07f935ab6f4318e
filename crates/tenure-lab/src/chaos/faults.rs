//! Which faults a run has, when they begin and end, and what they break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tenure_servers::proxy::{Conditions, Proxy};

use super::client::Told;
use super::clients::Clients;
use crate::failure::{Doing, Outcome};
use crate::history::{Event, Fault, Name, Op, Phase, Writer};
use crate::num::{Dice, boot_ns};
use crate::servers::{self, Half, Lasts, Own};

/// A fault of clients, or of the path to their server: its name, how often it is drawn, and what it needs.
type Draw = (&'static str, u64, Needs);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// A client process to hit.
    Client,
    /// A client that may die.
    Mortal,
    /// A path of ours to the server.
    Path,
    Nothing,
}

/// What can be done to a store is drawn beside these: see [`Own::faults`].
const DRAWS: &[Draw] = &[
    ("pause", 5, Needs::Client),
    ("kill", 2, Needs::Mortal),
    ("busy_cpu", 1, Needs::Nothing),
    ("reset", 2, Needs::Path),
    ("lose_requests", 2, Needs::Path),
    ("lose_answers", 2, Needs::Path),
    ("half_open", 2, Needs::Path),
    ("latency", 2, Needs::Path),
    ("byte_at_a_time", 1, Needs::Path),
];

/// What ends a fault.
enum Undo {
    Nothing,
    GoOn(u32),
    Path(usize),
    Busy(Arc<AtomicBool>),
    /// The store's own.
    Store(servers::Fault),
}

impl Undo {
    fn of_the_store(&self) -> bool {
        matches!(self, Undo::Store(fault) if !matches!(fault.lasts, Lasts::UntilNoticed(_)))
    }

    /// Something was removed, and clients have yet to notice.
    fn unnoticed(&self) -> bool {
        matches!(self, Undo::Store(fault) if matches!(fault.lasts, Lasts::UntilNoticed(_)))
    }
}

/// Since when the store may not know the last token of a lock.
enum Forgotten {
    /// For so short a time that clients may still tell of what they acquired before.
    Just(Instant),
    /// They had acquired so much by then.
    Acquired(u64),
}

/// Clients have told all that they acquired this much earlier.
const TOLD: Duration = Duration::from_secs(1);
/// Each lock is among so many acquisitions.
const ALL_LOCKS: u64 = 200;

struct Active {
    fault: Fault,
    ends: Instant,
    undo: Undo,
}

/// What there is to break.
pub(super) struct Targets {
    pub(super) clients: Clients,
    /// The paths to the servers of the store, if they are ours.
    pub(super) paths: Vec<Proxy>,
    /// The store, if it is the run's own.
    pub(super) own: Option<Arc<dyn Own>>,
    /// A client that dies takes nothing with it that others need.
    pub(super) mortal: bool,
    pub(super) notes: Writer,
}

impl Targets {
    /// Writes a fault's beginning or end into the history.
    fn tell(&self, fault: Fault, phase: Phase, detail: &str) -> Outcome<()> {
        let mut event = Event::new(boot_ns(), 0, Op::Fault, phase).fault(fault);
        if !detail.is_empty() {
            event = event.detail(detail);
        }
        self.notes.put(&event).doing(|| "write the history".into())
    }

    /// Ends faults that clients told of and cannot end any more.
    pub(super) fn tell_ended(&self, told: Vec<Told>) -> Outcome<()> {
        for Told { fault, id, .. } in told {
            let fault =
                Fault { name: Name::new(&fault), id, target: Name::new("client"), breaks: Vec::new() };
            self.tell(fault, Phase::End, "")?;
        }
        Ok(())
    }
}

/// The faults of a run.
pub(super) struct Faults {
    dice: Dice,
    ttl: Duration,
    mean: Duration,
    next: Instant,
    active: Vec<Active>,
    pub(super) begun: u64,
    copied: Instant,
    /// When a fault that clients must notice strikes next: not at random, since they have to come back in between.
    paced: Instant,
    forgotten: Option<Forgotten>,
    /// Only these faults, if any are named.
    only: &'static [&'static str],
}

impl Faults {
    pub(super) fn new(seed: u64, ttl: Duration, mean: Duration, only: &'static [&'static str]) -> Faults {
        let now = Instant::now();
        let (dice, copied) = (Dice::new(seed, 0xFA17), now);
        Faults {
            dice,
            ttl,
            mean,
            next: now + Duration::from_millis(300),
            active: Vec::new(),
            begun: 0,
            copied,
            paced: now + Duration::from_secs(3),
            forgotten: None,
            only,
        }
    }

    /// One look at the clock: ends what is over, begins what is due.
    pub(super) fn step(&mut self, targets: &mut Targets, second_half: bool) -> Outcome<()> {
        self.look_after(targets)?;
        let now = Instant::now();
        while let Some(over) = self.active.iter().position(|active| active.ends <= now) {
            let active = self.active.swap_remove(over);
            let forgets = matches!(&active.undo, Undo::Store(fault) if fault.forgets);
            undo(targets, active)?;
            if forgets {
                self.forgotten = Some(Forgotten::Just(Instant::now()));
            }
        }
        self.remember(targets.clients.acquired());
        if let Some(own) = &targets.own
            && now.duration_since(self.copied) > Duration::from_secs(2)
            && !self.busy(Undo::of_the_store)
        {
            self.copied = now;
            own.copy()?;
        }
        if now >= self.next {
            self.next = now + self.dice.exponential(self.mean).min(self.mean * 4);
            self.begin(targets, second_half)?;
        }
        if now >= self.paced {
            self.paced = now + Duration::from_millis(10_000 + self.dice.below(10_000));
            let faults = self.of_the_store(targets, second_half, true);
            if !faults.is_empty() {
                let which = self.dice.below(faults.len() as u64);
                self.strike_store(faults[usize::try_from(which).unwrap_or(0)], targets)?;
            }
        }
        Ok(())
    }

    /// Wakes or replaces clients that stopped or killed themselves.
    pub(super) fn look_after(&mut self, targets: &mut Targets) -> Outcome<()> {
        let told = targets.clients.look_after(self.ttl, &mut self.dice)?;
        targets.tell_ended(told)
    }

    /// The store knows the last token of every lock again once each was granted.
    fn remember(&mut self, acquired: u64) {
        match self.forgotten {
            Some(Forgotten::Just(at)) if at.elapsed() >= TOLD => {
                self.forgotten = Some(Forgotten::Acquired(acquired));
            }
            Some(Forgotten::Acquired(by_then)) if acquired >= by_then + ALL_LOCKS => self.forgotten = None,
            _ => {}
        }
    }

    /// Ends everything.
    pub(super) fn clear(&mut self, targets: &mut Targets) -> Outcome<()> {
        // What clients have yet to notice is not undone by ending the fault.
        let unnoticed = self.active.iter().filter(|active| active.undo.unnoticed());
        if let Some(last) = unnoticed.map(|active| active.ends).max() {
            std::thread::sleep(last.saturating_duration_since(Instant::now()));
        }
        for active in std::mem::take(&mut self.active) {
            undo(targets, active)?;
        }
        let told = targets.clients.calm()?;
        targets.tell_ended(told)
    }

    fn busy(&self, what: impl Fn(&Undo) -> bool) -> bool {
        self.active.iter().any(|active| what(&active.undo))
    }

    /// Whether a fault of this kind can begin now: there is one at a time of the path and the CPU.
    fn possible(&self, draw: &Draw, targets: &Targets) -> bool {
        if !self.only.is_empty() && !self.only.contains(&draw.0) {
            return false;
        }
        match draw.2 {
            // All clients have to leave a store that was removed: one that sleeps meanwhile holds up all others.
            Needs::Nothing => !self.busy(|undo| matches!(undo, Undo::Busy(_)) || undo.unnoticed()),
            Needs::Client => !self.busy(Undo::unnoticed),
            Needs::Mortal => targets.mortal,
            Needs::Path => !targets.paths.is_empty() && !self.busy(|undo| matches!(undo, Undo::Path(_))),
        }
    }

    /// What can be done to the store now, one thing at a time: what is paced, or what is drawn at random.
    fn of_the_store(&self, targets: &Targets, second_half: bool, paced: bool) -> Vec<servers::Fault> {
        let Some(own) = &targets.own else { return Vec::new() };
        let half = if second_half { Half::Second } else { Half::First };
        let mut faults = own.faults();
        faults.retain(|fault| {
            let wanted = self.only.is_empty() || self.only.contains(&fault.name);
            let now = fault.half == Half::Either || fault.half == half;
            let of_this_kind = matches!(fault.lasts, Lasts::UntilNoticed(_)) == paced;
            // Tokens were forgotten, and then the clock goes back: no store that relies on its clock could keep S2.
            let safe = !fault.turns_back || self.forgotten.is_none();
            of_this_kind && now && safe && (paced || (wanted && !self.busy(Undo::of_the_store)))
        });
        faults
    }

    fn begin(&mut self, targets: &mut Targets, second_half: bool) -> Outcome<()> {
        let possible: Vec<&Draw> = DRAWS.iter().filter(|draw| self.possible(draw, targets)).collect();
        let stores = self.of_the_store(targets, second_half, false);
        // Where nothing but clients can be hit, most of them die: a pause holds up all others for a lease or two. And
        // where latency is looked for, it is there most of the time.
        let weight = |draw: &Draw| match draw.0 {
            "pause" if targets.paths.is_empty() => 3,
            "kill" if targets.paths.is_empty() => 12,
            "latency" if !self.only.is_empty() => 6,
            _ => draw.1,
        };
        let all = possible.iter().copied().map(weight).sum::<u64>();
        let mut roll = self.dice.below(all + stores.iter().map(|fault| fault.weight).sum::<u64>());
        for draw in possible {
            if roll < weight(draw) {
                return self.strike(draw.0, targets);
            }
            roll -= weight(draw);
        }
        for fault in stores {
            if roll < fault.weight {
                return self.strike_store(fault, targets);
            }
            roll -= fault.weight;
        }
        Ok(())
    }

    /// 0.3 to 3 ttl.
    fn span(&mut self) -> Duration {
        self.ttl.mul_f64(0.3 + 2.7 * self.dice.unit())
    }

    fn strike(&mut self, name: &'static str, targets: &mut Targets) -> Outcome<()> {
        let victim = match name {
            "pause" | "kill" => match targets.clients.pick(&mut self.dice) {
                Some(index) => Some(index),
                None => return Ok(()),
            },
            _ => None,
        };
        let target = match (victim, name) {
            (Some(index), _) => format!("client {}", targets.clients.p(index)),
            (_, "busy_cpu") => "machine".to_owned(),
            _ => "path".to_owned(),
        };
        let breaks = match &targets.own {
            Some(own) if target == "path" => own.cut_off(),
            _ => &[],
        };
        let fault = self.told(name, &target, breaks, targets)?;
        let undo = self.hit(name, victim, targets)?;
        let span = if matches!(undo, Undo::Nothing) { Duration::ZERO } else { self.span() };
        self.active.push(Active { fault, ends: Instant::now() + span, undo });
        Ok(())
    }

    fn strike_store(&mut self, fault: servers::Fault, targets: &mut Targets) -> Outcome<()> {
        let Some(own) = targets.own.clone() else { return Ok(()) };
        let target = if own.log().is_some() { "server" } else { "store" };
        let told = self.told(fault.name, target, fault.breaks, targets)?;
        own.strike(&fault, self.ttl, &mut self.dice)?;
        let span = match fault.lasts {
            Lasts::NoTime => Duration::ZERO,
            Lasts::AWhile => self.span(),
            Lasts::UntilNoticed(time) => time,
        };
        self.active.push(Active { fault: told, ends: Instant::now() + span, undo: Undo::Store(fault) });
        Ok(())
    }

    /// Writes the beginning of a fault into the history.
    fn told(&mut self, name: &str, target: &str, breaks: &[&str], targets: &Targets) -> Outcome<Fault> {
        self.begun += 1;
        let breaks = breaks.iter().map(|rule| Name::new(rule)).collect();
        let fault = Fault { name: Name::new(name), id: self.begun, target: Name::new(target), breaks };
        targets.tell(fault.clone(), Phase::Begin, "")?;
        Ok(fault)
    }

    fn hit(&mut self, name: &str, victim: Option<usize>, targets: &mut Targets) -> Outcome<Undo> {
        if let Some(index) = victim {
            if name == "kill" {
                let told = targets.clients.kill(index)?;
                targets.tell_ended(told)?;
                return Ok(Undo::Nothing);
            }
            let p = targets.clients.p(index);
            targets.clients.stop(index);
            return Ok(Undo::GoOn(p));
        }
        if name == "busy_cpu" {
            return Ok(Undo::Busy(spin(targets.clients.len())));
        }
        // Of several servers one: no majority is cut off.
        let path = usize::try_from(self.dice.below(targets.paths.len().max(1) as u64)).unwrap_or(0);
        if let Some(proxy) = targets.paths.get(path) {
            let half = [None, Some(0), Some(1)][usize::try_from(self.dice.below(3)).unwrap_or(0)];
            // Some of it is in the order of a lease; all of it where that is what is looked for.
            let some = if self.only.is_empty() { 3 } else { 1 };
            let latency = match self.dice.below(some) {
                0 => self.ttl.mul_f64(0.2 + 0.5 * self.dice.unit()),
                _ => Duration::from_millis(2 + self.dice.below(40)),
            };
            if name == "reset" {
                proxy.reset(half);
                return Ok(Undo::Nothing);
            }
            proxy.set(|now| {
                now.half = half;
                match name {
                    "lose_requests" => now.lose_requests = true,
                    "lose_answers" => now.lose_answers = true,
                    "half_open" => (now.lose_requests, now.lose_answers) = (true, true),
                    "latency" => now.latency = latency,
                    _ => now.bytewise = true,
                }
            });
            return Ok(Undo::Path(path));
        }
        Ok(Undo::Nothing)
    }
}

fn undo(targets: &mut Targets, active: Active) -> Outcome<()> {
    match active.undo {
        Undo::Nothing => {}
        Undo::GoOn(p) => targets.clients.go_on(p),
        Undo::Path(path) => {
            if let Some(proxy) = targets.paths.get(path) {
                proxy.set(|now| *now = Conditions::default());
            }
        }
        Undo::Store(fault) => {
            if let Some(own) = &targets.own {
                own.undo(&fault)?;
            }
        }
        Undo::Busy(stop) => stop.store(true, Ordering::Relaxed),
    }
    targets.tell(active.fault, Phase::End, "")
}

/// A run that ends early leaves no thread that spins.
impl Drop for Faults {
    fn drop(&mut self) {
        for active in &self.active {
            if let Undo::Busy(stop) = &active.undo {
                stop.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// Keeps so many threads busy until the flag is set.
fn spin(threads: usize) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..threads.max(2) {
        let stop = stop.clone();
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    stop
}
