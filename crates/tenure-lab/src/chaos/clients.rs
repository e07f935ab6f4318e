//! The client processes of a run: started, stopped, killed and started again, each with a part of the history.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::client::{Order, Said, Task, Told};
use crate::failure::{Failure, Outcome};
use crate::history::Merge;
use crate::num::{Dice, boot_ns};
use crate::process::{Heard, Worker, state};

/// How long clients may take to end.
const ENDING: Duration = Duration::from_secs(20);

/// One client process.
struct Client {
    worker: Worker,
    task: Task,
    /// Faults of its own that it has told of and not ended for sure.
    told: Vec<Told>,
    /// How many acquires have succeeded, as far as it told.
    acquired: u64,
    /// The lab has stopped it.
    stopped: bool,
    /// It has stopped itself; when it is to go on.
    wakes: Option<Instant>,
    /// It has closed its output: no more is heard of it.
    silent: bool,
}

/// All of them.
pub(super) struct Clients {
    clients: Vec<Client>,
    next: u32,
    dir: PathBuf,
    sender: Sender<Heard>,
    heard: Receiver<Heard>,
    parts: Vec<(PathBuf, Option<u64>)>,
    /// What the dead had acquired.
    acquired: u64,
    /// Some are started in a pid namespace of their own.
    apart: bool,
    /// Clients cause no more trouble.
    calm: bool,
}

/// How long the last words of a dead client may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// One client in so many, if any.
const APART: u32 = 6;

impl Clients {
    pub(super) fn new(dir: PathBuf, apart: bool) -> Clients {
        let (sender, heard) = channel();
        Clients {
            clients: Vec::new(),
            next: 1,
            dir,
            sender,
            heard,
            parts: Vec::new(),
            acquired: 0,
            apart,
            calm: false,
        }
    }

    /// Starts one more.
    pub(super) fn add(&mut self, like: &Task) -> Outcome<()> {
        let client = self.start(like)?;
        self.clients.push(client);
        Ok(())
    }

