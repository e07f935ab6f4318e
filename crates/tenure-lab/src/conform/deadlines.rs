//! S5: a guard is lost no later than its deadline, and the deadline never lies.

use std::time::Duration;

use tenure::backend::{Call, Claim, Lease, Leave, Standing};
use tenure::runtime::Runtime;
use tenure::{Locks, LostReason};
use tokio::time::sleep;

use super::promised::no_transfer;
use super::sinks::SinkProbe;
use super::waiting::polls;
use super::wire::{Fault, Verb, Wire};
use super::{Ctx, Failed, Report, SkewedRuntime, Trial, Verdict, ensure};
use crate::any_guard::AnyGuard;
use crate::num::boot_ns;

pub(crate) const TRIALS: &[Trial] = &[
    Trial {
        name: "s5_the_deadline_counts_from_the_request",
        rules: &["S5"],
        why_not: |_| None,
        run: from_request,
    },
    Trial { name: "s5_the_deadline_of_a_push", rules: &["S5", "L5"], why_not: polls, run: of_push },
    Trial { name: "s5_the_signal_comes_by_the_deadline", rules: &["S5"], why_not: |_| None, run: signal },
    Trial {
        name: "s5_lost_before_the_next_holds",
        rules: &["S5", "S1"],
        why_not: |_| None,
        run: before_next,
    },
    Trial { name: "s5_suspended_time_counts", rules: &["S5"], why_not: |_| None, run: suspended },
    Trial {
        name: "s5_no_answer_tells_of_more_than_was_asked_for",
        rules: &["S5"],
        why_not: |_| None,
        run: no_more_than_asked,
    },
    Trial {
        name: "s5_a_longer_lease_is_not_believed",
        rules: &["S5", "S1"],
        why_not: |_| None,
        run: longer_leases,
    },
    Trial { name: "s5_renewed_while_it_is_held", rules: &["S5", "L6"], why_not: |_| None, run: renewed },
];

/// Until when a guard believes, at the earliest: on the boot clock, in ns.
fn believes_until(guard: &AnyGuard) -> u64 {
    let before = boot_ns();
    before.saturating_add(u64::try_from(guard.remaining().as_nanos()).unwrap_or(u64::MAX))
}

/// Until when the store keeps it, at the latest.
async fn kept_until(locks: &Locks, name: &str) -> Verdict<u64> {
    let line = locks.inspect(name).await?.ok_or("the store does not list the hold")?;
    let left = line.holders.first().and_then(|h| h.expires_in).ok_or("the store lists no lease")?;
    Ok(boot_ns().saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)))
}

/// A belief ends before the store forgets. Both are read so that a slow machine cannot make them look worse.
fn honest(what: &str, believed: u64, kept: u64) -> Verdict<()> {
    ensure!(
        believed <= kept,
        "{what}: it is believed for {:?} longer than the store keeps it",
        Duration::from_nanos(believed - kept)
    );
    Ok(())
}

/// Answers that come late must not make the deadline later: of the grant, and of renewals.
fn from_request(ctx: &Ctx) -> Verdict {
    const TTL: u64 = 3000;
    ctx.block_on(async {
        let name = ctx.name("late_answers");
        // Later than the share of the lease that the deadline leaves for clocks.
        let wire = Wire::new(|_| Fault::Delay(Duration::ZERO, Duration::from_millis(300)));
        let locks = ctx.client().ttl_ms(TTL).wire(&wire).connect().await?;
        let plain = ctx.locks().await?;
        let guard = ctx.lock(&locks, &name)?.lock().await?;
        let believed = believes_until(&guard);
        honest("after a late answer to the attempt", believed, kept_until(&plain, &name).await?)?;
        let mut renewals = 0;
        for _ in 0..ctx.rounds(3) {
            let before = wire.renewals();
            ctx.until("another renewal", async || Ok(wire.renewals() > before)).await?;
            // Its answer is on the way for 300 ms: look while it is, and after it has come.
            for _ in 0..10 {
                sleep(Duration::from_millis(50)).await;
                let believed = believes_until(&guard);
                honest("around a late answer to a renewal", believed, kept_until(&plain, &name).await?)?;
            }
            renewals += 1;
        }
        guard.release().await?;
        Ok(Report::new().count("renewals", renewals as u64))
    })
}

