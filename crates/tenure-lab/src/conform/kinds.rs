//! S1 for the other kinds of lines: readers and writers, permits.

use std::time::Duration;

use tenure::ErrorKind;
use tenure::backend::{Call, Claim, Kind, Leave, RW_CAPACITY, Standing};

use super::promised::no_keep;
use super::raw::Store;
use super::{Ctx, Report, Trial, Verdict, ensure};
use crate::num::Dice;

pub(crate) const TRIALS: &[Trial] = &[
    Trial { name: "s1_readers_and_writers", rules: &["S1", "S2", "L3"], why_not: no_rw, run: readers },
    Trial { name: "s1_permits", rules: &["S1"], why_not: no_semaphore, run: permits },
    Trial { name: "s1_one_kind_at_a_time", rules: &["S1", "S8"], why_not: no_rw, run: one_kind },
];

fn no_rw(ctx: &Ctx) -> Option<&'static str> {
    (!ctx.caps.modes.rw).then_some("modes has no read-write lock")
}

fn no_semaphore(ctx: &Ctx) -> Option<&'static str> {
    (!ctx.caps.modes.semaphore).then_some("modes has no semaphore")
}

fn access(store: &Store, name: &str, weight: u32) -> Verdict<Claim> {
    Ok(Claim { kind: Kind::ReadWrite, weight, capacity: RW_CAPACITY, ..store.claim(name)? })
}

/// Readers share the lock and a token; a writer is alone; who comes behind a waiting writer waits.
fn readers(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(10);
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("rw");
        let read = || access(&store, &name, 1);
        let write = || access(&store, &name, RW_CAPACITY);
        let mut last = None;
        for _ in 0..rounds {
            let (one, two, writer, three) = (read()?, read()?, write()?, read()?);
            let shared = store.take(&one).await?.token;
            ensure!(store.take(&two).await?.token == shared, "S2: two readers have different tokens");
            ensure!(shared > last, "S2: readers have {shared:?} after {last:?}");
            store.wait(&writer).await?;
            store.wait(&three).await?;
            let late = Claim { stand: false, ..read()? };
            let said = store.attempt(&late).await?;
            ensure!(said == Standing::Busy, "L3: a reader that does not stand in line is told {said:?}");
            store.release(&one, Leave::Nothing).await?;
            store.wait(&writer).await?;
            store.release(&two, Leave::Nothing).await?;
            let alone = store.take(&writer).await?.token;
            ensure!(alone > shared, "S2: the writer has {alone:?} after the readers' {shared:?}");
            store.wait(&three).await?;
            store.release(&writer, Leave::Nothing).await?;
            last = store.take(&three).await?.token;
            ensure!(last > alone, "S2: the reader has {last:?} after the writer's {alone:?}");
            store.release(&three, Leave::Nothing).await?;
        }
        ensure!(store.look(&name).await?.is_none(), "somebody is left");
        Ok(Report::new().count("rounds", rounds))
    })
}

/// Never more than the capacity, and the longest prefix of the line that fits is granted.
fn permits(ctx: &Ctx) -> Verdict {
    const CAPACITY: u32 = 5;
    let rounds = ctx.rounds(200);
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("permits");
        let mut dice = Dice::new(11, 0);
        let mut line: Vec<Claim> = Vec::new();
        for _ in 0..rounds {
            if line.len() < 9 && dice.below(2) == 0 {
                let weight = 1 + dice.below(3) as u32;
                let claim =
                    Claim { kind: Kind::Semaphore, weight, capacity: CAPACITY, ..store.claim(&name)? };
                store.attempt(&claim).await?;
                line.push(claim);
            } else if !line.is_empty() {
                let claim = line.remove(dice.below(line.len() as u64) as usize);
                store.release(&claim, Leave::Nothing).await?;
            }
            let seen = store.look(&name).await?;
            let held: Vec<_> = seen.iter().flat_map(|l| &l.holders).collect();
            let used: u32 = held.iter().map(|h| h.weight).sum();
            ensure!(used <= CAPACITY, "S1: {used} of {CAPACITY} permits are given");
            ensure!(held.iter().all(|h| h.token.is_none()), "a permit has a token");
            let listed = held.len() + seen.iter().map(|l| l.waiting.len()).sum::<usize>();
            ensure!(listed == line.len(), "{listed} stand in line, and it must be {}", line.len());
            let first = seen.iter().flat_map(|l| &l.waiting).next();
            let fits = first.is_some_and(|w| used + w.weight <= CAPACITY);
            ensure!(!fits, "L3: the first in line fits and is not granted: {seen:?}");
        }
        for claim in line {
            store.release(&claim, Leave::Nothing).await?;
        }
        Ok(Report::new().count("steps", rounds))
    })
}

/// A lock is of one kind while it lives; claims that make no sense are refused.
fn one_kind(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("kind");
        let holder = store.claim(&name)?;
        store.take(&holder).await?;
        let mutex = store.claim(&name)?;
        let mut wrong = vec![access(&store, &name, 1)?];
        // Nonsense on a lock of its own, so that only the nonsense can be what is refused.
        let alone = store.claim(&ctx.name("nonsense"))?;
        wrong.push(Claim { weight: 0, ..alone.clone() });
        wrong.push(Claim { weight: 2, ..alone.clone() });
        wrong.push(Claim { weight: 2, capacity: 2, ..alone.clone() });
        if ctx.caps.modes.semaphore {
            wrong.push(Claim { kind: Kind::Semaphore, weight: 6, capacity: 5, ..alone.clone() });
        }
        for claim in &wrong {
            let said = store.backend.attempt_one(claim, Call::PATIENT).await;
            let kind = said.as_ref().err().map(tenure::Error::kind);
            ensure!(kind == Some(ErrorKind::Config), "{claim:?} is told {said:?}");
        }
        ensure!(store.look(alone.key.name()).await?.is_none(), "nonsense left something behind");
        let line = store.look(&name).await?.ok_or("the holder is gone")?;
        ensure!(line.kind == Kind::Mutex && line.waiters == 0, "the line is {line:?}");
        let leave = if no_keep(ctx).is_some() { Leave::Nothing } else { Leave::For(Duration::ZERO) };
        store.release(&holder, leave).await?;
        // Nobody is there any more: now it may be of another kind.
        ctx.until("the lock is free", async || Ok(store.look(&name).await?.is_none())).await?;
        let reader = access(&store, &name, 1)?;
        store.take(&reader).await?;
        store.release(&reader, Leave::Nothing).await?;
        store.release(&mutex, Leave::Nothing).await?;
        Ok(Report::new().count("refused", wrong.len()))
    })
}
