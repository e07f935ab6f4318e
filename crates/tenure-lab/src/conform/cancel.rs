//! S6: an acquire that is dropped at any point leaves nothing behind.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tenure::Locks;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::sinks::SinkProbe;
use super::wire::{Fault, Gate, Verb, Wire};
use super::{Ctx, Report, Trial, Verdict, ensure};
use crate::num::Dice;

pub(crate) const TRIALS: &[Trial] = &[
    Trial {
        name: "s6_cancelled_at_every_protocol_point",
        rules: &["S6", "S9", "L4"],
        why_not: |_| None,
        run: every_point,
    },
    Trial { name: "s6_dropped_after_n_polls", rules: &["S6", "L4"], why_not: |_| None, run: n_polls },
    Trial { name: "s6_timeouts_leave_nothing", rules: &["S6", "L4"], why_not: |_| None, run: timeouts },
    Trial {
        name: "s6_ten_thousand_waiters",
        rules: &["S6", "L4", "O1"],
        why_not: |_| None,
        run: ten_thousand,
    },
];

/// Where a lock call, or a release, is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Point {
    /// Before its future was polled.
    NotSent,
    /// The request has left and not arrived; it arrives after the withdrawal.
    Sent,
    /// The request is applied, and its answer on the way.
    Applied,
    /// The answer is there, and nobody has looked at it.
    Answered,
    /// It waited, and its grant was pushed.
    GrantDelivered,
    /// The call is done, and nobody has taken the guard.
    NotTaken,
    /// The release has left and not arrived.
    Releasing,
}

const POINTS: [(Point, &str); 7] = [
    (Point::NotSent, "not sent"),
    (Point::Sent, "sent"),
    (Point::Applied, "applied"),
    (Point::Answered, "answered"),
    (Point::GrantDelivered, "grant delivered"),
    (Point::NotTaken, "guard not taken"),
    (Point::Releasing, "releasing"),
];

fn every_point(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(30);
    let mut report = Report::new();
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        for (point, what) in POINTS {
            for round in 0..rounds {
                // Every other time somebody else holds the lock, so that the claim waits.
                cancelled_at(ctx, &plain, point, round % 2 == 1).await?;
            }
            report = std::mem::take(&mut report).count(what, rounds);
        }
        Ok(())
    })?;
    Ok(report)
}

/// A wire on which the first request of a verb stops at two gates.
fn gated(verb: Verb, before: &Gate, after: &Gate) -> Arc<Wire> {
    let (before, after, seen) = (before.clone(), after.clone(), AtomicU64::new(0));
    Wire::new(move |call| {
        let first = call.is(verb) && seen.fetch_add(1, Ordering::SeqCst) == 0;
        if first { Fault::Hold(before.clone(), after.clone()) } else { Fault::Pass }
    })
}

async fn cancelled_at(ctx: &Ctx, plain: &Locks, point: Point, held: bool) -> Verdict<()> {
    let name = ctx.name("point");
    let before = if matches!(point, Point::Sent | Point::Releasing) { Gate::shut() } else { Gate::open() };
    let after = if matches!(point, Point::Applied | Point::Answered) { Gate::shut() } else { Gate::open() };
    let verb = if point == Point::Releasing { Verb::Release } else { Verb::Attempt };
    let (wire, probe) = (gated(verb, &before, &after), SinkProbe::new());
    let locks = ctx.client().wire(&wire).probe(&probe).connect().await?;
    let lock = ctx.lock(&locks, &name)?;
    let held =
        (held || point == Point::GrantDelivered) && !matches!(point, Point::NotTaken | Point::Releasing);
    let mut holder = if held { Some(ctx.lock(plain, &name)?.lock().await?) } else { None };
    let mut call = Box::pin(async move { lock.lock().await });
    match point {
        Point::NotSent => {
            drop(call);
            ensure!(
                wire.attempts() == 0 && wire.releases() == 0,
                "something was sent for a call that never began"
            );
        }
        Point::Sent | Point::Applied => {
            ensure!(poll_once(&mut call).await.is_none(), "answered before it could be");
            let gate = if point == Point::Sent { &before } else { &after };
            ctx.within("the request is on its way", gate.reached(1)).await?;
            drop(call);
            ctx.until("it is withdrawn", async || Ok(wire.releases() > 0 && locks.live() == 0)).await?;
            gate.lift();
        }
        Point::Answered => {
            ensure!(poll_once(&mut call).await.is_none(), "answered before it could be");
            after.lift();
            ctx.until("the answer is there", async || Ok(wire.travelling() == 0)).await?;
            drop(call);
        }
        Point::GrantDelivered => {
            ensure!(poll_once(&mut call).await.is_none(), "granted while another holds");
            ctx.in_line(plain, &name, &wire, 1).await?;
            // Once more, for the answer that says so.
            ctx.until("it knows", async || Ok(wire.travelling() == 0)).await?;
            ensure!(poll_once(&mut call).await.is_none(), "granted while another holds");
            if let Some(holder) = holder.take() {
                holder.release().await?;
            }
            // Pushed, or found by looking again.
            let granted = async || match ctx.pushes() {
                true => Ok(probe.grants() > 0),
                false => Ok(plain.inspect(&name).await?.is_some()),
            };
            ctx.until("it is granted", granted).await?;
            drop(call);
        }
        Point::NotTaken => {
            let task = tokio::spawn(call);
            ctx.until("the call is done", async || Ok(task.is_finished())).await?;
            drop(task);
        }
        Point::Releasing => {
            let mut release = Box::pin(call.await?.release());
            ensure!(poll_once(&mut release).await.is_none(), "released before it could be");
            ctx.within("the release is on its way", before.reached(1)).await?;
            drop(release);
            before.lift();
        }
    }
    ctx.until("all requests have arrived", async || Ok(wire.travelling() == 0)).await?;
    if let Some(holder) = holder {
        holder.check()?;
        holder.release().await?;
    }
    ctx.nothing_left(&locks, &name).await
}

