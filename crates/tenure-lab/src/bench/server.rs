//! What Tenure is measured against on a server: the bare round trip, and the lock that everybody writes. And what the
//! server itself spends.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Mutex as Turn;
use tokio::task::JoinSet;

use super::job::{Part, Peer, Work};
use super::measure::{Ping, Span, Subject, alternate, cycle};
use super::tally::Tally;
use crate::failure::{Doing, Failure, Outcome};
use crate::num::{Dice, boot_ns};
use crate::servers::{self, Bare};

/// The time to live of the lock that everybody writes: longer than anybody here holds it.
const TTL: Duration = Duration::from_secs(30);

/// Measures a peer: a task and a connection for each.
pub(super) fn run(
    part: &Part,
    runtime: &Runtime,
    ready: &mut dyn FnMut() -> Outcome<Span>,
) -> Outcome<Vec<Tally>> {
    let (handoff, loops) = match (part.peer, part.work) {
        (Peer::Setnx, Work::Handoff) => (true, true),
        (Peer::Setnx, Work::Solo | Work::Spread | Work::Storm | Work::Fan)
        | (Peer::Ping, Work::Solo | Work::Spread) => (false, true),
        _ => (false, false),
    };
    if !loops {
        return Err(Failure::usage(
            format!("the peer {} has no workload {}", part.peer.name(), part.work.name()),
            "ping does solo and spread; setnx does all but holds",
        ));
    }
    let count = if handoff { part.sides.len() } else { part.tasks as usize };
    let links = runtime.block_on(connect(part, count))?;
    let span = ready()?;
    let tallies = runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for link in links {
            tasks.spawn(async move {
                match (link.peer, handoff) {
                    (Peer::Ping, _) => cycle(Ping(link.link), span).await,
                    (_, true) => alternate(link, span).await,
                    _ => cycle(link, span).await,
                }
            });
        }
        let mut tallies = Vec::new();
        while let Some(one) = tasks.join_next().await {
            tallies.push(one.doing(|| "wait for a task".into())?);
        }
        Ok::<_, Failure>(tallies)
    })?;
    if handoff {
        return Ok(tallies);
    }
    let mut total = Tally::default();
    tallies.into_iter().for_each(|one| total.merge(one));
    Ok(vec![total])
}

async fn connect(part: &Part, count: usize) -> Outcome<Vec<Client>> {
    let mut links = Vec::new();
    for n in 0..count {
        let own = if part.work == Work::Spread { format!("/{n}") } else { String::new() };
        links.push(Client {
            link: servers::bare(&part.url).await?,
            peer: part.peer,
            key: format!("tenure-lab:setnx:{}{own}", part.lock),
            // No other's: several processes deal with one lock.
            value: format!("{}-{n}", std::process::id()),
            dice: Dice::new(boot_ns(), n as u64),
        });
    }
    Ok(links)
}

/// One task of a peer.
struct Client {
    link: Box<dyn Bare>,
    peer: Peer,
    key: String,
    value: String,
    dice: Dice,
}

impl Subject for Client {
    type Held = ();

    /// `SET NX PX` until it is set.
    async fn take(&mut self) -> Outcome<()> {
        while !self.link.set_if_absent(&self.key, &self.value, TTL).await? {
            tokio::time::sleep(Duration::from_micros(500 + self.dice.below(4_500))).await;
        }
        Ok(())
    }

    async fn release(&mut self, (): ()) -> Outcome<()> {
        if self.link.delete_own(&self.key, &self.value).await? {
            return Ok(());
        }
        Err(Failure::run("the key was somebody else's", "give the bench a server of its own"))
    }
}

/// What a server says that it spends: all of its process, whoever else uses it.
pub(super) struct Meter(Turn<Box<dyn Bare>>);

impl Meter {
    /// A look at the server, if it is one that can be asked and that lets us.
    pub(super) async fn at(url: &str) -> Option<Meter> {
        if !servers::reaches(url) {
            return None;
        }
        let meter = Meter(Turn::new(servers::bare(url).await.ok()?));
        meter.spent().await.map(|_| meter)
    }

    /// The CPU time that its process has used, in s, and the memory that it has allocated, in kB.
    pub(super) async fn spent(&self) -> Option<(f64, f64)> {
        self.0.lock().await.spent().await
    }
}
