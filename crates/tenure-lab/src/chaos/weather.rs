//! Which faults a run has, when they begin and end, and what they break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::client::Told;
use super::crew::Crew;
use super::files::{self, Files};
use super::proxy::Proxy;
use super::server::Server;
use crate::failure::{Doing, Outcome};
use crate::history::{Event, Fault, Name, Op, Phase, Writer};
use crate::num::{Dice, boot_ns};

/// One kind of fault: its name, how often it is drawn, and what it needs.
type Draw = (&'static str, u64, Needs);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// A client process to hit.
    Client,
    /// A client that may die.
    Mortal,
    /// A path of ours to the server.
    Path,
    /// A server of ours.
    Server,
    /// The same, in the first half of a run: what loses data. Tokens grow with the server's clock, so a loss of data
    /// while that clock is wrong would break S2, which no single fault may.
    Data,
    /// The same, in the second half: what makes the clock wrong.
    Clock,
    Disk,
    Nothing,
}

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
    ("stop_server", 2, Needs::Server),
    ("restart", 2, Needs::Server),
    ("restart_empty", 2, Needs::Data),
    ("restart_older_copy", 2, Needs::Data),
    ("clock_forward", 2, Needs::Clock),
    ("clock_back", 2, Needs::Clock),
    ("full_disk", 1, Needs::Disk),
];

/// What ends a fault.
enum Undo {
    Nothing,
    GoOn(u32),
    Path,
    Server,
    Clock,
    Disk,
    Busy(Arc<AtomicBool>),
    /// Those who have removed files open have to notice.
    Files,
}

struct Active {
    fault: Fault,
    ends: Instant,
    undo: Undo,
}

/// What there is to break.
pub(super) struct Targets {
    pub(super) crew: Crew,
    pub(super) proxy: Option<Proxy>,
    pub(super) server: Option<Server>,
    pub(super) files: Option<Files>,
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
pub(super) struct Weather {
    dice: Dice,
    ttl: Duration,
    mean: Duration,
    next: Instant,
    active: Vec<Active>,
    pub(super) begun: u64,
    copied: Instant,
    /// When files are removed next: not at random, since clients have to come back in between.
    remove: Instant,
    /// Only these faults, if any are named.
    only: &'static [&'static str],
}