/// Polls a future once.
pub(super) async fn poll_once<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Option<F::Output> {
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(out) => Some(out),
            Poll::Pending => None,
        })
    })
    .await
}

/// Polls a whole life so often, a moment apart, and drops it; whether it had ended. `before` is told the number of each
/// poll.
pub(super) async fn polled(
    life: impl Future<Output = tenure::Result<()>>,
    polls: u64,
    mut before: impl FnMut(u64),
) -> tenure::Result<bool> {
    let mut life = Box::pin(life);
    for poll in 0..polls {
        before(poll);
        if let Some(end) = poll_once(&mut life).await {
            return end.map(|()| true);
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(false)
}

/// Every verb takes a moment, so every await of a whole life (lock, hold, release) is one to be dropped at.
fn n_polls(ctx: &Ctx) -> Verdict {
    let mut dropped = 0u64;
    let mut done = 0u64;
    let repeats = ctx.rounds(8);
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        let wire = Wire::new(|_| Fault::Hold(Gate::open(), Gate::open()));
        let locks = ctx.client().wire(&wire).connect().await?;
        for round in 0..repeats {
            let mut n = 0;
            loop {
                let name = ctx.name("polls");
                // Every other time it has to wait, and the holder goes after the third poll.
                let mut holder =
                    if round % 2 == 1 { Some(ctx.lock(&plain, &name)?.lock().await?) } else { None };
                let lock = ctx.lock(&locks, &name)?;
                let life = async move {
                    let guard = lock.lock().await?;
                    guard.while_held(tokio::task::yield_now()).await?;
                    guard.release().await
                };
                let finished = polled(life, n, |poll| drop(holder.take_if(|_| poll == 3))).await?;
                drop(holder);
                ctx.nothing_left(&locks, &name).await?;
                if finished {
                    done += 1;
                    break;
                }
                dropped += 1;
                n += 1;
                ensure!(n < 2000, "a life does not end after {n} polls");
            }
        }
        Ok(())
    })?;
    Ok(Report::new().count("dropped", dropped).count("whole lives", done))
}

/// Waits that run out at the very moment of a grant.
fn timeouts(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(250);
    ctx.block_on(async {
        let (one, two) = (ctx.locks().await?, ctx.locks().await?);
        let name = ctx.name("timeouts");
        let (hold, wait) = (ctx.lock(&one, &name)?, ctx.lock(&two, &name)?);
        let mut dice = Dice::new(5, 5);
        let (mut granted, mut busy) = (0u64, 0u64);
        for _ in 0..rounds {
            let (held_for, waits_for) = (dice.below(2500), dice.below(2500) + 1);
            let guard = ctx.within("the holder's turn", hold.lock()).await??;
            let waiting = wait.clone();
            let waits =
                tokio::spawn(async move { waiting.try_lock_for(Duration::from_micros(waits_for)).await });
            sleep(Duration::from_micros(held_for)).await;
            drop(guard);
            match ctx.within("the wait ends", waits).await??? {
                Some(guard) => {
                    granted += 1;
                    guard.release().await?;
                }
                None => busy += 1,
            }
        }
        ctx.nothing_left(&one, &name).await?;
        ctx.nothing_left(&two, &name).await?;
        Ok(Report::new().count("granted", granted).count("gave up", busy))
    })
}

fn ten_thousand(ctx: &Ctx) -> Verdict {
    let many = ctx.rounds(10_000);
    ctx.block_on(async {
        let wire = Wire::counting();
        let (one, two) = (ctx.locks().await?, ctx.client().wire(&wire).connect().await?);
        let name = ctx.name("many");
        let lock = ctx.lock(&one, &name)?;
        let guard = lock.lock().await?;
        let waits = ctx.lock(&two, &name)?;
        let mut waiting = JoinSet::new();
        for _ in 0..many {
            let lock = waits.clone();
            waiting.spawn(async move { lock.lock().await.map(drop) });
        }
        let waiters = async || Verdict::Ok(one.inspect(&name).await?.map_or(0, |line| line.waiters));
        ctx.until("all of them are in line", async || {
            ensure!(waiting.try_join_next().is_none(), "a waiter came back while another holds");
            Ok(wire.attempts() >= many && (!ctx.sees_waiters() || waiters().await? == many))
        })
        .await?;
        guard.check()?;
        waiting.abort_all();
        let all = async { while waiting.join_next().await.is_some() {} };
        ctx.within("all of them are dropped", all).await?;
        ctx.until("nobody waits", async || Ok(waiters().await? == 0 && two.live() == 0)).await?;
        guard.check()?;
        guard.release().await?;
        ctx.nothing_left(&one, &name).await?;
        ctx.nothing_left(&two, &name).await?;
        Ok(Report::new().count("waiters", many))
    })
}
