//! S2 and S3: tokens grow, whatever happens to the processes and clocks around them, and a resource that checks them
//! is safe.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenure::backend::{Leave, Standing};
use tenure::{Fact, LockOptions, Token, TokenStrength};

use super::faces::no_token;
use super::promised::{no_evict, no_keep};
use super::wire::{Fault, Verb, Wire};
use super::worker::{Crowd, Task, alone};
use super::{Ctx, Report, SkewedRuntime, Trial, Verdict, ensure};

pub(crate) const TRIALS: &[Trial] = &[
    Trial { name: "s2_tokens_grow_through_every_end", rules: &["S2"], why_not: no_token, run: every_end },
    Trial { name: "s2_the_told_token_is_the_stored_one", rules: &["S2", "S7"], why_not: no_token, run: told },
    Trial { name: "s2_tokens_across_restarts", rules: &["S2"], why_not: no_restarts, run: restarts },
    Trial { name: "s2_tokens_across_a_reboot", rules: &["S2", "L1"], why_not: no_reboot, run: reboots },
    Trial { name: "s2_tokens_after_the_data_is_lost", rules: &["S2"], why_not: not_ours, run: data_loss },
    Trial {
        name: "s2_tokens_with_a_clock_that_goes_back",
        rules: &["S2"],
        why_not: no_clock_of_ours,
        run: backward,
    },
    Trial { name: "s3_a_fenced_resource", rules: &["S3", "S2"], why_not: no_token, run: fenced },
];

fn grew(last: &mut i64, token: Token, after: &str) -> Verdict<()> {
    ensure!(token.get() > *last, "S2: {token} after {last}, {after}");
    *last = token.get();
    Ok(())
}

/// A hold ends by release, drop, eviction, its lease, a pause left behind: the next token is greater each time.
fn every_end(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let name = ctx.name("ends");
        let (one, two) = (ctx.locks().await?, ctx.locks().await?);
        let mut last = 0;
        let mut grants = 0;
        for round in 0..ctx.rounds(20) {
            let lock = ctx.lock(if round % 2 == 0 { &one } else { &two }, &name)?;
            let guard = ctx.within("the next grant", lock.lock()).await??;
            grew(&mut last, guard.the_token()?, "whatever ended the hold before")?;
            match round % 5 {
                0 => guard.release().await?,
                1 => drop(guard),
                2 if no_evict(ctx).is_some() => drop(guard),
                3 if no_keep(ctx).is_some() => drop(guard),
                2 => drop(two.evict(&name, guard.token(), "a trial").await?),
                3 => guard.release_after(Duration::from_millis(20)).await?,
                _ => {
                    drop(guard);
                    let wire =
                        Wire::new(
                            |call| if call.is(Verb::Attempt) { Fault::Pass } else { Fault::LoseRequest },
                        );
                    let cut = ctx.client().ttl_ms(150).wire(&wire).connect().await?;
                    let lock =
                        ctx.lock(&cut, &name)?.with(LockOptions::new().ttl(Duration::from_millis(150)))?;
                    let guard = ctx.within("a grant to a client that is cut off", lock.lock()).await??;
                    grew(&mut last, guard.the_token()?, "before it is cut off")?;
                    grants += 1;
                }
            }
            grants += 1;
        }
        Ok(Report::new().count("grants", grants))
    })
}

/// The token in the answer, in the push, in a repeated attempt, in a renewal and in the listing is the same.
fn told(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(40);
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("told");
        let mut holder = store.claim(&name)?;
        store.take(&holder).await?;
        for _ in 0..rounds {
            let next = store.claim(&name)?;
            store.wait(&next).await?;
            store.release(&holder, Leave::Nothing).await?;
            let Standing::Held(now) = store.attempt(&next).await? else {
                return Err("it is not granted".into());
            };
            if ctx.pushes() {
                ctx.until("the push", async || Ok(!store.probe.granted(next.id).is_empty())).await?;
            }
            let Standing::Held(renewed) = store.renew(&next).await? else {
                return Err("it cannot renew".into());
            };
            let listed = store.look(&name).await?.and_then(|line| line.holders.first().and_then(|h| h.token));
            let pushed: Vec<_> = store.probe.granted(next.id).into_iter().map(|g| g.token).collect();
            let all = [now.token, renewed.token, listed];
            let one = all.iter().chain(&pushed).all(|t| t.is_some() && *t == now.token);
            ensure!(one, "answered, renewed and listed as {all:?}, pushed as {pushed:?}");
            holder = next;
        }
        store.release(&holder, Leave::Nothing).await?;
        Ok(Report::new().count("grants", rounds))
    })
}

