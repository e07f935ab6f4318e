//! A hold that goes on under another claim: hand-over to another process, a writer that becomes a reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tenure::backend::{Call, Claim, Leave, Released, Standing};
use tenure::{ErrorKind, Guard, Handle, Locks};

use super::super::cancel::poll_once;
use super::super::ctx::mutex;
use super::super::promised::{no_handles, no_transfer};
use super::super::wire::{Fault, Gate, Verb, Wire};
use super::super::worker::{Crowd, Task, alone};
use super::super::{Ctx, Report, Trial, Verdict, ensure};
use super::{Hands, waiters};

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        name: "s4_a_transferred_claim_is_dead",
        rules: &["S4", "S7", "S10"],
        why_not: no_transfer,
        run: dead_id,
    },
    Trial { name: "s1_adopted_once_only", rules: &["S1", "S2", "S4"], why_not: no_handles, run: once_only },
    Trial {
        name: "s6_a_transfer_dropped_at_every_point",
        rules: &["S6", "S9", "L4"],
        why_not: no_transfer,
        run: dropped,
    },
    Trial {
        name: "s7_lost_answers_to_a_transfer",
        rules: &["S7", "S2"],
        why_not: no_transfer,
        run: lost_answers,
    },
    Trial {
        name: "l1_a_dead_adopter",
        rules: &["L1", "S2"],
        why_not: |ctx| no_handles(ctx).or_else(|| alone(ctx)),
        run: dead_adopter,
    },
    Trial { name: "s10_a_transfer_never_creates", rules: &["S10", "S9"], why_not: no_transfer, run: creates },
];

/// What stands under the old id, which nobody may use any more.
fn dead_id(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(20);
    ctx.block_on(async {
        let store = ctx.store().await?;
        for _ in 0..rounds {
            let name = ctx.name("dead");
            let (old, new, third) = (store.claim(&name)?, store.claim(&name)?, store.claim(&name)?);
            let token = store.take(&old).await?.token;
            let held = |said: &Standing| matches!(said, Standing::Held(grant) if grant.token == token);
            // Twice: an answer that was lost is asked for again.
            for _ in 0..2 {
                let said = store.backend.transfer(&old, &new, Call::PATIENT).await?.standing;
                ensure!(held(&said), "a hold with {token:?} goes on, and the store says {said:?}");
            }
            let said = store.renew(&old).await?;
            ensure!(matches!(said, Standing::Gone { .. }), "the old claim is renewed: {said:?}");
            let said = store.release(&old, Leave::Nothing).await?;
            ensure!(said == Released::Gone, "the old claim is released: {said:?}");
            let said = store.backend.transfer(&old, &third, Call::PATIENT).await?.standing;
            ensure!(matches!(said, Standing::Gone { .. }), "the old claim goes on once more: {said:?}");
            let said = store.renew(&new).await?;
            ensure!(held(&said), "the new claim is told {said:?}");
            let line = store.look(&name).await?.ok_or("nobody is listed")?;
            ensure!(line.holders.len() == 1, "{} hold", line.holders.len());
            ensure!(store.release(&new, Leave::Nothing).await? == Released::WasHeld, "it was not held");
            ensure!(store.look(&name).await?.is_none(), "somebody is left");
        }
        Ok(Report::new().count("transfers", rounds))
    })
}

/// Many adopt one handle at the same time.
fn once_only(ctx: &Ctx) -> Verdict {
    const ADOPTERS: usize = 4;
    let rounds = ctx.rounds(12);
    ctx.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..ADOPTERS {
            clients.push(ctx.locks().await?);
        }
        for _ in 0..rounds {
            let name = ctx.name("adopted");
            let guard = mutex(&clients[0], &name)?.lock().await?;
            let token = guard.token();
            // Its text, as it goes from one process to another.
            let handle: Handle = guard.detach().await?.to_string().parse()?;
            let other = mutex(&clients[1], &name)?.try_lock().await?;
            ensure!(other.is_none(), "a lock is free while its handle goes around");
            let adopts = clients.iter().map(|locks| {
                let (locks, handle) = (locks.clone(), handle.clone());
                tokio::spawn(async move { locks.adopt(handle).await })
            });
            let adopts: Vec<_> = adopts.collect();
            let mut adopted: Vec<Guard> = Vec::new();
            for adopt in adopts {
                match ctx.within("an adoption", adopt).await?? {
                    Ok(guard) => adopted.push(guard),
                    Err(error) => ensure!(error.kind() == ErrorKind::Lost, "an adoption says {error:?}"),
                }
            }
            ensure!(adopted.len() == 1, "a handle was adopted {} times", adopted.len());
            for guard in adopted {
                ensure!(guard.token() == token, "S2: {token} became {}", guard.token());
                guard.check()?;
                guard.release().await?;
            }
            let late = clients[0].adopt(handle).await.err().map(|e| e.kind());
            ensure!(late == Some(ErrorKind::Lost), "a used handle is told {late:?}");
            ctx.nothing_left(&clients[1], &name).await?;
        }
        Ok(Report::new().count("handles", rounds))
    })
}

