//! What nobody may ask for: refused with a reason, on every store alike, and it leaves nothing.

use std::convert::Infallible;
use std::fmt::Debug;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tenure::{ErrorKind, Handle, Locks, NAMES_MAX, Once, Outcome, Slot};

use super::super::ctx::mutex;
use super::super::promised::{no_evict, no_handles};
use super::super::{Ctx, Report, SkewedRuntime, Trial, Verdict, ensure};
use super::no_jobs;
use crate::servers::IN_PROCESS;

pub(super) const TRIALS: &[Trial] = &[
    Trial { name: "s8_numbers_of_permits", rules: &["S8", "L4"], why_not: super::no_semaphore, run: permits },
    Trial { name: "s8_names_of_many_locks", rules: &["S8", "L4"], why_not: |_| None, run: names },
    Trial { name: "s8_one_name_of_two_kinds", rules: &["S8", "S1"], why_not: no_kinds, run: kinds },
    Trial {
        name: "s4_an_owner_of_another_client",
        rules: &["S4", "S8"],
        why_not: |_| None,
        run: another_owner,
    },
    Trial { name: "s8_handles_that_cannot_go_on", rules: &["S8", "S4"], why_not: no_handles, run: handles },
    Trial { name: "s8_slots_that_are_not_now", rules: &["S8"], why_not: no_jobs, run: slots },
    Trial { name: "s1_jobs_with_clocks_apart", rules: &["S1"], why_not: no_jobs, run: apart },
];

fn no_kinds(ctx: &Ctx) -> Option<&'static str> {
    super::no_rw(ctx).or_else(|| super::no_semaphore(ctx))
}

/// It must be an error of that kind whose text has these words.
fn refused<T: Debug>(what: &str, kind: ErrorKind, words: &str, result: tenure::Result<T>) -> Verdict<()> {
    match result {
        Err(error) if error.kind() == kind && error.to_string().contains(words) => Ok(()),
        other => Err(format!("{what} must be {kind:?} and say {words:?}: {other:?}").into()),
    }
}

/// Capacity 0, no permits, more than there are: at once, and also where another client believes in another number.
fn permits(ctx: &Ctx) -> Verdict {
    const CONFIG: ErrorKind = ErrorKind::Config;
    ctx.block_on(async {
        let (locks, others) = (ctx.locks().await?, ctx.locks().await?);
        let name = ctx.name("permits");
        refused("a semaphore of none", CONFIG, "at least 1", locks.semaphore(&name, 0))?;
        let three = locks.semaphore(&name, 3)?;
        let short = Duration::from_millis(1);
        let mut tried = 1u64;
        for bad in [0, 4, u32::MAX] {
            refused("to acquire so many", CONFIG, "1 to 3", three.acquire_many(bad).await)?;
            refused("to try so many", CONFIG, "1 to 3", three.try_acquire_many(bad).await)?;
            refused("to wait for so many", CONFIG, "1 to 3", three.try_acquire_many_for(bad, short).await)?;
            tried += 3;
        }
        // Refused while some are held, and while others wait, as well; neither is disturbed.
        let held = three.acquire_many(3).await?;
        refused("more than there are", CONFIG, "1 to 3", three.acquire_many(4).await)?;
        let five = others.semaphore(&name, 5)?;
        ensure!(five.try_acquire().await?.is_none(), "3 of 3 are given, and there is one of 5");
        held.check()?;
        held.release().await?;
        let four = ctx.within("a larger number", five.acquire_many(4)).await??;
        four.release().await?;
        ctx.nothing_left(&locks, &name).await?;
        Ok(Report::new().count("refused", tried + 1))
    })
}

