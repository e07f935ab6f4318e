//! Semaphores: permits that come back, a number that changes, a part that is given back, a limit per time.

use std::time::Duration;

use tenure::{Locks, Permit};

use super::super::promised::{no_keep, no_transfer};
use super::super::wire::{Fault, Verb, Wire};
use super::super::worker::{Crowd, Task};
use super::super::{Ctx, Report, Trial, Verdict, ensure};
use super::{Hands, in_line, no_semaphore};
use crate::num::boot_ns;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        name: "l1_permits_of_the_dead_come_back",
        rules: &["L1", "S1", "L4"],
        why_not: no_semaphore,
        run: dead,
    },
    Trial {
        name: "s1_a_new_number_of_permits_takes_none_away",
        rules: &["S1"],
        why_not: no_semaphore,
        run: another_number,
    },
    Trial {
        name: "s1_unequal_numbers_of_permits",
        rules: &["S1", "L3"],
        why_not: no_semaphore,
        run: unequal_numbers,
    },
    Trial {
        name: "s1_a_part_is_given_back",
        rules: &["S1", "L3"],
        why_not: |ctx| no_semaphore(ctx).or_else(|| no_transfer(ctx)),
        run: a_part,
    },
    Trial {
        name: "l4_a_rate_limit",
        rules: &["L4", "S1"],
        why_not: |ctx| no_semaphore(ctx).or_else(|| no_keep(ctx)),
        run: rate_limit,
    },
];

/// Those that are given, as the store lists them.
async fn given(locks: &Locks, name: &str) -> Verdict<u32> {
    let line = locks.inspect(name).await?;
    Ok(line.map_or(0, |line| line.holders.iter().map(|h| h.weight).sum()))
}

/// One client is heard of no more; then, where there are processes, one is killed.
fn dead(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let name = ctx.name("silent");
        let wire = Wire::new(|call| if call.is(Verb::Attempt) { Fault::Pass } else { Fault::LoseRequest });
        let dead = ctx.client().ttl_ms(400).wire(&wire).connect().await?;
        let locks = ctx.locks().await?;
        let living = locks.semaphore(&name, 5)?.acquire_many(2).await?;
        let before = dead.semaphore(&name, 5)?.acquire_many(2).await?;
        let wants = locks.semaphore(&name, 5)?;
        let after = ctx.within("the permits of a silent holder", wants.acquire_many(3)).await??;
        ensure!(
            before.check().is_err(),
            "S1: its permits are given to others, and the silent one still believes"
        );
        living.check()?;
        ensure!(given(&locks, &name).await? == 5, "{} of 5 are given", given(&locks, &name).await?);
        after.release().await?;
        living.release().await?;
        drop(before);
        ctx.until("nobody is left", async || Ok(locks.inspect(&name).await?.is_none())).await?;
        Verdict::Ok(())
    })?;
    if ctx.private() {
        return Ok(Report::new().count("silent", 1u64));
    }
    let rounds = ctx.rounds(4);
    for _ in 0..rounds {
        let name = ctx.name("killed");
        let mut crowd = Crowd::new();
        let what = Hands::Permits { permits: 2, of: 3 };
        let task = Task::Primitive { place: ctx.into(), name: name.clone(), ttl_ms: ctx.ttl_of_dead(), what };
        let child = crowd.start(&task)?;
        crowd.began(child, 1)?;
        ctx.block_on(async {
            let locks = ctx.locks().await?;
            let semaphore = locks.semaphore(&name, 3)?;
            let one = semaphore.acquire().await?;
            crowd.kill(child)?;
            let two = ctx.within("the permits of the dead", semaphore.acquire_many(2)).await??;
            one.release().await?;
            two.release().await?;
            ctx.nothing_left(&locks, &name).await
        })?;
    }
    Ok(Report::new().count("silent", 1u64).count("killed", rounds))
}

/// Whoever asks with a smaller number waits until so many are out; those who have permits keep them.
fn another_number(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let (one, two) = (ctx.locks().await?, ctx.locks().await?);
        let name = ctx.name("number");
        let five = one.semaphore(&name, 5)?;
        let mut held: Vec<Permit> = Vec::new();
        for _ in 0..5 {
            held.push(five.acquire().await?);
        }
        let two_of = two.semaphore(&name, 2)?;
        ensure!(two_of.try_acquire().await?.is_none(), "5 of 2 are given, and there is one more");
        let lowered = two_of.clone();
        let waiting = tokio::spawn(async move { lowered.acquire().await });
        in_line(ctx, &one, &name, 1).await?;
        for left in (2..5).rev() {
            for permit in &held {
                permit.check()?;
            }
            let many = given(&one, &name).await?;
            ensure!(many as usize == held.len(), "{many} permits are given, and {} are held", held.len());
            held.pop().ok_or("none is held")?.release().await?;
            ensure!(!waiting.is_finished(), "{left} of 2 are given, and there is one more");
        }
        held.pop().ok_or("none is held")?.release().await?;
        let last = ctx.within("the smaller number's turn", waiting).await???;
        ensure!(given(&one, &name).await? == 2, "{} of 2 are given", given(&one, &name).await?);
        // And a greater number: there is more as soon as nobody holds who said less.
        let eight = one.semaphore(&name, 8)?;
        ensure!(eight.try_acquire().await?.is_none(), "2 of 2 are given, and there is one more of 8");
        last.release().await?;
        let more = eight.try_acquire_many(4).await?;
        ensure!(more.is_some(), "1 of 5 is given, and there are no 4 more");
        for permit in held.into_iter().chain(more) {
            permit.release().await?;
        }
        ctx.nothing_left(&one, &name).await?;
        Ok(Report::new().count("numbers", 3u64))
    })
}