impl Weather {
    pub(super) fn new(seed: u64, ttl: Duration, mean: Duration, only: &'static [&'static str]) -> Weather {
        let now = Instant::now();
        let (dice, copied) = (Dice::new(seed, 0xFA17), now);
        Weather {
            dice,
            ttl,
            mean,
            next: now + Duration::from_millis(300),
            active: Vec::new(),
            begun: 0,
            copied,
            remove: now + Duration::from_secs(3),
            only,
        }
    }

    /// One look at the clock: ends what is over, begins what is due.
    pub(super) fn step(&mut self, targets: &mut Targets, second_half: bool) -> Outcome<()> {
        self.look_after(targets)?;
        let now = Instant::now();
        while let Some(over) = self.active.iter().position(|active| active.ends <= now) {
            let active = self.active.swap_remove(over);
            undo(targets, active)?;
        }
        if let Some(server) = &targets.server
            && now.duration_since(self.copied) > Duration::from_secs(2)
            && !self.busy(|undo| matches!(undo, Undo::Server | Undo::Clock | Undo::Disk))
        {
            self.copied = now;
            server.copy()?;
        }
        if now >= self.next {
            self.next = now + self.dice.exponential(self.mean).min(self.mean * 4);
            self.begin(targets, second_half)?;
        }
        if now >= self.remove && targets.files.is_some() {
            self.remove = now + Duration::from_millis(10_000 + self.dice.below(10_000));
            let fault = files::draw(&mut self.dice, second_half);
            self.strike(fault, targets)?;
        }
        Ok(())
    }

    /// Wakes or replaces clients that stopped or killed themselves.
    pub(super) fn look_after(&mut self, targets: &mut Targets) -> Outcome<()> {
        let told = targets.crew.look_after(self.ttl, &mut self.dice)?;
        targets.tell_ended(told)
    }

    /// Ends everything.
    pub(super) fn clear(&mut self, targets: &mut Targets) -> Outcome<()> {
        // That files were removed is not undone by ending the fault.
        let unnoticed = self.active.iter().filter(|active| matches!(active.undo, Undo::Files));
        if let Some(last) = unnoticed.map(|active| active.ends).max() {
            std::thread::sleep(last.saturating_duration_since(Instant::now()));
        }
        for active in std::mem::take(&mut self.active) {
            undo(targets, active)?;
        }
        let told = targets.crew.calm()?;
        targets.tell_ended(told)
    }

    fn busy(&self, what: impl Fn(&Undo) -> bool) -> bool {
        self.active.iter().any(|active| what(&active.undo))
    }

    /// Whether a fault of this kind can begin now: there is one at a time of the server, the path and the CPU.
    fn possible(&self, draw: &Draw, targets: &Targets, second_half: bool) -> bool {
        if !self.only.is_empty() && !self.only.contains(&draw.0) {
            return false;
        }
        let server = targets.server.as_ref();
        let idle = !self.busy(|undo| matches!(undo, Undo::Server | Undo::Clock | Undo::Disk));
        match draw.2 {
            // All clients have to come out of a store that was removed: whoever sleeps meanwhile holds up everything.
            Needs::Nothing => !self.busy(|undo| matches!(undo, Undo::Busy(_) | Undo::Files)),
            Needs::Client => !self.busy(|undo| matches!(undo, Undo::Files)),
            Needs::Mortal => targets.mortal,
            Needs::Path => targets.proxy.is_some() && !self.busy(|undo| matches!(undo, Undo::Path)),
            // A restart of a server that keeps nothing is a loss of data.
            Needs::Server if draw.0 == "restart" && second_half => {
                idle && server.is_some_and(|server| !server.forgets())
            }
            Needs::Server => idle && server.is_some(),
            Needs::Data => idle && server.is_some() && !second_half,
            Needs::Clock => idle && second_half && server.is_some_and(Server::has_clock),
            Needs::Disk => idle && server.is_some_and(Server::has_disk),
        }
    }

    fn begin(&mut self, targets: &mut Targets, second_half: bool) -> Outcome<()> {
        let possible: Vec<&Draw> =
            DRAWS.iter().filter(|draw| self.possible(draw, targets, second_half)).collect();
        if possible.is_empty() {
            return Ok(());
        }
        // Where nothing but clients can be hit, most of them die: a pause holds up all others for a lease or two. And
        // where latency is looked for, it is there most of the time.
        let weight = |draw: &Draw| match draw.0 {
            "pause" if targets.proxy.is_none() => 3,
            "kill" if targets.proxy.is_none() => 12,
            "latency" if !self.only.is_empty() => 6,
            _ => draw.1,
        };
        let mut roll = self.dice.below(possible.iter().copied().map(weight).sum());
        for draw in possible {
            if roll < weight(draw) {
                return self.strike(draw.0, targets);
            }
            roll -= weight(draw);
        }
        Ok(())
    }

    /// 0.3 to 3 ttl.
    fn span(&mut self) -> Duration {
        self.ttl.mul_f64(0.3 + 2.7 * self.dice.unit())
    }

    fn strike(&mut self, name: &'static str, targets: &mut Targets) -> Outcome<()> {
        let forgets = targets.server.as_ref().is_some_and(Server::forgets);
        let victim = match name {
            "pause" | "kill" => match targets.crew.pick(&mut self.dice) {
                Some(index) => Some(index),
                None => return Ok(()),
            },
            _ => None,
        };
        let target = match (victim, name) {
            (Some(index), _) => format!("client {}", targets.crew.p(index)),
            (_, "busy_cpu") => "machine".to_owned(),
            (_, "reset" | "lose_requests" | "lose_answers" | "half_open" | "latency" | "byte_at_a_time") => {
                "path".to_owned()
            }
            (_, name) if files::FAULTS.contains(&name) => "store".to_owned(),
            _ => "server".to_owned(),
        };
        self.begun += 1;
        let breaks = breaks(name, forgets).iter().map(|rule| Name::new(rule)).collect();
        let fault = Fault { name: Name::new(name), id: self.begun, target: Name::new(&target), breaks };
        targets.tell(fault.clone(), Phase::Begin, "")?;
        let undo = self.hit(name, victim, targets)?;
        let span = match undo {
            Undo::Nothing => Duration::ZERO,
            Undo::Files => files::NOTICED,
            _ => self.span(),
        };
        self.active.push(Active { fault, ends: Instant::now() + span, undo });
        Ok(())
    }

    fn hit(&mut self, name: &str, victim: Option<usize>, targets: &mut Targets) -> Outcome<Undo> {
        if let Some(index) = victim {
            if name == "kill" {
                let told = targets.crew.kill(index)?;
                targets.tell_ended(told)?;
                return Ok(Undo::Nothing);
            }
            let p = targets.crew.p(index);
            targets.crew.stop(index);
            return Ok(Undo::GoOn(p));
        }
        if name == "busy_cpu" {
            return Ok(Undo::Busy(spin(targets.crew.len())));
        }
        if let Some(files) = targets.files.as_ref().filter(|_| files::FAULTS.contains(&name)) {
            files.remove(name)?;
            return Ok(Undo::Files);
        }
        if let Some(server) = &mut targets.server
            && let Some(undo) = hit_server(name, server, self.ttl, &mut self.dice)?
        {
            return Ok(undo);
        }
        if let Some(proxy) = &targets.proxy {
            let half = [None, Some(0), Some(1)][usize::try_from(self.dice.below(3)).unwrap_or(0)];
            // Some of it is in the order of a lease; all of it where that is what is looked for.
            let some = if self.only.is_empty() { 3 } else { 1 };
            let latency = match self.dice.below(some) {
                0 => self.ttl.mul_f64(0.2 + 0.5 * self.dice.unit()),
                _ => Duration::from_millis(2 + self.dice.below(40)),
            };
            proxy.set(|weather| {
                weather.half = half;
                match name {
                    "reset" => weather.resets += 1,
                    "lose_requests" => weather.lose_requests = true,
                    "lose_answers" => weather.lose_answers = true,
                    "half_open" => (weather.lose_requests, weather.lose_answers) = (true, true),
                    "latency" => weather.latency = latency,
                    _ => weather.bytewise = true,
                }
            });
            return Ok(if name == "reset" { Undo::Nothing } else { Undo::Path });
        }
        Ok(Undo::Nothing)
    }
}

