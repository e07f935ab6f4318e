//! Owners that re-enter, and work that would wait for itself.

use tenure::{Error, ErrorKind, scope};

use super::super::ctx::mutex;
use super::super::{Ctx, Report, Trial, Verdict, ensure};

pub(super) const TRIALS: &[Trial] = &[
    Trial { name: "s4_re_entries_are_counted", rules: &["S4", "S1", "S2"], why_not: |_| None, run: counted },
    Trial { name: "s8_waiting_for_oneself", rules: &["S8", "L4"], why_not: |_| None, run: oneself },
];

fn counted(ctx: &Ctx) -> Verdict {
    const LEVELS: usize = 3;
    let rounds = ctx.rounds(20);
    ctx.block_on(async {
        let (locks, others) = (ctx.locks().await?, ctx.locks().await?);
        let name = ctx.name("owners");
        let (lock, other) = (mutex(&locks, &name)?, mutex(&others, &name)?);
        let (me, you) = (locks.owner(), locks.owner());
        for round in 0..rounds {
            let mut levels = vec![lock.lock_as(&me).await?];
            let token = levels[0].token();
            while levels.len() < LEVELS {
                levels.push(ctx.within("an owner's next level", lock.lock_as(&me)).await??);
            }
            ensure!(levels.iter().all(|l| l.token() == token), "S2: the levels have different tokens");
            let line = others.inspect(&name).await?.ok_or("nobody is listed")?;
            ensure!(line.holders.len() == 1, "{} hold for one owner", line.holders.len());
            while let Some(level) = (!levels.is_empty()).then(|| levels.remove(round as usize % levels.len()))
            {
                ensure!(other.try_lock().await?.is_none(), "S1: {} levels are left", levels.len() + 1);
                ensure!(lock.try_lock_as(&you).await?.is_none(), "S1: another owner enters");
                level.check()?;
                level.release().await?;
            }
            let next = other.try_lock().await?.ok_or("the last level is given back, and it is not free")?;
            ensure!(next.token() > token, "S2: {} follows {token}", next.token());
            next.release().await?;
        }
        ctx.nothing_left(&locks, &name).await?;
        Ok(Report::new().count("levels", rounds * LEVELS as u64))
    })
}

fn oneself(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let locks = ctx.locks().await?;
        let refused = |error: Option<Error>| error.is_some_and(|e| e.kind() == ErrorKind::Config);
        let name = ctx.name("oneself");
        let lock = mutex(&locks, &name)?;
        let work = scope(async {
            let guard = lock.lock().await?;
            ensure!(lock.try_lock().await?.is_none(), "S1: two hold");
            let error = ctx.within("a wait for oneself", lock.lock()).await?.err();
            ensure!(refused(error), "a task waits for itself");
            let both = [name.clone(), ctx.name("other")];
            let error = ctx.within("a wait for oneself", locks.multi(&both)?.lock()).await?.err();
            ensure!(refused(error), "a task waits for itself, among others");
            guard.check()?;
            guard.release().await?;
            ctx.nothing_left(&locks, &both[1]).await
        });
        work.await?;
        ctx.nothing_left(&locks, &name).await?;
        let mut kinds = 1u64;
        if ctx.caps.modes.rw {
            let (name, error) = (ctx.name("reader"), scope(reader_that_writes(ctx, &locks)));
            ensure!(refused(error.await?), "a reader waits for itself to be gone, in {name}");
            kinds += 1;
        }
        if ctx.caps.modes.semaphore {
            let semaphore = locks.semaphore(ctx.name("permits"), 3)?;
            let work = scope(async {
                let _two = semaphore.acquire_many(2).await?;
                Verdict::Ok(ctx.within("a wait for oneself", semaphore.acquire_many(2)).await?.err())
            });
            ensure!(refused(work.await?), "a task waits for its own permits");
            let more = locks.semaphore(semaphore.key().name(), 5)?;
            let work = scope(async {
                let _two = semaphore.acquire_many(2).await?;
                Verdict::Ok(ctx.within("a wait for oneself", more.acquire_many(3)).await?.err())
            });
            ensure!(refused(work.await?), "a task waits for the smaller number that it named itself");
            ctx.nothing_left(&locks, semaphore.key().name()).await?;
            kinds += 1;
        }
        Ok(Report::new().count("kinds", kinds))
    })
}

async fn reader_that_writes(ctx: &Ctx, locks: &tenure::Locks) -> Verdict<Option<Error>> {
    let lock = locks.rwlock(ctx.name("reads"))?;
    let _reader = lock.read().await?;
    Ok(ctx.within("a wait for oneself", lock.write()).await?.err())
}
