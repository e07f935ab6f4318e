//! Read-write locks: who is in together, who waits for whom, whose token is greater.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tenure::{Locks, RwLock};
use tokio::task::JoinSet;

use super::super::promised::no_transfer;
use super::super::wire::Wire;
use super::super::{Ctx, Report, Trial, Verdict, ensure};
use super::{all, in_line, no_rw, waiters};
use crate::num::Dice;

pub(super) const TRIALS: &[Trial] = &[
    Trial { name: "s1_readers_together", rules: &["S1", "L4"], why_not: no_rw, run: together },
    Trial {
        name: "l3_a_waiting_writer_is_not_overtaken",
        rules: &["L3", "S1"],
        why_not: no_rw,
        run: not_overtaken,
    },
    Trial { name: "s2_tokens_of_readers", rules: &["S2"], why_not: no_rw, run: tokens },
    Trial {
        name: "s1_a_downgrade_lets_no_writer_in",
        rules: &["S1", "S2", "L3"],
        why_not: |ctx| no_rw(ctx).or_else(|| no_transfer(ctx)),
        run: downgrades,
    },
    Trial {
        name: "l3_a_write_after_a_thousand_readers",
        rules: &["L3", "L5"],
        why_not: no_rw,
        run: thousand,
    },
];

fn rwlock(locks: &Locks, name: &str) -> Verdict<RwLock> {
    Ok(locks.rwlock(name)?)
}

/// Who is inside.
#[derive(Default)]
struct Inside {
    readers: AtomicU64,
    writers: AtomicU64,
}

fn together(ctx: &Ctx) -> Verdict {
    const TASKS: u64 = 8;
    let rounds = ctx.rounds(40);
    ctx.block_on(async {
        let clients = [ctx.locks().await?, ctx.locks().await?];
        let name = ctx.name("together");
        let mut readers = Vec::new();
        for n in 0..TASKS {
            let lock = rwlock(&clients[(n % 2) as usize], &name)?;
            readers.push(ctx.within("a reader among readers", lock.read()).await??);
        }
        let line = clients[1].inspect(&name).await?.ok_or("no reader is listed")?;
        ensure!(line.holders.len() as u64 == TASKS, "{} of {TASKS} readers are listed", line.holders.len());
        for reader in readers {
            reader.release().await?;
        }
        let inside = Arc::new(Inside::default());
        let mut tasks = JoinSet::new();
        for n in 0..TASKS {
            let lock = rwlock(&clients[(n % 2) as usize], &name)?;
            tasks.spawn(crowd(lock, inside.clone(), Dice::new(13, n), rounds));
        }
        all(ctx, tasks).await?;
        for client in &clients {
            ctx.nothing_left(client, &name).await?;
        }
        Ok(Report::new().count("readers together", TASKS).count("holds", TASKS * rounds))
    })
}

async fn crowd(lock: RwLock, inside: Arc<Inside>, mut dice: Dice, rounds: u64) -> Verdict<()> {
    let Inside { readers, writers } = &*inside;
    for _ in 0..rounds {
        if dice.below(4) == 0 {
            let guard = lock.write().await?;
            let others = writers.fetch_add(1, Ordering::SeqCst) + readers.load(Ordering::SeqCst);
            tokio::task::yield_now().await;
            let others = others + readers.load(Ordering::SeqCst);
            ensure!(others == 0, "S1: a writer is not alone");
            guard.check()?;
            writers.fetch_sub(1, Ordering::SeqCst);
            guard.release().await?;
        } else {
            let guard = lock.read().await?;
            readers.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            ensure!(writers.load(Ordering::SeqCst) == 0, "S1: a reader is in with a writer");
            guard.check()?;
            readers.fetch_sub(1, Ordering::SeqCst);
            match dice.below(2) {
                0 => drop(guard),
                _ => guard.release().await?,
            }
        }
    }
    Ok(())
}

fn not_overtaken(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(20);
    ctx.block_on(async {
        let (one, two, three) = (ctx.locks().await?, ctx.locks().await?, ctx.locks().await?);
        for _ in 0..rounds {
            let name = ctx.name("overtaken");
            let first = rwlock(&one, &name)?.read().await?;
            let writes = rwlock(&two, &name)?;
            let writer = tokio::spawn(async move { writes.write().await });
            in_line(ctx, &one, &name, 1).await?;
            let late = rwlock(&three, &name)?;
            ensure!(late.try_read().await?.is_none(), "a reader that tries overtakes a writer that waits");
            let reader = tokio::spawn(async move { late.read().await });
            in_line(ctx, &one, &name, 2).await?;
            ensure!(!reader.is_finished(), "a reader overtakes a writer that waits");
            first.release().await?;
            let writer = ctx.within("the writer's turn", writer).await???;
            ensure!(waiters(&one, &name).await? == 1, "the reader behind the writer does not wait any more");
            ensure!(!reader.is_finished(), "S1: a reader is in with a writer");
            writer.release().await?;
            ctx.within("the reader's turn", reader).await???.release().await?;
            ctx.nothing_left(&one, &name).await?;
        }
        Ok(Report::new().count("writers", rounds))
    })
}

