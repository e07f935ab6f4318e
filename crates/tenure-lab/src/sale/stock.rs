//! The stock: a process of its own, outside the lock's store, that answers on a Unix socket and checks tokens.
//!
//! A connection says `c CLIENT` first. Then `r TOKEN` is answered by `v VALUE`, and `w VALUE TOKEN` by `a` (accepted);
//! either by `x` (refused) where a greater token has been seen. Token 0 asks for no check. Every deed is logged in the
//! order in which it happened; the log alone is the verdict (see [`ledger`](super::ledger)).

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::failure::{Doing, Failure, Outcome};
use crate::num::boot_ns;
use crate::process::{Link, Role};

/// The role.
pub(crate) const STOCK: Role = ("stock", play);

/// What the process is started with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// Where it listens.
    pub(super) socket: PathBuf,
    /// Where it writes its log when it is told to finish.
    pub(super) log: PathBuf,
    /// The stock at first.
    pub(super) stock: i64,
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// It listens.
    Ready,
    /// How many sales have been accepted, and the last one's client.
    Now {
        /// On the boot clock.
        at: u64,
        /// Accepted sales.
        sold: u64,
        /// The client of the last one.
        by: u32,
    },
}

struct Shelf {
    value: i64,
    highest: i64,
    sold: u64,
    by: u32,
    log: String,
}

impl Shelf {
    /// Checks and records a token; the first access with a token shuts out all smaller ones, also if it only reads.
    fn admits(&mut self, token: i64) -> bool {
        if token != 0 && token < self.highest {
            return false;
        }
        self.highest = self.highest.max(token);
        true
    }

    fn note(&mut self, deed: char, client: u32, value: i64, token: i64) {
        let _ = writeln!(self.log, "{deed} {} {client} {value} {token}", boot_ns());
    }

    fn read(&mut self, client: u32, token: i64) -> Option<i64> {
        let admitted = self.admits(token);
        self.note(if admitted { 'r' } else { 'x' }, client, self.value, token);
        admitted.then_some(self.value)
    }

    fn write(&mut self, client: u32, value: i64, token: i64) -> bool {
        let admitted = self.admits(token);
        self.note(if admitted { 'w' } else { 'x' }, client, value, token);
        if admitted {
            self.value = value;
            self.sold += 1;
            self.by = client;
        }
        admitted
    }

    fn answer(&mut self, client: &mut u32, line: &str, out: &mut String) -> Option<()> {
        let mut words = line.split_ascii_whitespace();
        let verb = words.next()?;
        let mut number = || words.next()?.parse::<i64>().ok();
        match verb {
            "c" => *client = u32::try_from(number()?).ok()?,
            "r" => match self.read(*client, number()?) {
                Some(value) => writeln!(out, "v {value}").ok()?,
                None => out.push_str("x\n"),
            },
            "w" => {
                let (value, token) = (number()?, number()?);
                out.push_str(if self.write(*client, value, token) { "a\n" } else { "x\n" });
            }
            _ => return None,
        }
        Some(())
    }
}

async fn serve(stream: UnixStream, shelf: Rc<RefCell<Shelf>>) {
    let (from, mut to) = stream.into_split();
    let mut lines = BufReader::new(from).lines();
    let (mut client, mut out) = (0, String::new());
    while let Ok(Some(line)) = lines.next_line().await {
        out.clear();
        let understood = shelf.borrow_mut().answer(&mut client, &line, &mut out).is_some();
        if !understood || to.write_all(out.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn play(link: &Link) -> Outcome<()> {
    let task: Task = link.task()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing(|| "start the stock".into())?;
    let shelf =
        Rc::new(RefCell::new(Shelf { value: task.stock, highest: 0, sold: 0, by: 0, log: String::new() }));
    let finish = std::sync::Arc::new(Notify::new());
    LocalSet::new().block_on(&runtime, {
        let shelf = shelf.clone();
        async move {
            let listener = UnixListener::bind(&task.socket).doing(|| "open the stock's socket".into())?;
            link.tell(&Event::Ready);
            let told = finish.clone();
            link.on_orders(move |()| {
                told.notify_one();
                false
            });
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            loop {
                tokio::select! {
                    () = finish.notified() => return Ok::<(), Failure>(()),
                    _ = tick.tick() => {
                        let Shelf { sold, by, .. } = *shelf.borrow();
                        link.tell(&Event::Now { at: boot_ns(), sold, by });
                    }
                    stream = listener.accept() => {
                        let (stream, _) = stream.doing(|| "take a buyer's connection".into())?;
                        tokio::task::spawn_local(serve(stream, shelf.clone()));
                    }
                }
            }
        }
    })?;
    std::fs::write(&task.log, &shelf.borrow().log).doing(|| "write the stock's log".into())
}
