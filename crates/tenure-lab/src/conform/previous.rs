//! O2: a grant says how the hold before it ended.

use std::time::Duration;

use tenure::backend::{Call, Claim, Kind, Leave, RW_CAPACITY, Standing};
use tenure::{Knows, Previous};

use super::faces::{Face, evicts_all};
use super::raw::Store;
use super::worker::{Crowd, Task, alone};
use super::{Ctx, Failed, Report, Trial, Verdict, ensure};

pub(crate) const TRIALS: &[Trial] = &[
    Trial { name: "o2_a_release_and_a_lease_that_ends", rules: &["O2"], why_not: unknown, run: ends },
    Trial { name: "o2_an_eviction", rules: &["O2"], why_not: unknown_or_evicts_all, run: evicts },
    Trial { name: "o2_the_told_end_is_the_stored_one", rules: &["O2", "S7"], why_not: unknown, run: told },
    Trial { name: "o2_a_process_that_was_killed", rules: &["O2"], why_not: unknown_or_alone, run: killed },
    Trial { name: "o2_readers_mend_nothing", rules: &["O2"], why_not: no_writers, run: readers },
];

fn unknown(ctx: &Ctx) -> Option<&'static str> {
    (ctx.caps.previous != Knows::Yes).then_some("previous is no")
}

fn unknown_or_evicts_all(ctx: &Ctx) -> Option<&'static str> {
    unknown(ctx).or_else(|| evicts_all(ctx))
}

fn unknown_or_alone(ctx: &Ctx) -> Option<&'static str> {
    unknown(ctx).or_else(|| alone(ctx))
}

fn no_writers(ctx: &Ctx) -> Option<&'static str> {
    unknown(ctx).or((ctx.face != Face::Write).then_some("only a read-write lock has readers"))
}

/// Takes a free lock, and compares what is told.
async fn takes(store: &Store, claim: &Claim, wanted: Previous, after: &str) -> Verdict<()> {
    let told = store.take(claim).await?.previous;
    ensure!(told == wanted, "after {after} the grant says {told}, and it must say {wanted}");
    Ok(())
}

/// The holds of one lock end in every way that needs no operator.
fn ends(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("ends");
        let first = store.claim(&name)?;
        store.take(&first).await?;
        store.release(&first, Leave::Nothing).await?;
        let silent = Claim { ttl: Duration::from_millis(200), ..store.claim(&name)? };
        takes(&store, &silent, Previous::Released, "a release").await?;
        let next = store.claim(&name)?;
        granted(ctx, &store, &next, Previous::Expired, "a lease that ended").await?;
        store.release(&next, Leave::For(Duration::from_millis(100))).await?;
        let kept = store.claim(&name)?;
        granted(ctx, &store, &kept, Previous::Released, "a hold that was left for a while").await?;
        store.release(&kept, Leave::Nothing).await?;
        Ok(Report::new().count("ends", 3))
    })
}

/// Asks until the lock is free, and compares what is told.
async fn granted(ctx: &Ctx, store: &Store, claim: &Claim, wanted: Previous, after: &str) -> Verdict<()> {
    let mut told = Previous::Unknown;
    ctx.until(after, async || match store.attempt(claim).await? {
        Standing::Held(grant) => {
            told = grant.previous;
            Ok(true)
        }
        _ => Ok(false),
    })
    .await?;
    ensure!(told == wanted, "after {after} the grant says {told}, and it must say {wanted}");
    Ok(())
}

/// An operator takes the lock away: from a holder whom nobody waits for, and from one with a waiter.
fn evicts(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("evicted");
        let [first, second, third] = [store.claim(&name)?, store.claim(&name)?, store.claim(&name)?];
        store.take(&first).await?;
        store.backend.evict(&first.key, None, "a trial", Call::PATIENT).await?;
        takes(&store, &second, Previous::Evicted, "an eviction").await?;
        store.wait(&third).await?;
        store.backend.evict(&first.key, None, "a trial", Call::PATIENT).await?;
        granted(ctx, &store, &third, Previous::Evicted, "an eviction that let a waiter in").await?;
        store.release(&third, Leave::Nothing).await?;
        Ok(Report::new().count("evictions", 2))
    })
}