/// Readers between two writers share a token, between those of the two.
fn tokens(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(30);
    ctx.block_on(async {
        let (one, two) = (ctx.locks().await?, ctx.locks().await?);
        let name = ctx.name("tokens");
        let mut last = None;
        for _ in 0..rounds {
            let writer = rwlock(&one, &name)?.write().await?;
            let written = Some(writer.token());
            ensure!(written > last, "the writer has {written:?} after {last:?}");
            writer.release().await?;
            let (a, b) = (rwlock(&one, &name)?.read().await?, rwlock(&two, &name)?.read().await?);
            let (read, other) = (a.token(), b.token());
            ensure!(read == other, "two readers have {read:?} and {other:?}");
            // A store that cannot give readers one says so.
            ensure!(read.is_none() || read > written, "the readers have {read:?} after {written:?}");
            last = read.or(written);
            a.release().await?;
            // The second one stays: who joins it has its token, also after the first one has left.
            let joins = rwlock(&one, &name)?.read().await?;
            ensure!(joins.token() == read, "who joins {read:?} has {:?}", joins.token());
            b.release().await?;
            joins.release().await?;
        }
        ctx.nothing_left(&one, &name).await?;
        Ok(Report::new().count("writers", rounds).count("readers", rounds * 3))
    })
}

fn downgrades(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(20);
    ctx.block_on(async {
        let (one, two, three) = (ctx.locks().await?, ctx.locks().await?, ctx.locks().await?);
        for round in 0..rounds {
            let name = ctx.name("downgrade");
            let writer = rwlock(&one, &name)?.write().await?;
            let written = Some(writer.token());
            // Every other time a reader waits ahead of the next writer, and is let in at the same time.
            let with = if round % 2 == 0 {
                None
            } else {
                let reads = rwlock(&three, &name)?;
                let reader = tokio::spawn(async move { reads.read().await });
                in_line(ctx, &one, &name, 1).await?;
                Some(reader)
            };
            let writes = rwlock(&two, &name)?;
            let next = tokio::spawn(async move { writes.write().await });
            in_line(ctx, &one, &name, 1 + round % 2).await?;
            let reader = ctx.within("the downgrade", writer.downgrade()).await??;
            let read = reader.token();
            ensure!(
                read.is_none() || read > written,
                "S2: the reader has {read:?} after its own {written:?}"
            );
            if let Some(with) = with {
                let with = ctx.within("a reader ahead of the next writer", with).await???;
                ensure!(with.token() == read, "S2: {:?} joins {read:?}", with.token());
                with.release().await?;
            }
            let line = one.inspect(&name).await?.ok_or("nobody is listed")?;
            let weights: Vec<u32> = line.holders.iter().map(|h| h.weight).collect();
            ensure!(weights == [1] && line.waiters == 1, "after a downgrade the line is {line:?}");
            ensure!(!next.is_finished(), "another writer is in with a reader");
            reader.check()?;
            reader.release().await?;
            let next = ctx.within("the next writer", next).await???;
            ensure!(Some(next.token()) > read, "S2: the next writer has {} after {read:?}", next.token());
            next.release().await?;
            ctx.nothing_left(&one, &name).await?;
        }
        Ok(Report::new().count("downgrades", rounds))
    })
}

/// The writer waits for the readers that were there, for none that came later, and without asking again.
fn thousand(ctx: &Ctx) -> Verdict {
    let many = ctx.rounds(1000);
    ctx.block_on(async {
        let wire = Wire::counting();
        let (one, two) = (ctx.locks().await?, ctx.client().wire(&wire).connect().await?);
        let name = ctx.name("thousand");
        let lock = rwlock(&one, &name)?;
        let mut reads = JoinSet::new();
        for _ in 0..many {
            let lock = lock.clone();
            reads.spawn(async move { lock.read().await });
        }
        let mut readers = Vec::new();
        while let Some(read) = ctx.within("a reader among readers", reads.join_next()).await? {
            readers.push(read??);
        }
        let writes = rwlock(&two, &name)?;
        let writer = tokio::spawn(async move { writes.write().await });
        in_line(ctx, &one, &name, 1).await?;
        let late = tokio::spawn(async move { lock.read().await });
        in_line(ctx, &one, &name, 2).await?;
        let last = readers.pop().ok_or("no readers")?;
        let mut releases = JoinSet::new();
        for reader in readers {
            releases.spawn(async move { Ok(reader.release().await?) });
        }
        all(ctx, releases).await?;
        ensure!(!writer.is_finished(), "S1: a writer is in with a reader");
        last.release().await?;
        let writer = ctx.within("the writer behind the readers", writer).await???;
        ensure!(!late.is_finished(), "a reader that came later is in with the writer");
        ensure!(!ctx.pushes() || wire.attempts() == 1, "L5: the writer asked {} times", wire.attempts());
        writer.release().await?;
        ctx.within("the reader behind the writer", late).await???.release().await?;
        ctx.nothing_left(&one, &name).await?;
        Ok(Report::new().count("readers", many))
    })
}