/// Every process that knows the store ends; others begin.
fn restarts(ctx: &Ctx) -> Verdict {
    let name = ctx.name("restarts");
    let mut last = 0;
    let mut grants = 0;
    let rounds = ctx.rounds(8);
    for _ in 0..rounds {
        let mut crowd = Crowd::new();
        let child = crowd.start(&Task::Exit {
            place: ctx.into(),
            name: name.clone(),
            times: 5,
            ttl_ms: ctx.ttl_of_dead(),
        })?;
        crowd.ended(child)?;
        let mut tokens: Vec<i64> = crowd.holds_of(child).iter().map(|h| h.token).collect();
        tokens.sort_unstable();
        for token in tokens {
            ensure!(token > last, "S2: {token} after {last}, across a restart");
            (last, grants) = (token, grants + 1);
        }
    }
    Ok(Report::new().count("restarts", rounds).count("grants", grants as u64))
}

fn no_restarts(ctx: &Ctx) -> Option<&'static str> {
    alone(ctx).or_else(|| no_token(ctx))
}

fn no_reboot(ctx: &Ctx) -> Option<&'static str> {
    if ctx.caps.survives.power_loss < Fact::Yes {
        return Some("survives has no power loss");
    }
    if ctx.own().is_none() {
        return Some("the store is not the suite's own, so it is not rebooted");
    }
    no_token(ctx)
}

/// A store on this machine reads the clock of the process that has it open, so setting it back takes a store that no
/// earlier trial has open.
fn no_clock_of_ours(ctx: &Ctx) -> Option<&'static str> {
    if ctx.reads_our_clock() && !ctx.private() && ctx.own().is_none() {
        return Some("the store is not the suite's own, so its clock is not set back");
    }
    no_token(ctx)
}

/// The store finds itself in another boot of the machine, whose clock is an hour behind (the clock of a server stays as it
/// is); whoever held is dead.
fn reboots(ctx: &Ctx) -> Verdict {
    let ctx = &ctx.beside("rebooted");
    let name = ctx.name("reboot");
    let (mut last, rounds) = (0, ctx.rounds(4));
    for _ in 0..rounds {
        let mut crowd = Crowd::new();
        let child = crowd.start(&Task::Exit {
            place: ctx.into(),
            name: name.clone(),
            times: 3,
            ttl_ms: ctx.ttl_of_dead(),
        })?;
        crowd.ended(child)?;
        for hold in crowd.holds_of(child) {
            grew(&mut last, Token::new(hold.token).ok_or("a child has no token")?, "across reboots")?;
        }
        ctx.block_on(async {
            reboot(ctx).await?;
            let skewed = SkewedRuntime::new();
            skewed.set_wall_off(-3600);
            let store = ctx.store_on(skewed).await?;
            let claim = store.claim(&name)?;
            // Where only its lease ends a hold, a dead holder is followed when that is over.
            let mut token = None;
            ctx.until("a grant after a reboot", async || {
                if let Standing::Held(grant) = store.attempt(&claim).await? {
                    token = grant.token;
                    return Ok(true);
                }
                Ok(false)
            })
            .await?;
            let token = token.ok_or("a mutex has tokens")?;
            store.release(&claim, Leave::Nothing).await?;
            grew(&mut last, token, "after a reboot, with a clock that is behind")
        })?;
    }
    Ok(Report::new().count("reboots", rounds))
}

/// Ends the boot that the store is in.
async fn reboot(ctx: &Ctx) -> Verdict<()> {
    let own = ctx.own().ok_or("the store is not the suite's own")?;
    ctx.until("this process has closed the store", async || Ok(own.closed()?)).await?;
    Ok(own.reboot()?)
}

fn not_ours(ctx: &Ctx) -> Option<&'static str> {
    if ctx.caps.token < TokenStrength::Hybrid {
        return Some("token is volatile");
    }
    if !ctx.private() && ctx.own().is_none() {
        return Some("the store is not the suite's own, so it is not wiped");
    }
    no_token(ctx)
}

/// The store loses everything. A token that rests on the clock as well still grows.
fn data_loss(ctx: &Ctx) -> Verdict {
    let ctx = &ctx.beside("lossy");
    let rounds = ctx.rounds(4);
    let mut last = 0;
    for _ in 0..rounds {
        let name = ctx.name("data_loss");
        ctx.block_on(async {
            let locks = ctx.locks().await?;
            for _ in 0..5 {
                let guard = ctx
                    .within("a grant of a store that lost its data", ctx.lock(&locks, &name)?.lock())
                    .await??;
                grew(&mut last, guard.the_token()?, "after the store lost its data")?;
                guard.release().await?;
            }
            Ok(locks.close().await?)
        })?;
        ctx.forget();
        if let Some(own) = ctx.own() {
            own.wipe()?;
        }
    }
    Ok(Report::new().count("losses", rounds))
}