fn names(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let locks = ctx.locks().await?;
        let name = ctx.name("many");
        let many: Vec<String> = (0..10_000).map(|n| format!("{name}/{n}")).collect();
        let most = NAMES_MAX.to_string();
        let twice = [many[1].clone(), many[0].clone(), many[1].clone()];
        let odd = [many[0].clone(), "a//b".into()];
        for (what, words, names) in [
            ("no name", "no name is given", &[][..]),
            ("10,000 names", &most, &many),
            ("one more than there may be", &most, &many[..=NAMES_MAX]),
            ("a name twice", "given twice", &twice),
            ("a bad name among good ones", "", &odd),
        ] {
            refused(what, ErrorKind::Config, words, locks.multi(names))?;
        }
        let all = locks.multi(&many[..NAMES_MAX])?;
        let guard = ctx.within("as many as there may be", all.lock()).await??;
        ensure!(guard.tokens().count() == NAMES_MAX, "{} tokens", guard.tokens().count());
        guard.check()?;
        guard.release().await?;
        ensure!(locks.list(&name).await?.is_empty(), "some of them are left");
        Ok(Report::new().count("refused", 5u64).count("names", NAMES_MAX))
    })
}

/// While a name is a lock of one kind, it is none of another; afterwards it may be.
fn kinds(ctx: &Ctx) -> Verdict {
    const CONFIG: ErrorKind = ErrorKind::Config;
    ctx.block_on(async {
        let (locks, others) = (ctx.locks().await?, ctx.locks().await?);
        let name = ctx.name("kinds");
        let (lock, rw) = (mutex(&others, &name)?, others.rwlock(&name)?);
        let permits = others.semaphore(&name, 2)?;
        let guard = mutex(&locks, &name)?.lock().await?;
        refused("a read lock of a mutex", CONFIG, "", ctx.within("refused", rw.read()).await?)?;
        refused("a write lock of a mutex", CONFIG, "", rw.try_write().await)?;
        refused("a permit of a mutex", CONFIG, "", ctx.within("refused", permits.acquire()).await?)?;
        guard.release().await?;
        let guard = locks.rwlock(&name)?.read().await?;
        refused("a mutex of a read-write lock", CONFIG, "", ctx.within("refused", lock.lock()).await?)?;
        refused("a permit of a read-write lock", CONFIG, "", permits.try_acquire().await)?;
        guard.release().await?;
        let guard = locks.semaphore(&name, 2)?.acquire().await?;
        refused("a mutex of a semaphore", CONFIG, "", lock.try_lock().await)?;
        refused("a write lock of a semaphore", CONFIG, "", ctx.within("refused", rw.write()).await?)?;
        guard.check()?;
        guard.release().await?;
        ctx.nothing_left(&locks, &name).await?;
        Ok(Report::new().count("refused", 7u64))
    })
}

/// An owner is of one client of one process, and has no form in which it could travel: used with another client, it is
/// refused, whether its lock is free or held.
fn another_owner(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let (locks, others) = (ctx.locks().await?, ctx.locks().await?);
        let name = ctx.name("owner");
        let (lock, other) = (mutex(&locks, &name)?, mutex(&others, &name)?);
        let me = locks.owner();
        refused("another client's owner", ErrorKind::Config, "", other.lock_as(&me).await)?;
        let guard = lock.lock_as(&me).await?;
        let refusal = ctx.within("a refusal", other.lock_as(&me)).await?;
        refused("another client's owner, who holds", ErrorKind::Config, "", refusal)?;
        refused("the same without waiting", ErrorKind::Config, "", other.try_lock_as(&me).await)?;
        ensure!(other.try_lock_as(&others.owner()).await?.is_none(), "S1: another process's owner enters");
        guard.check()?;
        guard.release().await?;
        ctx.nothing_left(&locks, &name).await?;
        Ok(Report::new().count("refused", 3u64))
    })
}