    fn start(&mut self, like: &Task) -> Outcome<Client> {
        let p = self.next;
        self.next += 1;
        let (part, apart) = (self.dir.join(format!("part-{p}.jsonl")), self.apart && p.is_multiple_of(APART));
        let task = Task { p, part, apart, ..like.clone() };
        let start = if apart { Worker::start_apart } else { Worker::start };
        let mut worker = start("chaos", p as usize, &task, self.sender.clone())?;
        if self.calm {
            worker.order(&Order::Calm)?;
        }
        Ok(Client { worker, task, told: Vec::new(), acquired: 0, stopped: false, wakes: None, silent: false })
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// How many acquires have succeeded in all, as far as the clients told.
    pub(super) fn acquired(&self) -> u64 {
        self.acquired + self.clients.iter().map(|client| client.acquired).sum::<u64>()
    }

    /// The process number of one.
    pub(super) fn p(&self, index: usize) -> u32 {
        self.clients[index].task.p
    }

    /// One that runs, if any.
    pub(super) fn pick(&self, dice: &mut Dice) -> Option<usize> {
        let awake: Vec<usize> = (0..self.clients.len())
            .filter(|i| !self.clients[*i].stopped && self.clients[*i].wakes.is_none())
            .collect();
        // Half of them at most sleep at a time: somebody has to be overtaken by somebody.
        if awake.len() * 2 <= self.clients.len() && self.clients.len() > 1 {
            return None;
        }
        let index = usize::try_from(dice.below(awake.len() as u64)).unwrap_or(0);
        awake.get(index).copied()
    }

    pub(super) fn stop(&mut self, index: usize) {
        self.clients[index].stopped = true;
        self.clients[index].worker.signal(Signal::STOP);
    }

    pub(super) fn go_on(&mut self, p: u32) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.task.p == p) {
            client.stopped = false;
            client.worker.signal(Signal::CONT);
        }
    }

    /// Kills one and starts another in its place. Faults of its own that end with it.
    pub(super) fn kill(&mut self, index: usize) -> Outcome<Vec<Told>> {
        let t = boot_ns();
        self.clients[index].worker.kill();
        self.listen();
        self.replace(index, t)
    }

    fn replace(&mut self, index: usize, died: u64) -> Outcome<Vec<Told>> {
        let next = self.start(&self.clients[index].task.clone())?;
        let dead = std::mem::replace(&mut self.clients[index], next);
        self.acquired += dead.acquired;
        self.parts.push((dead.task.part, Some(died)));
        Ok(dead.told)
    }

    /// Takes in what the clients told.
    fn listen(&mut self) {
        while let Ok(heard) = self.heard.try_recv() {
            self.take_in(heard);
        }
    }

    fn take_in(&mut self, heard: Heard) {
        let Some(client) = self.clients.iter_mut().find(|client| client.task.p as usize == heard.from) else {
            return;
        };
        let Some(said) = heard.said else {
            client.silent = true;
            return;
        };
        match serde_json::from_value::<Said>(said) {
            Ok(Said::Fault(told)) => {
                client.told.retain(|other| other.fault != told.fault);
                client.told.push(told);
            }
            Ok(Said::Acquired(n)) => client.acquired = n,
            Err(_) => {}
        }
    }

    /// Takes in all that a dead client had said. It may have died faster than its words arrived.
    fn hear_out(&mut self, index: usize) {
        let until = Instant::now() + LAST_WORDS;
        while !self.clients[index].silent {
            match self.heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(heard) => self.take_in(heard),
                Err(_) => return,
            }
        }
    }

    /// Looks after those that stopped or killed themselves inside a verb. Faults of their own that have ended.
    pub(super) fn look_after(&mut self, ttl: Duration, dice: &mut Dice) -> Outcome<Vec<Told>> {
        self.listen();
        let mut ended = Vec::new();
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            match (state(client.worker.pid()), client.wakes) {
                (Some('T'), None) if !client.stopped => {
                    client.wakes = Some(Instant::now() + ttl.mul_f64(0.3 + 2.7 * dice.unit()));
                }
                (Some('T'), Some(at)) if Instant::now() >= at => {
                    client.wakes = None;
                    client.worker.signal(Signal::CONT);
                }
                (Some('Z') | None, _) => {
                    self.hear_out(index);
                    let client = &mut self.clients[index];
                    // The exit status of a client in a pid namespace is not its own.
                    let status = client.worker.kill().filter(|_| !client.task.apart);
                    let killed = status.is_none_or(|status| status.signal() == Some(Signal::KILL.as_raw()));
                    let told = client.told.iter().find(|told| told.fault == "kill_inside" && killed);
                    let Some(told) = told else {
                        let what = format!("client process {} ended by itself", client.task.p);
                        return Err(Failure::run(what, "see what it wrote above"));
                    };
                    // It believed until then at least; the last line of its part may say more.
                    let t = told.t;
                    ended.extend(self.replace(index, t)?);
                }
                _ => {}
            }
        }
        Ok(ended)
    }

    /// Wakes all.
    pub(super) fn wake(&mut self) {
        for client in &mut self.clients {
            client.worker.signal(Signal::CONT);
            (client.stopped, client.wakes) = (false, None);
        }
    }

    /// Tells all to cause no more trouble, and wakes them. Faults of their own that end with that.
    pub(super) fn calm(&mut self) -> Outcome<Vec<Told>> {
        self.listen();
        self.wake();
        self.calm = true;
        for client in &mut self.clients {
            // One that is dead cannot be told; it is replaced when somebody looks after it.
            let _ = client.worker.order(&Order::Calm);
        }
        let ended = self.clients.iter().flat_map(|client| client.told.clone()).collect();
        // One may kill itself before the order reaches it.
        self.clients.iter_mut().for_each(|client| client.told.retain(|told| told.fault == "kill_inside"));
        Ok(ended)
    }

    /// Ends all. The number of those that had to be killed.
    pub(super) fn end(&mut self) -> Outcome<u64> {
        let mut killed = 0;
        for client in &mut self.clients {
            client.worker.signal(Signal::CONT);
            client.worker.order(&Order::Stop)?;
        }
        let until = Instant::now() + ENDING;
        for mut client in self.clients.drain(..) {
            while !matches!(state(client.worker.pid()), Some('Z') | None) && Instant::now() < until {
                client.worker.signal(Signal::CONT); // it may have stopped itself just before
                std::thread::sleep(Duration::from_millis(5));
            }
            if matches!(state(client.worker.pid()), Some('Z') | None) {
                client.worker.finish()?;
                self.parts.push((client.task.part, None));
            } else {
                killed += 1;
                self.parts.push((client.task.part, Some(boot_ns())));
                client.worker.kill();
            }
        }
        Ok(killed)
    }

    /// What there is by now, while all go on.
    #[cfg_attr(not(feature = "proofs"), allow(dead_code))] // a hunt looks in between
    pub(super) fn so_far(&self) -> Merge {
        let t = boot_ns();
        let live = self.clients.iter().map(|client| &client.task.part).filter(|path| path.exists());
        live.fold(self.parts(), |merge, path| merge.part(path)).until(t)
    }

    /// All parts, as they are to be merged.
    pub(super) fn parts(&self) -> Merge {
        self.parts.iter().filter(|(path, _)| path.exists()).fold(Merge::new(), |merge, (path, died)| {
            match died {
                Some(t) => merge.died(path, *t),
                None => merge.part(path),
            }
        })
    }
}