/// The lease of a pushed grant counts from the grant at the latest, however late the push comes.
fn of_push(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(8);
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        for _ in 0..rounds {
            let name = ctx.name("pushed");
            let locks = ctx.client().ttl_ms(5000).connect().await?;
            let first = ctx.lock(&plain, &name)?.lock().await?;
            let lock = ctx.lock(&locks, &name)?;
            let waiting = tokio::spawn(async move { lock.lock().await });
            ctx.until("the waiter is in line", async || {
                Ok(plain.inspect(&name).await?.is_some_and(|line| line.waiters == 1))
            })
            .await?;
            sleep(Duration::from_millis(60)).await;
            first.release().await?;
            let guard = ctx.within("the push", waiting).await???;
            let believed = believes_until(&guard);
            honest("after a push", believed, kept_until(&plain, &name).await?)?;
            guard.release().await?;
        }
        Ok(Report::new().count("pushes", rounds))
    })
}

/// No renewal is answered: the signal fires, and the checks fail, by the deadline.
fn signal(ctx: &Ctx) -> Verdict {
    const LOCKS: usize = 8;
    ctx.block_on(async {
        let wire = Wire::new(|call| if call.is(Verb::Renew) { Fault::LoseRequest } else { Fault::Pass });
        let mut late = Vec::new();
        let mut watches = Vec::new();
        for n in 0..LOCKS {
            let locks = ctx.client().ttl_ms(1000).wire(&wire).connect().await?;
            let lock = ctx.lock(&locks, &ctx.name("signal"))?;
            let guard = lock.lock().await?;
            let deadline = believes_until(&guard);
            watches.push(tokio::spawn(async move {
                let work = std::future::pending::<()>();
                // Half of them listen, half of them run their work under the guard.
                let why = match n % 2 {
                    0 => guard.lost().await.why().clone(),
                    _ => match guard.while_held(work).await {
                        Err(lost) => lost.why().clone(),
                        Ok(()) => LostReason::Gone,
                    },
                };
                let at = boot_ns();
                (why, guard.check().is_ok(), at.saturating_sub(deadline), guard)
            }));
        }
        for watch in watches {
            let (why, believes, behind, guard) = ctx.within("the loss signal", watch).await??;
            ensure!(!believes, "the signal fired, and the check still says yes");
            ensure!(why == LostReason::Expired, "the signal says {why:?}");
            late.push(behind);
            let again = guard.release().await;
            let kind = again.err().map(|e| e.kind());
            ensure!(kind == Some(tenure::ErrorKind::Lost), "S8: a release after the loss says {kind:?}");
        }
        // A loaded machine may be late with one or another; a signal that is always late is late by itself.
        let soonest = late.iter().min().copied().unwrap_or(0);
        let most = Duration::from_millis(250);
        ensure!(
            u128::from(soonest) < most.as_nanos(),
            "every signal came {soonest} ns after its deadline, or later"
        );
        Ok(Report::new().count("signals", LOCKS).count("us behind the deadline at best", soonest / 1000))
    })
}

/// When the next one is granted, the one before has stopped to believe: without a signal, a renewal or the network.
fn before_next(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(8);
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        for _ in 0..rounds {
            let name = ctx.name("next");
            let wire =
                Wire::new(|call| if call.is(Verb::Attempt) { Fault::Pass } else { Fault::LoseRequest });
            let cut = ctx.client().ttl_ms(300).wire(&wire).connect().await?;
            let old = ctx.lock(&cut, &name)?.lock().await?;
            let deadline = believes_until(&old);
            let next = ctx.within("the next grant", ctx.lock(&plain, &name)?.lock()).await??;
            let believes = old.check();
            ensure!(
                believes.is_err(),
                "S1: the next one holds, and the one before believes for {believes:?} more"
            );
            ensure!(boot_ns() >= deadline, "the next one was granted before the deadline of the one before");
            let again = old.check();
            ensure!(again.is_err(), "lost is not final: {again:?}");
            next.release().await?;
        }
        Ok(Report::new().count("handovers", rounds))
    })
}

/// The boot clock jumps, as it does when the machine wakes up.
fn suspended(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let name = ctx.name("suspended");
        let skewed = SkewedRuntime::new();
        let locks = ctx.client().ttl_ms(60_000).runtime(skewed.clone()).connect().await?;
        let guard = ctx.lock(&locks, &name)?.lock().await?;
        guard.check()?;
        let now = skewed.now();
        let lost = guard.lost();
        tokio::pin!(lost);
        let soon = tokio::time::timeout(Duration::from_millis(20), &mut lost).await;
        ensure!(soon.is_err(), "lost without a reason: {soon:?}");
        skewed.jump(Duration::from_secs(60));
        ensure!(skewed.now().since(now) >= Duration::from_secs(60), "the clock did not jump");
        ensure!(
            guard.check().is_err(),
            "the machine slept for longer than the lease, and the guard believes"
        );
        let lost = ctx.within("the signal after a suspension", lost).await?;
        ensure!(*lost.why() == LostReason::Expired, "the signal says {lost}");
        Ok(Report::new().count("jumps", 1u64))
    })
}