/// Changed, of another namespace or store, adopted already, released, taken away, expired.
fn handles(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let (locks, others) = (ctx.locks().await?, ctx.locks().await?);
        let name = ctx.name("handles");
        let lock = mutex(&locks, &name)?;
        let handle = lock.lock().await?.detach().await?;
        // One character at a time, whichever it is.
        let text = handle.to_string();
        let mut changed = 0u64;
        for (at, was) in text.char_indices() {
            let mut other = text.clone();
            other.replace_range(at..at + was.len_utf8(), if was == '0' { "1" } else { "0" });
            refused("a changed handle", ErrorKind::Config, "", other.parse::<Handle>())?;
            changed += 1;
        }
        for bad in ["", "x", "tenure", &text[..text.len() - 1], &format!("{text}0")] {
            refused("no handle at all", ErrorKind::Config, "", bad.parse::<Handle>())?;
        }
        let space = Locks::memory();
        refused("in another namespace", ErrorKind::Config, "namespace", space.adopt(handle.clone()).await)?;
        let store = Locks::builder(IN_PROCESS).namespace(&ctx.namespace).connect().await?;
        refused("in another store", ErrorKind::Config, "store", store.adopt(handle.clone()).await)?;
        let guard = others.adopt(handle.clone()).await?;
        let late = |result: tenure::Result<_>| refused("a used handle", ErrorKind::Lost, "", result);
        late(locks.adopt(handle.clone()).await.map(drop))?;
        late(locks.renew(&handle).await.map(drop))?;
        late(locks.release(handle).await)?;
        guard.check()?;
        let handle = guard.detach().await?;
        locks.release(handle.clone()).await?;
        late(others.adopt(handle).await.map(drop))?;
        let handle = lock.lock().await?.detach().await?;
        if no_evict(ctx).is_none() {
            locks.evict(&name, None, "a trial").await?;
            late(others.adopt(handle).await.map(drop))?;
        } else {
            others.adopt(handle).await?.release().await?;
        }
        let handle = lock.lock().await?.detach_for(Duration::from_millis(200)).await?;
        let next = ctx.within("the lease of a handle ends", mutex(&others, &name)?.lock()).await??;
        ensure!(Some(next.token()) > handle.token(), "S2: the token did not grow");
        late(others.adopt(handle.clone()).await.map(drop))?;
        late(locks.release(handle).await)?;
        next.check()?;
        next.release().await?;
        ctx.nothing_left(&locks, &name).await?;
        Ok(Report::new().count("changed handles", changed))
    })
}

async fn nothing(once: &Once) -> tenure::Result<Outcome<(), Infallible>> {
    once.run(async |_| Ok(())).await
}

const MINUTE: Duration = Duration::from_secs(60);

fn slots(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let locks = ctx.locks().await?;
        let name = ctx.name("slots");
        let now = SystemTime::now();
        let hour = MINUTE * 60;
        for (slot, words) in [
            (Slot::between(now - 3 * hour, now - hour), "is over"),
            (Slot::between(now + hour, now + 2 * hour), "has not begun"),
        ] {
            let once = locks.once(&name, slot)?;
            refused("a job of another time", ErrorKind::Config, words, nothing(&once).await)?;
        }
        for bad in [Slot::between(now, now), Slot::every(Duration::ZERO, Duration::ZERO), Slot::named("a/b")]
        {
            refused("a slot that cannot be", ErrorKind::Config, "", locks.once(&name, bad))?;
        }
        ensure!(locks.runs(&name).await?.is_empty(), "a run that was refused is remembered");
        ensure!(locks.list("").await?.is_empty(), "something is left");
        Ok(Report::new().count("refused", 5u64))
    })
}

/// Five minutes fast, right, five minutes slow: around the end of a slot, each slot is run once all the same.
fn apart(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let mut clients = Vec::new();
        for minutes in [5, 0, -5] {
            let skewed = SkewedRuntime::new();
            skewed.set_wall_off(minutes * 60);
            clients.push(ctx.client().runtime(skewed).connect().await?);
        }
        let name = ctx.name("apart");
        // The next slot begins in two minutes, for whoever's clock is right: for one of them it is there already.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let begins = Duration::from_secs(now.as_secs() % 3600) + 2 * MINUTE;
        let ask = async |locks: &Locks| {
            let slot = Slot::every(60 * MINUTE, Duration::from_secs(begins.as_secs() % 3600));
            Verdict::Ok(nothing(&locks.once(&name, slot)?).await?)
        };
        let mut ran = 0u64;
        for _ in 0..2 {
            for locks in &clients {
                ran += u64::from(matches!(ask(locks).await?, Outcome::Ran(_)));
            }
        }
        ensure!(ran == 2, "there are two slots, and {ran} runs");
        let runs = clients[1].runs(&name).await?;
        ensure!(runs.len() == 2 && runs[0].slot != runs[1].slot, "they are remembered as {runs:?}");
        Ok(Report::new().count("runs", ran).count("clients", clients.len()))
    })
}
