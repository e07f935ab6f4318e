//! The resources that the locks protect: counters outside the store, each with a twin that checks no tokens.
//!
//! A line is `e NAME TOKEN` (the first access: registers the token, answers `v VALUE`) or `w NAME VALUE TOKEN` (answers
//! `a`); either is answered by `x` where a greater token was seen. Token 0 asks for no check.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

use crate::failure::{Doing, Outcome};

/// One counter.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    value: i64,
    highest: i64,
}

/// All of them.
#[derive(Clone, Debug)]
pub(super) struct Resources {
    all: Arc<Mutex<BTreeMap<String, Counter>>>,
    /// Tokens are looked at when something is written only, which is wrong.
    writes_only: bool,
}

impl Resources {
    /// `writes_only`: wrong on purpose.
    pub(super) fn new(writes_only: bool) -> Resources {
        Resources { all: Arc::default(), writes_only }
    }

    fn counters(&self) -> MutexGuard<'_, BTreeMap<String, Counter>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves them at a socket, on the runtime that this is called on.
    pub(super) fn serve(&self, socket: &Path) -> Outcome<()> {
        let listener = UnixListener::bind(socket).doing(|| format!("listen at {}", socket.display()))?;
        let all = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let all = all.clone();
                tokio::spawn(async move {
                    let (from, mut to) = stream.into_split();
                    let mut lines = BufReader::new(from).lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        let Some(answer) = all.answer(&line) else { return };
                        if to.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Ok(())
    }

    fn answer(&self, line: &str) -> Option<String> {
        let mut words = line.split_ascii_whitespace();
        let (verb, name) = (words.next()?, words.next()?);
        let mut number = || words.next()?.parse::<i64>().ok();
        let mut counters = self.counters();
        let counter = counters.entry(name.to_owned()).or_default();
        let new = if verb == "w" { Some(number()?) } else { None };
        let token = if self.writes_only && new.is_none() { 0 } else { number()? };
        if token != 0 && token < counter.highest {
            return Some("x\n".to_owned());
        }
        counter.highest = counter.highest.max(token);
        Some(match new {
            Some(value) => {
                counter.value = value;
                "a\n".to_owned()
            }
            None => format!("v {}\n", counter.value),
        })
    }

    /// Each counter's value.
    pub(super) fn values(&self) -> Vec<(String, i64)> {
        self.counters().iter().map(|(name, counter)| (name.clone(), counter.value)).collect()
    }
}

/// What an access came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Accepted; the value read, or written.
    Ok(i64),
    /// A greater token had been seen.
    Refused,
    /// Nobody answered.
    Unknown,
}

/// One client's line to the resources.
#[derive(Debug)]
pub(super) struct Door {
    lines: tokio::io::Lines<BufReader<OwnedReadHalf>>,
    to: OwnedWriteHalf,
}

impl Door {
    pub(super) async fn open(socket: &Path) -> std::io::Result<Door> {
        let (from, to) = UnixStream::connect(socket).await?.into_split();
        Ok(Door { lines: BufReader::new(from).lines(), to })
    }

    async fn ask(&mut self, line: String) -> Option<String> {
        self.to.write_all(line.as_bytes()).await.ok()?;
        self.lines.next_line().await.ok()?
    }

    /// The first access.
    pub(super) async fn enter(&mut self, name: &str, token: i64) -> Access {
        match self.ask(format!("e {name} {token}\n")).await {
            Some(answer) if answer == "x" => Access::Refused,
            Some(answer) => {
                answer.strip_prefix("v ").and_then(|v| v.parse().ok()).map_or(Access::Unknown, Access::Ok)
            }
            None => Access::Unknown,
        }
    }

    /// A write.
    pub(super) async fn write(&mut self, name: &str, value: i64, token: i64) -> Access {
        match self.ask(format!("w {name} {value} {token}\n")).await.as_deref() {
            Some("a") => Access::Ok(value),
            Some("x") => Access::Refused,
            _ => Access::Unknown,
        }
    }
}