fn hit_server(name: &str, server: &mut Server, ttl: Duration, dice: &mut Dice) -> Outcome<Option<Undo>> {
    Ok(Some(match name {
        "stop_server" => {
            server.signal(Signal::STOP);
            Undo::Server
        }
        "restart" => {
            server.restart()?;
            Undo::Nothing
        }
        "restart_empty" => {
            server.restart_empty()?;
            Undo::Nothing
        }
        "restart_older_copy" => {
            server.restart_older()?;
            Undo::Nothing
        }
        "clock_forward" | "clock_back" => {
            let ns = i64::try_from(ttl.mul_f64(0.5 + 3.0 * dice.unit()).as_nanos()).unwrap_or(0);
            server.step_clock(if name == "clock_back" { -ns } else { ns });
            Undo::Clock
        }
        "full_disk" => {
            server.fill_disk();
            Undo::Disk
        }
        _ => return Ok(None),
    }))
}

/// The rules that rest on what a fault takes away (the contract's assumptions: the server keeps its data for a lease, and
/// its clock does not jump).
fn breaks(name: &str, forgets: bool) -> &'static [&'static str] {
    match name {
        "restart_older_copy" => &["S1", "S5", "S10", "L3"],
        "restart_empty" => &["S1", "S5", "L3"],
        "restart" | "full_disk" if forgets => &["S1", "S5", "L3"],
        // Whoever comes then cannot know of those who hold: two groups, until the old one notices.
        "delete_directory" => &["S1", "S2", "S5", "L3"],
        // The end of a step back is a step forward.
        "clock_forward" | "clock_back" => &["S1", "S5", "L3"],
        _ => &[],
    }
}

fn undo(targets: &mut Targets, active: Active) -> Outcome<()> {
    match active.undo {
        Undo::Nothing | Undo::Files => {}
        Undo::GoOn(p) => targets.crew.go_on(p),
        Undo::Path => {
            if let Some(proxy) = &targets.proxy {
                proxy.set(|weather| {
                    let resets = weather.resets;
                    *weather = super::proxy::Weather { resets, ..Default::default() };
                });
            }
        }
        Undo::Server => {
            if let Some(server) = &targets.server {
                server.signal(Signal::CONT);
            }
        }
        Undo::Clock => {
            if let Some(server) = &targets.server {
                server.step_clock(0);
            }
        }
        Undo::Disk => {
            if let Some(server) = &mut targets.server {
                server.free_disk()?;
            }
        }
        Undo::Busy(stop) => stop.store(true, Ordering::Relaxed),
    }
    targets.tell(active.fault, Phase::End, "")
}

/// A run that ends early leaves no thread that spins.
impl Drop for Weather {
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