/// The answer, the push, a repeated attempt, a renewal and the listing say the same.
fn told(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("told");
        let silent = Claim { ttl: Duration::from_millis(300), ..store.claim(&name)? };
        let next = store.claim(&name)?;
        store.take(&silent).await?;
        store.wait(&next).await?;
        granted(ctx, &store, &next, Previous::Expired, "a lease that ended").await?;
        let [again, renewed] = [store.attempt(&next).await?, store.renew(&next).await?];
        for standing in [again, renewed] {
            let Standing::Held(grant) = standing else { return Err("it does not hold any more".into()) };
            ensure!(grant.previous == Previous::Expired, "asked again, it says {}", grant.previous);
        }
        let listed = store.look(&name).await?.map(|line| line.previous);
        ensure!(listed == Some(Previous::Expired), "it is listed as {listed:?}");
        let last = store.claim(&name)?;
        store.wait(&last).await?;
        store.release(&next, Leave::Nothing).await?;
        granted(ctx, &store, &last, Previous::Released, "a release that let a waiter in").await?;
        let pushed: Vec<_> =
            [&next, &last].iter().flat_map(|c| store.probe.granted(c.id)).map(|g| g.previous).collect();
        ensure!(!pushed.contains(&Previous::Unknown), "pushed as {pushed:?}");
        store.release(&last, Leave::Nothing).await?;
        Ok(Report::new().count("tellings", 4 + pushed.len() as u64))
    })
}

/// Nobody was there when its lock became free.
fn killed(ctx: &Ctx) -> Verdict {
    let name = ctx.name("killed");
    let mut crowd = Crowd::new();
    let child =
        crowd.start(&Task::Hold { place: ctx.into(), name: name.clone(), ttl_ms: ctx.ttl_of_dead() })?;
    crowd.until_holding(child)?;
    crowd.kill(child)?;
    ctx.block_on(async {
        let locks = ctx.locks().await?;
        let lock = ctx.lock(&locks, &name)?;
        let guard = ctx.within("the lock of a killed process", lock.lock()).await??;
        let told = guard.previous();
        ensure!(told == Previous::Expired, "after a process was killed the guard says {told}");
        guard.release().await?;
        let guard = ctx.within("a free lock", lock.lock()).await??;
        let told = guard.previous();
        ensure!(told == Previous::Released, "after a release the guard says {told}");
        guard.release().await?;
        Ok::<_, Failed>(Report::new().count("kills", 1))
    })
}

/// A writer's lease ends; those who read after it mend nothing, so the next writer is told of it.
fn readers(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("read");
        let silent = Claim { ttl: Duration::from_millis(200), ..store.claim(&name)? };
        store.take(&silent).await?;
        let reader = || -> Verdict<Claim> { Ok(Claim { weight: 1, ..store.claim(&name)? }) };
        let [one, two] = [reader()?, reader()?];
        ensure!(one.kind == Kind::ReadWrite && silent.weight == RW_CAPACITY, "these are not readers");
        granted(ctx, &store, &one, Previous::Expired, "a writer's lease that ended").await?;
        takes(&store, &two, Previous::Expired, "a reader came").await?;
        for reader in [&one, &two] {
            store.release(reader, Leave::Nothing).await?;
        }
        let writer = store.claim(&name)?;
        takes(&store, &writer, Previous::Expired, "readers came and went").await?;
        store.release(&writer, Leave::Nothing).await?;
        takes(&store, &reader()?, Previous::Released, "a writer's release").await?;
        Ok(Report::new().count("grants", 5))
    })
}