/// While holders name different numbers, the least counts for everybody; the next least as soon as its last holder has
/// left, without the semaphore ever being free.
fn unequal_numbers(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(10);
    ctx.block_on(async {
        let (one, two) = (ctx.locks().await?, ctx.locks().await?);
        for _ in 0..rounds {
            let name = ctx.name("unequal");
            let alone = one.semaphore(&name, 1)?.acquire().await?;
            ensure!(
                two.semaphore(&name, 5)?.try_acquire().await?.is_none(),
                "somebody is let in beside a holder that was promised to be alone"
            );
            alone.check()?;
            alone.release().await?;
            // A deployment goes from 2 permits to 4.
            let (old, new) = (one.semaphore(&name, 2)?, two.semaphore(&name, 4)?);
            let (first, second) = (old.acquire().await?, old.acquire().await?);
            let mut waiting = Vec::new();
            for place in 1..=3 {
                let wants = new.clone();
                waiting.push(tokio::spawn(async move { wants.acquire().await }));
                in_line(ctx, &one, &name, place).await?;
            }
            ensure!(given(&one, &name).await? == 2, "{} of 2 are given", given(&one, &name).await?);
            first.release().await?;
            let mut held = vec![ctx.within("the place of the first", waiting.remove(0)).await???];
            in_line(ctx, &one, &name, 2).await?;
            ensure!(given(&one, &name).await? == 2, "{} of 2 are given", given(&one, &name).await?);
            second.release().await?;
            for task in waiting {
                held.push(ctx.within("the greater number's turn", task).await???);
            }
            ensure!(old.try_acquire().await?.is_none(), "3 of 2 are given, and there is one more");
            let last = new.try_acquire().await?.ok_or("3 of 4 are given, and there is none left")?;
            held.push(last);
            ensure!(new.try_acquire().await?.is_none(), "5 of 4 are given");
            for permit in held {
                permit.release().await?;
            }
            ctx.nothing_left(&one, &name).await?;
        }
        Ok(Report::new().count("deployments", rounds))
    })
}

fn a_part(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(20);
    ctx.block_on(async {
        let (one, two) = (ctx.locks().await?, ctx.locks().await?);
        for _ in 0..rounds {
            let name = ctx.name("part");
            let all = one.semaphore(&name, 4)?.acquire_many(4).await?;
            let wants = two.semaphore(&name, 4)?;
            let again = wants.clone();
            let first = tokio::spawn(async move { wants.acquire_many(2).await });
            in_line(ctx, &one, &name, 1).await?;
            let second = tokio::spawn(async move { again.acquire_many(2).await });
            in_line(ctx, &one, &name, 2).await?;
            let rest = all.release_some(2).await?;
            ensure!(rest.permits() == 2, "2 of 4 are given back, and {} are left", rest.permits());
            let first = ctx.within("whoever waits for the part", first).await???;
            ensure!(!second.is_finished(), "6 of 4 are given");
            ensure!(given(&one, &name).await? == 4, "{} of 4 are given", given(&one, &name).await?);
            rest.check()?;
            rest.release().await?;
            let second = ctx.within("whoever waits for the rest", second).await???;
            first.release().await?;
            second.release().await?;
            ctx.nothing_left(&one, &name).await?;
        }
        Ok(Report::new().count("parts", rounds))
    })
}

/// A permit that is given back for later is not there before: whatever the client does, at most so many per time.
fn rate_limit(ctx: &Ctx) -> Verdict {
    const CALLS: usize = 12;
    const PERMITS: u32 = 3;
    let pause = Duration::from_millis(250);
    ctx.block_on(async {
        let (one, two) = (ctx.locks().await?, ctx.locks().await?);
        let name = ctx.name("rate");
        let mut calls: Vec<(u64, u64)> = Vec::new();
        for n in 0..CALLS {
            let locks = if n % 2 == 0 { &one } else { &two };
            let permit = ctx.within("a call's turn", locks.semaphore(&name, PERMITS)?.acquire()).await??;
            let from = boot_ns();
            permit.release_after(pause).await?;
            calls.push((from, boot_ns()));
        }
        // A call that got its permit before an earlier one's pause was over would be one too many. The store counts in
        // its own time, and may round: a few milliseconds are not what is judged.
        let slack = Duration::from_millis(5).as_nanos() as u64;
        for pair in calls.windows(PERMITS as usize + 1) {
            let apart = pair[PERMITS as usize].0.saturating_sub(pair[0].0);
            let least = pause.as_nanos() as u64 - slack;
            ensure!(apart >= least, "{} calls within {apart} ns", PERMITS + 1);
        }
        ctx.nothing_left(&one, &name).await?;
        Ok(Report::new().count("calls", CALLS))
    })
}
