//! Does one process's part of a workload.

use std::sync::Arc;
use std::time::Duration;

use tenure::{Locks, Scope};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::count::Renewals;
use super::job::{Part, Peer, Work};
use super::lock::Lock;
use super::measure::{Span, alternate, cycle};
use super::server::Meter;
use super::tally::{Cost, Tally};
use super::{peers, server};
use crate::failure::{Doing, Outcome};
use crate::num::{boot_ns, cpu_ns, resident_kb, round};
use crate::process::{Link, Role};

/// The role.
pub(crate) const BENCH: Role = ("bench", play);

/// The lease of `holds`: each is renewed once a second.
const HOLDS_TTL: Duration = Duration::from_secs(3);

fn play(link: &Link) -> Outcome<()> {
    let part: Part = link.task()?;
    let mut ready = || {
        link.tell(&"ready");
        link.task()
    };
    let tally = part.run(&mut ready)?;
    link.tell(&tally);
    Ok(())
}

impl Part {
    /// Prepares everything, asks `ready` when to begin, and measures.
    pub(super) fn run(&self, ready: &mut dyn FnMut() -> Outcome<Span>) -> Outcome<Vec<Tally>> {
        if matches!(self.peer, Peer::Flock | Peer::Futex) {
            return peers::run(self, ready);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.doing(|| "start the tasks".into())?;
        if self.peer != Peer::Tenure {
            return server::run(self, &runtime, ready);
        }
        match self.work {
            Work::Handoff => self.handoff(&runtime, ready),
            Work::Holds => self.holds(&runtime, ready).map(|t| vec![t]),
            _ => self.loops(&runtime, ready).map(|t| vec![t]),
        }
    }

    async fn connect(&self) -> Outcome<Locks> {
        let builder = Locks::builder(&self.url).namespace(&self.namespace);
        let builder = if self.fair { builder.fair() } else { builder };
        Ok(builder.connect().await?)
    }

    /// So many clients, each with connections of its own; clones of one where a store is private to its client.
    async fn connect_all(&self, count: usize) -> Outcome<Vec<Locks>> {
        let first = self.connect().await?;
        let private = first.capabilities().scope == Scope::Process;
        let mut clients = vec![first];
        while clients.len() < count {
            let next = if private { clients[0].clone() } else { self.connect().await? };
            clients.push(next);
        }
        Ok(clients)
    }

    /// The lock of each task. Tasks are dealt to clients in turn.
    async fn locks(&self) -> Outcome<(Vec<Locks>, Vec<Lock>)> {
        let clients = self.connect_all(self.clients as usize).await?;
        let mut locks = Vec::new();
        for task in 0..self.tasks {
            let client = &clients[(task % self.clients) as usize];
            let name =
                if self.work == Work::Spread { format!("{}/{task}", self.lock) } else { self.lock.clone() };
            locks.push(self.kind.lock(client, &name, self.permits)?);
        }
        Ok((clients, locks))
    }

    fn loops(&self, runtime: &Runtime, ready: &mut dyn FnMut() -> Outcome<Span>) -> Outcome<Tally> {
        let (clients, locks) = runtime.block_on(self.locks())?;
        let span = ready()?;
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for lock in locks {
                tasks.spawn(cycle(lock, span));
            }
            let mut total = Tally::default();
            while let Some(one) = tasks.join_next().await {
                total.merge(one.doing(|| "wait for a task".into())?);
            }
            close(clients).await?;
            Ok(total)
        })
    }

    fn handoff(&self, runtime: &Runtime, ready: &mut dyn FnMut() -> Outcome<Span>) -> Outcome<Vec<Tally>> {
        let clients = runtime.block_on(self.connect_all(self.sides.len()))?;
        let span = ready()?;
        runtime.block_on(async {
            let mut tasks = Vec::new();
            for client in &clients {
                tasks.push(tokio::spawn(alternate(client.mutex(&self.lock)?, span)));
            }
            let mut out = Vec::new();
            for task in tasks {
                out.push(task.await.doing(|| "wait for a side".into())?);
            }
            close(clients).await?;
            Ok(out)
        })
    }

    fn holds(&self, runtime: &Runtime, ready: &mut dyn FnMut() -> Outcome<Span>) -> Outcome<Tally> {
        let renewals = Arc::new(Renewals::default());
        let before = resident_kb();
        let meter = runtime.block_on(Meter::at(&self.url));
        let server_before = runtime.block_on(server_spent(meter.as_ref()));
        let counted = renewals.clone();
        let locks = runtime.block_on(
            Locks::builder(&self.url)
                .namespace(&self.namespace)
                .ttl(HOLDS_TTL)
                .wrap(move |backend| counted.around(backend))
                .connect(),
        )?;
        let mut tally = Tally::default();
        let span = ready()?;
        runtime.block_on(async {
            let mut guards = Vec::new();
            for n in 0..self.tasks {
                let before = boot_ns();
                match locks.mutex(format!("{}/{n}", self.lock))?.lock().await {
                    Ok(guard) => guards.push(guard),
                    Err(error) => tally.failed(error),
                }
                tally.acquire.add(boot_ns() - before);
            }
            let server_then = server_spent(meter.as_ref()).await;
            let (cpu, sent, from) = (cpu_ns(), renewals.count(), boot_ns());
            tokio::time::sleep(Duration::from_nanos(span.until.saturating_sub(span.from))).await;
            let held = guards.iter().filter(|g| g.check().is_ok()).count();
            #[allow(clippy::cast_precision_loss)] // times
            let (spent, passed) = ((cpu_ns() - cpu) as f64, (boot_ns() - from) as f64);
            let server_now = server_spent(meter.as_ref()).await;
            let server_cpu = server_now.zip(server_then).map(|((now, _), (then, _))| now - then);
            let server_memory = server_now.zip(server_before).map(|((_, now), (_, then))| now - then);
            tally.cost = Some(Cost {
                held: held as u64,
                renewals: renewals.count() - sent,
                cpu_percent: round(spent / passed * 100.0, 2),
                memory_kb: resident_kb().saturating_sub(before),
                server_cpu_percent: server_cpu.map(|s| round(s * 1e9 / passed * 100.0, 2)),
                server_memory_kb: server_memory.map(|kb| round(kb, 0)),
            });
            tally.cycles = vec![renewals.count() - sent];
            for guard in guards {
                if let Err(error) = guard.release().await {
                    tally.failed(error);
                }
            }
            close(vec![locks]).await
        })?;
        Ok(tally)
    }
}

/// The server's CPU time in s, and its memory in kB.
async fn server_spent(meter: Option<&Meter>) -> Option<(f64, f64)> {
    meter?.spent().await
}

async fn close(mut clients: Vec<Locks>) -> Outcome<()> {
    if clients.first().is_some_and(|c| c.capabilities().scope == Scope::Process) {
        clients.truncate(1); // the others are clones of it
    }
    for client in clients {
        client.close().await?;
    }
    Ok(())
}