/// The wall clock is an hour behind from one moment to the next.
fn backward(ctx: &Ctx) -> Verdict {
    let ctx = &ctx.beside("backward");
    ctx.block_on(async {
        let skewed = SkewedRuntime::new();
        let store = ctx.store_on(skewed.clone()).await?;
        let name = ctx.name("backward");
        let mut last = 0;
        let offsets = [0, -3600, 5, -86_400 * 365, 0, -1_000_000_000, 3];
        for seconds in offsets {
            skewed.set_wall_off(seconds);
            for _ in 0..3 {
                let claim = store.claim(&name)?;
                let token = store.take(&claim).await?.token.ok_or("a mutex has tokens")?;
                grew(&mut last, token, &format!("the wall clock is {seconds} s off"))?;
                store.release(&claim, Leave::Nothing).await?;
            }
        }
        // A store with a clock of its own does not read ours: then there is nothing to go back.
        ensure!(
            !ctx.reads_our_clock() || skewed.wall_reads() > 0,
            "the clock that went back is not the one that the store reads"
        );
        Ok(Report::new()
            .count("grants", offsets.len() * 3)
            .count("readings of the clock", skewed.wall_reads()))
    })
}

/// A resource that two holders change: it registers tokens on first access, reads included.
#[derive(Default)]
struct Resource {
    highest: i64,
    value: u64,
}

impl Resource {
    fn read(&mut self, token: Option<i64>) -> Option<u64> {
        if token.is_some_and(|t| t < self.highest) {
            return None;
        }
        self.highest = self.highest.max(token.unwrap_or(0));
        Some(self.value)
    }

    fn write(&mut self, token: Option<i64>, value: u64) -> bool {
        let reads = self.read(token).is_some();
        if reads {
            self.value = value;
        }
        reads
    }
}

/// A holder stops between its read and its write, for longer than its lease. Its late write is refused by the
/// resource that checks tokens, and is the end of an update at the twin that does not.
fn fenced(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(6);
    ctx.block_on(async {
        let locks = ctx.locks().await?;
        let name = ctx.name("fenced");
        let resources = Arc::new(Mutex::new([Resource::default(), Resource::default()]));
        let add = |token: i64, read: [Option<u64>; 2]| {
            let mut both = resources.lock().unwrap_or_else(PoisonError::into_inner);
            let [fenced, twin] = &mut *both;
            let checked = read[0].is_some_and(|v| fenced.write(Some(token), v + 1));
            let unchecked = read[1].is_some_and(|v| twin.write(None, v + 1));
            [checked, unchecked]
        };
        let read = |token: i64| {
            let mut both = resources.lock().unwrap_or_else(PoisonError::into_inner);
            [both[0].read(Some(token)), both[1].read(None)]
        };
        let mut acknowledged = [0u64; 2];
        let mut count = |done: [bool; 2]| (0..2).for_each(|n| acknowledged[n] += u64::from(done[n]));
        let mut refused = 0;
        for _ in 0..rounds {
            let wire =
                Wire::new(|call| if call.is(Verb::Attempt) { Fault::Pass } else { Fault::LoseRequest });
            let paused = ctx.client().ttl_ms(150).wire(&wire).connect().await?;
            let stale = ctx.within("a grant", ctx.lock(&paused, &name)?.lock()).await??;
            let seen = read(stale.the_token()?.get());
            let fresh = ctx.within("the next grant", ctx.lock(&locks, &name)?.lock()).await??;
            count(add(fresh.the_token()?.get(), read(fresh.the_token()?.get())));
            fresh.release().await?;
            let done = add(stale.the_token()?.get(), seen);
            refused += u64::from(!done[0]);
            count(done);
        }
        let both = resources.lock().unwrap_or_else(PoisonError::into_inner);
        let [fenced, twin] = &*both;
        ensure!(
            fenced.value == acknowledged[0],
            "S3: {} of {} updates are there",
            fenced.value,
            acknowledged[0]
        );
        ensure!(refused == rounds, "S3: {refused} of {rounds} late writes were refused");
        ensure!(
            twin.value < acknowledged[1],
            "the twin that checks nothing lost nothing: the pauses were too weak"
        );
        let lost = acknowledged[1] - twin.value;
        Ok(Report::new()
            .count("late writes refused", refused)
            .count("updates lost by the unfenced twin", lost))
    })
}