/// A wire on which the first transfer stops at two gates.
fn gated(before: &Gate, after: &Gate) -> Arc<Wire> {
    let (before, after, seen) = (before.clone(), after.clone(), AtomicU64::new(0));
    Wire::new(move |call| {
        let first = call.is(Verb::Transfer) && seen.fetch_add(1, Ordering::SeqCst) == 0;
        if first { Fault::Hold(before.clone(), after.clone()) } else { Fault::Pass }
    })
}

/// Where a transfer is dropped: on its way there, or on its way back.
#[derive(Clone, Copy, PartialEq)]
enum Point {
    Sent,
    Applied,
    Answered,
}

/// What transfers.
#[derive(Clone, Copy, PartialEq)]
enum What {
    Detach,
    Adopt,
    Downgrade,
}

fn dropped(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(8);
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        let mut dropped = 0;
        for _ in 0..rounds {
            for point in [Point::Sent, Point::Applied, Point::Answered] {
                for what in [What::Detach, What::Adopt, What::Downgrade] {
                    if what == What::Downgrade && !ctx.caps.modes.rw {
                        continue;
                    }
                    dropped_at(ctx, &plain, point, what).await?;
                    dropped += 1;
                }
            }
        }
        Ok(Report::new().count("dropped", dropped))
    })
}

async fn dropped_at(ctx: &Ctx, plain: &Locks, point: Point, what: What) -> Verdict<()> {
    let name = ctx.name("dropped");
    let before = if point == Point::Sent { Gate::shut() } else { Gate::open() };
    let after = if point == Point::Sent { Gate::open() } else { Gate::shut() };
    let wire = gated(&before, &after);
    let locks = ctx.client().wire(&wire).connect().await?;
    let mut handle = None;
    let mut call: std::pin::Pin<Box<dyn Future<Output = tenure::Result<()>> + Send>> = match what {
        What::Detach => {
            let guard = mutex(&locks, &name)?.lock().await?;
            // A handle that is dropped leaves the hold to its lease: a short one here.
            let short = Duration::from_millis(300);
            Box::pin(async move { guard.detach_for(short).await.map(drop) })
        }
        What::Adopt => {
            let detached = mutex(plain, &name)?.lock().await?.detach().await?;
            handle = Some(detached.clone());
            let locks = locks.clone();
            Box::pin(async move { locks.adopt(detached).await.map(drop) })
        }
        What::Downgrade => {
            let guard = locks.rwlock(&name)?.write().await?;
            Box::pin(async move { guard.downgrade().await.map(drop) })
        }
    };
    let gate = if point == Point::Sent { &before } else { &after };
    // It may have to ask for the store's domain before.
    let reached = async {
        while wire.travelling() == 0 {
            ensure!(poll_once(&mut call).await.is_none(), "answered before it could be");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        gate.reached(1).await;
        Verdict::Ok(())
    };
    ctx.within("the transfer is on its way", reached).await??;
    if point == Point::Answered {
        after.lift();
        ctx.until("the answer is there", async || Ok(wire.travelling() == 0)).await?;
        drop(call);
    } else {
        drop(call);
        ctx.until("it is withdrawn", async || Ok(wire.releases() > 0 && locks.live() == 0)).await?;
        gate.lift();
    }
    ctx.until("all requests have arrived", async || Ok(wire.travelling() == 0)).await?;
    // A handle may be good yet if nobody came to continue its hold.
    if let Some(handle) = handle {
        match plain.release(handle).await {
            Err(error) if error.kind() != ErrorKind::Lost => return Err(error.into()),
            _ => {}
        }
    }
    ctx.nothing_left(&locks, &name).await
}

/// The first answers are lost: it is asked again under the same ids, and the hold goes on.
fn lost_answers(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(10);
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        for round in 0..rounds {
            let name = ctx.name("answers");
            let seen = Arc::new(AtomicU64::new(0));
            let counts = seen.clone();
            let wire = Wire::new(move |call| {
                if !call.is(Verb::Transfer) || counts.fetch_add(1, Ordering::SeqCst) > round % 2 {
                    return Fault::Pass;
                }
                Fault::Garble
            });
            let locks = ctx.client().wire(&wire).connect().await?;
            let guard = mutex(&locks, &name)?.lock().await?;
            let token = guard.token();
            let handle = ctx.within("a hand-over without an answer", guard.detach()).await??;
            seen.store(0, Ordering::SeqCst);
            let guard = ctx.within("an adoption without an answer", locks.adopt(handle)).await??;
            ensure!(guard.token() == token, "S2: {token} became {}", guard.token());
            guard.check()?;
            ensure!(seen.load(Ordering::SeqCst) > 1, "the transfer was not repeated");
            let line = plain.inspect(&name).await?.ok_or("nobody is listed")?;
            ensure!(line.holders.len() == 1 && line.waiters == 0, "the line is {line:?}");
            guard.release().await?;
            ctx.nothing_left(&plain, &name).await?;
        }
        Ok(Report::new().count("hand-overs", rounds * 2))
    })
}