/// AnyGuard for several leases, and never lost on the way.
fn renewed(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let wire = Wire::counting();
        let locks = ctx.client().ttl_ms(1500).wire(&wire).connect().await?;
        let guard = ctx.lock(&locks, &ctx.name("renewed"))?.lock().await?;
        // Nine renewals are three leases.
        let enough = ctx.rounds(9);
        ctx.until("renewals enough", async || {
            guard.check()?;
            Ok(wire.renewals() >= enough)
        })
        .await?;
        guard.release().await?;
        Ok(Report::new().count("renewals", wire.renewals()))
    })
}

/// No answer about a claim tells of a longer lease than the claim asked for.
fn no_more_than_asked(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("asked");
        let within = |what: &str, standing: Standing, claim: &Claim| {
            let (lease, asked) = match standing {
                Standing::Held(grant) => (grant.lease, claim.ttl),
                Standing::Waiting { place, .. } => {
                    (place.unwrap_or(Lease::For(claim.waiting)), claim.waiting)
                }
                other => return Err(Failed::Broken(format!("{what}: {other:?}"))),
            };
            ensure!(lease.at_most(asked) == lease, "{what}: {lease:?}, and {asked:?} was asked for");
            Ok(())
        };
        let held = Claim { ttl: Duration::from_secs(40), ..store.claim(&name)? };
        let waiting = Claim { ttl: Duration::from_secs(5), ..store.claim(&name)? };
        within("a first attempt", store.attempt(&held).await?, &held)?;
        within("an attempt that waits", store.attempt(&waiting).await?, &waiting)?;
        within("an attempt again", store.attempt(&held).await?, &held)?;
        for _ in 0..3 {
            within("a renewal of the holder", store.renew(&held).await?, &held)?;
            if ctx.sees_waiters() {
                within("a renewal of the waiter", store.renew(&waiting).await?, &waiting)?;
            }
        }
        let next = Claim { ttl: Duration::from_secs(3), ..store.claim(&name)? };
        if no_transfer(ctx).is_none() {
            let moved = store.backend.transfer(&held, &next, Call::PATIENT).await?;
            within("a transfer", moved.standing, &next)?;
        } else {
            store.release(&held, Leave::Nothing).await?;
            within("an attempt at a free lock", store.attempt(&next).await?, &next)?;
        }
        store.release(&next, Leave::Nothing).await?;
        within("an attempt of the next", store.attempt(&waiting).await?, &waiting)?;
        store.release(&waiting, Leave::Nothing).await?;
        Ok(Report::new().count("answers", 11u64))
    })
}

/// The store's clock went back, so the ends of leases seem far away: in answers to attempts, to renewals and to
/// transfers, and in pushes. Nobody believes for longer than the ttl.
fn longer_leases(ctx: &Ctx) -> Verdict {
    const TTL: Duration = Duration::from_millis(1500);
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        let (wire, probe) = (Wire::new(|_| Fault::Longer), SinkProbe::new());
        probe.lengthen();
        let locks = ctx.client().ttl_ms(1500).wire(&wire).probe(&probe).connect().await?;
        let bounded = |what: &str, guard: &AnyGuard| {
            let left = guard.remaining();
            ensure!(left <= TTL, "{what}: it is believed for {left:?}, and the ttl is {TTL:?}");
            Ok(())
        };
        let name = ctx.name("longer");
        let guard = ctx.lock(&locks, &name)?.lock().await?;
        bounded("after the attempt", &guard)?;
        let enough = ctx.rounds(4);
        ctx.until("renewals", async || {
            guard.check()?;
            bounded("after a renewal", &guard)?;
            Ok(wire.renewals() >= enough)
        })
        .await?;
        let lock = ctx.lock(&locks, &name)?;
        let waiting = tokio::spawn(async move { lock.lock().await });
        ctx.until("the waiter asked", async || Ok(wire.attempts() > 1)).await?;
        guard.release().await?;
        let guard = ctx.within("the hand-over", waiting).await???;
        bounded("after a hand-over", &guard)?;
        // And it ends: the store hears no more of it.
        let silent = Wire::new(|call| if call.is(Verb::Renew) { Fault::LoseRequest } else { Fault::Longer });
        let locks = ctx.client().ttl_ms(1500).wire(&silent).connect().await?;
        guard.release().await?;
        let guard = ctx.lock(&locks, &name)?.lock().await?;
        ctx.within("the loss", guard.lost()).await?;
        let next = ctx.within("the next grant", ctx.lock(&plain, &name)?.lock()).await??;
        ensure!(guard.check().is_err(), "S1: two believe that they hold");
        next.release().await?;
        Ok(Report::new().count("renewals", wire.renewals()))
    })
}