/// A process adopts a hold and is killed.
fn dead_adopter(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(4);
    for _ in 0..rounds {
        let name = ctx.name("adopter");
        let mut crowd = Crowd::new();
        ctx.block_on(async {
            // The adopter's lease is that of the handle.
            let locks = ctx.client().ttl_ms(ctx.ttl_of_dead().max(2000)).connect().await?;
            let guard = mutex(&locks, &name)?.lock().await?;
            let token = guard.token();
            let what = Hands::Adopt { handle: guard.detach().await?.to_string() };
            let task = Task::Primitive { place: ctx.into(), name: name.clone(), ttl_ms: 30_000, what };
            let child = crowd.start(&task)?;
            crowd.began(child, 1)?;
            let lock = mutex(&locks, &name)?;
            let waiting = tokio::spawn(async move { lock.lock().await });
            if ctx.sees_waiters() {
                ctx.until("somebody waits", async || Ok(waiters(&locks, &name).await? == 1)).await?;
            }
            crowd.kill(child)?;
            let guard = ctx.within("the lock of a dead adopter", waiting).await???;
            ensure!(guard.token() > token, "S2: {} follows {token}", guard.token());
            guard.release().await?;
            ctx.nothing_left(&locks, &name).await
        })?;
    }
    Ok(Report::new().count("deaths", rounds))
}

/// Nothing goes on where nothing was held, and never under an id that was withdrawn.
fn creates(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(10);
    ctx.block_on(async {
        let store = ctx.store().await?;
        let gone = |said: &Standing| matches!(said, Standing::Gone { .. });
        for _ in 0..rounds {
            let name = ctx.name("creates");
            let (stranger, holder, waiter, withdrawn) =
                (store.claim(&name)?, store.claim(&name)?, store.claim(&name)?, store.claim(&name)?);
            let said = store.backend.transfer(&stranger, &store.claim(&name)?, Call::PATIENT).await?.standing;
            ensure!(gone(&said), "what nobody holds goes on: {said:?}");
            ensure!(store.look(&name).await?.is_none(), "a transfer of nothing left something");
            store.take(&holder).await?;
            store.wait(&waiter).await?;
            for from in [&stranger, &waiter] {
                let said = store.backend.transfer(from, &store.claim(&name)?, Call::PATIENT).await?.standing;
                ensure!(gone(&said), "a claim that does not hold goes on: {said:?}");
            }
            store.release(&withdrawn, Leave::Final).await?;
            let said = store.backend.transfer(&holder, &withdrawn, Call::PATIENT).await?.standing;
            ensure!(gone(&said), "S9: it goes on under an id that was withdrawn: {said:?}");
            let heavier = Claim { weight: 2, capacity: 2, ..store.claim(&name)? };
            let refused =
                store.backend.transfer(&holder, &heavier, Call::PATIENT).await.err().map(|e| e.kind());
            ensure!(refused == Some(ErrorKind::Config), "a hold becomes heavier: {refused:?}");
            ensure!(matches!(store.renew(&holder).await?, Standing::Held(_)), "the holder was disturbed");
            store.release(&holder, Leave::Nothing).await?;
            store.release(&waiter, Leave::Nothing).await?;
            ctx.until("nobody is left", async || Ok(store.look(&name).await?.is_none())).await?;
        }
        Ok(Report::new().count("refused", rounds * 5))
    })
}
